"""Sending: records that are ready go out as whole batches, one a partition, in their order."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from shared.contracts.envelope import CONTENT_TYPE
from shared.messaging.kafka import REQUEST_TIMEOUT_MS, KafkaUnavailable, hosts_of

HEADERS = [("content-type", CONTENT_TYPE.encode())]
BATCH_BYTES = 262_144
METADATA_SECONDS = 30.0

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
            bootstrap_servers=hosts_of(bootstrap),
            client_id=client,
            acks="all",
            enable_idempotence=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=30_000,
            max_batch_size=BATCH_BYTES,
        )
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._failing_since: float | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self._producer.start()

    async def stop(self) -> None:
        """Let go. Whoever still waits learns that nothing is known of what they sent."""
        try:
            await self._producer.stop()
        finally:
            for lane in self._lanes.values():
                lane.give_up()

    async def send(self, records: Sequence[Outgoing]) -> list[BaseException | None]:
        """Send records and wait; returns, for each, None or why it is not known to be there."""
        try:
            async with asyncio.timeout(METADATA_SECONDS):
                partitions = {
                    stream: len(await self._producer.partitions_for(stream)) for stream in {one[0] for one in records}
                }
        except (KafkaError, OSError) as error:
            self._note(failed=True)
            return [error] * len(records)
        group = _Group(len(records))
        for n, (stream, key, value) in enumerate(records):
            self._lane(stream, _partition(encoded := key.encode(), partitions[stream])).put(encoded, value, group, n)
        outcomes = await group.outcomes()
        self._note(failed=bool(outcomes) and None not in outcomes)
        return outcomes

    def silent_for(self) -> float:
        """For how many seconds everything that was sent has failed, or a batch got no answer; 0 when all is well."""
        since = [self._failing_since, *(lane.sent_at for lane in self._lanes.values())]
        return max((time.monotonic() - instant for instant in since if instant is not None), default=0.0)

    def _note(self, *, failed: bool) -> None:
        if not failed:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = time.monotonic()

    def _lane(self, stream: str, partition: int) -> "_Lane":
        where = (stream, partition)
        if where not in self._lanes:
            self._lanes[where] = _Lane(self._producer, *where)
        return self._lanes[where]

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Send records, all or an error: raises KafkaUnavailable where one is not known to be in Kafka."""
        for outcome in await self.send(records):
            if outcome is not None:
                raise KafkaUnavailable(f"{type(outcome).__name__}: {outcome}") from outcome


@lru_cache(maxsize=1 << 16)
def _partition(key: bytes, partitions: int) -> int:
    """As Java's own partitioner. In Python it takes 2 µs, and a member's events come again and again."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class _Group:
    """What becomes of records that were sent together."""

    def __init__(self, size: int) -> None:
        self._found: list[BaseException | None] = [None] * size
        self._left = size
        self._all = asyncio.Event()

    def decide(self, n: int, error: BaseException | None) -> None:
        """Say what became of the Nth: None where it is known to be in Kafka."""
        self._found[n] = error
        self._left -= 1
        if not self._left:
            self._all.set()

    async def outcomes(self) -> list[BaseException | None]:
        """Wait until all is decided."""
        if self._left:
            await self._all.wait()
        return self._found


class _Lane:
    """One partition: one batch on its way; whatever comes meanwhile, from however many callers, is the next one.

    Never two at once: aiokafka's own queue for a second batch counts the time of waiting several times over, and gives
    up after a second where it was told fifteen.
    """

    def __init__(self, producer: AIOKafkaProducer, stream: str, partition: int) -> None:
        self._producer, self._stream, self._partition = producer, stream, partition
        self._waiting: deque[tuple[bytes, bytes, _Group, int]] = deque()
        self._on_board: list[tuple[_Group, int]] = []
        self._task: asyncio.Task[None] | None = None
        self.sent_at: float | None = None
        """Since when the batch that is on its way is (monotonic)."""

    def put(self, key: bytes, value: bytes, group: _Group, n: int) -> None:
        """Queue a record, the Nth of its group."""
        self._waiting.append((key, value, group, n))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def give_up(self) -> None:
        """Send nothing more, and say of all that is undecided that nothing is known."""
        if self._task is not None:
            self._task.cancel()
        undecided = [*self._on_board, *(one[2:] for one in self._waiting)]
        self._on_board, self.sent_at = [], None
        self._waiting.clear()
        for group, n in undecided:
            group.decide(n, KafkaUnavailable("the connection to Kafka was given up"))

    async def _run(self) -> None:
        while self._waiting:
            batch = self._producer.create_batch()
            on_board = self._on_board = []
            while self._waiting:
                key, value, group, n = self._waiting[0]
                if batch.append(timestamp=None, key=key, value=value, headers=HEADERS) is None:
                    break
                on_board.append((group, n))
                self._waiting.popleft()
            batch.close()
            error: BaseException | None = None
            if not on_board:
                # It does not even fit into a batch of its own.
                on_board, error = [self._waiting.popleft()[2:]], MessageSizeTooLargeError()
            else:
                self.sent_at = time.monotonic()
                try:
                    await (await self._producer.send_batch(batch, self._stream, partition=self._partition))
                except Exception as failed:
                    error = failed
            self._on_board, self.sent_at = [], None
            for group, n in on_board:
                group.decide(n, error)
