"""From what Discourse says to events: pure functions, the same for webhooks and for the poller.

Sources: Discourse's ``config/initializers/012-web_hook_events.rb`` (which events there are),
``app/jobs/regular/emit_web_hook_event.rb`` (headers, retries), ``app/serializers/web_hook_*_serializer.rb`` (bodies),
the plugin discourse-solved, and real deliveries recorded at the Fedora project.

**Ids.** Discourse counts from 1 in every installation, so each id begins with the instance: HOST is its host name,
with a port that is not its scheme's and a folder where it has them (``shared.discourse``, which sign-in uses as well,
for a member's id must be the same by either way). Topics are ``HOST:t:123``, posts ``HOST:p:456``,
users ``HOST:u:7``, likes ``HOST:l:POST:GIVER`` (a like's identity is post and giver). The source is
``/discourse/HOST``.

**Event ids** are made of meaning (what it is about, what happened, and the version or the state that the payload
shows) and never of ``X-Discourse-Event-Id``, which is new in every retry. So a retry is the same event, and so is
what the poller sees of the same thing.

**Times.** What is created has its ``created_at``. An edit of a post has ``updated_at``, so that a late old edit
loses. A deletion has ``deleted_at`` where the payload has it; it seldom does, being made before the deletion. All
else (recovered, closed, accepted, liked, a topic's new title) says nothing of when, and gets the time of receipt.
What that costs: when we were away for a first try, its retry comes 1, 6, 31 or 156 minutes after it and then wins
over what happened in between. The poller looks at every changed topic again three hours later, when no retry can
come, and says how it is. A time that is more than five minutes ahead of our clock becomes the time of receipt.

**What counts.**

- Only topics of ``archetype`` regular in a mapped category; private messages never get this far.
- Post 1 is the topic, not a reply: its own events are ignored, but for its hiding. Likes of it are kudos on the
  topic.
- ``post_type`` 1 is a reply; 4 (whisper) is an internal one; 3 (small action) is none; 2 (moderator action) is one
  when a person wrote it: "add staff colour" turns a real answer into that type. With an ``action_code`` it is the
  system's note.
- ``hidden``, ``user_deleted`` (an author's own deletion) and ``deleted_at`` are all the same: gone. A visible edit is
  a restoration, for an author's edit is what ends the hiding of a flagged post.
- An unlisted topic (``visible`` false) is gone like a hidden one: that is how Discourse hides a flagged question.
- An archived topic is closed: nobody can answer it.
- Negative ids are bots; who is admin or moderator is staff; posts whose author no longer exists are left out.
- A member's name is the username: the full name is in the payload even where the site shows it to nobody.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from services.topics.discourse.categories import Categories, Place
from shared.contracts.codec import MAX_AHEAD
from shared.contracts.types import EPOCH, microseconds
from shared.discourse import Discourse

REGULAR, MODERATOR_ACTION, SMALL_ACTION, WHISPER = 1, 2, 3, 4
Envelope = dict[str, Any]
AuthorKind = Literal["member", "staff", "bot"]


class Unreadable(ValueError):
    """Not what Discourse sends; the message says what is missing, and never a value."""


@dataclass(frozen=True)
class Mapped:
    """What one delivery comes to: events, or why there are none."""

    envelopes: list[Envelope]
    ignored: str | None = None


# --- reading ---------------------------------------------------------------------------------------------------------

_MISSING = object()
_MOST_ID = 2**63 - 1


def _object(of: dict[str, Any], name: str) -> dict[str, Any]:
    value = of.get(name)
    if not isinstance(value, dict):
        raise Unreadable(f"{name}: an object is needed")
    return value


def whole(of: dict[str, Any], name: str, default: Any = _MISSING) -> Any:
    """A whole number, or the default where it is absent or null. Raises Unreadable."""
    value = of.get(name)
    if value is None and default is not _MISSING:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MOST_ID:
        raise Unreadable(f"{name}: a whole number is needed")
    return value


def _id(of: dict[str, Any], name: str) -> int:
    value: int = whole(of, name)
    if value < 1:
        raise Unreadable(f"{name}: an id is a whole number from 1 on")
    return value


def _text(of: dict[str, Any], name: str, most: int) -> str:
    value = of.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"{name}: text is needed")
    # A lone surrogate is JSON but not Unicode, and NUL is no text for PostgreSQL.
    return value.encode("utf-8", "replace").decode().replace("\x00", "")[:most]


def instant(of: dict[str, Any], name: str) -> datetime | None:
    """A time in UTC; None where it is absent. Raises Unreadable."""
    value = of.get(name)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise ValueError
        found = found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise Unreadable(f"{name}: a time with an offset is needed") from None
    if found < EPOCH:
        raise Unreadable(f"{name}: times before 1970 are not kept")
    return found


def _needed(of: dict[str, Any], name: str) -> datetime:
    found = instant(of, name)
    if found is None:
        raise Unreadable(f"{name}: a time is needed")
    return found


def _is_staff(of: dict[str, Any]) -> bool:
    return any(of.get(flag) is True for flag in ("staff", "admin", "moderator"))


def _tags(of: dict[str, Any]) -> list[str]:
    """Tags are names; newer versions send objects with a name."""
    found: list[str] = []
    values = of.get("tags")
    for value in values if isinstance(values, list) else []:
        name = _text(value, "name", 100) if isinstance(value, dict) else _text({"tag": value}, "tag", 100)
        if name and name not in found:
            found.append(name)
    return found[:100]


def digest(*parts: Any) -> str:
    """Short for some values."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Topic:
    """A topic as Discourse shows it, in a webhook or in ``/t/ID.json``."""

    id: int
    title: str
    tags: list[str]
    category_id: int | None
    regular: bool
    author: int | None
    staff: bool
    created_at: datetime
    closed: bool
    gone: bool
    deleted_at: datetime | None
    state: str
    """Short for all of the above and how far the thread had come."""

    @classmethod
    def read(cls, of: dict[str, Any]) -> "Topic":
        """Raises Unreadable."""
        creator = of.get("created_by")
        if not isinstance(creator, dict):
            details = of.get("details")
            creator = details.get("created_by") if isinstance(details, dict) else None
        creator = creator if isinstance(creator, dict) else {}
        title, tags, category = _text(of, "title", 1000), _tags(of), whole(of, "category_id", None)
        closed = of.get("closed") is True or of.get("archived") is True
        deleted_at = instant(of, "deleted_at")
        gone = deleted_at is not None or of.get("visible") is False
        progress = whole(of, "highest_post_number", 0), whole(of, "posts_count", 0), _text(of, "last_posted_at", 40)
        author = whole(of, "user_id", None)
        return cls(
            _id(of, "id"),
            title,
            tags,
            category,
            of.get("archetype") == "regular",
            author if author is not None else whole(creator, "id", None),
            _is_staff(creator),
            _needed(of, "created_at"),
            closed,
            gone,
            deleted_at,
            digest(title, tags, category, closed, gone, *progress),
        )


@dataclass(frozen=True)
class Post:
    """A post as Discourse shows it. Public JSON leaves ``regular`` and the category to the topic."""

    id: int
    number: int
    type: int
    topic_id: int
    author: int | None
    staff: bool
    created_at: datetime
    updated_at: datetime
    version: int
    gone: bool
    deleted_at: datetime | None
    noted: bool
    """It has an ``action_code``: the system wrote it."""
    category_id: int | None
    regular: bool

    @classmethod
    def read(cls, of: dict[str, Any]) -> "Post":
        """Raises Unreadable."""
        created_at, deleted_at = _needed(of, "created_at"), instant(of, "deleted_at")
        return cls(
            _id(of, "id"),
            _id(of, "post_number"),
            whole(of, "post_type", REGULAR),
            _id(of, "topic_id"),
            whole(of, "user_id", None),
            _is_staff(of),
            created_at,
            instant(of, "updated_at") or created_at,
            whole(of, "version", 1),
            deleted_at is not None or of.get("hidden") is True or of.get("user_deleted") is True,
            deleted_at,
            bool(of.get("action_code")),
            whole(of, "category_id", None),
            of.get("topic_archetype") == "regular",
        )

    @property
    def state(self) -> str:
        """Its version and last change, as ids hold them."""
        return f"{self.version}.{microseconds(self.updated_at)}"

    def why_no_reply(self) -> str | None:
        """Why this post is no reply; None when it is one."""
        if self.number == 1:
            return "post 1 is the topic itself"
        if self.type == SMALL_ACTION or self.noted:
            return "the system's own note is no reply"
        if self.type not in (REGULAR, MODERATOR_ACTION, WHISPER):
            return "not a type of post that is known"
        if not self.author:
            return "its author no longer exists"
        return None


# --- writing ---------------------------------------------------------------------------------------------------------

_LOCALE = re.compile(r"[A-Za-z0-9-]{1,35}")


class Instance(Discourse):
    """One Discourse: its ids and its envelopes. Raises Unreadable where the address is not one."""

    def __init__(self, address: str) -> None:
        try:
            super().__init__(address)
        except ValueError as error:
            raise Unreadable(f"instance: {error}") from None
        self.source = f"/discourse/{self.place}"

    def topic(self, number: int) -> str:
        """A topic's id."""
        return f"{self.place}:t:{number}"

    def post(self, number: int) -> str:
        """A reply's id."""
        return f"{self.place}:p:{number}"

    def like(self, post: int, giver: int) -> str:
        """A like's id."""
        return f"{self.place}:l:{post}:{giver}"

    def _event(
        self, type: str, id: str, at: datetime, subject: str, data: dict[str, Any], backfill: bool = False
    ) -> Envelope:
        envelope: Envelope = {
            "specversion": "1.0",
            "id": id,
            "source": self.source,
            "type": type,
            "subject": subject,
            "time": at.isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "dataschema": f"/schemas/{type}.v1.json",
            "data": data,
        }
        return envelope | {"backfill": True} if backfill else envelope

    def _of_topic(
        self, type: str, number: int, what: str, at: datetime, backfill: bool = False, **data: Any
    ) -> Envelope:
        id = self.topic(number)
        return self._event(type, f"{id}:{what}", at, f"topic/{id}", {"topic_id": id, **data}, backfill)

    def _of_post(
        self, type: str, number: int, topic: int, what: str, at: datetime, backfill: bool = False, **data: Any
    ) -> Envelope:
        topic_id, id = self.topic(topic), self.post(number)
        whole_data = {"topic_id": topic_id, "reply_id": id, **data}
        return self._event(type, f"{id}:{what}", at, f"topic/{topic_id}", whole_data, backfill)

    def topic_created(self, topic: Topic, place: Place, at: datetime, backfill: bool = False) -> Envelope:
        """Its author must be known."""
        data: dict[str, Any] = {
            "author_id": self.user(topic.author or 0),
            "author_kind": _author_kind(topic.author or 0, topic.staff),
            "title": topic.title,
            "space": place.space,
            "tags": topic.tags,
            "kind": place.kind,
            "url": f"{self.url}/t/{topic.id}",
        }
        if place.language is not None:
            data["language"] = place.language
        return self._of_topic("topic-created", topic.id, "created", at, backfill, **data)

    def topic_is(self, topic: Topic, place: Place, at: datetime) -> list[Envelope]:
        """All that an edit may have changed: title, tags, and with the category space, kind and language."""
        data: dict[str, Any] = {
            "title": topic.title,
            "tags": topic.tags,
            "kind": place.kind,
            "language": place.language,
        }
        return [
            self._of_topic("topic-edited", topic.id, f"edited:{digest(topic.state, data)}", at, **data),
            self._of_topic("topic-moved", topic.id, f"moved:{digest(topic.state, place.space)}", at, space=place.space),
        ]

    def topic_opposite(self, type: str, number: int, state: str, at: datetime, backfill: bool = False) -> Envelope:
        """Closed, reopened, deleted or restored."""
        return self._of_topic(type, number, f"{type.removeprefix('topic-')}:{state}", at, backfill)

    def reply_posted(self, post: Post, at: datetime, backfill: bool = False, again: bool = False) -> Envelope:
        """``again``: it has another author now, and this event stands over the one before."""
        return self._of_post(
            "reply-posted",
            post.id,
            post.topic_id,
            f"posted~{post.version:09d}" if again else "posted",
            at,
            backfill,
            author_id=self.user(post.author or 0),
            author_kind=_author_kind(post.author or 0, post.staff),
            visibility="internal" if post.type == WHISPER else "public",
        )

    def reply_opposite(
        self, type: str, number: int, topic: int, state: str, at: datetime, backfill: bool = False
    ) -> Envelope:
        """Deleted or restored."""
        return self._of_post(type, number, topic, f"{type.removeprefix('reply-')}:{state}", at, backfill)

    def reply_moved(self, number: int, topic: int, before: int, at: datetime) -> Envelope:
        """To another topic."""
        what = f"moved:{before}:{topic}:{microseconds(at)}"
        return self._of_post("reply-moved", number, topic, what, at, from_topic_id=self.topic(before))

    def solution(
        self, type: str, number: int, topic: int, state: str, at: datetime, backfill: bool = False
    ) -> Envelope:
        """Accepted or revoked. Who accepted is not said."""
        return self._of_post(type, number, topic, f"{type.removeprefix('solution-')}:{state}", at, backfill)

    def kudos(
        self, type: str, post: int, number: int, topic: int, giver: int, at: datetime, backfill: bool = False
    ) -> Envelope:
        """Given or revoked; ``number`` is the post's place in its topic."""
        topic_id, id = self.topic(topic), self.like(post, giver)
        data = {"topic_id": topic_id, "kudos_id": id, "giver_id": self.user(giver)}
        if number != 1:
            data["reply_id"] = self.post(post)
        what = "given" if type == "kudos-given" else f"revoked:{microseconds(at)}"
        return self._event(type, f"{id}:{what}", at, f"topic/{topic_id}", data, backfill)

    def member(self, type: str, user: dict[str, Any], at: datetime, received_at: datetime) -> Envelope:
        """The whole member, with the address where the payload has it; of an erased one the id alone."""
        number = _id(user, "id")
        id = self.user(number)
        if type == "member-erased":
            return self._event(type, f"{id}:erased", at, f"member/{id}", {"member_id": id, "status": "erased"})
        until = instant(user, "suspended_till")
        suspended = type == "member-suspended" or (
            type != "member-reinstated" and until is not None and until > received_at
        )
        data: dict[str, Any] = {"member_id": id, "status": "suspended" if suspended else "active"}
        if name := _text(user, "username", 255):
            data["name"] = name
        locale = _text(user, "locale", 50).replace("_", "-")
        if _LOCALE.fullmatch(locale):
            data["locale"] = locale
        options = user.get("user_option")
        zone = _text(user, "timezone", 64) or (_text(options, "timezone", 64) if isinstance(options, dict) else "")
        if zone:
            data["time_zone"] = zone
        if (joined := instant(user, "created_at")) is not None:
            data["joined_at"] = joined.isoformat().replace("+00:00", "Z")
        email = _text(user, "email", 321)
        if _EMAIL.fullmatch(email):
            data["email"] = email
        what = "registered" if type == "member-registered" else f"{type.removeprefix('member-')}:{digest(data)}"
        return self._event(type, f"{id}:{what}", at, f"member/{id}", data)


_EMAIL = re.compile(r"(?=.{3,320}\Z)[^\x00-\x20\x7f@]+@[^\x00-\x20\x7f@]+")


def _author_kind(author: int, staff: bool) -> AuthorKind:
    if author < 0:
        return "bot"
    return "staff" if staff else "member"


def not_ahead(at: datetime, received_at: datetime) -> datetime:
    """The time, or ours where a wrong clock puts it so far ahead that the door would refuse it."""
    return received_at if at > received_at + MAX_AHEAD else at


# --- webhooks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Delivery:
    name: str
    instance: Instance
    about: dict[str, Any]
    received_at: datetime
    categories: Categories

    def topic(self) -> tuple[Topic, Place]:
        topic = Topic.read(self.about)
        if not topic.regular:
            raise _Ignored("not a regular topic: private messages are nobody's business")
        return topic, self._place(topic.category_id)

    def post(self, of: dict[str, Any]) -> Post:
        post = Post.read(of)
        if not post.regular:
            raise _Ignored("not in a regular topic: private messages are nobody's business")
        self._place(post.category_id)
        return post

    def _place(self, category_id: int | None) -> Place:
        if category_id is None or category_id not in self.categories:
            raise _Ignored("its category is not mapped")
        return self.categories[category_id]


class _Ignored(Exception):
    """Knowingly ignored."""


def events_of(
    event_name: str,
    event_type: str,
    instance: str,
    body: dict[str, Any],
    received_at: datetime,
    categories: Categories,
) -> Mapped:
    """The envelopes that one delivery comes to, or why it comes to none.

    ``event_name`` and ``event_type`` are the headers ``X-Discourse-Event`` and ``X-Discourse-Event-Type``,
    ``instance`` is ``X-Discourse-Instance``. They are not signed, only the body is: so where the event is known, what
    it is about is read from under the root that belongs to it, and the header's type must agree. Raises Unreadable.
    """
    if event_type == "ping" or event_name == "ping":
        return Mapped([], "a ping")
    found = _EVENTS.get(event_name)
    if found is None and _STATUS.fullmatch(event_name):
        found = ("topic", _status_update)
    if found is None:
        return Mapped([], _IGNORED.get(event_name, "not an event that is known here"))
    root, make = found
    if event_type != root:
        raise Unreadable(f"X-Discourse-Event-Type: {root} is what this event is about")
    try:
        delivery = _Delivery(event_name, Instance(instance), _object(body, root), received_at, categories)
        return Mapped(make(delivery))
    except _Ignored as why:
        return Mapped([], str(why))


_STATUS = re.compile(r"topic_[a-z_]+_status_updated")


def _topic_created(delivery: _Delivery) -> list[Envelope]:
    topic, place = delivery.topic()
    if not topic.author:
        raise _Ignored("its author no longer exists")
    received = delivery.received_at
    found = [delivery.instance.topic_created(topic, place, not_ahead(topic.created_at, received))]
    if topic.closed:
        found.append(delivery.instance.topic_opposite("topic-closed", topic.id, topic.state, received))
    if topic.gone:
        found.append(delivery.instance.topic_opposite("topic-deleted", topic.id, topic.state, received))
    return found


def _topic_edited(delivery: _Delivery) -> list[Envelope]:
    # The payload has neither a version nor updated_at: only the receipt orders a topic's edits.
    topic, place = delivery.topic()
    return delivery.instance.topic_is(topic, place, delivery.received_at)


def _topic_destroyed(delivery: _Delivery) -> list[Envelope]:
    topic, _ = delivery.topic()  # deleted_at may be null: the event's name is what counts
    at = not_ahead(topic.deleted_at or delivery.received_at, delivery.received_at)
    return [delivery.instance.topic_opposite("topic-deleted", topic.id, topic.state, at)]


def _topic_recovered(delivery: _Delivery) -> list[Envelope]:
    topic, _ = delivery.topic()
    if delivery.about.get("visible") is False:
        raise _Ignored("recovered, and still unlisted")
    return [delivery.instance.topic_opposite("topic-restored", topic.id, topic.state, delivery.received_at)]


def _status_update(delivery: _Delivery) -> list[Envelope]:
    status = delivery.name.removeprefix("topic_").removesuffix("_status_updated")
    topic, _ = delivery.topic()
    if status in ("closed", "autoclosed", "archived"):
        type = "topic-closed" if topic.closed else "topic-reopened"
    elif status == "visible":
        type = "topic-deleted" if topic.gone else "topic-restored"
    else:
        raise _Ignored("this status changes nothing here")
    return [delivery.instance.topic_opposite(type, topic.id, topic.state, delivery.received_at)]


def _reply(delivery: _Delivery) -> Post:
    post = delivery.post(delivery.about)
    if (why := post.why_no_reply()) is not None:
        raise _Ignored(why)
    return post


def _post_created(delivery: _Delivery) -> list[Envelope]:
    post, received = _reply(delivery), delivery.received_at
    found = [delivery.instance.reply_posted(post, not_ahead(post.created_at, received))]
    if post.gone:
        at = not_ahead(post.deleted_at or post.updated_at, received)
        found.append(delivery.instance.reply_opposite("reply-deleted", post.id, post.topic_id, post.state, at))
    return found


def _post_edited(delivery: _Delivery) -> list[Envelope]:
    post, received = delivery.post(delivery.about), delivery.received_at
    at = not_ahead((post.deleted_at if post.gone else None) or post.updated_at, received)
    if post.number == 1:
        if not post.gone:
            raise _Ignored("post 1 is the topic itself, whose own event says what changed")
        return [delivery.instance.topic_opposite("topic-deleted", post.topic_id, f"post1:{post.state}", at)]
    if (why := post.why_no_reply()) is not None:
        raise _Ignored(why)
    # "stands" and not "restored": a recovery of the same version is another event.
    if not post.gone:
        state = f"stands:{post.state}"
        return [delivery.instance.reply_opposite("reply-restored", post.id, post.topic_id, state, at)]
    return [delivery.instance.reply_opposite("reply-deleted", post.id, post.topic_id, post.state, at)]


def _post_destroyed(delivery: _Delivery) -> list[Envelope]:
    post = _reply(delivery)
    at = not_ahead(post.deleted_at or delivery.received_at, delivery.received_at)
    return [delivery.instance.reply_opposite("reply-deleted", post.id, post.topic_id, post.state, at)]


def _post_recovered(delivery: _Delivery) -> list[Envelope]:
    post = _reply(delivery)
    if delivery.about.get("hidden") is True:
        raise _Ignored("recovered, and still hidden")
    return [
        delivery.instance.reply_opposite("reply-restored", post.id, post.topic_id, post.state, delivery.received_at)
    ]


def _post_liked(delivery: _Delivery) -> list[Envelope]:
    post, giver = delivery.post(_object(delivery.about, "post")), whole(_object(delivery.about, "user"), "id")
    if giver < 1:
        raise _Ignored("a bot's like")
    if post.number != 1 and (why := post.why_no_reply()) is not None:
        raise _Ignored(why)
    return [delivery.instance.kudos("kudos-given", post.id, post.number, post.topic_id, giver, delivery.received_at)]


def _solution(delivery: _Delivery) -> list[Envelope]:
    post = _reply(delivery)
    type = "solution-accepted" if delivery.name == "accepted_solution" else "solution-revoked"
    return [delivery.instance.solution(type, post.id, post.topic_id, post.state, delivery.received_at)]


def _user(delivery: _Delivery) -> list[Envelope]:
    number: int = whole(delivery.about, "id")
    if number < 1:
        raise _Ignored("a bot is no member")
    type, at = _MEMBER[delivery.name], delivery.received_at
    if type == "member-registered":
        at = not_ahead(instant(delivery.about, "created_at") or at, at)
    return [delivery.instance.member(type, delivery.about, at, delivery.received_at)]


_MEMBER = {
    "user_created": "member-registered",
    "user_approved": "member-updated",
    "user_confirmed_email": "member-updated",
    "user_updated": "member-updated",
    "user_suspended": "member-suspended",
    "user_unsuspended": "member-reinstated",
    "user_destroyed": "member-erased",
    "user_anonymized": "member-erased",
}

_EVENTS: dict[str, tuple[str, Callable[[_Delivery], list[Envelope]]]] = {
    "topic_created": ("topic", _topic_created),
    "topic_edited": ("topic", _topic_edited),
    "topic_revised": ("topic", _topic_edited),  # what topic_edited is called in the list of events
    "topic_destroyed": ("topic", _topic_destroyed),
    "topic_recovered": ("topic", _topic_recovered),
    "post_created": ("post", _post_created),
    "post_edited": ("post", _post_edited),
    "post_destroyed": ("post", _post_destroyed),
    "post_recovered": ("post", _post_recovered),
    "post_liked": ("like", _post_liked),
    "accepted_solution": ("solved", _solution),
    "unaccepted_solution": ("solved", _solution),
    **dict.fromkeys(_MEMBER, ("user", _user)),
}

_IGNORED = {
    "user_logged_in": "nothing about the member changed",
    "user_logged_out": "nothing about the member changed",
    "user_promoted": "trust levels mean nothing here",
    "user_badge_granted": "badges mean nothing here",
    "user_badge_revoked": "badges mean nothing here",
    "group_user_added": "groups mean nothing here",
    "group_user_removed": "groups mean nothing here",
    # What group_user_* are called in Discourse's own events.
    "user_added_to_group": "groups mean nothing here",
    "user_removed_from_group": "groups mean nothing here",
}
