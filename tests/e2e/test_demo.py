"""`stars up --demo`: a forum with years of history, which goes on living, and is invented once."""

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo.living import history
from deploy.demo.world import World
from tests.e2e.site import Json, Program, eventually
from tests.oracle.figures import mismatches
from tests.oracle.forum import Forum

SETTINGS = {"STARS_RATE_LIMIT": "0", "NO_COLOR": "1"}


def _up(folder: Path, *more: str) -> Program:
    arguments = ["up", "--demo", "--data", str(folder / "data"), "--port", "0", *more]
    return Program.start(arguments, folder / "log", SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[Json]:
    """What the first start showed when it said ready, and a moment of its life; then it was killed."""
    program = _up(folder)
    found: Json = {"story": json.loads((folder / "data" / "demo.json").read_text())}
    try:
        with httpx.Client(base_url=program.url, timeout=30) as client:
            found["sla"] = _sla(client, found["story"]["began"])
            found["queue"] = client.get("/topics/api/topics", params={"limit": 100}).json()["items"]
            began = datetime.fromisoformat(found["story"]["began"])
            found["live"] = eventually(lambda: _newest(client), lambda at: at > began + timedelta(seconds=1), 180)
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
    finally:
        program.stop()
    return found


def _sla(client: httpx.Client, instant: str) -> Json:
    answer = client.get("/topics/api/sla", params=_half_a_year(instant))
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def _half_a_year(until: str) -> dict[str, str]:
    since = datetime.fromisoformat(until) - timedelta(weeks=26)
    return {"from": since.isoformat(), "to": until, "as_of": until, "every": "month"}


def _newest(client: httpx.Client) -> datetime:
    """When the question was asked that has most time left."""
    items: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/topics/api/topics", params={"state": "waiting", "limit": "100", **cursor}).json()
        items += page["items"]
        if page["next"] is None:
            return max(datetime.fromisoformat(item["created_at"]) for item in items)
        cursor = {"cursor": page["next"]}


@pytest.mark.timeout(600)
def test_ready_means_that_the_whole_history_can_be_read_as_an_oracle_has_it(first: Json) -> None:
    began = datetime.fromisoformat(first["story"]["began"])
    world = World(first["story"]["seed"], began)
    # Deletions and corrections count as known now, and "now" was a few seconds after the beginning.
    until = datetime.fromisoformat(first["story"]["until"])
    happened = takewhile(lambda one: one.at <= until, world.happenings())
    forum = Forum(event.model_dump(mode="json", exclude_unset=True) for event in history(happened, until))
    asked = _half_a_year(first["story"]["began"])
    assert mismatches(forum.report(from_=asked.pop("from"), **asked), first["sla"]) == []
    assert first["sla"]["topics"] > 4000
    states = {item["state"] for item in first["queue"]}
    assert states <= {"waiting", "breached"}
    assert "breached" in states


def test_it_lives_on_while_it_runs(first: Json) -> None:
    assert first["live"] > datetime.fromisoformat(first["story"]["began"])


@pytest.mark.timeout(600)
def test_after_a_kill_a_second_start_invents_nothing_twice_and_goes_on(folder: Path, first: Json) -> None:
    file = folder / "data" / "demo.json"
    before = json.loads(file.read_text())
    # As if less than that were known to be in Kafka: what is sent again is the same, and counts once.
    since = datetime.fromisoformat(before["until"]) - timedelta(hours=30)
    file.write_text(json.dumps({**before, "until": since.isoformat()}))
    program = _up(folder)
    try:
        after = json.loads(file.read_text())
        assert after["began"] == before["began"] == first["story"]["began"]
        assert after["until"] > before["until"]
        with httpx.Client(base_url=program.url, timeout=30) as client:
            found = _sla(client, first["story"]["began"])
            names = ("topics", "answered", "met", "pending")
            assert {name: found[name] for name in names} == {name: first["sla"][name] for name in names}
            began = datetime.now(UTC)
            eventually(lambda: _newest(client), lambda at: at > began, 240)
    finally:
        code = program.stop()
    assert code == 0
    said = (folder / "log").read_text()
    count = int(said.partition("the demo's forum: ")[2].partition(" events")[0].replace(",", ""))
    assert 50 < count < 2000, "only what happened since"


def test_another_seed_wants_another_folder(folder: Path, first: Json) -> None:
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="another one needs another --data"):
        _up(folder, "--demo-seed", "2")
    assert time.monotonic() - begun < 120
