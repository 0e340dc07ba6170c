"""The relay: takes what was committed to the outbox to Kafka, in order, by one process of a service at a time."""

import asyncio
import contextlib
import logging
from collections import Counter
from typing import Any

from shared.messaging.outbox import SQL, Outbox
from shared.messaging.producer import Producer
from shared.observability import metrics
from shared.postgres import UNAVAILABLE
from shared.postgres.singleton import STANDBY_SECONDS, held_alone

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
BATCH = 2000


class Relay:
    """Publishes the outbox. A record is deleted only after Kafka acknowledged it and all before it, so a death
    anywhere sends some again, under the same ids."""

    def __init__(self, dsn: str, service: str, producer: Producer, outbox: Outbox) -> None:
        self._dsn, self._service, self._producer, self._outbox = dsn, service, producer, outbox
        self._failing_since: float | None = None
        self._sending_since: float | None = None
        self._last_error = "no answer"

    async def run(self) -> None:
        """Run until cancelled: hold the lock, or stand by for whoever holds it."""
        while True:
            try:
                async with held_alone(self._dsn, self._service, "relay") as connection:
                    await self._relay(connection)
            except UNAVAILABLE as error:
                log.warning("the relay lost PostgreSQL: %s", error)
                await asyncio.sleep(STANDBY_SECONDS)

    async def _relay(self, connection: Any) -> None:
        while True:
            self._outbox.written.clear()
            rows = await connection.fetch(SQL.read_outbox, BATCH)
            if rows:
                await self._publish(connection, rows)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._outbox.written.wait(), POLL_SECONDS)

    async def _publish(self, connection: Any, rows: list[Any]) -> None:
        self._sending_since = asyncio.get_running_loop().time()
        try:
            outcomes = await self._producer.send([(row["stream"], row["key"], row["value"]) for row in rows])
        finally:
            self._sending_since = None
        failed = next((n for n, outcome in enumerate(outcomes) if outcome is not None), None)
        done = [row["id"] for row in rows[:failed]]
        if done:
            await connection.execute(SQL.delete_outbox, done)
            for stream, n in Counter(row["stream"] for row in rows[:failed]).items():
                metrics.RELAY_PUBLISHED.labels(self._service, stream).inc(n)
        if failed is None:
            self._failing_since = None
            return
        self._failing_since = self._failing_since or asyncio.get_running_loop().time()
        self._last_error = type(outcomes[failed]).__name__
        log.warning("Kafka did not take an outgoing event, it stays in the outbox: %r", outcomes[failed])
        await asyncio.sleep(STANDBY_SECONDS)

    def problems(self) -> list[str]:
        """Why outgoing events do not reach Kafka, in plain words."""
        since = self._failing_since or self._sending_since
        if since and asyncio.get_running_loop().time() - since > 10:
            return [f"outgoing events wait in the outbox, Kafka does not take them ({self._last_error})"]
        return []
