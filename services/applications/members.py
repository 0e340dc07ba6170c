"""Who asks, and what members are called."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.forum.identity import STAND_IN_PREFIX
from shared.postgres import Queries
from shared.web import Principal, Problem, Role

SQL = Queries(Path(__file__).parent / "sql" / "members.sql")


class Members:
    """Members by the one whom their accounts stand for."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    async def root(self, connection: Any, member_id: str) -> str:
        """Whom an account's id stands for."""
        return (await self.facts.known_as(connection, [member_id])).get(member_id, member_id)

    async def acting(self, connection: Any, principal: Principal, *, alone: bool = True) -> str:
        """The member who asks, under their lock, while nobody is merged or erased. Raises Problem 403.

        ``alone`` False: without the lock, for who only reads or acts on something else that is locked.
        """
        if principal.member_id is None:
            raise Problem(403, "The token names no member.")
        await connection.execute(FACTS_SQL.share_lock)
        member = await self.root(connection, principal.member_id)
        if member.startswith(STAND_IN_PREFIX):
            raise Problem(403, "There is no such member any more.")
        if alone:
            await self.lock(connection, member)
        return member

    async def lock(self, connection: Any, member: str) -> None:
        """Nobody else decides anything about this member until the transaction ends."""
        await connection.execute(SQL.lock_member, member)

    async def reading(self, connection: Any, principal: Principal | None) -> str | None:
        """The member who asks, None for anyone."""
        if principal is None or principal.member_id is None:
            return None
        return await self.root(connection, principal.member_id)

    async def ids(self, connection: Any, member: str) -> list[str]:
        """All ids that stand for a member, the member's own first."""
        return [member, *(row["id"] for row in await connection.fetch(SQL.aliases_of, member))]


def check_owner(owner: str, member: str | None, principal: Principal | None) -> None:
    """Let the owner and staff pass. Others hear 404: what exists is nobody else's business."""
    if member == owner or (principal is not None and principal.has(Role.STAFF)):
        return
    raise Problem(404, "There is no such thing, or it is not yours.")


async def names_of(connection: Any, member_ids: Iterable[str | None]) -> dict[str, str]:
    """What members are called; their ids where no name is known."""
    ids = sorted({id for id in member_ids if id})
    rows = await connection.fetch(SQL.names, ids)
    return {id: id for id in ids} | {row["member_id"]: row["name"] for row in rows}


async def spaces_of(connection: Any, member: str) -> Sequence[Any]:
    """Where a member helps, the most first: rows space, language, replies."""
    rows: Sequence[Any] = await connection.fetch(SQL.spaces, member)
    return rows
