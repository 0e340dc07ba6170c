"""What the poller remembers of a Discourse survives in PostgreSQL, one state an instance."""

from datetime import UTC, datetime

import asyncpg

from services.topics.discourse import PostgresPollStore


async def test_the_state_of_each_instance_is_kept_and_replaced(topics_connection: asyncpg.Connection) -> None:
    transaction = topics_connection.transaction()
    await transaction.start()
    try:
        store, now = PostgresPollStore(topics_connection), datetime.now(UTC)
        assert await store.load("forum.example") is None
        await store.save("forum.example", {"topics": {"1": [1, 2]}, "title": 'quotes " and ünïcode'}, now)
        await store.save("other.example", {}, now)
        await store.save("forum.example", {"topics": {"1": [3]}}, now)
        assert await store.load("forum.example") == {"topics": {"1": [3]}}
        assert await store.load("other.example") == {}
    finally:
        await transaction.rollback()
