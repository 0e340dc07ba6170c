"""Two replicas of the applications service, killed while the forum lives on and members apply and take the quiz."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from shared.messaging.kafka import cluster_id
from shared.web import Role, issue_token
from tests.chaos.ground import ERASURE_KEY, Replica, until
from tests.chaos.world import SETTLE_SECONDS, World
from tests.integration.applications_engine import ANSWERS
from tests.oracle.forum import Forum, stand_in
from tests.oracle.ledger import Ledger
from tests.oracle.programme import contributions

SERVICE = "applications"
WRITTEN = "applications.events"
SOURCE = "/constellation/applications"
KILLS_A_ROUND = 2
APPLICANTS = 4


@dataclass
class Applicant:
    """Somebody who tries until they are heard, and remembers what they were promised."""

    member: str
    token: str
    application: str | None = None
    submitted: bool = False
    saved: dict[int, int] = field(default_factory=dict)
    asked: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    finished: dict[str, Any] | None = None


async def test_replicas_are_killed_while_members_apply_and_take_the_quiz(world: World, rounds: int) -> None:
    await world.begin("first")
    status, said = await world.ground.stars("migrate", SERVICE)
    assert status == 0, said
    both = [world.ground.replica(name, SERVICE) for name in ("one", "two")]
    for replica in both:
        replica.start()
    await asyncio.gather(*(replica.ready() for replica in both))
    secret = world.ground.environment["STARS_SECRET"]
    await _open_to_everyone(both[0], issue_token(secret, [Role.STAFF], "staff", timedelta(hours=1)))
    applicants: list[Applicant] = []
    async with world.load():
        for round_ in range(rounds):
            several = []
            for n in range(APPLICANTS):
                member = f"applicant-{world.rng.randrange(10**9)}-{round_}-{n}"
                several.append(Applicant(member, issue_token(secret, [Role.MEMBER], member, timedelta(hours=2))))
            applicants += several
            stories = [asyncio.create_task(_apply(world, one, both)) for one in several]
            for kill in range(KILLS_A_ROUND):
                await world.in_full_swing(400)
                # Now one of them, now both at once.
                dying = both if kill % 2 else [world.rng.choice(both)]
                for replica in dying:
                    replica.kill()
                    world.survived.note("kills of an applications service")
                if len(dying) == 2:
                    await world.ground.bury(SERVICE)
                for replica in dying:
                    replica.start()
                await asyncio.sleep(world.rng.uniform(0.5, 2))
            await asyncio.gather(*(replica.ready() for replica in both))
            await asyncio.wait_for(asyncio.gather(*stories), SETTLE_SECONDS)
    await world.settle()
    await _settle(world)
    await _compare(world, applicants)
    for replica in both:
        assert await replica.stop() == 0
    await world.compare()


async def _open_to_everyone(replica: Replica, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=replica.url, headers=headers, timeout=20) as client:
        document = (await client.get("/applications/api/programme/editions")).json()["items"][0]["document"]
        document |= {"open_to": "everyone"}
        document["form"] = [one for one in document["form"] if one["kind"] != "evidence"]
        answer = await client.post("/applications/api/programme/editions", json={"edition": document})
        assert answer.status_code == 201, answer.text


async def _ask(world: World, one: Applicant, both: list[Replica], method: str, path: str, body: Any = None) -> Any:
    """Ask now one replica, now the other, until an answer comes."""
    while True:
        replica = world.rng.choice(both)
        headers = {"Authorization": f"Bearer {one.token}"}
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient(base_url=replica.url, headers=headers, timeout=5) as client:
                answer = await client.request(method, f"/applications/api{path}", json=body)
            if answer.status_code < 500:
                return answer.status_code, answer.json()
        world.survived.note("requests asked again")
        await asyncio.sleep(0.2)


async def _apply(world: World, one: Applicant, both: list[Replica]) -> None:
    status, begun = await _ask(world, one, both, "POST", "/applications", {"answers": ANSWERS})
    assert status == 201, begun
    one.application = begun["application_id"]
    status, found = await _ask(world, one, both, "POST", f"/applications/{one.application}/submit")
    # The answer to the first time may have been lost.
    assert status == 200 or found["type"] == "/problems/wrong-state", found
    one.submitted = True
    status, attempt = await _ask(world, one, both, "POST", f"/applications/{one.application}/quiz", {})
    assert status == 200, attempt
    for _ in range(15):
        n, option = world.rng.randrange(1, 11), world.rng.randrange(4)
        path = f"/applications/{one.application}/quiz/answers/{n}"
        one.asked[n].add(option)
        status, found = await _ask(world, one, both, "PUT", path, {"answer": option})
        assert status == 200, found
        one.saved[n] = option
        await asyncio.sleep(world.rng.uniform(0, 0.3))
    status, one.finished = await _ask(world, one, both, "POST", f"/applications/{one.application}/quiz/finish")
    assert status == 200, one.finished


async def _settle(world: World) -> None:
    """Wait until everything is read, derived and published."""
    cluster = await cluster_id(world.ground.servers)
    [now] = await world.ground.fetch("SELECT clock_timestamp() AS at", service=SERVICE)

    async def settled() -> bool:
        [row] = await world.ground.fetch(
            "SELECT (SELECT count(*) FROM consumer_offset WHERE cluster = $1"
            "   AND (caught_up_at IS NULL OR caught_up_at <= $2)) AS behind,"
            " (SELECT count(*) FROM changed) + (SELECT count(*) FROM outbox) AS waiting",
            cluster,
            now["at"],
            service=SERVICE,
        )
        return not (row["behind"] or row["waiting"])

    await until(settled, SETTLE_SECONDS, "the applications service has nothing left to do")


async def _compare(world: World, applicants: list[Applicant]) -> None:
    """What was contributed, what every applicant was promised, and what was published of it."""
    forum = await asyncio.to_thread(Forum, world.told, ERASURE_KEY)
    oracle = await asyncio.to_thread(Ledger, forum)
    nobody = {stand_in(ERASURE_KEY, member) for member in forum._erased}
    expected = contributions(oracle.rows, nobody)
    found = {tuple(row) for row in await world.ground.fetch("SELECT * FROM contribution", service=SERVICE)}
    assert found == expected, f"{len(found ^ expected)} differ after {world.survived}: {list(found ^ expected)[:5]}"
    world.survived.note("months compared", len(expected))
    told: dict[str, Counter[str]] = defaultdict(Counter)
    sequences: dict[str, set[int]] = defaultdict(set)
    for record in await world.read(WRITTEN):
        event = json.loads(record.value)
        if event["source"] != SOURCE:
            continue
        key, sequence = event["data"]["member_id"], event["sequence"]
        if sequence in sequences[key]:
            world.survived.note("duplicates met")
            continue
        sequences[key].add(sequence)
        told[key][event["type"]] += 1
    assert not [key for key, seen in sequences.items() if seen != set(range(1, len(seen) + 1))]
    for one in applicants:
        assert one.finished is not None
        saved = {int(n): option for n, option in one.finished["answers"].items()}
        # What was heard last was kept: each answer waited for the one before it.
        assert saved == one.saved, one.member
        outcome = "quiz-passed" if one.finished["passed"] else "quiz-failed"
        assert told[one.member] == {"application-submitted": 1, outcome: 1}, one.member
    world.survived.note("applications compared", len(applicants))
