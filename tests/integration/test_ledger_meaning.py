"""The leaderboard engine against the oracle, which knows nothing of it: handwritten cases and generated histories."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.leaderboard import pages
from services.leaderboard.boards import ask, read_member
from services.leaderboard.pages import SQL as PAGES_SQL
from services.leaderboard.projector import FOLD_TAKEN, folding
from services.leaderboard.projector import SQL as BOARDS_SQL
from services.leaderboard.rewriting import SQL as REWRITING_SQL
from services.leaderboard.rewriting import RulesError, preview
from services.leaderboard.windows import Window
from shared.web import Problem, create_service_app
from tests.integration.ledger_engine import STAFF, LedgerEngine, apart, first_responses, fresh, rule_set
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


# --- doors beside batches -------------------------------------------------------------------------------------------


@asynccontextmanager
async def boards_held(engine: LedgerEngine) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """As while a fold goes on. Yields what waits until so many wait for the boards."""
    async with engine.pool.acquire() as holder:

        async def waiting(most: int) -> None:
            async with asyncio.timeout(30):
                while most != await holder.fetchval(
                    "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database"
                    " WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
                ):
                    await asyncio.sleep(0.01)

        await holder.execute(BOARDS_SQL.lock_boards)
        try:
            yield waiting
        finally:
            await holder.execute(BOARDS_SQL.unlock_boards)


def two_helpers() -> Story:
    story = Story().member("ada", "registered", at()).member("ben", "registered", at()).topic("t", at(), "asker")
    return story.reply("t", "r1", at(1), "ada").reply("t", "r2", at(2), "ben").kudos("t", "r1", "k1", at(3), "g")


async def test_who_is_erased_before_their_wish_is_heard_is_named_nowhere(leaderboard_database: str) -> None:
    async with apart(leaderboard_database, ERASURE_KEY) as engine:
        await engine.apply(two_helpers().events)
        await engine.fold()
        async with boards_held(engine) as waiting:
            erasure = asyncio.create_task(engine.apply(Story().member("ada", "erased", at(9)).events))
            await waiting(1)
            wish = asyncio.create_task(engine.show("ada", False))
            await waiting(2)
        await erasure
        with pytest.raises(Problem, match="404"):
            await wish
        assert not await engine.pool.fetch("SELECT FROM hidden")
        unlisted = [row["member_id"] for row in await engine.pool.fetch("SELECT member_id FROM unlisted")]
        assert unlisted == [stand_in(ERASURE_KEY, "ada")]


@pytest.mark.parametrize("first", ["wish", "merge"])
async def test_who_hides_while_they_are_merged_is_hidden_as_whom_they_become(
    leaderboard_database: str, first: str
) -> None:
    async with apart(leaderboard_database, ERASURE_KEY) as engine:
        await engine.apply(two_helpers().events)
        await engine.fold()
        merge = Story().tell(
            "member-merged", at(9), member_id="ada", status="merged", name="A", into_member_id="ben", languages=[]
        )
        doings = {
            "wish": lambda: engine.members.set_visibility("ada", STAFF, False),
            "merge": lambda: engine.apply(merge.events),
        }
        async with boards_held(engine) as waiting:
            one = asyncio.create_task(doings.pop(first)())
            await waiting(1)
            other = asyncio.create_task(doings.popitem()[1]())
            await waiting(2)
        said = [answer for answer in await asyncio.gather(one, other) if answer is not None]
        assert said == [{"member_id": "ada" if first == "wish" else "ben", "visible": False}]
        await engine.fold()
        assert await engine.members.visibility("ada", STAFF) == {"member_id": "ben", "visible": False}
        assert await engine.board("everyone") == []


async def test_a_batch_of_members_who_cannot_be_hidden_does_not_wait_for_the_boards(leaderboard_database: str) -> None:
    async with apart(leaderboard_database, ERASURE_KEY) as engine, boards_held(engine), asyncio.timeout(30):
        await engine.apply(two_helpers().events)


@pytest.mark.parametrize("door", ["visibility", "zone", "season-opened", "season-closed"])
async def test_no_door_meets_the_clearing_of_an_old_writing(leaderboard_database: str, door: str) -> None:
    days = date(2023, 12, 31), date(2030, 1, 1)
    async with apart(leaderboard_database, ERASURE_KEY) as engine:
        await engine.apply(two_helpers().events)
        await engine.fold()
        await engine.seasons.open("before", None, "everyone", *days)
        await engine.set_rules({**CLASSIC, "version": 2, "kudos": 5}, rewrite=True)
        while await engine.pool.fetchval("SELECT shadow IS NOT NULL FROM epoch"):
            await engine.rewriter.step(engine.connection)
        doors: dict[str, Callable[[], Awaitable[Any]]] = {
            "visibility": lambda: engine.show("ada", False),
            "zone": lambda: engine.set_zone("everyone", "Europe/Berlin"),
            "season-opened": lambda: engine.seasons.open("after", None, "everyone", *days),
            "season-closed": lambda: engine.seasons.close("before"),
        }
        async with engine.connection.transaction():
            # The last of it takes away the boards themselves.
            while await engine.connection.fetchval(REWRITING_SQL.clear_old, 20_000):
                pass
            async with asyncio.timeout(30):
                await doors[door]()
        await engine.rewrite()
        standings = await engine.standings()
        await engine.rebuild()
        assert await engine.standings() == standings
        for table in TABLES:
            rows = f"SELECT FROM {table} WHERE board_no NOT IN (SELECT board_no FROM board)"
            assert not await engine.pool.fetch(rows), f"{table} has rows of boards that are no more"
        assert await engine.pool.fetchval("SELECT count(DISTINCT epoch) FROM board") == 1


# --- history is not news --------------------------------------------------------------------------------------------


def history_of_b(helper: str, kudos: int) -> Story:
    """A reply of history in space B, and what others thought of it."""
    story = Story().reply("tb", f"of {helper}", at(1), helper, id_=f"of {helper}", backfill=True)
    for n in range(kudos):
        name = f"{n} for {helper}"
        cause = {"topic_id": "tb", "reply_id": f"of {helper}", "kudos_id": name, "giver_id": f"g{n}"}
        story.tell("kudos-given", at(1), id_=name, backfill=True, **cause)
    return story


async def milestones(engine: LedgerEngine, member_id: str) -> set[tuple[str, str]]:
    return {
        (one["data"]["board"], one["data"]["kind"])
        for one in await engine.outgoing()
        if one["type"] == "milestone-reached" and one["data"]["member_id"] == member_id
    }


@pytest.mark.parametrize("others", [0, 12])
async def test_whom_history_lifts_is_told_of_no_milestone_even_where_news_comes_with_it(
    leaderboard_connection: asyncpg.Connection, others: int
) -> None:
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        spaces = Story()
        for name in ("A", "B", "C"):
            spaces.topic(f"t{name.lower()}", at(), "asker", kind="discussion", space=name)
        await engine.apply(spaces.events)
        for n in range(others):
            await engine.apply(history_of_b(f"m{n:02}", 2).events)
        await engine.fold()
        await engine.apply(history_of_b("ada", 3).events)
        news = Story().reply("ta", "l1", at(2), "ada", id_="l1")
        news.reply("tb", "l2", at(2), "zed", id_="l2")
        await engine.apply(news.events)
        await engine.apply(history_of_b("carl", 1).events)
        await engine.fold()
        assert await milestones(engine, "ada") == {("space:A", "entered-top-10"), ("space:A", "first-place")}
        assert await milestones(engine, "carl") == set()
        assert (await engine.place("everyone", "ada"))["points"] == 8
        # And what is news lifts, whatever history is there.
        for n in range(9):
            name = f"later {n}"
            cause = {"topic_id": "tb", "reply_id": "of carl", "kudos_id": name, "giver_id": name}
            await engine.apply(Story().tell("kudos-given", at(3), id_=name, **cause).events)
        await engine.apply(history_of_b("dora", 1).events)
        await engine.fold()
        assert ("space:B", "first-place") in await milestones(engine, "carl")
        assert (("space:B", "entered-top-10") in await milestones(engine, "carl")) == (others > 9)


async def test_a_fold_of_history_and_news_leaves_what_a_rebuild_does(
    leaderboard_connection: asyncpg.Connection,
) -> None:
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        await engine.apply(Story().topic("tb", at(), "asker", kind="discussion", space="B").events)
        news = Story()
        for n in range(4):
            news.reply("tb", f"r{n}", at(1), "zed", id_=f"r{n}").reply("tb", f"s{n}", at(2), f"m{n}", id_=f"s{n}")
        await engine.apply(news.events)
        await engine.apply(history_of_b("ada", 3).events)
        # Entries come as news and are corrected by history, and the other way round, before any of it is folded.
        corrections = Story()
        for n in range(3):
            where = {"topic_id": "tb", "reply_id": f"r{n}"}
            corrections.tell("reply-deleted", at(4), id_=f"gone {n}", backfill=True, **where)
        corrections.tell("kudos-revoked", at(4), id_="back", topic_id="tb", reply_id="of ada", kudos_id="0 for ada")
        await engine.apply(corrections.events)
        await engine.apply(Story().tell("topic-moved", at(5), id_="moved", topic_id="tb", space="C").events)
        await engine.fold()
        standings = await engine.standings()
        assert await engine.board("space:B") == []
        points = {member: points for _, member, points, _ in await engine.board("space:C")}
        assert points == {"ada": 5, "m0": 1, "m1": 1, "m2": 1, "m3": 1, "zed": 1}
        await engine.rebuild()
        assert await engine.standings() == standings


# --- accounts that were merged --------------------------------------------------------------------------------------


def merged(member_id: str, into: str, hours: float) -> list[dict[str, Any]]:
    return (
        Story()
        .tell(
            "member-merged",
            at(hours),
            id_=f"{member_id} into {into}",
            member_id=member_id,
            status="merged",
            name="A",
            into_member_id=into,
            languages=[],
        )
        .events
    )


async def test_who_was_merged_keeps_their_places_in_closed_seasons(
    leaderboard_connection: asyncpg.Connection,
) -> None:
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        await engine.apply(two_helpers().events)
        await engine.fold()
        await engine.seasons.open("jam", None, "everyone", date(2023, 12, 31), date(2030, 1, 1))
        await engine.seasons.close("jam")
        frozen = await engine.season("jam")
        asked = await ask(engine.pool, "everyone", Window.season, None, "jam")

        async def places(member_id: str) -> tuple[Any, list[Any]]:
            badges = await engine.connection.fetch(PAGES_SQL.seasons_of, member_id)
            place = await read_member(engine.pool, asked, member_id)
            return place and (place["member_id"], place["rank"]), [row["rank"] for row in badges]

        await engine.apply(merged("ada", "survivor", 9))
        await engine.fold()
        assert await places("survivor") == (("ada", 1), [1])
        assert (await places("ada"))[0] == ("ada", 1)
        # Of two accounts with a place the better one is theirs.
        await engine.apply(merged("survivor", "ben", 10))
        await engine.fold()
        assert await places("ben") == (("ada", 1), [1])
        assert await places("stranger") == (None, [])
        assert await engine.season("jam") == frozen
        await engine.show("ben", False)
        assert (await places("ben"))[0] is None


async def test_an_account_that_was_merged_into_somebody_erased_answers_as_theirs(
    leaderboard_connection: asyncpg.Connection,
) -> None:
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        await engine.apply(two_helpers().events)
        await engine.apply(merged("alt", "ada", 9))
        await engine.fold()
        assert (await engine.members.ledger("alt", None, 5, None))["member_id"] == "ada"
        await engine.apply(Story().member("ada", "erased", at(10)).events)
        await engine.fold()
        for gone in ("ada", "alt"):
            assert await engine.members.is_erased(gone)
            for ask_for in (
                lambda: engine.members.ledger(gone, None, 5, None),  # noqa: B023
                lambda: engine.members.visibility(gone, STAFF),  # noqa: B023
                lambda: engine.show(gone, False),  # noqa: B023
            ):
                with pytest.raises(Problem, match="404"):
                    await ask_for()
        name = stand_in(ERASURE_KEY, "ada")
        assert (await engine.members.ledger(name, None, 5, None))["member_id"] == name
        assert not await engine.connection.fetch("SELECT FROM hidden")


async def test_why_a_reply_does_not_count_names_the_number_that_held_then(
    leaderboard_connection: asyncpg.Connection,
) -> None:
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        story = Story().topic("t", at(), "asker", kind="discussion")
        for n in range(4):
            story.reply("t", f"r{n}", at(n + 1), "ada")
        await engine.apply(story.events)
        await engine.fold()
        await engine.set_rules({**CLASSIC, "version": 2, "from": "2100-01-01T00:00:00Z", "most": 7}, rewrite=False)
        app = create_service_app("leaderboard", "Leaderboard", "", "1.0")
        app.include_router(pages.router(SimpleNamespace(pool=engine.pool), engine.members, engine.seasons))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            page = await client.get("/members/ada")
        assert page.status_code == 200, page.text
        assert "of your replies to one question 3 count" in page.text
        assert "question 7 count" not in page.text
