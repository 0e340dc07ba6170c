"""How long does a rank, a page, a look at one's neighbours take, with ten thousand members and with a million?

Beside Redis, where redis-server is installed, which holds the same members in a sorted set.
"""

import asyncio
import contextlib
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from deploy.infrastructure.processes import free_port
from services.leaderboard.boards import SQL, Asked, read_board, read_member
from services.leaderboard.windows import Window
from shared.postgres import Pool, create_pool
from shared.web import encode_cursor
from tests.load.figures import Line, percentile, table
from tests.load.stage import Program, Stage, say, stage

CLIENTS = 16
PAGE = 50
GROWTH = 2.0
DATABASE_MS = 1.0

FILL = """
WITH member AS (
    -- Many have little, few have much: at the top some hundred thousand points, ties in plenty below.
    SELECT n, 'm' || n AS member_id, (1 + power(hashint4(n)::float8 / 4294967296 + 0.5, 6) * 100000)::bigint AS points,
        (abs(hashint4(n + 1)) % 50) AS solutions
    FROM generate_series($1::int, $2::int) AS n
), written AS (
    INSERT INTO standing (board_no, period, member_id, points, solutions, entries, reached_at, listed)
    SELECT (SELECT board_no FROM board), 0, member_id, points, solutions, 1,
        '2024-01-01'::timestamptz + n * '1 s'::interval, true
    FROM member
)
SELECT count(*) FROM member;
"""
COUNT = """
TRUNCATE score, score_block;
INSERT INTO score SELECT board_no, period, points, count(*) FROM standing GROUP BY 1, 2, 3;
INSERT INTO score_block SELECT board_no, period, points >> 8, sum(members) FROM score GROUP BY 1, 2, 3;
"""
OPERATIONS = ("rank", "page", "neighbours")
EVERYONE = Asked("everyone", Window.all)


@dataclass(frozen=True, slots=True)
class Timed:
    """The times of one operation on so many members, in milliseconds."""

    who: str
    members: int
    operation: str
    times: list[float]


async def boards(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    sizes = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    seconds = 2.0 if quick else 5.0
    found: list[Timed] = []
    inside: dict[int, float] = {}
    async with stage() as place:
        dsn = await place.service_database("boards", "leaderboard")
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "leaderboard"})
        await connection.execute("INSERT INTO board (epoch, board, time_zone) VALUES (1, 'everyone', 'UTC')")
        pool = create_pool(dsn, "leaderboard", CLIENTS)
        await pool
        async with redis(place) as server:
            before = 0
            for size in sizes:
                say(f"boards: filling up to {size:,} members")
                await connection.execute(FILL.replace("$1", str(before + 1)).replace("$2", str(size)), timeout=600)
                await connection.execute(COUNT, timeout=600)
                await connection.execute("VACUUM (ANALYZE) standing", timeout=600)
                await connection.execute("VACUUM (ANALYZE) score", timeout=600)
                await connection.execute("CHECKPOINT", timeout=600)
                rows = await connection.fetch("SELECT member_id, points, solutions, reached_at FROM standing")
                before = size
                inside[size] = await _inside(connection, rows)
                if server:
                    await server.fill(rows)
                for operation in OPERATIONS:
                    found += [Timed("ours", size, operation, await _ours(pool, operation, rows, seconds))]
                    if server:
                        found += [Timed("Redis", size, operation, await _redis(server, operation, rows, seconds))]
        await pool.close()
        await connection.close()
    _print(found, inside)
    return _lines(found, inside)


async def _clients(seconds: float, one: Callable[[int], Awaitable[Callable[[], Awaitable[None]]]]) -> list[float]:
    """Sixteen clients, each asking again as soon as it is answered; the first half second does not count."""
    times: list[float] = []
    begins = time.perf_counter() + 0.5

    async def client(n: int) -> None:
        ask = await one(n)
        while (started := time.perf_counter()) < begins + seconds:
            await ask()
            if started > begins:
                times.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(client(n) for n in range(CLIENTS)))
    return times


async def _ours(pool: Pool, operation: str, rows: list[Any], seconds: float) -> list[float]:
    async def one(n: int) -> Callable[[], Awaitable[None]]:
        rng = random.Random(n)

        async def ask() -> None:
            row = rng.choice(rows)
            if operation == "page":
                cursor = encode_cursor([row["points"], row["solutions"], row["reached_at"], row["member_id"]])
                await read_board(pool, EVERYONE, PAGE, cursor)
            elif operation == "rank":
                await pool.fetch(SQL.place + SQL.around, *EVERYONE.arguments(), row["member_id"], 0)
            else:
                await read_member(pool, EVERYONE, row["member_id"])

        return ask

    return await _clients(seconds, one)


async def _inside(connection: asyncpg.Connection, rows: list[Any]) -> float:
    """What PostgreSQL itself says that a rank takes, in milliseconds; the median of a hundred."""
    await connection.execute("DEALLOCATE ALL")
    text = SQL.place + SQL.around
    await connection.execute(f"PREPARE rank (text, int, date, int, text, int) AS {text}")
    times = []
    for row in random.Random(1).sample(rows, 110):
        plan = await connection.fetch(
            f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE rank('everyone', 0, NULL, NULL, '{row['member_id']}', 0)"
        )
        times.append(float(plan[-1][0].removeprefix("Execution Time: ").removesuffix(" ms")))
    return percentile(times[10:], 0.5)


# --- Redis ----------------------------------------------------------------------------------------------------------


class Redis:
    """Just enough of its protocol."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def fill(self, rows: list[Any]) -> None:
        """All members with their points."""
        reader, writer = await self.connect()
        for n in range(0, len(rows), 1000):
            words = [word for row in rows[n : n + 1000] for word in (str(row["points"]), row["member_id"])]
            await command(reader, writer, "ZADD", "everyone", *words)
        writer.close()


async def command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: str) -> Any:
    """One command and its answer."""
    writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words))
    return await _answer(reader)


async def _answer(reader: asyncio.StreamReader) -> Any:
    line = await reader.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else (await reader.readexactly(int(rest) + 2))[:-2]
    if kind == b"*":
        return [await _answer(reader) for _ in range(int(rest))]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    return int(rest) if kind == b":" else rest


@contextlib.asynccontextmanager
async def redis(place: Stage) -> AsyncIterator[Redis | None]:
    """A redis-server of our own, without persistence; None where it is not installed."""
    executable = shutil.which("redis-server")
    if executable is None:
        say("redis-server is not installed: measured without the peer")
        yield None
        return
    port = free_port()
    argv = [executable, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    async with place.program("redis", argv) as program:
        yield Redis(await _listening(program, port))


async def _listening(program: Program, port: int) -> int:
    while True:
        program.check()
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return port
        await asyncio.sleep(0.05)


async def _redis(server: Redis, operation: str, rows: list[Any], seconds: float) -> list[float]:
    async def one(n: int) -> Callable[[], Awaitable[None]]:
        rng = random.Random(n)
        reader, writer = await server.connect()

        async def ask() -> None:
            if operation == "page":
                first = rng.randrange(len(rows))
                await command(reader, writer, "ZREVRANGE", "everyone", str(first), str(first + PAGE - 1), "WITHSCORES")
                return
            rank = await command(reader, writer, "ZREVRANK", "everyone", rng.choice(rows)["member_id"])
            if operation == "neighbours":
                around = str(max(0, rank - 5)), str(rank + 5)
                await command(reader, writer, "ZREVRANGE", "everyone", *around, "WITHSCORES")

        return ask

    return await _clients(seconds, one)


# --- what came of it ------------------------------------------------------------------------------------------------


def _print(found: list[Timed], inside: dict[int, float]) -> None:
    rows = [
        [
            f"{one.who}: {one.operation}",
            f"{one.members:,}",
            f"{percentile(one.times, 0.5):.2f}",
            f"{percentile(one.times, 0.99):.2f}",
            f"{len(one.times):,}",
        ]
        for one in sorted(found, key=lambda one: (one.who, OPERATIONS.index(one.operation), one.members))
    ]
    table(f"Boards: {CLIENTS} clients in one process, ms", ["", "members", "p50", "p99", "answers"], rows)
    said = ", ".join(f"{ms:.2f} ms with {members:,}" for members, ms in inside.items())
    print(f"  PostgreSQL's own part of a rank: {said}")


def _lines(found: list[Timed], inside: dict[int, float]) -> list[Line]:
    by = {(one.who, one.members, one.operation): one.times for one in found}
    least, most = min(inside), max(inside)
    lines = []
    for operation in OPERATIONS:
        small, large = (percentile(by["ours", members, operation], 0.5) for members in (least, most))
        peer = by.get(("Redis", most, operation))
        beside = f"; Redis p50 {percentile(peer, 0.5):.2f}" if peer else ""
        p99 = percentile(by["ours", most, operation], 0.99)
        lines.append(
            Line(
                f"{operation} among {most:,} members, {CLIENTS} clients",
                f"p50 {large:.2f} ms, p99 {p99:.2f} ms; {large / small:.2f} times that of {least:,}{beside}",
                f"{GROWTH:.0f} times",
                large / small <= GROWTH,
            )
        )
    lines.append(
        Line(
            f"the database's part of a rank among {most:,}",
            f"{inside[most]:.2f} ms",
            f"{DATABASE_MS:.0f} ms",
            inside[most] < DATABASE_MS,
        )
    )
    return lines
