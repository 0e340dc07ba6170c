"""The rules of the first-response clock: plain functions on plain data, no I/O and no clock of their own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from shared.contracts.types import EPOCH, microseconds

QUESTION = "question"
GRACE = timedelta(minutes=15)
CLAIM_LASTS = timedelta(hours=4)
CLAIMS_AT_ONCE = 3

MICROSECOND = timedelta(microseconds=1)


def holds(said: datetime | None, unsaid: datetime | None) -> bool:
    """Of two opposites the later holds; at equal times what was said (deleted, closed, revoked) does."""
    return said is not None and (unsaid is None or said >= unsaid)


# --- policies -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """A promise: the share of ``objective`` answered within ``target``. ``since`` None: it has no beginning."""

    scope: str
    since: datetime | None
    target: timedelta
    objective: float


class Policies:
    """All versions of all policies; the most specific scope wins, space over language."""

    def __init__(self, versions: Iterable[Policy]) -> None:
        self._by_scope: dict[str, list[Policy]] = {}
        for version in versions:
            self._by_scope.setdefault(version.scope, []).append(version)
        for found in self._by_scope.values():
            found.sort(key=lambda one: one.since or EPOCH)

    def at(self, created_at: datetime, space: str | None, language: str | None) -> Policy:
        """The version in force when a topic was created, for its present space and language."""
        for scope in (f"space:{space}", f"language:{language}", "all"):
            for version in reversed(self._by_scope.get(scope, ())):
                if version.since is None or version.since <= created_at:
                    return version
        raise LookupError("the first policy for all has no beginning, and is missing")


# --- the escalation ladder ------------------------------------------------------------------------------------------


class Stage(IntEnum):
    """Stages of a waiting question, lowest first."""

    new = 1
    stalled = 2
    warning = 3
    breached = 4


ASKING = (Stage.new, Stage.stalled)
"""Stages that ask for an answer, and wait while somebody has claimed the topic."""


def instants(created_at: datetime, target: timedelta) -> dict[Stage, datetime]:
    """When each stage is reached. Breached is reached strictly after the target: a reply at due_at meets it."""
    return {
        Stage.new: created_at + GRACE,
        Stage.stalled: created_at + target / 12,
        Stage.warning: created_at + target * 3 / 4,
        Stage.breached: created_at + target + MICROSECOND,
    }


@dataclass(frozen=True, slots=True)
class Waiting:
    """A waiting question as the ladder sees it; ``told`` is the highest stage told, 0 for none."""

    created_at: datetime
    target: timedelta
    appended_at: datetime
    backfill: bool
    told: int = 0
    claimed_until: datetime | None = None

    def ahead(self) -> dict[Stage, datetime]:
        """The stages that may still be told, and from when on.

        Those of history, and those that were due before Kafka had the topic, pass silently; asking waits for the
        end of a claim.
        """
        if self.backfill:
            return {}
        found = {}
        for stage, instant in instants(self.created_at, self.target).items():
            if stage > self.told and instant >= self.appended_at:
                claimed = self.claimed_until if stage in ASKING else None
                found[stage] = max(instant, claimed) if claimed else instant
        return found

    def next_at(self) -> datetime | None:
        """When the ladder must look again; None when nothing more will be told."""
        return min(self.ahead().values(), default=None)

    def due(self, until: datetime) -> Stage | None:
        """The stage to tell now: of several due at ``until``, only the highest."""
        return max((stage for stage, instant in self.ahead().items() if instant <= until), default=None)


def stage_at(created_at: datetime, target: timedelta, now: datetime) -> Stage | None:
    """The stage that a waiting question is in, whether told or not."""
    return max((stage for stage, instant in instants(created_at, target).items() if instant <= now), default=None)


# --- what should be true of a topic ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    """A first response."""

    reply_id: str
    responder_id: str
    responder_kind: str
    at: datetime
    backfill: bool


@dataclass(slots=True)
class State:
    """Everything that is derived of a topic; the fields are the columns of topic_state."""

    topic_id: str
    known: bool = False
    visible: bool = False
    closed: bool = False
    kind: str | None = None
    space: str | None = None
    language: str | None = None
    title: str | None = None
    tags: str = "[]"
    url: str | None = None
    author_id: str | None = None
    created_at: datetime | None = None
    created_us: int | None = None
    target_us: int | None = None
    due_at: datetime | None = None
    response_reply_id: str | None = None
    responder_id: str | None = None
    responder_kind: str | None = None
    response_at: datetime | None = None
    response_us: int | None = None
    appended_at: datetime | None = None
    backfill: bool | None = None
    next_at: datetime | None = None

    @property
    def waiting(self) -> bool:
        """A visible open question without an answer."""
        return self.known and self.visible and not self.closed and self.kind == QUESTION and not self.response_reply_id

    @property
    def within_target(self) -> bool | None:
        """Whether the first response met the target; inclusive. None without one."""
        if self.response_us is None or self.target_us is None:
            return None
        return self.response_us <= self.target_us


def created_at(group: Sequence[Any]) -> datetime:
    """A topic's clock starts with the earliest of the topics that were merged into it."""
    earliest: datetime = min(row["created_at"] for row in group)
    return earliest


def derive(
    topic_id: str, group: Sequence[Any], response: Response | None, policies: Policies, author_id: str | None
) -> State:
    """What should be true of a topic, from the facts of it and of those merged into it.

    ``group`` holds a row of facts for each known one of them; without the survivor itself nothing is known yet.
    """
    own = next((row for row in group if row["topic_id"] == topic_id), None)
    if own is None:
        return State(topic_id)
    start = created_at(group)
    target = policies.at(start, own["space"], own["language"]).target
    state = State(
        topic_id,
        known=True,
        visible=not holds(own["deleted_at"], own["restored_at"]),
        closed=holds(own["closed_at"], own["reopened_at"]),
        kind=own["kind"],
        space=own["space"],
        language=own["language"],
        title=own["title"],
        tags=own["tags"] or "[]",
        url=own["url"],
        author_id=author_id,
        created_at=start,
        created_us=microseconds(start),
        target_us=target // MICROSECOND,
        due_at=start + target,
        appended_at=min(row["appended_at"] for row in group),
        backfill=all(row["backfill"] for row in group),
    )
    if response is not None:
        state.response_reply_id, state.response_at = response.reply_id, response.at
        state.responder_id, state.responder_kind = response.responder_id, response.responder_kind
        state.response_us = (response.at - start) // MICROSECOND
    if state.waiting and state.appended_at is not None:
        state.next_at = Waiting(
            start, target, state.appended_at, bool(state.backfill), own["told"] or 0, own["until"]
        ).next_at()
    return state
