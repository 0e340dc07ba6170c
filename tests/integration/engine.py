"""The topics engine without Kafka: batches straight into the consumer, on one connection that is rolled back."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np

from services.topics.consumer import TopicsConsumer
from services.topics.queue import read_topic
from services.topics.report import SQL as REPORT_SQL
from services.topics.report import Columns, Report, Scope
from shared.contracts.catalogue import APPLICATIONS, FORUM, MEMBERS
from shared.contracts.codec import StrictReader
from shared.forum import Facts
from shared.messaging import Batch, Record, Transaction
from tests.oracle.figures import micros, moment

READER = StrictReader([FORUM, MEMBERS, APPLICATIONS])


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
