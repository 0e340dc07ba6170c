"""Claims: one a topic, three a Star, and an end to each."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.e2e.site import Json, Site, ago, asked, event, eventually, fresh, instant, of, problem, replied


def _questions(site: Site, count: int, **more: str) -> list[str]:
    ids = [fresh("topic") for _ in range(count)]
    site.publish(*(asked(topic, ago(hours=1), **more) for topic in ids))
    for topic in ids:
        site.topic_when(topic)
    return ids


def test_a_claim_is_for_four_hours_and_known_to_all(site: Site) -> None:
    (topic,), member = _questions(site, 1), fresh("star")
    star = site.bearer("star", member=member)
    answer = site.claim(topic, star)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == {"topic_id", "member_id", "until"}
    assert (body["topic_id"], body["member_id"]) == (topic, member)
    assert abs(instant(body["until"]) - datetime.now(UTC) - timedelta(hours=4)) < timedelta(seconds=30)
    assert site.topic(topic)["claim"] == {"member_id": member, "until": body["until"]}
    assert site.claim(topic, star).json() == body, "the same Star again gets the claim that stands"

    other = site.bearer("star", member=fresh("star"))
    found = problem(site.claim(topic, other), 409, "claimed")
    assert (found["member_id"], found["topic_id"]) == (member, topic)
    assert datetime.fromisoformat(found["until"]) == instant(body["until"])
    found = problem(site.release(topic, other), 409, "claimed")
    assert found["member_id"] == member

    assert site.release(topic, star).json() == body
    assert site.topic(topic)["claim"] is None
    problem(site.release(topic, star), 409, "not-claimed")
    assert site.claim(topic, other).status_code == 200
    told = [(entry["what"], entry.get("detail")) for entry in site.topic(topic)["timeline"]]
    assert told == [("asked", None), ("claimed", None), ("released", "released"), ("claimed", None)]


def test_a_star_has_three_at_most(site: Site) -> None:
    ids, star = _questions(site, 4), site.bearer("star", member=fresh("star"))
    assert [site.claim(topic, star).status_code for topic in ids[:3]] == [200] * 3
    problem(site.claim(ids[3], star), 409, "claim-limit")
    assert site.release(ids[0], star).status_code == 200
    assert site.claim(ids[3], star).status_code == 200


async def test_three_at_most_hold_when_all_are_claimed_at_once(site: Site) -> None:
    ids, star = _questions(site, 12), site.bearer("star", member=fresh("star"))
    async with httpx.AsyncClient(base_url=site.url, timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post(f"/topics/api/topics/{topic}/claim", headers=star) for topic in ids)
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [409] * 9


async def test_of_twenty_who_claim_at_once_exactly_one_wins(site: Site) -> None:
    (topic,), members = _questions(site, 1), [fresh("star") for _ in range(20)]
    async with httpx.AsyncClient(base_url=site.url, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.post(f"/topics/api/topics/{topic}/claim", headers=site.bearer("star", member=member))
                for member in members
            )
        )
    (winner,) = [member for member, answer in zip(members, answers, strict=True) if answer.status_code == 200]
    losers = [answer for answer in answers if answer.status_code != 200]
    assert len(losers) == 19
    assert {problem(answer, 409, "claimed")["member_id"] for answer in losers} == {winner}
    assert site.topic(topic)["claim"]["member_id"] == winner


def test_nobody_claims_a_question_of_ones_own(site: Site) -> None:
    member = fresh("star")
    (topic,) = _questions(site, 1, author_id=member)
    problem(site.claim(topic, site.bearer("star", member=member)), 409, "own-topic")
    # Nor one that another's question, merged in, has made one's own.
    (survivor,) = _questions(site, 1)
    site.publish(of("topic-merged", topic, into_topic_id=survivor))
    site.topic_when(topic, lambda found: found["topic_id"] == survivor)
    problem(site.claim(survivor, site.bearer("star", member=member)), 409, "own-topic")


@pytest.mark.parametrize(
    ("ends", "why"),
    [
        (lambda topic: replied(topic, fresh("r")), "answered"),
        (lambda topic: of("topic-closed", topic), "closed"),
        (lambda topic: of("topic-deleted", topic), "deleted"),
        (lambda topic: of("topic-edited", topic, kind="discussion"), "no-question"),
    ],
    ids=["first response", "close", "delete", "no question any more"],
)
def test_a_claim_ends_with(site: Site, ends: Callable[[str], Json], why: str) -> None:
    ids, member = _questions(site, 3), fresh("star")
    star = site.bearer("star", member=member)
    for topic in ids:
        assert site.claim(topic, star).status_code == 200
    site.publish(ends(ids[0]))
    found = site.topic_when(ids[0], lambda topic: topic["claim"] is None)
    assert ("released", why) in [(entry["what"], entry.get("detail")) for entry in found["timeline"]]
    problem(site.claim(ids[0], star), 409, "not-waiting")
    # It no longer counts for the three.
    (more,) = _questions(site, 1)
    assert site.claim(more, star).status_code == 200


def test_a_claim_ends_with_a_merge(site: Site) -> None:
    gone, survivor = _questions(site, 2)
    star = site.bearer("star", member=fresh("star"))
    assert site.claim(gone, star).status_code == 200
    site.publish(of("topic-merged", gone, into_topic_id=survivor))
    site.topic_when(gone, lambda found: found["topic_id"] == survivor)
    eventually(lambda: site.ask("topics", star, mine="true")["items"], lambda items: items == [])
    assert site.topic(survivor)["claim"] is None
    # By the old id the survivor is claimed, and released.
    assert site.claim(gone, star).json()["topic_id"] == survivor
    assert site.release(gone, star).json()["topic_id"] == survivor


def test_the_claims_of_a_merged_account_are_the_survivors(site: Site) -> None:
    ids, member, survivor = _questions(site, 4), fresh("star"), fresh("survivor")
    for topic in ids[:3]:
        assert site.claim(topic, site.bearer("star", member=member)).status_code == 200
    merged, marker = {"member_id": member, "status": "merged", "into_member_id": survivor}, fresh("topic")
    site.publish(event("member-merged", merged), asked(marker, ago(hours=1), author_id=member))
    site.topic_when(marker, lambda found: found["author_id"] == survivor)
    for account in (member, survivor):
        star = site.bearer("star", member=account)
        assert {item["topic_id"] for item in site.ask("topics", star, mine="true")["items"]} == set(ids[:3])
        assert site.claim(ids[0], star).json()["member_id"] == survivor
        problem(site.claim(ids[3], star), 409, "claim-limit")
    assert site.release(ids[0], site.bearer("star", member=member)).status_code == 200
    assert site.release(ids[1], site.bearer("star", member=survivor)).status_code == 200


def test_only_stars_claim_and_only_what_is_there(site: Site) -> None:
    (topic,) = _questions(site, 1)
    for call in (site.claim, site.release):
        problem(call(topic, {}), 401)
        problem(call(topic, site.bearer("member", member=fresh("m"))), 403)
        problem(call(topic, site.forum), 403)
        problem(call(topic, site.bearer("star")), 403)
        problem(call(fresh("unknown"), site.bearer("star", member=fresh("s"))), 404)
    chat, answered = fresh("topic"), fresh("topic")
    site.publish(asked(chat, kind="discussion"), asked(answered, ago(hours=1)), replied(answered, fresh("r")))
    site.topic_when(chat)
    site.topic_when(answered, lambda found: found["state"] == "answered")
    for topic in (chat, answered):
        problem(site.claim(topic, site.bearer("star", member=fresh("s"))), 409, "not-waiting")


def test_staff_release_a_claim_that_is_stuck(site: Site) -> None:
    (topic,) = _questions(site, 1)
    assert site.claim(topic, site.bearer("star", member=fresh("s"))).status_code == 200
    assert site.release(topic, site.staff).status_code == 200
    assert site.topic(topic)["claim"] is None
