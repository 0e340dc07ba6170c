"""What the notifier service makes of a batch: it keeps what decisions will need, and tells what is new."""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from services.notifier.erasure import erase
from services.notifier.news import News, read
from services.notifier.notify import Telling, tell
from shared.contracts.catalogue import (
    APPLICATIONS,
    AVAILABILITY,
    CONTACTS,
    FORUM,
    LEADERBOARD,
    MEMBERS,
    SEASONS,
    TOPICS,
)
from shared.contracts.envelope import Event
from shared.contracts.members import MemberErased
from shared.forum import Facts
from shared.forum.identity import STAND_IN_PREFIX
from shared.forum.registers import stamp_of
from shared.messaging import Batch, Record
from shared.postgres import Queries, arrays, arrays_of

SQL = Queries(Path(__file__).parent / "sql" / "consumer.sql")
STREAMS = (FORUM, MEMBERS, CONTACTS, TOPICS, LEADERBOARD, SEASONS, APPLICATIONS)

_ERASED = MemberErased.type_name()
_OF_TOPICS = {event.type_name() for event in FORUM.events if event.type_name().startswith("topic-")}
_RANKING = ("star-appointed", "star-ranked")
_FOLDED = _OF_TOPICS | {event.type_name() for event in MEMBERS.events} | {"star-appointed", "star-retired", *_RANKING}
"""Of the forum's events only what says that a topic is gone is kept: no replies, no kudos."""


class NotifierConsumer:
    """Applies batches of every stream that there may be something to tell of."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def apply(self, batch: Batch) -> None:
        """Runs in the batch's transaction; whatever it raises undoes all of it."""
        transaction = batch.transaction
        connection = transaction.connection
        kept = [record for record in batch.records if record.event.type in _FOLDED]
        touched = await self._facts.fold(Batch(transaction, kept, batch.dead_letters))
        if touched.gone:
            await erase(connection, touched.gone)
        for record in batch.records:
            # Whoever writes a compacted stream keyed by member says there, too, that a member is gone.
            if record.event.type == _ERASED and record.stream == MEMBERS.name:
                transaction.forward(AVAILABILITY, record.event.data.member_id, record.event)
        others = [record.event for record in batch.records if record.event.type not in _FOLDED]
        await self._keep_contacts(connection, others)
        await self._keep_ranks(connection, kept)
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        changed = await self._keep_topics(connection, others)
        await self._look_again(connection, changed | touched.topics)
        await self._tell(connection, batch.records, now)

    async def _keep_contacts(self, connection: Any, events: list[Event]) -> None:
        rows: dict[str, tuple[str, str | None]] = {}
        for event in events:
            if event.type == "contact-changed":
                known, stamp = rows.get(event.data.member_id), stamp_of(event)
                if known is None or stamp > known[0]:
                    rows[event.data.member_id] = (stamp, event.data.email)
        if not rows:
            return
        known_as = await self._facts.known_as(connection, rows)
        # The addresses of an erased member stay away, and of the accounts that were merged into theirs. Another merged
        # account's is kept under its own id, and used by nobody.
        living = {id: row for id, row in rows.items() if not known_as.get(id, "").startswith(STAND_IN_PREFIX)}
        if living:
            found = await connection.fetch(SQL.fold_contacts, list(living), *arrays(living.values()))
            await connection.execute(SQL.wake_waiting, [row["member_id"] for row in found])

    async def _keep_ranks(self, connection: Any, records: list[Record]) -> None:
        rows: dict[str, tuple[str, str | None]] = {}
        for event in (record.event for record in records if record.event.type in _RANKING):
            # The fold has put stand-ins in the place of erased members by now.
            known, stamp = rows.get(event.data.member_id), stamp_of(event)
            if known is None or stamp > known[0]:
                rows[event.data.member_id] = (stamp, event.data.rank)
        if rows:
            await connection.execute(SQL.fold_ranks, list(rows), *arrays(rows.values()))

    async def _keep_topics(self, connection: Any, events: list[Event]) -> set[str]:
        rows: dict[str, _Topic] = {}
        for event in events:
            if handler := _TOPIC_HANDLERS.get(event.type):
                topic_id = event.data.topic_id
                handler(rows.setdefault(topic_id, _Topic(topic_id)), event)
        if not rows:
            return set()
        named = {row.claimed_by for row in rows.values() if row.claimed_by is not None}
        known_as = await self._facts.known_as(connection, named) if named else {}
        for row in rows.values():
            row.claimed_by = known_as.get(row.claimed_by or "", row.claimed_by)
        found = await connection.fetch(SQL.fold_topics, *arrays_of(rows.values()))
        return {row["topic_id"] for row in found}

    async def _look_again(self, connection: Any, topic_ids: set[str]) -> None:
        """What waits for its hour is looked at once more where its topic changed: its reason may be gone."""
        if topic_ids:
            await connection.execute(SQL.look_again, sorted(topic_ids))

    async def _tell(self, connection: Any, records: list[Record], now: datetime) -> None:
        found = [news for record in records for news in read(record.event) if news.until() > now]
        named = {name for news in found for name in (news.actor_id, news.never) if name is not None}
        known_as = await self._facts.known_as(connection, named) if named else {}
        tellings: list[Telling] = []
        jobs: dict[str, tuple[Any, ...]] = {}
        for news in found:
            if news.actor_id in known_as or news.never in known_as:
                news = replace(
                    news,
                    actor_id=known_as.get(news.actor_id or "", news.actor_id),
                    never=known_as.get(news.never or "", news.never),
                )
            if news.audience is None:
                tellings += [Telling(member_id, news) for member_id in news.members]
            else:
                jobs.setdefault(str(news.key()), _job(news, now))
        if tellings:
            await tell(connection, self._facts, tellings, now)
        if jobs:
            await connection.execute(SQL.write_jobs, *arrays(jobs.values()))


def _job(news: News, now: datetime) -> tuple[Any, ...]:
    """A row of the table of jobs: its key, kind, data, actor, and when it may begin."""
    return str(news.key()), "fan-out", json.dumps(news.plain()), news.actor_id, news.not_before or now


@dataclass(slots=True)
class _Topic:
    """The registers of a topic, as far as a batch says something of them; the fields are the query's columns."""

    topic_id: str
    response_sequence: int | None = None
    answered_at: datetime | None = None
    within_target: bool | None = None
    kind: str | None = None
    claim_sequence: int | None = None
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    breached_at: datetime | None = None

    def responded(self, event: Any) -> None:
        sequence = event.sequence or 0
        if self.response_sequence is not None and sequence < self.response_sequence:
            return
        self.response_sequence, stands = sequence, event.type == "first-response-recorded"
        self.answered_at = event.data.answered_at if stands else None
        self.within_target = event.data.within_target if stands else None
        self.kind = event.data.topic_kind if stands else None

    def claimed(self, event: Any) -> None:
        sequence = event.sequence or 0
        if self.claim_sequence is not None and sequence < self.claim_sequence:
            return
        self.claim_sequence, stands = sequence, event.type == "topic-claimed"
        self.claimed_by = event.data.member_id if stands else None
        self.claimed_until = event.data.until if stands else None

    def breached(self, event: Any) -> None:
        self.breached_at = event.data.due_at


_TOPIC_HANDLERS = {
    "first-response-recorded": _Topic.responded,
    "first-response-revoked": _Topic.responded,
    "topic-claimed": _Topic.claimed,
    "claim-released": _Topic.claimed,
    "target-breached": _Topic.breached,
}
