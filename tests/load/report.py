"""How long does the report on the promise take, over how many topics, and right after changes?"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from shared.web import Role
from tests.load.client import Client
from tests.load.figures import Line, percentile, table
from tests.load.stage import Program, Stage, say, stage, stars

REQUESTS = 50
CHANGED = 100
GOAL_MS = 50.0
PATH = "/topics/api/sla"
QUESTIONS = {
    "all topics": PATH,
    "one space of eight": f"{PATH}?space=space-3",
    "all, month by month": f"{PATH}?every=month",
    f"all, {CHANGED} rows changed just before": PATH,
}
CHANGES = tuple(QUESTIONS)[-1]

# Three years of topics; response times are log-normal around three hours, 15% have no answer.
FILL = """
INSERT INTO topics.topic_state (
    topic_id, known, visible, kind, space, language, title, author_id, created_at, created_us, target_us, due_at,
    response_reply_id, responder_id, responder_kind, response_at, response_us, appended_at, backfill
)
SELECT 't' || n, true, true, 'question', 'space-' || n % 8, (ARRAY['en', 'de', 'pt'])[1 + n % 3],
    'How do I move my playlists to another account?', 'm' || n % 20000, created_at,
    (extract(epoch FROM created_at) * 1000000)::bigint, 172800000000, created_at + interval '48 hours',
    CASE WHEN answered THEN 'r' || n END, CASE WHEN answered THEN 'm' || n % 997 END,
    CASE WHEN answered THEN 'member' END,
    CASE WHEN answered THEN created_at + waited * interval '1 microsecond' END,
    CASE WHEN answered THEN waited END, created_at, true
FROM (
    SELECT n, now() - interval '3 years' * random() AS created_at, random() >= 0.15 AS answered,
        (exp(ln(10800) + 1.6 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) * 1000000)::bigint AS waited
    FROM generate_series($1::bigint, $2::bigint) AS n
) AS made
"""

CHANGE = """
UPDATE topics.topic_state SET response_us = 1 + (random() * 100000000000)::bigint, changed = pg_current_xact_id()
WHERE topic_id IN (SELECT 't' || (1 + floor(random() * $1))::bigint FROM generate_series(1, $2))
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """Milliseconds of one question over so many topics."""

    topics: int
    question: str
    times: list[float]


async def report(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    sizes = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    found: list[Answers] = []
    async with stage() as place:
        dsn = await place.service_database("report", "topics")
        connection = await asyncpg.connect(dsn)
        before = 0
        for size in sizes:
            say(f"report: filling up to {size:,} topics")
            await connection.execute(FILL, before + 1, size, timeout=300)
            await connection.execute("VACUUM (ANALYZE) topics.topic_state", timeout=300)
            await connection.execute("CHECKPOINT", timeout=300)
            before = size
            async with service(place, dsn) as program:
                client = Client(await program.ready(), place.token(Role.STAFF))
                first = await _first(client, program, size)
                for question, path in QUESTIONS.items():
                    times = []
                    for _ in range(REQUESTS):
                        if question == CHANGES:
                            await connection.execute(CHANGE, size, CHANGED)
                        else:
                            # The service's own look for changes goes on between requests, as it does in life.
                            await asyncio.sleep(0.01)
                        times.append(client.timed(path)[0])
                    found.append(Answers(size, question, times))
                megabytes = place.memory(program)["program"]
                client.close()
            found.append(Answers(size, "the first after a start", [first]))
            say(f"report: {size:,} topics, first answer {first:.0f} ms after it listens, {megabytes:.0f} MB at most")
        await connection.close()
    _print(found)
    return _lines(found, sizes[-1])


def service(place: Stage, dsn: str) -> Any:
    """The HTTP side of the topics service on a database."""
    return place.program("topics", stars("run", "topics", "--only", "http", "--port", "0"), dsn)


async def _first(client: Client, program: Program, size: int) -> float:
    """Milliseconds until the service, just started, has the whole answer."""
    started = time.perf_counter()
    async with asyncio.timeout(120):
        while True:
            program.check()
            _, body = client.timed(PATH)
            if body["topics"] == size:
                return (time.perf_counter() - started) * 1000
            await asyncio.sleep(0.01)


def _print(found: list[Answers]) -> None:
    rows = [
        [f"{one.topics:,}: {one.question}", *(f"{percentile(one.times, share):.1f}" for share in (0.5, 0.99, 1))]
        for one in found
    ]
    table(f"Report: GET {PATH} over HTTP, ms, {REQUESTS} requests each", ["topics", "p50", "p99", "most"], rows)


def _lines(found: list[Answers], most: int) -> list[Line]:
    lines = []
    for one in found:
        if one.topics == most and one.question in QUESTIONS:
            p50, p99 = percentile(one.times, 0.5), percentile(one.times, 0.99)
            lines.append(
                Line(
                    f"report over {most:,} topics: {one.question}",
                    f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
                    f"{GOAL_MS:.0f} ms",
                    p50 < GOAL_MS,
                )
            )
    return lines
