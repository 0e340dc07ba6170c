"""The inbox: what was told, one line each, with why it came; and how many of them are unread."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from services.notifier.letters import Letter, Occasion, write
from services.notifier.notify import recipients_of
from services.notifier.rules import CATEGORIES, CHANNELS, Recipient, decide, local_day, mutes
from services.notifier.words import Words, words_of
from shared.postgres import Pool, Queries
from shared.web import decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "inbox.sql")

MOST_COUNTED = 100


class Inbox:
    """Reads and marks."""

    def __init__(self, pool: Pool, base: Callable[[], str]) -> None:
        self._pool, self._base = pool, base

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
            letter = self._letter(row, recipient, words)
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

    async def line(self, member: str, notification_id: int) -> dict[str, Any] | None:
        """Where a notification of a member's leads; None where it is not theirs."""
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(SQL.line, member, notification_id)
            if row is None:
                return None
            recipient = (await recipients_of(connection, [member]))[member]
        letter = self._letter(row, recipient, words_of(recipient.locale))
        return {"url": letter.action[1] if letter.action else None}

    async def lately(self, member: str, most: int) -> list[dict[str, Any]]:
        """What the last week brought, with what would become of each by the preferences of now."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(SQL.lately, member, ["verification", "digest"], most)
            recipient = (await recipients_of(connection, [member]))[member]
        # Whether there is a pause now says nothing about a week.
        recipient = replace(recipient, paused_until=None)
        words, found = words_of(recipient.locale), []
        spent: Counter[date] = Counter()
        for row in sorted(rows, key=lambda row: (row["at"], row["notification_id"])):
            category, data, day = (
                CATEGORIES[row["category"]],
                json.loads(row["data"]),
                local_day(row["at"], recipient.zone),
            )
            decisions = {
                channel: decide(
                    category,
                    channel,
                    recipient,
                    row["at"],
                    row["expires_at"],
                    muted=mutes(recipient, row["topic_id"], data),
                    spent=spent[day],
                )
                for channel in CHANNELS
                if channel != "push" or recipient.push
            }
            told = [
                channel for channel in ("email", "push") if channel in decisions and decisions[channel].action == "send"
            ]
            spent[day] += bool(told) and not category.critical
            found.append(
                {
                    "at": row["at"],
                    "title": self._letter(row, recipient, words).subject,
                    "decisions": decisions,
                }
            )
        return found[::-1]

    def _letter(self, row: Any, recipient: Recipient, words: Words) -> Letter:
        data = json.loads(row["data"])
        if row["title"] is not None:
            data["title"] = row["title"]
        data.setdefault("url", row["url"])
        return write(
            Occasion(row["what"], data, row["topic_id"], row["actor_name"], recipient.zone, self._base()), words
        )

    async def mark(self, member: str, ids: Sequence[int] | None, *, read: bool) -> int:
        """Mark notifications as read or unread (None: all that there are) and return how many are unread."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                SQL.mark_all if ids is None else SQL.mark, member, read, *([] if ids is None else [ids])
            )
            count: int = await connection.fetchval(SQL.unread, member, MOST_COUNTED)
        return count

    async def unread(self, member: str) -> int:
        """How many are unread, counted up to a hundred."""
        count: int = await self._pool.fetchval(SQL.unread, member, MOST_COUNTED)
        return count
