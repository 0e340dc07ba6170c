"""How fast does history come in? A generated Stack Exchange dump: read, into Kafka, applied by every service."""

import asyncio
import re
import time

from deploy.history import read_dump
from tests.load.dump import write_dump
from tests.load.figures import Line, Spread, table
from tests.load.stage import say, stage, stars

LONGEST = 400.0
SPACE = "load"


async def history(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    posts = 5_000 if quick else 50_000
    async with stage() as place:
        folder = place.folder / "dump"
        await asyncio.to_thread(write_dump, folder, posts)
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        say(f"import: reading {posts:,} posts, {megabytes:.0f} MB")
        reading = []
        for _ in range(3):
            started = time.perf_counter()
            events = sum(1 for _ in read_dump(folder, SPACE))
            reading.append(time.perf_counter() - started)
        say(f"import: bringing in {events:,} events")
        async with place.program("up", stars("up", "--port", "0")) as program:
            await program.ready()
            before, started = place.usage(program), time.perf_counter()
            argv = stars("import", "stackexchange", str(folder), "--space", SPACE, "--wait")
            async with place.program("import", argv) as importer:
                said = await importer.wait(LONGEST)
            whole = time.perf_counter() - started
            used, memory = place.usage(program) - before, place.memory(program)
    sent = re.search(r"([\d,]+) events in ([\d.]+) s", said)
    settled = re.search(r"settled after ([\d.]+) s", said)
    if not sent or not settled or int(sent[1].replace(",", "")) != events:
        raise RuntimeError(f"the import did not say what was expected:\n{said[-2000:]}")
    to_kafka = float(sent[2])
    read = Spread.of([events / seconds for seconds in reading])
    rows = [
        ["read and made into events", f"{read:,.0f}", f"{events / read.middle:.1f}"],
        ["the same, and in Kafka, services applying meanwhile", f"{events / to_kafka:,.0f}", f"{to_kafka:.1f}"],
        ["the whole command, until every service has settled", f"{events / whole:,.0f}", f"{whole:.1f}"],
    ]
    table(
        f"Import: `stars import stackexchange --wait` of {posts:,} posts ({megabytes:.0f} MB, {events:,} events)"
        " beside `stars up`",
        ["", "events/s", "s"],
        rows,
    )
    print(
        f"  share of one core: services {used.program / whole:.0%}, PostgreSQL {used.postgres / whole:.0%},"
        f" Kafka {used.kafka / whole:.0%}; services' peak memory {memory['program']:.0f} MB"
    )
    print(f"  the command itself said: settled {float(settled[1]):.1f} s after the last event was in Kafka")
    return [
        Line(
            f"import of {posts:,} Stack Exchange posts, all services in one process, until settled",
            f"{events / whole:,.0f} events/s, {whole:.0f} s",
        )
    ]
