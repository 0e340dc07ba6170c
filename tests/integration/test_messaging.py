"""Messaging against real Kafka and PostgreSQL: the promises that a service relies on without a line of its own."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from shared import messaging
from shared.contracts import topics as events
from shared.contracts.catalogue import FORUM, TOPICS
from shared.messaging import Batch, Messaging, Outbox, Outgoing, dead_letters
from shared.messaging.dead_letters import DeadLetters
from shared.messaging.erasure import forget
from shared.messaging.kafka import KafkaUnavailable, ensure_streams
from shared.messaging.producer import Producer
from shared.postgres import create_pool, migrate
from shared.postgres.pool import connect
from shared.runtime import Runtime
from shared.settings import Settings
from tests.infrastructure import Running

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
_numbers = iter(range(10_000))


def event(topic_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e{next(_numbers)}",
        "source": "/test",
        "type": "topic-closed",
        "time": NOW.isoformat(),
        "data": {"topic_id": topic_id},
    } | changes


class World:
    """One service's messaging with a handler of the test's own, on a schema of its own."""

    def __init__(self, kafka: str, dsn: str, service: str) -> None:
        self.service, self.dsn, self.kafka = service, dsn, kafka
        self.applied: list[str] = []
        self.before: Callable[[Batch], Awaitable[None]] | None = None
        self.settings = Settings(kafka=kafka, postgres=dsn, partitions=3, batch_records=50)
        self.messaging: Messaging

    async def apply(self, batch: Batch) -> None:
        if self.before:
            await self.before(batch)
        for record in batch.records:
            await batch.transaction.connection.execute(
                "INSERT INTO effect (topic_id) VALUES ($1)", record.event.data.topic_id
            )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.pool = create_pool(self.dsn, self.service, 5)
        await self.pool
        self.outbox = Outbox(self.pool, self.service)
        self.messaging = Messaging(self.service, self.settings, self.pool, self.outbox)
        task = asyncio.create_task(self.messaging.run([FORUM], self.apply))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.pool.close()

    async def send(self, *values: Any, key: str = "k", headers: Any = None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        for value in values:
            data = json.dumps(value).encode() if isinstance(value, dict) else value
            await producer.send_and_wait("forum.events", data, key=key.encode(), headers=headers)
        await producer.stop()

    async def query(self, sql: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": self.service})
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def effects(self) -> list[str]:
        return [row["topic_id"] for row in await self.query("SELECT topic_id FROM effect ORDER BY n")]

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 45) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not await condition():
            assert asyncio.get_running_loop().time() < end, f"not within {seconds} s: {self.messaging.problems()}"
            await asyncio.sleep(0.05)

    async def settled(self) -> None:
        """Everything that is in the stream now was read."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
        await consumer.start()
        ends = await consumer.end_offsets([TopicPartition("forum.events", n) for n in range(3)])
        await consumer.stop()

        async def done() -> bool:
            rows = await self.query("SELECT partition, next_offset FROM consumer_offset WHERE stream = 'forum.events'")
            read = {row["partition"]: row["next_offset"] for row in rows}
            return all(read.get(at.partition, 0) >= end for at, end in ends.items())

        await self.until(done)


@pytest.fixture
async def world(infrastructure: Running, database: str) -> World:
    service = f"s{next(_numbers)}"
    await ensure_streams(infrastructure.kafka, 3, 1)
    await migrate(database, service, [messaging.MIGRATIONS])
    connection = await asyncpg.connect(database)
    await connection.execute(f"SET ROLE stars_{service}; SET search_path TO {service}")
    await connection.execute("CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, topic_id text)")
    await connection.close()
    return World(infrastructure.kafka, database, service)


async def test_a_new_service_reads_history_from_the_beginning_and_a_restart_applies_nothing_twice(world: World) -> None:
    first, second = f"a{next(_numbers)}", f"b{next(_numbers)}"
    await world.send(event(first))
    async with world.running():
        await world.settled()
    await world.send(event(second))
    async with world.running():
        await world.settled()
    effects = await world.effects()
    assert effects.count(first) == effects.count(second) == 1


async def test_a_poison_record_goes_to_the_dead_letters_alone_with_its_reason(world: World) -> None:
    good, late = f"good{next(_numbers)}", f"late{next(_numbers)}"
    future = (datetime.now(UTC) + timedelta(days=365 * 70)).isoformat()
    async with world.running():
        await world.send(
            event(good),
            b'{"specversion": "1.0", "truncated',
            b"\xff\xfe not UTF-8",
            event("wrong type", data={"topic_id": 7}),
            event("x", type="member-erased", data={"member_id": "ada"}),
            event("x", type="no-such-type"),
            event("nul", data={"topic_id": "a\x00b"}),
            event("x", time=future),
            b"[" * 50_000,
            headers=[("content-type", b"\xff\xfe")],
        )
        await world.send(None, event(late))
        await world.settled()
    effects = await world.effects()
    assert effects.count(good) == effects.count(late) == 1
    errors = [row["error"] for row in await world.query("SELECT error FROM dead_letter ORDER BY id")]
    mine = errors[-7:]
    assert [
        bool(word in error)
        for word, error in zip(
            ["JSON", "JSON", "topic_id", "does not belong", "topic_id", "5 minutes", "JSON"], mine, strict=True
        )
    ] == [True] * 7, mine


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_a_forum_may_compress_what_it_writes_to_kafka_itself(world: World, codec: str) -> None:
    name = f"packed{next(_numbers)}"
    producer = AIOKafkaProducer(bootstrap_servers=world.kafka, compression_type=codec)
    await producer.start()
    await producer.send_and_wait("forum.events", json.dumps(event(name)).encode(), key=b"k")
    await producer.stop()
    async with world.running():
        await world.settled()
    assert (await world.effects()).count(name) == 1


async def test_what_cannot_be_read_stops_its_partition_alone_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a header name in broken UTF-8 does, or a damaged batch: aiokafka raises while it drains what it fetched."""
    broken = f"broken{next(_numbers)}"
    readable = PartitionRecords._consumer_record

    def read(self: Any, at: TopicPartition, record: Any) -> Any:
        if broken.encode() in (record.value or b""):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return readable(self, at, record)

    monkeypatch.setattr(PartitionRecords, "_consumer_record", read)
    before, behind = ([f"{where}{next(_numbers)}" for _ in range(6)] for where in ("before", "behind"))
    later = f"later{next(_numbers)}"
    async with world.running():
        await world.settled()
    producer = AIOKafkaProducer(bootstrap_servers=world.kafka)
    await producer.start()

    async def put(partition: int, *names: str) -> int:
        for name in names:
            sent = await producer.send_and_wait("forum.events", json.dumps(event(name)).encode(), partition=partition)
        return int(sent.offset)

    await put(0, *before[:2])
    await put(1, *before[2:4])
    guilty = await put(2, *before[4:], broken)
    await put(2, *behind)
    async with world.running():

        async def says_so() -> bool:
            return any("cannot be read" in problem for problem in world.messaging.problems())

        await world.until(says_so, 60)
        await put(0, later)

        async def is_applied() -> bool:
            return later in await world.effects()

        await world.until(is_applied)
        await asyncio.sleep(2)  # several heartbeats
        found = [name for name in await world.effects() if name in {*before, *behind, broken, later}]
        assert sorted(found) == sorted([*before, later])
        fence = "SELECT next_offset FROM consumer_offset WHERE stream = 'forum.events' AND partition = 2"
        assert [row["next_offset"] for row in await world.query(fence)] == [guilty]
        assert any(f"offset {guilty}" in problem for problem in world.messaging.problems())
    await producer.stop()
    monkeypatch.undo()
    async with world.running():
        await world.settled()
    found = [name for name in await world.effects() if name in {*before, *behind, broken, later}]
    assert sorted(found) == sorted([*before, *behind, broken, later])


async def test_an_offset_that_is_set_back_while_a_rebalance_meets_a_batch_is_read_again(world: World) -> None:
    names, late = [f"q{next(_numbers)}" for _ in range(30)], f"late{next(_numbers)}"
    entered, go_on = asyncio.Event(), asyncio.Event()
    async with world.running():
        await world.send(*(event(name) for name in names))
        await world.settled()
        consumer = world.messaging._consumer
        assert consumer
        decode = consumer._decode

        async def slowly(raws: Any) -> None:
            await decode(raws)
            if any(raw.event and raw.event.data.topic_id == late for raw in raws) and not go_on.is_set():
                entered.set()
                await go_on.wait()

        consumer._decode = slowly  # type: ignore[method-assign]
        await world.send(event(late))
        await entered.wait()
        await world.query("UPDATE consumer_offset SET next_offset = 0")
        held = set(consumer._state.partitions)
        await consumer.on_partitions_revoked(held)
        go_on.set()
        await asyncio.sleep(0.5)
        await consumer.on_partitions_assigned(held)

        async def is_read_again() -> bool:
            effects = await world.effects()
            return all(effects.count(name) == 2 for name in names)

        await world.until(is_read_again)


async def test_data_that_the_database_refuses_is_found_by_halving_and_the_rest_is_applied(world: World) -> None:
    names = [f"h{next(_numbers)}" for _ in range(40)]
    guilty = names[17]

    async def refuse(batch: Batch) -> None:
        if any(record.event.data.topic_id == guilty for record in batch.records):
            await batch.transaction.connection.execute("SELECT 1 / 0")

    world.before = refuse
    await world.send(*(event(name) for name in names))
    async with world.running():
        await world.settled()
    effects = [name for name in await world.effects() if name in names]
    assert sorted(effects) == sorted(set(names) - {guilty})
    rows = await world.query("SELECT value, error FROM dead_letter WHERE error LIKE '%division by zero'")
    assert [json.loads(row["value"])["data"]["topic_id"] for row in rows] == [guilty]
    assert "division by zero" in rows[0]["error"]


async def test_a_transient_error_is_tried_again_and_loses_nothing(world: World) -> None:
    names = [f"t{next(_numbers)}" for _ in range(30)]
    failures = 0

    async def fail_three_times(batch: Batch) -> None:
        nonlocal failures
        if failures < 3 and any(record.event.data.topic_id in names for record in batch.records):
            failures += 1
            raise asyncpg.DeadlockDetectedError("for the test")

    world.before = fail_three_times
    async with world.running():
        await world.send(*(event(name) for name in names))
        await world.settled()
    assert failures == 3
    assert [name for name in await world.effects() if name in names] == names


async def test_caught_up_at_moves_on_a_quiet_stream_and_over_the_end_of_a_transaction(world: World) -> None:
    async with world.running():
        producer = AIOKafkaProducer(bootstrap_servers=world.kafka, transactional_id=f"tx{next(_numbers)}")
        await producer.start()
        async with producer.transaction():
            await producer.send("forum.events", json.dumps(event("tx")).encode(), key=b"tx")
        await producer.stop()
        await world.settled()
        now = datetime.now(UTC)

        async def caught_up() -> bool:
            rows = await world.query("SELECT caught_up_at FROM consumer_offset WHERE stream = 'forum.events'")
            return len(rows) == 3 and all(row["caught_up_at"] and row["caught_up_at"] > now for row in rows)

        await world.until(caught_up)
        assert world.messaging.problems() == []


async def test_a_log_that_ends_before_what_was_applied_stops_the_partition_and_says_what_to_do(world: World) -> None:
    async with world.running():
        await world.settled()
    await world.query("UPDATE consumer_offset SET next_offset = 1000000 WHERE partition = 1")
    async with world.running():

        async def stopped() -> bool:
            return any(
                "forum.events-1" in problem and "set next_offset" in problem for problem in world.messaging.problems()
            )

        await world.until(stopped)
        name = f"other{next(_numbers)}"
        for n in range(12):
            await world.send(event(name), key=f"key{n}")

        async def others_go_on() -> bool:
            return name in await world.effects()

        await world.until(others_go_on)


async def test_what_a_batch_publishes_reaches_kafka_once_in_sequence_and_not_at_all_if_it_rolls_back(
    world: World,
) -> None:
    topic = f"out{next(_numbers)}"
    rolled_back = 0

    async def publish(batch: Batch) -> None:
        nonlocal rolled_back
        for record in batch.records:
            if record.event.data.topic_id == topic:
                data = events.TargetBreachedData(topic_id=topic, due_at=NOW)
                batch.transaction.publish(Outgoing(TOPICS, events.TargetBreached, data, NOW))
        if rolled_back < 2 and any(record.event.data.topic_id == topic for record in batch.records):
            rolled_back += 1
            raise asyncpg.SerializationError("for the test")

    world.before = publish
    async with world.running():
        await world.send(event(topic), event(topic), event(topic))
        await world.settled()

        async def relayed() -> bool:
            return not await world.query("SELECT FROM outbox")

        await world.until(relayed)
    consumer = AIOKafkaConsumer(
        "topics.events", bootstrap_servers=world.kafka, auto_offset_reset="earliest", consumer_timeout_ms=1000
    )
    await consumer.start()
    found = []
    while batch := await consumer.getmany(timeout_ms=1500):
        found += [record for records in batch.values() for record in records if record.key == topic.encode()]
    await consumer.stop()
    envelopes = [json.loads(record.value) for record in found]
    assert [envelope["sequence"] for envelope in envelopes] == [1, 2, 3]
    assert len({(envelope["source"], envelope["id"]) for envelope in envelopes}) == 3
    assert dict(found[0].headers)["content-type"] == b"application/cloudevents+json"


async def test_who_is_called_after_the_commit_finds_what_was_written(world: World) -> None:
    topic = f"after{next(_numbers)}"
    called, looks = 0, []

    async def look() -> int:
        return (await world.effects()).count(topic)

    def call() -> None:
        nonlocal called
        called += 1
        looks.append(asyncio.create_task(look()))

    async def ask(batch: Batch) -> None:
        if all(record.event.data.topic_id != topic for record in batch.records):
            return
        batch.transaction.after_commit(call)
        if len(tries) < 2:
            tries.append(batch)
            raise asyncpg.SerializationError("for the test")

    tries: list[Batch] = []
    world.before = ask
    async with world.running():
        await world.send(event(topic))
        await world.settled()
    assert len(tries) == 2
    assert await asyncio.gather(*looks) == [1], "called once, and not for what was undone"


async def test_only_the_last_batch_of_a_backlog_says_that_no_more_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.messaging.consumer.FETCHED_BYTES", 8_000)
    name = f"m{next(_numbers)}"
    sent, seen = 900, 0
    said: list[bool] = []

    async def ask(batch: Batch) -> None:
        if ours := sum(record.event.data.topic_id.startswith(name) for record in batch.records):
            await asyncio.sleep(random.uniform(0, 0.01))
            more = batch.more
            batch.transaction.after_commit(lambda: note(ours, more()))

    def note(count: int, more: bool) -> None:
        nonlocal seen
        seen += count
        said.append(more)

    async def is_all() -> bool:
        return seen == sent

    producer = AIOKafkaProducer(bootstrap_servers=world.kafka)
    await producer.start()
    for n in range(sent):
        await producer.send("forum.events", json.dumps(event(f"{name}/{n}")).encode(), key=str(n % 7).encode())
    await producer.stop()
    world.before = ask
    async with world.running():
        await world.until(is_all)
    assert said[-1] is False
    assert said.count(False) < len(said) / 2, said


async def test_a_batch_that_outlives_its_partitions_is_committed_and_says_that_no_more_comes(world: World) -> None:
    names, said, late = [f"o{next(_numbers)}" for _ in range(12)], [], asyncio.Event()

    async def outlive(batch: Batch) -> None:
        consumer = world.messaging._consumer
        assert consumer
        if not late.is_set() and any(record.event.data.topic_id in names for record in batch.records):
            late.set()
            await world.until(partial(lost, consumer))
            more = batch.more
            batch.transaction.after_commit(lambda: said.append(more()))

    async def lost(consumer: Any) -> bool:
        return 0 < len(consumer._kafka.assignment()) < 3

    async def is_said() -> bool:
        return bool(said)

    for n, name in enumerate(names):
        await world.send(event(name), key=str(n))
    world.before = outlive
    async with world.running():
        await late.wait()
        other = AIOKafkaConsumer(
            "forum.events",
            bootstrap_servers=world.kafka,
            group_id=f"constellation-{world.service}",
            enable_auto_commit=False,
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        await other.start()
        try:
            await world.until(is_said)
        finally:
            await other.stop()
        await world.settled()
        assert world.messaging._consumer
        assert world.messaging._consumer._failures == 0
    assert sorted(name for name in await world.effects() if name in names) == sorted(names)


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_of_a_backlog_is_lost_doubled_or_out_of_order_whatever_fails_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("shared.messaging.consumer.RETRY_SECONDS", (0.005, 0.02))
    monkeypatch.setattr("shared.messaging.consumer.FETCHED_BYTES", 8_000)
    rng, name = random.Random(seed), f"b{next(_numbers)}"
    sent = [f"{name}/{n % 7}/{n:04d}" for n in range(2100)]
    bad = set(rng.sample(sent, 12))
    together = most_together = 0

    async def stumble(batch: Batch) -> None:
        nonlocal together, most_together
        together += 1
        most_together = max(together, most_together)
        try:
            await asyncio.sleep(rng.uniform(0, 0.01))
            dice = rng.random()
            if dice < 0.1:
                raise asyncpg.SerializationError("gives way")
            if dice < 0.13:
                await batch.transaction.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            if any(record.event.data.topic_id in bad for record in batch.records):
                raise ValueError("cannot be digested")
        finally:
            together -= 1

    producer = AIOKafkaProducer(bootstrap_servers=world.kafka)
    await producer.start()
    for one in sent:
        await producer.send("forum.events", json.dumps(event(one)).encode(), key=one.split("/")[1].encode())
    await producer.stop()
    world.before = stumble
    async with world.running():
        await world.settled()
    effects = [one for one in await world.effects() if one.startswith(name)]
    assert Counter(effects) == Counter(set(sent) - bad)
    for key in range(7):
        of_key = [one for one in effects if one.startswith(f"{name}/{key}/")]
        assert of_key == sorted(of_key)
    letters = [row["value"].decode(errors="replace") for row in await world.query("SELECT value FROM dead_letter")]
    assert {one for one in sent if any(f'"{one}"' in letter for letter in letters)} == bad
    assert most_together > 1, "lanes work side by side"


@pytest.mark.parametrize("pause", [0.0, 1.5])
async def test_an_offset_that_was_set_back_is_read_again_from_there(world: World, pause: float) -> None:
    name = f"again{next(_numbers)}"
    async with world.running():
        await world.send(event(name))
        await world.settled()
        await world.query("UPDATE consumer_offset SET next_offset = 0")
        await asyncio.sleep(pause)  # a heartbeat must not move it forward again
        await world.send(event("later"))

        async def twice() -> bool:
            return (await world.effects()).count(name) == 2

        await world.until(twice)


async def test_a_client_that_waits_for_ever_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.messaging.runtime.STUCK_SECONDS", 1.0)
    monkeypatch.setattr("shared.messaging.runtime.LOOK_SECONDS", 0.2)
    async with world.running():
        before, after = f"t{next(_numbers)}", f"t{next(_numbers)}"
        await world.send(event(before))
        await world.settled()
        # What happens to aiokafka when the task that fetches metadata is gone: nobody will ever resolve this.
        stuck = world.messaging._consumer
        assert stuck
        client = stuck._kafka._client
        client._md_update_fut = asyncio.get_running_loop().create_future()
        client._sync_task.cancel()

        async def is_another() -> bool:
            return stuck is not world.messaging._consumer

        await world.until(is_another, 120)
        await world.send(event(after))
        await world.settled()
        assert (await world.effects()).count(after) == 1


async def test_a_producer_that_waits_for_ever_is_made_anew_and_who_waits_for_it_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.messaging.runtime.STUCK_SECONDS", 1.0)
    monkeypatch.setattr("shared.messaging.runtime.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("shared.messaging.runtime.STOP_SECONDS", 2)
    record = [("forum.events", "k", json.dumps(event(f"t{next(_numbers)}")).encode())]
    async with world.running():
        await world.settled()
        stuck = world.messaging._producer
        assert stuck
        await stuck.send_all(record)
        client = stuck._producer.client
        client._sync_task.cancel()
        client._md_update_fut = asyncio.get_running_loop().create_future()
        client.cluster.leader_for_partition = lambda at: -1
        with pytest.raises(KafkaUnavailable):
            await asyncio.wait_for(world.messaging.send_all(record), 60)

        async def is_another() -> bool:
            return world.messaging._producer not in (stuck, None)

        await world.until(is_another, 30)
        await world.messaging.send_all(record)


async def test_a_process_that_only_sends_is_watched_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.messaging.runtime.LOOK_SECONDS", 0.05)
    pool = create_pool(world.dsn, world.service, 2)
    await pool
    messaging = Messaging(world.service, world.settings, pool, Outbox(pool, world.service))
    task = asyncio.create_task(messaging.run())
    await asyncio.sleep(2)
    assert not task.done()
    assert messaging.problems() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await pool.close()


async def test_many_callers_at_once_on_one_topic_all_get_through(infrastructure: Running) -> None:
    await ensure_streams(infrastructure.kafka, 3, 1)
    producer = Producer(infrastructure.kafka, "test")
    await producer.start()
    try:
        record = ("forum.events", f"hot{next(_numbers)}", json.dumps(event("hot")).encode())
        outcomes = await asyncio.gather(*(producer.send([record] * 5) for _ in range(400)))
        assert {type(one) for some in outcomes for one in some} == {type(None)}
        too_large = await producer.send([record, ("forum.events", "large", b"x" * 3_000_000), record])
        assert [one is None for one in too_large] == [True, False, True]
    finally:
        await producer.stop()


async def _keep(connection: asyncpg.Connection, *letters: tuple[bytes | None, bytes | None]) -> list[int]:
    """Dead letters of these keys and values; returns their ids."""
    return [
        await connection.fetchval(
            'INSERT INTO dead_letter (cluster, stream, partition, "offset", key, value, headers, appended_at, error)'
            " VALUES ('c', 'forum.events', 0, $1, $2, $3, '[]', now(), 'for the test') RETURNING id",
            next(_numbers),
            key,
            value,
        )
        for key, value in letters
    ]


async def test_an_erasure_empties_the_dead_letters_that_name_the_member_however_they_write_the_id(world: World) -> None:
    erased = {"42": "erased:1", "josé": "erased:2", "a/b": "erased:3", "ada": "erased:4", 'q"q': "erased:5"}
    naming = [
        (b"t", b'{"data": {"author_id": 42}}'),
        (b"t", b'{"data": {"author_id": [42]}}'),
        (b"t", b'{"data": {"author_id": "jos\\u00E9"}}'),
        (b"t", '{"data": {"author_id": "josé"}}'.encode()),
        (b"t", b'{"data": {"author_id": "a\\/b"}}'),
        (b"t", b'{"data": {"author_id": "ad\\u0061"}}'),
        (b"t", b'{"data": {"author_id": "ada", "author_id": 7}}'),
        (b"t", b'{"ada": "' + b"x" * 500 + b'"}'),
        (b"t", '{"author_id": "ada"}'.encode("utf-16")),
        (b"t", b'{"data": {"author_id": "ada", "titl'),
        (b"t", b'{"data": {"author_id": "ad\\u0061", "title": "a \\"word\\"'),
        (b"t", b'{"data": {"author_id": "q\\"q", "titl'),
        (b"t", b'{"data": {"author_id" : 42, "titl'),
        (b"t", b'it\'s 5" long: {"author_id": "ada"}'),
        (b"t", b'\xff {"author_id": "ada"}'),
        (b"t", b"[" * 50_000 + b'"ada"'),
        ("josé".encode(), b"{}"),
        (b'"ada"', b"{}"),
        (b"42", None),
    ]
    others = [
        (b"t", b'{"data": {"author_id": 421, "title": "Ada writes to \\"adam\\" at 00:42"}}'),
        (b"t", b'{"data": {"author_id": "adam", "at": "10:42", "titl'),
        (b"adam", None),
    ]
    connection = await connect(world.dsn, world.service)
    empty, kept = await _keep(connection, *naming), await _keep(connection, *others)
    async with connection.transaction():
        await forget(connection, erased)
    rows = await connection.fetch("SELECT * FROM dead_letter ORDER BY id")
    await connection.close()
    assert [row["id"] for row in rows] == empty + kept
    assert [naming[n] for n, row in enumerate(rows[: len(empty)]) if (row["key"], row["value"]) != (None, None)] == []
    assert [(row["key"], row["value"]) for row in rows[len(empty) :]] == others


async def test_a_replay_that_breaks_off_keeps_what_it_has_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "AT_ONCE", 2, raising=False)
    send, sent = AIOKafkaProducer.send, []

    async def give_up_at_the_fifth(self: AIOKafkaProducer, *record: Any, **more: Any) -> Any:
        if len(sent) == 4:
            raise KafkaTimeoutError
        sent.append(record)
        return await send(self, *record, **more)

    connection = await connect(world.dsn, world.service)
    names = [f"replayed{next(_numbers)}" for _ in range(5)]
    ids = await _keep(connection, *[(None, json.dumps(event(name)).encode()) for name in names])
    monkeypatch.setattr(AIOKafkaProducer, "send", give_up_at_the_fifth)
    with pytest.raises(KafkaTimeoutError):
        await DeadLetters(connection).replay(ids, world.kafka)
    assert await DeadLetters(connection).ids() == ids[4:]
    monkeypatch.undo()
    assert await DeadLetters(connection).replay(ids, world.kafka) == 1
    await connection.close()
    async with world.running():
        await world.settled()
    assert sorted(name for name in await world.effects() if name in names) == sorted(names)


async def test_a_replay_of_many_letters_never_idles_in_one_transaction_while_kafka_is_slow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "AT_ONCE", 2, raising=False)
    send = AIOKafkaProducer.send

    async def slowly(self: AIOKafkaProducer, *record: Any, **more: Any) -> Any:
        await asyncio.sleep(0.4)
        return await send(self, *record, **more)

    monkeypatch.setattr(AIOKafkaProducer, "send", slowly)
    connection = await connect(world.dsn, world.service)
    await connection.execute("SET idle_in_transaction_session_timeout = '2s'")
    ids = await _keep(connection, *[(None, json.dumps(event(f"slow{n}")).encode()) for n in range(8)])
    assert await DeadLetters(connection).replay(ids, world.kafka) == 8
    assert await DeadLetters(connection).ids() == []
    await connection.close()


async def test_a_replay_without_kafka_leaves_no_producer_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, stopped = AIOKafkaProducer.stop, []

    async def recorded(self: AIOKafkaProducer) -> None:
        await stop(self)
        stopped.append(self)

    monkeypatch.setattr(AIOKafkaProducer, "stop", recorded)
    connection = await connect(world.dsn, world.service)
    with pytest.raises(KafkaConnectionError):
        await DeadLetters(connection).replay([1], "127.0.0.1:1")
    await connection.close()
    assert len(stopped) == 1


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        ("postgres", ["PostgreSQL does not answer (PostgresUnavailable)"]),
        ("kafka", ["Kafka does not answer (KafkaConnectionError)", "fail died (RuntimeError)"]),
    ],
)
async def test_why_a_service_is_not_ready_names_no_host_which_the_log_does(
    world: World, caplog: pytest.LogCaptureFixture, away: str, expected: list[str]
) -> None:
    async def fail() -> None:
        raise RuntimeError("postgresql://stars:hunter2@db")

    nobody = {"postgres": "postgresql://stars:hunter2@127.0.0.1:9/stars", "kafka": "127.0.0.1:9"}[away]
    settings = world.settings.model_copy(update={away: nobody})
    runtime = Runtime(world.service, settings, [messaging.MIGRATIONS])
    end = asyncio.get_running_loop().time() + 15
    said = ""
    async with runtime.running(tasks=[fail]):
        while not all(problem in said for problem in expected):
            assert asyncio.get_running_loop().time() < end, said
            await asyncio.sleep(0.1)
            said = " ".join(await runtime.problems())
    assert "127.0.0.1" not in said
    assert "hunter2" not in said
    assert "127.0.0.1" in " ".join(record.getMessage() for record in caplog.records if "does not answer" in record.msg)
