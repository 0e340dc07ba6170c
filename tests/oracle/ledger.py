"""A forum's points, worked out the slow and plain way: the ledger from the facts, boards from the ledger.

Where the contract is silent, `entries` does this:

* a reply, topic or acceptance that is not known (yet) has no row, nor has what hangs on it; a merged-away topic's rows
  are the survivor's, and two acceptances of one reply that a merge brings together are one row;
* whether a topic is one's own, of a kind and deleted is asked of the topic that the row is about: where the reply lies
  now, for a solution the topic of the acceptance, for a first response the topic of the fact;
* of several reasons of one status the first in the contract's order stands; capped and effective rows have none;
* an acceptance is replaced by a later one of another reply in the same topic, whatever became of that one;
* of the versions of a rule set the highest one holds that had begun when the entry came to be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from tests.oracle.figures import micros, moment
from tests.oracle.forum import DEFAULT_POLICIES, Forum, Policy, Reply, Topic

Version: TypeAlias = Mapping[str, Any]
"""{version, from, reply, most, first-response, kinds, solution, kudos}; `from` None: it has no beginning."""

CLASSIC: Version = {
    "version": 1,
    "from": None,
    "reply": 1,
    "most": 3,
    "first-response": 3,
    "kinds": ("question",),
    "solution": 10,
    "kudos": 2,
}

Cause: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of the ledger; `cause` is what its rule keys it by."""

    rule: str
    cause: Cause
    member_id: str
    points: int
    status: str
    reason: str | None
    topic_id: str
    reply_id: str
    kudos_id: str | None
    at: int
    space: str | None
    language: str | None
    star: bool


@dataclass(frozen=True)
class Standing:
    """A line of a board."""

    rank: int
    member_id: str
    points: int
    solutions: int
    reached: int


def version_at(versions: Iterable[Version], at: int) -> Version:
    """The version that holds for what happened at this instant."""
    begun = [version for version in versions if version["from"] is None or micros(version["from"]) <= at]
    return max(begun, key=lambda version: version["version"])


def first_that_fits(reasons: Iterable[tuple[str, str | None, bool]]) -> tuple[str, str | None]:
    """Status and reason: the first of these that is true, else effective."""
    for status, reason, fits in reasons:
        if fits:
            return status, reason
    return "effective", None


class Ledger:
    """Every row, from the whole history."""

    def __init__(
        self,
        forum: Forum,
        versions: Iterable[Version] = (CLASSIC,),
        *,
        policies: Iterable[Policy] = DEFAULT_POLICIES,
        standing: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`standing` are the first responses that stand by topics.events; the forum's own unless given."""
        self._forum = forum
        self._versions = list(versions)
        self._standing = forum.standing_first_responses(policies) if standing is None else standing
        self._replies = {reply.reply_id: reply for reply in forum._replies}
        self._star_memory: dict[str, bool] = {}
        self.rows: list[Row] = [*self._reply_rows(), *self._first_rows(), *self._solution_rows(), *self._kudos_rows()]

    def by_cause(self) -> dict[tuple[str, Cause], Row]:
        """The rows by rule and cause, of which there is one each."""
        found = {(row.rule, row.cause): row for row in self.rows}
        assert len(found) == len(self.rows)
        return found

    def _row(
        self,
        rule: str,
        cause: Cause,
        topic: Topic,
        reply: Reply,
        at: int,
        status: tuple[str, str | None],
        kudos_id: str | None = None,
    ) -> Row:
        member = self._forum.member(reply.author_id)
        return Row(
            rule=rule,
            cause=cause,
            member_id=member,
            points=version_at(self._versions, at)[rule],
            status=status[0],
            reason=status[1],
            topic_id=topic.topic_id,
            reply_id=reply.reply_id,
            kudos_id=kudos_id,
            at=at,
            space=topic.space,
            language=topic.language,
            star=bool(self._forum._star_events) and self._forum.was_star(member, at),
        )

    def _reply_rows(self) -> list[Row]:
        threads: dict[tuple[str, str], list[Reply]] = defaultdict(list)
        for reply in self._replies.values():
            topic = self._forum.topic(reply.topic_id)
            if topic is not None:
                threads[topic.topic_id, self._forum.member(reply.author_id)].append(reply)
        rows = []
        for (topic_id, member), replies in threads.items():
            topic = self._forum.topics[topic_id]
            counted = 0
            for reply in sorted(replies, key=lambda reply: (reply.at, reply.reply_id.encode())):
                most = version_at(self._versions, reply.at)["most"]
                status = first_that_fits(
                    [
                        *_void(reply, own_topic=member in topic.askers),
                        *_gone(reply, topic),
                        ("capped", None, counted >= most),
                    ]
                )
                counted += status[0] in ("capped", "effective")
                rows.append(self._row("reply", (reply.reply_id,), topic, reply, reply.at, status))
        return rows

    def _first_rows(self) -> list[Row]:
        rows = []
        for topic_id, fact in self._standing.items():
            topic, reply = self._forum.topic(topic_id), self._replies.get(fact["reply_id"])
            if topic is None or topic.topic_id != topic_id or reply is None:
                continue
            status = first_that_fits(
                [
                    *_void(reply, own_topic=self._forum.member(reply.author_id) in topic.askers),
                    ("void", "late", not fact["within_target"]),
                    (
                        "void",
                        "not-a-question",
                        topic.kind not in version_at(self._versions, reply.at)["kinds"],
                    ),
                    *_gone(reply, topic),
                    ("revoked", "moved", self._forum.survivor(reply.topic_id) != topic_id),
                ]
            )
            rows.append(self._row("first-response", (topic_id,), topic, reply, reply.at, status))
        return rows

    def _solution_rows(self) -> list[Row]:
        acceptances: dict[str, list[tuple[Any, str]]] = defaultdict(list)
        for stamp, topic_id, reply_id in self._forum._acceptances:
            acceptances[self._forum.survivor(topic_id)].append((stamp, reply_id))
        takings: dict[tuple[str, str], list[int]] = defaultdict(list)
        for time, topic_id, reply_id in self._forum._unacceptances:
            takings[self._forum.survivor(topic_id), reply_id].append(time)
        rows = []
        for topic_id, accepted in acceptances.items():
            topic = self._forum.topic(topic_id)
            if topic is None:
                continue
            _, solution = max(accepted)
            for reply_id in {reply_id for _, reply_id in accepted}:
                reply = self._replies.get(reply_id)
                if reply is None:
                    continue
                (at, _, _), _ = max(one for one in accepted if one[1] == reply_id)
                status = first_that_fits(
                    [
                        *_void(reply, own_topic=self._forum.member(reply.author_id) in topic.askers),
                        *_gone(reply, topic),
                        ("revoked", "unaccepted", any(time >= at for time in takings[topic_id, reply_id])),
                        ("revoked", "moved", self._forum.survivor(reply.topic_id) != topic_id),
                        ("superseded", "solution-replaced", reply_id != solution),
                    ]
                )
                rows.append(self._row("solution", (topic_id, reply_id), topic, reply, at, status))
        return rows

    def _kudos_rows(self) -> list[Row]:
        given: dict[str, list[tuple[int, bytes, str, str | None]]] = defaultdict(list)
        for kudos_id, (at, reply_id, giver_id) in self._forum._kudos_given.items():
            if reply_id is not None:
                giver = None if giver_id is None else self._forum.member(giver_id)
                given[reply_id].append((at, kudos_id.encode(), kudos_id, giver))
        rows = []
        for reply_id, kudos in given.items():
            reply = self._replies.get(reply_id)
            topic = None if reply is None else self._forum.topic(reply.topic_id)
            if reply is None or topic is None:
                continue
            seen: set[str] = set()
            for at, _, kudos_id, giver in sorted(kudos):
                status = first_that_fits(
                    [
                        *_void(reply, own_kudos=giver == self._forum.member(reply.author_id)),
                        *_gone(reply, topic),
                        ("revoked", "taken-back", self._forum._kudos_revoked.is_on(kudos_id)),
                        ("superseded", "kudos-repeated", giver is not None and giver in seen),
                    ]
                )
                if giver is not None and status[0] == "effective":
                    seen.add(giver)
                rows.append(self._row("kudos", (kudos_id,), topic, reply, at, status, kudos_id))
        return rows


def _void(reply: Reply, *, own_topic: bool = False, own_kudos: bool = False) -> list[tuple[str, str | None, bool]]:
    return [
        ("void", "bot", reply.author_kind == "bot"),
        ("void", "internal", not reply.public),
        ("void", "own-topic", own_topic),
        ("void", "own-kudos", own_kudos),
    ]


def _gone(reply: Reply, topic: Topic) -> list[tuple[str, str | None, bool]]:
    return [("revoked", "deleted", reply.deleted), ("revoked", "topic-deleted", topic.deleted)]


# Boards


def window_of(window: str, day: date) -> tuple[date, date] | None:
    """The first day of the window that a day lies in and the day after its last; None for all time."""
    if window == "all":
        return None
    if window == "day":
        return day, day + timedelta(days=1)
    if window == "week":
        monday = day - timedelta(days=day.isoweekday() - 1)
        return monday, monday + timedelta(days=7)
    months = {"month": 1, "quarter": 3, "year": 12}[window]
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    last = first.month + months
    return first, date(first.year + (last > 12), last - 12 if last > 12 else last, 1)


def is_on(board: str) -> Callable[[Row], bool]:
    """Which rows a board counts."""
    kind, _, name = board.partition(":")
    if kind == "space":
        return lambda row: row.space == name
    if kind == "language":
        return lambda row: row.language == name
    if kind == "stars":
        return lambda row: row.star
    return lambda row: True


def days_of(rows: Iterable[Row], zone: str) -> list[tuple[Row, date]]:
    """Effective rows with their local dates."""
    where = ZoneInfo(zone)
    return [(row, local_date(row.at, where)) for row in rows if row.status == "effective"]


def local_date(at: int, where: ZoneInfo) -> date:
    """The date on the calendar there."""
    instant: datetime = moment(at)
    return instant.astimezone(where).date()


def standings(rows: Iterable[Row], hidden: Collection[str] = ()) -> list[Standing]:
    """The board of these effective rows, in order."""
    of_member: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.member_id not in hidden:
            of_member[row.member_id].append(row)
    lines = sorted(
        (
            -sum(row.points for row in own),
            -sum(row.rule == "solution" for row in own),
            max(row.at for row in own),
            member.encode(),
        )
        for member, own in of_member.items()
    )
    found: list[Standing] = []
    for place, (points, solutions, reached, member) in enumerate(lines, 1):
        tied = bool(found) and found[-1].points == -points
        rank = found[-1].rank if tied else place
        found.append(Standing(rank, member.decode(), -points, -solutions, reached))
    return found


def board(
    rows: Iterable[Row],
    name: str,
    window: tuple[date, date] | None,
    zone: str = "UTC",
    hidden: Collection[str] = (),
) -> list[Standing]:
    """A board in a window (the end excluded), in a time zone."""
    counts = is_on(name)
    return standings(
        (row for row, day in days_of(rows, zone) if counts(row) and (window is None or window[0] <= day < window[1])),
        hidden,
    )
