"""A forum that never rests: seeded random, valid envelopes, in an order that no forum would guarantee."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.oracle.envelopes import Event, envelope, key_of, member_data
from tests.oracle.figures import SECOND, micros, rfc3339

HOUR = 3600 * SECOND
SPACES = ("help", "beer", "Garten", "läden")
LANGUAGES = ("en", "de", "pt-BR", None)
KINDS = ("question", "question", "question", "question", "discussion")
LATELY = 150
"""Most of what happens is about one of so many topics, the latest ones."""

WEIGHTS = {
    "topic-created": 18,
    "reply-posted": 40,
    "reply-deleted": 6,
    "reply-restored": 4,
    "reply-moved": 3,
    "topic-deleted": 3,
    "topic-restored": 2,
    "topic-closed": 2,
    "topic-reopened": 1.5,
    "topic-edited": 3,
    "topic-moved": 3,
    "topic-merged": 1.5,
    "solution-accepted": 3,
    "solution-revoked": 1,
    "kudos-given": 8,
    "kudos-revoked": 2,
    "member-registered": 1.5,
    "member-updated": 1,
    "member-merged": 0.5,
    "member-erased": 0.3,
    "star-appointed": 1,
    "star-retired": 0.5,
}


def record_of(event: Event) -> tuple[bytes, bytes]:
    """The key and value of an event, as the forum's side of Kafka writes them."""
    return key_of(event).encode(), json.dumps(event, ensure_ascii=False).encode()


class Life:
    """Tells one thing after another. What it told counts, in whatever order and however often it arrives."""

    def __init__(self, rng: Random, name: str = "") -> None:
        self._rng, self._name = rng, name
        self._number = 0
        self._topics: list[tuple[str, int]] = []
        self._replies: list[tuple[str, str, int]] = []
        self._kudos: list[tuple[dict[str, Any], int]] = []
        self._members = [f"{name}m{n}{'éｚ😀'[n % 3] if n % 7 == 0 else ''}" for n in range(160)]
        self._late: list[tuple[int, Event]] = []
        self._times: list[int] = []

    def more(self, count: int) -> list[Event]:
        """What arrives next: some of it is late, some comes again at once."""
        arriving: list[Event] = []
        for _ in range(count):
            event = self._one()
            if self._rng.random() < 0.15:
                self._late.append((self._number + self._rng.randrange(1, 300), event))
            else:
                arriving += [event] * (2 if self._rng.random() < 0.02 else 1)
            due = [pair for pair in self._late if pair[0] <= self._number]
            if due:
                self._late = [pair for pair in self._late if pair[0] > self._number]
                arriving += [late for _, late in due]
        return arriving

    def rest(self) -> list[Event]:
        """What is still on its way."""
        left = [event for _, event in self._late]
        self._late = []
        self._rng.shuffle(left)
        return left

    def event(self, type_: str, time: int, data: dict[str, Any], *, backfill: bool = False) -> Event:
        """One envelope; its id follows nothing."""
        self._number += 1
        source = "/applications" if type_.startswith("star-") else "/forum/chaos"
        id_ = f"{self._name}{'eEé'[self._number % 3]}{self._number}"
        return envelope(type_, rfc3339(time), data, id_=id_, source=source, backfill=backfill)

    def _one(self) -> Event:
        type_ = self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if type_ != "topic-created" and len(self._replies) < 5:
            type_ = "topic-created" if len(self._topics) < 5 else "reply-posted"
        if type_.startswith(("member-", "star-")):
            return self._about_a_member(type_)
        if type_.startswith(("reply-", "solution-", "kudos-")):
            return self._about_a_reply(type_)
        return self._about_a_topic(type_)

    def _about_a_topic(self, type_: str) -> Event:
        rng = self._rng
        data: dict[str, Any]
        if type_ == "topic-created":
            # One in fifty is told again, with something else in it.
            known = bool(self._topics) and rng.random() < 0.02
            topic_id = self._topic()[0] if known else f"{self._name}t{len(self._topics)}{'Zé😀'[len(self._topics) % 3]}"
            at = _now() - int(rng.expovariate(1 / (72 * HOUR))) - rng.randrange(SECOND)
            if not known:
                self._topics.append((topic_id, at))
            data = {
                "topic_id": topic_id,
                "author_id": self._member(),
                "author_kind": rng.choice(("member", "member", "member", "staff", "bot")),
                "title": rng.choice(("Why?", "Wie denn?", "Where did my 🎧 go?")),
                "space": rng.choice(SPACES),
                "tags": rng.sample(("foam", "malt", "Öl"), rng.randrange(3)),
                "kind": rng.choice(KINDS),
                "url": f"https://forum.example/t/{len(self._topics)}",
            }
            if language := rng.choice(LANGUAGES):
                data["language"] = language
            return self.event(type_, at, data, backfill=rng.random() < 0.1)
        topic_id, at = self._topic()
        data = {"topic_id": topic_id}
        if type_ == "topic-edited":
            data |= rng.choice(
                ({"title": "Really why?"}, {"tags": ["hops"]}, {"language": "de"}, {"kind": rng.choice(KINDS)})
            )
        elif type_ == "topic-moved":
            data["space"] = rng.choice(SPACES)
        elif type_ == "topic-merged":
            into = self._topic()[0]
            data["into_topic_id"] = into if into != topic_id else f"{self._name}never"
        return self.event(type_, self._after(at), data)

    def _about_a_reply(self, type_: str) -> Event:
        rng = self._rng
        if type_ == "reply-posted":
            topic_id, at = self._topic()
            reply_id = f"{self._name}r{len(self._replies)}{'öＲ🙂'[len(self._replies) % 3]}"
            when = self._after(at)
            self._replies.append((topic_id, reply_id, when))
            data = {
                "topic_id": topic_id,
                "reply_id": reply_id,
                "author_id": self._member(),
                "author_kind": rng.choice(("member", "member", "member", "staff", "bot")),
                "visibility": rng.choice(("public", "public", "public", "internal")),
            }
            return self.event(type_, when, data, backfill=rng.random() < 0.1)
        topic_id, reply_id, at = self._replies[-1 - min(int(rng.expovariate(1 / 200)), len(self._replies) - 1)]
        data = {"topic_id": topic_id, "reply_id": reply_id}
        if type_ == "reply-moved":
            data |= {"topic_id": self._topic()[0], "from_topic_id": topic_id}
        elif type_ == "kudos-revoked" and self._kudos:
            data, at = self._kudos[-1 - min(int(rng.expovariate(1 / 50)), len(self._kudos) - 1)]
        elif type_.startswith("kudos-"):
            type_, data["kudos_id"] = "kudos-given", f"{self._name}k{self._number}"
            if rng.random() < 0.8:
                data["giver_id"] = self._member()
            self._kudos.append((data, at))
        return self.event(type_, self._after(at), data)

    def _about_a_member(self, type_: str) -> Event:
        at = _now() - self._rng.randrange(20 * 24) * HOUR - self._rng.randrange(SECOND)
        member_id = self._member()
        if type_ in ("member-erased", "star-appointed", "star-retired"):
            return self.event(type_, at, {"member_id": member_id})
        if type_ == "member-merged":
            into = self._member()
            into = into if into != member_id else f"{self._name}nobody"
            return self.event(type_, at, member_data(member_id, "merged", into))
        return self.event(type_, at, member_data(member_id, "active"))

    def _topic(self) -> tuple[str, int]:
        return self._topics[-1 - min(int(self._rng.expovariate(1 / LATELY)), len(self._topics) - 1)]

    def _member(self) -> str:
        return self._rng.choice(self._members)

    def _after(self, at: int) -> int:
        """Mostly later, now and then before, never in the future; some instants are used twice."""
        rng = self._rng
        if self._times and rng.random() < 0.03:
            return rng.choice(self._times[-50:])
        when = at + int(rng.expovariate(1 / (20 * HOUR))) - (HOUR if rng.random() < 0.05 else 0)
        when = min(when, _now() - rng.randrange(SECOND))
        self._times.append(when)
        return when


def _now() -> int:
    return micros(datetime.now(UTC))
