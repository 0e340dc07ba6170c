"""How many events a second does one process of a service apply, from Kafka, with its own events relayed?"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.load import baselines
from tests.load.figures import Line, Spread, table
from tests.load.mix import mix, thread
from tests.load.stage import Program, Stage, Usage, module, say, stage, stars

BATCH = 500
FEW, MANY = 10, 100_000
POLL_SECONDS = 0.02
LONGEST = 120.0
PLAIN_SECONDS = 5.0

OURS, SMALL, FLOOR, PLAIN, RISKY = "ours", "ours, small", "floor", "plain", "plain, risky"


@dataclass(frozen=True, slots=True)
class Subject:
    """A service under measurement, when it is done, and what is asked of it against plain and floor."""

    service: str
    what: str
    quiet: str
    over_plain: float
    over_floor: float

    @property
    def names(self) -> dict[str, str]:
        """What runs, in order."""
        return {
            OURS: f"{self.service} service, hot topic of {MANY:,}",
            PLAIN: "plain FastStream, AckPolicy.ACK",
            FLOOR: "floor: getmany, decode, one insert",
            SMALL: f"{self.service} service, hot topic of {FEW}",
            RISKY: "plain FastStream, its default policy",
        }

    @property
    def done(self) -> str:
        """How many records it has applied."""
        offsets = f"FROM {self.service}.consumer_offset WHERE stream = 'forum.events'"
        return f"SELECT coalesce(sum(next_offset), 0)::bigint {offsets}"


TOPICS = Subject(
    "topics",
    "topics: events a second applied end to end by one process, one topic of 100,000 replies among them",
    "SELECT NOT EXISTS (SELECT FROM topics.outbox)",
    100,
    0.5,
)
LEADERBOARD = Subject(
    "leaderboard",
    "leaderboard: the same until ledger and all boards hold it and its own events are in Kafka",
    "SELECT NOT EXISTS (SELECT FROM leaderboard.changed) AND NOT EXISTS (SELECT FROM leaderboard.outbox)",
    60,
    0.3,
)


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition."""

    events: int
    seconds: float
    usage: Usage
    memory: dict[str, float]
    relay_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def work(self) -> float:
        """CPU seconds of all three an event: what else runs on the machine disturbs it least."""
        return (self.usage.program + self.usage.postgres + self.usage.kafka) / self.events


@dataclass
class Results:
    """All repetitions by what ran."""

    runs: dict[str, list[Run]] = field(
        default_factory=lambda: {name: [] for name in (OURS, PLAIN, FLOOR, SMALL, RISKY)}
    )

    def rate(self, name: str) -> Spread:
        """Events a second."""
        return Spread.of([run.rate for run in self.runs[name]])

    def work(self, over: str) -> Spread:
        """CPU time an event: another's against ours."""
        pairs = zip(self.runs[OURS], self.runs[over], strict=True)
        return Spread.of([other.work / ours.work for ours, other in pairs if ours.work] or [0.0])

    def ratio(self, over: str) -> Spread:
        """Ours against another, pair by pair: of each round, so that what else ran on the machine cancels."""
        pairs = zip(self.runs[OURS], self.runs[over], strict=True)
        return Spread.of([ours.rate / other.rate for ours, other in pairs])


async def throughput(quick: bool) -> list[Line]:
    """Of the topics service: measure, print, and return the README's lines."""
    return await _throughput(TOPICS, quick)


async def ledger(quick: bool) -> list[Line]:
    """Of the leaderboard service."""
    return await _throughput(LEADERBOARD, quick)


async def _throughput(subject: Subject, quick: bool) -> list[Line]:
    events, rounds = (20_000, 2) if quick else (60_000, 5)
    results = Results()
    async with stage() as place:
        await _prepare(place, subject, events)
        begins, ends = await _load(place, events)
        for n in range(rounds):
            say(f"{subject.service}, round {n + 1} of {rounds}")
            for name in subject.names:
                results.runs[name].append(await _once(place, subject, name, n, begins, ends))
        say(f"{subject.service}, once more with stop-watches")
        phases = place.folder / "phases.json"
        watched = await _ours(place, subject, "hot_many", begins, ends, phases)
        measured = json.loads(phases.read_text())
    _print(subject, results, events, rounds)
    _explain(watched, measured)
    return _lines(subject, results)


def _print(subject: Subject, results: Results, events: int, rounds: int) -> None:
    rows = []
    for name, title in subject.names.items():
        runs = results.runs[name]
        usage, thousands = [run.usage for run in runs], [run.events / 1000 for run in runs]

        def cpu(part: str, usage: list[Usage] = usage, thousands: list[float] = thousands) -> str:
            return (
                f"{Spread.of([getattr(u, part) * 1000 / t for u, t in zip(usage, thousands, strict=True)]).middle:.0f}"
            )

        rows.append(
            [
                title,
                f"{results.rate(name):,.0f}",
                "1"
                if name == OURS
                else f"{results.ratio(name):.2f}"
                if name in (FLOOR, SMALL)
                else f"{results.ratio(name):.0f}",
                cpu("program"),
                cpu("postgres"),
                cpu("kafka"),
                "1" if name == OURS else f"{results.work(name).middle:.2f}",
                f"{max(run.memory['program'] for run in runs):.0f}",
            ]
        )
    table(
        f"Throughput: {events:,} events of the mix from Kafka, batches of {BATCH}, fsync on, one process;"
        f" median (least–most) of {rounds} interleaved rounds",
        ["", "events/s", "ours : it", "CPU ms/1,000: program", "PostgreSQL", "Kafka", "its sum : ours", "peak MB"],
        rows,
    )
    print("  The sums of CPU time compare best where other programs run beside; rates where none do.")
    ours = results.runs[OURS]
    lag = Spread.of([run.relay_seconds * 1000 for run in ours])
    memory = ours[-1].memory
    print(
        f"  everything was folded and relayed {lag:.0f} ms after the last batch; memory beside the service at the end:"
    )
    print(f"  PostgreSQL {memory['postgres']:.0f} MB, Kafka {memory['kafka']:.0f} MB")


def _explain(run: Run, measured: dict[str, dict[str, tuple[int, float]]]) -> None:
    phases, statements = measured["phases"], measured["statements"]
    batches, whole = phases["a batch, all of it"]
    rows = [
        [name, f"{calls:,.0f}", f"{seconds * 1000 / batches:.2f}", f"{seconds / whole:.0%}"]
        for name, (calls, seconds) in sorted(phases.items(), key=lambda item: -item[1][1])
    ]
    print()
    table(
        f"Where a batch's time goes ({batches:,.0f} batches of {run.events / batches:.0f} events on average, with"
        f" stop-watches: {run.rate:,.0f} events/s)",
        ["phase", "calls", "ms/batch", "share"],
        rows,
    )
    rows = [
        [name, f"{calls:,.0f}", f"{seconds * 1000 / batches:.2f}", f"{seconds / whole:.0%}"]
        for name, (calls, seconds) in sorted(statements.items(), key=lambda item: -item[1][1])[:14]
    ]
    table("The longest statements, as the service waits for them", ["statement", "calls", "ms/batch", "share"], rows)
    busy = {
        "the service's Python": run.usage.program / run.seconds,
        "PostgreSQL": run.usage.postgres / run.seconds,
        "Kafka": run.usage.kafka / run.seconds,
    }
    said = ", ".join(f"{name} {share:.0%}" for name, share in busy.items())
    print(f"  share of one core: {said}")


def _lines(subject: Subject, results: Results) -> list[Line]:
    plain, floor, growth = results.ratio(PLAIN), results.ratio(FLOOR), results.ratio(SMALL)
    return [
        Line(
            subject.what,
            f"{results.rate(OURS):,.0f}",
        ),
        Line(
            f"against plain FastStream, a message a transaction ({results.rate(PLAIN):,.0f}/s)",
            f"{plain:.0f} times",
            f"{subject.over_plain:.0f} times",
            plain.middle >= subject.over_plain,
        ),
        Line(
            f"against what Kafka, decoder and PostgreSQL allow ({results.rate(FLOOR):,.0f}/s)",
            f"{floor:.2f}",
            f"{subject.over_floor}",
            floor.middle >= subject.over_floor,
        ),
        Line("a hot topic of 100,000 replies instead of 10", f"{growth:.2f} of the rate"),
    ]


# --- preparation ------------------------------------------------------------------------------------------------


async def _prepare(place: Stage, subject: Subject, events: int) -> None:
    """Databases to copy for each repetition, so that all of them begin alike."""
    await place.service_database("loaded", subject.service)
    for name, schema in (("plain_new", baselines.PLAIN_SCHEMA), ("floor_new", baselines.FLOOR_SCHEMA)):
        connection = await asyncpg.connect(await place.database(name))
        await connection.execute(schema)
        await connection.close()
    for topic in ("load.plain", "load.floor"):
        await place.make_topic(topic)
        await place.feed(topic, mix(events, hot_is_there=True))
    say(f"preloading one topic with {MANY:,} replies")
    for first, last, name in ((1, FEW, "hot_few"), (FEW + 1, MANY, "hot_many")):
        await place.feed("forum.events", thread("hot", first, last))
        ends = await place.ends("forum.events")
        async with place.program("preload", _service(subject), place.dsn("loaded")) as program:
            await program.ready()
            await _wait_for(subject, place.dsn("loaded"), program, sum(ends.values()))
        connection = await asyncpg.connect(place.dsn("loaded"))
        await connection.execute("VACUUM (ANALYZE)")
        await connection.close()
        await place.database(name, "loaded")


async def _load(place: Stage, events: int) -> tuple[dict[int, int], dict[int, int]]:
    """The mix into Kafka, once; each repetition reads the same records again. Returns where they begin and end."""
    begins = await place.ends("forum.events")
    await place.feed("forum.events", mix(events, hot_is_there=True))
    return begins, await place.ends("forum.events")


def _service(subject: Subject) -> list[str]:
    return stars("run", subject.service, "--only", "worker", "--port", "0")


# --- repetitions ------------------------------------------------------------------------------------------------


async def _wait_for(subject: Subject, dsn: str, program: Program, end: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(LONGEST):
            while await connection.fetchval(subject.done) < end or not await connection.fetchval(subject.quiet):
                program.check()
                await asyncio.sleep(POLL_SECONDS)
    finally:
        await connection.close()


async def _once(place: Stage, subject: Subject, name: str, n: int, begins: dict[int, int], ends: dict[int, int]) -> Run:
    match name:
        case "floor":
            return await _floor(place, sum(ends.values()) - sum(begins.values()))
        case "plain":
            return await _plain(place, "ACK", n)
        case "plain, risky":
            return await _plain(place, "ACK_FIRST", n)
    return await _ours(place, subject, "hot_few" if name == SMALL else "hot_many", begins, ends)


async def _ours(
    place: Stage,
    subject: Subject,
    template: str,
    begins: dict[int, int],
    ends: dict[int, int],
    phases: Path | None = None,
) -> Run:
    dsn = await place.database("bench", template)
    begin, end = sum(begins.values()), sum(ends.values())
    connection = await asyncpg.connect(dsn)
    # PostgreSQL is the truth for offsets: every repetition reads the mix, and nothing else, from its beginning.
    await connection.executemany(
        f"UPDATE {subject.service}.consumer_offset SET next_offset = $2"
        " WHERE stream = 'forum.events' AND partition = $1",
        list(begins.items()),
    )
    try:
        watched = module("runner", subject.service, "--only", "worker", "--phases", str(phases)) if phases else []
        argv = watched or _service(subject)
        async with place.program(subject.service, argv, dsn, STARS_BATCH_RECORDS=str(BATCH)) as program:
            return await _measure(
                place,
                program,
                lambda: connection.fetchval(subject.done),
                begin,
                end,
                lambda: connection.fetchval(subject.quiet),
            )
    finally:
        await connection.close()


async def _floor(place: Stage, events: int) -> Run:
    dsn = await place.database("bench_floor", "floor_new")
    connection = await asyncpg.connect(dsn)
    try:
        # More than there are, so that it does not end while it is looked at.
        argv = module("baselines", "floor", "--topic", "load.floor", "--records", str(10**9), "--batch", str(BATCH))
        async with place.program("floor", argv, dsn) as program:
            done = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset"
            return await _measure(place, program, lambda: connection.fetchval(done), 0, events)
    finally:
        await connection.close()


async def _plain(place: Stage, policy: str, n: int) -> Run:
    dsn = await place.database("bench_plain", "plain_new")
    connection = await asyncpg.connect(dsn)
    try:
        argv = module("baselines", "plain", "--topic", "load.plain", "--group", f"{policy}-{n}", "--policy", policy)
        async with place.program("plain", argv, dsn) as program:
            return await _measure(
                place,
                program,
                lambda: connection.fetchval("SELECT count(*) FROM fact"),
                0,
                10**9,
                seconds=PLAIN_SECONDS,
            )
    finally:
        await connection.close()


async def _measure(
    place: Stage,
    program: Program,
    done: Callable[[], Awaitable[Any]],
    begin: int,
    end: int,
    quiet: Callable[[], Awaitable[Any]] | None = None,
    seconds: float = LONGEST,
) -> Run:
    """From the first progress that the database shows to the end, or for so many seconds: start-up does not count."""
    async with asyncio.timeout(LONGEST):
        while (first := await done()) <= begin:
            program.check()
            await asyncio.sleep(POLL_SECONDS)
        started, before = time.perf_counter(), place.usage(program)
        now = first
        while now < end and time.perf_counter() - started < seconds:
            program.check()
            await asyncio.sleep(POLL_SECONDS)
            now = await done()
        applied = time.perf_counter()
        while quiet is not None and not await quiet():
            await asyncio.sleep(POLL_SECONDS)
        finished = time.perf_counter()
        return Run(
            now - first,
            finished - started,
            place.usage(program) - before,
            place.memory(program),
            finished - applied,
        )
