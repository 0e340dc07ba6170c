"""The leaderboard over HTTP: a forum's events become points, with a reason for each, on boards that tell of changes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.site import ROOT, Json, Site, ago, asked, event, eventually, fresh, instant, of, problem, replied
from tests.e2e.streams import records_of


class Board:
    """A space of one's own, and its board."""

    def __init__(self, site: Site) -> None:
        self.site, self.space = site, fresh("space")
        self.name = f"space:{self.space}"

    def get(self, path: str = "", headers: Any = None, **parameters: Any) -> httpx.Response:
        """GET something of the board."""
        url = f"/leaderboard/api/boards/{quote(self.name, safe='')}{path}"
        return self.site.client.get(url, params=parameters, headers=headers or {})

    def ask(self, path: str = "", **parameters: Any) -> Json:
        """The same, when the answer must be 200."""
        answer = self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    def lines(self, **parameters: Any) -> list[tuple[int, str, int, int]]:
        """The board as (rank, member, points, solutions)."""
        return [_line(one) for one in self.ask(**parameters)["entries"]]

    def until(self, *expected: tuple[int, str, int, int], **parameters: Any) -> None:
        """Wait until the board is so."""
        eventually(lambda: self.lines(**parameters), lambda found: found == list(expected))


def _line(entry: Json) -> tuple[int, str, int, int]:
    return entry["rank"], entry["member_id"], entry["points"], entry["solutions"]


def ledger(site: Site, member: str, headers: Any = None, **parameters: Any) -> httpx.Response:
    """GET a member's ledger."""
    return site.client.get(
        f"/leaderboard/api/members/{quote(member, safe='')}/ledger", headers=headers or {}, params=parameters
    )


def visibility(site: Site, member: str, headers: Any, body: Any = None) -> httpx.Response:
    """GET or PUT whether a member is seen."""
    url = f"/leaderboard/api/members/{quote(member, safe='')}/visibility"
    return site.client.get(url, headers=headers) if body is None else site.client.put(url, headers=headers, json=body)


def kudos(topic: str, reply: str, giver: str | None = None, at: datetime | None = None) -> Json:
    """kudos-given, by a new giver unless one is named."""
    data = {"topic_id": topic, "reply_id": reply, "kudos_id": fresh("k"), "giver_id": giver or fresh("giver")}
    return event("kudos-given", data, at)


@pytest.fixture
def board(site: Site) -> Board:
    return Board(site)


def test_a_day_of_help_gives_points_with_a_reason_for_each(site: Site, board: Board) -> None:
    ada, ben, topic = fresh("ada"), fresh("ben"), fresh("t")
    r = [fresh("r") for _ in range(6)]
    site.publish(
        event("member-registered", {"member_id": ada, "name": "Ada"}),
        asked(topic, ago(hours=10), space=board.space),
        *(replied(topic, r[n], ada, ago(hours=9 - n)) for n in range(4)),
        replied(topic, r[4], ben, ago(hours=2)),
        replied(topic, r[5], "asker", ago(hours=1)),
        of("solution-accepted", topic, r[0], ago(minutes=50)),
        of("solution-accepted", topic, r[4], ago(minutes=40)),
        (given := kudos(topic, r[0], ben, ago(minutes=30))),
        kudos(topic, r[0], ben, ago(minutes=20)),
        kudos(topic, r[0], ada, ago(minutes=10)),
        kudos(topic, r[5], ben, ago(minutes=5)),
    )
    board.until((1, ben, 11, 1), (2, ada, 8, 0), (3, "asker", 2, 0))
    first = board.ask()["entries"][1]
    assert (first["member_id"], first["name"]) == (ada, "Ada")
    found = ledger(site, ada).json()
    assert (found["member_id"], found["points"], found["next"]) == (ada, 8, None)
    entries = found["entries"]
    assert [one["at"] for one in entries] == sorted((one["at"] for one in entries), reverse=True)
    assert [(one["rule"], one["points"], one["status"], one["reason"]) for one in entries] == [
        ("kudos", 2, "void", "own-kudos"),
        ("kudos", 2, "superseded", "kudos-repeated"),
        ("kudos", 2, "effective", None),
        ("solution", 10, "superseded", "solution-replaced"),
        ("reply", 1, "capped", None),
        ("reply", 1, "effective", None),
        ("reply", 1, "effective", None),
        ("reply", 1, "effective", None),
        ("first-response", 3, "effective", None),
    ]
    by_rule = {(one["rule"], one["status"]): one for one in entries}
    assert by_rule["kudos", "effective"]["cause"]["kudos_id"] == given["data"]["kudos_id"]
    assert by_rule["solution", "superseded"]["cause"] == {"topic_id": topic, "reply_id": r[0], "kudos_id": None}
    assert by_rule["first-response", "effective"]["cause"]["topic_id"] == topic
    assert {one["space"] for one in entries} == {board.space}

    # Corrections: what hangs on a reply goes with it, and comes back.
    site.publish(of("reply-deleted", topic, r[0], ago(minutes=1)))
    board.until((1, ben, 11, 1), (2, ada, 6, 0), (3, "asker", 2, 0))
    site.publish(of("reply-restored", topic, r[0], ago(seconds=1)))
    board.until((1, ben, 11, 1), (2, ada, 8, 0), (3, "asker", 2, 0))


def test_pages_neighbours_and_ties(site: Site, board: Board) -> None:
    topic = fresh("t")
    site.publish(asked(topic, ago(days=5), space=board.space, kind="discussion"))
    members = [fresh(f"m{n:02}") for n in range(23)]
    events = []
    for n, member in enumerate(members):
        reply = fresh("r")
        events.append(replied(topic, reply, member, ago(hours=100 - n)))
        events += [kudos(topic, reply, at=ago(minutes=100 - n)) for _ in range((22 - n) // 4)]
    site.publish(*events)
    eventually(lambda: len(board.lines(limit=200)), lambda count: count == 23)
    eventually(lambda: board.lines(limit=200)[0][2], lambda points: points == 11)
    whole = board.lines(limit=200)
    points = [line[2] for line in whole]
    assert points == sorted(points, reverse=True)
    assert [line[0] for line in whole] == [points.index(one) + 1 for one in points]
    paged, cursor = [], None
    while True:
        page = board.ask(limit=3, **({"cursor": cursor} if cursor else {}))
        paged += [_line(one) for one in page["entries"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == whole
    for place in (0, 3, 11, 22):
        found = board.ask(f"/members/{whole[place][1]}")
        assert (found["rank"], found["members"]) == (whole[place][0], 23)
        assert [_line(one) for one in found["around"]] == whole[max(0, place - 5) : place + 6]
    problem(board.get(f"/members/{fresh('nobody')}"), 404)
    assert Board(site).lines() == []


def test_windows_are_those_of_the_boards_time_zone_on_both_days_of_daylight_saving(site: Site, board: Board) -> None:
    topic = fresh("t")
    site.publish(asked(topic, datetime(2024, 1, 1, tzinfo=UTC), space=board.space, kind="discussion"))
    # Berlin: the day of 2024-03-31 has 23 hours, that of 2024-10-27 has 25.
    hours = {
        "before": datetime(2024, 3, 30, 22, 59, 59, tzinfo=UTC),
        "spring": datetime(2024, 3, 30, 23, tzinfo=UTC),
        "spring-end": datetime(2024, 3, 31, 21, 59, 59, tzinfo=UTC),
        "after": datetime(2024, 3, 31, 22, tzinfo=UTC),
        "autumn": datetime(2024, 10, 26, 22, tzinfo=UTC),
        "autumn-end": datetime(2024, 10, 27, 22, 59, 59, tzinfo=UTC),
        "winter": datetime(2024, 10, 27, 23, tzinfo=UTC),
    }
    who = {name: fresh(name) for name in hours}
    site.publish(*(replied(topic, fresh("r"), who[name], at) for name, at in hours.items()))
    eventually(lambda: len(board.lines()), lambda count: count == 7)
    path = f"/leaderboard/api/boards/{quote(board.name, safe='')}"
    problem(site.client.put(path, json={"time_zone": "Europe/Berlin"}), 401)
    problem(site.client.put(path, json={"time_zone": "Europe/Berlin"}, headers=site.bearer("star")), 403)
    problem(site.client.put(path, json={"time_zone": "europe/berlin"}, headers=site.staff), 400)
    answer = site.client.put(path, json={"time_zone": "Europe/Berlin"}, headers=site.staff)
    assert (answer.status_code, answer.json()) == (200, {"board": board.name, "time_zone": "Europe/Berlin"})
    for day, names in {
        "2024-03-30": ["before"],
        "2024-03-31": ["spring", "spring-end"],
        "2024-04-01": ["after"],
        "2024-10-27": ["autumn", "autumn-end"],
        "2024-10-28": ["winter"],
    }.items():
        page = board.ask(window="day", at=day)
        assert page["start"] == day
        assert sorted(one["member_id"] for one in page["entries"]) == sorted(who[name] for name in names), day
    week = board.ask(window="week", at="2024-04-01")
    assert (week["start"], week["end"], len(week["entries"])) == ("2024-04-01", "2024-04-08", 1)
    assert len(board.ask(window="month", at="2024-03-05")["entries"]) == 3
    assert len(board.ask(window="quarter", at="2024-12-31")["entries"]) == 3
    year = board.ask(window="year", at="2024-02-29")
    assert (year["start"], year["end"], len(year["entries"])) == ("2024-01-01", "2025-01-01", 7)
    everything = board.ask(window="all")
    assert (everything["start"], everything["end"]) == (None, None)
    problem(board.get(window="fortnight"), 400)
    problem(board.get(window="day", at="yesterday"), 400)
    problem(board.get(window="year", at="9999-12-31"), 400)
    problem(board.get(window="season", season=fresh("none")), 404)


def test_who_opts_out_appears_nowhere_and_ranks_close_up(site: Site, board: Board) -> None:
    topic, (ada, ben, cleo) = fresh("t"), (fresh("ada"), fresh("ben"), fresh("cleo"))
    season = fresh("season")
    site.publish(asked(topic, ago(hours=9), space=board.space, kind="discussion"))
    for n, member in enumerate((ada, ben, cleo)):
        reply = fresh("r")
        site.publish(
            replied(topic, reply, member, ago(hours=5 - n)),
            *(kudos(topic, reply, at=ago(hours=1)) for _ in range(3 - n)),
        )
    board.until((1, ada, 7, 0), (2, ben, 5, 0), (3, cleo, 3, 0))
    today = datetime.now(UTC).date()
    opened = site.client.post(
        "/leaderboard/api/seasons",
        json={"season_id": season, "board": board.name, "start": str(today - timedelta(days=2)), "end": "2100-01-01"},
        headers=site.staff,
    )
    assert opened.status_code == 201, opened.text
    assert opened.json()["state"] == "open"
    board.until((1, ada, 7, 0), (2, ben, 5, 0), (3, cleo, 3, 0), window="season", season=season)

    own = site.bearer("member", member=ada)
    problem(visibility(site, ada, {}), 401)
    problem(visibility(site, ada, site.bearer("member", member=ben), {"visible": False}), 403)
    problem(visibility(site, ada, own, {"visible": "no"}), 400)
    assert visibility(site, ada, own).json() == {"member_id": ada, "visible": True}
    assert visibility(site, ada, own, {"visible": False}).json() == {"member_id": ada, "visible": False}
    for window in ("all", "day", "week", "month", "quarter", "year"):
        found = board.lines(window=window, at=str(ago(hours=1).date()) if window == "day" else str(today))
        assert ada not in [line[1] for line in found]
    assert board.lines() == [(1, ben, 5, 0), (2, cleo, 3, 0)]
    assert board.lines(window="season", season=season) == [(1, ben, 5, 0), (2, cleo, 3, 0)]
    assert board.ask(f"/members/{cleo}")["members"] == 2
    problem(board.get(f"/members/{ada}"), 404)
    problem(ledger(site, ada), 404)
    problem(ledger(site, ada, site.bearer("star", member=ben)), 404)
    assert ledger(site, ada, own).json()["points"] == 7
    assert ledger(site, ada, site.staff).json()["points"] == 7

    assert visibility(site, ada, site.staff, {"visible": True}).status_code == 200
    assert board.lines() == [(1, ada, 7, 0), (2, ben, 5, 0), (3, cleo, 3, 0)]
    closing = f"/leaderboard/api/seasons/{season}/close"
    problem(site.client.post(closing, headers=site.bearer("star")), 403)
    closed = site.client.post(closing, headers=site.staff)
    assert (closed.status_code, closed.json()["state"]) == (200, "closed")
    problem(site.client.post(closing, headers=site.staff), 409, "season-closed")
    # Frozen: later facts, opt-outs and erasures change no rank there.
    site.publish(replied(topic, fresh("r"), cleo, ago(minutes=1)), event("member-erased", {"member_id": ben}))
    visibility(site, ada, own, {"visible": False})
    board.until((1, cleo, 4, 0))
    frozen = board.ask(window="season", season=season)["entries"]
    assert [_line(one) for one in frozen] == [(1, "withdrawn", 7, 0), (2, "withdrawn", 5, 0), (3, cleo, 3, 0)]
    assert [one["name"] for one in frozen] == ["withdrawn", "withdrawn", cleo]
    place = board.ask(f"/members/{cleo}", window="season", season=season)
    assert (place["rank"], place["members"], len(place["around"])) == (3, 3, 3)
    problem(board.get(f"/members/{ben}", window="season", season=season), 404)
    problem(ledger(site, ben), 404)


async def test_a_closed_season_tells_its_first_standings_with_what_decided_ties(site: Site, board: Board) -> None:
    topic, members = fresh("t"), [fresh("m") for _ in range(3)]
    site.publish(asked(topic, ago(hours=9), space=board.space, kind="discussion"))
    site.publish(*(replied(topic, fresh("r"), member, ago(hours=5 - n)) for n, member in enumerate(members)))
    board.until(*((1, member, 1, 0) for member in members))
    season = fresh("season")
    body = {"season_id": season, "name": "Spring", "board": board.name, "start": "2020-01-01", "end": "2100-01-01"}
    problem(site.client.post("/leaderboard/api/seasons", json=body), 401)
    problem(site.client.post("/leaderboard/api/seasons", json=body | {"end": "2020-01-01"}, headers=site.staff), 400)
    assert site.client.post("/leaderboard/api/seasons", json=body, headers=site.staff).status_code == 201
    problem(site.client.post("/leaderboard/api/seasons", json=body, headers=site.staff), 409, "season-exists")
    assert season in [one["season_id"] for one in site.client.get("/leaderboard/api/seasons").json()["items"]]
    site.client.post(f"/leaderboard/api/seasons/{season}/close", headers=site.staff).raise_for_status()
    told = [json.loads(value) for value in await records_of(site, "leaderboard.seasons", season, 2)]
    assert [one["type"] for one in told] == ["season-opened", "season-closed"]
    assert [one["sequence"] for one in told] == [1, 2]
    standings = told[1]["data"]["standings"]
    assert [(one["rank"], one["member_id"], one["points"]) for one in standings] == [(1, m, 1) for m in members]
    reached = [instant(one["reached_at"]) for one in standings]
    assert reached == sorted(reached)


async def test_points_are_told_once_and_taken_back(site: Site, board: Board) -> None:
    topic, reply, member = fresh("t"), fresh("r"), fresh("m")
    site.publish(
        asked(topic, ago(hours=9), space=board.space, kind="discussion"),
        replied(topic, reply, member, ago(hours=5)),
        kudos(topic, reply, at=ago(hours=4)),
    )
    board.until((1, member, 3, 0))
    site.publish(of("topic-deleted", topic, at=ago(hours=1)))
    board.until()
    told = [json.loads(value) for value in await records_of(site, "leaderboard.events", member, 4)]
    points = [(one["type"], one["data"]["rule"], one["data"]["points"]) for one in told if "points" in one["data"]]
    assert sorted(points) == sorted(
        (kind, rule, n) for kind in ("points-awarded", "points-revoked") for rule, n in (("reply", 1), ("kudos", 2))
    )
    assert not any(one.get("backfill") for one in told)
    # A first entry makes one first of an empty board; that is news, once.
    milestones = [one["data"] for one in told if one["type"] == "milestone-reached"]
    assert sorted(one["kind"] for one in milestones if one["board"] == board.name) == ["entered-top-10", "first-place"]


async def test_history_is_no_news(site: Site, board: Board) -> None:
    topic, reply, member = fresh("t"), fresh("r"), fresh("m")
    past = [
        asked(topic, ago(days=900), space=board.space),
        replied(topic, reply, member, ago(days=899, hours=23)),
        of("solution-accepted", topic, reply, ago(days=800)),
        kudos(topic, reply, at=ago(days=800)),
    ]
    site.publish(*(one | {"backfill": True} for one in past))
    board.until((1, member, 16, 1))
    told = [json.loads(value) for value in await records_of(site, "leaderboard.events", member, 4)]
    assert {one["type"] for one in told} == {"points-awarded"}
    assert all(one["backfill"] for one in told)
    # What is news afterwards finds them where they already are.
    site.publish(kudos(topic, reply, at=ago(minutes=1)))
    board.until((1, member, 18, 1))
    told = [json.loads(value) for value in await records_of(site, "leaderboard.events", member, 5)]
    assert [one["type"] for one in told if not one.get("backfill")] == ["points-awarded"]


@contextmanager
def watching(board: Board, last: str | None = None, **parameters: Any) -> Iterator[Iterator[Json]]:
    """The messages of a board's stream."""
    url = f"/leaderboard/api/boards/{quote(board.name, safe='')}/stream"
    headers = {"Last-Event-ID": last} if last else {}
    with board.site.client.stream("GET", url, params=parameters, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")

        def messages() -> Iterator[Json]:
            message: Json = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    message[name] = json.loads(value) if name == "data" else value
                elif "data" in message:
                    yield message
                    message = {}

        yield messages()


def test_a_board_tells_of_its_changes_and_goes_on_where_it_broke_off(site: Site, board: Board) -> None:
    topic, reply, ada, ben = fresh("t"), fresh("r"), fresh("ada"), fresh("ben")
    site.publish(asked(topic, ago(hours=9), space=board.space, kind="discussion"))
    with watching(board) as messages:
        first = next(messages)
        assert (first["event"], first["data"]["board"]) == ("watching", board.name)
        site.publish(replied(topic, reply, ada, ago(hours=5)))
        changed = next(messages)
        assert changed["event"] == "changed"
        assert [_line(one) for one in changed["data"]["entries"]] == [(1, ada, 1, 0)]
    # While nobody listens, more happens; it is told on return, all in one.
    site.publish(replied(topic, fresh("r"), ben, ago(hours=4)))
    board.until((1, ada, 1, 0), (1, ben, 1, 0))
    site.publish(kudos(topic, reply, at=ago(hours=1)))
    board.until((1, ada, 3, 0), (2, ben, 1, 0))
    with watching(board, changed["id"]) as messages:
        missed = next(messages)
        assert [_line(one) for one in missed["data"]["entries"]] == [(1, ada, 3, 0), (2, ben, 1, 0)]
        site.publish(of("topic-deleted", topic, at=ago(minutes=1)))
        gone = next(messages)
        assert (gone["data"]["entries"], sorted(gone["data"]["gone"])) == ([], sorted((ada, ben)))
    with watching(board, "999999999999999") as messages:
        assert next(messages)["event"] == "reload"


def rules(site: Site, *arguments: str) -> tuple[int, str]:
    """Run `stars rules`."""
    command = [
        sys.executable,
        "-c",
        "from deploy.cli import main; main()",
        "rules",
        *arguments,
        "--data",
        str(site.data),
    ]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("STARS_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env=plain)
    return done.returncode, done.stdout + done.stderr


async def test_rules_are_previewed_and_history_is_written_again(site: Site, board: Board, tmp_path: Path) -> None:
    topic, reply, member = fresh("t"), fresh("r"), fresh("m")
    site.publish(
        asked(topic, ago(hours=9), space=board.space, kind="discussion"),
        replied(topic, reply, member, ago(hours=5)),
        kudos(topic, reply, at=ago(hours=4)),
    )
    board.until((1, member, 3, 0))
    classic = (ROOT / "services/leaderboard/rulesets/classic.v1.yaml").read_text("utf-8")
    file = tmp_path / "rules.yaml"
    file.write_text(classic.replace("version: 1", "version: 2").replace("points: 2", "points: 5"))
    status, said = rules(site, "preview", str(file))
    assert status == 0, said
    assert "entries would change" in said
    assert board.lines() == [(1, member, 3, 0)]
    status, said = rules(site, "set", str(file), "--rewrite", "--wait")
    assert status == 0, said
    assert board.lines() == [(1, member, 6, 0)]
    assert {one["points"] for one in ledger(site, member).json()["entries"]} == {1, 3, 5}
    # Nobody is told of each entry: what changed is said in one word.
    told = [json.loads(value)["type"] for value in await records_of(site, "leaderboard.events", member)]
    assert told.count("points-awarded") == 2
    assert "points-revoked" not in told
    rewritten = [json.loads(value) for value in await records_of(site, "leaderboard.events", "classic", 1)]
    assert rewritten[-1]["type"] == "rules-rewritten"
    assert rewritten[-1]["data"]["version"] == 2
    # The next facts come in by the new rules; and back again, as others count on the classic ones.
    site.publish(kudos(topic, reply, at=ago(minutes=1)))
    board.until((1, member, 11, 0))
    file.write_text(classic.replace("version: 1", "version: 3"))
    status, said = rules(site, "set", str(file), "--rewrite", "--wait")
    assert status == 0, said
    assert board.lines() == [(1, member, 5, 0)]
