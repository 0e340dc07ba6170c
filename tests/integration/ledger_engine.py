"""The leaderboard engine without Kafka: batches straight into the consumer, on one connection that is rolled back."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from services.leaderboard import boards
from services.leaderboard.app import facts_of
from services.leaderboard.boards import Asked, read_board, read_member
from services.leaderboard.consumer import STREAMS, LeaderboardConsumer
from services.leaderboard.members import Members
from services.leaderboard.projector import Projector, folding, rebuild
from services.leaderboard.rewriting import Rewriter, set_rules
from services.leaderboard.rules import RuleSet
from services.leaderboard.seasons import Seasons
from services.leaderboard.windows import Window
from services.leaderboard.zones import set_time_zone
from shared.contracts.codec import StrictReader
from shared.messaging import Batch, Outbox, Record, Transaction
from shared.postgres import Pool, create_pool
from shared.postgres.pool import connect
from shared.web import Principal, Role
from tests.integration.engine import OneConnection, plain
from tests.oracle.ledger import Row, Version

READER = StrictReader(STREAMS)
STAFF = Principal("staff", frozenset({Role.STAFF}))
PAGE = 200


@asynccontextmanager
async def fresh(connection: asyncpg.Connection, key: bytes) -> AsyncIterator["LedgerEngine"]:
    """An engine whose work is undone in the end."""
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        yield LedgerEngine(connection, key)
    finally:
        await transaction.rollback()


@asynccontextmanager
async def apart(dsn: str, key: bytes) -> AsyncIterator["LedgerEngine"]:
    """An engine whose doors have connections of their own, beside its batches'. In the end everything is forgotten."""
    pool = create_pool(dsn, "leaderboard", 8)
    await pool
    connection = await connect(dsn, "leaderboard")
    try:
        yield LedgerEngine(connection, key, pool)
    finally:
        pool.terminate()
        await connection.close()
        connection = await connect(dsn, "leaderboard")
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema"
            " AND tablename NOT IN ('migration', 'rule_version', 'epoch')"
        )
        await connection.execute(f"TRUNCATE {', '.join(row['tablename'] for row in rows)}")
        await connection.execute("DELETE FROM rule_version WHERE version > 1")
        await connection.execute("UPDATE epoch SET current = 1, oldest = 1, shadow = NULL, walked = NULL")
        await connection.close()


class LedgerEngine:
    """The leaderboard's consumer, projector, rewriter and doors, and what can be asked of its state."""

    def __init__(self, connection: asyncpg.Connection, key: bytes, pool: Pool | None = None) -> None:
        self.connection, self.pool = connection, pool or OneConnection(connection)
        self.facts = facts_of(key)
        self.outbox = Outbox(self.pool, "leaderboard")
        self.projector = Projector("", "leaderboard", self.outbox)
        self.rewriter = Rewriter("", "leaderboard", self.outbox, self.projector)
        self.members = Members(self.pool, self.outbox, self.facts)
        self.seasons = Seasons(self.pool, self.outbox, self.projector)
        self._consumer = LeaderboardConsumer(self.facts)

    async def apply(self, events: Sequence[dict[str, Any]]) -> None:
        """Apply one batch in a transaction of its own."""
        async with self.connection.transaction():
            transaction = Transaction(self.connection, "/constellation/leaderboard")
            appended = datetime(2030, 1, 1, tzinfo=UTC)
            records = [Record(READER.read(event), "any", 0, n, appended) for n, event in enumerate(events)]
            await self._consumer.apply(Batch(transaction, records))
            await transaction.write_outbox()

    async def fold(self) -> None:
        """Fold everything that waits."""
        while await self.projector.fold(self.connection):
            pass

    async def rebuild(self) -> None:
        """Derive every board from the ledger again."""
        async with folding(self.outbox, self.connection):
            await rebuild(self.connection)

    async def rewrite(self) -> None:
        """Let the rewriter do all that it has to do."""
        while await self.rewriter.step(self.connection):
            pass

    async def set_rules(self, version: Version, *, rewrite: bool) -> None:
        """Set a version of the rules."""
        await set_rules(self.outbox, self.pool, rule_set(version), rewrite=rewrite)

    async def set_zone(self, board: str, zone: str) -> None:
        """Put a board on a time zone."""
        await set_time_zone(self.pool, self.outbox, self.facts, board, zone, None)

    async def show(self, member_id: str, visible: bool) -> None:
        """Let a member be seen or not."""
        await self.members.set_visibility(member_id, STAFF, visible)

    # What is asked

    async def ledger(self) -> dict[tuple[str, tuple[str, ...]], Row]:
        """Every row, as the oracle has them."""
        rows = await self.connection.fetch("SELECT * FROM ledger WHERE epoch = (SELECT current FROM epoch)")
        found = {}
        for row in rows:
            cause = {
                "reply": (row["reply_id"],),
                "first-response": (row["topic_id"],),
                "solution": (row["topic_id"], row["reply_id"]),
                "kudos": (row["kudos_id"],),
            }[row["rule"]]
            same = ("rule", "member_id", "points", "status", "reason", "topic_id", "reply_id", "kudos_id")
            values = {name: row[name] for name in (*same, "space", "language", "star")}
            found[row["rule"], cause] = Row(cause=cause, at=_micros(row["at"]), **values)
        assert len(found) == len(rows)
        return found

    async def pages(self, asked: Asked, limit: int = PAGE) -> list[dict[str, Any]]:
        """All of a board, page by page."""
        entries: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await read_board(self.pool, asked, limit, cursor)
            entries += page["entries"]
            cursor = page["next"]
            if cursor is None:
                return entries

    async def board(self, board: str, window: str = "all", at: date | None = None, limit: int = PAGE) -> list[Any]:
        """A board as (rank, member, points, solutions)."""
        entries = await self.pages(Asked(board, Window(window), at), limit)
        return [(one["rank"], one["member_id"], one["points"], one["solutions"]) for one in entries]

    async def place(self, board: str, member_id: str, window: str = "all", at: date | None = None) -> Any:
        """A member's place on a board."""
        return await read_member(self.pool, Asked(board, Window(window), at), member_id)

    async def season(self, season_id: str, board: str = "everyone") -> list[Any]:
        """A season's standings."""
        asked = await boards.ask(self.pool, board, Window.season, None, season_id)
        entries = await self.pages(asked)
        return [(one["rank"], one["member_id"], one["points"], one["solutions"]) for one in entries]

    async def standings(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is derived for boards, without the numbers that name them."""
        found = {}
        for table, columns in {
            "standing": "period, member_id, points, solutions, entries, reached_at, listed",
            "score": "period, points, members",
            "score_block": "period, block, members",
        }.items():
            rows = await self.connection.fetch(
                f"SELECT board, {columns} FROM {table} JOIN board USING (board_no)"
                " WHERE epoch = (SELECT current FROM epoch)"
            )
            found[table] = sorted(tuple(map(repr, row.values())) for row in rows)
        return found

    async def outgoing(self) -> list[dict[str, Any]]:
        """Every event that was published, in order."""
        rows = await self.connection.fetch("SELECT value FROM outbox ORDER BY id")
        return [json.loads(row["value"]) for row in rows]

    async def told(self) -> dict[str, dict[str, int]]:
        """By member, the entries that stand by what was published, with their points."""
        last: dict[tuple[str, str], dict[str, Any]] = {}
        for event in await self.outgoing():
            if event["type"].startswith("points-"):
                key = event["data"]["member_id"], event["data"]["entry_id"]
                assert key not in last or last[key]["sequence"] < event["sequence"]
                last[key] = event
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for (member, entry), event in last.items():
            if event["type"] == "points-awarded":
                found[member][entry] = event["data"]["points"]
        return dict(found)

    async def effective(self) -> dict[str, dict[str, int]]:
        """By member, the entries that count, with their points."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for row in await self.connection.fetch(
            "SELECT member_id, entry_id, points FROM ledger"
            " WHERE status = 'effective' AND epoch = (SELECT current FROM epoch)"
        ):
            found[row["member_id"]][row["entry_id"]] = row["points"]
        return dict(found)


def rule_set(version: Version) -> RuleSet:
    """A version as its file would say it."""
    return RuleSet.model_validate(
        {
            "rule_set": "classic",
            "version": version["version"],
            "from": version["from"],
            "rules": {
                "reply": {"points": version["reply"], "most": version["most"]},
                "first-response": {"points": version["first-response"], "kinds": list(version["kinds"])},
                "solution": {"points": version["solution"]},
                "kudos": {"points": version["kudos"]},
            },
        }
    )


def _micros(at: datetime) -> int:
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def first_responses(standing: Iterable[dict[str, Any]], start: int = 1) -> list[dict[str, Any]]:
    """The events of topics.events that leave these first responses standing."""
    return [
        {
            "specversion": "1.0",
            "id": f"topics.events/{data['topic_id']}/{start}",
            "source": "/constellation/topics",
            "type": "first-response-recorded",
            "time": data["answered_at"],
            "sequence": start,
            "data": data,
        }
        for data in standing
    ]


__all__ = ["LedgerEngine", "asyncio", "first_responses", "fresh", "plain", "rule_set"]
