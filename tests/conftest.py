"""What tests share: real PostgreSQL and Kafka, found or started once a run."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.infrastructure import InfrastructureError
from services.applications import app as applications_app
from services.leaderboard import app as leaderboard_app
from services.notifier import app as notifier_app
from services.topics import app as topics_app
from shared.postgres import Pool, create_pool, migrate
from shared.postgres.pool import connect
from tests.infrastructure import Running, start_for_tests
from tests.notifier import World


@pytest.fixture
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting is, but for a data folder on which nothing runs, and as many partitions as other tests count with."""
    for name in os.environ:
        if name.startswith("STARS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STARS_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("STARS_PARTITIONS", "3")


@pytest.fixture(scope="session")
def infrastructure() -> Iterator[Running]:
    """Kafka and PostgreSQL for this run."""
    try:
        running = start_for_tests()
    except InfrastructureError as error:
        pytest.skip(f"no Kafka and PostgreSQL to be had here: {error}")
    yield running
    running.stop()


@pytest.fixture(scope="session")
async def database(infrastructure: Running) -> AsyncIterator[str]:
    """The DSN of a database of this run's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(infrastructure.postgres)
    await admin.execute(f"CREATE DATABASE {name}")
    yield urlsplit(infrastructure.postgres)._replace(path=f"/{name}").geturl()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture(scope="session")
async def topics_database(database: str) -> str:
    """The DSN of a database with the topics service's schema."""
    await migrate(database, topics_app.NAME, topics_app.MIGRATIONS)
    return database


@pytest.fixture
async def topics_connection(topics_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the topics service has them."""
    connection = await connect(topics_database, topics_app.NAME)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def leaderboard_database(database: str) -> str:
    """The DSN of a database with the leaderboard service's schema."""
    await migrate(database, leaderboard_app.NAME, leaderboard_app.MIGRATIONS)
    return database


@pytest.fixture
async def leaderboard_connection(leaderboard_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the leaderboard service has them."""
    connection = await connect(leaderboard_database, leaderboard_app.NAME)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def notifier_database(database: str) -> str:
    """The DSN of a database with the notifier service's schema."""
    await migrate(database, notifier_app.NAME, notifier_app.MIGRATIONS)
    return database


@pytest.fixture
async def notifier_pool(notifier_database: str) -> AsyncIterator[Pool]:
    """A pool as the notifier service has it, on a schema that is emptied afterwards."""
    pool = create_pool(notifier_database, notifier_app.NAME, 8)
    await pool
    yield pool
    await World(pool).empty()
    await pool.close()


@pytest.fixture
def notifier(notifier_pool: Pool) -> World:
    """A notifier whose mails go to the local mailbox, turned by hand."""
    return World(notifier_pool)


@pytest.fixture(scope="session")
async def applications_database(database: str) -> str:
    """The DSN of a database with the applications service's schema."""
    await migrate(database, applications_app.NAME, applications_app.MIGRATIONS)
    return database


@pytest.fixture
async def applications_connection(applications_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the applications service has them."""
    connection = await connect(applications_database, applications_app.NAME)
    yield connection
    await connection.close()
