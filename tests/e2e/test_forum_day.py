"""What a forum's front end sends, and how soon everybody can see it."""

import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.e2e.site import (
    BATCH,
    ONE,
    Json,
    Site,
    ago,
    asked,
    event,
    eventually,
    fresh,
    instant,
    of,
    problem,
    replied,
)
from tests.e2e.streams import records_of

SOON = 1.0
"""Seconds within which the answer shows what was sent: at the median of a day's steps, on a busy machine."""


def _in_queue(site: Site, space: str, **parameters: str) -> list[str]:
    return [item["topic_id"] for item in site.ask("topics", space=space, **parameters)["items"]]


def test_a_day_of_a_topic_is_told_over_http_and_seen_within_a_second(site: Site) -> None:
    space, topic, first, second = fresh("space"), fresh("topic"), fresh("reply"), fresh("reply")
    start = ago(hours=5)
    took: list[float] = []

    def step(sent: Json, shown: Any) -> Json:
        began = time.monotonic()
        assert site.post(sent, ONE).json() == {"events": 1}
        found = site.topic_when(topic, shown)
        took.append(time.monotonic() - began)
        return found

    def at(minutes: float) -> datetime:
        return start + timedelta(minutes=minutes)

    def sla() -> Json:
        return {name: site.ask("sla", space=space)[name] for name in ("topics", "answered", "met", "missed", "pending")}

    found = step(asked(topic, at(0), space=space, tags=["a"], language="en", url="https://e.example/1"), bool)
    expected = {
        "topic_id": topic,
        "title": "How?",
        "url": "https://e.example/1",
        "space": space,
        "language": "en",
        "tags": ["a"],
        "kind": "question",
        "author_id": "asker",
        "state": "waiting",
        "stage": "stalled",
        "claim": None,
        "first_response": None,
        "solution": None,
        "replies": 0,
    }
    assert {name: found[name] for name in expected} == expected
    assert found.keys() == expected.keys() | {"created_at", "due_at", "timeline"}
    assert instant(found["created_at"]) == at(0)
    assert instant(found["due_at"]) == at(0) + timedelta(hours=48)
    assert _in_queue(site, space) == _in_queue(site, space, state="waiting") == [topic]
    assert sla() == {"topics": 1, "answered": 0, "met": 0, "missed": 0, "pending": 1}

    found = step(replied(topic, first, at=at(60)), lambda t: t["state"] == "answered")
    response = {"reply_id": first, "responder_id": "helper", "seconds": 3600.0, "within_target": True}
    assert response.items() <= found["first_response"].items()
    assert instant(found["first_response"]["at"]) == at(60)
    assert found["replies"] == 1
    assert _in_queue(site, space) == []
    assert _in_queue(site, space, state="answered") == [topic]
    assert sla() == {"topics": 1, "answered": 1, "met": 1, "missed": 0, "pending": 0}
    assert site.ask("sla", space=space)["p50_seconds"] == 3600.0

    found = step(replied(topic, second, "other", at(90)), lambda t: t["replies"] == 2)
    assert found["first_response"]["reply_id"] == first

    found = step(of("reply-deleted", topic, first, at(100)), lambda t: t["replies"] == 1)
    assert found["first_response"]["reply_id"] == second
    assert found["first_response"]["seconds"] == 5400.0

    found = step(of("reply-deleted", topic, second, at(101)), lambda t: t["replies"] == 0)
    assert (found["state"], found["first_response"]) == ("waiting", None)
    assert _in_queue(site, space) == [topic]

    found = step(of("reply-restored", topic, first, at(102)), lambda t: t["state"] == "answered")
    assert found["first_response"]["reply_id"] == first

    found = step(of("solution-accepted", topic, first, at(110), accepted_by="asker"), lambda t: t["solution"])
    assert found["solution"]["reply_id"] == first
    assert instant(found["solution"]["at"]) == at(110)
    found = step(of("solution-revoked", topic, first, at(111)), lambda t: t["solution"] is None)

    found = step(of("topic-edited", topic, at=at(120), title="Why?", language=None), lambda t: t["title"] == "Why?")
    assert (found["language"], found["tags"]) == (None, ["a"])

    found = step(of("topic-closed", topic, at=at(130)), lambda t: t["state"] == "closed")
    assert _in_queue(site, space, state="answered") == []
    assert sla()["topics"] == 1
    step(of("topic-reopened", topic, at=at(131)), lambda t: t["state"] == "answered")

    found = step(of("topic-deleted", topic, at=at(140)), lambda t: t["state"] == "deleted")
    assert sla()["topics"] == 0
    step(of("topic-restored", topic, at=at(141)), lambda t: t["state"] == "answered")
    assert sla()["topics"] == 1

    moved = fresh("space")
    step(of("topic-moved", topic, at=at(150), space=moved), lambda t: t["space"] == moved)
    assert sla()["topics"] == 0

    told = [entry["what"] for entry in site.topic_when(topic)["timeline"]]
    assert told[0] == "asked"
    assert {"answered", "closed", "reopened", "deleted", "restored", "accepted", "acceptance-revoked"} <= set(told)
    assert statistics.median(took) < SOON, took


def test_bots_authors_and_internal_notes_answer_nobody(site: Site) -> None:
    topic = fresh("topic")
    site.publish(
        asked(topic, ago(hours=1)),
        replied(topic, fresh("r"), "asker"),
        replied(topic, fresh("r"), "robot", author_kind="bot"),
        replied(topic, fresh("r"), "staffer", author_kind="staff", visibility="internal"),
        replied(topic, fresh("r"), "early", ago(hours=2)),
    )
    assert site.topic_when(topic, lambda t: t["replies"] == 3)["state"] == "waiting"


def test_a_batch_in_any_order_and_repeated_is_one_truth(site: Site) -> None:
    space, topics = fresh("space"), [fresh("topic") for _ in range(20)]
    events = [asked(topic, ago(hours=3), space=space) for topic in topics]
    events += [replied(topic, f"{topic}-r", at=ago(hours=2)) for topic in topics[:10]]
    site.publish(*reversed(events))
    site.publish(*events)
    eventually(lambda: site.ask("sla", space=space), lambda sla: (sla["topics"], sla["met"]) == (20, 10))
    assert sorted(_in_queue(site, space, limit="200")) == sorted(topics[10:])


def test_an_empty_batch_is_no_error(site: Site) -> None:
    site.publish()


def test_merged_topics_answer_as_the_survivor(site: Site) -> None:
    gone, stays = fresh("gone"), fresh("stays")
    site.publish(
        asked(gone, ago(hours=9), author_id="first"),
        asked(stays, ago(hours=3)),
        of("topic-merged", gone, into_topic_id=stays),
        replied(gone, fresh("r"), at=ago(hours=8)),
    )
    found = site.topic_when(gone, lambda t: t["topic_id"] == stays and t["first_response"] is not None)
    assert found["first_response"]["seconds"] == pytest.approx(3600, abs=1)
    assert site.topic(stays) == found


def test_dry_run_checks_and_publishes_nothing(site: Site) -> None:
    topic, marker = fresh("topic"), fresh("topic")
    answer = site.post([asked(topic), asked(topic)], dry_run="true")
    assert (answer.status_code, answer.json()) == (200, {"events": 2})
    assert answer.headers["content-type"] == "application/json"
    assert problem(site.post([asked(topic), {}], dry_run="true"), 400)["errors"][0]["index"] == 1
    site.publish(asked(marker))
    site.topic_when(marker)
    assert site.topic(topic) is None


def test_one_wrong_event_keeps_the_whole_batch_out(site: Site) -> None:
    good, marker = [fresh("topic") for _ in range(3)], fresh("topic")
    batch = [
        asked(good[0]),
        asked(good[1]) | {"data": {}},
        asked(good[1]),
        event("nonsense", {}),
        asked(good[2]) | {"time": "2099-01-01T00:00:00Z"},
        replied(good[0], "r") | {"surplus": 1},
    ]
    answer = site.post(batch)
    found = problem(answer, 400, "invalid-events")
    assert [error["index"] for error in found["errors"]] == [1, 3, 4, 5]
    assert all(error.keys() == {"index", "detail"} and error["detail"] for error in found["errors"])
    assert "data.author_id" in found["errors"][0]["detail"]
    site.publish(asked(marker))
    site.topic_when(marker)
    assert [site.topic(topic) for topic in good] == [None] * 3


def test_who_may_publish_and_with_what(site: Site) -> None:
    body = json.dumps(asked(fresh("topic")))

    def post(headers: dict[str, str], content: Any = body) -> httpx.Response:
        return site.client.post("/topics/api/events", content=content, headers={"Content-Type": ONE, **headers})

    answer = post({})
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    problem(post({"Authorization": "Bearer not.a.token"}), 401)
    for role in ("member", "star", "staff"):
        problem(post(site.bearer(role, member="somebody")), 403)
    for content_type in ("application/json", "text/plain", "", "multipart/form-data", "application/cloudevents"):
        problem(post({**site.forum, "Content-Type": content_type}), 415)
    problem(post(site.forum, "x" * (4 * 1024 * 1024 + 1)), 413)
    assert post({**site.forum, "Content-Type": f"{ONE}; charset=utf-8"}).status_code == 202


def test_who_asks_too_often_is_told_when_to_come_back(narrow: Site) -> None:
    own = narrow.bearer("member", member=fresh("hasty"))
    answers = [narrow.get("policies", own) for _ in range(12)]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    problem(answers[-1], 429)
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    # Others are not held up by it, the forum and staff never.
    assert narrow.get("policies", narrow.bearer("member", member=fresh("calm"))).status_code == 200
    assert {narrow.get("policies", narrow.staff).status_code for _ in range(12)} == {200}


def test_without_kafka_nothing_is_taken_and_reading_goes_on(narrow: Site) -> None:
    answer = narrow.post([asked(fresh("topic"))])
    problem(answer, 503, "kafka-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert narrow.post([asked(fresh("topic"))], dry_run="true").status_code == 200
    problem(narrow.post([{}]), 400)
    assert narrow.get("topics", narrow.staff).status_code == 200
    ready = narrow.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)


def test_there_is_no_discourse_route_without_a_secret(site: Site) -> None:
    problem(site.client.post("/topics/hooks/discourse", content="{}", headers=site.forum), 404)


async def test_a_members_address_reaches_the_contacts_stream_alone(site: Site) -> None:
    member, local = fresh("member"), fresh("box")
    address = f"{local}@mail.example"
    data = {"member_id": member, "name": "Ada", "languages": ["en"], "email": address}
    site.publish(
        event("member-registered", data),
        event("member-updated", {**data, "name": "Ada L."}, traceparent=f"00-{'1' * 32}-{'2' * 16}-01"),
        event("member-updated", {"member_id": member, "name": "Ada L.", "email": None}),
    )
    plain = {"member_id": member, "name": "No address"}
    site.publish(event("member-suspended", plain | {"status": "suspended"}))
    records = await records_of(site, "members.contacts", member, 3)
    assert [json.loads(record)["data"] for record in records] == [
        {"member_id": member, "email": address},
        {"member_id": member, "email": address},
        {"member_id": member, "email": None},
    ]
    assert {json.loads(record)["type"] for record in records} == {"contact-changed"}
    found = await records_of(site, "members.events", member, 4)
    assert [json.loads(record)["type"] for record in found] == [
        "member-registered",
        "member-updated",
        "member-updated",
        "member-suspended",
    ]
    for stream in ("members.events", "forum.events", "topics.events"):
        assert not any(local.encode() in record for record in await records_of(site, stream))


@pytest.mark.parametrize("email", ["", "ada", "a@b@c", "a b@c.example", "a@\x00", 7, ["a@b.example"], "x" * 400 + "@y"])
def test_a_wrong_address_keeps_the_member_out(site: Site, email: Any) -> None:
    found = problem(site.post(event("member-updated", {"member_id": "m", "email": email}), ONE), 400)
    assert found["errors"][0]["detail"].startswith("data.email")
    assert "@y" not in json.dumps(found)


@pytest.mark.parametrize(
    "sent",
    [
        event("contact-changed", {"member_id": "m", "email": "m@mail.example"}),
        event("member-erased", {"member_id": "m", "email": "m@mail.example"}),
        event("member-erased", {"member_id": "m", "name": "still known"}),
        event("star-appointed", {"member_id": "m"}),
        event("topic-claimed", {"topic_id": "t", "member_id": "m", "until": "2026-01-01T00:00:00Z"}),
        asked("t", email="m@mail.example"),
        event("topic-created", {"email": "m@mail.example"}),
    ],
    ids=lambda sent: sent["type"],
)
def test_the_door_takes_only_what_is_the_forums_to_say(site: Site, sent: Json) -> None:
    found = problem(site.post([sent], BATCH), 400, "invalid-events")
    assert [error["index"] for error in found["errors"]] == [0]
    assert "mail.example" not in json.dumps(found)


def test_stars_token_prints_a_token_that_holds(site: Site) -> None:
    command = [sys.executable, "-c", "from deploy.cli import main; main()", "token", "--data", str(site.data)]
    done = subprocess.run(
        [*command, "--role", "staff", "--member", "boss"], capture_output=True, text=True, check=True, timeout=30
    )
    body = {"scope": f"space:{fresh('s')}", "target_seconds": 60, "objective": 0.5}
    answer = site.put_policy(body, {"Authorization": f"Bearer {done.stdout.strip()}"})
    assert answer.status_code == 200, answer.text
    assert datetime.now(UTC) - instant(answer.json()["from"]) < timedelta(minutes=1)
