"""A forum's whole history, read by brute force: what is true after it, by the meaning in the contract.

Where the contract is silent, `Forum` does this:

* a topic-created of a greater stamp replaces the register of the creation (author, time, url) wholly; title, tags,
  language, kind and space are registers of their own, which a topic-created writes all (what it leaves out is absent)
  and topic-edited and topic-moved write in part; tags that were removed are an empty list;
* a reply's topic is a register that reply-posted and reply-moved write;
* if the acceptance of the latest accepted reply is not in force, there is no solution: an earlier one does not return,
  not even while the latest accepted reply is unknown; a revocation speaks of the topic that it names (merges followed);
* topics are compared after merging; a topic whose survivor is unknown counts nowhere; a reply under a merged-away topic
  that itself was never created counts under a known survivor; `created_at` is the least of the known ones;
* a topic shows its own author, but every merged topic's author is the asker;
* a deleted topic keeps its first response, but counts in no report;
* an erased member's every id is its stand-in, whatever it had merged into, and who had merged into it ends there;
* a member is a Star by the appointments and retirements of everyone who stands for it, from the instant of an
  appointment on, until just before that of a retirement;
* kudos follow their reply, whatever topic they name; a kudos's time is that of its latest giving.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.oracle.figures import SECOND, TARGET_SECONDS, Instant, Wait, micros, report, rfc3339, seconds

Stamp: TypeAlias = tuple[int, bytes, bytes]
"""By what of two facts of one kind the later is known: time, then source, then id."""

Policy: TypeAlias = Mapping[str, Any]
"""{scope, target_seconds, objective, from}; `from` is None for one that has no beginning."""

DEFAULT_POLICIES: tuple[Policy, ...] = (
    {"scope": "all", "target_seconds": TARGET_SECONDS, "objective": 0.9, "from": None},
)

PERSONS = ("member", "star", "staff")


def stand_in(key: bytes, member_id: str) -> str:
    """What an erased member is called from then on."""
    return "erased:" + hmac.new(key, member_id.encode(), hashlib.sha256).hexdigest()[:32]


def follow(start: str, steps: Mapping[str, str]) -> str:
    """The end of a chain; of a cycle, its smallest id."""
    path = [start]
    while path[-1] in steps:
        after = steps[path[-1]]
        if after in path:
            return min(path[path.index(after) :], key=str.encode)
        path.append(after)
    return path[-1]


class Register:
    """What stands of a kind of fact about each thing: the value of the greatest stamp."""

    def __init__(self) -> None:
        self._entries: dict[str, list[tuple[Stamp, Any]]] = {}

    def write(self, thing: str, stamp: Stamp, value: Any) -> None:
        """Take note of a fact."""
        self._entries.setdefault(thing, []).append((stamp, value))

    def history(self, thing: str) -> list[tuple[Stamp, Any]]:
        """Every fact about this thing, the least first."""
        return sorted(self._entries.get(thing, []), key=lambda entry: entry[0])

    def __contains__(self, thing: str) -> bool:
        return thing in self._entries

    def __getitem__(self, thing: str) -> Any:
        """What stands; None where nothing was ever said."""
        history = self.history(thing)
        return history[-1][1] if history else None

    def things(self) -> list[str]:
        """Everything that anything was said about."""
        return list(self._entries)

    def items(self) -> list[tuple[str, Any]]:
        """What stands, of each thing."""
        return [(thing, self[thing]) for thing in self._entries]


class Switch:
    """Two opposites about each thing: the later time holds, and at equal times the one that is told `wins`."""

    def __init__(self) -> None:
        self._set: dict[str, list[int]] = {}
        self._unset: dict[str, list[int]] = {}

    def turn_on(self, thing: str, time: int) -> None:
        """The opposite that wins at equal times: deleted, closed, revoked, retired."""
        self._set.setdefault(thing, []).append(time)

    def turn_off(self, thing: str, time: int) -> None:
        """The other one: restored, reopened, accepted, given, appointed."""
        self._unset.setdefault(thing, []).append(time)

    def is_on(self, thing: str) -> bool:
        """Whether the winning opposite holds; if nothing was said, it does not."""
        if thing not in self._set:
            return False
        return thing not in self._unset or max(self._set[thing]) >= max(self._unset[thing])


@dataclass(frozen=True)
class Creation:
    """What a topic-created alone can say."""

    author_id: str
    author_kind: str
    at: int
    url: str | None


@dataclass(frozen=True)
class Reply:
    """A reply that was posted; ids are as told, `topic_id` that of where it lies now."""

    reply_id: str
    topic_id: str
    author_id: str
    author_kind: str
    public: bool
    deleted: bool
    at: int

    @property
    def seen(self) -> bool:
        """Whether everyone can see it."""
        return self.public and not self.deleted


@dataclass(frozen=True)
class FirstResponse:
    """The first response of a topic; durations in microseconds."""

    reply_id: str
    responder_id: str
    responder_kind: str
    at: int
    took: int


@dataclass(frozen=True)
class Solution:
    """A solution in force, and when it was accepted."""

    reply_id: str
    at: int


@dataclass(frozen=True)
class Kudos:
    """A kudos that counts; members as they are called in the end."""

    kudos_id: str
    topic_id: str
    reply_id: str
    giver_id: str | None
    receiver_id: str
    at: int


@dataclass(frozen=True)
class Topic:
    """A topic that was not merged away, with what was merged into it. Of an unknown one nothing but its id is meant."""

    topic_id: str
    known: bool
    deleted: bool
    closed: bool
    kind: str | None
    space: str | None
    language: str | None
    title: str | None
    tags: tuple[str, ...]
    url: str | None
    author_id: str | None
    created_at: int
    askers: frozenset[str]
    merged: frozenset[str]
    first_response: FirstResponse | None
    solution: Solution | None
    replies: int

    @property
    def visible(self) -> bool:
        """Known and not deleted."""
        return self.known and not self.deleted

    @property
    def counts(self) -> bool:
        """Whether a report counts it."""
        return self.visible and self.kind == "question"


class Forum:
    """What is true after these events, in whatever order and however often they came."""

    def __init__(self, events: Iterable[Mapping[str, Any]], erasure_key: bytes = b"") -> None:
        self._erasure_key = erasure_key

        self._created = Register()
        self._titles = Register()
        self._tags = Register()
        self._languages = Register()
        self._kinds = Register()
        self._spaces = Register()
        self._merges = Register()
        self._closed = Switch()
        self._deleted = Switch()

        self._posted = Register()
        self._lies_in = Register()
        self._reply_deleted = Switch()

        self._acceptances: list[tuple[Stamp, str, str]] = []
        self._unacceptances: list[tuple[int, str, str]] = []

        self._kudos_given = Register()
        self._kudos_revoked = Switch()

        self._member_records = Register()
        self._erased: set[str] = set()
        self._star_events: list[tuple[int, bool, str]] = []

        self._mentioned: set[str] = set()

        seen: dict[tuple[str, str], tuple[Any, ...]] = {}
        for event in events:
            name = (event["source"], event["id"])
            content = (event["type"], micros(event["time"]), event["data"])
            if seen.setdefault(name, content) != content:
                raise ValueError(f"two events are called {name}")
            self._read(event)

        self._topic_steps = dict(self._merges.items())
        self._member_steps = self._who_stands_for_whom()
        self._replies = self._all_replies()
        self.topics: dict[str, Topic] = self._all_topics()

    # Reading

    def _read(self, event: Mapping[str, Any]) -> None:
        time = micros(event["time"])
        stamp = (time, event["source"].encode(), event["id"].encode())
        read: Callable[[Stamp, Mapping[str, Any]], None] | None = getattr(
            self, "_on_" + event["type"].replace("-", "_"), None
        )
        if read is not None:
            read(stamp, event["data"])
            self._mentioned.update(
                event["data"][field] for field in ("topic_id", "into_topic_id") if field in event["data"]
            )

    def _on_topic_created(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        topic = data["topic_id"]
        self._created.write(
            topic, stamp, Creation(data["author_id"], data.get("author_kind", "member"), stamp[0], data.get("url"))
        )
        self._titles.write(topic, stamp, data.get("title"))
        self._tags.write(topic, stamp, data.get("tags"))
        self._languages.write(topic, stamp, data.get("language"))
        self._kinds.write(topic, stamp, data.get("kind"))
        self._spaces.write(topic, stamp, data.get("space"))

    def _on_topic_edited(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        for field, register in (
            ("title", self._titles),
            ("tags", self._tags),
            ("language", self._languages),
            ("kind", self._kinds),
        ):
            if field in data:
                register.write(data["topic_id"], stamp, data[field])

    def _on_topic_moved(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._spaces.write(data["topic_id"], stamp, data["space"])

    def _on_topic_merged(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._merges.write(data["topic_id"], stamp, data["into_topic_id"])

    def _on_topic_closed(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._closed.turn_on(data["topic_id"], stamp[0])

    def _on_topic_reopened(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._closed.turn_off(data["topic_id"], stamp[0])

    def _on_topic_deleted(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._deleted.turn_on(data["topic_id"], stamp[0])

    def _on_topic_restored(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._deleted.turn_off(data["topic_id"], stamp[0])

    def _on_reply_posted(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._posted.write(data["reply_id"], stamp, (stamp[0], dict(data)))
        self._lies_in.write(data["reply_id"], stamp, data["topic_id"])

    def _on_reply_moved(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._lies_in.write(data["reply_id"], stamp, data["topic_id"])

    def _on_reply_deleted(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._reply_deleted.turn_on(data["reply_id"], stamp[0])

    def _on_reply_restored(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._reply_deleted.turn_off(data["reply_id"], stamp[0])

    def _on_solution_accepted(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._acceptances.append((stamp, data["topic_id"], data["reply_id"]))

    def _on_solution_revoked(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._unacceptances.append((stamp[0], data["topic_id"], data["reply_id"]))

    def _on_kudos_given(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._kudos_given.write(data["kudos_id"], stamp, (stamp[0], data.get("reply_id"), data.get("giver_id")))
        self._kudos_revoked.turn_off(data["kudos_id"], stamp[0])

    def _on_kudos_revoked(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._kudos_revoked.turn_on(data["kudos_id"], stamp[0])

    def _on_member(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._member_records.write(data["member_id"], stamp, (data.get("status"), data.get("into_member_id")))
        if data.get("status") == "erased":
            self._erased.add(data["member_id"])

    _on_member_registered = _on_member
    _on_member_updated = _on_member
    _on_member_suspended = _on_member
    _on_member_reinstated = _on_member

    def _on_member_merged(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._on_member(stamp, {"status": "merged", **data})

    def _on_member_erased(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._erased.add(data["member_id"])

    def _on_star_appointed(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._star_events.append((stamp[0], True, data["member_id"]))

    def _on_star_retired(self, stamp: Stamp, data: Mapping[str, Any]) -> None:
        self._star_events.append((stamp[0], False, data["member_id"]))

    # Aliases

    def _who_stands_for_whom(self) -> dict[str, str]:
        steps: dict[str, str] = {}
        for member in self._member_records.things():
            into = None
            for _, (status, named) in self._member_records.history(member):
                # A merge holds until a later record says another status; one that says merged again may name nobody.
                into = (named or into) if status == "merged" else None
            if into is not None:
                steps[member] = into
        for member in self._erased:
            steps[member] = stand_in(self._erasure_key, member)
        return steps

    def member(self, member_id: str) -> str:
        """The id by which a member goes in the end: its own, a survivor's or a stand-in."""
        return follow(member_id, self._member_steps)

    def survivor(self, topic_id: str) -> str:
        """The topic that this one was merged into, in the end."""
        return follow(topic_id, self._topic_steps)

    def was_star(self, member_id: str, at: int) -> bool:
        """Whether a member, with all who stand for it, was a Star at an instant."""
        root = self.member(member_id)
        switch = Switch()
        appointed = False
        for time, is_appointment, who in self._star_events:
            if time <= at and self.member(who) == root:
                appointed = appointed or is_appointment
                (switch.turn_off if is_appointment else switch.turn_on)(root, time)
        return appointed and not switch.is_on(root)

    # Topics and replies

    def _all_replies(self) -> list[Reply]:
        return [
            Reply(
                reply_id=reply_id,
                topic_id=self._lies_in[reply_id],
                author_id=data["author_id"],
                author_kind=data.get("author_kind", "member"),
                public=data["visibility"] == "public",
                deleted=self._reply_deleted.is_on(reply_id),
                at=at,
            )
            for reply_id, (at, data) in self._posted.items()
        ]

    def _all_topics(self) -> dict[str, Topic]:
        groups: dict[str, set[str]] = {}
        for topic_id in self._mentioned:
            groups.setdefault(self.survivor(topic_id), set()).add(topic_id)
        replies: dict[str, list[Reply]] = {}
        for reply in self._replies:
            replies.setdefault(self.survivor(reply.topic_id), []).append(reply)
        acceptances: dict[str, list[tuple[Stamp, str]]] = {}
        for stamp, topic_id, reply_id in self._acceptances:
            acceptances.setdefault(self.survivor(topic_id), []).append((stamp, reply_id))
        return {
            root: self._topic(root, group | {root}, replies.get(root, []), acceptances.get(root, []))
            for root, group in groups.items()
        }

    def _topic(self, root: str, group: set[str], replies: list[Reply], acceptances: list[tuple[Stamp, str]]) -> Topic:
        known = root in self._created
        creations = [self._created[topic_id] for topic_id in group if topic_id in self._created] if known else []
        created_at = min((creation.at for creation in creations), default=0)
        askers = frozenset(self.member(creation.author_id) for creation in creations)
        return Topic(
            topic_id=root,
            known=known,
            deleted=self._deleted.is_on(root),
            closed=self._closed.is_on(root),
            kind=self._kinds[root],
            space=self._spaces[root],
            language=self._languages[root],
            title=self._titles[root],
            tags=tuple(self._tags[root] or ()),
            url=self._created[root].url if known else None,
            author_id=self.member(self._created[root].author_id) if known else None,
            created_at=created_at,
            askers=askers,
            merged=frozenset(group - {root}),
            first_response=self._first_response(created_at, askers, replies) if known else None,
            solution=self._solution(root, replies, acceptances) if known else None,
            replies=sum(1 for reply in replies if reply.seen) if known else 0,
        )

    def _first_response(self, created_at: int, askers: frozenset[str], replies: list[Reply]) -> FirstResponse | None:
        responses = [
            reply
            for reply in replies
            if reply.seen
            and reply.author_kind in PERSONS
            and self.member(reply.author_id) not in askers
            and reply.at >= created_at
        ]
        if not responses:
            return None
        first = min(responses, key=lambda reply: (reply.at, reply.reply_id.encode()))
        return FirstResponse(
            reply_id=first.reply_id,
            responder_id=self.member(first.author_id),
            responder_kind="star" if self.was_star(first.author_id, first.at) else first.author_kind,
            at=first.at,
            took=first.at - created_at,
        )

    def _solution(self, root: str, replies: list[Reply], acceptances: list[tuple[Stamp, str]]) -> Solution | None:
        if not acceptances:
            return None
        (at, _, _), accepted = max(acceptances)
        revoked = any(
            reply_id == accepted and self.survivor(topic_id) == root and time >= at
            for time, topic_id, reply_id in self._unacceptances
        )
        # `replies` holds only what lies in this topic: one that lies in another is not found.
        if revoked or not any(reply.reply_id == accepted and reply.seen for reply in replies):
            return None
        return Solution(accepted, at)

    def topic(self, topic_id: str) -> Topic | None:
        """A topic by its id or that of one merged into it; None if it is not known."""
        topic = self.topics.get(self.survivor(topic_id))
        return topic if topic is not None and topic.known else None

    # The promise

    def policy(self, topic: Topic, policies: Iterable[Policy] = DEFAULT_POLICIES) -> Policy:
        """The version in force when the topic was created, of the most specific scope that has one."""
        in_force = [
            policy for policy in policies if policy["from"] is None or micros(policy["from"]) <= topic.created_at
        ]
        for scope in (f"space:{topic.space}", f"language:{topic.language}", "all"):
            if scope in ("space:None", "language:None"):
                continue
            versions = [policy for policy in in_force if policy["scope"] == scope]
            if versions:
                versions.reverse()  # of two from the same instant the one further down the list is in force
                return max(versions, key=lambda policy: (policy["from"] is not None, micros(policy["from"] or 0)))
        raise ValueError("no policy is in force for everything")

    def target(self, topic: Topic, policies: Iterable[Policy] = DEFAULT_POLICIES) -> int:
        """How long a first response to this topic may take, in microseconds."""
        return int(self.policy(topic, policies)["target_seconds"] * SECOND)

    def report(
        self,
        policies: Iterable[Policy] = DEFAULT_POLICIES,
        space: str | None = None,
        language: str | None = None,
        from_: Instant | None = None,
        to: Instant | None = None,
        as_of: Instant | None = None,
        every: str | None = None,
    ) -> dict[str, Any]:
        """The answer of `GET /topics/api/sla`; without `every` the series is empty."""
        policies = list(policies)
        waits = [
            Wait(
                topic.created_at,
                topic.first_response.at if topic.first_response is not None else None,
                self.target(topic, policies),
            )
            for topic in self.topics.values()
            if topic.counts and space in (None, topic.space) and language in (None, topic.language)
        ]
        return report(waits, from_=from_, to=to, as_of=as_of, every=every)

    def state(self, topic: Topic, now: Instant, policies: Iterable[Policy] = DEFAULT_POLICIES) -> str | None:
        """deleted, closed, answered, breached or waiting, the first that fits; None for what no one waits for."""
        if topic.deleted:
            return "deleted"
        if topic.closed:
            return "closed"
        if topic.first_response is not None:
            return "answered"
        if topic.kind != "question":
            return None
        return "breached" if micros(now) > topic.created_at + self.target(topic, policies) else "waiting"

    def view(self, topic_id: str, now: Instant, policies: Iterable[Policy] = DEFAULT_POLICIES) -> dict[str, Any] | None:
        """What `GET /topics/api/topics/{id}` answers, but for stage, claim and timeline; None for 404."""
        topic = self.topic(topic_id)
        if topic is None:
            return None
        target = self.target(topic, policies)
        first, solution = topic.first_response, topic.solution
        return {
            "topic_id": topic.topic_id,
            "title": topic.title,
            "url": topic.url,
            "space": topic.space,
            "language": topic.language,
            "tags": list(topic.tags),
            "kind": topic.kind,
            "author_id": topic.author_id,
            "created_at": rfc3339(topic.created_at),
            "state": self.state(topic, now, policies),
            "due_at": rfc3339(topic.created_at + target),
            "first_response": None
            if first is None
            else {
                "reply_id": first.reply_id,
                "responder_id": first.responder_id,
                "at": rfc3339(first.at),
                "seconds": seconds(first.took),
                "within_target": first.took <= target,
            },
            "solution": None if solution is None else {"reply_id": solution.reply_id, "at": rfc3339(solution.at)},
            "replies": topic.replies,
        }

    def standing_first_responses(
        self, policies: Iterable[Policy] = DEFAULT_POLICIES, *, of_deleted_topics: bool = True
    ) -> dict[str, dict[str, Any]]:
        """By topic, the data of the first-response-recorded that stands in the end."""
        policies = list(policies)
        return {
            topic.topic_id: {
                "topic_id": topic.topic_id,
                "reply_id": topic.first_response.reply_id,
                "responder_id": topic.first_response.responder_id,
                "responder_kind": topic.first_response.responder_kind,
                "seconds": seconds(topic.first_response.took),
                "within_target": topic.first_response.took <= self.target(topic, policies),
                "topic_kind": topic.kind,
                "space": topic.space,
                "language": topic.language,
                "answered_at": rfc3339(topic.first_response.at),
            }
            for topic in self.topics.values()
            if topic.first_response is not None and (of_deleted_topics or not topic.deleted)
        }

    # Kudos

    def effective_kudos(self) -> list[Kudos]:
        """The kudos that count: one a giver and reply, the earliest; of anonymous ones each. The earliest first."""
        candidates: list[Kudos] = []
        replies = {reply.reply_id: reply for reply in self._replies}
        for kudos_id, (at, reply_id, giver_id) in self._kudos_given.items():
            reply = replies.get(reply_id)
            if reply is None or self._kudos_revoked.is_on(kudos_id):
                continue
            topic = self.topic(reply.topic_id)
            giver = None if giver_id is None else self.member(giver_id)
            receiver = self.member(reply.author_id)
            if topic is None or not topic.visible or not reply.seen or reply.author_kind == "bot" or giver == receiver:
                continue
            candidates.append(Kudos(kudos_id, topic.topic_id, reply.reply_id, giver, receiver, at))
        effective: list[Kudos] = []
        for kudos in sorted(candidates, key=lambda kudos: (kudos.at, kudos.kudos_id.encode())):
            again = any(other.giver_id == kudos.giver_id and other.reply_id == kudos.reply_id for other in effective)
            if kudos.giver_id is None or not again:
                effective.append(kudos)
        return effective

    # Everything

    def summary(self, now: Instant, policies: Iterable[Policy] = DEFAULT_POLICIES) -> dict[str, Any]:
        """All that must be equal however the events came: every known topic, every standing fact, every kudos."""
        policies = list(policies)
        return {
            "topics": {
                topic.topic_id: self.view(topic.topic_id, now, policies)
                for topic in self.topics.values()
                if topic.known
            },
            "first_responses": self.standing_first_responses(policies),
            "kudos": [
                {
                    "kudos_id": kudos.kudos_id,
                    "topic_id": kudos.topic_id,
                    "reply_id": kudos.reply_id,
                    "giver_id": kudos.giver_id,
                    "receiver_id": kudos.receiver_id,
                    "at": rfc3339(kudos.at),
                }
                for kudos in self.effective_kudos()
            ],
            "report": self.report(policies, as_of=now, every="day"),
        }
