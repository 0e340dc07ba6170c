"""What ``stars doctor`` says of a schema."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from deploy import services
from deploy.cli import doctor
from shared.postgres import migrate

NEVER = "topics: no worker has ever read a stream of this Kafka"


async def _said(database: str, cluster: str | None) -> list[str]:
    connection = await asyncpg.connect(database)
    try:
        return [line for good, line in await doctor._schema(connection, "topics", cluster) if not good]
    finally:
        await connection.close()


@pytest.fixture
async def offsets(database: str) -> AsyncIterator[str]:
    """Offsets of a cluster that was left days ago, of one that is read now, and of a stream that nobody reads now."""
    await migrate(database, "topics", services.migrations("topics"))
    connection = await asyncpg.connect(database)
    await connection.execute(
        "INSERT INTO topics.consumer_offset (cluster, stream, partition, next_offset, caught_up_at) VALUES"
        " ('left', 'forum.events', 0, 5, now() - interval '3 days'), ('left', 'members.events', 0, 5, NULL),"
        " ('present', 'forum.events', 0, 5, now()), ('present', 'no.longer.read', 0, 5, now() - interval '3 days')"
    )
    yield database
    await connection.execute("DELETE FROM topics.consumer_offset WHERE cluster IN ('left', 'present')")
    await connection.close()


async def test_doctor_judges_what_is_read_of_the_kafka_that_is_there(offsets: str) -> None:
    assert await _said(offsets, "present") == []
    assert await _said(offsets, "new") == [NEVER]
    behind = await _said(offsets, "left")
    assert "forum.events was last read to its end 2592" in behind[0]
    assert behind[1:] == ["topics: members.events was never read to its end"]


async def test_without_kafka_doctor_does_not_judge_what_is_read_of_it(offsets: str) -> None:
    assert await _said(offsets, None) == []
