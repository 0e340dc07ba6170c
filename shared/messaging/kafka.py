"""Kafka as every process uses it: a broker for subscriptions, topics made from the catalogue."""

import logging
from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts
from aiokafka.errors import KafkaConfigurationError, TopicAlreadyExistsError, for_code
from faststream.kafka import KafkaBroker

from shared.contracts.catalogue import STREAMS, Stream

REQUEST_TIMEOUT_MS = 15_000

# Both say as warnings and errors what is meant (topics are made by us) or mends itself in a moment (a coordinator that
# is still being elected). What matters is in `problems()` and on /readyz.
_faststream_log = logging.getLogger("faststream")
_faststream_log.addFilter(lambda record: record.levelno >= logging.ERROR)
logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.CRITICAL)


class KafkaUnavailable(Exception):
    """Kafka did not take a record in time. What was sent may be there or not: send it again with the same id."""


def hosts_of(bootstrap: str) -> list[str]:
    """The servers that STARS_KAFKA names. Raises KafkaConfigurationError where it is not host:port[,host:port]."""
    hosts = [host.strip() for host in bootstrap.split(",")]
    try:
        ports = [port for _, port, _ in collect_hosts(hosts)]
    except ValueError:
        ports = [0]
    if not all(0 < port < 65_536 for port in ports):
        raise KafkaConfigurationError(f"{bootstrap} is not host:port[,host:port]")
    return hosts


def create_broker(bootstrap: str, client: str) -> KafkaBroker:
    """A FastStream broker for subscriptions; `Producer` sends."""
    return KafkaBroker(
        hosts_of(bootstrap),
        client_id=client,
        consumer_only=True,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        metadata_max_age_ms=30_000,
        allow_auto_create_topics=False,
        graceful_timeout=10,
        logger=_faststream_log,
        log_level=logging.DEBUG,
        apply_types=False,
    )


async def ensure_streams(
    bootstrap: str, partitions: int, replication: int, streams: Iterable[Stream] = STREAMS
) -> list[str]:
    """Create the Kafka topics that are missing, and return their names. Safe to run by several at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts_of(bootstrap), request_timeout_ms=REQUEST_TIMEOUT_MS)
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
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts_of(bootstrap), request_timeout_ms=REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        described = await admin.describe_cluster()
        return str(described["cluster_id"])
    finally:
        await admin.close()
