"""What lies in Kafka, read as anybody who reads there would."""

import time

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.site import PATIENCE, Site


async def records_of(site: Site, stream: str, key: str | None = None, count: int = 0) -> list[bytes]:
    """The records of a stream up to its present end: of a KEY the values, at least COUNT of them; else all there is."""
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
        found: list[bytes] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            behind = [partition for partition in partitions if await consumer.position(partition) < ends[partition]]
            if not behind and (key is None or len(found) >= count):
                return found
            assert time.monotonic() < deadline, f"{stream}: {found}"
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    if key is None:
                        found.append(
                            b"\n".join((record.key or b"", record.value or b"", repr(record.headers).encode()))
                        )
                    elif record.key == key.encode():
                        found.append(record.value)
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
