"""Boards and places on them: what people read."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from services.leaderboard.windows import SEASON, Period, Window, period
from shared.postgres import Pool, Queries
from shared.web import Problem, decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "read.sql")

AROUND = 5
"""So many neighbours on each side."""

WITHDRAWN = "withdrawn"
_KINDS = list(Window)


@dataclass(frozen=True, slots=True)
class Asked:
    """A board in a window. ``at`` None: the window that is now; ``season`` is the row of one."""

    board: str
    window: Window
    at: date | None = None
    season: Any = None

    def arguments(self) -> tuple[str, int, date | None, int | None]:
        """What ``place`` takes."""
        number = None if self.season is None else SEASON + self.season["season_no"]
        return self.board, 0 if self.season is not None else _KINDS.index(self.window), self.at, number

    def period(self, day: date) -> Period:
        """The window's dates, where ``day`` lies in it. Raises Problem 400 where the calendar ends."""
        if self.season is not None:
            return Period(SEASON + self.season["season_no"], self.season["start_on"], self.season["end_on"])
        try:
            return period(self.window, day)
        except OverflowError:
            raise Problem(400, "at: the calendar has no such window", type="invalid-request") from None


async def ask(pool: Pool, board: str, window: Window, at: date | None, season_id: str | None) -> Asked:
    """What is asked for; of seasons by default the one that opened last. Raises Problem 400 or 404."""
    if window is not Window.season:
        asked = Asked(board, window, at)
        asked.period(at or date(2000, 1, 1))
        return asked
    season = await pool.fetchrow(SQL.season, season_id) if season_id else await pool.fetchrow(SQL.latest_season)
    if season is None:
        raise Problem(404, "There is no such season." if season_id else "There has been no season yet.")
    return Asked(board, window, None, season)


async def read_board(pool: Pool, asked: Asked, limit: int, cursor: str | None) -> dict[str, Any]:
    """A page of a board, in its order."""
    if asked.season is not None and asked.season["closed_at"] is not None:
        return await _read_frozen(pool, asked, limit, cursor)
    position: list[Any] = []
    if cursor is not None:
        position = decode_cursor(cursor, int, int, datetime, str)
        if None in position or min(position[:2]) < 0 or position[1] >= 2**31:
            raise Problem(400, "The cursor is not one that this list gave out.", type="bad-cursor")
    query = SQL.place + SQL.page.replace("{after}", SQL.after if position else "")
    rows = await pool.fetch(query, *asked.arguments(), limit + 1, *position)
    entries = ranked([row for row in rows if row["member_id"] is not None])
    more = len(entries) > limit
    last = rows[limit - 1] if more else None
    return {
        **_head(asked, rows[0]["day"]),
        "entries": entries[:limit],
        "next": encode_cursor([last["points"], last["solutions"], last["reached_at"], last["member_id"]])
        if last
        else None,
    }


async def read_member(pool: Pool, asked: Asked, member_id: str) -> dict[str, Any] | None:
    """A member's place among their neighbours; None where they are not on the board."""
    if asked.season is not None and asked.season["closed_at"] is not None:
        query = SQL.frozen_around.replace("{withdrawn}", SQL.withdrawn)
        rows = await pool.fetch(query, asked.season["season_no"], asked.board, member_id, AROUND)
        around = [_frozen(row) for row in rows]
    else:
        rows = await pool.fetch(SQL.place + SQL.around, *asked.arguments(), member_id, AROUND)
        around = ranked(rows)
    mine = next((n for n, row in enumerate(rows) if row["is_me"]), None)
    if mine is None:
        return None
    return {
        **_head(asked, rows[mine]["day"] if asked.season is None else date(2000, 1, 1)),
        "member_id": around[mine]["member_id"],
        "rank": around[mine]["rank"],
        "points": around[mine]["points"],
        "solutions": around[mine]["solutions"],
        "members": rows[mine]["members"],
        "around": around,
    }


async def read_moved(pool: Pool, asked: Asked, member_ids: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """How these members stand now, and who of them is not on the board."""
    rows = await pool.fetch(SQL.place + SQL.moved, *asked.arguments(), member_ids)
    there = [_entry(row, row["rank"]) for row in rows if row["points"] is not None]
    return sorted(there, key=lambda one: one["rank"]), [row["member_id"] for row in rows if row["points"] is None]


def ranked(rows: list[Any]) -> list[dict[str, Any]]:
    """Rows of a board that follow each other, with their ranks: the first says how many have more points, each how
    many have as many."""
    entries: list[dict[str, Any]] = []
    rank, tied, points = 0, 0, None
    for row in rows:
        if row["points"] != points:
            rank = row["above"] + 1 if points is None else rank + tied
            tied, points = row["tied"], row["points"]
        entries.append(_entry(row, rank))
    return entries


def _entry(row: Any, rank: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "member_id": row["member_id"],
        "name": row["name"] or row["member_id"],
        "points": row["points"],
        "solutions": row["solutions"],
    }


def _head(asked: Asked, day: date) -> dict[str, Any]:
    found = asked.period(day)
    return {"board": asked.board, "window": asked.window, "start": found.start, "end": found.end}


# --- closed seasons -------------------------------------------------------------------------------------------------


async def _read_frozen(pool: Pool, asked: Asked, limit: int, cursor: str | None) -> dict[str, Any]:
    place = 0
    if cursor is not None:
        [place] = decode_cursor(cursor, int)
        if place is None or not 0 <= place < 2**31:
            raise Problem(400, "The cursor is not one that this list gave out.", type="bad-cursor")
    query = SQL.frozen_page.replace("{withdrawn}", SQL.withdrawn)
    rows = await pool.fetch(query, asked.season["season_no"], asked.board, place, limit + 1)
    return {
        **_head(asked, date(2000, 1, 1)),
        "entries": [_frozen(row) for row in rows[:limit]],
        "next": encode_cursor([rows[limit - 1]["place"]]) if len(rows) > limit else None,
    }


def _frozen(row: Any) -> dict[str, Any]:
    entry = _entry(row, row["rank"])
    return entry | {"member_id": WITHDRAWN, "name": WITHDRAWN} if row["withdrawn"] else entry
