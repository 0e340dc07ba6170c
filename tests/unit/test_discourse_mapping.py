"""From Discourse's deliveries to events, and the file that says what its categories are."""

import contextlib
import copy
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.topics.discourse.categories import Categories, MappingError
from services.topics.discourse.mapping import Instance, Mapped, Unreadable, events_of
from services.topics.ingestion import check

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOST = "forum.example.com"
URL = f"https://{HOST}"
CATEGORIES = Categories.parse(
    {"97": {"space": "english", "language": "en"}, "7": {"space": "lounge", "kind": "discussion"}}
)

TOPIC: dict[str, Any] = {
    "id": 31739,
    "title": "No updates since Monday?",
    "tags": ["nvidia", "silverblue"],
    "category_id": 97,
    "archetype": "regular",
    "closed": False,
    "archived": False,
    "visible": True,
    "created_at": "2026-11-22T08:39:01.337Z",
    "created_by": {"id": 10766, "username": "awarda"},
    "deleted_at": None,
    "user_id": 10766,
    "highest_post_number": 1,
    "posts_count": 1,
    "last_posted_at": "2026-11-22T08:39:01.466Z",
}
POST: dict[str, Any] = {
    "id": 79563,
    "post_number": 3,
    "post_type": 1,
    "topic_id": 31739,
    "topic_archetype": "regular",
    "category_id": 97,
    "user_id": 2401,
    "admin": False,
    "moderator": False,
    "staff": False,
    "hidden": False,
    "user_deleted": False,
    "deleted_at": None,
    "created_at": "2026-11-22T09:00:00.000Z",
    "updated_at": "2026-11-22T09:30:00.000Z",
    "version": 2,
}
USER: dict[str, Any] = {
    "id": 2401,
    "username": "darknao",
    "name": "A Full Name",
    "email": "d@example.com",
    "locale": "pt_BR",
    "created_at": "2026-11-20T10:00:00Z",
    "suspended_till": None,
    "user_option": {"timezone": "Europe/Paris"},
}
ROOT = {"accepted_solution": "solved", "unaccepted_solution": "solved", "post_liked": "like"}


def root_of(name: str) -> str:
    return ROOT.get(name, name.partition("_")[0])


def deliver(name: str, about: dict[str, Any], at: datetime = NOW, **headers: str) -> Mapped:
    root = root_of(name)
    mapped = events_of(name, headers.get("type", root), headers.get("instance", URL), {root: about}, at, CATEGORIES)
    assert bool(mapped.envelopes) is (mapped.ignored is None)
    check(mapped.envelopes, at)
    return mapped


def only(name: str, about: dict[str, Any], at: datetime = NOW) -> dict[str, Any]:
    [envelope] = deliver(name, about, at).envelopes
    return envelope


# --- topics ---


def test_topic_created() -> None:
    envelope = only("topic_created", TOPIC)
    assert envelope["type"] == "topic-created"
    assert envelope["source"] == f"/discourse/{HOST}"
    assert envelope["id"] == f"{HOST}:t:31739:created"
    assert envelope["time"] == "2026-11-22T08:39:01.337000Z"
    assert envelope["data"] == {
        "topic_id": f"{HOST}:t:31739",
        "author_id": f"{HOST}:u:10766",
        "author_kind": "member",
        "title": "No updates since Monday?",
        "space": "english",
        "kind": "question",
        "language": "en",
        "tags": ["nvidia", "silverblue"],
        "url": f"{URL}/t/31739",
    }


def test_a_topic_of_a_bot_and_tags_as_objects() -> None:
    tags = [{"id": 4, "name": "dns", "slug": "dns"}, "dns", "", "x" * 300]
    data = only("topic_created", TOPIC | {"user_id": -2, "tags": tags})["data"]
    assert data["author_kind"] == "bot"
    assert data["tags"] == ["dns", "x" * 100]


@pytest.mark.parametrize("name", ["topic_edited", "topic_revised"])
def test_topic_edited_says_all_that_may_have_changed(name: str) -> None:
    edited, moved = deliver(name, TOPIC | {"title": "New", "category_id": 7}).envelopes
    assert edited["type"] == "topic-edited"
    assert edited["data"] == {
        "topic_id": f"{HOST}:t:31739",
        "title": "New",
        "tags": ["nvidia", "silverblue"],
        "kind": "discussion",
        "language": None,
    }
    assert moved["type"] == "topic-moved"
    assert moved["data"]["space"] == "lounge"
    assert edited["time"] == moved["time"] == "2026-11-22T10:00:00Z"


def test_topic_destroyed_trusts_the_name_and_not_deleted_at() -> None:
    assert only("topic_destroyed", TOPIC)["type"] == "topic-deleted"
    assert only("topic_destroyed", TOPIC)["time"] == "2026-11-22T10:00:00Z"
    known = only("topic_destroyed", TOPIC | {"deleted_at": "2026-11-22T09:59:00Z"})
    assert known["time"] == "2026-11-22T09:59:00Z"


def test_topic_recovered() -> None:
    assert only("topic_recovered", TOPIC)["type"] == "topic-restored"
    assert deliver("topic_recovered", TOPIC | {"visible": False}).ignored


@pytest.mark.parametrize(
    ("status", "change", "type"),
    [
        ("closed", {"closed": True}, "topic-closed"),
        ("autoclosed", {"closed": True}, "topic-closed"),
        ("closed", {"closed": False}, "topic-reopened"),
        ("archived", {"archived": True}, "topic-closed"),
        ("archived", {"closed": True}, "topic-closed"),
        ("visible", {"visible": False}, "topic-deleted"),
        ("visible", {"visible": True}, "topic-restored"),
        ("pinned", {}, None),
    ],
)
def test_status_updates(status: str, change: dict[str, Any], type: str | None) -> None:
    mapped = deliver(f"topic_{status}_status_updated", TOPIC | change)
    assert [envelope["type"] for envelope in mapped.envelopes] == ([type] if type else [])


def test_what_is_private_or_not_mapped_is_dropped() -> None:
    for change in ({"archetype": "private_message"}, {"category_id": 5}, {"category_id": None}):
        assert deliver("topic_created", TOPIC | change).ignored
        assert deliver("topic_destroyed", TOPIC | change).ignored
    for change in ({"topic_archetype": "private_message"}, {"topic_archetype": ""}, {"category_id": 5}):
        for name in ("post_created", "post_edited", "post_destroyed", "accepted_solution"):
            assert deliver(name, POST | change).ignored
        assert deliver("post_liked", {"post": POST | change, "user": {"id": 5}}).ignored


# --- posts ---


def test_post_created() -> None:
    envelope = only("post_created", POST)
    assert (envelope["type"], envelope["id"]) == ("reply-posted", f"{HOST}:p:79563:posted")
    assert envelope["time"] == "2026-11-22T09:00:00Z"
    assert envelope["subject"] == f"topic/{HOST}:t:31739"
    assert envelope["data"] == {
        "topic_id": f"{HOST}:t:31739",
        "reply_id": f"{HOST}:p:79563",
        "author_id": f"{HOST}:u:2401",
        "author_kind": "member",
        "visibility": "public",
    }


@pytest.mark.parametrize("flag", ["staff", "admin", "moderator"])
def test_staff(flag: str) -> None:
    assert only("post_created", POST | {flag: True})["data"]["author_kind"] == "staff"


def test_a_bot_stays_a_bot_though_it_is_an_admin() -> None:
    assert only("post_created", POST | {"user_id": -1, "admin": True})["data"]["author_kind"] == "bot"


def test_whispers_are_internal() -> None:
    assert only("post_created", POST | {"post_type": 4})["data"]["visibility"] == "internal"


def test_staff_colour_is_an_answer_and_the_systems_note_is_none() -> None:
    assert only("post_created", POST | {"post_type": 2})["type"] == "reply-posted"
    for change in (
        {"post_type": 2, "action_code": "split_topic"},
        {"post_type": 3},
        {"post_type": 9},
        {"user_id": None},
    ):
        assert deliver("post_created", POST | change).ignored


def test_post_1_is_no_reply() -> None:
    first = POST | {"post_number": 1}
    for name in ("post_created", "post_edited", "post_destroyed", "post_recovered", "accepted_solution"):
        assert "post 1" in str(deliver(name, first).ignored)
    assert only("post_edited", first | {"hidden": True})["type"] == "topic-deleted"


@pytest.mark.parametrize("change", [{"hidden": True}, {"user_deleted": True}, {"deleted_at": "2026-11-22T09:40:00Z"}])
def test_hidden_works_like_a_deletion_and_visible_again_like_a_restoration(change: dict[str, Any]) -> None:
    gone = only("post_edited", POST | change)
    assert gone["type"] == "reply-deleted"
    assert gone["time"] == (change.get("deleted_at") or "2026-11-22T09:30:00Z")
    back = only("post_edited", POST | {"version": 3, "updated_at": "2026-11-22T09:45:00Z"})
    assert (back["type"], back["time"]) == ("reply-restored", "2026-11-22T09:45:00Z")
    assert [one["type"] for one in deliver("post_created", POST | change).envelopes] == [
        "reply-posted",
        "reply-deleted",
    ]


def test_a_late_old_edit_restores_nothing() -> None:
    """It carries its own time, and so loses to a deletion of whose receipt we know."""
    deleted = only("post_destroyed", POST)
    late = only("post_edited", POST, NOW + timedelta(hours=2))
    assert late["time"] < deleted["time"]


def test_destroyed_and_recovered() -> None:
    assert only("post_destroyed", POST)["time"] == "2026-11-22T10:00:00Z"
    assert only("post_destroyed", POST)["type"] == "reply-deleted"
    assert only("post_recovered", POST)["type"] == "reply-restored"
    assert deliver("post_recovered", POST | {"hidden": True}).ignored


# --- likes and solutions ---


def test_a_likes_identity_is_post_and_giver() -> None:
    envelope = only("post_liked", {"post": POST, "user": {"id": 1605, "username": "t"}})
    assert envelope["type"] == "kudos-given"
    assert envelope["data"] == {
        "topic_id": f"{HOST}:t:31739",
        "reply_id": f"{HOST}:p:79563",
        "kudos_id": f"{HOST}:l:79563:1605",
        "giver_id": f"{HOST}:u:1605",
    }
    on_topic = only("post_liked", {"post": POST | {"post_number": 1}, "user": {"id": 1605}})
    assert "reply_id" not in on_topic["data"]
    assert deliver("post_liked", {"post": POST, "user": {"id": -1}}).ignored


def test_solutions_have_the_receipt_time_and_no_acceptor() -> None:
    accepted, revoked = only("accepted_solution", POST), only("unaccepted_solution", POST)
    assert (accepted["type"], revoked["type"]) == ("solution-accepted", "solution-revoked")
    assert accepted["time"] == revoked["time"] == "2026-11-22T10:00:00Z"
    assert accepted["data"] == {"topic_id": f"{HOST}:t:31739", "reply_id": f"{HOST}:p:79563"}


# --- members ---


def test_members() -> None:
    registered = only("user_created", USER)
    assert registered["type"] == "member-registered"
    assert registered["time"] == "2026-11-20T10:00:00Z"
    assert registered["data"] == {
        "member_id": f"{HOST}:u:2401",
        "status": "active",
        "name": "darknao",
        "locale": "pt-BR",
        "time_zone": "Europe/Paris",
        "joined_at": "2026-11-20T10:00:00Z",
        "email": "d@example.com",
    }
    types = [event.type for event in check([registered], NOW)]
    assert types == ["member-registered", "contact-changed"]
    assert only("user_updated", USER)["type"] == "member-updated"
    assert only("user_suspended", USER)["data"]["status"] == "suspended"
    assert only("user_unsuspended", USER)["data"]["status"] == "active"
    until = USER | {"suspended_till": "2030-01-01T00:00:00Z"}
    assert only("user_updated", until)["data"]["status"] == "suspended"
    assert only("user_updated", USER | {"suspended_till": "2020-01-01T00:00:00Z"})["data"]["status"] == "active"


def test_an_erased_member_is_an_id_and_no_more() -> None:
    for name in ("user_destroyed", "user_anonymized"):
        assert only(name, USER)["data"] == {"member_id": f"{HOST}:u:2401", "status": "erased"}


def test_a_bots_account_is_no_member() -> None:
    assert deliver("user_updated", USER | {"id": -1}).ignored


def test_members_whose_details_make_no_sense_are_members_all_the_same() -> None:
    odd = USER | {"email": "none", "locale": "not a locale!", "username": "a\x00b" + "c" * 400}
    data = only("user_updated", odd)["data"]
    assert "email" not in data
    assert "locale" not in data
    assert data["name"].startswith("abc")


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("user_badge_granted", "user_badge"),
        ("group_user_added", "group_user"),
        ("group_user_removed", "group_user"),
        ("user_logged_in", "user"),
        ("notification_created", "notification"),
        ("a" * 5000, "x"),
        ("", ""),
        ("ping", "ping"),
    ],
)
def test_everything_else_is_ignored_with_a_reason(name: str, type: str) -> None:
    mapped = events_of(name, type, URL, {type: {}}, NOW, CATEGORIES)
    assert mapped.envelopes == []
    assert mapped.ignored


# --- identity, time, and what is unreadable ---


def all_deliveries() -> list[tuple[str, dict[str, Any]]]:
    return [
        *(
            (f"topic_{what}", TOPIC)
            for what in ("created", "edited", "destroyed", "recovered", "closed_status_updated")
        ),
        *((f"post_{what}", POST) for what in ("created", "edited", "destroyed", "recovered")),
        ("post_liked", {"post": POST, "user": {"id": 5}}),
        ("accepted_solution", POST),
        ("unaccepted_solution", POST),
        *((f"user_{what}", USER) for what in ("created", "updated", "suspended", "unsuspended", "destroyed")),
    ]


def test_a_retry_is_the_same_event_and_different_things_are_different_events() -> None:
    ids: list[str] = []
    for name, about in all_deliveries():
        first, retry = deliver(name, about), deliver(name, about, NOW + timedelta(hours=2))
        assert [one["id"] for one in first.envelopes] == [one["id"] for one in retry.envelopes]
        ids += [one["id"] for one in first.envelopes]
    assert len(ids) == len(set(ids))
    elsewhere = [
        one["id"]
        for name, about in all_deliveries()
        for one in deliver(name, about, instance="https://b.example").envelopes
    ]
    assert not set(ids) & set(elsewhere)


def test_another_version_is_another_event() -> None:
    assert only("post_edited", POST)["id"] != only("post_edited", POST | {"version": 3})["id"]
    assert (
        deliver("topic_edited", TOPIC).envelopes[0]["id"]
        != deliver("topic_edited", TOPIC | {"title": "B"}).envelopes[0]["id"]
    )


def test_a_clock_far_ahead_is_brought_back_to_ours() -> None:
    assert only("post_created", POST | {"created_at": "2031-01-01T00:00:00Z"})["time"] == "2026-11-22T10:00:00Z"
    assert only("post_created", POST | {"created_at": "2026-11-22T10:00:02Z"})["time"] == "2026-11-22T10:00:02Z"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://Forum.Example.com/", "forum.example.com"),
        ("http://localhost:3000", "localhost:3000"),
        ("https://example.com:443/forum", "example.com/forum"),
    ],
)
def test_instances(address: str, place: str) -> None:
    assert Instance(address).place == place


NO_INSTANCES = (
    *("", "forum", "ftp://a.example", "https://a b", "https://u:p@a.example", "https://é.example", "https://a:x"),
    *("https://a.example/?q", "javascript:alert(1)", "https://[::1", f"https://{'a' * 300}", "https://a.example/a:b"),
)


@pytest.mark.parametrize("address", NO_INSTANCES)
def test_what_is_no_instance_is_unreadable(address: str) -> None:
    with pytest.raises(Unreadable):
        deliver("topic_created", TOPIC, instance=address)


def test_the_unsigned_header_must_agree_with_the_event() -> None:
    with pytest.raises(Unreadable):
        deliver("topic_created", TOPIC, type="post")
    with pytest.raises(Unreadable):
        events_of("topic_created", "topic", URL, {"post": POST}, NOW, CATEGORIES)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.none()) | st.just({})
)


@settings(max_examples=300, deadline=None)
@given(which=st.sampled_from(all_deliveries()), data=st.data())
def test_whatever_a_field_holds_it_is_readable_or_not_and_the_door_takes_it(which: Any, data: st.DataObject) -> None:
    name, about = which
    about = copy.deepcopy(about)
    target = about.get("post", about)
    for field in data.draw(st.lists(st.sampled_from(sorted(target)), max_size=3)):
        target[field] = data.draw(SCALARS)
    with contextlib.suppress(Unreadable):
        deliver(name, about)


# --- real deliveries ---

DATA = Path(os.environ.get("STARS_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
DELIVERIES = sorted((DATA / "discourse-webhooks").glob("*.json"))
REAL_TYPES = {
    "accepted_solution": ["solution-accepted"],
    "post_created": ["reply-posted"],
    "post_destroyed": None,  # of post 1, beside topic_destroyed
    "post_edited": ["reply-restored"],
    "post_liked": ["kudos-given"],
    "post_recovered": ["reply-restored"],
    "topic_created": ["topic-created"],
    "topic_destroyed": ["topic-deleted"],
    "topic_edited": ["topic-edited", "topic-moved"],
    "topic_recovered": ["topic-restored"],
}


@pytest.mark.skipif(not DELIVERIES, reason=f"no real Discourse deliveries under {DATA} (STARS_TEST_DATA)")
def test_the_real_deliveries() -> None:
    seen = set()
    for path in DELIVERIES:
        delivery = json.loads(path.read_text())
        headers = delivery["headers"]
        name = headers["X-Discourse-Event"]
        seen.add(name)
        mapped = events_of(
            name, headers["X-Discourse-Event-Type"], headers["X-Discourse-Instance"], delivery["body"], NOW, CATEGORIES
        )
        expected = REAL_TYPES[name]
        assert [one["type"] for one in mapped.envelopes] == (expected or []), path.name
        assert bool(mapped.ignored) is (expected is None), path.name
        assert len(check(mapped.envelopes, NOW)) == len(mapped.envelopes)
        assert "cooked" not in json.dumps(mapped.envelopes)
    assert seen == set(REAL_TYPES)


# --- the mapping file ---


def test_the_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text('{"97": {"space": "english", "kind": "idea", "language": "en"}, "8": {"space": "x"}}')
    loaded = Categories.load(path)
    assert (loaded[97].space, loaded[97].kind, loaded[97].language) == ("english", "idea", "en")
    assert (loaded[8].kind, loaded[8].language) == ("question", None)
    assert 9 not in loaded
    assert len(Categories.load(None)) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "JSON object"),
        ("{", "not JSON"),
        ('{"x": {"space": "a"}}', "whole number"),
        ('{"-1": {"space": "a"}}', "whole number"),
        ('{"007": {"space": "a"}}', "whole number"),
        ('{"7": {}}', "category 7: space: Field required"),
        ('{"7": {"space": ""}}', "category 7: space"),
        ('{"7": {"space": "a", "languge": "en"}}', "languge"),
        ('{"7": {"space": "a", "language": "no way"}}', "language"),
        ('{"7": "a"}', "category 7"),
    ],
)
def test_a_wrong_mapping_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(text)
    with pytest.raises(MappingError, match=says) as caught:
        Categories.load(path)
    assert str(path) in str(caught.value)


def test_no_mapping_file(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="No such file"):
        Categories.load(tmp_path / "none.json")
