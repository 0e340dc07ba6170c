"""The waiting queue and a single topic: what people read."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from services.topics import rules
from services.topics.report import Scope
from shared.postgres import Pool, Queries
from shared.web import decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "queue.sql")

_WORD = re.compile(r"\w+")
_MOST_WORDS = 8
COUNT_SECONDS = 1.0


class QueueState(StrEnum):
    """What can be asked for; without one, waiting and breached."""

    waiting = "waiting"
    answered = "answered"
    breached = "breached"


_WHERE = {
    QueueState.waiting: "s.waiting AND s.due_at >= now()",
    QueueState.breached: "s.waiting AND s.due_at < now()",
    QueueState.answered: "s.response_reply_id IS NOT NULL AND s.known AND s.visible AND NOT s.closed"
    " AND s.kind = 'question'",
    None: "s.waiting",
}


def state_of(row: Any) -> str | None:
    """deleted, closed, answered, breached or waiting, the first that fits; None for an open discussion."""
    if not row["visible"]:
        return "deleted"
    if row["closed"]:
        return "closed"
    if row["response_reply_id"] is not None:
        return "answered"
    if row["kind"] != rules.QUESTION:
        return None
    return "breached" if row["due_at"] < row["now"] else "waiting"


def first_response(row: Any) -> dict[str, Any] | None:
    """The standing first response of a row, or None."""
    if row["response_reply_id"] is None:
        return None
    return {
        "reply_id": row["response_reply_id"],
        "responder_id": row["responder_id"],
        "at": row["response_at"],
        "seconds": row["response_us"] / 1_000_000,
        "within_target": row["response_us"] <= row["target_us"],
    }


def _topic(row: Any, claim: Any) -> dict[str, Any]:
    stage = None
    if row["waiting"]:
        reached = rules.stage_at(row["created_at"], timedelta(microseconds=row["target_us"]), row["now"])
        stage = reached.name if reached else None
    return {
        "topic_id": row["topic_id"],
        "title": row["title"],
        "url": row["url"],
        "space": row["space"],
        "language": row["language"],
        "tags": json.loads(row["tags"]),
        "kind": row["kind"],
        "author_id": row["author_id"],
        "created_at": row["created_at"],
        "state": state_of(row),
        "due_at": row["due_at"],
        "stage": stage,
        "claim": claim,
        "first_response": first_response(row),
    }


async def read_topic(pool: Pool, topic_id: str) -> dict[str, Any] | None:
    """Everything about one topic; a merged-away one answers as what it was merged into. None where unknown."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(SQL.resolve, topic_id)
        if row is None:
            return None
        claim = await connection.fetchrow(SQL.open_claim, row["topic_id"])
        solution = await connection.fetchrow(SQL.solution, row["topic_id"])
        timeline = await connection.fetch(SQL.timeline, row["topic_id"])
    return {
        **_topic(row, None if claim is None else {"member_id": claim["member_id"], "until": claim["until"]}),
        "solution": None if solution is None else dict(solution),
        "replies": row["replies"],
        "timeline": [{key: value for key, value in entry.items() if value is not None} for entry in timeline],
    }


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which part of the queue is asked for; None: all of it. ``claimed_by`` is a member as aliases call them."""

    state: QueueState | None = None
    space: str | None = None
    language: str | None = None
    tag: str | None = None
    claimed_by: str | None = None
    unclaimed: bool = False


async def read_queue(
    pool: Pool, chosen: Chosen, limit: int, cursor: str | None, *, latest_first: bool = False
) -> dict[str, Any]:
    """A page of the queue, soonest due first; or the latest due first, for what is over anyway."""
    after, order = ("<", "DESC") if latest_first else (">", "ASC")
    query = SQL.page.replace("{state}", _WHERE[chosen.state]).replace("{after}", after).replace("{order}", order)
    query = query.replace("{claimed}", SQL.anybody if chosen.claimed_by is None else SQL.claimed)
    narrowed = (chosen.space, chosen.language, chosen.tag, chosen.claimed_by, chosen.unclaimed)
    rows = await pool.fetch(query, *narrowed, *_after(cursor), limit + 1)
    return _page(rows, limit, "due_at")


class Outcome(StrEnum):
    """What became of a question, as the report counts it."""

    met = "met"
    missed = "missed"
    pending = "pending"


async def read_asked(
    pool: Pool, scope: Scope, since: datetime, until: datetime, outcome: Outcome | None, limit: int, cursor: str | None
) -> dict[str, Any]:
    """A page of the questions that the report counts in a scope, created in [since, until), the earliest first."""
    rows = await pool.fetch(SQL.asked, since, until, scope.space, scope.language, outcome, *_after(cursor), limit + 1)
    return _page(rows, limit, "created_at")


async def search(pool: Pool, text: str, limit: int) -> list[dict[str, Any]]:
    """Topics by their id or by the beginnings of words in their titles, the latest first."""
    query = " & ".join(f"'{word}':*" for word in _WORD.findall(text)[:_MOST_WORDS])
    return [_topic(row, None) for row in await pool.fetch(SQL.search, text.strip(), query, limit)]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many wait: in all, too long, and by space and language; and when the next one is due."""

    waiting: int
    breached: int
    next_due: datetime | None
    spaces: dict[str, int]
    languages: dict[str, int]


async def read_counts(pool: Pool) -> Counts:
    """The queue in numbers."""
    rows = await pool.fetch(SQL.waiting_counts)
    spaces: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    for row in rows:
        if row["space"]:
            spaces[row["space"]] += row["waiting"]
        if row["language"]:
            languages[row["language"]] += row["waiting"]
    return Counts(
        sum(row["waiting"] for row in rows),
        sum(row["breached"] for row in rows),
        min((row["next_due"] for row in rows if row["next_due"]), default=None),
        dict(spaces.most_common()),
        dict(languages.most_common()),
    )


class Numbers:
    """The queue in numbers, as pages show them: counted at most once a second, however many look."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._lock = pool, asyncio.Lock()
        self._counted: tuple[float, Counts] | None = None

    async def read(self) -> Counts:
        """How it stands, or stood within the last second."""
        async with self._lock:
            if self._counted is None or time.monotonic() - self._counted[0] > COUNT_SECONDS:
                self._counted = (time.monotonic(), await read_counts(self._pool))
            return self._counted[1]


async def read_names(pool: Pool, member_ids: Iterable[str | None]) -> dict[str, str]:
    """What members are called, of those whose name is known."""
    rows = await pool.fetch(SQL.names, sorted({id for id in member_ids if id}))
    return {row["member_id"]: row["name"] for row in rows}


def _after(cursor: str | None) -> tuple[datetime | None, str | None]:
    if cursor is None:
        return None, None
    instant, topic_id = decode_cursor(cursor, datetime, str)
    return instant, topic_id


def _page(rows: list[Any], limit: int, by: str) -> dict[str, Any]:
    items = []
    for row in rows[:limit]:
        claim = None if row["claimed_by"] is None else {"member_id": row["claimed_by"], "until": row["until"]}
        items.append(_topic(row, claim))
    last = rows[limit - 1] if len(rows) > limit else None
    return {"items": items, "next": encode_cursor([last[by], last["topic_id"]]) if last else None}
