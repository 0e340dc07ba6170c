"""What tests share: real PostgreSQL and Kafka, found or started once a run."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from services.topics import app as topics_app
from shared.postgres import migrate
from shared.postgres.pool import connect


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The DSN of a PostgreSQL for this run."""
    yield os.environ["STARS_POSTGRES"]


@pytest.fixture(scope="session")
async def database(postgres_server: str) -> AsyncIterator[str]:
    """The DSN of a database of this run's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f"CREATE DATABASE {name}")
    yield postgres_server.replace("/postgres?", f"/{name}?")
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
