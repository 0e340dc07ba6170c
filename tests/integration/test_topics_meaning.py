"""The topics engine against the oracle, which knows nothing of it: handwritten cases and generated histories."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.topics import app as topics_app
from shared.messaging import Overtaken
from shared.postgres import connect, migrate
from tests.integration.engine import Engine
from tests.oracle import histories
from tests.oracle.cases import CASES, ERASURE_KEY, Case
from tests.oracle.envelopes import at, envelope
from tests.oracle.figures import mismatches
from tests.oracle.forum import Forum


@asynccontextmanager
async def fresh(connection: asyncpg.Connection) -> AsyncIterator[Engine]:
    """An engine whose work is undone in the end."""
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        yield Engine(connection, ERASURE_KEY)
    finally:
        await transaction.rollback()


async def _told(engine: Engine, batches: list[list[dict[str, Any]]], policies: Any) -> None:
    await engine.set_policies(policies)
    for batch in batches:
        await engine.apply(batch)


@pytest.mark.parametrize("order", ["as it was", "backwards", "one by one", "twice"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_engine_answers_a_handwritten_case(
    topics_connection: asyncpg.Connection, case: Case, order: str
) -> None:
    events = list(case.events)
    batches = {
        "as it was": [events],
        "backwards": [events[::-1]],
        "one by one": [[event] for event in events],
        "twice": [events, events[::-1]],
    }[order]
    async with fresh(topics_connection) as engine:
        await _told(engine, batches, case.policies)
        for topic_id, expected in case.expect.get("topics", {}).items():
            assert mismatches(expected, await engine.view(topic_id), topic_id) == []
        standing = await engine.standing()
        for topic_id, expected in case.expect.get("standing", {}).items():
            assert mismatches(expected, standing.get(topic_id), topic_id) == []
        if "report" in case.expect:
            assert mismatches(case.expect["report"], await engine.report(case.query), "report") == []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
async def test_any_order_repetition_and_split_gives_what_the_oracle_says(
    topics_connection: asyncpg.Connection, data: st.DataObject
) -> None:
    events = data.draw(histories.histories(kudos=False))
    policies = data.draw(histories.policy_lists())
    query = data.draw(histories.queries())
    now = histories.LAST
    oracle = Forum(events, ERASURE_KEY)
    rows = None
    for _ in range(2):
        batches = data.draw(histories.batches(data.draw(histories.arrivals(events))))
        async with fresh(topics_connection) as engine:
            await _told(engine, batches, policies)
            expected = oracle.summary(now, policies)
            for topic_id, view in expected["topics"].items():
                actual = await engine.view(topic_id)
                # The oracle tells the state at its own instant, the engine at the present one.
                view = {name: value for name, value in view.items() if name != "state"}
                assert mismatches(view, actual, topic_id) == []
            assert mismatches(expected["first_responses"], await engine.standing(), "standing") == []
            assert set(expected["first_responses"]) == set(await engine.standing())
            asked = {"from_" if name == "from" else name: value for name, value in query.items()}
            assert mismatches(oracle.report(policies, **asked), await engine.report(query), "report") == []
            found = await engine.rows()
            assert rows is None or found == rows
            rows = found


async def test_of_two_that_name_a_topic_first_the_later_is_tried_again_and_sees_the_other(database: str) -> None:
    await migrate(database, "first", topics_app.MIGRATIONS)
    one, other = await connect(database, "first"), await connect(database, "first")
    try:
        early, late = Engine(one, ERASURE_KEY), Engine(other, ERASURE_KEY)

        def reply(id: str, hours: float) -> dict[str, Any]:
            data = {
                "topic_id": "t",
                "reply_id": id,
                "author_id": "ben",
                "author_kind": "member",
                "visibility": "public",
            }
            return envelope("reply-posted", at(hours), data, id_=id)

        begun = one.transaction()
        await begun.start()
        await early.apply([reply("r1", 1)])
        overtaken = asyncio.create_task(late.apply([reply("r2", 2)]))
        await asyncio.sleep(0.3)
        assert not overtaken.done()
        await begun.commit()
        with pytest.raises(Overtaken):
            await overtaken
        assert await other.fetchval("SELECT count(*) FROM reply WHERE reply_id = 'r2'") == 0
        await late.apply([reply("r2", 2)])
        asked = {"topic_id": "t", "author_id": "ada", "author_kind": "member", "title": "?", "space": "s", "tags": []}
        await late.apply([envelope("topic-created", at(0), asked | {"language": "en", "kind": "question"}, id_="q")])
        assert (await early.standing())["t"]["reply_id"] == "r1"
    finally:
        await one.close()
        await other.close()
