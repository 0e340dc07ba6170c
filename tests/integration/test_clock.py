"""The clock against real PostgreSQL: what is told, when, once, and never beyond what was read."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.topics.clock import Clock
from shared.forum.facts import SQL as FACTS_SQL
from tests.integration.engine import HOUR, Stage


@pytest.fixture
async def stage(topics_database: str) -> AsyncIterator[Stage]:
    async with Stage.on(topics_database) as stage:
        yield stage


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


async def test_the_clock_waits_while_somebody_is_erased_who_may_be_in_what_it_says(stage: Stage) -> None:
    await stage.ask("t", 5 * HOUR)
    async with stage.pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute(FACTS_SQL.exclusive_lock)
            ticking = asyncio.create_task(stage.tick())
            await asyncio.sleep(0.3)
            assert not ticking.done()
            assert await stage.told("t") == []
        await ticking
    assert await stage.told("t") == ["stalled"]
