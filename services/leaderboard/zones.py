"""The time zone of each board: in which an entry's local date is."""

from typing import Any

from services.leaderboard.projector import SQL, folding, rebuild
from shared.forum import Facts
from shared.messaging import Outbox
from shared.postgres import Pool
from shared.web import Problem


async def set_time_zone(
    pool: Pool, outbox: Outbox, facts: Facts, board: str, name: str, by: str | None
) -> dict[str, Any]:
    """Put a board on a time zone, and derive it again. Raises Problem 400 for what is no name of one."""
    async with pool.acquire() as connection, folding(outbox, connection):
        if not await connection.fetchval(SQL.is_time_zone, name):
            raise Problem(400, f"time_zone: {name[:64]!r} is no name of the IANA database, such as Europe/Berlin.")
        if by is not None:
            # Whoever was erased may still hold a token.
            by = (await facts.known_as(connection, [by])).get(by, by)
        await connection.execute(SQL.write_time_zone, board, name, by)
        await connection.execute(SQL.set_board_time_zone, board, name)
        await rebuild(connection, board)
        await connection.execute(SQL.log_changes, [board], [None])
    return {"board": board, "time_zone": name}
