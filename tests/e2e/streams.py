"""What lies in Kafka, read as anybody who reads there would."""

import time

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.site import PATIENCE, Site


async def records_of(site: Site, stream: str, key: str | None = None, count: int = 0) -> list[bytes]:
    """The records of a stream up to its present end: of a KEY the values, at least COUNT of them; else all there is."""
    found = await _read(site, stream, key, count)
    if key is not None:
        return [record.value for record in found]
    return [b"\n".join((one.key or b"", one.value or b"", repr(one.headers).encode())) for one in found]


async def partitions_of(site: Site, stream: str, key: str) -> set[int]:
    """The partitions that hold records of a key: one, where all who write agree."""
    return {record.partition for record in await _read(site, stream, key, 1)}


async def _read(site: Site, stream: str, key: str | None, count: int) -> list[aiokafka.ConsumerRecord]:
    admin = AIOKafkaAdminClient(bootstrap_servers=site.info.kafka)
    await admin.start()
    try:
        described = await admin.describe_topics([stream])
    finally:
        await admin.close()
    partitions = [aiokafka.TopicPartition(stream, one["partition"]) for one in described[0]["partitions"]]
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=site.info.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[aiokafka.ConsumerRecord] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            behind = [partition for partition in partitions if await consumer.position(partition) < ends[partition]]
            if not behind and (key is None or len(found) >= count):
                return found
            assert time.monotonic() < deadline, f"{stream}: {found}"
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record for record in records if key is None or record.key == key.encode()]
    finally:
        await consumer.stop()


async def write_raw(site: Site, *records: tuple[str, str, bytes]) -> None:
    """Write (stream, key, value) past the HTTP door, as a forum with its own access to Kafka could."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=site.info.kafka, acks="all")
    await producer.start()
    try:
        for stream, key, value in records:
            await producer.send_and_wait(stream, value, key=key.encode())
    finally:
        await producer.stop()
