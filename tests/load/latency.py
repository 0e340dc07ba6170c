"""How long from posting an event to an answer that knows of it, under steady load?"""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from shared.contracts.envelope import CONTENT_TYPE
from shared.web import Role
from tests.load.client import Client
from tests.load.figures import Line, percentile, table
from tests.load.mix import question, reply
from tests.load.stage import module, say, stage, stars

RATE, IN_A_BATCH = 500, 5
WARM_SECONDS = 3.0
POLL_SECONDS = 0.005
PAUSE_SECONDS = 0.02
GOAL_MS = 300.0
LONGEST = 10.0

TOPIC, TOPIC_SLA = "a new topic is there", "… and the report counts it"
ANSWER, ANSWER_SLA = "a reply is the first response", "… and the report counts it as answered"


async def latency(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    seconds = 8.0 if quick else 30.0
    async with stage() as place:
        dsn = await place.service_database("latency", "topics")
        async with place.program("topics", stars("run", "topics", "--port", "0"), dsn) as program:
            url, token = await program.ready(), place.token(Role.FORUM)
            with_load = ["--rate", str(RATE), "--batch", str(IN_A_BATCH), "--seconds", str(seconds + 2 * WARM_SECONDS)]
            argv = module("generator", "--url", url, "--token", token, *with_load)
            say(f"latency: {RATE} events a second for {seconds:.0f} s")
            async with place.program("generator", argv) as generator:
                await asyncio.sleep(WARM_SECONDS + 1)
                before = place.usage(program)
                times = await asyncio.to_thread(_probe, url, token, seconds)
                used = place.usage(program) - before
                generator.check()
                outcome = json.loads((await generator.wait(60)).rpartition("result:")[2])
            memory = place.memory(program)["program"]
    rows = [
        [name, str(len(found)), *(f"{percentile(found, share):.0f}" for share in (0.5, 0.9, 0.99, 1))]
        for name, found in times.items()
    ]
    table(
        f"Latency: ms from POST to the answer, looked for every {POLL_SECONDS * 1000:.0f} ms, beside"
        f" {outcome['events_a_second']:.0f} events/s in batches of {IN_A_BATCH}",
        ["", "probes", "p50", "p90", "p99", "most"],
        rows,
    )
    print(
        f"  the load's own POSTs: p50 {outcome['p50']:.0f} ms, p99 {outcome['p99']:.0f} ms,"
        f" {outcome['failed']:.0f} failed"
    )
    print(
        f"  share of one core: service {used.program / seconds:.0%}, PostgreSQL {used.postgres / seconds:.0%},"
        f" Kafka {used.kafka / seconds:.0%}; service's peak memory {memory:.0f} MB"
    )
    lines = []
    for name in (ANSWER, ANSWER_SLA):
        p50, p99 = percentile(times[name], 0.5), percentile(times[name], 0.99)
        lines.append(
            Line(
                f"from POST to answer at {RATE} events/s: {name.removeprefix('… and ')}",
                f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
                f"p99 {GOAL_MS:.0f} ms",
                p99 < GOAL_MS,
            )
        )
    return lines


def _probe(url: str, token: str, seconds: float) -> dict[str, list[float]]:
    """Ask and answer questions of our own, one at a time, and look for each change from a second connection."""
    writer, reader = Client(url, token), Client(url, token)
    times: dict[str, list[float]] = {TOPIC: [], TOPIC_SLA: [], ANSWER: [], ANSWER_SLA: []}

    def is_answered(body: dict[str, Any]) -> bool:
        return body.get("first_response") is not None

    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        topic, space, now = f"probe-{n}", f"probe-{n}", datetime.now(UTC)
        asked = question(f"probe-{n}-asked", now, topic, "m1", space)
        answered = reply(f"probe-{n}-answered", datetime.now(UTC), topic, f"probe-{n}-r", "m2")
        single, sla = f"/topics/api/topics/{topic}", f"/topics/api/sla?space={space}"
        # By turns, as looking for one delays the look for the other.
        if n % 2:
            times[TOPIC].append(until(writer, reader, asked, single, lambda body: True))
            times[ANSWER].append(until(writer, reader, answered, single, is_answered))
        else:
            times[TOPIC_SLA].append(until(writer, reader, asked, sla, lambda body: body["topics"] == 1))
            times[ANSWER_SLA].append(until(writer, reader, answered, sla, lambda body: body["answered"] == 1))
        n += 1
        time.sleep(PAUSE_SECONDS)
    writer.close()
    reader.close()
    return times


def until(
    writer: Client,
    reader: Client,
    event: dict[str, Any],
    path: str,
    there: Callable[[dict[str, Any]], bool],
    every: float = POLL_SECONDS,
) -> float:
    """Post an event; milliseconds until an answer at ``path`` knows of it."""
    started = time.perf_counter()
    status, body = writer.post("/topics/api/events", event, CONTENT_TYPE)
    if status != 202:
        raise RuntimeError(f"an event was not taken: {status} {body}")
    while time.perf_counter() - started < LONGEST:
        status, body = reader.get(path)
        if status == 200 and there(body):
            return (time.perf_counter() - started) * 1000
        if status not in (200, 404):
            raise RuntimeError(f"{path}: {status} {body}")
        time.sleep(every)
    raise TimeoutError(f"{path} does not know of {event['id']} after {LONGEST:.0f} s")
