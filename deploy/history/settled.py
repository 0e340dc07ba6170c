"""When is everything that was brought in also worked off? Read from Kafka and PostgreSQL, without asking a service."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy import services
from shared.messaging.kafka import REQUEST_TIMEOUT_MS
from shared.postgres.pool import UNAVAILABLE, connect

PAUSE = 0.5
PATIENCE = 60.0
"""How long Kafka or PostgreSQL may be away before waiting makes no sense."""
AWAY = (KafkaError, *UNAVAILABLE)

Partition = tuple[str, int]
"""A stream and the number of one of its partitions."""


class NotSettled(Exception):
    """It did not settle in time, or could not be looked at; the message says what remains, or what is away."""


@dataclass(frozen=True)
class Settled:
    """Everything is worked off. ``skipped``: services that were not looked at, with the reason."""

    services: tuple[str, ...]
    skipped: Mapping[str, str]
    seconds: float


@dataclass
class Remaining:
    """What one service has still to do."""

    records: int = 0
    outbox: int = 0
    changed: int = 0

    def __int__(self) -> int:
        return self.records + self.outbox + self.changed

    def __str__(self) -> str:
        parts = ((self.records, "records to read"), (self.changed, "to fold"), (self.outbox, "events to publish"))
        return ", ".join(f"{count:,} {what}" for count, what in parts if count)


@dataclass
class _Database:
    """What a service's schema says: offsets by partition, and how much waits inside it."""

    offsets: dict[Partition, int] = field(default_factory=dict)
    outbox: int = 0
    changed: int = 0


def streams_of(service: str) -> frozenset[str]:
    """The streams that a service reads: those that it subscribes to."""
    return services.streams(service)


def remaining(service: str, database: _Database, log: Mapping[Partition, tuple[int, int]]) -> Remaining:
    """What a service has still to do, where ``log`` holds each partition's beginning and end.

    A partition without a row was never read; what retention has removed need not be.
    """
    reads = streams_of(service)
    records = sum(
        max(0, end - max(begin, database.offsets.get(at, 0)))
        for at, (begin, end) in log.items()
        if at[0] in reads and database.offsets.get(at, 0) < end
    )
    return Remaining(records, database.outbox, database.changed)


async def wait_until_settled(
    kafka_bootstrap: str,
    postgres_dsns: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - it says what remains
) -> Settled:
    """Return when no service has anything left to do, seen twice in turn, half a second apart.

    Nothing left: every stream that the service reads is applied to its end, its outbox is empty,
    and so is its queue ``changed`` where it has one. A service whose schema is absent is skipped by name.
    ``progress`` hears how many records remain in all. Raises NotSettled after ``timeout`` seconds, or when Kafka or
    PostgreSQL have been away for a minute.
    """
    begun = time.monotonic()
    deadline = None if timeout is None else begun + timeout
    last: dict[str, Remaining] = {}
    skipped: dict[str, str] = {}
    quiet, away_since, why = 0, None, ""
    async with _Look(kafka_bootstrap, postgres_dsns) as look:
        while True:
            now = time.monotonic()
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000 + 5):
                    last, skipped = await look()
            except AWAY as error:
                quiet, why = 0, f"{type(error).__name__}: {error}"
                away_since = away_since or now
                if now - away_since > PATIENCE:
                    raise NotSettled(f"Kafka or PostgreSQL is away: {why}") from error
                await look.close()
            else:
                away_since = None
                total = sum(map(int, last.values()))
                if progress:
                    progress(total)
                quiet = quiet + 1 if total == 0 else 0
                if quiet == 2:
                    return Settled(tuple(last), skipped, time.monotonic() - begun)
            if deadline is not None and time.monotonic() + PAUSE > deadline:
                left = "; ".join(f"{name}: {one}" for name, one in last.items() if int(one))
                said = f"it could not be looked at ({why})" if away_since else left or "something came in between"
                raise NotSettled(f"not settled after {timeout:.0f} s: {said}")
            await asyncio.sleep(PAUSE)


class _Look:
    """One look after another at Kafka and every schema, over connections that are kept."""

    def __init__(self, bootstrap: str, dsns: Mapping[str, str]) -> None:
        self._bootstrap, self._dsns = bootstrap, dsns
        self._admin: Any = None
        self._consumer: Any = None
        self._cluster = ""
        self._connections: dict[str, Any] = {}

    async def __aenter__(self) -> "_Look":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __call__(self) -> tuple[dict[str, Remaining], dict[str, str]]:
        await self._open()
        # PostgreSQL first, Kafka after: whoever was at an end that is still the end had nothing new to do in between.
        databases, skipped = {}, {}
        for service in self._dsns:
            found = await self._database(service)
            if isinstance(found, str):
                skipped[service] = found
            else:
                databases[service] = found
        log = await self._log(frozenset().union(*map(streams_of, databases)))
        return {service: remaining(service, found, log) for service, found in databases.items()}, skipped

    async def _open(self) -> None:
        if self._admin is not None:
            return
        options = {"bootstrap_servers": self._bootstrap, "request_timeout_ms": REQUEST_TIMEOUT_MS}
        self._admin, self._consumer = AIOKafkaAdminClient(**options), AIOKafkaConsumer(**options)
        await self._admin.start()
        await self._consumer.start()
        self._cluster = str((await self._admin.describe_cluster())["cluster_id"])
        for service, dsn in self._dsns.items():
            self._connections[service] = await connect(dsn, service)

    async def close(self) -> None:
        """Let go of every connection; the next look makes new ones."""
        admin, consumer, connections = self._admin, self._consumer, list(self._connections.values())
        self._admin = self._consumer = None
        self._connections = {}
        for connection in connections:
            connection.terminate()
        if admin is not None:
            await asyncio.gather(admin.close(), consumer.stop(), return_exceptions=True)

    async def _database(self, service: str) -> _Database | str:
        connection = self._connections[service]
        there = await connection.fetchrow(
            "SELECT to_regnamespace($1) IS NOT NULL AS schema, to_regclass($1 || '.changed') IS NOT NULL AS changed,"
            " to_regclass($1 || '.consumer_offset') IS NOT NULL AND to_regclass($1 || '.outbox') IS NOT NULL AS made",
            service,
        )
        if not there["schema"]:
            return "its schema does not exist"
        if not there["made"]:
            return "its schema has not been migrated"
        # In the direction of flow: what moves on in between is met again further down.
        rows = await connection.fetch(
            f"SELECT stream, partition, next_offset FROM {service}.consumer_offset WHERE cluster = $1", self._cluster
        )
        changed = await connection.fetchval(f"SELECT count(*) FROM {service}.changed") if there["changed"] else 0
        outbox = await connection.fetchval(f"SELECT count(*) FROM {service}.outbox")
        return _Database({(row["stream"], row["partition"]): row["next_offset"] for row in rows}, outbox, changed)

    async def _log(self, streams: frozenset[str]) -> dict[Partition, tuple[int, int]]:
        """Where each partition of these streams begins and ends; a stream that does not exist has none."""
        described = await self._admin.describe_topics()
        partitions = [
            TopicPartition(topic["topic"], one["partition"])
            for topic in described
            if topic["topic"] in streams
            for one in topic["partitions"]
        ]
        if not partitions:
            return {}
        # The ends alone would do, but for partitions that retention has emptied.
        ends = await self._consumer.end_offsets(partitions)
        begins = await self._consumer.beginning_offsets(partitions)
        return {(at.topic, at.partition): (min(begins[at], ends[at]), ends[at]) for at in partitions}
