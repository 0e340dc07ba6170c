"""Policies: which promise holds where, since when."""

from datetime import datetime
from pathlib import Path
from typing import Any

from services.topics.derive import rederive
from shared.forum import Facts, Mark, Touched
from shared.forum.facts import SQL as FACTS_SQL
from shared.messaging import Outbox
from shared.postgres import Pool, Queries
from shared.web import Problem

SQL = Queries(Path(__file__).parent / "sql" / "policies.sql")


async def read_policies(pool: Pool) -> list[dict[str, Any]]:
    """Every version of every policy; ``from`` null: it has no beginning."""
    return [
        {
            "scope": row["scope"],
            "target_seconds": row["target_seconds"],
            "objective": row["objective"],
            "from": row["from_at"],
            "in_force": row["in_force"] or False,
        }
        for row in await pool.fetch(SQL.read)
    ]


async def write_policy(
    outbox: Outbox,
    facts: Facts,
    scope: str,
    target_seconds: int,
    objective: float,
    since: datetime | None,
    by: str | None,
) -> dict[str, Any]:
    """Add a version, from now or from later on. Raises Problem 400 where it would begin in the past.

    Runs alone, as batches that change aliases do, so that no topic is derived from the policies of before.
    """
    async with outbox.transaction() as transaction:
        connection = transaction.connection
        await connection.execute(FACTS_SQL.exclusive_lock)
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        if since is not None and since < now:
            raise Problem(
                400,
                f"`from` is in the past; it is {now.isoformat()} now. A promise holds for topics that are yet to come.",
                type="policy-in-the-past",
            )
        since = since or now
        if by is not None:
            # Whoever was erased may still hold a token.
            by = (await facts.known_as(connection, [by])).get(by, by)
        await connection.execute(SQL.write, scope, since, target_seconds, objective, by)
        # Only a topic from the future of our clock, within the five minutes that are allowed, can be there already.
        rows = await connection.fetch(SQL.created_since, since)
        await rederive(transaction, Touched(topics={row["topic_id"] for row in rows}), Mark(backfill=False))
    return {"scope": scope, "target_seconds": target_seconds, "objective": objective, "from": since}
