"""The clock: tells the stages of waiting questions and ends claims, shared by any number of replicas."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from services.topics.derive import end_claims
from services.topics.rules import Stage, Waiting
from shared.contracts import topics as events
from shared.contracts.catalogue import FORUM, TOPICS
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox, Outgoing, Transaction, caught_up_at
from shared.observability import metrics
from shared.postgres import UNAVAILABLE, Queries, arrays

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "clock.sql")
SECONDS = 0.5
BATCH = 500


class Clock:
    """Fires timers that are rows: each due row is taken by one replica, the others pass over it."""

    def __init__(self, outbox: Outbox, cluster: Callable[[], str | None]) -> None:
        self._outbox, self._cluster = outbox, cluster

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                while await self.tick() == BATCH:
                    pass
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("the clock could not look, it looks again: %s", error)
            await asyncio.sleep(SECONDS)

    async def tick(self) -> int:
        """Tell what is due now, and end claims that ran out. Returns how many topics were due."""
        cluster = self._cluster()
        if cluster is None:
            return 0
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            # As all who hold rows of topics and write to the outbox: an erasure locks it as a whole, before their rows.
            await connection.execute(FACTS_SQL.share_lock)
            expired = await connection.fetch(SQL.expired_claims)
            if expired:
                await end_claims(transaction, {row["claim_id"]: "ran-out" for row in expired})
            # What may be told depends on what was read: nothing after the instant up to which every partition of
            # the forum's events was read to its end, or an answer that waits in Kafka would be called missing.
            read_until = await caught_up_at(connection, cluster, FORUM)
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            if read_until is None:
                return 0
            return await self._tell(transaction, min(now, read_until), now)

    async def _tell(self, transaction: Transaction, until: datetime, now: datetime) -> int:
        connection = transaction.connection
        rows = await connection.fetch(SQL.due_topics, until, BATCH)
        if not rows:
            return 0
        rows.sort(key=lambda row: row["topic_id"])
        ids = [row["topic_id"] for row in rows]
        more = {row["topic_id"]: row for row in await connection.fetch(SQL.told_and_claims, ids)}
        told: list[tuple[str, int, datetime]] = []
        following: list[datetime | None] = []
        for row in rows:
            target = timedelta(microseconds=row["target_us"])
            extra = more[row["topic_id"]]
            before = extra["told"] or 0
            waiting = Waiting(row["created_at"], target, row["appended_at"], row["backfill"], before, extra["until"])
            stage = waiting.due(until)
            if stage is not None:
                told.append((row["topic_id"], int(stage), now))
                transaction.publish(_outgoing(row, stage, now))
                metrics.TIMERS_FIRED.labels("topics", stage.name).inc()
                waiting = Waiting(
                    row["created_at"], target, row["appended_at"], row["backfill"], int(stage), extra["until"]
                )
            following.append(waiting.next_at())
        if told:
            await connection.execute(SQL.write_told, *arrays(told))
        await connection.execute(SQL.write_next, ids, following)
        return len(rows)


def _outgoing(row: Any, stage: Stage, now: datetime) -> Outgoing:
    if stage is Stage.breached:
        breached = events.TargetBreachedData(topic_id=row["topic_id"], due_at=row["due_at"])
        return Outgoing(TOPICS, events.TargetBreached, breached, now)
    needed = events.AnswerNeededData(
        topic_id=row["topic_id"],
        author_id=row["author_id"],
        title=row["title"],
        url=row["url"],
        space=row["space"],
        language=row["language"],
        tags=json.loads(row["tags"]),
        stage=stage.name,
        due_at=row["due_at"],
        candidates=[],
    )
    return Outgoing(TOPICS, events.AnswerNeeded, needed, now)
