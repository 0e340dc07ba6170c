"""A member's ledger, and whether others may see them."""

from datetime import datetime
from pathlib import Path
from typing import Any

from services.leaderboard.boards import SQL
from services.leaderboard.projector import SQL as BOARDS_SQL
from services.leaderboard.projector import folding
from shared.forum import Facts
from shared.messaging import Outbox
from shared.postgres import Pool, Queries
from shared.web import Principal, Problem, Role, decode_cursor, encode_cursor

VISIBILITY = Queries(Path(__file__).parent / "sql" / "visibility.sql")


class Members:
    """What members are told of themselves, and what of them is told to others."""

    def __init__(self, pool: Pool, outbox: Outbox, facts: Facts) -> None:
        self._pool, self._outbox, self._facts = pool, outbox, facts

    async def ledger(
        self, member_id: str, principal: Principal | None, limit: int, cursor: str | None
    ) -> dict[str, Any]:
        """Every entry, the latest first, with why it counts or not. Raises Problem 404, also for who is hidden."""
        await self._not_erased(self._pool, member_id)
        who = await self._pool.fetchrow(SQL.who, member_id)
        hidden = who["unlisted"] and not who["erased"]
        if hidden and not await self._may_see(self._pool, who["member_id"], principal):
            raise Problem(404, "There is no such member.")
        position: list[Any] = []
        if cursor is not None:
            position = decode_cursor(cursor, datetime, str)
            if None in position:
                raise Problem(400, "The cursor is not one that this list gave out.", type="bad-cursor")
        query = SQL.ledger.replace("{after}", SQL.ledger_after if position else "")
        rows = await self._pool.fetch(query, who["member_id"], limit + 1, *position)
        if not rows and not who["known"] and cursor is None:
            raise Problem(404, "There is no such member.")
        last = rows[limit - 1] if len(rows) > limit else None
        return {
            "member_id": who["member_id"],
            "points": who["points"],
            "entries": [_entry(row) for row in rows[:limit]],
            "next": encode_cursor([last["at"], last["entry_id"]]) if last else None,
        }

    async def visibility(self, member_id: str, principal: Principal) -> dict[str, Any]:
        """Whether others may see a member. Raises Problem 403."""
        root = await self._own(self._pool, member_id, principal)
        hidden = await self._pool.fetchval(VISIBILITY.is_hidden, root)
        return {"member_id": root, "visible": not hidden}

    async def set_visibility(self, member_id: str, principal: Principal, visible: bool) -> dict[str, Any]:
        """Let a member be seen or not, on every board from now on. Raises Problem 403 or 404."""
        await self._own(self._pool, member_id, principal)
        async with self._pool.acquire() as connection, folding(self._outbox, connection) as transaction:
            # While the lock was waited for they may have been erased, or have come to stand for somebody else.
            root = await self._own(connection, member_id, principal)
            # Of an account with others merged into it, what holds for one of them holds for all.
            await transaction.connection.execute(VISIBILITY.show if visible else VISIBILITY.hide, root)
            moved = await transaction.connection.fetch(BOARDS_SQL.relist, [root])
            boards = [row["board"] for row in moved]
            if boards:
                await transaction.connection.execute(BOARDS_SQL.log_changes, boards, [None] * len(boards))
        return {"member_id": root, "visible": visible}

    async def is_erased(self, member_id: str) -> bool:
        """Whether this is an id of somebody who was erased: nothing is told under it any more."""
        return await self._is_erased(self._pool, member_id)

    async def _is_erased(self, connection: Any, member_id: str) -> bool:
        return bool(await connection.fetchval(VISIBILITY.is_erased, self._facts.stand_in(member_id), member_id))

    async def _not_erased(self, connection: Any, member_id: str) -> None:
        if await self._is_erased(connection, member_id):
            raise Problem(404, "There is no such member.")

    async def _own(self, connection: Any, member_id: str, principal: Principal) -> str:
        await self._not_erased(connection, member_id)
        root: str = await connection.fetchval(VISIBILITY.root_of, member_id)
        if not await self._may_see(connection, root, principal):
            raise Problem(403, "That is the member's own to say, and the staff's.")
        return root

    async def _may_see(self, connection: Any, root: str, principal: Principal | None) -> bool:
        """Staff, and the member whoever of their accounts the token names."""
        if principal is None:
            return False
        if principal.has(Role.STAFF):
            return True
        if principal.member_id is None:
            return False
        return bool(root == await connection.fetchval(VISIBILITY.root_of, principal.member_id))


def _entry(row: Any) -> dict[str, Any]:
    return {
        "entry_id": row["entry_id"],
        "rule": row["rule"],
        "points": row["points"],
        "status": row["status"],
        "reason": row["reason"],
        "cause": {"topic_id": row["topic_id"], "reply_id": row["reply_id"], "kudos_id": row["kudos_id"]},
        "space": row["space"],
        "at": row["at"],
    }
