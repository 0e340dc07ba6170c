"""Kafka as every process uses it: one broker object, one way to send, topics made from the catalogue."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from faststream.kafka import KafkaBroker

from shared.contracts.catalogue import STREAMS, Stream
from shared.contracts.envelope import CONTENT_TYPE

REQUEST_TIMEOUT_MS = 15_000

# Both say as warnings and errors what is meant (topics are made by us) or mends itself in a moment (a coordinator that
# is still being elected). What matters is in `problems()` and on /readyz.
_faststream_log = logging.getLogger("faststream")
_faststream_log.addFilter(lambda record: record.levelno >= logging.ERROR)
logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.CRITICAL)


class KafkaUnavailable(Exception):
    """Kafka did not take a record in time. What was sent may be there or not: send it again with the same id."""


def create_broker(bootstrap: str, client: str) -> KafkaBroker:
    """A FastStream broker whose defaults lose nothing.

    Idempotence is off on purpose: with it, aiokafka's batches never expire and a stop can hang while Kafka is
    away. aiokafka keeps one request a partition in flight, so that retries do not reorder, and every reader
    deduplicates.
    """
    return KafkaBroker(
        [host.strip() for host in bootstrap.split(",")],
        client_id=client,
        acks="all",
        enable_idempotence=False,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        metadata_max_age_ms=30_000,
        allow_auto_create_topics=False,
        linger_ms=2,
        max_batch_size=131_072,
        graceful_timeout=10,
        logger=_faststream_log,
        log_level=logging.DEBUG,
        apply_types=False,
    )


async def send(broker: KafkaBroker, records: Sequence[tuple[str, str, bytes]]) -> list[BaseException | None]:
    """Send (stream, key, value) records in order and wait for Kafka to have them.

    Returns, for each, None or why it is not known to be there.
    """
    futures: list[Any] = []
    headers = {"content-type": CONTENT_TYPE}
    for stream, key, value in records:
        try:
            futures.append(await broker.publish(value, stream, key=key.encode(), headers=headers, no_confirm=True))
        except (KafkaError, OSError) as error:
            futures.append(error)
    pending = [future for future in futures if isinstance(future, asyncio.Future)]
    if pending:
        await asyncio.wait(pending)
    return [future.exception() if isinstance(future, asyncio.Future) else future for future in futures]


async def send_all(broker: KafkaBroker, records: Sequence[tuple[str, str, bytes]]) -> None:
    """Send records, all or an error: raises KafkaUnavailable where one is not known to be in Kafka."""
    for outcome in await send(broker, records):
        if outcome is not None:
            raise KafkaUnavailable(f"{type(outcome).__name__}: {outcome}") from outcome


async def ensure_streams(
    bootstrap: str, partitions: int, replication: int, streams: Iterable[Stream] = STREAMS
) -> list[str]:
    """Create the Kafka topics that are missing, and return their names. Safe to run by several at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [stream for stream in streams if stream.name not in there]
        if not missing:
            return []
        response = await admin.create_topics(
            [NewTopic(s.name, partitions, replication, topic_configs=s.config()) for s in missing]
        )
        for topic, code, *_ in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise KafkaUnavailable(f"cannot create the Kafka topic {topic}: {error.__name__}")
        return [stream.name for stream in missing]
    finally:
        await admin.close()


async def cluster_id(bootstrap: str) -> str:
    """Kafka's own id of the cluster: offsets mean something only within it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        described = await admin.describe_cluster()
        return str(described["cluster_id"])
    finally:
        await admin.close()
