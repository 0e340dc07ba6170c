"""Facts: a batch of events, folded into registers, yields what it touched.

Nothing is ever added to a counter by an event. A service derives what should be true from the facts of what was
touched, and publishes the difference; so order, repetition and corrections at any age cannot matter.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from shared.contracts import applications, forum, members
from shared.contracts import topics as clock
from shared.contracts.catalogue import FORUM, MEMBERS, TOPICS
from shared.contracts.envelope import Data, Event
from shared.forum.identity import STAND_IN_PREFIX, roots, stand_in
from shared.forum.registers import (
    AcceptanceRow,
    KudosRow,
    ReplyRow,
    ResponseRow,
    TopicRow,
    latest,
    stamp_of,
)
from shared.messaging import Batch, DeadLetter, Record
from shared.messaging.erasure import forget, strings_in
from shared.postgres import Queries, arrays, arrays_of, as_json

SQL = Queries(Path(__file__).parent / "sql" / "fold.sql")


@dataclass(slots=True)
class Mark:
    """Of the events that touched a topic in this batch: whether all of them are history, and the last trace."""

    backfill: bool = True
    traceparent: str | None = None


@dataclass
class Touched:
    """What a batch changed. Of a topic: all that hangs on it is derived again; of a part: only that part."""

    topics: set[str] = field(default_factory=set)
    """Something of the topic itself, or what its id stands for, changed."""
    replies: list[Any] = field(default_factory=list)
    """Whole rows as they are now, and left_topic_id, left_author_id and left_posted_at as they were."""
    acceptances: set[tuple[str, str]] = field(default_factory=set)
    kudos: list[Any] = field(default_factory=list)
    """Whole rows as they are now, and left_reply_id and left_giver_id as they were. Of one kudos the last holds."""
    responses: set[str] = field(default_factory=set)
    """Topics of which topics.events says another first response."""
    members: set[str] = field(default_factory=set)
    aliases: bool = True
    """Whether any id may stand for another: where none does, nobody need look."""
    erased: dict[str, str] = field(default_factory=dict)
    """Members who were erased in this batch, and their stand-ins."""
    gone: dict[str, str] = field(default_factory=dict)
    """The same, and accounts that stand for an erased member since this batch, whichever came first: what is kept under
    the id of a merged account is the person's, too."""
    late: list[Event] = field(default_factory=list)
    """Records of members who were erased before: they change nothing."""
    marks: dict[str, Mark] = field(default_factory=dict)

    def topic_ids(self) -> set[str]:
        """Every topic that this batch says something new about, itself or by a part."""
        found = set(self.topics)
        for row in self.replies:
            found.update(id for id in (row["left_topic_id"], row["topic_id"]) if id is not None)
        found.update(topic_id for topic_id, _ in self.acceptances)
        return found


class Facts:
    """The fold of one service, with the facts that it keeps: members always, the others as it says."""

    def __init__(
        self,
        erasure_key: bytes,
        *,
        topics: bool = False,
        kudos: bool = False,
        stars: bool = False,
        responses: bool = False,
    ) -> None:
        self._key, self._topics, self._kudos, self._stars = erasure_key, topics, kudos, stars
        self._responses = responses

    def stand_in(self, member_id: str) -> str:
        """What stands for this member's id once it is erased."""
        return stand_in(self._key, member_id)

    async def fold(self, batch: Batch) -> Touched:
        """Fold a batch into the registers of the service's schema, and say what that touched.

        Batches that may change what an id stands for, or who was a Star, run alone; all others run side by side. So a
        batch never derives from what concerns other topics' rows and changes under it.
        """
        connection = batch.transaction.connection
        alone = not batch.types.isdisjoint(_ALONE)
        before = await connection.fetchrow(SQL.begin_batch, alone)
        fold = _Fold(await self._erasures(connection, batch.records, before["somebody_was_erased"]))
        fold.touched.aliases = alone or before["something_was_merged"]
        if before["somebody_was_erased"] or fold.erased_now:
            await self._empty(connection, batch.dead_letters)
        for record in batch.records:
            fold.add(record)
        touched = fold.touched
        if fold.erased_now:
            await self._erase(connection, fold.erased_now, touched)
        await self._write(connection, fold, touched)
        return touched

    async def known_as(self, connection: Any, ids: Iterable[str]) -> dict[str, str]:
        """For each member id that stands for another, or is erased, whom it stands for."""
        return await self._known_as(connection, set(ids))

    async def erased_among(self, connection: Any, ids: Iterable[str]) -> dict[str, str]:
        """For each of these members who is erased, the stand-in."""
        stand_ins = {self.stand_in(id): id for id in ids}
        gone = await connection.fetch(SQL.erased_among, list(stand_ins))
        return {stand_ins[row["stand_in"]]: row["stand_in"] for row in gone}

    async def _known_as(self, connection: Any, ids: set[str]) -> dict[str, str]:
        found = await self.erased_among(connection, ids)
        rows = await connection.fetch(SQL.aliases_of, "member", list(ids - found.keys()), [])
        return found | {row["id"]: row["root"] for row in rows}

    async def _erasures(self, connection: Any, records: list[Record], somebody_was_erased: bool) -> "_Erasures":
        now = {
            record.event.data.member_id: self.stand_in(record.event.data.member_id)
            for record in records
            if record.event.type == _ERASED
        }
        if now:
            await connection.execute(SQL.write_erased, list(now.values()))
        elif not somebody_was_erased:
            return _Erasures({}, {})
        named = {id for record in records for id in _member_ids(record.event.data)}
        return _Erasures(await self.erased_among(connection, named), now)

    async def _empty(self, connection: Any, letters: list[DeadLetter]) -> None:
        """What names an erased member is not kept, not even as something that nobody could read."""
        for letter in letters:
            stand_ins = [self.stand_in(name) for name in strings_in(letter.key, letter.value)]
            if await connection.fetch(SQL.erased_among, stand_ins):
                letter.empty("emptied: it named an erased member")

    async def _erase(self, connection: Any, erased: dict[str, str], touched: Touched) -> None:
        """Rewrite every fact that names them, to their stand-ins."""
        ids, stand_ins = list(erased), list(erased.values())
        touched.erased |= erased
        touched.gone |= erased
        touched.members.update(ids, stand_ins)
        await forget(connection, erased)
        if self._topics:
            rows = await connection.fetch(SQL.topics_naming, ids)
            touched.topics.update(row["topic_id"] for row in rows)
            await connection.execute(SQL.erase_from_topics, ids, stand_ins)
            await connection.execute(SQL.erase_from_replies, ids, stand_ins)
        if self._kudos:
            touched.kudos += [
                {**row, "giver_id": erased[row["giver_id"]]} for row in await connection.fetch(SQL.kudos_naming, ids)
            ]
            await connection.execute(SQL.erase_from_kudos, ids, stand_ins)
        if self._stars:
            await connection.execute(SQL.erase_from_stars, ids, stand_ins)
        # Their aliases go with them; whoever had merged into them ends at the stand-in.
        group = await self._group(connection, "member", set(ids))
        await connection.execute(SQL.erase_members, ids)
        await connection.execute(SQL.erase_links, ids, stand_ins)
        await connection.execute(SQL.delete_aliases, "member", ids)
        left = group - set(ids)
        await self._realias(connection, "member", left | set(stand_ins), touched)
        # Those who stay lose the deeds and the appointments that came to them through the erased.
        touched.members |= left
        await self._touch_topics_of(connection, left, touched)
        await self._touch_kudos_of(connection, left, touched)

    async def _write(self, connection: Any, fold: "_Fold", touched: Touched) -> None:
        if fold.members:
            rows = await connection.fetch(SQL.fold_members, *fold.member_columns())
            touched.members.update(row["member_id"] for row in rows)
            await self._relink(connection, "member", rows, "member_id", touched)
        if self._topics and fold.topics:
            rows = await connection.fetch(SQL.fold_topics, *arrays_of(fold.topics.values()))
            touched.topics.update(row["topic_id"] for row in rows)
            await self._relink(connection, "topic", rows, "topic_id", touched)
        held = fold.held_replies() if self._kudos else []
        if self._topics and (fold.replies or held):
            rows = arrays_of(fold.replies.values()) if fold.replies else [[]] * len(fields(ReplyRow))
            touched.replies = await connection.fetch(SQL.fold_replies, *rows, held)
        if self._topics and fold.acceptances:
            rows = await connection.fetch(SQL.fold_acceptances, *arrays_of(fold.acceptances.values()))
            touched.acceptances = {(row["topic_id"], row["reply_id"]) for row in rows}
        if self._kudos and fold.kudos:
            touched.kudos += await connection.fetch(SQL.fold_kudos, *arrays_of(fold.kudos.values()))
        if self._responses and fold.responses:
            rows = await connection.fetch(SQL.fold_responses, *arrays_of(fold.responses.values()))
            touched.responses = {row["topic_id"] for row in rows}
        if self._stars and fold.stars:
            rows = await connection.fetch(SQL.fold_stars, *arrays(fold.stars))
            changed = {row["member_id"] for row in rows}
            touched.members |= changed
            await self._touch_topics_of(connection, changed, touched)

    async def _relink(self, connection: Any, what: str, rows: list[Any], key: str, touched: Touched) -> None:
        """Follow merges anew where a link changed, for the group that was left and the one that was joined."""
        changed = [row for row in rows if row["relinked"]]
        if not changed:
            return
        ids = {row[name] for row in changed for name in (key, f"left_{key}", f"into_{key}")} - {None}
        await self._realias(connection, what, await self._group(connection, what, ids), touched)

    async def _group(self, connection: Any, what: str, ids: set[str]) -> set[str]:
        """The ids and all that stand, directly or through others, for the same."""
        rows = await connection.fetch(SQL.aliases_of, what, list(ids), [])
        heads = ids | {row["root"] for row in rows}
        rows = await connection.fetch(SQL.aliases_of, what, [], list(heads))
        return heads | {row["id"] for row in rows}

    async def _realias(self, connection: Any, what: str, group: set[str], touched: Touched) -> None:
        before = {row["id"]: row["root"] for row in await connection.fetch(SQL.aliases_of, what, list(group), [])}
        links: dict[str, str] = {}
        frontier = group
        # One step a link of the longest chain; a chain that is already known is one step.
        while frontier:
            query = SQL.topic_links if what == "topic" else SQL.member_links
            found = {row["id"]: row["target"] for row in await connection.fetch(query, list(frontier))}
            frontier = ({*found, *found.values()}) - group
            links |= found
            group = group | frontier
        after = {id: root for id, root in roots(links, group).items() if id != root}
        gone = [id for id in before if id not in after]
        moved = {id: root for id, root in after.items() if before.get(id) != root}
        if gone:
            await connection.execute(SQL.delete_aliases, what, gone)
        if moved:
            await connection.execute(SQL.write_aliases, what, list(moved), list(moved.values()))
        ids = {*gone, *moved, *(before[id] for id in gone), *moved.values(), *(before[i] for i in moved if i in before)}
        if what == "topic":
            touched.topics |= ids
        else:
            touched.members |= ids
            touched.gone |= {id: root for id, root in moved.items() if root.startswith(STAND_IN_PREFIX)}
            await self._touch_topics_of(connection, ids, touched)
            await self._touch_kudos_of(connection, ids, touched)

    async def _touch_topics_of(self, connection: Any, member_ids: set[str], touched: Touched) -> None:
        """A member's standing changed: so may every topic in which they asked or replied."""
        if not member_ids or not self._topics:
            return
        group = await self._group(connection, "member", member_ids)
        rows = await connection.fetch(SQL.topics_naming, list(group))
        touched.topics.update(row["topic_id"] for row in rows)

    async def _touch_kudos_of(self, connection: Any, member_ids: set[str], touched: Touched) -> None:
        """Whom a giver's id stands for changed: so may which of their kudos is the earliest, and which is their own."""
        if member_ids and self._kudos:
            group = await self._group(connection, "member", member_ids)
            touched.kudos += await connection.fetch(SQL.kudos_naming, list(group))


@dataclass
class _Erasures:
    """Erased members among those that a batch names: known before or by this batch, and by this batch alone."""

    known: dict[str, str]
    now: dict[str, str]


_ERASED = members.MemberErased.type_name()
_MOVED = forum.ReplyMoved.type_name()
_ALIAS_TYPES = {event.type_name() for event in MEMBERS.events} | {forum.TopicMerged.type_name()}
"""Events that may change what an id stands for."""
_ALONE = _ALIAS_TYPES | {applications.StarAppointed.type_name(), applications.StarRetired.type_name()}
"""Events that may change what is derived of topics which they do not name."""


@cache
def _member_fields(data: Any) -> tuple[str, ...]:
    return tuple(name for name in ("author_id", "giver_id", "member_id", "into_member_id") if name in data.model_fields)


def _member_ids(data: Data) -> Iterable[str]:
    for name in _member_fields(type(data)):
        value = getattr(data, name)
        if value is not None:
            yield value


class _Fold:
    """A batch, folded in memory: one row a key, holding what the batch alone would make of it."""

    def __init__(self, erasures: _Erasures) -> None:
        self._erased = erasures.known
        self.erased_now = erasures.now
        self.touched = Touched()
        self.topics: dict[str, TopicRow] = {}
        self.replies: dict[str, ReplyRow] = {}
        self.acceptances: dict[tuple[str, str], AcceptanceRow] = {}
        self.kudos: dict[str, KudosRow] = {}
        self.members: dict[str, tuple[str, members.MemberData]] = {}
        self.responses: dict[str, ResponseRow] = {}
        self.stars: list[tuple[str, Any, bool]] = []

    def add(self, record: Record) -> None:
        """Fold one event. Types that no register hears of are left alone."""
        event = record.event
        handler = _HANDLERS.get(event.type)
        if handler is None:
            return
        if self._erased:
            for name in _member_fields(event.data.__class__):
                value = getattr(event.data, name)
                if value in self._erased and event.type != _ERASED:
                    if name == "member_id" and event.type in _ALIAS_TYPES:
                        self.touched.late.append(event)
                        return  # erasure is for ever: a late record brings nobody back
                    setattr(event.data, name, self._erased[value])
        handler(self, event, record)
        if event.type in _MARKING_TYPES:
            self._mark(event.data.topic_id, event)
            if event.type == _MOVED:
                self._mark(event.data.from_topic_id, event)

    def _mark(self, topic_id: str, event: Event) -> None:
        mark = self.touched.marks.get(topic_id)
        if mark is None:
            mark = self.touched.marks[topic_id] = Mark()
        mark.backfill = mark.backfill and event.backfill
        mark.traceparent = event.traceparent or mark.traceparent

    def member_columns(self) -> list[list[Any] | None]:
        """The members as one array a column."""
        rows = [
            (
                id,
                stamp,
                data.status,
                getattr(data, "into_member_id", None),
                data.name,
                data.locale,
                data.time_zone,
                as_json(data.languages),
                data.joined_at,
            )
            for id, (stamp, data) in self.members.items()
        ]
        return arrays(rows)

    def _topic(self, topic_id: str) -> TopicRow:
        row = self.topics.get(topic_id)
        if row is None:
            row = self.topics[topic_id] = TopicRow(topic_id)
        return row

    def _reply(self, reply_id: str) -> ReplyRow:
        row = self.replies.get(reply_id)
        if row is None:
            row = self.replies[reply_id] = ReplyRow(reply_id)
        return row

    def _acceptance(self, data: Any) -> AcceptanceRow:
        key = (data.topic_id, data.reply_id)
        row = self.acceptances.get(key)
        if row is None:
            row = self.acceptances[key] = AcceptanceRow(*key)
        return row

    def topic_created(self, event: forum.TopicCreated, record: Record) -> None:
        row, data, stamp = self._topic(event.data.topic_id), event.data, stamp_of(event)
        if stamp > row.created_stamp:
            row.created_stamp, row.created_at = stamp, event.time
            row.author_id, row.author_kind, row.url = data.author_id, data.author_kind, data.url
        row.appended_at = min(row.appended_at, record.appended_at) if row.appended_at else record.appended_at
        row.backfill = event.backfill if row.backfill is None else row.backfill and event.backfill
        self._set(row, stamp, "title", data.title)
        self._set(row, stamp, "tags", as_json(data.tags))
        self._set(row, stamp, "language", data.language)
        self._set(row, stamp, "kind", data.kind)
        self._set(row, stamp, "space", data.space)

    def topic_edited(self, event: forum.TopicEdited, record: Record) -> None:
        row, data, stamp = self._topic(event.data.topic_id), event.data, stamp_of(event)
        for name in ("title", "language", "kind"):
            if name in data.model_fields_set:
                self._set(row, stamp, name, getattr(data, name))
        if "tags" in data.model_fields_set:
            self._set(row, stamp, "tags", None if data.tags is None else as_json(data.tags))

    def topic_moved(self, event: forum.TopicMoved, record: Record) -> None:
        self._set(self._topic(event.data.topic_id), stamp_of(event), "space", event.data.space)

    def topic_merged(self, event: forum.TopicMerged, record: Record) -> None:
        row, stamp = self._topic(event.data.topic_id), stamp_of(event)
        if stamp > row.merged_stamp:
            row.merged_stamp, row.into_topic_id = stamp, event.data.into_topic_id

    def topic_opposite(self, event: Event, record: Record) -> None:
        row, name = self._topic(event.data.topic_id), _TOPIC_OPPOSITES[event.type]
        setattr(row, name, latest(getattr(row, name), event.time))

    def reply_posted(self, event: forum.ReplyPosted, record: Record) -> None:
        row, data, stamp = self._reply(event.data.reply_id), event.data, stamp_of(event)
        if stamp > row.posted_stamp:
            row.posted_stamp, row.posted_at = stamp, event.time
            row.author_id, row.author_kind, row.visibility = data.author_id, data.author_kind, data.visibility
        row.backfill = event.backfill if row.backfill is None else row.backfill and event.backfill
        self._set(row, stamp, "topic", data.topic_id, "topic_id")

    def reply_moved(self, event: forum.ReplyMoved, record: Record) -> None:
        self._set(self._reply(event.data.reply_id), stamp_of(event), "topic", event.data.topic_id, "topic_id")

    def reply_opposite(self, event: Event, record: Record) -> None:
        row, name = self._reply(event.data.reply_id), _REPLY_OPPOSITES[event.type]
        setattr(row, name, latest(getattr(row, name), event.time))

    def solution_accepted(self, event: forum.SolutionAccepted, record: Record) -> None:
        row, stamp = self._acceptance(event.data), stamp_of(event)
        if stamp > row.accepted_stamp:
            row.accepted_stamp, row.accepted_at = stamp, event.time
        row.backfill = event.backfill if row.backfill is None else row.backfill and event.backfill

    def solution_revoked(self, event: forum.SolutionRevoked, record: Record) -> None:
        row = self._acceptance(event.data)
        row.revoked_at = latest(row.revoked_at, event.time)

    def kudos_given(self, event: forum.KudosGiven, record: Record) -> None:
        row, data, stamp = self._kudos(event), event.data, stamp_of(event)
        if stamp > row.given_stamp:
            row.given_stamp, row.given_at = stamp, event.time
            row.topic_id, row.reply_id, row.giver_id = data.topic_id, data.reply_id, data.giver_id
        row.backfill = event.backfill if row.backfill is None else row.backfill and event.backfill

    def kudos_revoked(self, event: forum.KudosRevoked, record: Record) -> None:
        row = self._kudos(event)
        row.revoked_at = latest(row.revoked_at, event.time)

    def member(self, event: Event, record: Record) -> None:
        stamp, data = stamp_of(event), event.data
        known = self.members.get(data.member_id)
        if known is None or stamp > known[0]:
            self.members[data.member_id] = (stamp, data)

    def held_replies(self) -> list[str]:
        """Whoever derives from a reply holds its row, also one that is not known yet.

        A kudos, an acceptance or a first response may come in another partition than its reply: two replicas would
        each derive without what the other has not committed.
        """
        named = [one.reply_id for one in self.kudos.values()] + [one.reply_id for one in self.responses.values()]
        held = {*named, *(reply_id for _, reply_id in self.acceptances)} - self.replies.keys()
        return [reply_id for reply_id in held if reply_id is not None]

    def response_recorded(self, event: clock.FirstResponseRecorded, record: Record) -> None:
        data = event.data
        self._response(event, data.topic_id, data.reply_id, data.within_target)

    def response_revoked(self, event: clock.FirstResponseRevoked, record: Record) -> None:
        self._response(event, event.data.topic_id, None, None)

    def _response(self, event: Event, topic_id: str, reply_id: str | None, within_target: bool | None) -> None:
        sequence, known = event.sequence or 0, self.responses.get(topic_id)
        if known is None or sequence > known.sequence:
            self.responses[topic_id] = ResponseRow(topic_id, sequence, reply_id, within_target, event.backfill)

    def star(self, event: Event, record: Record) -> None:
        self.stars.append((event.data.member_id, event.time, isinstance(event, applications.StarAppointed)))

    def nothing(self, event: Event, record: Record) -> None:
        """No register hears of it; but it names a member, who may be erased, which is done before the fold."""

    def _kudos(self, event: forum.KudosGiven | forum.KudosRevoked) -> KudosRow:
        row = self.kudos.get(event.data.kudos_id)
        if row is None:
            row = self.kudos[event.data.kudos_id] = KudosRow(event.data.kudos_id)
        return row

    @staticmethod
    def _set(row: TopicRow | ReplyRow, stamp: str, register: str, value: Any, column: str | None = None) -> None:
        name = f"{register}_stamp"
        if stamp > getattr(row, name):
            setattr(row, name, stamp)
            setattr(row, column or register, value)


_MARKING_TYPES = {event.type_name() for event in (*FORUM.events, *TOPICS.events)}
_TOPIC_OPPOSITES = {
    "topic-closed": "closed_at",
    "topic-reopened": "reopened_at",
    "topic-deleted": "deleted_at",
    "topic-restored": "restored_at",
}
_REPLY_OPPOSITES = {"reply-deleted": "deleted_at", "reply-restored": "restored_at"}

_HANDLERS: dict[str, Callable[[_Fold, Any, Record], None]] = {
    "topic-created": _Fold.topic_created,
    "topic-edited": _Fold.topic_edited,
    "topic-moved": _Fold.topic_moved,
    "topic-merged": _Fold.topic_merged,
    **dict.fromkeys(_TOPIC_OPPOSITES, _Fold.topic_opposite),
    "reply-posted": _Fold.reply_posted,
    "reply-moved": _Fold.reply_moved,
    **dict.fromkeys(_REPLY_OPPOSITES, _Fold.reply_opposite),
    "solution-accepted": _Fold.solution_accepted,
    "solution-revoked": _Fold.solution_revoked,
    "kudos-given": _Fold.kudos_given,
    "kudos-revoked": _Fold.kudos_revoked,
    "member-registered": _Fold.member,
    "member-updated": _Fold.member,
    "member-suspended": _Fold.member,
    "member-reinstated": _Fold.member,
    "member-merged": _Fold.member,
    "member-erased": _Fold.nothing,
    "first-response-recorded": _Fold.response_recorded,
    "first-response-revoked": _Fold.response_revoked,
    "star-appointed": _Fold.star,
    "star-retired": _Fold.star,
    "star-ranked": _Fold.nothing,
}
