"""Two replicas: they join, die, are frozen for longer than their session, and come back as if nothing had been."""

from __future__ import annotations

import asyncio

from tests.chaos.test_crashes import watch_all
from tests.chaos.world import World

LONGER_THAN_A_SESSION = 11.5


async def test_replicas_may_join_die_and_come_back(world: World, rounds: int) -> None:
    first, second = world.ground.replica("first"), world.ground.replica("second")
    await world.begin("first")
    async with world.load():
        for _ in range(rounds):
            await watch_all(world, lead=12)
            second.start()
            await second.ready()
            world.survived.note("joins")
            await world.in_full_swing()
            first.kill()
            world.survived.note("kills of a replica")
            await asyncio.sleep(world.rng.uniform(0, 2))
            first.start()
            await first.ready()
            world.survived.note("joins")
            await asyncio.sleep(world.rng.uniform(0, 2))
            assert await second.stop() == 0
            world.survived.note("leaves")
        await first.ready()
    await world.compare()


async def test_a_zombie_does_no_harm(world: World, rounds: int) -> None:
    both = await world.begin("first", "second")
    async with world.load():
        for round_ in range(rounds):
            await watch_all(world, lead=6)
            await world.in_full_swing()
            zombie = both[round_ % 2]
            zombie.freeze()
            # Once in a while so long that PostgreSQL, too, gives up on it.
            await asyncio.sleep(LONGER_THAN_A_SESSION + (25 if round_ % 5 == 4 else 0))
            zombie.thaw()
            world.survived.note("zombies")
            await asyncio.sleep(world.rng.uniform(1, 3))
        for replica in both:
            await replica.ready()
    await world.compare()
