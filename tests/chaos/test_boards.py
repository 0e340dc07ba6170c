"""Two replicas of the leaderboard, killed at random moments while history is written again and the forum lives on."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from services.leaderboard.rewriting import read_rules
from shared.messaging.kafka import cluster_id
from tests.chaos.ground import ERASURE_KEY, LEADERBOARD, until
from tests.chaos.life import SPACES
from tests.chaos.world import SETTLE_SECONDS, World
from tests.integration.ledger_engine import LedgerEngine
from tests.oracle.envelopes import Event
from tests.oracle.forum import Forum, stand_in
from tests.oracle.ledger import CLASSIC, Ledger, Version, board, window_of

WRITTEN = "leaderboard.events"
KILLS_A_ROUND = 3
BOARDS = ("everyone", "stars", *(f"space:{space}" for space in SPACES), "language:de")
VERSION = """
rule_set: classic
version: {version}
rules:
  reply: {{points: {reply}, most: 3}}
  first-response: {{points: 3, kinds: [question]}}
  solution: {{points: 10}}
  kudos: {{points: 2}}
"""


async def test_replicas_are_killed_while_history_is_written_again(world: World, rounds: int) -> None:
    await world.begin("first")
    status, said = await world.ground.stars("migrate", LEADERBOARD)
    assert status == 0, said
    both = [world.ground.replica(name, LEADERBOARD) for name in ("one", "two")]
    versions = await _versions(world)
    for replica in both:
        replica.start()
    async with world.load():
        for round_ in range(rounds):
            await asyncio.gather(*(replica.ready() for replica in both))
            versions.append(await _rewrite(world, versions[-1]))
            for kill in range(KILLS_A_ROUND):
                await world.in_full_swing(500)
                # Now one, now the other, now both at once.
                dying = both if kill % 3 == 2 else [both[kill % 2]]
                for replica in dying:
                    replica.kill()
                    world.survived.note("kills of a leaderboard")
                if len(dying) == 2:
                    await world.ground.bury(LEADERBOARD)
                for replica in dying:
                    replica.start()
                await asyncio.sleep(world.rng.uniform(0.5, 3))
            if round_ % 3 == 2:
                world.ground.postgres.kill()
                world.survived.note("kills of PostgreSQL")
                assert await world.ground.postgres.start() == world.ground.dsn
        await asyncio.gather(*(replica.ready() for replica in both))
    await world.settle()
    await _settle(world)
    await _compare(world, versions)
    for replica in both:
        assert await replica.stop() == 0
    await world.compare()


async def _versions(world: World) -> list[Version]:
    """The rules that this world has had so far."""
    rows = await world.ground.fetch("SELECT version, rules FROM rule_version ORDER BY version", service=LEADERBOARD)
    return [
        {**CLASSIC, "version": row["version"], "reply": json.loads(row["rules"])["reply"]["points"]} for row in rows
    ]


async def _rewrite(world: World, last: Version) -> Version:
    """Let history be written again, in which a reply is worth something else."""
    version = {**CLASSIC, "version": last["version"] + 1, "reply": last["reply"] % 3 + 1}
    file = Path(world.ground.folder) / "rules.yaml"
    file.write_text(VERSION.format(version=version["version"], reply=version["reply"]))
    assert read_rules(file).version == version["version"]
    data = str(world.ground.folder / "no-instance")
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        status, said = await world.ground.stars("rules", "set", str(file), "--rewrite", "--data", data)
        if status == 0:
            break
        # The last one may not be done.
        assert "being written again" in said, said
        assert time.monotonic() < end, said
        await asyncio.sleep(0.5)
    world.survived.note("rewritings")
    return version


async def _settle(world: World) -> None:
    """Wait until everything is read, derived, folded, published, and history is written."""
    cluster = await cluster_id(world.ground.servers)
    [now] = await world.ground.fetch("SELECT clock_timestamp() AS at", service=LEADERBOARD)

    async def settled() -> bool:
        [row] = await world.ground.fetch(
            "SELECT (SELECT count(*) FROM consumer_offset WHERE cluster = $1"
            "   AND (caught_up_at IS NULL OR caught_up_at <= $2)) AS behind,"
            " (SELECT count(*) FROM changed) + (SELECT count(*) FROM outbox) AS waiting,"
            " (SELECT shadow IS NOT NULL OR oldest < current FROM epoch) AS rewriting",
            cluster,
            now["at"],
            service=LEADERBOARD,
        )
        return not (row["behind"] or row["waiting"] or row["rewriting"])

    await until(settled, SETTLE_SECONDS, "the leaderboard has nothing left to do")


async def _compare(world: World, versions: list[Version]) -> None:
    """Every row of the ledger, every board, everything that was published."""
    forum = await asyncio.to_thread(Forum, world.told, ERASURE_KEY)
    oracle = await asyncio.to_thread(Ledger, forum, versions)
    hidden = {forum.member(member) for member in forum._erased}
    connection = await world.ground.connect(LEADERBOARD)
    try:
        engine = LedgerEngine(connection, ERASURE_KEY)
        found, expected = await engine.ledger(), oracle.by_cause()
        wrong = [f"{key}: {found.get(key)} and not {row}" for key, row in expected.items() if found.get(key) != row]
        wrong += [f"{key}: a row that should not be" for key in found.keys() - expected.keys()]
        assert not wrong, f"{len(wrong)} differences after {world.survived}:\n" + "\n".join(wrong[:10])
        world.survived.note("entries compared", len(expected))
        today = datetime.now(UTC).date()
        for name in BOARDS:
            for window, at in _windows(today):
                lines = board(oracle.rows, name, window_of(window, at), "UTC", hidden)
                actual = await engine.board(name, window, at)
                assert actual == [(one.rank, one.member_id, one.points, one.solutions) for one in lines], (name, window)
                world.survived.note("standings compared", len(lines))
        standings = await engine.standings()
        await engine.rebuild()
        assert await engine.standings() == standings
        await _compare_told(world, engine, forum, versions)
    finally:
        await connection.close()


def _windows(today: date) -> list[tuple[str, date]]:
    days = [("day", today - timedelta(days=n)) for n in (1, 3)]
    return [("all", today), ("week", today), ("month", today), ("year", today), *days]


async def _compare_told(world: World, engine: LedgerEngine, forum: Forum, versions: list[Version]) -> None:
    """Each event once, without holes; since the last rewriting each award was right, and revoked when it was not."""
    # What was told of a member before their erasure is told of their stand-in since, and counted on.
    names = {member: stand_in(ERASURE_KEY, member) for member in forum._erased}
    events: dict[tuple[str, int], Event] = {}
    for record in await world.read(WRITTEN):
        event = json.loads(record.value)
        key = event["data"].get("member_id", event["data"].get("rule_set"))
        assert event["id"] == f"{WRITTEN}/{key}/{event['sequence']}"
        assert record.key.decode() == key
        if (names.get(key, key), event["sequence"]) in events:
            world.survived.note("duplicates met")
        events[names.get(key, key), event["sequence"]] = event
    sequences: dict[str, list[int]] = defaultdict(list)
    rewritten = milestones = 0
    told: Counter[tuple[str, ...]] = Counter()
    balance: Counter[tuple[str, str]] = Counter()
    for (key, sequence), event in events.items():
        data: dict[str, Any] = event["data"]
        sequences[key].append(sequence)
        if event["type"] == "rules-rewritten":
            rewritten += 1
        elif event["type"] == "milestone-reached":
            milestones += 1
            told[data["member_id"], data["board"], data["kind"]] += 1
        else:
            balance[key, data["entry_id"]] += 1 if event["type"] == "points-awarded" else -1
    assert not [key for key, found in sequences.items() if sorted(found) != list(range(1, len(found) + 1))]
    assert not [key for key, times in told.items() if times > 1], "a milestone was told twice"
    assert rewritten == len(versions) - 1
    # A rewriting says once that everything may be different; of what no rewriting changed, the balance must be true.
    standing = {(member, entry) for member, entries in (await engine.effective()).items() for entry in entries}
    changed = {key for key, times in balance.items() if times == 1} ^ standing
    assert not [key for key in changed if balance[key] not in (0, 1)]
    assert not changed, f"{len(changed)} entries were told otherwise: {list(changed)[:5]}"
    world.survived.note("milestones told", milestones)
    world.survived.note("events published compared", len(events))
