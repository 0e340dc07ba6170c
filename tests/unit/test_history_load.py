"""Bringing events in: batches, retries, and what is left behind when it is interrupted."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.history import Findings, LoadFailed, checkpoint_file, fingerprint, load
from deploy.history.load import Record
from services.topics.ingestion import records
from shared.contracts.envelope import Event
from shared.contracts.forum import TopicDeleted
from shared.messaging import KafkaUnavailable

loading = sys.modules[load.__module__]


def some(count: int) -> list[Event]:
    return [
        TopicDeleted.model_validate(
            {
                "specversion": "1.0",
                "id": str(n),
                "source": "/s",
                "time": "2020-01-01T00:00:00Z",
                "data": {"topic_id": f"t{n}"},
            }
        )
        for n in range(count)
    ]


class Kafka:
    """Takes records, and fails when it is told to."""

    def __init__(self, fail_at: int | None = None, error: type[Exception] = RuntimeError) -> None:
        self.taken: list[Record] = []
        self.calls = self.now = self.most = 0
        self.fail_at, self.error = fail_at, error

    async def send(self, batch: Sequence[Record]) -> None:
        self.calls += 1
        call = self.calls
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(random.random() * 0.003)
            if call == self.fail_at:
                raise self.error("away")
            self.taken += batch
        finally:
            self.now -= 1


async def test_everything_is_sent_once_in_bounded_batches() -> None:
    kafka, told, events = Kafka(), [], some(1050)
    loaded = await load(events, kafka.send, batch=100, in_flight=3, progress=told.append, findings=Findings(refused=2))
    assert (loaded.sent, loaded.skipped, loaded.refused) == (1050, 0, 2)
    assert sorted(kafka.taken) == sorted(records(events))
    assert kafka.calls == 11
    assert 1 < kafka.most <= 3
    assert told == [*range(100, 1001, 100), 1050]


async def test_nothing_is_something_too(tmp_path: Path) -> None:
    loaded = await load([], Kafka().send, checkpoint=tmp_path / "c")
    assert (loaded.sent, loaded.skipped) == (0, 0)


async def test_reading_goes_on_while_batches_are_on_their_way() -> None:
    """Reading takes 0.2 s and sending 0.2 s: together they take less than one after the other."""

    def slowly() -> Iterator[Event]:
        for n, event in enumerate(some(100)):
            if n % 10 == 0:
                time.sleep(0.02)
            yield event

    async def send(_: Any) -> None:
        await asyncio.sleep(0.02)

    loaded = await load(slowly(), send, batch=10)
    assert loaded.seconds < 0.35


@pytest.mark.parametrize("error", [KafkaUnavailable, OSError, TimeoutError])
async def test_a_failed_batch_is_tried_again_and_said(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "FIRST_PAUSE", 0.01)
    kafka, said, events = Kafka(fail_at=2, error=error), [], some(50)
    loaded = await load(events, kafka.send, batch=10, say=said.append)
    assert loaded.sent == 50
    assert sorted(kafka.taken) == sorted(records(events))
    assert len(said) == 1
    assert said[0].startswith("Kafka did not take a batch of 10 events; trying it again in 0.0 s")


async def test_kafka_that_stays_away_ends_it_and_a_second_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "FIRST_PAUSE", 0.01)
    kafka, events, checkpoint = Kafka(), some(100), tmp_path / "deep" / "c.json"

    async def send(batch: Sequence[Record]) -> None:
        if batch[0][1] == "t50":
            raise KafkaUnavailable("away")
        await kafka.send(batch)

    with pytest.raises(LoadFailed, match="Run the same command again"):
        await load(events, send, batch=10, checkpoint=checkpoint, dump="d", patience=0.1)
    assert json.loads(checkpoint.read_text()) == {"dump": "d", "events": 50}
    assert (await load(events, kafka.send, batch=10, checkpoint=checkpoint, dump="d")).skipped == 50
    assert set(kafka.taken) == set(records(events))


@pytest.mark.parametrize("seed", range(12))
async def test_interrupted_anywhere_each_event_is_sent_at_least_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    events, checkpoint, said = some(997), tmp_path / "c.json", []
    first, second = Kafka(fail_at=chance.randint(1, 30)), Kafka()
    with pytest.raises(RuntimeError):
        await load(events, first.send, batch=chance.randint(10, 33), checkpoint=checkpoint, dump="d")
    remembered = json.loads(checkpoint.read_text())["events"]
    assert set(records(events[:remembered])) <= set(first.taken)
    loaded = await load(events, second.send, batch=50, checkpoint=checkpoint, dump="d", say=said.append)
    assert (loaded.skipped, loaded.sent) == (remembered, 997 - remembered)
    assert set(first.taken) | set(second.taken) == set(records(events))
    assert len(said) == (remembered > 0)
    assert not checkpoint.exists()
    third = Kafka()
    assert (await load(events, third.send, checkpoint=checkpoint, dump="d")).skipped == 0
    assert len(third.taken) == 997


async def test_an_error_of_the_reader_keeps_what_kafka_has(tmp_path: Path) -> None:
    def broken() -> Iterator[Event]:
        yield from some(35)
        raise ValueError("the file is broken here")

    kafka, checkpoint = Kafka(), tmp_path / "c.json"
    with pytest.raises(ValueError, match="broken here"):
        await load(broken(), kafka.send, batch=10, in_flight=1, checkpoint=checkpoint, dump="d")
    assert json.loads(checkpoint.read_text())["events"] in (10, 20, 30)


async def test_cancelling_leaves_a_valid_checkpoint_and_waits_for_no_reader(tmp_path: Path) -> None:
    stuck = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless() -> Iterator[Event]:
        yield from some(40)
        loop.call_soon_threadsafe(stuck.set)
        time.sleep(1)

    kafka, checkpoint = Kafka(), tmp_path / "c.json"
    task = asyncio.create_task(load(endless(), kafka.send, batch=10, in_flight=2, checkpoint=checkpoint, dump="d"))
    await stuck.wait()
    await asyncio.sleep(0.05)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 0.5
    assert json.loads(checkpoint.read_text()) == {"dump": "d", "events": 40}


async def test_interrupted_while_skipping_nothing_is_forgotten(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.json"
    checkpoint.write_text('{"dump": "d", "events": 30}')

    def broken() -> Iterator[Event]:
        yield from some(5)
        raise ValueError

    with pytest.raises(ValueError):
        await load(broken(), Kafka().send, checkpoint=checkpoint, dump="d")
    assert json.loads(checkpoint.read_text())["events"] == 30


@pytest.mark.parametrize("content", ["", "{", "[]", '{"dump": "d"}', '{"dump": "d", "events": "x"}', '{"events": 3}'])
async def test_a_checkpoint_that_says_nothing_starts_at_the_beginning(tmp_path: Path, content: str) -> None:
    checkpoint = tmp_path / "c.json"
    checkpoint.write_text(content)
    loaded = await load(some(5), Kafka().send, checkpoint=checkpoint, dump="d")
    assert (loaded.sent, loaded.skipped) == (5, 0)


async def test_another_dump_starts_at_the_beginning(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.json"
    checkpoint.write_text('{"dump": "another", "events": 3}')
    assert (await load(some(5), Kafka().send, checkpoint=checkpoint, dump="d")).skipped == 0


def test_a_fingerprint_changes_with_files_and_options(tmp_path: Path) -> None:
    file = tmp_path / "Posts.xml"
    file.write_text("a")
    seen = {fingerprint([file], space="a"), fingerprint([file], space="b"), fingerprint([file], space="a", kafka="x")}
    assert fingerprint([file], space="a") in seen
    file.write_text("ab")
    seen.add(fingerprint([file], space="a"))
    assert len(seen) == 4


def test_checkpoints_of_two_imports_are_two_files(tmp_path: Path) -> None:
    names = [checkpoint_file(tmp_path, name) for name in ("beer", "../../beer", "beer/", "ä" * 500)]
    assert len(set(names)) == 4
    assert {name.parent for name in names} == {tmp_path / "imports"}
