"""Rule sets as files: what a change would do, setting it from a date on, and writing history again in one step."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import yaml
from pydantic import ValidationError

from services.leaderboard.derive import SQL as DERIVE
from services.leaderboard.derive import Epoch, load_epochs, read_topics, rederive_topics, rule_set_of
from services.leaderboard.derive import derive as derive_entries
from services.leaderboard.projector import BATCH, Projector, folding
from services.leaderboard.rules import EFFECTIVE, SOLUTION, RuleBook, RuleSet
from shared.contracts import leaderboard as events
from shared.contracts.catalogue import LEADERBOARD
from shared.contracts.codec import plainly
from shared.forum.facts import SQL as FACTS
from shared.messaging import Outbox, Outgoing
from shared.postgres import UNAVAILABLE, Pool, Queries
from shared.postgres.singleton import STANDBY_SECONDS, held_alone

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent / "sql" / "rewriting.sql")

TOPICS_AT_ONCE = 200
ROWS_AT_ONCE = 20_000
POLL_SECONDS = 1.0


class RulesError(Exception):
    """A rule set that cannot be read, or cannot be set now; the message says why."""


def read_rules(file: Path) -> RuleSet:
    """The rule set in a YAML file. Raises RulesError."""
    try:
        said = json.dumps(yaml.safe_load(file.read_text("utf-8")), default=_instant)
        return RuleSet.model_validate_json(said)
    except ValidationError as error:
        raise RulesError(f"{file}: {plainly(error)}") from None
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise RulesError(f"{file}: {error}") from None


def _instant(value: Any) -> str:
    """YAML reads dates and times by itself; without an offset they are in UTC."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    raise TypeError(f"{value!r} has no place in a rule set")


# --- preview --------------------------------------------------------------------------------------------------------


@dataclass
class Total:
    """What a member has."""

    points: int = 0
    solutions: int = 0


@dataclass
class Preview:
    """What a change would do to the history that there is."""

    entries: int = 0
    changed: int = 0
    members: int = 0
    before: dict[str, Total] = field(default_factory=dict)
    after: dict[str, Total] = field(default_factory=dict)

    def movers(self, most: int) -> list[tuple[str, int, int]]:
        """Members whose points change, with those of before and after, the greatest change first."""
        none = Total()
        found = [
            (member, self.before.get(member, none).points, self.after.get(member, none).points)
            for member in self.before.keys() | self.after.keys()
        ]
        moved = [one for one in found if one[1] != one[2]]
        return sorted(moved, key=lambda one: (-abs(one[2] - one[1]), one[0]))[:most]

    def ranks(self, totals: dict[str, Total], most: int) -> list[tuple[int, str, int]]:
        """The first places by points, with competition ranks."""
        ordered = sorted(totals.items(), key=lambda one: (-one[1].points, -one[1].solutions, one[0]))[:most]
        points = [total.points for _, total in ordered]
        return [(points.index(total.points) + 1, member, total.points) for member, total in ordered]


async def preview(pool: Pool, rules: RuleSet, progress: Callable[[int, int], None] | None = None) -> Preview:
    """Derive all of history by the present rules and by these besides, in one snapshot; nothing is written."""
    found = Preview()
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(SQL.begin_preview)
        epochs = await load_epochs(connection)
        present = epochs.current.book
        coming = RuleBook([*(one for one in present.versions if one.version != rules.version), rules])
        total, done = await connection.fetchval(SQL.count_topics), 0
        async for ids in _walk(connection, None):
            facts = await read_topics(connection, ids, epochs)
            done += len(ids)
            if progress:
                progress(done, total)
            if facts is None:
                continue
            before, after = derive_entries(facts, present), derive_entries(facts, coming)
            for id, entry in after.items():
                if entry.topic_id not in ids:
                    continue  # of a topic that was merged into one further on
                old = before[id]
                found.entries += 1
                found.changed += (old.points, old.status, old.reason) != (entry.points, entry.status, entry.reason)
                for totals, one in ((found.before, old), (found.after, entry)):
                    if one.status == EFFECTIVE:
                        of = totals.setdefault(one.member_id, Total())
                        of.points += one.points
                        of.solutions += one.rule == SOLUTION
    found.members = len(found.movers(2**31))
    return found


async def _walk(connection: Any, after: str | None) -> AsyncIterator[list[str]]:
    """Every topic's id, some at a time, in order."""
    while True:
        rows = await connection.fetch(SQL.next_topics, after, TOPICS_AT_ONCE)
        if not rows:
            return
        yield [row["topic_id"] for row in rows]
        after = rows[-1]["topic_id"]


# --- setting --------------------------------------------------------------------------------------------------------


async def set_rules(
    outbox: Outbox, pool: Pool, rules: RuleSet, *, rewrite: bool, by: str | None = None
) -> datetime | None:
    """Set a version: from a date that is not in the past on, or, to ``rewrite``, also for what was.

    Returns from when on it holds; None: it has no beginning, or will hold once history is written. Raises RulesError.
    """
    async with outbox.transaction() as transaction:
        connection = transaction.connection
        # Alone, so that no batch derives by the rules of before; and every later one knows of a shadow.
        await connection.execute(FACTS.exclusive_lock)
        now = await connection.fetchval("SELECT clock_timestamp()")
        versions = await connection.fetch(DERIVE.rule_versions)
        if any(row["rewriting"] for row in versions):
            raise RulesError("history is being written again by another version; wait until that is done")
        if rules.version <= max(row["version"] for row in versions):
            raise RulesError(f"version {versions[-1]['version']} is there already: give the next one a higher number")
        in_past = rules.since is None or rules.since <= now
        if in_past and not rewrite:
            raise RulesError("`from` is absent or in the past: that changes history, which only a rewrite may do")
        rewriting = rewrite and in_past
        await connection.execute(
            SQL.write_version,
            rules.version,
            rules.rule_set,
            rules.since,
            rules.rules.model_dump_json(by_alias=True),
            rewriting,
            by,
        )
        if rewriting:
            await connection.execute(SQL.begin_shadow)
        else:
            # Only what came from the future of our clock, within the five minutes that are allowed, can be there.
            ids = [row["topic_id"] for row in await connection.fetch(SQL.entries_since, rules.since)]
            epochs = await load_epochs(connection)
            await rederive_topics(connection, ids, epochs.current, somebody_was_star=epochs.somebody_was_star)
    return rules.since


async def is_rewriting(pool: Pool) -> bool:
    """Whether history is being written again."""
    return bool(await pool.fetchval("SELECT shadow IS NOT NULL FROM epoch"))


class Rewriter:
    """Writes history again in the shadow of the present one, by one process at a time, and puts it in its place.

    Meanwhile every batch writes to both. Where a process dies, the next one goes on with the topic after the last.
    """

    def __init__(self, dsn: str, service: str, outbox: Outbox, projector: Projector) -> None:
        self._dsn, self._service, self._outbox, self._projector = dsn, service, outbox, projector

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                async with held_alone(self._dsn, self._service, "rewriter") as connection:
                    while True:
                        if not await self.step(connection):
                            await asyncio.sleep(POLL_SECONDS)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("the rewriter could not go on, it tries again: %s", error)
                await asyncio.sleep(STANDBY_SECONDS)

    async def step(self, connection: Any) -> bool:
        """Do a piece of what there is to do; False when there is nothing."""
        row = await connection.fetchrow(SQL.progress)
        if row["shadow"] is None:
            if row["something_old"] and not await connection.fetchval(SQL.clear_old, ROWS_AT_ONCE):
                await connection.execute("UPDATE epoch SET oldest = current")
            return bool(row["something_old"])
        if await self._write_more(connection):
            return True
        await self._swap(connection)
        return True

    async def _write_more(self, connection: Any) -> bool:
        async with connection.transaction():
            await connection.fetchrow(FACTS.begin_batch, False)
            walked = await connection.fetchval("SELECT walked FROM epoch")
            ids = [row["topic_id"] for row in await connection.fetch(SQL.next_topics, walked, TOPICS_AT_ONCE)]
            if not ids:
                self._projector.written(more=False)
                return False
            epochs = await load_epochs(connection)
            shadow: Epoch = epochs.shadow or epochs.current
            await rederive_topics(connection, ids, shadow, somebody_was_star=epochs.somebody_was_star)
            await connection.execute("UPDATE epoch SET walked = $1", ids[-1])
        self._projector.written(more=True)
        return True

    async def _swap(self, connection: Any) -> None:
        """Put the shadow in the place of the present, once all of it is on the boards; nothing comes in meanwhile."""
        while await self._projector.fold(connection) == BATCH:
            pass
        async with folding(self._outbox, connection, alone=True) as transaction:
            while await self._projector.fold_within(transaction) == BATCH:
                pass
            rules = rule_set_of(await connection.fetchrow(SQL.swap))
            await connection.execute(SQL.log_swap)
            data = events.RulesRewrittenData(rule_set=rules.rule_set, version=rules.version, effective_from=rules.since)
            now = await connection.fetchval("SELECT now()")
            transaction.publish(Outgoing(LEADERBOARD, events.RulesRewritten, data, now))
        log.info("history is written again by %s, version %s", rules.rule_set, rules.version)
