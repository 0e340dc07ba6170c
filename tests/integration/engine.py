"""The topics engine without Kafka: batches straight into the consumer, on one connection that is rolled back."""

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np

from services.topics.claims import Claims
from services.topics.clock import Clock
from services.topics.consumer import TopicsConsumer
from services.topics.queue import read_topic
from services.topics.report import SQL as REPORT_SQL
from services.topics.report import Columns, Report, Scope
from shared.contracts.catalogue import APPLICATIONS, FORUM, MEMBERS
from shared.contracts.codec import StrictReader
from shared.forum import Facts
from shared.messaging import Batch, Outbox, Record, Transaction
from shared.postgres import Pool, create_pool
from tests.oracle.cases import ERASURE_KEY
from tests.oracle.figures import micros, moment

READER = StrictReader([FORUM, MEMBERS, APPLICATIONS])
HOUR = timedelta(hours=1)


class OneConnection:
    """Stands where a pool is expected and hands out the same connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        yield self._connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Engine:
    """The consumer of the topics service, and what can be asked of its state."""

    def __init__(self, connection: asyncpg.Connection, erasure_key: bytes) -> None:
        self.connection = connection
        self._consumer = TopicsConsumer(Facts(erasure_key, topics=True, stars=True))

    async def set_policies(self, policies: Iterable[dict[str, Any]]) -> None:
        """Exactly these policies hold."""
        await self.connection.execute("DELETE FROM policy")
        for policy in policies:
            await self.connection.execute(
                "INSERT INTO policy (scope, from_at, target_seconds, objective)"
                " VALUES ($1, coalesce($2, '-infinity'::timestamptz), $3, $4)",
                policy["scope"],
                None if policy["from"] is None else moment(micros(policy["from"])),
                policy["target_seconds"],
                policy["objective"],
            )

    async def apply(self, events: Sequence[dict[str, Any]]) -> None:
        """Apply one batch in a transaction of its own."""
        async with self.connection.transaction():
            transaction = Transaction(self.connection, "/constellation/topics")
            appended = datetime(2030, 1, 1, tzinfo=UTC)
            records = [Record(READER.read(event), "forum.events", 0, n, appended) for n, event in enumerate(events)]
            await self._consumer.apply(Batch(transaction, records))
            await transaction.write_outbox()

    async def view(self, topic_id: str) -> dict[str, Any] | None:
        """What GET /topics/api/topics/{id} answers, as JSON would say it."""
        found = await read_topic(OneConnection(self.connection), topic_id)
        return None if found is None else plain(found)

    async def report(self, query: dict[str, str]) -> dict[str, Any]:
        """What GET /topics/api/sla answers."""
        report = Report(OneConnection(self.connection))
        columns = Columns()
        rows = await self.connection.fetch(REPORT_SQL.changed_since, "0")
        if rows:
            columns.put(rows)
        report._columns = columns
        bounds = {name: moment(micros(query[name])) if query.get(name) else None for name in ("from", "to", "as_of")}
        scope = Scope(bounds["from"], bounds["to"], query.get("space"), query.get("language"))
        answer = report._compute(scope, bounds["as_of"] or datetime.now(UTC), query.get("every"))
        return plain(answer)

    async def outgoing(self) -> list[dict[str, Any]]:
        """Every event that was published, in order."""
        rows = await self.connection.fetch("SELECT value FROM outbox ORDER BY id")
        return [json.loads(row["value"]) for row in rows]

    async def standing(self) -> dict[str, dict[str, Any]]:
        """By topic, the data of the first-response-recorded that stands: of each topic's facts the highest sequence."""
        last: dict[str, dict[str, Any]] = {}
        for event in await self.outgoing():
            if event["type"].startswith("first-response-"):
                topic_id = event["data"]["topic_id"]
                if topic_id not in last or last[topic_id]["sequence"] < event["sequence"]:
                    last[topic_id] = event
        return {id: event["data"] for id, event in last.items() if event["type"] == "first-response-recorded"}

    async def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of facts and derived state, as far as it must not depend on order."""
        found = {}
        for table in ("topic", "reply", "acceptance", "member", "alias", "star_change"):
            rows = await self.connection.fetch(f"SELECT * FROM {table}")
            # How Kafka timed a record and how it was marked is no part of equality.
            left_out = {"appended_at", "backfill"}
            found[table] = sorted(
                tuple(repr(value) for name, value in row.items() if name not in left_out) for row in rows
            )
        left_out = {"appended_at", "backfill", "changed", "next_at"}
        rows = await self.connection.fetch("SELECT * FROM topic_state")
        states = sorted(tuple(repr(value) for name, value in row.items() if name not in left_out) for row in rows)
        found["topic_state"] = [state for state in states if state[1] == "True"]
        # What is not known leaves an empty row or none, as it was once named on the way or not.
        assert len({state[1:] for state in states if state[1] == "False"}) <= 1
        found["erased"] = sorted(tuple(row) for row in await self.connection.fetch("SELECT stand_in FROM erased"))
        return found


class Stage:
    """The topics service with a clock whose reading the test decides."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.outbox = Outbox(pool, "topics")
        self.cluster = uuid.uuid4().hex
        self.clock = Clock(self.outbox, lambda: self.cluster)
        facts = Facts(ERASURE_KEY, topics=True, stars=True)
        self.claims = Claims(self.outbox, facts)
        self._consumer = TopicsConsumer(facts)
        self._n = 0

    @classmethod
    @asynccontextmanager
    async def on(cls, database: str) -> AsyncIterator["Stage"]:
        """On a migrated database, which is left as it was."""
        pool = create_pool(database, "topics", 5)
        await pool
        stage = cls(pool)
        await stage.read_until(datetime.now(UTC) + HOUR)
        yield stage
        await pool.execute(
            "TRUNCATE topic, reply, acceptance, topic_state, told, claim, outbox, sequence, member, alias, erased,"
            " star_change"
        )
        await pool.execute("DELETE FROM consumer_offset WHERE cluster = $1", stage.cluster)
        await pool.close()

    async def read_until(self, *instants: datetime | None) -> None:
        """Each partition of the forum's events is known to be read up to its instant."""
        await self.pool.execute("DELETE FROM consumer_offset WHERE cluster = $1", self.cluster)
        for partition, instant in enumerate(instants):
            await self.pool.execute(
                "INSERT INTO consumer_offset VALUES ($1, 'forum.events', $2, 0, $3)", self.cluster, partition, instant
            )

    async def happen(
        self, type_: str, topic_id: str, at: datetime, appended: datetime | None = None, **data: Any
    ) -> None:
        """An event of a topic that Kafka took in at ``appended`` (by default when it happened)."""
        await self.apply(self.event(type_, at, topic_id=topic_id, **data), appended=appended)

    def event(self, type_: str, at: datetime | None = None, **data: Any) -> dict[str, Any]:
        """An event, now unless it says when; not applied yet."""
        self._n += 1
        return {
            "specversion": "1.0",
            "id": f"{self.cluster}{self._n}",
            "source": "/test",
            "type": type_,
            "time": (at or datetime.now(UTC)).isoformat(),
            "backfill": data.pop("backfill", False),
            "data": data,
        }

    async def apply(self, *events: dict[str, Any], appended: datetime | None = None) -> None:
        """One batch."""
        async with self.outbox.transaction() as transaction:
            read = [READER.read(event) for event in events]
            records = [Record(one, "forum.events", 0, n, appended or one.time) for n, one in enumerate(read)]
            await self._consumer.apply(Batch(transaction, records))

    async def ask(self, topic_id: str, age: timedelta, **more: Any) -> None:
        at = datetime.now(UTC) - age
        data = {
            "author_id": "ada",
            "author_kind": "member",
            "title": "T",
            "space": "s",
            "tags": ["x"],
            "kind": "question",
        }
        await self.happen("topic-created", topic_id, at, **(data | more))

    async def tick(self) -> None:
        while await self.clock.tick():
            pass

    async def told(self, topic_id: str) -> list[str]:
        return [
            event["data"].get("stage", "breached")
            for event in await self.said(topic_id)
            if event["type"] in ("answer-needed", "target-breached")
        ]

    async def said(self, topic_id: str) -> list[dict[str, Any]]:
        """What was published of a topic, in order."""
        rows = await self.pool.fetch("SELECT value FROM outbox WHERE key = $1 ORDER BY id", topic_id)
        return [json.loads(row["value"]) for row in rows]


def plain(value: Any) -> Any:
    """As JSON would say it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    return value
