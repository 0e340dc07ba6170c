"""How long from posting a kudos to the board that has it, under steady load, and while another replica joins?"""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

from shared.contracts.envelope import CONTENT_TYPE
from shared.web import Role
from tests.load.client import Client
from tests.load.figures import Line, percentile, table
from tests.load.latency import GOAL_MS, IN_A_BATCH, PAUSE_SECONDS, RATE, WARM_SECONDS, until
from tests.load.mix import envelope, question, reply
from tests.load.stage import module, say, stage, stars

REPLICA_SECONDS = 8.0
STARTING_SECONDS = 20.0
LOOK_SECONDS = 0.02
"""Looks that follow each other faster keep the service, which shares the machine with the load, from its work."""
STEADY, JOINING = "a kudos is on the board", "… while a replica joins and leaves"


async def kudos(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    seconds = 8.0 if quick else 30.0
    async with stage() as place:
        dsn = await place.service_database("kudos", "topics", "leaderboard")
        async with (
            place.program("topics", stars("run", "topics", "--port", "0"), dsn) as topics,
            place.program("leaderboard", stars("run", "leaderboard", "--port", "0"), dsn) as leaderboard,
        ):
            url, boards, token = await topics.ready(), await leaderboard.ready(), place.token(Role.FORUM)
            total = seconds + STARTING_SECONDS + REPLICA_SECONDS + 3 * WARM_SECONDS
            with_load = ["--rate", str(RATE), "--batch", str(IN_A_BATCH), "--seconds", str(total)]
            say(f"kudos: {RATE} events a second for {seconds:.0f} s")
            async with place.program(
                "generator", module("generator", "--url", url, "--token", token, *with_load)
            ) as load:
                await asyncio.sleep(WARM_SECONDS + 1)
                before = place.usage(leaderboard)
                steady = await asyncio.to_thread(_probe, url, boards, token, "steady", seconds)
                used = place.usage(leaderboard) - before
                say("kudos: another replica joins, and leaves")
                going = threading.Event()
                probing = asyncio.create_task(asyncio.to_thread(_probe, url, boards, token, "joining", 60, going))
                replica = stars("run", "leaderboard", "--only", "worker", "--port", "0")
                async with place.program("replica", replica, dsn) as second:
                    await second.ready()
                    await asyncio.sleep(REPLICA_SECONDS / 2)
                await asyncio.sleep(REPLICA_SECONDS / 2)
                going.set()
                joining = await probing
                load.check()
                outcome = json.loads((await load.wait(90)).rpartition("result:")[2])
    rows = [
        [name, str(len(found)), *(f"{percentile(found, share):.0f}" for share in (0.5, 0.9, 0.99, 1))]
        for name, found in ((STEADY, steady), (JOINING, joining))
    ]
    table(
        f"Kudos: ms from POST to the board, beside {outcome['events_a_second']:.0f} events/s",
        ["", "probes", "p50", "p90", "p99", "most"],
        rows,
    )
    print(f"  share of one core: leaderboard {used.program / seconds:.0%}, PostgreSQL {used.postgres / seconds:.0%}")
    p50, p99 = percentile(steady, 0.5), percentile(steady, 0.99)
    return [
        Line(
            f"from the POST of a kudos to the changed board at {RATE} events/s",
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
            f"p99 {GOAL_MS:.0f} ms",
            p99 < GOAL_MS,
        ),
        Line("the same while another replica joins and leaves, at most", f"{max(joining):.0f} ms"),
    ]


def _probe(
    url: str, boards: str, token: str, name: str, seconds: float, stop: threading.Event | None = None
) -> list[float]:
    """Give kudos one at a time, and look for each on a board of its own."""
    writer, reader = Client(url, token), Client(boards, token)
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (stop and stop.is_set()):
        topic, n = f"{name}-{len(times)}", len(times)
        space = topic
        asked = question(f"{topic}-asked", datetime.now(UTC), topic, "m1", space)
        answered = reply(f"{topic}-answered", datetime.now(UTC), topic, f"{topic}-r", f"{name}-{n % 7}")
        path = f"/leaderboard/api/boards/space:{space}"
        writer.post("/topics/api/events", asked, CONTENT_TYPE)
        until(writer, reader, answered, path, lambda body: bool(body["entries"]))
        given = envelope(
            "kudos-given", f"{topic}-given", datetime.now(UTC), topic, reply_id=f"{topic}-r", kudos_id=f"{topic}-k"
        )
        # With the reply's point, and the first response's three where that has come by then.
        times.append(until(writer, reader, given, path, _has_kudos, LOOK_SECONDS))
        time.sleep(PAUSE_SECONDS)
    writer.close()
    reader.close()
    return times


def _has_kudos(body: dict[str, Any]) -> bool:
    return any(entry["points"] in (3, 6) for entry in body["entries"])
