"""The leaderboard engine against the oracle, which knows nothing of it: handwritten cases and generated histories."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.leaderboard.projector import FOLD_TAKEN, folding
from services.leaderboard.rewriting import RulesError, preview
from tests.integration.ledger_engine import LedgerEngine, first_responses, fresh, rule_set
from tests.oracle import histories
from tests.oracle.cases import CASES, ERASURE_KEY, Case
from tests.oracle.envelopes import Story, at
from tests.oracle.figures import micros, moment
from tests.oracle.forum import Forum, stand_in
from tests.oracle.ledger import CLASSIC, Ledger, Standing, board, window_of
from tests.oracle.ledger_cases import CASES as LEDGER_CASES
from tests.oracle.ledger_cases import LedgerCase

BOARDS = ("everyone", "stars", "space:help", "space:beer", "language:en")
DAYS = (0, 2, 9)


def _lines(standings: list[Standing]) -> list[tuple[int, str, int, int]]:
    return [(one.rank, one.member_id, one.points, one.solutions) for one in standings]


async def check(
    engine: LedgerEngine, oracle: Ledger, hidden: set[str], zones: dict[str, str], windows: tuple[str, ...]
) -> None:
    """Ledger, boards, what was told: all of it must be what the oracle says."""
    assert await engine.ledger() == oracle.by_cause()
    assert await engine.told() == await engine.effective()
    first = moment(micros(histories.BEGINNING)).date()
    for name in BOARDS:
        for window in windows:
            for days in DAYS if window == "day" else (0,):
                day = first + timedelta(days=days)
                expected = board(oracle.rows, name, window_of(window, day), zones.get(name, "UTC"), hidden)
                assert await engine.board(name, window, day, limit=2) == _lines(expected), (name, window, day)
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_ledger_of_a_handwritten_case(leaderboard_connection: asyncpg.Connection, case: Case) -> None:
    forum = Forum(case.events, ERASURE_KEY)
    events = facts_told(list(case.events), forum)
    hidden = {stand_in(ERASURE_KEY, member) for member in forum._erased}
    for order in (events, events[::-1]):
        async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
            for n, event in enumerate(order):
                await engine.apply([event])
                if n % 3 == 0:
                    await engine.fold()
            await engine.fold()
            assert await engine.ledger() == Ledger(forum).by_cause()
            assert await engine.told() == await engine.effective()
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        await engine.apply(events)
        await engine.fold()
        await check(engine, Ledger(forum), hidden, {}, ("all",))


@pytest.mark.parametrize("case", LEDGER_CASES, ids=lambda case: case.name)
async def test_points_are_what_a_handwritten_case_says(
    leaderboard_connection: asyncpg.Connection, case: LedgerCase
) -> None:
    events = facts_told(list(case.events), Forum(case.events, ERASURE_KEY))
    for batches in ([events], [[event] for event in reversed(events)], [events[::2], events[1::2], events]):
        async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
            for batch in batches:
                await engine.apply(batch)
                await engine.fold()
            found = await engine.ledger()
            for (rule, *cause), expected in case.entries.items():
                row = found.get((rule, tuple(cause)))
                actual = None if row is None else (row.member_id, row.points, row.status, row.reason)
                assert actual == expected, (rule, cause)
            board = await engine.board("everyone")
            totals = {member: points for _, member, points, _ in board}
            assert {member: totals.get(member, 0) for member in case.totals} == case.totals
            await engine.rebuild()
            assert await engine.board("everyone") == board


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
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
        await check(engine, oracle, hidden, zones, ("all", "day", "week", "month"))


async def test_a_fold_looks_its_rows_up_by_key_even_when_statistics_say_that_boards_are_empty(
    leaderboard_connection: asyncpg.Connection, database: str
) -> None:
    story = Story().topic("t", at())
    for n in range(500):
        story.reply("t", f"r{n}", at(n), f"member{n}")
    admin = await asyncpg.connect(database)
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        await engine.apply(story.events)
        await engine.fold()
        # Of what is not committed it counts pages, but no rows.
        await admin.execute("ANALYZE " + ", ".join(f"leaderboard.{table}" for table in ("changed", "board", *TABLES)))
        async with folding(engine.outbox, leaderboard_connection):
            plan = [row[0] for row in await leaderboard_connection.fetch("EXPLAIN " + FOLD_TAKEN, 2**62)]
    await admin.close()
    looked_up = [(line, plan[n + 1]) for n, line in enumerate(plan) if "_pkey on s" in line]
    assert len(looked_up) == 3, plan
    assert all(condition.count("=") == 3 and "Index Cond" in condition for _, condition in looked_up)
    assert not any(f"{kind} on {table}" in line for line in plan for kind in ("Seq Scan", "_order") for table in TABLES)


TABLES = ("standing", "score", "score_block")
ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu")


async def test_rules_that_would_change_history_are_refused_without_a_rewrite(
    leaderboard_connection: asyncpg.Connection,
) -> None:
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        for since in (None, histories.LAST):
            with pytest.raises(RulesError, match="in the past"):
                await engine.set_rules({**CLASSIC, "version": 2, "from": since}, rewrite=False)
        await engine.set_rules({**CLASSIC, "version": 2, "from": "2100-01-01T00:00:00Z", "kudos": 5}, rewrite=False)
        with pytest.raises(RulesError, match="higher number"):
            await engine.set_rules({**CLASSIC, "version": 2}, rewrite=True)
        await engine.set_rules({**CLASSIC, "version": 3}, rewrite=True)
        with pytest.raises(RulesError, match="being written again"):
            await engine.set_rules({**CLASSIC, "version": 4}, rewrite=True)


async def test_a_preview_says_what_a_rewrite_then_does(leaderboard_connection: asyncpg.Connection) -> None:
    events = (
        Story()
        .topic("t", at(), kind="discussion")
        .topic("merged", at(), kind="discussion")
        .reply("t", "r1", at(1))
        .reply("merged", "r2", at(2), "carl")
        .kudos("t", "r1", "k1", at(3))
        .kudos("t", "r2", "k2", at(3))
        .kudos("t", "r2", "k3", at(3))
        .tell("topic-merged", at(4), topic_id="merged", into_topic_id="t")
    ).events
    version = {**CLASSIC, "version": 2, "reply": 9, "kudos": 1}
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        await engine.apply(events)
        await engine.fold()
        found = await preview(engine.pool, rule_set(version))
        assert (found.entries, found.changed, found.members) == (5, 5, 2)
        assert found.movers(9) == [("ben", 3, 10), ("carl", 5, 11)]
        assert await engine.board("everyone") == [(1, "carl", 5, 0), (2, "ben", 3, 0)]
        await engine.set_rules(version, rewrite=True)
        await engine.rewrite()
        after = {member: total.points for member, total in found.after.items()}
        assert {member: points for _, member, points, _ in await engine.board("everyone")} == after
        assert not await engine.connection.fetch("SELECT FROM ledger WHERE epoch <> (SELECT current FROM epoch)")
        assert not await engine.connection.fetch("SELECT FROM board WHERE epoch <> (SELECT current FROM epoch)")
