"""Kill -9 of the service, of Kafka and of PostgreSQL, at random moments and under load."""

from __future__ import annotations

import asyncio

from tests.chaos.world import World

KILLS_A_ROUND = 4


async def test_a_service_that_is_killed_again_and_again_loses_and_repeats_nothing(world: World, rounds: int) -> None:
    [replica] = await world.begin()
    async with world.load():
        for round_ in range(rounds):
            await watch_all(world, lead=8)
            for kill in range(KILLS_A_ROUND):
                await world.in_full_swing()
                replica.kill()
                world.survived.note("kills of the service")
                # Now and then the group is left to find out by itself, which takes it ten seconds.
                if kill or round_ % 3 == 0:
                    await world.ground.bury()
                replica.start()
                # In one of three cases it dies before it is ready.
                if world.rng.random() < 0.67:
                    await replica.ready()
                else:
                    await asyncio.sleep(world.rng.uniform(0, 2.5))
        await replica.ready()
    await world.compare()


async def test_kafka_may_die_and_come_back(world: World, rounds: int) -> None:
    [replica] = await world.begin()
    async with world.load():
        for _ in range(rounds):
            await watch_all(world, lead=8)
            await world.in_full_swing()
            world.ground.kafka.kill()
            world.survived.note("kills of Kafka")
            await asyncio.sleep(world.rng.uniform(0, 2))
            assert await world.ground.kafka.start() == world.ground.servers
            await asyncio.sleep(world.rng.uniform(1, 4))
    assert replica.runs
    await world.compare()


async def test_postgres_may_die_and_come_back(world: World, rounds: int) -> None:
    [replica] = await world.begin()
    async with world.load():
        for _ in range(2 * rounds):
            await watch_all(world, lead=6)
            await world.in_full_swing()
            world.ground.postgres.kill()
            world.survived.note("kills of PostgreSQL")
            await asyncio.sleep(world.rng.uniform(0, 1))
            assert await world.ground.postgres.start() == world.ground.dsn
            await asyncio.sleep(world.rng.uniform(1, 3))
    assert replica.runs
    await world.compare()


async def watch_all(world: World, lead: float) -> None:
    """Questions of every stage that come due while things break; half of them are answered in time."""
    for stage in ("new", "stalled", "warning", "breached"):
        _, answers = await world.watch(stage, 6, lead)
        await world.send(answers)
