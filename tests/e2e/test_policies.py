"""Policies: promises with a beginning, that change nothing of the past."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.site import Site, ago, asked, fresh, instant, problem

HOUR = 3600


def _policy(scope: str, seconds: int = HOUR, **more: Any) -> dict[str, Any]:
    return {"scope": scope, "target_seconds": seconds, "objective": 0.8, **more}


def _versions(site: Site, scope: str) -> list[dict[str, Any]]:
    return [version for version in site.ask("policies")["items"] if version["scope"] == scope]


def test_the_first_promise_has_no_beginning(site: Site) -> None:
    body = site.ask("policies")
    assert body["next"] is None
    expected = {"scope": "all", "target_seconds": 48 * HOUR, "objective": 0.9, "from": None, "in_force": True}
    assert expected in body["items"]


def test_versions_are_listed_with_their_dates_and_the_one_in_force(site: Site) -> None:
    scope = f"space:{fresh('space')}"
    later = datetime.now(UTC) + timedelta(days=9)
    answers = [
        site.put_policy(_policy(scope, 1 * HOUR)),
        site.put_policy(_policy(scope, 2 * HOUR, **{"from": None})),
        site.put_policy(_policy(scope, 3 * HOUR, **{"from": later.isoformat()})),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[2].json() == {
        "scope": scope,
        "target_seconds": 3 * HOUR,
        "objective": 0.8,
        "from": answers[2].json()["from"],
        "in_force": None,
    }
    found = _versions(site, scope)
    assert [version["target_seconds"] for version in found] == [HOUR, 2 * HOUR, 3 * HOUR]
    assert [version["in_force"] for version in found] == [False, True, False]
    assert [version["from"] for version in found] == [answer.json()["from"] for answer in answers]
    assert instant(found[2]["from"]) == later
    assert abs(instant(found[0]["from"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("since", ["1970-01-01T00:00:00Z", "2020-02-02T02:02:02+02:00", "a second ago"])
def test_a_promise_does_not_begin_in_the_past(site: Site, since: str) -> None:
    scope = f"space:{fresh('space')}"
    since = ago(seconds=1).isoformat() if since == "a second ago" else since
    problem(site.put_policy(_policy(scope, **{"from": since})), 400, "policy-in-the-past")
    assert _versions(site, scope) == []


def test_only_staff_promise(site: Site) -> None:
    scope = f"space:{fresh('space')}"
    problem(site.put_policy(_policy(scope), {}), 401)
    for role in ("member", "star", "forum"):
        problem(site.put_policy(_policy(scope), site.bearer(role, member="somebody")), 403)
    assert _versions(site, scope) == []


def test_a_topic_keeps_the_promise_of_when_it_was_asked(site: Site) -> None:
    space = fresh("space")
    before, after, boundary = fresh("before"), fresh("after"), fresh("boundary")
    site.publish(asked(before, ago(hours=2), space=space))
    assert site.topic_when(before)["state"] == "waiting"
    soon = datetime.now(UTC) + timedelta(seconds=1)
    assert site.put_policy(_policy(f"space:{space}", 60, **{"from": soon.isoformat()})).status_code == 200
    site.publish(asked(fresh("meanwhile"), space=space), asked(boundary, soon, space=space))
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.1)
    at = datetime.now(UTC)
    site.publish(asked(after, at, space=space))
    assert instant(site.topic_when(after)["due_at"]) == at + timedelta(seconds=60)
    assert instant(site.topic_when(boundary)["due_at"]) == soon + timedelta(seconds=60)
    found = site.topic_when(before)
    assert instant(found["due_at"]) == instant(found["created_at"]) + timedelta(hours=48)
    # A late event about the time before is judged by the promise of then.
    late = fresh("late")
    site.publish(asked(late, ago(hours=1), space=space))
    found = site.topic_when(late)
    assert instant(found["due_at"]) == instant(found["created_at"]) + timedelta(hours=48)


def test_a_topic_of_the_near_future_is_judged_anew(site: Site) -> None:
    space, topic = fresh("space"), fresh("topic")
    at = datetime.now(UTC) + timedelta(minutes=4)
    site.publish(asked(topic, at, space=space))
    site.topic_when(topic)
    assert site.put_policy(_policy(f"space:{space}", 60)).status_code == 200
    assert instant(site.topic(topic)["due_at"]) == at + timedelta(seconds=60)


def test_a_space_comes_before_a_language_and_both_before_all(site: Site) -> None:
    space, language = fresh("space"), fresh("x")[:12]
    assert site.put_policy(_policy(f"space:{space}", HOUR)).status_code == 200
    assert site.put_policy(_policy(f"language:{language}", 2 * HOUR)).status_code == 200
    time.sleep(0.01)
    cases = {
        (space, language): HOUR,
        (space, None): HOUR,
        (fresh("other"), language): 2 * HOUR,
        (fresh("other"), "en"): 48 * HOUR,
        (fresh("other"), None): 48 * HOUR,
    }
    at = datetime.now(UTC)
    topics = {case: fresh("topic") for case in cases}
    site.publish(*(asked(topics[case], at, space=case[0], language=case[1]) for case in cases))
    for case, seconds in cases.items():
        assert instant(site.topic_when(topics[case])["due_at"]) == at + timedelta(seconds=seconds), case


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": ""},
        {"scope": "everything"},
        {"scope": "space:"},
        {"scope": "space:" + "x" * 101},
        {"scope": "space:a\x00b"},
        {"scope": "language:a b"},
        {"scope": "language:" + "x" * 36},
        {"scope": "all\n"},
        {"scope": ["all"]},
        {"scope": None},
        *({"target_seconds": value} for value in (0, -1, 1.5, "60", True, None, 10**30, 316_224_001)),
        *({"objective": value} for value in (0, -0.1, 1.001, "0.9", None, [0.9], float("nan"), float("inf"))),
        *({"from": value} for value in ("2099-01-01", "2099-01-01T00:00:00", 4070908800, "soon", "", [])),
        {"surplus": 1},
    ],
    ids=repr,
)
def test_a_promise_that_is_none_is_refused(site: Site, wrong: dict[str, Any]) -> None:
    before = site.ask("policies")
    found = problem(site.put_policy(_policy(f"space:{fresh('s')}") | wrong), 400, "invalid-request")
    assert found["errors"][0]["location"].startswith(f"body.{next(iter(wrong))}")
    assert site.ask("policies") == before
