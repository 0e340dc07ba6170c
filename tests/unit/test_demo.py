"""The invented forum: the same from the same seed, valid as any forum's events, with a story to be read off."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from deploy.demo import DemoFailed, titles
from deploy.demo.life import CLAIM, LONGEST, SPACES, Happening
from deploy.demo.living import Story, appointments, envelope, history
from deploy.demo.names import FIRST, LAST, PLACES, SLOTS, WHEN
from deploy.demo.people import LANGUAGES
from deploy.demo.titles import LOUNGE
from deploy.demo.world import Session, World
from shared.contracts.applications import StarAppointed
from tests.oracle.figures import micros
from tests.oracle.forum import Forum

NOW = datetime(2026, 3, 11, 14, 30, tzinfo=UTC)
WEEK = timedelta(weeks=1)


def told(world: World, until: datetime, after: datetime | None = None, *sessions: Session) -> list[Happening]:
    """What happens in a world from one instant to another, as data and all."""
    return list(takewhile(lambda one: one.at <= until, world.happenings(after, sessions)))


def content(happenings: list[Happening]) -> list[Any]:
    return [(one.at, one.name, one.type, one.data, one.waits_until) for one in happenings]


@pytest.fixture(scope="module")
def everything() -> list[Happening]:
    return told(World(1, NOW), NOW)


@pytest.fixture(scope="module")
def events(everything: list[Happening]) -> list[dict[str, Any]]:
    return [event.model_dump(mode="json", exclude_unset=True) for event in history(everything, NOW)]


@pytest.fixture(scope="module")
def forum(events: list[dict[str, Any]]) -> Forum:
    return Forum(events)


def test_the_same_seed_and_beginning_are_the_same_forum_and_another_seed_is_another(
    everything: list[Happening],
) -> None:
    assert content(told(World(1, NOW), NOW)) == content(everything)
    early = NOW - 110 * WEEK
    assert content(told(World(2, NOW), early)) != content([one for one in everything if one.at <= early])


@pytest.mark.parametrize("days", [0.05, 3, 75])
def test_what_happens_after_an_instant_is_what_the_whole_tells_after_it(
    everything: list[Happening], days: float
) -> None:
    """So a start after a stop goes on with exactly what was still to come, and nothing comes twice."""
    after = NOW - timedelta(days=days)
    whole = [one for one in everything if one.at > after]
    assert content(told(World(1, NOW), NOW, after)) == content(whole)
    assert whole


def test_time_goes_on_after_the_beginning_at_the_same_pace() -> None:
    month = told(World(1, NOW), NOW + 4 * WEEK, NOW - 4 * WEEK)
    before, after = (
        sum(one.type == "topic-created" and (one.at > NOW) is late for one in month) for late in (False, True)
    )
    assert 0.8 < after / before < 1.3


def test_a_session_adds_topics_while_it_lasts_and_they_live_on_after_it() -> None:
    world, end = World(1, NOW), NOW + timedelta(hours=2)
    session = Session(NOW, end)
    until = NOW + LONGEST
    added = [one for one in told(world, until, NOW, session) if one.name.partition("/")[2].startswith("s1-")]
    began = [one.at for one in added if one.type == "topic-created"]
    assert 40 < len(began) < 120
    assert max(began) < end < max(one.at for one in added)
    running = told(world, end, NOW, Session(NOW))
    assert content(running) == content(told(world, end, NOW, session)), "what was seen while it ran does not change"
    names = {one.name for one in added}
    organic = content([one for one in told(world, until, NOW, session) if one.name not in names])
    assert organic == content(told(world, until, NOW)), "whoever watches changes nothing else"


def test_every_event_is_one_that_the_front_door_takes_and_none_has_the_name_of_another(
    everything: list[Happening], events: list[dict[str, Any]]
) -> None:
    names = [(event["source"], event["id"]) for event in events]
    assert len(names) == len(set(names))
    members = sum(one.type == "member-registered" and "email" in one.data for one in everything)
    claims = sum(one.type == CLAIM for one in everything)
    assert claims > 500
    assert len(events) == len(everything) - claims + members, "a member's address is an event of its own"
    kinds = Counter(event["type"] for event in events)
    assert min(kinds[kind] for kind in ("topic-merged", "topic-restored", "reply-restored", "solution-revoked")) > 20
    assert kinds["topic-created"] > 9_000
    assert kinds["kudos-revoked"] > 100
    assert kinds["topic-moved"] > 200


def test_history_comes_in_order_and_nothing_before_what_it_is_about(everything: list[Happening]) -> None:
    assert [one.at for one in everything] == sorted(one.at for one in everything)
    there: set[str] = set()
    members: set[str] = set()
    for one in everything:
        data = one.data
        if one.type == "member-registered":
            members.add(data["member_id"])
            continue
        if one.type == "topic-created":
            there.add(data["topic_id"])
        elif one.type == "reply-posted":
            there.add(data["reply_id"])
        for field in ("topic_id", "reply_id", "into_topic_id"):
            assert data.get(field) is None or data[field] in there, one
        for field in ("author_id", "giver_id", "accepted_by", "member_id"):
            assert data.get(field) is None or data[field] in members, one


def _asked(forum: Forum, begin: datetime, end: datetime, space: str | None = None) -> tuple[int, float, float]:
    """Of the questions asked in a time: how many, the share answered in time, the median hours of the answered."""
    first, beyond, target = micros(begin.isoformat()), micros(end.isoformat()), micros("1970-01-03T00:00:00Z")
    asked = [
        topic
        for topic in forum.topics.values()
        if topic.counts and first <= topic.created_at < beyond and space in (None, topic.space)
    ]
    took = [topic.first_response.took for topic in asked if topic.first_response]
    missed = [
        topic for topic in asked if not topic.first_response and topic.created_at + target < micros(NOW.isoformat())
    ]
    met = sum(one <= target for one in took)
    return len(asked), met / (len(took) + len(missed)), median(took) / 3_600_000_000


def test_the_story_can_be_read_off_the_figures(forum: Forum) -> None:
    """Up 300% in two years, and from about 70% to about 91% answered in time."""
    two_years = timedelta(weeks=104)
    for weeks in (4, 13, 26):
        now, then = (_asked(forum, NOW - weeks * WEEK - ago, NOW - ago) for ago in (timedelta(), two_years))
        assert 3.4 < now[0] / then[0] < 4.8, weeks
    quarter = 13 * WEEK
    now, then = (_asked(forum, NOW - quarter - ago, NOW - ago) for ago in (timedelta(), two_years))
    assert 0.88 < now[1] < 0.94
    assert 0.66 < then[1] < 0.76
    assert now[2] < then[2] / 1.3
    spaces = {space: _asked(forum, NOW - quarter, NOW, space)[1] for space in SPACES if space != LOUNGE}
    assert min(spaces, key=lambda space: spaces[space]) == "Accounts & Billing"
    assert max(spaces.values()) - min(spaces.values()) > 0.04


def test_right_now_questions_wait_with_different_times_left_and_some_too_long(
    everything: list[Happening], events: list[dict[str, Any]]
) -> None:
    waiting = [
        one for one in everything if one.type == "topic-created" and (one.waits_until is None or one.waits_until > NOW)
    ]
    fresh = [one for one in waiting if NOW - one.at <= timedelta(hours=48)]
    assert 8 <= len(fresh) <= 80
    ages = [(NOW - one.at) / timedelta(hours=1) for one in fresh]
    assert min(ages) < 8
    assert max(ages) > 20
    assert 20 <= len(waiting) - len(fresh) <= 200
    assert max(NOW - one.at for one in waiting) < timedelta(days=31), "nothing waits for ever: it is closed"
    # They are news, everything else is history: the clock goes on for them, and for nothing of old.
    news = {event["data"]["topic_id"] for event in events if not event.get("backfill")}
    assert news == {one.data["topic_id"] for one in fresh}


def test_waiting_is_what_the_meaning_of_a_first_response_makes_it(everything: list[Happening], forum: Forum) -> None:
    """The demo knows by itself when a question is answered; the oracle finds the same from the events alone."""
    odd = {
        one.data[field]
        for one in everything
        for field in ("topic_id", "into_topic_id")
        if field in one.data and one.type in ("topic-merged", "reply-deleted", "topic-edited", "topic-deleted")
    }
    compared = 0
    for one in everything:
        if one.type != "topic-created" or one.data["kind"] != "question" or one.data["topic_id"] in odd:
            continue
        first = forum.topics[one.data["topic_id"]].first_response
        if one.waits_until is not None and one.waits_until <= NOW and first is not None:
            assert first.at == micros(one.waits_until.isoformat()), one
            compared += 1
        elif first is not None:
            pytest.fail(f"answered, and the demo does not know: {one}")
    assert compared > 7000


def test_helpers_are_few_and_heavy_tailed_stars_lead_and_gamers_applaud_each_other(everything: list[Happening]) -> None:
    cast = World(1, NOW).cast
    replies = Counter(one.data["author_id"] for one in everything if one.type == "reply-posted")
    humans = [count for member, count in replies.most_common() if not member.startswith("bot-")]
    assert sum(humans[:40]) > 0.35 * sum(humans)
    assert len(humans) > 1000
    assert 50 <= len(cast.stars_at(NOW)) <= 60
    assert not cast.stars_at(NOW - timedelta(weeks=104))
    ring = {member.id for member in cast.gamers}
    author = {one.data["reply_id"]: one.data["author_id"] for one in everything if one.type == "reply-posted"}
    given = [
        one.data
        for one in everything
        if one.type == "kudos-given" and one.data.get("giver_id") in ring and "reply_id" in one.data
    ]
    assert len(given) > 100
    assert all(author[kudos["reply_id"]] in ring for kudos in given)
    names = [helper.member.name for helper in cast.helpers[:60]]
    assert len(set(names)) == len(names)


def test_the_same_people_become_stars_as_the_events_say() -> None:
    cast = World(1, NOW).cast
    records = appointments(cast.appointments())
    assert {stream for stream, _, _ in records} == {"applications.events"}
    appointed = [StarAppointed.model_validate_json(value) for _, _, value in records if b"star-appointed" in value]
    assert len(appointed) == 60
    assert all(event.backfill and event.time < NOW for event in appointed)
    assert {key for _, key, _ in records} == {helper.member.id for helper in cast.helpers[:60]}


def test_every_subject_has_words_in_every_language_and_every_slot_is_filled() -> None:
    assert set(titles.subjects()) == set(SPACES)
    for language in LANGUAGES:
        assert FIRST[language]
        assert LAST[language]
        assert PLACES[language]
        assert WHEN[language]
    rng = Random("titles")
    for space, subjects in titles.subjects().items():
        for subject in subjects:
            assert set(subject.phrases) == set(LANGUAGES), (space, subject.tags)
            for phrases in subject.phrases.values():
                assert set(re.findall(r"\{(\w+)\}", " ".join(phrases))) <= set(SLOTS)
        for language in LANGUAGES:
            for _ in range(200):
                title, tags = titles.invent(rng, space, language)
                assert 5 < len(title) < 120
                assert not set("{}~") & set(title)
                assert len(tags) == len(set(tags))


def test_the_demo_has_no_space_and_no_address_that_could_be_a_real_ones(events: list[dict[str, Any]]) -> None:
    assert {event["data"]["space"] for event in events if event["type"] == "topic-created"} == set(SPACES)
    addresses = [event["data"]["email"] for event in events if event["type"] == "contact-changed"]
    assert len(addresses) == len(set(addresses)) > 3000
    assert all(re.fullmatch(r"[a-z0-9.-]+@example\.org", address) for address in addresses)


def test_how_far_it_has_come_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    assert Story.read(file) is None
    story = Story(7, NOW, "cluster")
    story.write(file)
    assert Story.read(file) == story
    story.until, story.sessions = NOW + WEEK, [Session(NOW, NOW + timedelta(hours=1)), Session(NOW + timedelta(days=2))]
    story.write(file)
    found = Story.read(file)
    assert found is not None
    # One that was killed ended where the story did.
    assert found.sessions == [story.sessions[0], Session(NOW + timedelta(days=2), NOW + WEEK)]
    assert (found.seed, found.began, found.until) == (7, NOW, NOW + WEEK)
    assert list(tmp_path.iterdir()) == [file]
    file.write_text('{"seed": 7')
    with pytest.raises(DemoFailed, match="cannot be read"):
        Story.read(file)


def test_an_envelope_is_marked_as_history_only_where_it_is(everything: list[Happening]) -> None:
    assert envelope(everything[0], backfill=True)["backfill"] is True
    assert "backfill" not in envelope(everything[0], backfill=False)


def test_every_happening_can_be_told_in_json(everything: list[Happening]) -> None:
    found = {one.type: json.loads(json.dumps(envelope(one, backfill=False))) for one in everything}
    assert {"topic-created", "reply-posted", "member-registered"} <= found.keys()
