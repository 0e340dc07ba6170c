"""Kill -9 of the notifier while it tells: nothing is lost, and nothing is told twice but what SMTP cannot decide."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiokafka
import pytest

from deploy.infrastructure import InfrastructureError
from shared.messaging.kafka import ensure_streams
from tests.chaos.ground import PARTITIONS, Ground, until
from tests.smtp import Server, smtp_server

NOTIFIER = "notifier"
MESSAGES, KILLS = 500, 2
"""Of one round."""


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    """A Kafka and a PostgreSQL with the notifier's schema."""
    ground = Ground()
    try:
        await ground.start()
        status, said = await ground.stars("migrate", NOTIFIER)
        assert status == 0, said
    except InfrastructureError as error:
        await ground.stop()
        pytest.skip(f"chaos needs an embedded Kafka and PostgreSQL of its own: {error}")
    yield ground
    await ground.stop()


def told(number: int) -> tuple[str, str, bytes]:
    """Something to tell a member: of what is sent again where nobody knows, and of what is not, by turns."""
    member = f"m{number}"
    data: dict[str, Any] = {"member_id": member}
    if number % 2:
        type_, stream = "quiz-passed", "applications.events"
        data["application_id"] = f"a{number}"
    else:
        type_, stream = "milestone-reached", "leaderboard.events"
        data |= {"board": "everyone", "kind": "first-place"}
    event = {"specversion": "1.0", "id": f"{stream}/{member}/1", "source": "/test", "type": type_, "sequence": 1}
    event |= {"time": datetime.now(UTC).isoformat(), "data": data}
    return stream, member, json.dumps(event).encode()


def contact(number: int) -> tuple[str, str, bytes]:
    member = f"m{number}"
    event = {
        "specversion": "1.0",
        "id": f"c{number}",
        "source": "/test",
        "type": "contact-changed",
        "time": datetime.now(UTC).isoformat(),
        "data": {"member_id": member, "email": f"{member}@mail.example"},
    }
    return "members.contacts", member, json.dumps(event).encode()


async def publish(ground: Ground, count: int) -> None:
    await ensure_streams(ground.servers, PARTITIONS, 1)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=ground.servers, acks="all", linger_ms=5)
    await producer.start()
    try:
        records = [made(n) for n in range(count) for made in (told, contact)]
        sent = [await producer.send(stream, value, key=key.encode()) for stream, key, value in records]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def received(server: Server) -> Counter[str]:
    """How often each delivery's mail arrived."""
    found: Counter[str] = Counter()
    for _, _, body in server.mails:
        match = re.search(rb"Message-ID: <(\d+)\.", body)
        assert match is not None
        found[match[1].decode()] += 1
    return found


async def test_two_replicas_that_are_killed_again_and_again_lose_nothing_and_repeat_only_the_unknown(
    ground: Ground, rounds: int, pytestconfig: pytest.Config
) -> None:
    rng = random.Random(pytestconfig.getoption("--chaos-seed"))
    count, kills = MESSAGES * rounds, KILLS * rounds
    async with smtp_server() as server:
        server.pause = 0.12
        ground.environment |= {
            "STARS_SMTP": f"smtp://127.0.0.1:{server.port}?connections=4",
            "STARS_DELIVERY_LEASE": "2",
            "STARS_BATCH_RECORDS": "100",
        }
        await publish(ground, count)
        replicas = [ground.replica(name, NOTIFIER) for name in ("first", "second")]
        for replica in replicas:
            replica.start()
        in_sending: list[int] = []
        for _ in range(kills):
            # In full swing: something went out since the last time, unless all of it has.
            seen = len(server.mails)
            for _ in range(300):
                if len(server.mails) >= min(count, seen + rng.randrange(1, 40)):
                    break
                await asyncio.sleep(0.1)
            await asyncio.sleep(rng.uniform(0, 0.3))
            victim = rng.choice(replicas)
            victim.kill()
            rows = await ground.fetch("SELECT count(*) AS n FROM delivery WHERE state = 'sending'", service=NOTIFIER)
            in_sending.append(rows[0]["n"])
            if rng.random() < 0.5:
                await asyncio.sleep(rng.uniform(0, 1))
            victim.start()

        async def over() -> bool:
            rows = await ground.fetch(
                "SELECT count(*) FILTER (WHERE state IN ('accepted', 'unknown')) AS over, count(*) AS all"
                " FROM delivery WHERE channel = 'email'",
                service=NOTIFIER,
            )
            return bool(rows[0]["over"] == rows[0]["all"] == count)

        await until(over, 90 + count / 20, "every delivery is over")
        for replica in replicas:
            replica.kill()

        mails = received(server)
        deliveries = await ground.fetch(
            "SELECT d.delivery_id, d.member_id, d.state, d.history, n.category FROM delivery AS d"
            " JOIN notification AS n USING (notification_id) WHERE d.channel = 'email'",
            service=NOTIFIER,
        )
    assert sorted(row["member_id"] for row in deliveries) == sorted(f"m{n}" for n in range(count))
    lost = duplicates = unknown = 0
    for row in deliveries:
        arrived = mails[str(row["delivery_id"])]
        doubts = sum(entry["state"] == "unknown" for entry in json.loads(row["history"]))
        unknown += doubts
        duplicates += max(0, arrived - 1)
        if row["category"] == "application":
            # Sent again where nobody knew: at least once, and never oftener than there were doubts.
            assert row["state"] == "accepted"
            lost += arrived == 0
            assert 1 <= arrived <= 1 + doubts, dict(row)
        else:
            # Given up where nobody knew: never twice.
            assert arrived <= 1, dict(row)
            assert arrived == 1 or row["state"] == "unknown", dict(row)
    print(
        f"\n{count} messages, {kills} kills -9: {lost} lost, {duplicates} duplicates,"
        f" {unknown} unknown (in `sending` at the kills: {in_sending})"
    )
    assert lost == 0
    assert duplicates <= unknown
