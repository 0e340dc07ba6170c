"""Channels: how a notification reaches a member. Adding one is one file with a class like ``Channel`` in it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from services.notifier.rules import Category, Recipient
from shared.observability import SpanKind, span


@dataclass(slots=True)
class Ready:
    """A delivery that was decided to be sent, under a lease of ours."""

    delivery_id: int
    fence: int
    notification_id: int
    member_id: str
    channel: str
    target: int
    category: Category
    what: str
    data: dict[str, Any]
    at: datetime
    topic_id: str | None
    actor_id: str | None
    actor_name: str | None
    recipient: Recipient
    attempts: int
    expires_at: datetime
    made_at: datetime
    traceparent: str | None
    address: str | None
    items: list["Ready"] = field(default_factory=list)
    """Of a digest, what is in it."""
    more: int = 0
    """How many more than ``items`` there are."""


Result = Literal["accepted", "retry", "unknown", "bounced", "suppressed", "skipped", "dead", "released"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt.

    ``retry``: it was surely not sent, try again; ``unknown``: nobody can know, the category's policy decides;
    ``released``: it was not even tried. ``reason`` names no person: it is published; ``detail`` stays on the delivery.
    """

    result: Result
    reason: str | None = None
    detail: str | None = None
    provider: str | None = None
    address: str | None = None
    retry_after: timedelta | None = None
    suppress: bool = False
    """Nobody is at the address: nothing is sent there any more."""
    forget: bool = False
    """The push subscription is gone."""
    strike: bool = False
    """The push subscription refuses us, which may be our own fault."""
    mail: "StoredMail | None" = None
    """Written into the local mailbox with the result."""


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A mail for the local mailbox."""

    subject: str
    raw: bytes
    named: list[str]


def traced(channel: str, ready: Ready, provider: str) -> AbstractContextManager[Any]:
    """A span of the trace that the event came with, up to the provider's reply; none where there is no trace."""
    if ready.traceparent is None:
        return nullcontext()
    return span(f"{channel} send", ready.traceparent, SpanKind.CLIENT, {"server.address": provider})


class Attempts(Protocol):
    """The pipeline, as a channel sees it."""

    async def begin(self, ready: Ready) -> bool:
        """Commit that this delivery may be sent from now on. False: the lease is lost, it must not be sent."""
        ...

    async def finish(self, ready: Ready, outcome: Outcome) -> None:
        """Write down what became of it."""
        ...


class Channel(Protocol):
    """A way to reach members."""

    name: str

    def available(self) -> bool:
        """Whether anything can be sent at the moment: while no provider takes anything, nothing is claimed."""
        ...

    async def deliver(self, batch: Sequence[Ready], attempts: Attempts, *, urgent: bool) -> None:
        """Send a batch and report each delivery once. ``urgent``: others must not hold this batch up."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
