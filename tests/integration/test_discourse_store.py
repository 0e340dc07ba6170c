"""What the poller remembers of a Discourse survives in PostgreSQL, one state an instance, and forgets who is erased."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from services.topics.discourse import PostgresPollStore, erase_polled
from shared.forum import Facts

FACTS = Facts(b"an erasure key", topics=True, stars=True)


@pytest.fixture
async def connection(topics_connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    transaction = topics_connection.transaction()
    await transaction.start()
    yield topics_connection
    await transaction.rollback()


async def test_the_state_of_each_instance_is_kept_and_replaced(connection: asyncpg.Connection) -> None:
    store, now = PostgresPollStore(connection, FACTS), datetime.now(UTC)
    assert await store.load("forum.example") is None
    await store.save("forum.example", {"topics": {"1": {}, "2": {}}, "etag": 'quotes " and ünïcode'}, now)
    await store.save("other.example", {}, now)
    await store.save("forum.example", {"topics": {"3": {}}}, now)
    assert await store.load("forum.example") == {"topics": {"3": {}}}
    assert await store.load("other.example") == {}


async def test_who_is_erased_is_in_no_state_any_more_nor_comes_back_with_a_poll_that_was_under_way(
    connection: asyncpg.Connection,
) -> None:
    def seen() -> dict[str, object]:
        return {"topics": {"1": {"posts": {"5": {"author": 7, "likers": [7, 8]}, "6": {"author": 8}}}}}

    forgotten = {"topics": {"1": {"posts": {"5": {"author": None, "likers": [8]}, "6": {"author": 8}}}}}
    store, now = PostgresPollStore(connection, FACTS), datetime.now(UTC)
    for instance in ("forum.example", "other.example"):
        await store.save(instance, seen(), now)

    gone = "forum.example:u:7"
    await connection.execute("INSERT INTO erased (stand_in) VALUES ($1)", FACTS.stand_in(gone))
    await erase_polled(connection, [gone])
    assert await store.load("forum.example") == forgotten
    assert await store.load("other.example") == seen(), "another forum's member of the same number"

    await store.save("forum.example", seen(), now)
    assert await store.load("forum.example") == forgotten
