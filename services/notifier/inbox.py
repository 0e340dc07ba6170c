"""The inbox: what was told, one line each, with why it came; and how many of them are unread."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from services.notifier.letters import Occasion, write
from services.notifier.notify import recipients_of
from services.notifier.words import words_of
from shared.postgres import UNAVAILABLE, Pool, Queries
from shared.web import decode_cursor, encode_cursor

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "inbox.sql")

MOST_COUNTED = 100
LOOK_SECONDS = 1.0


class Inbox:
    """Reads and marks; and tells those who watch when their count changes, with one query for all of them."""

    def __init__(self, pool: Pool, base: Callable[[], str]) -> None:
        self._pool, self._base = pool, base
        self._watched: Counter[str] = Counter()
        self._counts: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def page(
        self, member: str, limit: int, cursor: str | None, *, unread: bool = False, locale: str | None = None
    ) -> dict[str, Any]:
        """A page of a member's inbox, latest first."""
        at, last_id = decode_cursor(cursor, datetime, int) if cursor is not None else (None, None)
        async with self._pool.acquire() as connection:
            recipient = (await recipients_of(connection, [member]))[member]
            rows = await connection.fetch(SQL.page, member, unread, at, last_id, limit + 1)
            count = await connection.fetchval(SQL.unread, member, MOST_COUNTED)
        words = words_of(locale or recipient.locale)
        items = []
        for row in rows[:limit]:
            data = json.loads(row["data"])
            if row["title"] is not None:
                data["title"] = row["title"]
            data.setdefault("url", row["url"])
            letter = write(
                Occasion(row["what"], data, row["topic_id"], row["actor_name"], recipient.zone, self._base()), words
            )
            items.append(
                {
                    "notification_id": str(row["notification_id"]),
                    "category": row["category"],
                    "title": letter.subject,
                    "text": " ".join(letter.paragraphs),
                    "url": letter.action[1] if letter.action else None,
                    "why": letter.why,
                    "topic_id": row["topic_id"],
                    "at": row["at"],
                    "read_at": row["read_at"],
                }
            )
        more = len(rows) > limit
        last = rows[limit - 1] if more else None
        return {
            "items": items,
            "unread": count,
            "next": encode_cursor([last["at"], last["notification_id"]]) if last else None,
        }

    async def mark(self, member: str, ids: Sequence[int] | None, *, read: bool) -> int:
        """Mark notifications as read or unread (None: all that there are) and return how many are unread."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                SQL.mark_all if ids is None else SQL.mark, member, read, *([] if ids is None else [ids])
            )
            count: int = await connection.fetchval(SQL.unread, member, MOST_COUNTED)
        await self._note({member: count})
        return count

    async def unread(self, member: str) -> int:
        """How many are unread, counted up to a hundred."""
        count: int = await self._pool.fetchval(SQL.unread, member, MOST_COUNTED)
        return count

    # --- live -----------------------------------------------------------------------------------------------------

    async def keep_up(self) -> None:
        """Look for everyone who watches, until cancelled."""
        while True:
            if self._watched:
                try:
                    rows = await self._pool.fetch(SQL.unread_of_many, sorted(self._watched), MOST_COUNTED)
                    await self._note({row["member_id"]: row["unread"] for row in rows})
                except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                    log.info("unread counts could not be read: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def watching(self, member: str) -> AsyncIterator[None]:
        """Within this block the member's count is kept up."""
        self._watched[member] += 1
        try:
            yield
        finally:
            self._watched[member] -= 1
            if not self._watched[member]:
                del self._watched[member]
                self._counts.pop(member, None)

    async def changes(self, member: str, silence: float) -> AsyncIterator[int | None]:
        """The unread count now and whenever it changes; None after every ``silence`` seconds without a change."""
        async with self.watching(member):
            known = await self.unread(member)
            self._counts[member] = known
            yield known
            while True:
                try:
                    async with asyncio.timeout(silence), self._changed:
                        while self._counts.get(member, known) == known:
                            await self._changed.wait()
                except TimeoutError:
                    yield None
                else:
                    known = self._counts[member]
                    yield known

    async def _note(self, counts: dict[str, int]) -> None:
        fresh = {member: count for member, count in counts.items() if member in self._watched}
        if any(self._counts.get(member) != count for member, count in fresh.items()):
            async with self._changed:
                self._counts |= fresh
                self._changed.notify_all()
