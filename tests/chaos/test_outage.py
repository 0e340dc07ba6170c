"""A six-hour outage: what became due in it is told afterwards, unless what waits in Kafka makes it untrue."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from tests.chaos.world import Watched, World
from tests.oracle.envelopes import Event
from tests.oracle.figures import SECOND, micros

HOURS = timedelta(hours=6)
LEAD = 9.0
BACKLOG = 3000
SLOWLY = {"STARS_BATCH_RECORDS": "5"}
"""So small batches that the clock looks several times while the backlog is read."""
ENDS = ("answer", "closed", "answer", "deleted", "answer", "merge", "answer", "discussion")


async def test_an_answer_that_waits_in_kafka_keeps_the_clock_silent(world: World, rounds: int) -> None:
    [replica] = await world.begin()
    for _ in range(rounds):
        asked, ends = await _ask_what_will_be_due(world)
        long_ago, more_ends = await _ask_what_was_due(world)
        await world.settle_reading()
        assert min(one.due for one in asked) > micros(datetime.now(UTC)), "the service took too long to read them"
        replica.kill()
        world.survived.note("outages")
        world.moved |= await _move_back(world, long_ago)
        # The answers come last, behind so much else that the clock has time to go wrong.
        await world.send(world.life.more(BACKLOG))
        await world.send(ends + more_ends)
        await world.send(world.life.rest())
        assert min(one.due for one in asked) > micros(datetime.now(UTC)), "Kafka took too long to take them"
        await asyncio.sleep(max(one.due for one in asked) / SECOND - time.time() + 0.5)
        await world.ground.bury()
        replica.start(**SLOWLY)
        # And it dies once more, while it catches up.
        await replica.ready()
        await asyncio.sleep(world.rng.uniform(0.5, 1.5))
        replica.kill()
        await world.ground.bury()
        replica.start(**SLOWLY)
        await replica.ready()
        await world.settle()
        assert await replica.stop() == 0
        replica.start()
        await replica.ready()
    await world.compare()


async def _ask_what_will_be_due(world: World) -> tuple[list[Watched], list[Event]]:
    """Questions that reach a stage in some seconds, when the service is down."""
    asked, ends = [], []
    for stage in ("new", "stalled", "warning", "breached"):
        more, silencing = await world.watch(stage, 24, LEAD, ENDS)
        asked += more
        ends += silencing
    return asked, ends


async def _ask_what_was_due(world: World) -> tuple[list[Watched], list[Event]]:
    """Questions that reached a stage at some time in the last six hours."""
    asked, ends = [], []
    for stage in ("warning", "breached"):
        for _ in range(12):
            lead = -world.rng.uniform(60, HOURS.total_seconds() - 60)
            more, silencing = await world.watch(stage, 2, lead, ENDS)
            asked += more
            ends += silencing
    return asked, ends


async def _move_back(world: World, asked: list[Watched]) -> dict[str, int]:
    """Let the service have stopped six hours ago, and these questions be known to it since before that.

    Nothing else tells the hours: Kafka's and PostgreSQL's clocks cannot be turned. Returns since when it knows each.
    """
    had = datetime.now(UTC) - HOURS - timedelta(minutes=30)
    ids = [one.topic_id for one in asked]
    due = [datetime.fromtimestamp(one.due / SECOND, UTC) for one in asked]
    connection = await world.ground.connect()
    try:
        async with connection.transaction():
            await connection.execute("UPDATE topic SET appended_at = $1 WHERE topic_id = ANY($2)", had, ids)
            await connection.execute(
                "UPDATE topic_state SET appended_at = $1, next_at = given.due"
                " FROM unnest($2::text[], $3::timestamptz[]) AS given (id, due) WHERE topic_id = given.id",
                had,
                ids,
                due,
            )
            await connection.execute("UPDATE consumer_offset SET caught_up_at = caught_up_at - $1::interval", HOURS)
            waiting = await connection.fetchval(
                "SELECT count(*) FROM topic_state WHERE topic_id = ANY($1) AND waiting", ids
            )
    finally:
        await connection.close()
    assert waiting == len(asked)
    assert all(one.due > micros(had) for one in asked)
    world.survived.note("hours moved", HOURS.total_seconds() // 3600)
    return {topic_id: micros(had) for topic_id in ids}
