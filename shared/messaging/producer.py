"""Sending: records that are ready go out as whole batches, one a partition, in their order."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from shared.contracts.envelope import CONTENT_TYPE
from shared.messaging.kafka import REQUEST_TIMEOUT_MS, KafkaUnavailable

HEADERS = [("content-type", CONTENT_TYPE.encode())]
BATCH_BYTES = 262_144

Outgoing = tuple[str, str, bytes]
"""A stream, a key, a value."""


class Producer:
    """Takes records to Kafka with acks=all, and says of each whether it is known to be there.

    Whole batches are handed to aiokafka: a record at a time costs five times as much. Idempotence is off on purpose:
    with it, batches never expire and a stop can hang while Kafka is away. aiokafka keeps one request a partition in
    flight, so that retries do not reorder, and every reader deduplicates.
    """

    def __init__(self, bootstrap: str, client: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=[host.strip() for host in bootstrap.split(",")],
            client_id=client,
            acks="all",
            enable_idempotence=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=30_000,
            max_batch_size=BATCH_BYTES,
        )
        self._partitioner = DefaultPartitioner()  # murmur2, as Java's

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self._producer.start()

    async def stop(self) -> None:
        """Let go."""
        await self._producer.stop()

    async def send(self, records: Sequence[Outgoing]) -> list[BaseException | None]:
        """Send records and wait; returns, for each, None or why it is not known to be there."""
        outcomes: list[BaseException | None] = [None] * len(records)
        try:
            partitions = {stream: sorted(await self._producer.partitions_for(stream)) for stream, _, _ in records}
        except (KafkaError, OSError) as error:
            return [error] * len(records)
        by_partition: dict[tuple[str, int], list[int]] = {}
        keys = [key.encode() for _, key, _ in records]
        for n, (stream, _, _) in enumerate(records):
            partition = self._partitioner(keys[n], partitions[stream], partitions[stream])
            by_partition.setdefault((stream, partition), []).append(n)

        async def send_partition(stream: str, partition: int, numbers: list[int]) -> None:
            at = 0
            while at < len(numbers):
                builder = self._producer.create_batch()
                first = at
                while at < len(numbers):
                    n = numbers[at]
                    if not self._append(builder, keys[n], records[n][2]):
                        break
                    at += 1
                builder.close()
                try:
                    await (await self._producer.send_batch(builder, stream, partition=partition))
                except (KafkaError, OSError) as error:
                    # What follows would overtake what failed.
                    for n in numbers[first:]:
                        outcomes[n] = error
                    return

        await asyncio.gather(*(send_partition(*where, numbers) for where, numbers in by_partition.items()))
        return outcomes

    @staticmethod
    def _append(builder: Any, key: bytes, value: bytes) -> bool:
        return builder.append(timestamp=None, key=key, value=value, headers=HEADERS) is not None

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Send records, all or an error: raises KafkaUnavailable where one is not known to be in Kafka."""
        for outcome in await self.send(records):
            if outcome is not None:
                raise KafkaUnavailable(f"{type(outcome).__name__}: {outcome}") from outcome
