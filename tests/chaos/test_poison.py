"""What nobody should ever put into Kafka, put straight into Kafka: the rest goes on, and nothing is lost sight of."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.chaos.ground import SERVICE
from tests.chaos.life import record_of
from tests.chaos.world import World
from tests.oracle.envelopes import FORUM, Event, envelope, member_data
from tests.oracle.figures import SECOND, micros, rfc3339

CONSOLE = "org.apache.kafka.tools.ConsoleProducer"
NO_UTF8 = b"\xff\xfe\x80"
BINARY = [("traceparent", NO_UTF8), ("retries", b"\x00\x00\x00\x07"), ("nothing", None), ("text", b"\\u0000")]
MOST_AHEAD = 5 * 60 * SECOND
"""How far in the future a time may lie."""


@dataclass(frozen=True)
class Poison:
    """Something put into Kafka, and what the reason for its dead letter must say; None: there must be no letter."""

    value: bytes | None
    reason: str | None
    key: bytes | None = b"poison"
    headers: Sequence[tuple[str, bytes | None]] = ()


def of(event: Any) -> bytes:
    """The bytes of something that JSON can say."""
    return json.dumps(event).encode()


def topic(id_: str, time_: str = "2026-01-01T00:00:00Z", **changes: Any) -> Event:
    """A question that is well, but for the changes."""
    data = {
        "topic_id": id_,
        "author_id": "who-poisons",
        "author_kind": "member",
        "title": "Well?",
        "space": "poison",
        "tags": [],
        "kind": "question",
    }
    return envelope("topic-created", time_, data | changes, id_=f"created:{id_}", source="/forum/poison")


def poisons() -> list[Poison]:
    """One of each kind that is a dead letter for ever, or nothing at all."""
    wrong_stream = envelope("member-registered", "2026-01-01T00:00:00Z", member_data("x", "active"), id_="m")
    return [
        Poison(b"this is no JSON", "not JSON"),
        Poison(b"", "not JSON"),
        Poison(NO_UTF8 + b"{}", "not JSON in UTF-8"),
        Poison(b"[" * 200_000, "not JSON"),
        Poison(of([1, 2]), "not a JSON object"),
        Poison(of(topic("nul", title="a\x00b")), "title"),
        Poison(of(topic("nul-in-id\x00")), "topic_id"),
        Poison(of(topic("surrogate", title="\ud800")), "."),
        Poison(of(topic("2099", "2099-01-01T00:00:00Z")), "5 minutes"),
        Poison(of(topic("year-1", "0001-01-01T00:00:00+23:59")), "time"),
        Poison(of({**topic("no-data"), "data": None}), "data"),
        Poison(of({**topic("odd-type"), "type": "a\x00b"}), "type"),
        Poison(of(wrong_stream), "does not belong on forum.events"),
        Poison(of({**topic("headers"), "specversion": "9"}), "specversion", NO_UTF8, BINARY),
        Poison(of({**topic("future-type"), "type": "topic-starred-by-aliens"}), None),
        Poison(None, None),
    ]


async def test_poison_harms_nothing_but_itself(world: World, rounds: int) -> None:
    await world.begin()
    # Where somebody was erased, every letter is searched for their name.
    await world.send([envelope("member-erased", "2026-01-01T00:00:00Z", {"member_id": "who-is-gone"}, id_="gone")])
    for _ in range(rounds):
        letters: dict[tuple[str, int, int], Poison] = {}
        async with world.load(), producer(world) as forum:
            for one in poisons():
                sent = await forum.send_and_wait(FORUM, one.value, key=one.key, headers=list(one.headers))
                if one.reason is not None:
                    letters[FORUM, sent.partition, sent.offset] = one
                world.survived.note("poisoned records")
            # Odd to look at, and yet well: all of these count.
            odd = topic(f"odd-{time.time_ns()}", title="x" * 1000, tags=["t" * 100] * 100)
            sent = await forum.send_and_wait(FORUM, of(odd), key=NO_UTF8, headers=BINARY)
            world.told.append(odd)
            await from_the_console(world, "typed by hand")
        await world.settle_reading()
        before = await caught_up(world)
        await asyncio.sleep(2)
        assert (await caught_up(world) - before).total_seconds() > 0.5, "caught_up_at stands still"
        rows = await world.ground.fetch("SELECT * FROM dead_letter")
        found = {(row["stream"], row["partition"], row["offset"]): row for row in rows}
        assert len(found) == len(letters) + 1
        for at, one in letters.items():
            row = found.pop(at)
            assert (row["key"], row["value"]) == (one.key, one.value)
            assert re.search(one.reason or "", row["error"]), (one, row["error"])
        [typed] = found.values()
        assert (typed["key"], typed["value"]) == (None, b"typed by hand")
        world.survived.note("dead letters", len(rows))
        await drop_all(world)
    await world.compare()


async def test_dead_letters_can_be_listed_shown_replayed_and_dropped(world: World) -> None:
    await world.begin()
    in_time = micros(datetime.now(UTC)) + 6 * SECOND
    early = topic(f"early-{time.time_ns()}", rfc3339(in_time + MOST_AHEAD))
    broken = Poison(of({"type": "topic-created", "id": "broken"}), "specversion", NO_UTF8, BINARY)
    key, value = record_of(early)
    async with producer(world) as forum:
        await forum.send_and_wait(FORUM, value, key=key)
        await forum.send_and_wait(FORUM, broken.value, key=broken.key, headers=list(broken.headers))
    await world.settle_reading()

    status, listed = await world.ground.stars("dead-letters", "list", SERVICE)
    assert status == 0
    letters = {"5 minutes" in line: line.split("\t")[0] for line in listed.splitlines()}
    assert set(letters) == {True, False}, listed
    status, shown = await world.ground.stars("dead-letters", "show", SERVICE, letters[True])
    assert status == 0
    assert early["id"] in shown

    # What was too early is in time by now; what is broken stays so, and comes back as it was.
    await asyncio.sleep(in_time / SECOND - time.time())
    status, said = await world.ground.stars("dead-letters", "replay", SERVICE, "--all")
    assert (status, said.strip()) == (0, "2 sent again")
    world.told.append(early)
    world.survived.note("dead letters replayed", 2)
    await world.settle_reading()
    [row] = await world.ground.fetch("SELECT * FROM dead_letter")
    assert (row["key"], row["value"]) == (broken.key, broken.value)
    again = [record for record in await world.read(FORUM) if record.value == broken.value]
    assert len(again) == 2
    assert list(again[0].headers) == list(again[1].headers) == broken.headers, "not byte for byte"
    assert {record.key for record in again} == {NO_UTF8}

    status, said = await world.ground.stars("dead-letters", "drop", SERVICE, str(row["id"]))
    assert (status, said.strip()) == (0, "1 dropped")
    status, said = await world.ground.stars("dead-letters", "list", SERVICE)
    assert (status, said.strip()) == (0, "none")
    await world.compare()


async def test_the_end_markers_of_transactions_keep_nobody_waiting(world: World, rounds: int) -> None:
    await world.begin()
    for n in range(rounds):
        async with producer(world, transactional_id=f"forum-{n}") as forum:
            committed = [topic(f"committed-{time.time_ns()}-{i}") for i in range(20)]
            async with forum.transaction():
                for event in committed:
                    key, value = record_of(event)
                    await forum.send(FORUM, value, key=key)
            world.told += committed
            await forum.begin_transaction()
            for i in range(20):
                key, value = record_of(topic(f"aborted-{time.time_ns()}-{i}"))
                await forum.send(FORUM, value, key=key)
            await forum.flush()
            await forum.abort_transaction()
        world.survived.note("transactions", 2)
        # All partitions end in a marker, which nobody ever reads as a record.
        await world.settle_reading()
    assert not await world.ground.fetch("SELECT FROM topic_state WHERE topic_id LIKE 'aborted-%' AND known")
    await world.compare()


async def caught_up(world: World) -> datetime:
    """The instant up to which everything is read."""
    [row] = await world.ground.fetch("SELECT min(caught_up_at) AS at FROM consumer_offset")
    at: datetime = row["at"]
    return at


async def drop_all(world: World) -> None:
    """Forget all dead letters."""
    status, said = await world.ground.stars("dead-letters", "drop", SERVICE, "--all")
    assert status == 0, said


def producer(world: World, **settings: Any) -> AIOKafkaProducer:
    """A producer of anything."""
    return AIOKafkaProducer(bootstrap_servers=world.ground.servers, acks="all", max_request_size=2**20, **settings)


async def from_the_console(world: World, line: str) -> None:
    """A line by Kafka's own console producer."""
    command = await asyncio.to_thread(
        world.ground.kafka.console_command, CONSOLE, "--bootstrap-server", world.ground.servers, "--topic", FORUM
    )
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    await process.communicate(f"{line}\n".encode())
    assert process.returncode == 0
