"""The clock against real PostgreSQL: what is told, when, once, and never beyond what was read."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.topics.clock import Clock
from services.topics.consumer import TopicsConsumer
from shared.forum import Facts
from shared.messaging import Batch, Outbox, Record
from shared.postgres import Pool, create_pool
from tests.integration.engine import READER
from tests.oracle.cases import ERASURE_KEY

HOUR = timedelta(hours=1)


class Stage:
    """The topics service with a clock whose reading the test decides."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.outbox = Outbox(pool, "topics")
        self.cluster = uuid.uuid4().hex
        self.clock = Clock(self.outbox, lambda: self.cluster)
        self._consumer = TopicsConsumer(Facts(ERASURE_KEY, topics=True, stars=True))
        self._n = 0

    async def read_until(self, *instants: datetime | None) -> None:
        """Each partition of the forum's events is known to be read up to its instant."""
        await self.pool.execute("DELETE FROM consumer_offset WHERE cluster = $1", self.cluster)
        for partition, instant in enumerate(instants):
            await self.pool.execute(
                "INSERT INTO consumer_offset VALUES ($1, 'forum.events', $2, 0, $3)", self.cluster, partition, instant
            )

    async def happen(
        self, type_: str, topic_id: str, at: datetime, appended: datetime | None = None, **data: Any
    ) -> None:
        """An event that Kafka took in at ``appended`` (by default when it happened)."""
        self._n += 1
        backfill = data.pop("backfill", False)
        event = {
            "specversion": "1.0",
            "id": f"{self.cluster}{self._n}",
            "source": "/test",
            "type": type_,
            "time": at.isoformat(),
            "backfill": backfill,
            "data": {"topic_id": topic_id, **data},
        }
        async with self.outbox.transaction() as transaction:
            record = Record(READER.read(event), "forum.events", 0, self._n, appended or at)
            await self._consumer.apply(Batch(transaction, [record]))

    async def ask(self, topic_id: str, age: timedelta, **more: Any) -> None:
        at = datetime.now(UTC) - age
        data = {
            "author_id": "ada",
            "author_kind": "member",
            "title": "T",
            "space": "s",
            "tags": ["x"],
            "kind": "question",
        }
        await self.happen("topic-created", topic_id, at, **(data | more))

    async def tick(self) -> None:
        while await self.clock.tick():
            pass

    async def told(self, topic_id: str) -> list[str]:
        rows = await self.pool.fetch("SELECT value FROM outbox WHERE key = $1 ORDER BY id", topic_id)
        found = [json.loads(row["value"]) for row in rows]
        return [
            event["data"].get("stage", "breached")
            for event in found
            if event["type"] in ("answer-needed", "target-breached")
        ]


@pytest.fixture
async def stage(topics_database: str) -> AsyncIterator[Stage]:
    pool = create_pool(topics_database, "topics", 5)
    await pool
    stage = Stage(pool)
    await stage.read_until(datetime.now(UTC) + HOUR)
    yield stage
    await pool.execute("TRUNCATE topic, reply, acceptance, topic_state, told, claim, outbox, sequence")
    await pool.execute("DELETE FROM consumer_offset WHERE cluster = $1", stage.cluster)
    await pool.close()


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (timedelta(minutes=14), []),
        (timedelta(minutes=16), ["new"]),
        (5 * HOUR, ["stalled"]),
        (37 * HOUR, ["warning"]),
        (49 * HOUR, ["breached"]),
    ],
)
async def test_of_several_stages_due_at_once_only_the_highest_is_told(
    stage: Stage, age: timedelta, told: list[str]
) -> None:
    await stage.ask("t", age)
    await stage.tick()
    await stage.tick()
    assert await stage.told("t") == told


async def test_nothing_is_told_beyond_what_every_partition_was_read_to(stage: Stage) -> None:
    await stage.ask("t", 49 * HOUR)
    for instants in ([datetime.now(UTC) - 2 * HOUR, datetime.now(UTC)], [datetime.now(UTC), None], []):
        await stage.read_until(*instants)
        await stage.tick()
        assert "breached" not in await stage.told("t")
    await stage.read_until(datetime.now(UTC), datetime.now(UTC))
    await stage.tick()
    assert (await stage.told("t"))[-1] == "breached"


async def test_an_answer_that_waited_in_kafka_stops_every_stage(stage: Stage) -> None:
    await stage.ask("t", 47 * HOUR + timedelta(minutes=50))
    await stage.read_until(datetime.now(UTC) - 6 * HOUR)
    await stage.tick()
    before = await stage.told("t")
    answer = {"reply_id": "r", "author_id": "ben", "author_kind": "member", "visibility": "public"}
    await stage.happen("reply-posted", "t", datetime.now(UTC) - 5 * HOUR, **answer)
    await stage.read_until(datetime.now(UTC))
    await stage.tick()
    assert await stage.told("t") == before == ["warning"] or before == []


async def test_history_and_what_was_due_before_kafka_had_it_pass_silently(stage: Stage) -> None:
    await stage.ask("history", 49 * HOUR, backfill=True)
    await stage.ask("late", 5 * HOUR, appended=datetime.now(UTC))
    await stage.tick()
    assert await stage.told("history") == await stage.told("late") == []
    assert await stage.pool.fetchval("SELECT next_at FROM topic_state WHERE topic_id = 'history'") is None
    # Its warning is yet to come.
    assert await stage.pool.fetchval("SELECT next_at > now() FROM topic_state WHERE topic_id = 'late'")


@pytest.mark.parametrize("end", ["topic-closed", "topic-deleted"])
async def test_nothing_is_told_after_a_close_or_a_deletion(stage: Stage, end: str) -> None:
    await stage.ask("t", 5 * HOUR)
    await stage.happen(end, "t", datetime.now(UTC) - HOUR)
    await stage.tick()
    assert await stage.told("t") == []


async def test_a_revoked_answer_lets_the_stages_not_yet_told_go_on(stage: Stage) -> None:
    await stage.ask("t", 37 * HOUR)
    answer = {"reply_id": "r", "author_id": "ben", "author_kind": "member", "visibility": "public"}
    await stage.happen("reply-posted", "t", datetime.now(UTC) - 36 * HOUR, **answer)
    await stage.tick()
    assert await stage.told("t") == []
    await stage.happen("reply-deleted", "t", datetime.now(UTC), reply_id="r")
    await stage.tick()
    assert await stage.told("t") == ["warning"]
    await stage.happen("reply-restored", "t", datetime.now(UTC), reply_id="r")
    await stage.happen("reply-deleted", "t", datetime.now(UTC) + timedelta(seconds=1), reply_id="r")
    await stage.tick()
    assert await stage.told("t") == ["warning"]


async def test_two_replicas_tell_each_stage_once(stage: Stage) -> None:
    for n in range(60):
        await stage.ask(f"t{n}", 5 * HOUR)
    others = [Clock(stage.outbox, lambda: stage.cluster) for _ in range(3)]
    await asyncio.gather(*(clock.tick() for clock in [stage.clock, *others]))
    await stage.tick()
    assert [await stage.told(f"t{n}") for n in range(60)] == [["stalled"]] * 60


async def test_a_claim_stops_asking_but_not_the_warning_nor_the_breach(stage: Stage) -> None:
    await stage.ask("asking", 5 * HOUR)
    await stage.ask("warned", 37 * HOUR)
    for topic in ("asking", "warned"):
        await stage.pool.execute(
            "INSERT INTO claim (topic_id, member_id, claimed_at, until) VALUES ($1, 'ben', now(), now() + '4 h')", topic
        )
    await stage.tick()
    assert await stage.told("asking") == []
    assert await stage.told("warned") == ["warning"]
    await stage.pool.execute("UPDATE claim SET until = now() - interval '1 s' WHERE topic_id = 'asking'")
    await stage.pool.execute("UPDATE topic_state SET next_at = now() WHERE topic_id = 'asking'")
    await stage.tick()
    assert await stage.told("asking") == ["stalled"]
    kinds = await stage.pool.fetch("SELECT value FROM outbox WHERE key = 'asking'")
    assert "claim-released" in [json.loads(row["value"])["type"] for row in kinds]
