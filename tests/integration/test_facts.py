"""The facts with everything in them, kudos too: what is in the registers says the same as the oracle."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import messaging
from shared.forum import Facts, migrations
from shared.messaging import Batch, Record, Transaction
from shared.postgres import migrate
from shared.postgres.pool import connect
from tests.integration.engine import READER
from tests.oracle import histories
from tests.oracle.cases import CASES, ERASURE_KEY, Case
from tests.oracle.forum import Forum

SCHEMA = "facts_under_test"


@pytest.fixture(scope="session")
async def facts_database(database: str) -> str:
    await migrate(database, SCHEMA, (messaging.MIGRATIONS, migrations("members", "topics", "kudos", "stars")))
    return database


@pytest.fixture
async def connection(facts_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(facts_database, SCHEMA)
    yield connection
    await connection.close()


async def _fold(connection: asyncpg.Connection, batches: list[list[dict[str, Any]]]) -> list[str]:
    """Fold in a transaction that is undone, and return the ids of the kudos that count by what the registers say."""
    facts = Facts(ERASURE_KEY, topics=True, kudos=True, stars=True)
    outer = connection.transaction()
    await outer.start()
    try:
        for batch in batches:
            records = [
                Record(READER.read(event), "forum.events", 0, n, datetime(2030, 1, 1, tzinfo=UTC))
                for n, event in enumerate(batch)
            ]
            async with connection.transaction():
                await facts.fold(Batch(Transaction(connection, "/test"), records))
        rows = await connection.fetch(COUNTED)
        return [row["kudos_id"] for row in rows]
    finally:
        await outer.rollback()


# Written out plainly, one condition a line, for the eye and not for speed.
COUNTED = """
WITH who AS (
    SELECT kudos.*, reply.author_id, reply.author_kind, reply.topic_id AS lies_in,
        coalesce((SELECT root FROM alias WHERE what = 'member' AND id = giver_id), giver_id) AS giver,
        coalesce((SELECT root FROM alias WHERE what = 'member' AND id = reply.author_id), reply.author_id) AS receiver
    FROM kudos JOIN reply USING (reply_id)
    WHERE given_at IS NOT NULL
        AND (revoked_at IS NULL OR revoked_at < given_at)
        AND reply.stands
        AND reply.author_kind <> 'bot'
), counted AS (
    SELECT who.* FROM who JOIN topic ON topic.topic_id =
        coalesce((SELECT root FROM alias WHERE what = 'topic' AND id = lies_in), lies_in)
    WHERE topic.created_at IS NOT NULL
        AND (topic.deleted_at IS NULL OR topic.deleted_at < topic.restored_at)
        AND giver IS DISTINCT FROM receiver
)
SELECT kudos_id FROM counted AS c
WHERE giver IS NULL OR NOT EXISTS (
    SELECT FROM counted AS o
    WHERE o.giver = c.giver AND o.reply_id = c.reply_id AND (o.given_at, o.kudos_id) < (c.given_at, c.kudos_id)
)
ORDER BY given_at, kudos_id
"""


@pytest.mark.parametrize("case", [case for case in CASES if "kudos" in case.expect], ids=lambda case: case.name)
async def test_kudos_count_as_the_handwritten_case_says(connection: asyncpg.Connection, case: Case) -> None:
    for batches in ([list(case.events)], [[event] for event in reversed(case.events)]):
        assert sorted(await _fold(connection, batches)) == sorted(case.expect["kudos"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_kudos_count_the_same_in_any_order(connection: asyncpg.Connection, data: st.DataObject) -> None:
    events = data.draw(histories.histories())
    expected = [kudos.kudos_id for kudos in Forum(events, ERASURE_KEY).effective_kudos()]
    batches = data.draw(histories.batches(data.draw(histories.arrivals(events))))
    assert await _fold(connection, batches) == expected
