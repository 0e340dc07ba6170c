"""The leaderboard engine against the oracle, which knows nothing of it: handwritten cases and generated histories."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.ledger_engine import LedgerEngine, first_responses, fresh
from tests.oracle import histories
from tests.oracle.cases import CASES, ERASURE_KEY, Case
from tests.oracle.figures import micros, moment
from tests.oracle.forum import Forum, stand_in
from tests.oracle.ledger import Ledger, Standing, board, window_of

BOARDS = ("everyone", "stars", "space:help", "space:beer", "language:en")
DAYS = (0, 2, 9)


def _lines(standings: list[Standing]) -> list[tuple[int, str, int, int]]:
    return [(one.rank, one.member_id, one.points, one.solutions) for one in standings]


async def check(engine: LedgerEngine, oracle: Ledger, hidden: set[str], zones: dict[str, str]) -> None:
    """Ledger, boards, what was told: all of it must be what the oracle says."""
    assert await engine.ledger() == oracle.by_cause()
    assert await engine.told() == await engine.effective()
    first = moment(micros(histories.BEGINNING)).date()
    for name in BOARDS:
        for window in ("all", "day", "week", "month"):
            for days in DAYS if window != "all" else (0,):
                at = first + timedelta(days=days)
                expected = board(oracle.rows, name, window_of(window, at), zones.get(name, "UTC"), hidden)
                assert await engine.board(name, window, at, limit=2) == _lines(expected), (name, window, at)
    everyone = board(oracle.rows, "everyone", None, zones.get("everyone", "UTC"), hidden)
    for one in everyone:
        place = await engine.place("everyone", one.member_id)
        assert (place["rank"], place["points"], place["members"]) == (one.rank, one.points, len(everyone))
    standings = await engine.standings()
    await engine.rebuild()
    assert await engine.standings() == standings, "a board that is derived from the ledger again differs"


def facts_told(events: list[dict[str, Any]], forum: Forum) -> list[dict[str, Any]]:
    """The events with those of topics.events that the topics service would end with."""
    return [*events, *first_responses(forum.standing_first_responses().values(), 7)]


@pytest.mark.parametrize("order", ["as it was", "backwards", "one by one"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_ledger_of_a_handwritten_case(
    leaderboard_connection: asyncpg.Connection, case: Case, order: str
) -> None:
    forum = Forum(case.events, ERASURE_KEY)
    events = facts_told(list(case.events), forum)
    batches = {"as it was": [events], "backwards": [events[::-1]], "one by one": [[event] for event in events]}[order]
    hidden = {stand_in(ERASURE_KEY, member) for member in forum._erased}
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        for batch in batches:
            await engine.apply(batch)
            await engine.fold()
        await check(engine, Ledger(forum), hidden, {})


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
async def test_any_order_repetition_and_split_gives_the_ledger_that_the_oracle_says(
    leaderboard_connection: asyncpg.Connection, data: st.DataObject
) -> None:
    events = data.draw(histories.histories())
    forum = Forum(events, ERASURE_KEY)
    oracle = Ledger(forum)
    hidden = {stand_in(ERASURE_KEY, member) for member in forum._erased}
    zones = {name: data.draw(st.sampled_from(ZONES)) for name in BOARDS}
    arriving = data.draw(histories.arrivals(facts_told(events, forum)))
    batches = data.draw(histories.batches(arriving))
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        for name, zone in zones.items():
            await engine.set_zone(name, zone)
        for batch in batches:
            await engine.apply(batch)
            if data.draw(st.booleans()):
                await engine.fold()
        await engine.fold()
        await check(engine, oracle, hidden, zones)


ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu")
