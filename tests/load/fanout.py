"""A hundred thousand followers of one space and one hot question: how long, and what of an application meanwhile?"""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from tests.load.figures import Line, percentile, table
from tests.load.mails import CONNECTIONS, SINK, _settled, _sink
from tests.load.mix import Record
from tests.load.stage import say, stage, stars

OUTCOME_GOAL = 1.0
MAILS = "SELECT count(*) FROM delivery WHERE channel = 'email' AND priority = 2"
WITH_BUDGET = 10
"""One in so many has something left of today's budget; the others are told tomorrow, together with the rest."""


async def fanout(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    if SINK is None:
        say("fanout: smtp-sink is not here (Debian: postfix)")
        return []
    followers, probes = (10_000, 5) if quick else (100_000, 20)
    async with stage() as place, _sink(place) as port:
        dsn = await place.service_database("fanout", "notifier")
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "notifier"})
        say(f"fanout: {followers} followers of one space")
        await _follow(connection, followers, probes)
        settings = {"STARS_SMTP": f"smtp://127.0.0.1:{port}?connections={CONNECTIONS}", "STARS_LOG_LEVEL": "WARNING"}
        argv = stars("run", "notifier", "--only", "worker", "--port", "0")
        async with place.program("notifier", argv, dsn, **settings) as program:
            await program.ready()
            await _settled(connection, [program])
            began = time.monotonic()
            await place.feed("topics.events", [_question()])
            waits = []
            for n in range(probes):
                await asyncio.sleep(0.5)
                program.check()
                waits.append(await _outcome(place, connection, n))
            told_at = await _until(
                connection, "SELECT count(*) FROM notification WHERE what = 'answer-needed'", followers
            )
            over = f"{MAILS} AND state IN ('accepted', 'skipped')"
            over_at = await _until(connection, over, followers)
            sent = await connection.fetchval(f"{MAILS} AND state = 'accepted'")
            digests = await connection.fetchval("SELECT count(*) FROM digest_item")
            memory = place.memory(program)["program"]
        await connection.close()
    worst = max(waits)
    table(
        f"One question, {followers:,} followers, of whom one in {WITH_BUDGET} has budget left",
        ["", "figure"],
        [
            ["everyone has it in the inbox after", f"{told_at - began:.1f} s"],
            ["every mail is sent or put into a digest after", f"{over_at - began:.1f} s"],
            ["mails sent; put into digests", f"{sent:,}; {digests:,}"],
            [
                "an application's outcome meanwhile, Kafka to SMTP reply: p50; most",
                f"{percentile(waits, 0.5):.2f} s; {worst:.2f} s",
            ],
            ["peak memory", f"{memory:.0f} MB"],
        ],
    )
    assert sent <= followers / WITH_BUDGET, "the budgets bound it"
    return [
        Line(
            f"one question told to {followers:,} followers (inbox; mail by budget or digest)",
            f"{over_at - began:.0f} s",
        ),
        Line(
            "an application's outcome sent meanwhile",
            f"at most {worst:.2f} s",
            f"{OUTCOME_GOAL:.0f} s",
            worst < OUTCOME_GOAL,
        ),
    ]


async def _follow(connection: Any, followers: int, probes: int) -> None:
    who = "SELECT 'f' || n AS m, n FROM generate_series(1, $1::int) AS n"
    await connection.execute(f"INSERT INTO interest SELECT m, 'space', 'hot', false FROM ({who}) AS f", followers)
    await connection.execute(
        f"INSERT INTO star_change SELECT m, now() - interval '90 days', true FROM ({who}) AS f", followers
    )
    await connection.execute(f"INSERT INTO contact SELECT m, '0', m || '@mail.example' FROM ({who}) AS f", followers)
    await connection.execute(
        f"INSERT INTO preference (member_id, daily_budget) SELECT m, 0 FROM ({who}) AS f WHERE n % $2 <> 0",
        followers,
        WITH_BUDGET,
    )
    await connection.execute(
        "INSERT INTO contact SELECT 'p' || n, '0', 'p' || n || '@mail.example' FROM generate_series(0, $1::int) AS n",
        probes,
    )
    await connection.execute("ANALYZE")


def _question() -> Record:
    now = datetime.now(UTC)
    data = {
        "topic_id": "hot",
        "author_id": "asker",
        "title": "Why is nothing playing?",
        "url": "https://forum.example/t/hot",
        "space": "hot",
        "tags": [],
        "stage": "new",
        "due_at": (now + timedelta(hours=40)).isoformat(),
        "candidates": [],
    }
    return "hot", _event("answer-needed", "topics", now, data)


def _event(type_: str, service: str, now: datetime, data: dict[str, Any]) -> bytes:
    envelope = {"specversion": "1.0", "id": f"{type_}/{now.timestamp()}", "source": f"/constellation/{service}"}
    return json.dumps(envelope | {"type": type_, "time": now.isoformat(), "sequence": 1, "data": data}).encode()


def _decided(n: int) -> Iterator[Record]:
    data = {"member_id": f"p{n}", "application_id": f"a{n}", "outcome": "accepted"}
    yield f"p{n}", _event("application-decided", "applications", datetime.now(UTC), data)


async def _outcome(place: Any, connection: Any, n: int) -> float:
    began = time.monotonic()
    await place.feed("applications.events", _decided(n))
    query = "SELECT count(*) FROM delivery WHERE member_id = $1 AND channel = 'email' AND state = 'accepted'"
    while not await connection.fetchval(query, f"p{n}"):
        if time.monotonic() - began > 60:
            raise TimeoutError("an application's outcome does not arrive")
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _until(connection: Any, query: str, count: int) -> float:
    began = time.monotonic()
    while await connection.fetchval(query) < count:
        if time.monotonic() - began > 600:
            raise TimeoutError(query)
        await asyncio.sleep(0.25)
    return time.monotonic()
