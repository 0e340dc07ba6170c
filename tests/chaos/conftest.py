"""Chaos: one Kafka and one PostgreSQL for all of these tests, and an oracle that knows all that was ever told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deploy.infrastructure import InfrastructureError
from tests.chaos.ground import Ground
from tests.chaos.world import World

SECONDS_OF_A_ROUND = 150


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long to go on, and with which luck."""
    parser.addoption("--chaos-rounds", type=int, default=1, help="how often each chaos test breaks what it breaks")
    parser.addoption("--chaos-seed", type=int, default=1, help="the seed of what is told and when things break")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """More rounds may take longer."""
    seconds = 180 + SECONDS_OF_A_ROUND * config.getoption("--chaos-rounds", 1)
    for item in items:
        if "tests/chaos/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture(scope="session")
def rounds(pytestconfig: pytest.Config) -> int:
    """How often each test breaks what it breaks."""
    count: int = pytestconfig.getoption("--chaos-rounds", 1)
    return count


@pytest.fixture(scope="package")
async def worlds(pytestconfig: pytest.Config) -> AsyncIterator[list[World]]:
    """The worlds that were, the present one last."""
    made: list[World] = []
    yield made
    for world in made:
        await _end(world)


@pytest.fixture
async def world(worlds: list[World], pytestconfig: pytest.Config) -> World:
    """The world that the last test left; another where that found something wrong."""
    if not worlds or not worlds[-1].sound:
        if worlds:
            await _end(worlds.pop())
        ground = Ground()
        try:
            await ground.start()
        except InfrastructureError as error:
            await ground.stop()
            pytest.skip(f"chaos needs an embedded Kafka and PostgreSQL of its own: {error}")
        worlds.append(World(ground, pytestconfig.getoption("--chaos-seed", 1)))
    return worlds[-1]


async def _end(world: World) -> None:
    await world.close()
    await world.ground.stop()
