"""Boards that tell of their changes: server-sent events, throttled, and resumed where they broke off."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

from services.leaderboard.boards import SQL, Asked, read_moved
from shared.postgres import UNAVAILABLE, Pool

POLL_SECONDS = 0.2
THROTTLE_SECONDS = 1.0
"""At most one message in so many seconds; what happens meanwhile is in the next one."""

HEARTBEAT_SECONDS = 15.0
STILL_HERE = b": still here\n\n"
MOST_NAMED = 50
"""Of more members than these a watcher is told to read the board again."""


class Watch:
    """One look at what changed for all who watch in this process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled: wake those whose board changed. Nothing is asked while nobody watches."""
        seen: int | None = None
        while True:
            if not self._watchers:
                seen = None
                await self._changed.wait()
            self._changed.clear()
            if seen is None:
                seen = await self._pool.fetchval(SQL.latest_fold)
            for row in await self._pool.fetch(SQL.boards_moved, seen):
                seen = max(seen or 0, row["fold"])
                for event in self._watchers.get(row["board"], ()):
                    event.set()
            await asyncio.sleep(POLL_SECONDS)

    async def messages(self, asked: Asked, last_id: int | None) -> AsyncIterator[bytes]:
        """What to send to one watcher: first where they are, then changes. ``last_id`` is what they saw before.

        Once a season is closed there are none: after the word that it is to be read again, nothing but heartbeats.
        """
        moved = asyncio.Event()
        self._watchers.setdefault(asked.board, set()).add(moved)
        self._changed.set()
        try:
            seen = last_id
            # Whoever was here before may have missed that it closed.
            frozen = seen is None and await self._is_frozen(asked)
            if seen is None:
                seen = await self._pool.fetchval(SQL.latest_fold)
                yield _message("watching", seen, {"board": asked.board, "window": asked.window})
            else:
                moved.set()
            while not frozen:
                try:
                    await asyncio.wait_for(moved.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield STILL_HERE
                    continue
                moved.clear()
                try:
                    found = await self._changes(asked, seen)
                    # Only then: of a season that closed meanwhile nobody was found any more.
                    frozen = await self._is_frozen(asked)
                    if frozen:
                        found = _reload(asked, await self._pool.fetchval(SQL.latest_fold))
                except UNAVAILABLE:
                    return  # the browser comes back, and says what it has seen
                if found is not None:
                    seen, message = found
                    yield message
                await asyncio.sleep(THROTTLE_SECONDS)
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                yield STILL_HERE
        finally:
            watchers = self._watchers.get(asked.board, set())
            watchers.discard(moved)
            if not watchers:
                self._watchers.pop(asked.board, None)

    async def _changes(self, asked: Asked, seen: int) -> tuple[int, bytes] | None:
        row = await self._pool.fetchrow(SQL.changes_since, asked.board, seen)
        if row["fold"] is None:
            latest = await self._pool.fetchval(SQL.latest_fold)
            # What was seen may be forgotten, or what came after it; or it is of another database.
            return _reload(asked, latest) if row["forgotten"] or latest < seen else None
        members = row["member_ids"] or []
        if row["forgotten"] or not row["named"] or len(members) > MOST_NAMED:
            return _reload(asked, row["fold"])
        entries, gone = await read_moved(self._pool, asked, members)
        if not entries and not gone:
            return None  # of who is not to be seen nobody learns even that there is something
        return row["fold"], _message("changed", row["fold"], _head(asked) | {"entries": entries, "gone": gone})

    async def _is_frozen(self, asked: Asked) -> bool:
        """Whether what is asked for is a season that is closed by now."""
        if asked.season is None:
            return False
        season = await self._pool.fetchrow(SQL.season, asked.season["season_id"])
        return season["closed_at"] is not None


def _head(asked: Asked) -> dict[str, Any]:
    return {"board": asked.board, "window": asked.window}


def _reload(asked: Asked, id: int) -> tuple[int, bytes]:
    return id, _message("reload", id, _head(asked))


def _message(event: str, id: int, data: dict[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, default=_text)
    return f"id: {id}\nevent: {event}\ndata: {text}\n\n".encode()


def _text(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)
