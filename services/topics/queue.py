"""The waiting queue and a single topic: what people read."""

import json
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from services.topics import rules
from shared.postgres import Pool, Queries
from shared.web import decode_cursor, encode_cursor

SQL = Queries(Path(__file__).parent / "sql" / "queue.sql")


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


async def read_queue(
    pool: Pool,
    state: QueueState | None,
    space: str | None,
    language: str | None,
    tag: str | None,
    claimed_by: str | None,
    limit: int,
    cursor: str | None,
) -> dict[str, Any]:
    """A page of the queue, soonest due first."""
    after: tuple[datetime | None, str | None] = (None, None)
    if cursor is not None:
        due_at, topic_id = decode_cursor(cursor, datetime, str)
        after = (due_at, topic_id)
    query = SQL.page.replace("{state}", _WHERE[state])
    rows = await pool.fetch(query, space, language, tag, claimed_by, *after, limit + 1)
    items = []
    for row in rows[:limit]:
        claim = None if row["claimed_by"] is None else {"member_id": row["claimed_by"], "until": row["until"]}
        items.append(_topic(row, claim))
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    return {"items": items, "next": encode_cursor([last["due_at"], last["topic_id"]]) if last else None}
