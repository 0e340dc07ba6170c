"""The poller: what webhooks never say, from a Discourse's public JSON.

Every ``discourse_poll_seconds`` it reads ``/latest.json`` and visits the topics whose row changed (``/t/ID.json``,
further posts by ``/t/ID/posts.json?post_ids[]=``), and a few others in turn. It compares what it sees with what it
saw before, and says the difference with the same envelopes and ids as the webhooks (``mapping``): what both say falls
out.

What it finds:

- **missed deliveries**: topics, replies, deletions, hidings, restorations, closes, solutions, edits of title, tags,
  category;
- **moved posts**: a known post in another topic's stream, or one that vanished and that ``/posts/ID.json`` shows
  elsewhere. A reply that became post 1 of a topic is no reply any more, and is deleted as one. Discourse copies a
  topic's first post when it moves it, so that this one is a deletion and a new post there too. A merge is many moves;
- **un-likes**: where the number of a reply's likes differs from the one before, ``/post_action_users.json`` names who
  likes it now. One like taken back and another given between two visits leave the number as it was, and are not seen
  until it changes; of more than 200 likers only the first are named, and then nothing is revoked; a plugin that hides
  the list hides un-likes. Likes of post 1 are left to the webhook: they earn nothing;
- **late retries**: a topic that changed is visited again three hours later, after the last retry that could bring old
  content, and its title, tags, space, state and the replies that came or went are said once more.

What cannot be known: when a like or an acceptance that no webhook told of happened. It is put right after the last
visit that did not show it (on a first visit: at the post's creation), the earliest moment that it can be. So a
webhook's own time stands wherever both speak. What anonymous visitors cannot see is not there: a topic that moved
into a private or unmapped category is deleted here, and restored when it returns. What is seen for the first time and
is older than two days is history (``backfill``). Accounts are not polled: their addresses are not public.

It is a polite guest: a pause before each request, a bound on requests a poll, ETags, ``Retry-After`` honoured (capped
at a day), longer and longer pauses after failures, bounded bodies and time, redirects followed on the same origin
alone.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from services.topics.discourse.categories import Categories
from services.topics.discourse.mapping import (
    Envelope,
    Instance,
    Post,
    Topic,
    Unreadable,
    digest,
    not_ahead,
    whole,
)
from shared.contracts.types import EPOCH, microseconds
from shared.discourse import user_id
from shared.forum import Facts
from shared.forum.facts import SQL as FACTS_SQL
from shared.postgres import Queries
from shared.web import Problem

log = logging.getLogger(__name__)
SQL = Queries(Path(__file__).parents[1] / "sql" / "discourse.sql")

Publish = Callable[[list[Envelope]], Awaitable[None]]

PAUSE = 0.5
"""Seconds before each request: Discourse allows an anonymous address 200 a minute and 50 in ten seconds."""
MOST_REQUESTS = 90
MOST_PAGES = 5
MOST_VISITS = 30
IN_TURN = 10
"""Visits to topics of which nothing is known to have changed."""
MOST_TOPICS = 500
CHUNK = 20
MOST_CHUNKS = 5
MOST_VANISHED = 20
MOST_BORNE = 2
"""Pages at which the site may fail before a poll ends."""
MOST_BYTES = 5 * 1024 * 1024
MOST_SECONDS = 30
HISTORY = timedelta(days=2)
SETTLED = timedelta(hours=3)
"""The last retry comes 156 minutes after the first try."""
_LIKE = 2
_GONE = (403, 404, 410)
_LONGEST_WAIT = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


# --- what was seen ---------------------------------------------------------------------------------------------------


class PostSeen(BaseModel):
    """A post as it was when it was last seen."""

    number: int
    author: int | None
    state: str
    created: int
    reply: bool
    gone: bool = False
    wavered: bool = False
    """It came or went while we watched."""
    seen: int = 0
    count: int = 0
    likers: list[int] = []


class TopicSeen(BaseModel):
    """A topic when last visited; ``row`` is how the list shows it, ``done`` how it did when it was visited."""

    row: str = ""
    done: str = ""
    bumped: str = ""
    seen: int | None = None
    tried: int = 0
    failed: int = 0
    """How often in a row the site failed at it: others come first."""
    again: int | None = None
    later: bool = False
    """It changed once more since it was decided when to look again."""
    more: bool = False
    etag: str | None = None
    told: bool = False
    gone: bool = False
    closed: bool = False
    state: str = ""
    content: str = ""
    solved: int | None = None
    posts: dict[int, PostSeen] = {}


class PollState(BaseModel):
    """All that is remembered of one Discourse between two polls."""

    version: int = Field(1, ge=1, le=1)
    topics: dict[int, TopicSeen] = {}
    etag: str | None = None
    mapping: str = ""
    not_before: int | None = None
    failures: int = 0


class PollStore(Protocol):
    """Where the state is kept."""

    async def load(self, instance: str) -> dict[str, Any] | None:
        """What was saved last; None where nothing was."""

    async def save(self, instance: str, state: dict[str, Any], at: datetime) -> None:
        """Keep it."""


class PostgresPollStore:
    """The table ``discourse_poll``."""

    def __init__(self, connection: Any, facts: Facts) -> None:
        self._connection, self._facts = connection, facts

    async def load(self, instance: str) -> dict[str, Any] | None:
        """What was saved last; None where nothing was."""
        found = await self._connection.fetchval(SQL.load, instance)
        return None if found is None else json.loads(found)

    async def save(self, instance: str, state: dict[str, Any], at: datetime) -> None:
        """Keep it, without those who were erased meanwhile."""
        found = _members_in(instance, state)
        async with self._connection.transaction():
            await self._connection.execute(FACTS_SQL.share_lock)
            _forget(instance, state, await self._facts.erased_among(self._connection, found))
            await self._connection.execute(SQL.save, instance, json.dumps(state), at)


async def erase_polled(connection: Any, erased: Collection[str]) -> None:
    """Forget who was erased in what was seen of any Discourse. The caller holds the facts' lock alone."""
    for row in await connection.fetch(SQL.lock_all):
        state = json.loads(row["state"])
        if _forget(row["instance"], state, erased):
            await connection.execute(SQL.update, row["instance"], json.dumps(state))


def _members_in(instance: str, state: dict[str, Any]) -> set[str]:
    posts = list(_posts_in(state))
    authors = {post["author"] for post in posts if post.get("author") is not None}
    return {user_id(instance, number) for number in authors.union(*(post.get("likers", ()) for post in posts))}


def _forget(instance: str, state: dict[str, Any], members: Collection[str]) -> bool:
    """Take members out of a state; whether any was in it."""
    found = False
    for post in _posts_in(state) if members else ():
        gone = [number for number in post.get("likers", ()) if user_id(instance, number) in members]
        if gone:
            post["likers"], found = [number for number in post["likers"] if number not in gone], True
        if post.get("author") is not None and user_id(instance, post["author"]) in members:
            post["author"], found = None, True
    return found


def _posts_in(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for topic in state.get("topics", {}).values():
        yield from topic.get("posts", {}).values()


# --- asking ----------------------------------------------------------------------------------------------------------


class _Stop(Exception):
    """No more requests in this poll, and none for ``wait``; ``failed`` is the site's doing, ``asked`` its wish."""

    def __init__(self, why: str, wait: timedelta | None = None, failed: bool = False, asked: bool = False) -> None:
        super().__init__(why)
        self.wait, self.failed, self.asked = wait, failed, asked


class _Odd(Exception):
    """An answer that cannot be used; others may."""


@dataclass
class _Answer:
    status: int
    body: dict[str, Any] = field(default_factory=dict)
    etag: str | None = None


def make_client(url: str) -> httpx.AsyncClient:
    """A client for the base URL of a Discourse: TLS verified, time-outs, redirects left to the poller."""
    return httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(10, connect=5),
        limits=httpx.Limits(max_connections=1),
        follow_redirects=False,
        headers={"Accept": "application/json", "User-Agent": "Constellation (+poller)"},
    )


class _Guest:
    """Asks one Discourse, politely."""

    def __init__(
        self, client: httpx.AsyncClient, now: Callable[[], datetime], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._client, self._now, self._sleep = client, now, sleep
        self._left = MOST_REQUESTS
        self.stopped: _Stop | None = None

    async def get(self, path: str, params: Any = None, etag: str | None = None) -> _Answer:
        """An answer that was read: 200, 304, or one of those that mean gone. Raises _Stop or _Odd."""
        if self.stopped is not None:
            raise self.stopped
        try:
            async with asyncio.timeout(MOST_SECONDS):
                return await self._follow(path, params, etag)
        except _Stop as stop:
            self.stopped = stop
            raise
        except (httpx.HTTPError, TimeoutError) as error:
            self.stopped = _Stop(type(error).__name__, failed=True)
            raise self.stopped from None

    async def _follow(self, path: str, params: Any, etag: str | None) -> _Answer:
        url: httpx.URL | str = path
        for _ in range(4):
            if self._left <= 0:
                raise _Stop("as many requests as one poll may make")
            if self._left < MOST_REQUESTS:
                await self._sleep(PAUSE)
            self._left -= 1
            headers = {"If-None-Match": etag} if etag else None
            async with self._client.stream("GET", url, params=params, headers=headers) as response:
                if response.status_code not in (301, 302, 303, 307, 308):
                    return await self._read(response)
                url, params = self._target(response), None
        raise _Odd("redirects without end")

    def _target(self, response: httpx.Response) -> httpx.URL:
        base = self._client.base_url
        try:
            target = response.url.join(response.headers.get("location", ""))
        except (httpx.InvalidURL, ValueError):
            raise _Odd("a redirect that is no address") from None
        if (target.scheme, target.host, target.port) != (base.scheme, base.host, base.port) or target.userinfo:
            raise _Odd("a redirect to elsewhere, which is not followed")
        return target

    async def _read(self, response: httpx.Response) -> _Answer:
        status = response.status_code
        if status == 429 or (status == 503 and "retry-after" in response.headers):
            raise _Stop(str(status), _retry_after(response.headers.get("retry-after"), self._now()), True, True)
        if status >= 500:
            raise _Stop(str(status), failed=True)
        if status == 304 or status in _GONE:
            return _Answer(status)
        if status != 200:
            raise _Odd(f"status {status}")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                raise _Odd("a body that is too large")
        try:
            parsed = from_json(bytes(body), allow_inf_nan=False)
        except ValueError:
            raise _Odd("a body that is not JSON") from None
        if not isinstance(parsed, dict):
            raise _Odd("a body that is not a JSON object")
        return _Answer(status, parsed, (response.headers.get("etag") or "")[:200] or None)


def _retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110 section 10.2.3); None where it says neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(at - now, timedelta()), _LONGEST_WAIT)


# --- polling ---------------------------------------------------------------------------------------------------------


async def poll(
    store: PollStore,
    client: httpx.AsyncClient,
    categories: Categories,
    publish: Publish,
    now: Callable[[], datetime],
) -> None:
    """Poll once, from the state that is kept to the one that will be. Only one process may do so at a time."""
    place = Instance(str(client.base_url)).place
    state = await poll_once(client, await store.load(place) or {}, categories, publish, now)
    await store.save(place, state, now())


async def poll_once(
    client: httpx.AsyncClient,
    state: dict[str, Any],
    categories: Categories,
    publish: Publish,
    now: Callable[[], datetime],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> dict[str, Any]:
    """Publish what changed since ``state`` (an empty one at first) and return the new state.

    Nothing that Discourse does raises. What was not published is not in the state, and is said in the next poll
    with the same ids: so Kafka being away (Problem 503 from ``publish``) only ends this poll.
    """
    try:
        seen = PollState.model_validate(state)
    except ValidationError:
        log.warning("what the last poll of the Discourse left cannot be read: everything is looked at anew")
        seen = PollState()
    started = now()
    if seen.not_before is not None and microseconds(started) < seen.not_before:
        return state
    guest = _Guest(client, now, sleep)
    visitor = _Poll(guest, Instance(str(client.base_url)), seen, categories, publish, now)
    try:
        await visitor.run()
    except _Stop as stop:
        log.info("the poll of the Discourse ends early: %s", stop)
    seen.not_before = None
    if guest.stopped is not None and guest.stopped.failed:
        seen.failures += 1
        wait = guest.stopped.wait or min(timedelta(seconds=60) * 2 ** min(seen.failures - 1, 6), timedelta(hours=1))
        seen.not_before = microseconds(now() + wait)
    else:
        seen.failures = 0
    return seen.model_dump(mode="json", exclude_defaults=True)


class _Poll:
    def __init__(
        self,
        guest: _Guest,
        instance: Instance,
        state: PollState,
        categories: Categories,
        publish: Publish,
        now: Callable[[], datetime],
    ) -> None:
        self.guest, self.instance, self.state = guest, instance, state
        self.categories, self.publish, self.now = categories, publish, now
        self.home = {number: topic for topic, seen in state.topics.items() for number in seen.posts}
        """Post -> the topic in which it was last seen."""
        self.borne = 0

    async def run(self) -> None:
        """Raises _Stop."""
        try:
            await self._list()
        except _Odd as odd:
            # Without the list nothing is known of the site either: that a topic is not found may mean anything.
            self.guest.stopped = _Stop(f"/latest.json: {odd}", failed=True)
            raise self.guest.stopped from None
        for number in self._next_visits():
            topic = self.state.topics[number].model_copy(deep=True)
            visit = _Visit(self, number, topic)
            try:
                await visit.look()
            except _Odd as odd:
                log.warning("topic %d of the Discourse cannot be read: %s", number, odd)
                kept = self.state.topics[number]
                kept.tried, kept.done, kept.more = microseconds(visit.at), kept.row, False
                kept.again = None if kept.again is None else microseconds(visit.at + timedelta(hours=1))
                continue
            except _Stop:
                kept = self.state.topics[number]
                kept.tried, kept.failed = microseconds(visit.at), kept.failed + 1
                self._bear()
                continue
            if not await self._say(number, visit.envelopes):
                return
            visit.keep()
            if self.guest.stopped is not None:
                topic.failed += 1
                self._bear()
            else:
                topic.failed = 0

    def _bear(self) -> None:
        """One broken page does not spoil a poll; more, or the wish to be left alone, end it. Raises _Stop."""
        stop = self.guest.stopped
        if stop is None or stop.asked or not stop.failed or self.borne >= MOST_BORNE:
            raise stop or _Stop("stopped")
        self.borne += 1
        self.guest.stopped = None

    async def _say(self, number: int, envelopes: list[Envelope]) -> bool:
        """Publish; False ends the poll."""
        for begin in range(0, len(envelopes), 100):
            some = envelopes[begin : begin + 100]
            try:
                await self.publish(some)
            except Problem as problem:
                if problem.status != 400:
                    log.warning("the poll of the Discourse ends early: its events could not be published")
                    return False
                # The door takes all or nothing; a refusal is for ever, and must not hold up the rest.
                if len(some) == 1:
                    log.error("an event %s of topic %d of the Discourse was refused", some[0]["type"], number)
                elif not all([await self._say(number, [one]) for one in some]):
                    return False
        return True

    async def _list(self) -> None:
        mapping = digest(sorted((id, place.model_dump()) for id, place in self.categories.items()))
        if mapping != self.state.mapping:
            self.state.mapping, self.state.etag = mapping, None
        etag = None
        for page in range(MOST_PAGES):
            params = {"no_definitions": "true"} | ({"page": str(page)} if page else {})
            answer = await self.guest.get("/latest.json", params, None if page else self.state.etag)
            if answer.status == 304:
                return
            if answer.status != 200:
                raise _Odd(f"status {answer.status}")
            etag = etag if page else answer.etag
            of = answer.body.get("topic_list")
            rows = of.get("topics") if isinstance(of, dict) else None
            if not isinstance(of, dict) or not isinstance(rows, list):
                raise _Odd("not a list of topics")
            changed = sum(self._row(row) for row in rows[:200] if isinstance(row, dict))
            if not changed or not of.get("more_topics_url"):
                break
        self.state.etag = etag
        self._forget()

    def _row(self, row: dict[str, Any]) -> bool:
        """Note a row of the list; whether it changed."""
        try:
            number, category = whole(row, "id"), whole(row, "category_id", None)
        except Unreadable:
            return False
        known = self.state.topics.get(number)
        if known is None and (row.get("archetype", "regular") != "regular" or category not in self.categories):
            return False
        shown = digest([row.get(name) for name in _ROW])
        if known is None:
            known = self.state.topics[number] = TopicSeen()
        changed = known.row != shown
        known.row, known.bumped = shown, str(row.get("bumped_at") or "")[:40]
        return changed

    def _forget(self) -> None:
        """Keep the topics with the latest activity."""
        surplus = len(self.state.topics) - MOST_TOPICS
        if surplus > 0:
            for number in sorted(self.state.topics, key=lambda id: self.state.topics[id].bumped)[:surplus]:
                for post in self.state.topics.pop(number).posts:
                    self.home.pop(post, None)

    def _next_visits(self) -> list[int]:
        now = microseconds(self.now())
        topics = self.state.topics
        changed = [id for id, topic in topics.items() if topic.row != topic.done]
        changed.sort(key=lambda id: topics[id].bumped, reverse=True)
        due = [id for id, topic in topics.items() if topic.more or (topic.again is not None and topic.again <= now)]
        changed.sort(key=lambda id: topics[id].failed)
        due.sort(key=lambda id: (topics[id].failed, topics[id].tried))
        in_turn = sorted(topics, key=lambda id: topics[id].tried)
        chosen = list(dict.fromkeys(changed + due))[:MOST_VISITS]
        others = [id for id in in_turn if id not in set(chosen)][: min(IN_TURN, MOST_VISITS - len(chosen))]
        return chosen + others


_ROW = (
    "title",
    "tags",
    "category_id",
    "archetype",
    "posts_count",
    "reply_count",
    "highest_post_number",
    "like_count",
    "closed",
    "archived",
    "visible",
    "has_accepted_answer",
    "bumped_at",
    "last_posted_at",
)


class _Visit:
    """One visit of one topic: ``topic`` is a copy, which becomes the state once its events are published."""

    def __init__(self, poll: _Poll, number: int, topic: TopicSeen) -> None:
        self.poll, self.instance, self.number, self.topic = poll, poll.instance, number, topic
        self.envelopes: list[Envelope] = []
        self.moves: list[tuple[int, int, int, PostSeen]] = []
        """Posts that moved: their id, from where to where, and how they are there."""
        # Before the request: what a webhook says while we read is newer than what we read.
        self.at = poll.now()
        self.before = None if topic.seen is None else EPOCH + timedelta(microseconds=topic.seen)

    async def look(self) -> None:
        """Compare the topic with how it was. Raises _Odd; a _Stop only before anything was read."""
        topic = self.topic
        settling = topic.again is not None and topic.again <= microseconds(self.at)
        fresh = settling or topic.more or topic.gone or not topic.told
        answer = await self.poll.guest.get(f"/t/{self.number}.json", etag=None if fresh else topic.etag)
        topic.seen = topic.tried = microseconds(self.at)
        topic.done, topic.more = topic.row, False
        if answer.status == 304:
            return
        topic.etag = answer.etag
        if answer.status in _GONE:
            self._leave()
            return
        try:
            shown = Topic.read(answer.body)
        except Unreadable as error:
            raise _Odd(str(error)) from None
        if shown.id != self.number:
            raise _Odd("another topic was shown")
        stream = answer.body.get("post_stream")
        stream = stream if isinstance(stream, dict) else {}
        posts = list(self._posts(stream))
        first_hidden = any(post.number == 1 and post.gone for post, _ in posts)
        place = self.poll.categories.get(shown.category_id or 0)
        if place is None or not shown.regular or shown.gone or first_hidden or not shown.author:
            self._leave()
            return
        changed = self._topic(shown, settling)
        await self._replies(stream, posts, settling)
        self._solution(answer.body, shown)
        if settling:
            topic.again = microseconds(self.at + SETTLED) if topic.later else None
            topic.later = False
        elif changed or any(not envelope.get("backfill") for envelope in self.envelopes):
            topic.later = topic.again is not None
            topic.again = topic.again or microseconds(self.at + SETTLED)
        if topic.more:
            topic.etag = None

    def keep(self) -> None:
        """What was said is now known."""
        topics, home = self.poll.state.topics, self.poll.home
        topics[self.number] = self.topic
        home.update(dict.fromkeys(self.topic.posts, self.number))
        for id, left, arrived, seen in self.moves:
            if left in topics:
                topics[left].posts.pop(id, None)
            home.pop(id, None)
            if arrived in topics:
                topics[arrived].posts.setdefault(id, seen)
                home[id] = arrived

    def _leave(self) -> None:
        """It is not to be seen any more."""
        if self.topic.told and not self.topic.gone:
            self._say_topic("topic-deleted", self.topic.state)
        self.topic.gone = True
        self.topic.again = None

    def _say_topic(self, type: str, state: str, backfill: bool = False) -> None:
        self.envelopes.append(self.instance.topic_opposite(type, self.number, state, self.at, backfill))

    def _is_history(self, at: datetime) -> bool:
        return self.at - at > HISTORY

    def _topic(self, shown: Topic, settling: bool) -> bool:
        """Say what changed of the topic itself; whether it was news and not history."""
        topic, place = self.topic, self.poll.categories[shown.category_id or 0]
        content = digest(shown.title, shown.tags, place.model_dump())
        news, history = False, False
        if not topic.told:
            at = not_ahead(shown.created_at, self.at)
            history = self._is_history(at)
            self.envelopes.append(self.instance.topic_created(shown, place, at, history))
            news = not history
        elif settling or topic.content != content:
            self.envelopes += self.instance.topic_is(shown, place, self.at)
            news = True
        if topic.gone or (settling and topic.told):
            self._say_topic("topic-restored", shown.state)
        if topic.closed != shown.closed or (settling and topic.told):
            self._say_topic("topic-closed" if shown.closed else "topic-reopened", shown.state, history)
        news = news or topic.gone or (topic.told and topic.closed != shown.closed)
        topic.told, topic.gone, topic.closed = True, False, shown.closed
        topic.content, topic.state = content, shown.state
        return news

    @staticmethod
    def _posts(stream: dict[str, Any]) -> Iterable[tuple[Post, dict[str, Any]]]:
        found = stream.get("posts")
        for of in found if isinstance(found, list) else []:
            try:
                yield Post.read(of), of
            except (Unreadable, AttributeError):
                continue

    async def _replies(self, stream: dict[str, Any], posts: list[tuple[Post, dict[str, Any]]], settling: bool) -> None:
        ids = stream.get("stream")
        whole_stream = [id for id in ids if isinstance(id, int)] if isinstance(ids, list) else []
        shown = {post.id for post, _ in posts}
        known = self.topic.posts
        unknown = [id for id in reversed(whole_stream) if id not in known and id not in shown]
        others = sorted(
            (id for id in whole_stream if id in known and id not in shown),
            key=lambda id: (not known[id].gone, known[id].seen, -id),
        )
        self.topic.more = len(unknown) > CHUNK * MOST_CHUNKS
        wanted = (unknown + others)[: CHUNK * MOST_CHUNKS]
        # Those that have gone, before any that is looked at arrives.
        missing = [id for id in known if id not in shown.union(whole_stream) and not known[id].gone and known[id].reply]
        try:
            for begin in range(0, len(wanted), CHUNK):
                params = [("post_ids[]", str(id)) for id in wanted[begin : begin + CHUNK]]
                answer = await self.poll.guest.get(f"/t/{self.number}/posts.json", params)
                more = answer.body.get("post_stream")
                posts += self._posts(more if isinstance(more, dict) else {})
        except (_Stop, _Odd):
            self.topic.more = True
        for post, of in sorted(posts, key=lambda pair: pair[0].number):
            if post.topic_id == self.number:
                await self._post(post, of, settling)
        if shown and shown <= set(whole_stream):
            await self._vanished(missing)

    async def _post(self, post: Post, of: dict[str, Any], settling: bool) -> None:
        seen = self.topic.posts.get(post.id)
        left = self.poll.home.get(post.id)
        if seen is None and left is not None and left != self.number:
            seen = self.poll.state.topics[left].posts[post.id].model_copy(deep=True)
            self.moves.append((post.id, left, self.number, seen))
            if seen.reply:
                self.envelopes.append(self.instance.reply_moved(post.id, self.number, left, self.at))
        is_reply = post.why_no_reply() is None
        if seen is None:
            seen = PostSeen(
                number=post.number,
                author=post.author,
                state=post.state,
                created=microseconds(post.created_at),
                reply=is_reply,
            )
            if is_reply:
                self._first_seen(post)
                seen.wavered = post.gone
        elif seen.reply and post.number == 1:
            self._opposite("reply-deleted", post)
        elif is_reply:
            self._seen_again(post, seen, settling)
        seen.number, seen.author, seen.state, seen.reply = post.number, post.author, post.state, is_reply
        seen.gone, seen.seen = post.gone, microseconds(self.at)
        self.topic.posts[post.id] = seen
        if is_reply and not post.gone:
            await self._likes(post, of, seen)

    def _first_seen(self, post: Post) -> None:
        at = not_ahead(post.created_at, self.at)
        self.envelopes.append(self.instance.reply_posted(post, at, self._is_history(at)))
        if post.gone:
            self._opposite("reply-deleted", post, self._is_history(at))

    def _seen_again(self, post: Post, seen: PostSeen, settling: bool) -> None:
        # An author whom we were told to forget is no news.
        if not seen.reply or seen.author not in (None, post.author):
            at = not_ahead(post.created_at, self.at)
            self.envelopes.append(self.instance.reply_posted(post, at, self._is_history(at), again=seen.reply))
        # What was no reply and is one now may have been deleted as one.
        changed = seen.gone != post.gone or not seen.reply
        seen.wavered = seen.wavered or changed
        if changed or (settling and seen.wavered):
            self._opposite("reply-deleted" if post.gone else "reply-restored", post)
        if settling:
            seen.wavered = False

    def _opposite(self, type: str, post: Post, backfill: bool = False) -> None:
        self.envelopes.append(self.instance.reply_opposite(type, post.id, post.topic_id, post.state, self.at, backfill))

    async def _vanished(self, missing: list[int]) -> None:
        self.topic.more = self.topic.more or len(missing) > MOST_VANISHED
        for id in missing[:MOST_VANISHED]:
            seen = self.topic.posts[id]
            try:
                answer = await self.poll.guest.get(f"/posts/{id}.json")
                post = None if answer.status in _GONE else Post.read(answer.body)
            except (_Stop, _Odd, Unreadable):
                self.topic.more = True
                continue
            if post is not None and post.topic_id != self.number:
                self.envelopes.append(self.instance.reply_moved(id, post.topic_id, self.number, self.at))
                if post.number == 1:
                    self._opposite("reply-deleted", post)
                seen.number, seen.reply = post.number, post.why_no_reply() is None
                self.moves.append((id, self.number, post.topic_id, seen))
            elif post is None or post.gone:
                self.envelopes.append(
                    self.instance.reply_opposite("reply-deleted", id, self.number, seen.state, self.at)
                )
                seen.gone = seen.wavered = True

    async def _likes(self, post: Post, of: dict[str, Any], seen: PostSeen) -> None:
        count = _like_count(of)
        if count == seen.count:
            return
        givers: list[int] = []
        complete = True
        if count:
            params = {"id": str(post.id), "post_action_type_id": str(_LIKE)}
            try:
                answer = await self.poll.guest.get("/post_action_users.json", params)
            except (_Stop, _Odd):
                self.topic.more = True
                return
            users = answer.body.get("post_action_users")
            if answer.status != 200 or not isinstance(users, list):
                seen.count = count
                return
            givers = [user["id"] for user in users if isinstance(user, dict) and _is_person(user.get("id"))]
            total = answer.body.get("total_rows_post_action_users")
            complete = len(users) >= count or (len(users) < 200 and not isinstance(total, int))
        new = [giver for giver in givers if giver not in seen.likers]
        gone = [giver for giver in seen.likers if giver not in givers] if complete else []
        at = self._earliest(post.created_at)
        for giver in new:
            self.envelopes.append(
                self.instance.kudos("kudos-given", post.id, post.number, post.topic_id, giver, at, self._is_history(at))
            )
        for giver in gone:
            self.envelopes.append(
                self.instance.kudos("kudos-revoked", post.id, post.number, post.topic_id, giver, self.at)
            )
        seen.likers = sorted({*seen.likers, *new} - set(gone))
        seen.count = count

    def _earliest(self, created_at: datetime) -> datetime:
        """When something at the soonest happened that this visit shows and the last one did not."""
        at = created_at if self.before is None else max(created_at, self.before + _MICROSECOND)
        return min(at, self.at)

    def _solution(self, body: dict[str, Any], shown: Topic) -> None:
        accepted = body.get("accepted_answer")
        solved: int | None = None
        if isinstance(accepted, dict):
            number = accepted.get("post_number")
            solved = next((id for id, post in self.topic.posts.items() if post.number == number and post.reply), None)
            if solved is None:
                return
        if solved == self.topic.solved:
            return
        if solved is not None:
            seen = self.topic.posts[solved]
            at = self._earliest(EPOCH + timedelta(microseconds=seen.created))
            self.envelopes.append(
                self.instance.solution("solution-accepted", solved, self.number, seen.state, at, self._is_history(at))
            )
        elif self.topic.solved is not None:
            left = self.topic.posts.get(self.topic.solved)
            state = left.state if left else "unknown"
            self.envelopes.append(
                self.instance.solution("solution-revoked", self.topic.solved, self.number, state, self.at)
            )
        self.topic.solved = solved


def _is_person(id: Any) -> bool:
    return isinstance(id, int) and not isinstance(id, bool) and 0 < id < 2**63


def _like_count(of: dict[str, Any]) -> int:
    actions = of.get("actions_summary")
    for action in actions if isinstance(actions, list) else []:
        if isinstance(action, dict) and action.get("id") == _LIKE:
            count = action.get("count")
            return count if isinstance(count, int) and count > 0 else 0
    return 0
