"""The rules of points: plain functions on plain data, no I/O and no clock of their own."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from shared.contracts.types import Instant, Label

REPLY, FIRST_RESPONSE, SOLUTION, KUDOS = "reply", "first-response", "solution", "kudos"
BOT, INTERNAL = "bot", "internal"
EFFECTIVE = "effective"
_BEGINNING = datetime.min.replace(tzinfo=UTC)

Given = Annotated[StrictInt, Field(ge=0, le=1_000_000, description="points of each entry")]


# --- rule sets ------------------------------------------------------------------------------------------------------


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlainRule(_Rule):
    """So many points for each."""

    points: Given


class ReplyRule(_Rule):
    """Replies: of a member in a topic the earliest ``most`` count."""

    points: Given
    most: Annotated[StrictInt, Field(ge=1, le=1000)]


class FirstResponseRule(_Rule):
    """First responses, on topics of these kinds."""

    points: Given
    kinds: Annotated[tuple[Label, ...], Field(min_length=1, max_length=20)]


class Rules(_Rule):
    """What each rule gives."""

    reply: ReplyRule
    first_response: Annotated[FirstResponseRule, Field(alias="first-response")]
    solution: PlainRule
    kudos: PlainRule


class RuleSet(_Rule):
    """A version of a rule set, as its file says it. ``since`` None: it has no beginning."""

    rule_set: Label
    version: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
    since: Annotated[Instant | None, Field(alias="from")] = None
    rules: Rules


class RuleBook:
    """All versions. At an instant the highest of those that had begun by then holds."""

    def __init__(self, versions: Iterable[RuleSet]) -> None:
        self.versions = sorted(versions, key=lambda one: one.version, reverse=True)
        self._begins = [(one.since or _BEGINNING, one.rules) for one in self.versions]
        self.most = max(one.rules.reply.most for one in self.versions)
        """The most replies of a member in a topic that any version counts."""

    def at(self, instant: datetime) -> Rules:
        """The rules for what happened at that instant."""
        for since, rules in self._begins:
            if since <= instant:
                return rules
        raise LookupError("the first version of the rules has no beginning, and is missing")


# --- one row for each rule and cause ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Entry:
    """A row of the ledger; the fields are its columns."""

    entry_id: str
    points: int
    rule: str
    member_id: str
    status: str
    reason: str | None
    topic_id: str
    reply_id: str
    kudos_id: str | None
    at: datetime
    space: str | None
    language: str | None
    star: bool
    backfill: bool


def entry_id(rule: str, *cause: str) -> str:
    """The name of the entry of a rule and its cause; long causes, and those of two ids, by their hash."""
    if len(cause) == 1 and len(cause[0]) <= 200:
        return f"{rule}/{cause[0]}"
    # Length by length, so that no two causes read the same.
    text = "".join(f"{len(id)}:{id}" for id in cause)
    return f"{rule}/sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def holds(said: datetime | None, unsaid: datetime | None) -> bool:
    """Of two opposites the later holds; at equal times what was said (deleted, revoked) does."""
    return said is not None and (unsaid is None or said >= unsaid)


def verdict(
    reply: Any,
    *,
    topic_deleted: bool,
    own_topic: bool = False,
    own_kudos: bool = False,
    late: bool = False,
    not_a_question: bool = False,
    taken_back: bool = False,
    unaccepted: bool = False,
    moved: bool = False,
    superseded: str | None = None,
    capped: bool = False,
) -> tuple[str, str | None]:
    """Status and reason: of all that speaks against an entry, the first in this order."""
    if reply["author_kind"] == BOT:
        return "void", "bot"
    if reply["visibility"] == INTERNAL:
        return "void", "internal"
    if own_topic:
        return "void", "own-topic"
    if own_kudos:
        return "void", "own-kudos"
    if late:
        return "void", "late"
    if not_a_question:
        return "void", "not-a-question"
    if holds(reply["deleted_at"], reply["restored_at"]):
        return "revoked", "deleted"
    if topic_deleted:
        return "revoked", "topic-deleted"
    if taken_back:
        return "revoked", "taken-back"
    if unaccepted:
        return "revoked", "unaccepted"
    if moved:
        return "revoked", "moved"
    if superseded is not None:
        return "superseded", superseded
    if capped:
        return "capped", None
    return EFFECTIVE, None


class Appointments:
    """When a member was a Star: from each appointment on, until just before the next retirement."""

    def __init__(self, changes: Sequence[tuple[datetime, bool]]) -> None:
        # Of two at one instant the retirement holds, so it comes last.
        ordered = sorted(changes, key=lambda change: (change[0], not change[1]))
        self._at = [at for at, _ in ordered]
        self._appointed = [appointed for _, appointed in ordered]

    def __call__(self, at: datetime) -> bool:
        """Whether they were one at that instant."""
        n = bisect_right(self._at, at)
        return n > 0 and self._appointed[n - 1]
