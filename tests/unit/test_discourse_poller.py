"""The poller against a fake Discourse: what webhooks never say, and a guest's manners."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.topics.discourse import poller
from services.topics.discourse.categories import Categories
from services.topics.discourse.mapping import Envelope, events_of
from services.topics.discourse.poller import make_client, poll, poll_once
from services.topics.ingestion import check
from shared.web import Problem

HOST = "forum.example.com"
URL = f"https://{HOST}"
CATEGORIES = Categories.parse({"97": {"space": "english", "language": "en"}, "8": {"space": "music"}})
START = datetime(2026, 11, 22, 10, tzinfo=UTC)
ISO = "%Y-%m-%dT%H:%M:%S.%fZ"


class Forum:
    """A Discourse as far as anonymous visitors see it."""

    def __init__(self) -> None:
        self.now = START
        self.topics: dict[int, dict[str, Any]] = {}
        self.posts: dict[int, dict[str, Any]] = {}
        self.likes: dict[int, list[int]] = {}
        self.requests: list[str] = []
        self.headers: list[httpx.Headers] = []
        self.instead: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
        self.published: list[Envelope] = []
        self.state: dict[str, Any] = {}
        self.refuse = 0
        self.slept = 0.0
        self.per_page = 30

    def topic(self, id: int, at: datetime | None = None, **change: Any) -> dict[str, Any]:
        at = at or self.now
        self.topics[id] = {
            "id": id,
            "title": f"Topic {id}",
            "tags": ["a"],
            "category_id": 97,
            "archetype": "regular",
            "user_id": 1,
            "created_at": at.strftime(ISO),
            "bumped_at": at.strftime(ISO),
            "closed": False,
            "archived": False,
            "visible": True,
            "deleted_at": None,
        } | change
        self.post(id * 1000, id, at=at, user_id=change.get("user_id", 1))
        return self.topics[id]

    def post(self, id: int, topic: int, at: datetime | None = None, **change: Any) -> dict[str, Any]:
        at = at or self.now
        number = 1 + sum(post["topic_id"] == topic for post in self.posts.values())
        self.posts[id] = {
            "id": id,
            "post_number": number,
            "post_type": 1,
            "topic_id": topic,
            "user_id": 2,
            "hidden": False,
            "user_deleted": False,
            "created_at": at.strftime(ISO),
            "updated_at": at.strftime(ISO),
            "version": 1,
        } | change
        return self.posts[id]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.raw_path.decode())
        self.headers.append(request.headers)
        if (answer := self.instead(request)) is not None:
            return answer
        found = self.find(request)
        if found is None:
            return httpx.Response(404, json={"errors": ["not found"]})
        body = json.dumps(found).encode()
        etag = f'W/"{hash(body)}"'
        if request.headers.get("if-none-match") == etag:
            return httpx.Response(304, headers={"etag": etag})
        return httpx.Response(200, content=body, headers={"etag": etag, "content-type": "application/json"})

    def of(self, topic: int) -> list[dict[str, Any]]:
        posts = [post for post in self.posts.values() if post["topic_id"] == topic]
        return [self.shown(post) for post in sorted(posts, key=lambda post: post["post_number"])]

    def shown(self, post: dict[str, Any]) -> dict[str, Any]:
        count = len(self.likes.get(post["id"], []))
        return post | {"actions_summary": [{"id": 2, "count": count}] if count else []}

    def find(self, request: httpx.Request) -> Any:
        path, query = request.url.path, request.url.params
        if path == "/latest.json":
            page = int(query.get("page", 0))
            rows = sorted((t for t in self.topics.values() if t["visible"]), key=lambda t: t["bumped_at"], reverse=True)
            rows = [
                row
                | {
                    "posts_count": len(self.of(row["id"])),
                    "like_count": sum(len(self.likes.get(post["id"], [])) for post in self.of(row["id"])),
                }
                for row in rows
            ]
            some = rows[page * self.per_page : (page + 1) * self.per_page]
            more = {"more_topics_url": "/latest?page=1"} if len(rows) > (page + 1) * self.per_page else {}
            return {"topic_list": {"topics": some} | more}
        if path == "/post_action_users.json":
            assert query["post_action_type_id"] == "2"
            return {
                "post_action_users": [{"id": id, "username": str(id)} for id in self.likes.get(int(query["id"]), [])]
            }
        parts = path.removesuffix(".json").strip("/").split("/")
        if parts[0] == "posts":
            return self.posts.get(int(parts[1]))
        topic = self.topics.get(int(parts[1]))
        if topic is None:
            return None
        posts = self.of(topic["id"])
        if parts[2:] == ["posts"]:
            wanted = {int(id) for id in query.get_list("post_ids[]")}
            assert 0 < len(wanted) <= 20
            return {"post_stream": {"posts": [post for post in posts if post["id"] in wanted]}, "id": topic["id"]}
        return topic | {"post_stream": {"posts": posts[:20], "stream": [post["id"] for post in posts]}}

    async def publish(self, envelopes: list[Envelope]) -> None:
        if self.refuse:
            raise Problem(self.refuse, "no")
        check(envelopes, self.now)
        self.published += envelopes

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds

    async def poll(self, later: timedelta = timedelta(minutes=3)) -> list[Envelope]:
        """What the next poll publishes."""
        self.now += later
        self.published = []
        self.requests = []
        self.headers = []
        client = make_client(URL)
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(self.handle), base_url=client.base_url, headers=client.headers
        ) as fake:
            state = await poll_once(fake, self.state, CATEGORIES, self.publish, lambda: self.now, sleep=self.sleep)
        self.state = json.loads(json.dumps(state))
        return self.published


@pytest.fixture
def forum() -> Forum:
    return Forum()


def types(envelopes: list[Envelope]) -> list[str]:
    return [envelope["type"] for envelope in envelopes]


async def test_a_missed_topic_and_a_missed_reply_are_what_the_webhooks_would_have_said(forum: Forum) -> None:
    forum.topic(5)
    reply = forum.post(51, 5)
    found = await forum.poll()
    assert types(found) == ["topic-created", "reply-posted"]
    headers = (URL, {"topic": forum.topics[5]}, forum.now, CATEGORIES)
    assert events_of("topic_created", "topic", *headers).envelopes == found[:1]
    body = {"post": reply | {"topic_archetype": "regular", "category_id": 97}}
    assert events_of("post_created", "post", URL, body, forum.now, CATEGORIES).envelopes == found[1:]
    assert await forum.poll() == []


async def test_what_is_old_at_first_sight_is_history(forum: Forum) -> None:
    old = START - timedelta(days=40)
    forum.topic(5, old, closed=True)
    forum.post(51, 5, old)
    forum.likes[51] = [7]
    found = await forum.poll()
    assert types(found) == ["topic-created", "topic-closed", "reply-posted", "kudos-given"]
    assert all(envelope["backfill"] for envelope in found)
    assert await forum.poll(timedelta(hours=4)) == []


async def test_a_moved_post_seen_first_where_it_is_now(forum: Forum) -> None:
    forum.topic(5)
    forum.topic(6)
    forum.post(51, 5)
    await forum.poll()
    forum.posts[51] |= {"topic_id": 6, "post_number": 2}
    forum.topics[6]["bumped_at"] = (START + timedelta(minutes=4)).strftime(ISO)
    [moved] = await forum.poll()
    assert moved["type"] == "reply-moved"
    assert moved["data"] == {
        "topic_id": f"{HOST}:t:6",
        "reply_id": f"{HOST}:p:51",
        "from_topic_id": f"{HOST}:t:5",
    }
    assert await forum.poll() == []
    del forum.posts[51]
    [deleted] = await forum.poll()
    assert deleted["data"]["topic_id"] == f"{HOST}:t:6"


async def test_a_moved_post_seen_first_where_it_was(forum: Forum) -> None:
    forum.topic(5)
    forum.topic(6)
    forum.post(51, 5)
    await forum.poll()
    forum.posts[51] |= {"topic_id": 6, "post_number": 2}
    forum.topics[5]["bumped_at"] = (START + timedelta(minutes=4)).strftime(ISO)
    assert types(await forum.poll()) == ["reply-moved"]
    assert "/posts/51.json" in forum.requests
    assert await forum.poll() == []


async def test_a_post_that_moved_to_a_topic_that_is_not_watched(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    await forum.poll()
    forum.posts[51] |= {"topic_id": 77, "post_number": 9}
    [moved] = await forum.poll()
    assert moved["data"]["topic_id"] == f"{HOST}:t:77"
    assert await forum.poll() == []


async def test_a_reply_that_became_a_topic_is_no_reply_any_more(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    await forum.poll()
    forum.topic(6)
    del forum.posts[6000]
    forum.posts[51] |= {"topic_id": 6, "post_number": 1}
    found = await forum.poll()
    assert "reply-deleted" in types(found)
    assert "topic-created" in types(found)
    assert await forum.poll() == []


async def test_a_deleted_post_and_its_return(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    await forum.poll()
    gone = forum.posts.pop(51)
    [deleted] = await forum.poll()
    assert (deleted["type"], deleted["data"]["reply_id"]) == ("reply-deleted", f"{HOST}:p:51")
    body = {"post": gone | {"topic_archetype": "regular", "category_id": 97}}
    assert events_of("post_destroyed", "post", URL, body, forum.now, CATEGORIES).envelopes[0]["id"] == deleted["id"]
    forum.posts[51] = gone
    assert types(await forum.poll()) == ["reply-restored"]


async def test_hidden_and_shown_again(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    await forum.poll()
    forum.posts[51]["hidden"] = True
    assert types(await forum.poll()) == ["reply-deleted"]
    forum.posts[51]["hidden"] = False
    assert types(await forum.poll()) == ["reply-restored"]


async def test_whispers_notes_and_posts_of_nobody(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5, post_type=3)
    forum.post(52, 5, user_id=None)
    forum.post(53, 5, post_type=4)
    found = await forum.poll()
    assert [one["data"].get("visibility") for one in found] == [None, "internal"]
    assert await forum.poll() == []


async def test_a_new_author_stands_over_the_old_one(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    [_, before] = await forum.poll()
    forum.posts[51] |= {"user_id": 9, "version": 2}
    [after] = await forum.poll()
    assert after["data"]["author_id"] == f"{HOST}:u:9"
    assert after["time"] == before["time"]
    assert after["id"].encode() > before["id"].encode()


async def test_edits_moves_and_closes_of_a_topic(forum: Forum) -> None:
    forum.topic(5)
    await forum.poll()
    forum.topics[5] |= {"title": "Other", "category_id": 8, "closed": True}
    edited, moved, closed = await forum.poll()
    assert (edited["data"]["title"], edited["data"]["language"]) == ("Other", None)
    assert moved["data"]["space"] == "music"
    assert closed["type"] == "topic-closed"
    forum.topics[5]["closed"] = False
    assert types(await forum.poll()) == ["topic-reopened"]


@pytest.mark.parametrize("change", [{"category_id": 4}, {"archetype": "private_message"}, {"visible": False}, None])
async def test_a_topic_that_is_not_to_be_seen_any_more(forum: Forum, change: dict[str, Any] | None) -> None:
    topic = forum.topic(5)
    await forum.poll()
    if change is None:
        del forum.topics[5]
    else:
        forum.topics[5] = topic | change
    assert types(await forum.poll()) == ["topic-deleted"]
    assert await forum.poll() == []
    forum.topics[5] = topic
    assert types(await forum.poll()) == ["topic-restored"]


async def test_what_is_not_mapped_is_never_visited(forum: Forum) -> None:
    forum.topic(5, category_id=4)
    forum.topic(6, archetype="private_message")
    assert await forum.poll() == []
    assert len(forum.requests) == 1


async def test_likes_and_un_likes(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    forum.likes = {51: [7, 8], 5000: [7]}
    await forum.poll()
    given = [one for one in forum.published if one["type"] == "kudos-given"]
    assert [one["data"]["kudos_id"] for one in given] == [f"{HOST}:l:51:7", f"{HOST}:l:51:8"]
    forum.likes[51] = [8]
    [revoked] = await forum.poll()
    assert (revoked["type"], revoked["data"]["kudos_id"]) == ("kudos-revoked", f"{HOST}:l:51:7")
    forum.likes[51] = [8, 7]
    [again] = await forum.poll()
    assert again["id"] == given[0]["id"]
    assert datetime.fromisoformat(again["time"]) > datetime.fromisoformat(revoked["time"])


async def test_a_like_is_put_before_what_a_webhook_said_of_it(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    await forum.poll()
    seen = forum.now
    forum.likes[51] = [7]
    [given] = await forum.poll()
    assert seen < datetime.fromisoformat(given["time"]) < seen + timedelta(seconds=1)


async def test_likers_that_are_not_all_named_revoke_nothing(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    forum.likes[51] = [7, 8]
    await forum.poll()

    def instead(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/post_action_users.json":
            return httpx.Response(200, json={"post_action_users": [{"id": 9}], "total_rows_post_action_users": 3})
        return None

    forum.likes[51] = [7, 8, 9]
    forum.instead = instead
    assert [one["data"]["kudos_id"] for one in await forum.poll()] == [f"{HOST}:l:51:9"]


async def test_a_hidden_list_of_likers(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    forum.likes[51] = [7]
    forum.instead = lambda request: httpx.Response(403) if "action_users" in request.url.path else None
    assert types(await forum.poll()) == ["topic-created", "reply-posted"]
    assert await forum.poll() == []


async def test_solutions(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    forum.post(52, 5)
    await forum.poll()
    forum.topics[5] |= {"accepted_answer": {"post_number": 2}}
    [accepted] = await forum.poll()
    assert (accepted["type"], accepted["data"]["reply_id"]) == ("solution-accepted", f"{HOST}:p:51")
    forum.topics[5] |= {"accepted_answer": {"post_number": 3}}
    [replaced] = await forum.poll()
    assert replaced["data"]["reply_id"] == f"{HOST}:p:52"
    assert replaced["time"] > accepted["time"]
    del forum.topics[5]["accepted_answer"]
    assert types(await forum.poll()) == ["solution-revoked"]


async def test_after_the_last_retry_a_changed_topic_is_said_once_more(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    forum.post(52, 5)
    await forum.poll()
    forum.posts[51]["hidden"] = True
    await forum.poll()
    assert await forum.poll(timedelta(hours=2)) == []
    again = await forum.poll(timedelta(minutes=61))
    assert types(again) == ["topic-edited", "topic-moved", "topic-restored", "topic-reopened", "reply-deleted"]
    assert {one["time"] for one in again} == {forum.now.isoformat().replace("+00:00", "Z")}
    # It changed once more in between, so once more it is looked at; then it is quiet.
    assert types(await forum.poll(timedelta(hours=4))) == [
        "topic-edited",
        "topic-moved",
        "topic-restored",
        "topic-reopened",
    ]
    assert await forum.poll(timedelta(hours=4)) == []


async def test_long_threads_come_in_bounded_pieces(forum: Forum) -> None:
    forum.topic(5)
    for id in range(51, 301):
        forum.post(id, 5)
    found = await forum.poll()
    assert len(found) == 1 + 19 + 100
    while more := await forum.poll():
        found += more
    replies = {one["data"]["reply_id"] for one in found if one["type"] == "reply-posted"}
    assert len(replies) == 250
    del forum.posts[280]
    assert types(await forum.poll()) == ["reply-deleted"]


async def test_a_poll_is_bounded_and_goes_on_where_it_ended(forum: Forum) -> None:
    for id in range(1, 101):
        forum.topic(id, START + timedelta(seconds=id))
    first = await forum.poll()
    assert len(forum.requests) <= poller.MOST_REQUESTS
    assert len(first) == poller.MOST_VISITS
    assert forum.slept >= poller.PAUSE * (len(forum.requests) - 1)
    found = len(first)
    for _ in range(3):
        found += len(await forum.poll())
    assert found == 100


async def test_many_topics_are_forgotten_but_for_the_latest(forum: Forum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "MOST_TOPICS", 10)
    for id in range(1, 31):
        forum.topic(id, START + timedelta(seconds=id))
    await forum.poll()
    assert sorted(map(int, forum.state["topics"])) == list(range(21, 31))


async def test_etags(forum: Forum) -> None:
    forum.topic(5)
    await forum.poll()
    assert "if-none-match" not in forum.headers[0]
    await forum.poll()
    assert all("if-none-match" in headers for headers in forum.headers)


@pytest.mark.parametrize("wait", ["120", "Sun, 22 Nov 2026 10:05:00 GMT"])
async def test_429_with_retry_after(forum: Forum, wait: str) -> None:
    forum.topic(5)
    forum.instead = lambda request: httpx.Response(429, headers={"Retry-After": wait})
    assert await forum.poll() == []
    assert len(forum.requests) == 1
    assert await forum.poll(timedelta(seconds=110)) == []
    assert forum.requests == []
    forum.instead = lambda request: None
    assert types(await forum.poll(timedelta(seconds=11))) == ["topic-created"]


async def test_429_in_the_middle_keeps_what_was_seen(forum: Forum) -> None:
    forum.topic(5)
    for id in range(51, 91):
        forum.post(id, 5)
    forum.instead = lambda request: httpx.Response(429) if request.url.path.endswith("posts.json") else None
    assert len(await forum.poll()) == 20
    forum.instead = lambda request: None
    assert len(await forum.poll(timedelta(minutes=2))) == 21


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_failures_lengthen_the_pause(forum: Forum, status: int) -> None:
    forum.topic(5)
    forum.instead = lambda request: httpx.Response(status)
    assert await forum.poll() == []
    assert await forum.poll(timedelta(seconds=61)) == []
    assert forum.requests
    assert await forum.poll(timedelta(seconds=61)) == []
    assert not forum.requests
    forum.instead = lambda request: None
    assert types(await forum.poll(timedelta(seconds=61))) == ["topic-created"]
    assert "failures" not in forum.state


async def test_no_connection(forum: Forum) -> None:
    def instead(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    forum.topic(5)
    forum.instead = instead
    assert await forum.poll() == []
    assert forum.state["failures"] == 1


@pytest.mark.parametrize(
    "odd",
    [
        httpx.Response(302, headers={"location": "https://elsewhere.example/t/5.json"}),
        httpx.Response(302, headers={"location": "http://forum.example.com/t/5.json"}),
        httpx.Response(302, headers={"location": "https://u:p@forum.example.com/t/5.json"}),
        httpx.Response(302, headers={"location": "https://[::1"}),
        httpx.Response(301, headers={"location": "/t/5.json"}),
        httpx.Response(200, content=b" " * (poller.MOST_BYTES + 1)),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b"[]"),
        httpx.Response(200, content=b"{}"),
        httpx.Response(200, json={"id": 6, "created_at": "2026-11-22T10:00:00Z"}),
        httpx.Response(418),
        httpx.Response(500),
    ],
)
async def test_an_odd_answer_spoils_one_topic_alone(forum: Forum, odd: httpx.Response) -> None:
    forum.topic(5, START + timedelta(seconds=1))
    forum.topic(6)
    forum.instead = lambda request: odd if request.url.path == "/t/5.json" else None
    found = await forum.poll()
    assert [one["data"]["topic_id"] for one in found] == [f"{HOST}:t:6"]
    assert not any("elsewhere" in path for path in forum.requests)
    forum.instead = lambda request: None
    assert [one["data"]["topic_id"] for one in await forum.poll()] == [f"{HOST}:t:5"]


async def test_a_page_that_always_fails_lets_the_others_pass(forum: Forum) -> None:
    for id in range(5, 9):
        forum.topic(id)
    forum.post(51, 5)
    forum.instead = lambda request: httpx.Response(500) if "/t/5" in request.url.path else None
    assert len(await forum.poll()) == 3
    forum.topic(9)
    assert len(await forum.poll()) == 1
    assert forum.state["topics"]["5"]["failed"] == 2


async def test_a_redirect_on_the_same_site_is_followed(forum: Forum) -> None:
    forum.topic(5)
    forum.instead = lambda request: (
        httpx.Response(301, headers={"location": "/t/5.json?ok=1"}) if request.url.raw_path == b"/t/5.json" else None
    )
    assert types(await forum.poll()) == ["topic-created"]


@pytest.mark.parametrize("status", [403, 404, 302])
async def test_a_site_that_closed_its_doors_deletes_nothing(forum: Forum, status: int) -> None:
    forum.topic(5)
    await forum.poll()
    forum.instead = lambda request: httpx.Response(status, headers={"location": "https://elsewhere.example/login"})
    assert await forum.poll() == []
    assert len(forum.requests) == 1


async def test_kafka_away_and_back(forum: Forum) -> None:
    forum.topic(5)
    forum.topic(6)
    forum.refuse = 503
    assert await forum.poll() == []
    forum.refuse = 0
    assert types(await forum.poll()) == ["topic-created", "topic-created"]


async def test_a_refused_event_does_not_hold_up_the_rest(forum: Forum) -> None:
    forum.topic(5)
    forum.post(51, 5)
    publish = forum.publish

    async def picky(envelopes: list[Envelope]) -> None:
        if any(one["type"] == "topic-created" for one in envelopes):
            raise Problem(400, "no")
        await publish(envelopes)

    forum.publish = picky  # type: ignore[method-assign]
    assert types(await forum.poll()) == ["reply-posted"]


async def test_a_state_that_cannot_be_read_begins_anew(forum: Forum) -> None:
    forum.topic(5)
    forum.state = {"version": 99, "topics": "x"}
    assert types(await forum.poll()) == ["topic-created"]


async def test_the_store(forum: Forum) -> None:
    class Store:
        saved: dict[str, Any] = {}

        async def load(self, instance: str) -> dict[str, Any] | None:
            return self.saved.get(instance)

        async def save(self, instance: str, state: dict[str, Any], at: datetime) -> None:
            self.saved[instance] = state

    forum.topic(5)
    store = Store()
    async with httpx.AsyncClient(transport=httpx.MockTransport(forum.handle), base_url=URL) as client:
        await poll(store, client, CATEGORIES, forum.publish, lambda: forum.now)
    assert list(store.saved) == [HOST]
    assert types(forum.published) == ["topic-created"]


async def test_the_client_verifies_and_does_not_follow() -> None:
    async with make_client(URL) as client:
        assert not client.follow_redirects
        assert client.timeout.connect == 5
