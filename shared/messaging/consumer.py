"""The one way to subscribe: a service says what it reads and what to do with a batch; the rest is here.

One transaction holds the fence, the service's work, its outgoing events and the new offset, so a record has its
effect exactly once, however often it comes and wherever the process dies. PostgreSQL is the truth for offsets;
Kafka gets a copy, for lag and autoscaling only.

The order of things, for each batch that FastStream hands over:

1. decode each record by itself; what is no event becomes a dead letter, an unknown type is counted and skipped;
2. lock and advance the fence rows of the batch's partitions, in order, and drop what lies below them;
3. let the service apply the rest, and write its outgoing events to the outbox;
4. commit.

A transient error rolls back, pauses every partition and fetches the same records again after a pause, while polling
goes on. An error that the data cause halves the batch until the guilty record is alone, and makes it a dead letter.

What comes in less than a batch is applied at once, and what comes meanwhile is the next batch. Where more waits, it
is applied in lanes, each of some partitions, one batch after the other: while one lane waits for PostgreSQL, another
decides. Within a lane nothing is applied behind what was not.
"""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeVar

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException, KafkaError, UnsupportedCodecError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from shared.contracts.catalogue import Stream
from shared.contracts.codec import Decoder, Undecodable, UnknownType, too_far_ahead
from shared.contracts.envelope import Event
from shared.messaging.outbox import SQL, Outbox, Transaction
from shared.observability import SpanKind, metrics, span
from shared.postgres import UNAVAILABLE, Pool

log = logging.getLogger(__name__)
T = TypeVar("T")

BEAT_SECONDS = 0.5
LANES = 4
MOST_WAITING = 4_000_000
"""Bytes that wait for their lanes: a run of one lane's partitions must not leave the others idle."""

LEAST_SIZE = 1000
"""Bytes that a record counts for at least."""

FETCHED_BYTES = 262_144
"""Of a partition at once: small against MOST_WAITING, so that what waits is of many partitions."""

DECODED_AT_ONCE = 25
"""Records, before another lane may go on. Not further ahead than they are needed: what is decoded is large."""

POISON_WINDOW, POISON_LIMIT = 500, 50
RETRY_SECONDS = (0.2, 15.0)
CAREFUL_MS = 1000
MOST_LINKS = 32

DATA_ERRORS = (
    asyncpg.DataError,
    asyncpg.exceptions.IntegrityConstraintViolationError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
)
"""What the data cause (SQLSTATE classes 22 and 23, and what our own code cannot digest): trying again cannot help."""


TRANSIENT = (*UNAVAILABLE, KafkaError, asyncpg.PostgresError)
"""While Kafka or PostgreSQL is away, or gives way to somebody else."""


class Overtaken(Exception):
    """What a batch was about to write for the first time, another transaction has: tried again, it sees that."""


@dataclass(slots=True)
class Record:
    """An event with where and when Kafka took it in."""

    event: Event
    stream: str
    partition: int
    offset: int
    appended_at: datetime


@dataclass(slots=True)
class DeadLetter:
    """A record that will be kept as it came; ``error`` says why it could not be applied."""

    stream: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    appended_at: datetime
    error: str

    def empty(self, why: str) -> None:
        """Keep only that there was something."""
        self.key, self.value, self.headers, self.error = None, None, [], why


@dataclass
class Batch:
    """Decoded events in the order of their partitions, inside the transaction that applies them."""

    transaction: Transaction
    records: list[Record]
    dead_letters: list[DeadLetter] = field(default_factory=list)
    more: Callable[[], bool] = lambda: False
    """Whether more is known to come after it, by now: at the commit of a backlog's last batch nothing is."""

    @cached_property
    def types(self) -> set[str]:
        """The types of its events."""
        return {record.event.type for record in self.records}


Apply = Callable[[Batch], Awaitable[None]]


@dataclass(slots=True)
class _Raw:
    """A record as it came, and what decoding made of it."""

    at: TopicPartition
    offset: int
    message: Any
    size: int
    appended_at: datetime
    event: Event | None = None
    error: str | None = None
    unknown: bool = False


@dataclass
class _Partition:
    """What this process knows of a partition that it holds. ``position`` is what it has applied up to."""

    position: int
    stopped: str | None = None
    committed: int = -1


@dataclass(eq=False)
class _Lane:
    """Some of the partitions, and what of them was fetched and is not applied yet, in order and without a gap."""

    waiting: deque[_Raw] = field(default_factory=deque)
    size: int = 0
    """Of what waits, in bytes."""
    rewound: int = 0
    """How often fetching has gone back to what is applied: what was fetched before that must not be applied."""
    work: asyncio.Task[None] | None = None
    failures: int = 0

    def put(self, raw: _Raw) -> None:
        """Let a record wait behind the others."""
        self.waiting.append(raw)
        self.size += raw.size

    def take(self, most: int) -> list[_Raw]:
        """The next ones, in order."""
        taken = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
        self.size -= sum([raw.size for raw in taken])
        return taken

    def rewind(self) -> None:
        """What waits will be fetched again, or belongs to somebody else by now."""
        self.waiting.clear()
        self.size = 0
        self.rewound += 1


@dataclass
class _State:
    partitions: dict[TopicPartition, _Partition] = field(default_factory=dict)
    generation: int = 0
    joined: bool = False
    outside_since: float = field(default_factory=time.monotonic)
    ever_joined: bool = False
    handling: bool = False
    failures: int = 0
    last_error: str = ""
    poisoned: bool = False
    last_beat: float = field(default_factory=time.monotonic)
    last_word: float = field(default_factory=time.monotonic)
    """When Kafka last told us anything."""


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """A service's subscription to its streams, in one consumer group named after the service."""

    def __init__(
        self,
        service: str,
        broker: KafkaBroker,
        cluster: str,
        pool: Pool,
        outbox: Outbox,
        streams: Sequence[Stream],
        apply: Apply,
        batch_records: int = 500,
    ) -> None:
        self._service, self._cluster, self._pool, self._outbox, self._apply = service, cluster, pool, outbox, apply
        self._streams = [stream.name for stream in streams]
        self._decoders = {stream.name: Decoder(stream) for stream in streams}
        self._state = _State()
        self._recent: deque[bool] = deque(maxlen=POISON_WINDOW)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._batch_records = batch_records
        self._lanes = [_Lane() for _ in range(LANES)]
        self._moved = asyncio.Event()
        """Set when a lane has taken a batch, or has ended."""
        self._subscriber = broker.subscriber(
            *self._streams,
            batch=True,
            group_id=f"constellation-{service}",
            max_records=batch_records,
            max_partition_fetch_bytes=FETCHED_BYTES,
            batch_timeout_ms=50,
            fetch_max_wait_ms=250,
            heartbeat_interval_ms=500,
            session_timeout_ms=10_000,
            auto_offset_reset="none",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
            ack_policy=AckPolicy.MANUAL,
            listener=self,
            parser=_keep_raw,
            decoder=_keep_body,
        )
        self._subscriber(self._handle)

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep ``caught_up_at`` and Kafka's copy of the offsets, until cancelled. The broker runs the batches."""
        while True:
            try:
                await self._beat()
            except Exception as error:
                # Whatever it is, the next one may go through; `problems` tells when none does for long.
                log.info("no heartbeat: %s: %s", type(error).__name__, error)
            await asyncio.sleep(BEAT_SECONDS)

    @property
    def started(self) -> bool:
        """Whether it has a client of Kafka."""
        return self._kafka is not None

    @property
    def joined(self) -> bool:
        """Whether this member has its share of the partitions."""
        return self._state.joined

    async def close(self) -> None:
        """Let go of background work; call before the broker stops."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problems(self) -> list[str]:
        """Why this consumer does not keep up, in plain words; empty when it does."""
        state, found = self._state, []
        if state.poisoned:
            found.append(
                f"stopped: {POISON_LIMIT} of the last {POISON_WINDOW} records could not be applied. That is a wrong "
                f"deployment, not wrong data: look at `stars dead-letters list {self._service}`, mend, start again"
            )
        found += [f"{at.topic}-{at.partition}: {p.stopped}" for at, p in state.partitions.items() if p.stopped]
        if self._failures >= 3:
            found.append(f"a batch has failed {self._failures} times and is tried again: {state.last_error}")
        outside = time.monotonic() - state.outside_since
        if not state.joined and (outside > 10 or not state.ever_joined):
            found.append(f"not in the consumer group for {outside:.0f} s")
        silent = time.monotonic() - state.last_beat
        if silent > 15:
            found.append(f"no word from Kafka and PostgreSQL for {silent:.0f} s")
        return found

    def silent_for(self) -> float:
        """For how many seconds Kafka has told this consumer nothing that it asked for."""
        state = self._state
        return time.monotonic() - (state.last_word if state.joined else max(state.last_word, state.outside_since))

    # --- assignment ---------------------------------------------------------------------------------------------

    @property
    def _kafka(self) -> Any:
        return self._subscriber.consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Another replica may own them at any moment; a batch in hand is fenced, not interrupted."""
        self._state.generation += 1
        for at in revoked:
            metrics.CONSUMER_LAG.forget(service=self._service, stream=at.topic, partition=str(at.partition))
        self._state.partitions = {}
        self._forget_what_waits()
        self._state.joined, self._state.outside_since = False, time.monotonic()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pause, load our offsets, seek, resume: fetching begins before this is called, so pausing comes first."""
        self._kafka.getmany = self._fetch
        self._state.generation += 1
        self._state.partitions = {}
        self._forget_what_waits()
        self._state.joined = self._state.ever_joined = True
        if not assigned or self._closing:
            return  # there are more members than partitions, or this one is about to leave
        self._kafka.pause(*assigned)
        for at in assigned:
            self._kafka.seek(at, 0)
        try:
            await self._enter(assigned)
        except TRANSIENT as error:
            self._failed(error)
            self._spawn(self._enter_later(assigned, self._state.generation))

    def _forget_what_waits(self) -> None:
        """Whoever owns the partitions now fetches it from what is applied."""
        for lane in self._lanes:
            lane.rewind()

    async def _enter_later(self, assigned: set[TopicPartition], generation: int) -> None:
        while generation == self._state.generation:
            await asyncio.sleep(self._pause_seconds())
            try:
                return await self._enter(assigned)
            except TRANSIENT as error:
                self._failed(error)

    async def _enter(self, assigned: set[TopicPartition]) -> None:
        generation = self._state.generation
        # Rows for every partition, not only ours: the clock must know of those that nobody reads yet.
        known = [
            TopicPartition(stream, partition)
            for stream in self._streams
            for partition in self._kafka.partitions_for_topic(stream) or ()
        ]
        await self._pool.execute(SQL.ensure_offsets, self._cluster, *_columns(known))
        begins = await self._kafka.beginning_offsets(list(assigned))
        rows = await self._pool.fetch(SQL.load_offsets, self._cluster, *_columns(assigned))
        ends = await self._kafka.end_offsets(list(assigned))
        stored_at = {TopicPartition(row["stream"], row["partition"]): row["next_offset"] for row in rows}
        # Nothing was ever read: begin where the log does.
        fresh = {at: begins[at] for at, stored in stored_at.items() if stored == 0 < begins[at]}
        if fresh:
            await self._pool.execute(SQL.advance_offsets, self._cluster, *_columns(fresh), list(fresh.values()))
        if generation != self._state.generation:
            return
        for at, stored in (stored_at | fresh).items():
            partition = _Partition(stored)
            if begins[at] > stored:
                partition.stopped = (
                    f"Kafka's log begins at {begins[at]}, we have applied up to {stored}: what lies between is lost to "
                    f"Kafka. Restore it, or accept the gap: UPDATE {self._service}.consumer_offset SET next_offset = "
                    f"{begins[at]} WHERE stream = '{at.topic}' AND partition = {at.partition}, and start again"
                )
            elif ends[at] < stored:
                partition.stopped = (
                    f"Kafka's log ends at {ends[at]}, we have applied up to {stored}: the topic was made anew or lost "
                    f"data. If made anew, set next_offset to 0 in {self._service}.consumer_offset, then start again"
                )
            self._state.partitions[at] = partition
            if not partition.stopped:
                self._kafka.seek(at, partition.position)
        self._state.failures = 0
        for lane in self._lanes:
            lane.failures = 0
        self._resume()

    def _resume(self) -> None:
        """Fetch again from every partition that we hold and that is not stopped."""
        if self._state.poisoned:
            return
        held = self._kafka.assignment()
        going = [at for at, one in self._state.partitions.items() if not one.stopped and at in held]
        if going:
            self._kafka.resume(*going)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- fetching -----------------------------------------------------------------------------------------------

    async def _fetch(self, *, timeout_ms: int, max_records: int | None) -> dict[TopicPartition, list[Any]]:
        """aiokafka's ``getmany``, with nothing lost where something cannot be read.

        When a record cannot be decompressed or taken apart, aiokafka throws away what it had taken from the other
        partitions, and their positions have moved on all the same.
        """
        try:
            return await self._read((), timeout_ms, max_records)
        except Exception as error:
            if not _is_unreadable(error):
                raise
            log.warning("Kafka holds something that cannot be read: %s: %s", type(error).__name__, error)
            return await self._read_carefully()

    async def _read(self, only: Sequence[TopicPartition], timeout_ms: int, most: int | None) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = await AIOKafkaConsumer.getmany(
            self._kafka, *only, timeout_ms=timeout_ms, max_records=most
        )
        return found

    async def _read_carefully(self) -> dict[TopicPartition, list[Any]]:
        """Find the partition with what cannot be read, and return what lies before it; where nothing does, stop it.

        All begins again from what is applied, so whatever is returned here may come once more, below the fence.
        """
        state, generation = self._state, self._state.generation
        # Positions run ahead of what is applied: the heartbeat must not believe them.
        state.handling = True
        found: dict[TopicPartition, list[Any]] = {}
        try:
            for at in self._rewind(self._lanes):
                if generation != state.generation:
                    break
                partition = state.partitions[at]
                if partition.stopped or (self._kafka.highwater(at) or 0) <= partition.position:
                    continue
                if await self._can_be_read(at):
                    continue
                self._rewind(self._lanes)
                records, error = await self._up_to_unreadable(at)
                if generation != state.generation:
                    break
                if records:
                    found = {at: records}
                elif error is not None:
                    self._stop_at(at, error)
                break
        finally:
            if generation == state.generation:
                self._rewind(self._lanes)
            # Else `_handle` is what comes next, and does the same.
            state.handling = bool(found)
        return found

    async def _can_be_read(self, at: TopicPartition) -> bool:
        try:
            await self._read([at], CAREFUL_MS, self._batch_records)
        except Exception as error:
            if not _is_unreadable(error):
                raise
            return False
        return True

    async def _up_to_unreadable(self, at: TopicPartition) -> tuple[list[Any], Exception | None]:
        """What lies before it, one at a time: aiokafka would lose the rest of several with it."""
        records: list[Any] = []
        while len(records) < self._batch_records:
            try:
                one = await self._read([at], CAREFUL_MS, 1)
            except Exception as error:
                if not _is_unreadable(error):
                    raise
                return records, error
            if not one:
                break
            records += one[at]
        return records, None

    def _stop_at(self, at: TopicPartition, error: Exception) -> None:
        if (partition := self._state.partitions.get(at)) is None:
            return
        partition.stopped = (
            f"Kafka's log cannot be read from offset {partition.position} on: {type(error).__name__}: {error}. Mend "
            f"it, or accept the gap: set next_offset beyond it in {self._service}.consumer_offset, and start again"
        )
        log.error("consumer of %s: %s-%s: %s", self._service, at.topic, at.partition, partition.stopped)
        self._kafka.pause(at)

    # --- batches ------------------------------------------------------------------------------------------------

    async def _handle(self, messages: tuple[Any, ...]) -> None:
        """One batch from FastStream. Must not raise: FastStream would go on after it."""
        state = self._state
        # No await lies between the fetch and this line: Kafka's position runs ahead of what is applied from here on.
        state.handling = True
        try:
            ours = self._ours(messages)
            is_all = len(ours) < self._batch_records and not self._more_waits(ours)
            for raw in ours:
                self._lane_of(raw.at).put(raw)
            if is_all and not any(lane.work for lane in self._lanes):
                await self._apply_batch(self._lanes)
            else:
                await self._apply_in_lanes(is_all)
        except Exception as error:
            self._failed(error, self._lanes)
            self._again_later(self._lanes, state.generation)
        finally:
            state.handling = False

    async def _apply_in_lanes(self, is_all: bool) -> None:
        """Set them to work, and wait until there is room for more; where there is no more yet, until all is applied."""
        for lane in self._lanes:
            if lane.waiting and not lane.work:
                lane.work = self._spawn(self._work(lane))
        while any(lane.work for lane in self._lanes):
            has_room = sum(lane.size for lane in self._lanes) < MOST_WAITING
            if not is_all and has_room and any(len(lane.waiting) < self._batch_records for lane in self._lanes):
                return await asyncio.sleep(0)  # the lanes begin, before more is fetched
            self._moved.clear()
            await self._moved.wait()

    async def _work(self, lane: _Lane) -> None:
        try:
            while lane.waiting and not self._closing:
                await self._apply_batch([lane])
        finally:
            lane.work = None
            self._moved.set()

    async def _apply_batch(self, lanes: list[_Lane]) -> None:
        """Apply what waits in these lanes, a batch at most; never raises."""
        state, generation = self._state, self._state.generation
        raws = [raw for lane in lanes for raw in lane.take(self._batch_records)]
        self._moved.set()
        if not raws or state.poisoned or self._closing:
            return
        started = time.perf_counter()
        try:
            # Whatever becomes of the partitions meanwhile, it was fetched from here.
            begun = {at: state.partitions[at].position for at in {raw.at for raw in raws}}
            await self._decode(raws)
            with self._span(raws):
                await self._apply_or_halve(raws, generation, begun)
            for lane in lanes:
                lane.failures = 0
        except Exception as error:
            self._failed(error, lanes)
            self._again_later(lanes, generation)
        finally:
            metrics.BATCH_SECONDS.labels(self._service).observe(time.perf_counter() - started)
            metrics.BATCH_EVENTS.labels(self._service).observe(len(raws))

    def _more_waits(self, raws: list[_Raw]) -> bool:
        """Whether Kafka has more of these partitions for us, as far as it has told."""
        ends, held = {raw.at: raw.offset + 1 for raw in raws}, self._kafka.assignment()
        return any((self._kafka.highwater(at) or 0) > end for at, end in ends.items() if at in held)

    def _more_comes(self, raws: list[_Raw]) -> bool:
        """Whether anything will be applied after these, as far as is known."""
        own = self._lane_of(raws[0].at)
        others_work = any(lane.work for lane in self._lanes if lane is not own)
        return others_work or any(lane.waiting for lane in self._lanes) or self._more_waits(raws)

    def _lane_of(self, at: TopicPartition) -> _Lane:
        return self._lanes[int(at.partition) % LANES]

    @property
    def _is_ahead(self) -> bool:
        """Whether something was fetched that is not applied yet."""
        return self._state.handling or any(lane.waiting or lane.work for lane in self._lanes)

    def _ours(self, messages: tuple[Any, ...]) -> list[_Raw]:
        """What lies in partitions that we hold and that are not stopped. A batch holds each partition's in a row."""
        found: list[_Raw] = []
        at = TopicPartition("", -1)
        partition: _Partition | None = None
        timestamp, appended_at = -1, datetime.fromtimestamp(0, UTC)
        for message in messages:
            if message.partition != at.partition or message.topic != at.topic:
                at = TopicPartition(message.topic, message.partition)
                partition = self._state.partitions.get(at)
            if partition is not None and not partition.stopped:
                if message.timestamp != timestamp:  # all that Kafka took in together have the same
                    timestamp = message.timestamp
                    appended_at = datetime.fromtimestamp(timestamp / 1000, UTC)
                size = max(LEAST_SIZE, len(message.value or b""))
                found.append(_Raw(at, message.offset, message, size, appended_at))
        return found

    def _span(self, raws: list[_Raw]) -> contextlib.AbstractContextManager[Any]:
        """A batch that serves one trace continues it; one that serves several is linked to some of them."""
        traces = {raw.event.traceparent: None for raw in raws if raw.event and raw.event.traceparent}
        only = next(iter(traces)) if len(traces) == 1 else None
        links = () if only else tuple(islice(traces, MOST_LINKS))
        return span(
            f"{self._service} apply",
            only,
            SpanKind.CONSUMER,
            {"messaging.system": "kafka", "messaging.batch.message_count": len(raws)},
            links=links,
        )

    async def _decode(self, raws: list[_Raw]) -> None:
        for n, raw in enumerate(raws, 1):
            if n % DECODED_AT_ONCE == 0 and any(lane.work for lane in self._lanes):
                await asyncio.sleep(0)
            value = raw.message.value
            if value is None:
                raw.unknown = True  # a tombstone: nothing to read, and nothing wrong
                continue
            try:
                event = self._decoders[raw.at.topic].decode(value)
            except UnknownType:
                raw.unknown = True
            except Undecodable as error:
                raw.error = str(error)
            else:
                if too_far_ahead(event.time, raw.appended_at):
                    raw.error = f"time: {event.time.isoformat()} is more than 5 minutes after Kafka took it in"
                else:
                    raw.event = event

    async def _apply_or_halve(self, raws: list[_Raw], generation: int, begun: dict[TopicPartition, int]) -> None:
        """``begun`` is what each partition was applied up to when the first of these was, and moves on with them."""
        try:
            await self._apply_once(raws, generation, begun)
        except DATA_ERRORS as error:
            if len(raws) > 1:
                middle = len(raws) // 2
                rewound = [(lane, lane.rewound) for lane in self._lanes]
                await self._apply_or_halve(raws[:middle], generation, begun)
                gone = [lane for lane, before in rewound if lane.rewound != before]
                rest = [raw for raw in raws[middle:] if self._lane_of(raw.at) not in gone]
                if rest:
                    await self._apply_or_halve(rest, generation, begun)
                return
            log.warning(
                "a record cannot be applied, it goes to the dead letters",
                extra={"stream": raws[0].at.topic, "partition": raws[0].at.partition, "offset": raws[0].offset},
                exc_info=error,
            )
            raws[0].error = f"{type(error).__name__}: {error}"
            raws[0].event = None
            await self._apply_once(raws, generation, begun)

    async def _apply_once(self, raws: list[_Raw], generation: int, begun: dict[TopicPartition, int]) -> None:
        """One transaction: fence, work, outbox."""
        state = self._state
        ends: dict[TopicPartition, int] = {}
        for raw in raws:
            ends[raw.at] = raw.offset + 1
        counts: dict[tuple[str, str, str], int] = {}
        async with self._pool.acquire() as connection:
            async with connection.transaction():
                # A partition that another owner moved on meanwhile lies above, unless it was set back.
                columns = (*_columns(ends), [begun[at] for at in ends], list(ends.values()))
                stored = {
                    TopicPartition(row["stream"], row["partition"]): row["next_offset"]
                    for row in await connection.fetch(SQL.take_offsets, self._cluster, *columns)
                }
                behind = {at for at in ends if at not in stored or begun[at] > stored[at]}
                records: list[Record] = []
                dead: list[DeadLetter] = []
                at = fence = None
                for raw in raws:
                    if raw.at is not at:  # those of a partition come in a row
                        at = raw.at
                        fence = None if at in behind else stored[at]
                    if fence is None:
                        continue
                    if raw.offset < fence:
                        outcome = "below_fence"
                    elif raw.unknown:
                        outcome = "unknown"
                    elif raw.event is None:
                        outcome = "dead_lettered"
                        dead.append(_dead_letter(raw))
                    else:
                        outcome = "applied"
                        records.append(Record(raw.event, at.topic, at.partition, raw.offset, raw.appended_at))
                    name = raw.event.type if raw.event else "?"
                    counts[at.topic, name, outcome] = counts.get((at.topic, name, outcome), 0) + 1
                transaction = Transaction(connection, self._outbox.source)
                if records or dead:
                    await self._apply(Batch(transaction, records, dead, partial(self._more_comes, raws)))
                if dead:
                    await connection.execute(SQL.write_dead_letters, self._cluster, *_dead_columns(dead))
                if await transaction.write_outbox():
                    transaction.after_commit(self._outbox.written.set)
        transaction.committed()
        for (stream, name, outcome), n in counts.items():
            metrics.CONSUMED_EVENTS.labels(self._service, stream, name, outcome).inc(n)
        begun |= {at: max(end, stored[at]) for at, end in ends.items() if at not in behind}
        for at in ends if generation == state.generation else ():
            if at in behind:
                await self._seek_to_stored(at)
            else:
                state.partitions[at].position = begun[at]
        self._watch_for_poison(len(records), len(dead))

    async def _seek_to_stored(self, at: TopicPartition) -> None:
        """The stored offset went back (a rebuild): read again from there."""
        row = await self._pool.fetchrow(SQL.load_offsets, self._cluster, [at.topic], [at.partition])
        partition = self._state.partitions.get(at)
        if row is not None and partition is not None:
            partition.position = row["next_offset"]
            self._rewind([self._lane_of(at)])

    def _watch_for_poison(self, good: int, bad: int) -> None:
        self._recent.extend([False] * good + [True] * bad)
        if bad and sum(self._recent) >= POISON_LIMIT:
            self._state.poisoned = True
            log.error("consumer of %s: %s", self._service, self.problems()[0])
            self._kafka.pause(*self._state.partitions)

    @property
    def _failures(self) -> int:
        """How often in a row the batch that is worst off has failed, or entering."""
        return max(self._state.failures, *(lane.failures for lane in self._lanes))

    def _failed(self, error: Exception, lanes: Sequence[_Lane] = ()) -> None:
        if not lanes:
            self._state.failures += 1
        for lane in lanes:
            lane.failures += 1
        self._state.last_error = type(error).__name__
        metrics.BATCH_RETRIES.labels(self._service).inc()
        level = logging.WARNING if self._failures < 10 else logging.ERROR
        log.log(level, "a batch failed and is tried again: %s", error, exc_info=error)

    def _pause_seconds(self) -> float:
        first, longest = RETRY_SECONDS
        backoff: float = min(longest, first * 2 ** min(self._failures, 10))
        return backoff * random.uniform(0.5, 1)  # noqa: S311

    def _again_later(self, lanes: Sequence[_Lane], generation: int) -> None:
        """Fetch the same records again after a pause. Polling goes on meanwhile, so the group keeps us."""
        if generation != self._state.generation:
            return
        self._kafka.pause(*self._rewind(lanes))

        async def resume() -> None:
            await asyncio.sleep(self._pause_seconds())
            if generation == self._state.generation:
                self._resume()

        self._spawn(resume())

    def _rewind(self, lanes: Sequence[_Lane]) -> list[TopicPartition]:
        """Fetch these lanes' partitions from what of them is applied. Returns those that we hold."""
        for lane in lanes:
            lane.rewind()
        assigned = self._kafka.assignment()
        held = [at for at in self._state.partitions if at in assigned and self._lane_of(at) in lanes]
        for at in held:
            if not self._state.partitions[at].stopped:
                self._kafka.seek(at, self._state.partitions[at].position)
        return held

    # --- heartbeat ----------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Write how far each held partition is known to be read to its end, and copy the offsets to Kafka."""
        state, kafka = self._state, self._kafka
        held = [at for at, one in state.partitions.items() if not one.stopped]
        if kafka is None or not held:
            await self._pool.fetchval("SELECT 1")
            if state.joined:
                state.last_word = time.monotonic()  # nothing to ask for
            state.last_beat = time.monotonic()
            return
        generation = state.generation
        # First the instant, then the log's end: whatever was in the log at that instant lies before this end.
        now: datetime = await self._pool.fetchval("SELECT clock_timestamp()")
        ends = await kafka.end_offsets(held)
        state.last_word = time.monotonic()
        positions: dict[TopicPartition, int] = {}
        if not self._is_ahead and self._failures == 0 and not state.poisoned:
            for at in held:
                positions[at] = await kafka.position(at)
                if self._is_ahead or generation != state.generation:
                    positions = {}
                    break
        applied = {at: state.partitions[at].position for at in held if at in state.partitions}
        rows = await self._pool.fetch(
            SQL.write_caught_up,
            self._cluster,
            *_columns(held),
            [ends[at] for at in held],
            [positions.get(at) for at in held],
            now,
            [applied.get(at, 0) for at in held],
        )
        state.last_beat = time.monotonic()
        if generation != state.generation:
            return
        changed = {}
        for row in rows:
            at = TopicPartition(row["stream"], row["partition"])
            if (partition := state.partitions.get(at)) is None:
                continue
            if row["next_offset"] >= ends[at]:
                metrics.CONSUMER_LAG.since(
                    now.timestamp(), service=self._service, stream=at.topic, partition=str(at.partition)
                )
            if row["next_offset"] != partition.committed:
                changed[at] = row["next_offset"]
            if row["next_offset"] < applied.get(at, 0) and not self._is_ahead:
                await self._seek_to_stored(at)
        if changed:
            with contextlib.suppress(KafkaError):
                await kafka.commit(changed)
                for at, offset in changed.items():
                    if at in state.partitions:
                        state.partitions[at].committed = offset


async def _keep_raw(message: tuple[Any, ...]) -> KafkaMessage:
    """A parser that cannot fail: FastStream's own decodes headers, and one bad byte would lose a whole batch."""
    return KafkaMessage(body=message, raw_message=message, consumer=None)  # type: ignore[arg-type]


async def _keep_body(message: KafkaMessage) -> Any:
    return message.raw_message


def _is_unreadable(error: Exception) -> bool:
    """Whether bytes in Kafka are to blame: aiokafka's decoders raise what they meet, such as a UnicodeDecodeError."""
    if isinstance(error, KafkaError):
        return isinstance(error, (UnsupportedCodecError, CorruptRecordException))
    return not isinstance(error, (ConsumerStoppedError, OSError))


def _columns(partitions: Any) -> tuple[list[str], list[int]]:
    ordered = list(partitions)
    return [at.topic for at in ordered], [at.partition for at in ordered]


def _dead_letter(raw: _Raw) -> DeadLetter:
    message = raw.message
    return DeadLetter(
        raw.at.topic,
        raw.at.partition,
        raw.offset,
        message.key,
        message.value,
        list(message.headers),
        raw.appended_at,
        raw.error or "",
    )


def _dead_columns(dead: list[DeadLetter]) -> list[list[Any]]:
    return [
        [one.stream for one in dead],
        [one.partition for one in dead],
        [one.offset for one in dead],
        [one.key for one in dead],
        [one.value for one in dead],
        [_headers(one) for one in dead],
        [one.appended_at for one in dead],
        [one.error[:2000].replace("\x00", "␀") for one in dead],
    ]


def _headers(dead: DeadLetter) -> str:
    """Header values are bytes; Latin-1 writes any of them down, with Ā for NUL, which PostgreSQL's JSON cannot hold."""
    return json.dumps(
        [
            [name.replace("\0", "Ā"), None if value is None else value.decode("latin-1").replace("\0", "Ā")]
            for name, value in dead.headers
        ]
    )
