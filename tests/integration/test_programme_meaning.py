"""What members contributed against the oracle, which knows nothing of the service: in any order, however often."""

from collections.abc import Iterable
from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.applications_engine import fresh
from tests.integration.test_ledger_meaning import facts_told
from tests.oracle import histories
from tests.oracle.cases import CASES, ERASURE_KEY
from tests.oracle.forum import Forum, stand_in
from tests.oracle.ledger import Ledger
from tests.oracle.programme import Contribution, contributions


def expected_of(forum: Forum) -> set[Contribution]:
    """What the oracle says of a history."""
    return contributions(Ledger(forum).rows, {stand_in(ERASURE_KEY, member) for member in forum._erased})


def heard(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what this service says itself."""
    return [event for event in events if not event["type"].startswith("star-")]


async def test_what_was_contributed_in_every_handwritten_case(applications_connection: asyncpg.Connection) -> None:
    for case in CASES:
        forum = Forum(case.events, ERASURE_KEY)
        events = heard(facts_told(list(case.events), forum))
        async with fresh(applications_connection, ERASURE_KEY) as engine:
            for event in reversed(events):
                await engine.apply([event])
            await engine.fold()
            assert await engine.contributions() == expected_of(forum), case.name


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
async def test_any_order_repetition_and_split_gives_what_the_oracle_says(
    applications_connection: asyncpg.Connection, data: st.DataObject
) -> None:
    events = data.draw(histories.histories())
    forum = Forum(events, ERASURE_KEY)
    arriving = data.draw(histories.arrivals(facts_told(events, forum)))
    async with fresh(applications_connection, ERASURE_KEY) as engine:
        for batch in data.draw(histories.batches(arriving)):
            await engine.apply(heard(batch))
            if data.draw(st.booleans()):
                await engine.fold()
        await engine.fold()
        assert await engine.contributions() == expected_of(forum)
