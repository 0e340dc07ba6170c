"""E-mails a second through the whole pipeline, Kafka to recorded reply, beside nodemailer and the floor.

All of them send to one smtp-sink on this machine. nodemailer has no database behind it: its pool is told the same mail
(headers, text, HTML, base64) and puts it together, which comes to the same bytes but for their order and the boundary.
For scale it is also handed the finished bytes of one mail again and again, so that it has nothing to do but to send.
"""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import asyncpg

from deploy.infrastructure.processes import free_port
from tests.load.figures import Line, Spread, table
from tests.load.mix import Record
from tests.load.stage import Program, Stage, Usage, say, stage, stars

SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin") or shutil.which("smtp-sink")
SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin") or shutil.which("smtp-source")
GOAL = 1000
CONNECTIONS = 64
COMPOSED = "nodemailer's pool: the same mail, no database"
RAW = "nodemailer's pool: one finished mail again and again, no database"

NODEMAILER = """
const [port, count, connections, file, parts] = process.argv.slice(2);
const nodemailer = require("nodemailer");
const raw = require("fs").readFileSync(file);
const content = parts ? JSON.parse(require("fs").readFileSync(parts)) : { raw };
const pool = nodemailer.createTransport({ pool: true, host: "127.0.0.1", port: +port, secure: false, ignoreTLS: true,
  maxConnections: +connections, maxMessages: Infinity });
const one = (n) => pool.sendMail({ envelope: { from: `b${n}@stars.example`, to: [`m${n}@mail.example`] }, ...content });
(async () => {
  await Promise.all([...Array(50).keys()].map(one));
  const began = process.hrtime.bigint();
  await Promise.all([...Array(+count).keys()].map(one));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const used = process.cpuUsage();
  const cpu = (used.user + used.system) / 1e6, rss = process.memoryUsage().rss / 1e6;
  console.log(JSON.stringify({ rate: count / seconds, cpu, rss }));
  pool.close();
})();
"""


async def mails(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    if SINK is None:
        say("mails: smtp-sink is not here (Debian: postfix)")
        return []
    count, repetitions = (3000, 1) if quick else (10_000, 3)
    rates: dict[str, list[float]] = {}
    cost: dict[str, list[str]] = {}
    async with stage() as place, _sink(place) as port:
        peer = npm(place.folder, "nodemailer")
        for n in range(repetitions):
            for processes in (1, 2):
                name = f"ours, {processes} process{'es' * (processes > 1)}: Kafka to recorded reply"
                say(f"{name}, {count} mails")
                rate, used, memory = await _ours(place, f"mails_{n}_{processes}", port, processes, count)
                rates.setdefault(name, []).append(rate)
                cost[name] = [
                    f"{used.program / count * 1000:.2f} s",
                    f"{used.postgres / count * 1000:.2f} s",
                    f"{used.kafka / count * 1000:.2f} s",
                    f"{memory:.0f} MB",
                ]
            for name, composed in ((COMPOSED, True), (RAW, False)) if peer is not None else ():
                found = await asyncio.to_thread(_nodemailer, peer, port, count, composed)
                rates.setdefault(name, []).append(found["rate"])
                cost[name] = [f"{found['cpu'] / count * 1000:.2f} s", "–", "–", f"{found['rss']:.0f} MB"]
            if SOURCE is not None:
                rates.setdefault("the floor: smtp-source", []).append(await asyncio.to_thread(_source, port, count))
                cost["the floor: smtp-source"] = ["–"] * 4
    head = ["", "mails/s", "CPU of 1,000", "PostgreSQL", "Kafka", "memory"]
    table(
        f"E-mail: {count} mails to one smtp-sink over {CONNECTIONS} connections, fsync on",
        head,
        [[name, f"{Spread.of(found):,.0f}", *cost[name]] for name, found in rates.items()],
    )
    ours, two = (Spread.of(found) for name, found in rates.items() if name.startswith("ours"))
    lines = [
        Line(
            "e-mails a second, Kafka to recorded SMTP reply, one process",
            f"{ours:,.0f}",
            f"{GOAL:,}",
            ours.middle >= GOAL,
        ),
        Line("… two processes", f"{two:,.0f}"),
    ]
    if COMPOSED in rates:
        theirs, scale = Spread.of(rates[COMPOSED]), Spread.of(rates[RAW])
        lines += [
            Line(
                "… against nodemailer's pool sending the same mail, without a database",
                f"{ours.middle / theirs.middle:.1f} times ({theirs:,.0f})",
                "ahead",
                ours.middle > theirs.middle,
            ),
            Line("… nodemailer's pool handed one finished mail again and again", f"{scale:,.0f}"),
        ]
    return lines


@asynccontextmanager
async def _sink(place: Stage) -> AsyncIterator[int]:
    port = free_port()
    assert SINK is not None
    async with place.program("smtp-sink", [SINK, "-u", "nobody", f"127.0.0.1:{port}", "1000"]):
        await asyncio.sleep(0.3)
        yield port


async def _ours(place: Stage, run: str, port: int, processes: int, count: int) -> tuple[float, Usage, float]:
    # Nothing of earlier runs is read or vacuumed meanwhile.
    await place.forget("leaderboard.events")
    dsn = await place.service_database("mails", "notifier")
    # Members and addresses are there before: it is the telling that is measured.
    await _addresses(dsn, count, run)
    settings = {"STARS_SMTP": f"smtp://127.0.0.1:{port}?connections={CONNECTIONS}", "STARS_LOG_LEVEL": "WARNING"}
    async with AsyncExitStack() as running:
        programs: list[Program] = []
        for n in range(processes):
            argv = stars("run", "notifier", "--only", "worker", "--port", "0")
            programs.append(await running.enter_async_context(place.program(f"{run}-{n}", argv, dsn, **settings)))
        for program in programs:
            await program.ready()
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "notifier"})
        try:
            await _settled(connection, programs)
            before = [place.usage(program) for program in programs]
            began = time.monotonic()
            await place.feed("leaderboard.events", _news(count, run))
            while not await _all_sent(connection, count):
                for program in programs:
                    program.check()
                if time.monotonic() - began > 300:
                    raise TimeoutError(
                        str(await connection.fetch("SELECT state, reason, count(*) FROM delivery GROUP BY 1, 2"))
                    )
                await asyncio.sleep(0.05)
            seconds = time.monotonic() - began
        finally:
            await connection.close()
        after = [place.usage(program) for program in programs]
        spent = [late - early for late, early in zip(after, before, strict=True)]
        used = Usage(sum(one.program for one in spent), spent[0].postgres, spent[0].kafka)
        memory = max(place.memory(program)["program"] for program in programs)
    return count / seconds, used, memory


async def _all_sent(connection: Any, count: int) -> bool:
    # They are counted only once nothing is under way, which indexes tell: counting costs the more the more there are.
    under_way = (
        "SELECT EXISTS (SELECT FROM delivery WHERE state IN ('leased', 'sending'))"
        " OR EXISTS (SELECT FROM delivery WHERE channel = 'email' AND priority = 3 AND state IN ('pending', 'retry'))"
    )
    sent = "SELECT count(*) FROM delivery WHERE channel = 'email' AND state = 'accepted'"
    return not await connection.fetchval(under_way) and await connection.fetchval(sent) >= count


async def _settled(connection: Any, programs: list[Program]) -> None:
    """Wait until every partition was read to its end: what earlier runs left in Kafka is behind us."""
    while True:
        row = await connection.fetchrow(
            "SELECT count(*) AS n, bool_and(caught_up_at > now() - interval '3 s') AS all FROM consumer_offset"
        )
        # Nor is anything left to look at of what they told: its members have no address here.
        due = "SELECT EXISTS (SELECT FROM delivery WHERE state IN ('pending', 'leased', 'retry') AND due_at <= now())"
        if row["n"] and row["all"] and not await connection.fetchval(due):
            return
        for program in programs:
            program.check()
        await asyncio.sleep(0.1)


async def _addresses(dsn: str, count: int, run: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "notifier"})
    try:
        await connection.execute(
            "INSERT INTO contact (member_id, stamp, email)"
            " SELECT $2 || '-' || n, '0', 'm' || n || '@mail.example' FROM generate_series(1, $1::int) AS n",
            count,
            run,
        )
        await connection.execute("ANALYZE contact")
    finally:
        await connection.close()


def _news(count: int, run: str) -> Iterator[Record]:
    now = datetime.now(UTC).isoformat()
    for n in range(1, count + 1):
        member = f"{run}-{n}"
        event = {
            "specversion": "1.0",
            "id": f"leaderboard.events/{member}/1",
            "source": "/constellation/leaderboard",
            "type": "milestone-reached",
            "time": now,
            "sequence": 1,
            "data": {"member_id": member, "board": "everyone", "kind": "entered-top-10"},
        }
        yield member, json.dumps(event).encode()


def npm(folder: Path, *packages: str) -> Path | None:
    """A folder in which these packages of npm are installed; None where node, npm or the registry is missing."""
    if not (shutil.which("node") and shutil.which("npm")):
        say(f"{', '.join(packages)}: left out, there is no node here")
        return None
    place = folder / "npm"
    place.mkdir(exist_ok=True)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *packages]
    if subprocess.run(command, capture_output=True, timeout=120).returncode:
        say(f"{', '.join(packages)}: left out, npm could not install it")
        return None
    return place


def _nodemailer(place: Path, port: int, count: int, composed: bool) -> dict[str, float]:
    raw = place / "mail.eml"
    raw.write_bytes(sample())
    message = message_from_bytes(sample(), policy=policy.default)
    text, html = (str(part.get_content()) for part in message.iter_parts())  # type: ignore[attr-defined]
    parts = place / "parts.json"
    own = ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type")
    parts.write_text(
        json.dumps(
            {
                "from": message["From"],
                "to": message["To"],
                "subject": message["Subject"],
                "date": message["Date"],
                "messageId": message["Message-ID"],
                "headers": {name: value for name, value in message.items() if name not in own},
                "text": text,
                "html": html,
                "textEncoding": "base64",
            }
        )
    )
    script = place / "mails.cjs"
    script.write_text(NODEMAILER)
    done = subprocess.run(
        ["node", str(script), str(port), str(count), str(CONNECTIONS), str(raw), *([str(parts)] if composed else [])],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=place,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _source(port: int, count: int) -> float:
    assert SOURCE is not None
    began = time.monotonic()
    size = len(sample())
    command = [SOURCE, "-d", "-s", str(CONNECTIONS), "-m", str(count), "-l", str(size), f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return count / (time.monotonic() - began)


def sample() -> bytes:
    """A mail as ours are."""
    from datetime import timedelta
    from zoneinfo import ZoneInfo

    from services.notifier.channels import Ready
    from services.notifier.mail import Composer
    from services.notifier.rules import CATEGORIES, Recipient
    from services.notifier.tokens import Tokens

    now = datetime.now(UTC)
    composer = Composer(Tokens({1: b"k" * 32}), lambda: "https://stars.example", "Stars <stars@stars.example>")
    recipient = Recipient("m1", ZoneInfo("UTC"), email="m1@mail.example")
    data = {"board": "everyone", "kind": "entered-top-10"}
    ready = Ready(
        delivery_id=1,
        fence=1,
        notification_id=1,
        member_id="m1",
        channel="email",
        target=0,
        category=CATEGORIES["milestone"],
        what="milestone",
        data=data,
        at=now,
        topic_id=None,
        actor_id=None,
        actor_name=None,
        recipient=recipient,
        attempts=0,
        expires_at=now + timedelta(days=1),
        made_at=now,
        traceparent=None,
        address="m1@mail.example",
    )
    return composer.mail(ready).raw
