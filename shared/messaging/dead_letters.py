"""Dead letters: what a service could not apply, kept as it came, with the reason, until somebody decides."""

import asyncio
import json
from typing import Any

from aiokafka import AIOKafkaProducer

from shared.messaging.kafka import REQUEST_TIMEOUT_MS, hosts_of
from shared.messaging.outbox import SQL

AT_ONCE = 200
"""Letters that one transaction sends again: PostgreSQL ends one that waits for Kafka for too long."""


class DeadLetters:
    """The dead letters of one service, over one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def list(self, after: int, limit: int) -> Any:
        """Letters with an id above ``after``, oldest first, without their values."""
        return await self._connection.fetch(SQL.list_dead_letters, after, limit)

    async def show(self, letter: int) -> Any:
        """One letter whole, or None."""
        return await self._connection.fetchrow(SQL.show_dead_letter, letter)

    async def ids(self) -> Any:
        """All ids."""
        return [row["id"] for row in await self._connection.fetch(SQL.dead_letter_ids)]

    async def drop(self, ids: Any) -> int:
        """Delete letters; returns how many there were."""
        return len(await self._connection.fetch(SQL.drop_dead_letters, ids))

    async def replay(self, ids: Any, bootstrap: str) -> int:
        """Send letters to their streams again, byte for byte, and delete them; returns how many.

        Deleted, some hundred at a time, only after Kafka has them: a death in between sends those twice, which does no
        harm. Letters that were emptied by an erasure have nothing to send, and stay.
        """
        producer = AIOKafkaProducer(
            bootstrap_servers=hosts_of(bootstrap),
            acks="all",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            enable_idempotence=False,
        )
        ids, sent = sorted(ids), 0
        try:
            await producer.start()
            for first in range(0, len(ids), AT_ONCE):
                sent += await self._replay(ids[first : first + AT_ONCE], producer)
        finally:
            await producer.stop()
        return sent

    async def _replay(self, ids: Any, producer: AIOKafkaProducer) -> int:
        async with self._connection.transaction():
            rows = [row for row in await self._connection.fetch(SQL.take_dead_letters, ids) if row["value"] is not None]
            await asyncio.gather(*[await self._send(row, producer) for row in rows])
            await self._connection.fetch(SQL.drop_dead_letters, [row["id"] for row in rows])
        return len(rows)

    async def _send(self, row: Any, producer: AIOKafkaProducer) -> Any:
        """What is done once Kafka has the letter."""
        headers = [
            (name, None if value is None else value.replace("Ā", "\0").encode("latin-1"))
            for name, value in json.loads(row["headers"])
        ]
        return await producer.send(row["stream"], row["value"], key=row["key"], headers=headers)
