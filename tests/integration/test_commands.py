"""What ``stars`` says to whoever typed a command, on real Kafka and PostgreSQL."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from tests.infrastructure import Running

pytestmark = pytest.mark.usefixtures("nothing_is_set")


@pytest.fixture
async def stranger(database: str) -> AsyncIterator[str]:
    """The DSN of a login that may do nothing here; its password is `hidden`."""
    name = f"stranger_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database)
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hidden'")
    parts = urlsplit(database)
    yield parts._replace(netloc=f"{name}:hidden@{parts.hostname}:{parts.port}").geturl()
    await admin.execute(f"DROP ROLE {name}")
    await admin.close()


async def stars(*arguments: str, **settings: str) -> Result:
    """Run a command with these settings."""
    environment = {f"STARS_{name}": value for name, value in settings.items()}
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)


def said(result: Result) -> str:
    """What it said when it ended, as it must, with a sentence and status 1."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    return result.output


@pytest.mark.parametrize("command", ["migrate topics", "rules list", "dead-letters list topics"])
async def test_a_wrong_password_is_said_in_a_sentence(command: str, stranger: str) -> None:
    told = said(await stars(*command.split(), POSTGRES=stranger.replace(":hidden@", ":hiddenwrong@")))
    assert "password authentication failed" in told
    assert "STARS_POSTGRES" in told
    assert "hidden" not in told


async def test_the_doctor_says_where_a_login_may_not_look_and_goes_on(
    stranger: str, topics_database: str, leaderboard_database: str, infrastructure: Running
) -> None:
    told = said(await stars("doctor", POSTGRES=stranger, KAFKA=infrastructure.kafka))
    assert "ok    Kafka answers" in told
    assert "WRONG topics: PostgreSQL cannot be used (permission denied for" in told
    assert "WRONG leaderboard: PostgreSQL cannot be used (permission denied for" in told
    assert "hidden" not in told


async def test_where_the_schema_is_not_there_yet_it_says_to_migrate(database: str, stranger: str) -> None:
    empty = f"empty_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database)
    await admin.execute(f"CREATE DATABASE {empty}")
    try:
        told = said(await stars("rules", "list", POSTGRES=urlsplit(stranger)._replace(path=f"/{empty}").geturl()))
    finally:
        await admin.execute(f"DROP DATABASE {empty} WITH (FORCE)")
        await admin.close()
    assert "run `stars migrate`" in told


async def test_no_dead_letter_is_lost_where_kafka_is_away(topics_database: str) -> None:
    admin = await asyncpg.connect(topics_database)
    letter = await admin.fetchval(
        'INSERT INTO topics.dead_letter (cluster, stream, partition, "offset", value, headers, appended_at, error)'
        " VALUES ('c', 'forum.events', 0, 0, 'v', '[]', now(), 'why') RETURNING id"
    )
    try:
        told = said(
            await stars("dead-letters", "replay", "topics", "--all", POSTGRES=topics_database, KAFKA="127.0.0.1:1")
        )
        assert "Kafka cannot be used" in told
        assert "STARS_KAFKA" in told
        assert await admin.fetchval("SELECT count(*) FROM topics.dead_letter WHERE id = $1", letter) == 1
    finally:
        await admin.execute("DELETE FROM topics.dead_letter WHERE id = $1", letter)
        await admin.close()


async def test_an_import_says_what_it_found_whatever_brackets_are_in_it(
    infrastructure: Running, tmp_path: Path
) -> None:
    file = tmp_path / "[red].jsonl"
    event = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/forum",
        "type": "topic-closed",
        "time": "2024-01-01T00:00:00Z",
        "data": {"topic_id": uuid.uuid4().hex, "[/b]": 1},
    }
    file.write_text(json.dumps(event) + "\n")
    result = await stars("import", "jsonl", str(file), KAFKA=infrastructure.kafka)
    assert result.exception is None
    assert "[/b]" in result.output
