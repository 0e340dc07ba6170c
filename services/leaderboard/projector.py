"""The projector: folds what changed in the ledger into the boards, and tells what that means for members."""

import asyncio
import contextlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from shared.contracts import leaderboard as events
from shared.contracts.catalogue import LEADERBOARD
from shared.messaging import Outbox, Outgoing, Transaction
from shared.observability import metrics
from shared.postgres import UNAVAILABLE, Queries, arrays
from shared.postgres.singleton import STANDBY_SECONDS, held_alone

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "boards.sql")

BATCH = 20_000
POLL_SECONDS = 0.1
FLOOD, REST, LONGEST_REST = 250, 2.0, 0.8
"""After a fold of so many the projector rests so many times as long, at most so many seconds, or until no more is known
to come: of what happens to a member meanwhile, all is one change of their standings. So a flood costs little more than
its members."""

FORGET_SECONDS = 60.0
MOST_NAMED = 200
"""Of more members than these a watcher is told only that the board changed."""

FOLD_TAKEN = SQL.fold.replace("{postings}", SQL.taken_postings).replace("{boards}", "").replace("{periods}", "")
FOLD_NAMED = SQL.fold.replace("{postings}", SQL.named_postings).replace("{boards}", "").replace("{periods}", "")
FOLD_ALL = (
    SQL.fold.replace("{postings}", SQL.all_postings)
    .replace("{boards}", "AND ($1::text IS NULL OR b.board = $1) AND b.epoch >= (SELECT current FROM epoch)")
    .replace("{periods}", "WHERE $2::int IS NULL OR w.period = $2")
)


@contextlib.asynccontextmanager
async def folding(outbox: Outbox, connection: Any, *, alone: bool = False) -> AsyncIterator[Transaction]:
    """A transaction that alone may write boards. The lock comes first: all of it sees one snapshot taken under it.

    ``alone``: nor may batches come in meanwhile.
    """
    locks = [(SQL.lock_boards, SQL.unlock_boards)] + ([(SQL.lock_facts, SQL.unlock_facts)] if alone else [])
    held: list[str] = []
    try:
        for lock, unlock in locks:
            await connection.execute(lock)
            held.insert(0, unlock)
        async with outbox.transaction_on(connection, "repeatable_read") as transaction:
            await connection.execute(SQL.plan_for_folds)
            yield transaction
    finally:
        for unlock in held:
            if not connection.is_closed():
                await connection.execute(unlock)


async def rebuild(connection: Any, board: str | None = None, period: int | None = None) -> None:
    """Derive boards from the ledger again: all, one, or all in one period. The caller is ``folding``."""
    await connection.execute(SQL.clear_boards, board, period)
    await derive_boards(connection, board, period)


async def derive_boards(connection: Any, board: str | None = None, period: int | None = None) -> None:
    """The same, where nothing is on them yet."""
    await connection.fetch(FOLD_ALL, board, period)


class Projector:
    """Folds by one process of the service at a time; the others stand by."""

    def __init__(self, dsn: str, service: str, outbox: Outbox) -> None:
        self._dsn, self._service, self._outbox = dsn, service, outbox
        self.wake = asyncio.Event()
        """Set when this process has written entries: the projector need not wait for its next look."""
        self._ebb = asyncio.Event()
        """Set while nothing more is known to come from this process."""
        self._ebb.set()

    def written(self, more: bool) -> None:
        """Entries were written, and ``more`` are known to follow."""
        if more:
            self._ebb.clear()
        else:
            self._ebb.set()
        self.wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                async with held_alone(self._dsn, self._service, "projector") as connection:
                    await self._keep_folding(connection)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("the projector could not fold, it tries again: %s", error)
                await asyncio.sleep(STANDBY_SECONDS)

    async def _keep_folding(self, connection: Any) -> None:
        forgotten = time.monotonic()
        while True:
            self.wake.clear()
            started = time.monotonic()
            folded = await self.fold(connection)
            now = time.monotonic()
            if now - forgotten > FORGET_SECONDS:
                await connection.execute(SQL.forget_changes)
                forgotten = now
            if folded < BATCH:
                if folded >= FLOOD:
                    await _wait(self._ebb, min(REST * (now - started), LONGEST_REST))
                await _wait(self.wake, POLL_SECONDS)

    async def fold(self, connection: Any) -> int:
        """Fold what waits, at most BATCH postings. Returns how many there were."""
        if not await connection.fetchval(SQL.something_changed):
            return 0
        started = time.perf_counter()
        async with folding(self._outbox, connection) as transaction:
            count = await self.fold_within(transaction)
        metrics.FOLDED.inc(count)
        metrics.FOLD_SECONDS.observe(time.perf_counter() - started)
        return count

    async def fold_within(self, transaction: Transaction) -> int:
        """The same inside a transaction that is ``folding``."""
        connection = transaction.connection
        rows = await connection.fetch(SQL.read_changed, BATCH)
        if not rows:
            return 0
        current = rows[0]["current"]
        boards = _boards_of(rows)
        await connection.execute(SQL.write_boards, [epoch for epoch, _ in boards], [board for _, board in boards])
        news = [row for row in rows if row["sign"] > 0 and not row["backfill"] and row["epoch"] == current]
        live = [board for _, board in _boards_of(news)]
        before = [await self._first_ten(connection, current, live)]
        if live and (quiet := _history(rows, news)):
            # First, so that whom it lifts is there before the news.
            await mend(connection, await connection.fetch(FOLD_NAMED, quiet))
            before.append(await self._first_ten(connection, current, live))
        await mend(connection, await connection.fetch(FOLD_TAKEN, rows[-1]["id"]))
        _publish(transaction, [row for row in rows if row["epoch"] == current])
        await self._milestones(transaction, current, live, before, news)
        await _log_changes(connection, {board: who for (epoch, board), who in boards.items() if epoch == current})
        return len(rows)

    async def _first_ten(self, connection: Any, current: int, boards: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {board: [] for board in boards}
        if boards:
            for row in await connection.fetch(SQL.first_ten, current, boards):
                found[row["board"]].append(row["member_id"])
        return found

    async def _milestones(
        self,
        transaction: Transaction,
        current: int,
        live: list[str],
        before: list[dict[str, list[str]]],
        news: list[Any],
    ) -> None:
        """Who came among a board's first ten by something that is news; each is told once for ever."""
        risen: list[tuple[str, str, str]] = []
        for board, ten in (await self._first_ten(transaction.connection, current, live)).items():
            earlier = [then[board] for then in before]
            risen += [(one, board, "entered-top-10") for one in ten if all(one not in then for then in earlier)]
            risen += [(one, board, "first-place") for one in ten[:1] if all(then[:1] != [one] for then in earlier)]
        if not risen:
            return
        members = {member for member, _, _ in risen}
        causes = {
            (row["member_id"], board): row
            for row in news
            if row["member_id"] in members
            for board in _scopes(row["star"], row["space"], row["language"])
        }
        reached = {one: causes[one[:2]] for one in risen if one[:2] in causes}
        if not reached:
            return
        for row in await transaction.connection.fetch(SQL.write_milestones, *arrays(reached)):
            cause = reached[row["member_id"], row["board"], row["kind"]]
            data = events.MilestoneReachedData(member_id=row["member_id"], board=row["board"], kind=row["kind"])
            transaction.publish(
                Outgoing(LEADERBOARD, events.MilestoneReached, data, cause["at"], traceparent=cause["traceparent"])
            )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def mend(connection: Any, rows: Iterable[Any]) -> None:
    """Find the latest counted entry again where it went."""
    lost = [(row["board_no"], row["period"], row["member_id"]) for row in rows if row["board_no"] is not None]
    if lost:
        await connection.execute(SQL.mend_reached, *arrays(lost))


def _scopes(star: bool, space: str | None, language: str | None) -> list[str]:
    """The boards that an entry counts on."""
    found = ["everyone"]
    if star:
        found.append("stars")
    if space is not None:
        found.append(f"space:{space}")
    if language is not None:
        found.append(f"language:{language}")
    return found


def _boards_of(rows: list[Any]) -> dict[tuple[int, str], set[str]]:
    """Who may have moved on each board of each epoch."""
    alike: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in rows:
        alike[row["epoch"], row["star"], row["space"], row["language"]].add(row["member_id"])
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    for (epoch, *counted), members in alike.items():
        for board in _scopes(*counted):
            found[epoch, board] |= members
    return found


def _history(rows: list[Any], news: list[Any]) -> list[int]:
    """The postings of entries that were gained and are no news. All of an entry's stay together, in their order."""
    gained = {row["entry_id"] for row in rows if row["sign"] > 0} - {row["entry_id"] for row in news}
    return [row["id"] for row in rows if row["entry_id"] in gained] if gained else []


def _said(row: Any) -> tuple[Any, ...]:
    """What an event says of an entry."""
    return tuple(row[name] for name in ("member_id", "points", "topic_id", "reply_id", "kudos_id"))


def _publish(transaction: Transaction, rows: list[Any]) -> None:
    """Say what became of each entry: what it was before these postings, and what it is after them."""
    turns: dict[str, tuple[Any, Any]] = {}
    for row in rows:
        is_gain = row["sign"] > 0
        lost, _ = turns.get(row["entry_id"], (None if is_gain else row, None))
        turns[row["entry_id"]] = lost, row if is_gain else None
    for lost, gained in turns.values():
        if lost is not None and gained is not None and _said(lost) == _said(gained):
            continue
        for row, event in ((lost, events.PointsRevoked), (gained, events.PointsAwarded)):
            if row is not None:
                transaction.publish(_outgoing(row, event))


def _outgoing(row: Any, event: type[events.PointsAwarded] | type[events.PointsRevoked]) -> Outgoing:
    # Every value is from our own ledger, which took it from checked events.
    data = {
        "entry_id": row["entry_id"],
        "member_id": row["member_id"],
        "points": row["points"],
        "rule": row["rule"],
        "cause": {"topic_id": row["topic_id"], "reply_id": row["reply_id"], "kudos_id": row["kudos_id"]},
    }
    return Outgoing(LEADERBOARD, event, data, row["at"], row["backfill"], row["traceparent"])


async def _log_changes(connection: Any, boards: Mapping[str, set[str]]) -> None:
    if boards:
        names = sorted(boards)
        named = [json.dumps(sorted(boards[name])) if len(boards[name]) <= MOST_NAMED else None for name in names]
        await connection.execute(SQL.log_changes, names, named)
