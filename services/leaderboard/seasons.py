"""Seasons: opened, closed, and frozen for ever."""

import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg

from services.leaderboard.boards import SQL as READ
from services.leaderboard.projector import BATCH, Projector, derive_boards, folding
from services.leaderboard.windows import SEASON
from shared.contracts import leaderboard as events
from shared.contracts.catalogue import SEASONS
from shared.messaging import Outbox, Outgoing
from shared.postgres import Pool, Queries
from shared.web import Problem, decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "seasons.sql")

MOST_TOLD = 200
"""So many of the first standings are in season-closed."""


class Seasons:
    """Opening and closing; both fold what waits first, so that nothing is counted late."""

    def __init__(self, pool: Pool, outbox: Outbox, projector: Projector) -> None:
        self._pool, self._outbox, self._projector = pool, outbox, projector

    async def list(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """Every season, the latest first."""
        before = None
        if cursor is not None:
            [before] = decode_cursor(cursor, int)
            if before is None or not 0 < before < 2**31:
                raise Problem(400, "The cursor is not one that this list gave out.", type="bad-cursor")
        rows = await self._pool.fetch(READ.seasons, before, limit + 1)
        more = len(rows) > limit
        return {
            "items": [_season(row) for row in rows[:limit]],
            "next": encode_cursor([rows[limit - 1]["season_no"]]) if more else None,
        }

    async def open(self, season_id: str | None, name: str | None, board: str, start: date, end: date) -> dict[str, Any]:
        """Open a season over local dates, the end excluded. Raises Problem 409 where there is one of this id."""
        async with self._pool.acquire() as connection, folding(self._outbox, connection) as transaction:
            try:
                row = await connection.fetchrow(SQL.open, season_id or uuid.uuid4().hex, name, board, start, end)
            except asyncpg.UniqueViolationError:
                raise Problem(409, "There is a season of this id.", type="season-exists") from None
            await derive_boards(connection, period=SEASON + row["season_no"])
            opens, closes = await self._instants(connection, row)
            data = events.SeasonOpenedData(
                season_id=row["season_id"], name=name, board=board, opens_at=opens, closes_at=closes
            )
            transaction.publish(Outgoing(SEASONS, events.SeasonOpened, data, row["opened_at"]))
        return _season(row)

    async def close(self, season_id: str) -> dict[str, Any]:
        """Freeze a season's standings on every board. Raises Problem 404, or 409 where that was done before."""
        async with self._pool.acquire() as connection:
            # What waits is folded before: mostly in transactions of its own, the last of it in the one that freezes.
            while await self._projector.fold(connection) == BATCH:
                pass
            async with folding(self._outbox, connection) as transaction:
                while await self._projector.fold_within(transaction) == BATCH:
                    pass
                row = await connection.fetchrow(SQL.close, season_id)
                if row is None:
                    known = await connection.fetchrow(READ.season, season_id)
                    if known is None:
                        raise Problem(404, "There is no such season.")
                    raise Problem(409, "It is closed, and stays as it is.", type="season-closed")
                period = SEASON + row["season_no"]
                await connection.execute(SQL.freeze, row["season_no"], period)
                await connection.execute(SQL.forget_open, period)
                await connection.execute(SQL.log_freeze, row["season_no"])
                first = await connection.fetch(SQL.first_standings, row["season_no"], row["board"], MOST_TOLD)
                standings = [
                    events.Standing(
                        rank=one["rank"],
                        member_id=one["member_id"],
                        points=one["points"],
                        solutions=one["solutions"],
                        reached_at=one["reached_at"],
                    )
                    for one in first
                ]
                data = events.SeasonClosedData(season_id=season_id, standings=standings)
                transaction.publish(Outgoing(SEASONS, events.SeasonClosed, data, row["closed_at"]))
        return _season(row)

    async def _instants(self, connection: Any, row: Any) -> tuple[datetime | None, datetime | None]:
        """When a season begins and ends on its board's calendar; none outside the times that events can tell."""
        found = await connection.fetchrow(SQL.instants, row["board"], row["start_on"], row["end_on"])
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        opens, closes = (max(found[name], epoch) if found[name] else None for name in ("opens_at", "closes_at"))
        return opens, closes


def _season(row: Any) -> dict[str, Any]:
    return {
        "season_id": row["season_id"],
        "name": row["name"],
        "board": row["board"],
        "start": row["start_on"],
        "end": row["end_on"],
        "state": "open" if row["closed_at"] is None else "closed",
        "opened_at": row["opened_at"],
        "closed_at": row["closed_at"],
    }
