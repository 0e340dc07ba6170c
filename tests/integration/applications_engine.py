"""The applications service without Kafka: batches straight into its consumer, folded by its projector."""

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg

from services.applications.app import NAME, consumer_of, facts_of
from services.applications.programme import Programme
from services.applications.projector import Projector
from services.applications.records import read_records
from services.applications.rules import Record
from shared.contracts.catalogue import FORUM, MEMBERS, SEASONS, TOPICS
from shared.contracts.codec import StrictReader
from shared.messaging import Batch, Outbox, Transaction
from shared.messaging.consumer import Record as Consumed
from tests.integration.engine import OneConnection

READER = StrictReader([FORUM, MEMBERS, TOPICS, SEASONS])


class ApplicationsEngine:
    """The consumer and projector of the applications service, on one connection."""

    def __init__(self, connection: asyncpg.Connection, erasure_key: bytes) -> None:
        self.connection = connection
        self.outbox = Outbox(OneConnection(connection), NAME)  # type: ignore[arg-type]
        self.programme = Programme(self.outbox)
        self.projector = Projector("", NAME, self.outbox, self.programme)
        self.facts = facts_of(erasure_key)
        self._consumer = consumer_of(self.facts)

    async def apply(self, events: Sequence[dict[str, Any]]) -> None:
        """Apply one batch in a transaction of its own."""
        async with self.connection.transaction():
            transaction = Transaction(self.connection, "/constellation/applications")
            appended = datetime(2030, 1, 1, tzinfo=UTC)
            records = [Consumed(READER.read(event), "forum.events", 0, n, appended) for n, event in enumerate(events)]
            await self._consumer.apply(Batch(transaction, records))
            await transaction.write_outbox()

    async def fold(self) -> None:
        """Derive all that waits."""
        while await self.projector.fold(self.connection):
            pass

    async def eligible(self) -> set[str]:
        """Who meets every criterion."""
        return {row["member_id"] for row in await self.connection.fetch("SELECT member_id FROM eligible")}

    async def contributions(self) -> set[tuple[Any, ...]]:
        """Every derived month."""
        return {tuple(row) for row in await self.connection.fetch("SELECT * FROM contribution")}

    async def records(self, members: Iterable[str]) -> dict[str, Record]:
        """What the facts say of members."""
        return await read_records(self.connection, members)


@asynccontextmanager
async def fresh(connection: asyncpg.Connection, erasure_key: bytes) -> AsyncIterator[ApplicationsEngine]:
    """An engine on an empty schema; all that it does is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield ApplicationsEngine(connection, erasure_key)
    finally:
        await transaction.rollback()


def unique(word: str) -> str:
    """A name that nobody else uses."""
    return f"{word}-{uuid.uuid4().hex[:10]}"
