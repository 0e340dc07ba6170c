"""Real history: both dumps side by side through the importer and both engines, every board against the XML."""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from deploy.history import read_dump
from tests.integration.engine import Engine
from tests.integration.ledger_engine import LedgerEngine, fresh
from tests.oracle.cases import ERASURE_KEY
from tests.oracle.ledger import Row, is_on, local_date, standings, window_of
from tests.oracle.stackexchange import dump, points

NAMES = ("beer", "opendata")
FIRST = {
    "beer": [(1, "beer:6111", 2198, 61), (2, "beer:5064", 1704, 51), (3, "beer:112", 1043, 17)],
    "opendata": [(1, "opendata:1511", 3780, 77), (2, "opendata:90", 2893, 67), (3, "opendata:1667", 2447, 40)],
}
EFFECTIVE = {"beer": (11_918, 27_151), "opendata": (22_637, 49_451)}
ZONES = ("UTC", "America/St_Johns", "Pacific/Kiritimati")
BOARDS = ("everyone", "space:beer", "space:opendata")


def imported() -> list[dict[str, Any]]:
    """The events of both dumps."""
    found = []
    for name in NAMES:
        folder = dump(name)
        if folder is None:
            pytest.skip(f"the dump {name} is not here: put it under ../shared/data or name it by STARS_TEST_DATA")
        found += [event.model_dump(mode="json", exclude_unset=True) for event in read_dump(folder, name)]
    return found


_TOLD: list[dict[str, Any]] = []


async def history(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """The events of both dumps, and what the topics service publishes of them: worked out once a run."""
    if not _TOLD:
        _TOLD.extend(await with_first_responses(connection, imported()))
    return list(_TOLD)


async def with_first_responses(connection: asyncpg.Connection, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events, and what the topics service publishes of them."""
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        engine = Engine(connection, ERASURE_KEY)
        for batch in batched(event for event in events if not event["type"].startswith("kudos-")):
            await engine.apply(batch)
        return [*events, *(event for event in await engine.outgoing() if event["type"].startswith("first-response-"))]
    finally:
        await transaction.rollback()


def batched(events: Any, size: int = 5000) -> Iterator[list[dict[str, Any]]]:
    """Some at a time."""
    iterator = iter(events)
    while batch := list(islice(iterator, size)):
        yield batch


def windows(rows: list[Row], board: str, zone: str) -> dict[tuple[str, date | None], list[Row]]:
    """The effective rows of a board by every window that holds one."""
    counts, where = is_on(board), ZoneInfo(zone)
    found: dict[tuple[str, date | None], list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == "effective" and counts(row):
            day = local_date(row.at, where)
            found["all", None].append(row)
            for window in ("month", "quarter", "year"):
                first, _ = window_of(window, day) or (None, None)
                found[window, first].append(row)
    return found


async def compare(engine: LedgerEngine, rows: list[Row], zone: str) -> int:
    """Every board in every window; returns how many were compared."""
    compared = 0
    for board in BOARDS:
        for (window, first), own in windows(rows, board, zone).items():
            expected = [(one.rank, one.member_id, one.points, one.solutions) for one in standings(own)]
            assert await engine.board(board, window, first) == expected, (board, window, first, zone)
            compared += 1
    return compared


@pytest.mark.timeout(600)
async def test_every_board_of_real_history_is_what_the_xml_says_after_a_shuffled_and_duplicated_replay(
    topics_connection: asyncpg.Connection, leaderboard_connection: asyncpg.Connection
) -> None:
    events = await history(topics_connection)
    rng = random.Random(5)
    events += rng.sample(events, len(events) // 4)
    rng.shuffle(events)
    rows = [row for name in NAMES for row in points(dump(name), name)]
    async with fresh(leaderboard_connection, ERASURE_KEY) as engine:
        for n, batch in enumerate(batched(events)):
            await engine.apply(batch)
            if n % 4 == 3:
                await engine.fold()
        await engine.fold()
        found = await engine.ledger()
        assert found == {(row.rule, row.cause): row for row in rows}
        for name in NAMES:
            assert (await engine.board(f"space:{name}"))[:3] == FIRST[name]
            own = [row for row in found.values() if row.space == name and row.status == "effective"]
            assert (len(own), sum(row.points for row in own)) == EFFECTIVE[name]
        assert await compare(engine, rows, "UTC") > 250
        # Time zones one after the other: each derives the board again.
        for zone in ZONES[1:]:
            for board in BOARDS:
                await engine.set_zone(board, zone)
            assert await compare(engine, rows, zone) > 250
