"""When is everything worked off: what remains, and the patience with which it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.history import NotSettled, settled, wait_until_settled
from deploy.history.settled import Remaining, remaining, streams_of
from shared.contracts.catalogue import SERVICES, STREAMS

Looks = list[dict[str, Remaining] | Exception]


def database(offsets: dict[Any, int], outbox: int = 0, changed: int = 0) -> Any:
    return settled._Database(offsets, outbox, changed)


def test_a_service_reads_no_stream_that_the_catalogue_keeps_from_it() -> None:
    for service in SERVICES:
        assert streams_of(service) <= {stream.name for stream in STREAMS if service in stream.read_by}
    assert {"forum.events", "members.events"} <= streams_of("topics")


@pytest.mark.parametrize(
    ("offsets", "log", "left"),
    [
        ({}, {}, 0),
        ({}, {("forum.events", 0): (0, 0)}, 0),
        ({}, {("forum.events", 0): (0, 7)}, 7),  # no row yet
        ({("forum.events", 0): 7}, {("forum.events", 0): (0, 7)}, 0),
        ({("forum.events", 0): 6}, {("forum.events", 0): (0, 7)}, 1),
        ({("forum.events", 0): 8}, {("forum.events", 0): (0, 7)}, 0),
        ({("forum.events", 0): 2}, {("forum.events", 0): (5, 7)}, 2),
        ({}, {("forum.events", 0): (7, 7)}, 0),  # retention has emptied it
        ({("forum.events", 0): 7}, {("forum.events", 0): (0, 7), ("forum.events", 1): (0, 3)}, 3),
        ({}, {("members.contacts", 0): (0, 7), ("another.stream", 0): (0, 7)}, 0),  # not for this service
    ],
)
def test_what_topics_has_still_to_read(offsets: Any, log: Any, left: int) -> None:
    assert int(remaining("topics", database(offsets), log)) == left


def test_queues_and_outboxes_count() -> None:
    found = remaining("topics", database({}, outbox=2, changed=1003), {("forum.events", 4): (0, 5)})
    assert int(found) == 1010
    assert str(found) == "5 records to read, 1,003 to fold, 2 events to publish"


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Looks], list[int]]:
    """What the looks will find, one after another, the last for ever; returns what progress hears."""
    monkeypatch.setattr(settled, "PAUSE", 0.001)

    def prepare(looks: Looks) -> list[int]:
        async def once(self: Any) -> tuple[dict[str, Remaining], dict[str, str]]:
            found = looks.pop(0) if len(looks) > 1 else looks[0]
            if isinstance(found, Exception):
                raise found
            return found, {"notifier": "its schema does not exist"}

        monkeypatch.setattr(settled._Look, "__call__", once)
        return []

    return prepare


BUSY, QUIET = {"topics": Remaining(3, 1, 1)}, {"topics": Remaining()}


async def test_it_is_settled_when_that_was_seen_twice_in_turn(look: Callable[[Looks], list[int]]) -> None:
    told = look([BUSY, QUIET, BUSY, QUIET, QUIET, BUSY])
    found = await wait_until_settled("kafka:9092", {}, told.append)
    assert told == [5, 0, 5, 0, 0]
    assert found.services == ("topics",)
    assert found.skipped == {"notifier": "its schema does not exist"}


async def test_what_is_away_for_a_moment_is_waited_for(look: Callable[[Looks], list[int]]) -> None:
    told = look([QUIET, OSError("away"), QUIET, QUIET])
    await wait_until_settled("kafka:9092", {}, told.append)
    assert told == [0, 0, 0]


async def test_what_stays_away_is_said(look: Callable[[Looks], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "PATIENCE", 0.02)
    look([OSError("no route")])
    with pytest.raises(NotSettled, match="away: OSError: no route"):
        await wait_until_settled("kafka:9092", {})


async def test_a_timeout_says_what_remains(look: Callable[[Looks], list[int]]) -> None:
    look([BUSY])
    with pytest.raises(NotSettled, match=r"topics: 3 records to read, 1 to fold, 1 events to publish"):
        await wait_until_settled("kafka:9092", {}, timeout=0.02)
