"""One topic from its first word to its last, as a list of what happens when. Plain functions of a random generator."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from deploy.demo import titles
from deploy.demo.people import BOT_SINCE, GAMING_SINCE, Cast, Member, poisson
from deploy.demo.titles import LOUNGE

TARGET_HOURS = 48.0
LONGEST = timedelta(days=60)
"""Nothing happens to a topic after this."""
CLAIM = "claim"
"""The one happening that the forum knows nothing of: a Star takes a question on."""
SITE = "https://community.example.org"

SPACES = {
    "Mobile & Devices": (24, -0.005),
    "Accounts & Billing": (20, -0.055),
    "Your Library": (18, 0.02),
    "Premium": (14, -0.01),
    "Desktop": (10, 0.04),
    "Other": (6, 0.01),
    LOUNGE: (8, 0.0),
}
"""Space -> its share in a hundred, and how its attainment differs."""
OF_LANGUAGE = {"en": 0.01, "es": -0.01, "pt-BR": -0.025, "de": 0.0, "sv": 0.015}


@dataclass(frozen=True, order=True)
class Happening:
    """Something that the forum tells of. ``name`` is the event's id, unique within the demo."""

    at: datetime
    name: str
    type: str = field(compare=False)
    data: dict[str, Any] = field(compare=False)
    waits_until: datetime | None = field(default=None, compare=False)
    """Of a topic-created of a question, and of a claim: when it is answered, closed or gone."""


@dataclass(frozen=True)
class Start:
    """How a topic begins. ``haste`` makes everything that follows come so many times sooner."""

    id: str
    at: datetime
    author: Member
    haste: float = 1.0
    earlier: tuple[str, ...] = ()
    """Topics of the same space and language to which it may turn out to be a duplicate."""


@dataclass(frozen=True)
class Climate:
    """How it stands with the forum at an instant: the share answered in time, the median wait in hours."""

    attainment: float
    median_hours: float


Passers = Callable[[Random, datetime], Member]
"""Somebody who comes along at an instant: gives kudos, says "me too"."""


def space_of(rng: Random, *, talk: bool = True) -> str:
    """Where a topic begins; without ``talk`` it is a question."""
    shares = {space: share for space, (share, _) in SPACES.items() if talk or space != LOUNGE}
    return rng.choices(list(shares), list(shares.values()))[0]


class Life:
    """Makes up one topic's life."""

    def __init__(self, rng: Random, cast: Cast, start: Start, space: str, climate: Climate, passers: Passers) -> None:
        self._rng, self._cast, self._start, self._climate, self._passers = rng, cast, start, climate, passers
        self._space, self._language = space, start.author.language
        self._found: list[Happening] = []
        self._ref = {"topic_id": start.id}
        self._names: Counter[str] = Counter()
        self._replies = 0
        self._waits_until: datetime | None = None

    def happenings(self) -> list[Happening]:
        """All of it, in order."""
        start, rng = self._start, self._rng
        question = self._space != LOUNGE
        title, tags = titles.invent(rng, self._space, self._language)
        asked_in = "Other" if question and rng.random() < 0.04 else self._space
        if not question:
            self._talk()
        elif not self._odd_end():
            self._answered()
        self._found = [one for one in self._found if one.at <= start.at + LONGEST]
        if asked_in != self._space:
            self._say(start.at + self._after(3), "topic-moved", space=self._space)
        if rng.random() < 0.03:
            self._edited(title, tags)
        data = {
            **self._ref,
            "author_id": start.author.id,
            "author_kind": "member",
            "title": title,
            "space": asked_in,
            "tags": tags,
            "language": self._language,
            "kind": "question" if question else "discussion",
            "url": f"{SITE}/t/{start.id}",
        }
        ends = [self._waits_until] if self._waits_until else []
        ends += [one.at for one in self._found if one.type in ("topic-closed", "topic-deleted", "topic-merged")]
        waits = min(ends, default=None) if question else start.at
        created = Happening(start.at, f"topic-created/{start.id}", "topic-created", data, waits)
        return [created, *sorted(self._found)]

    # --- what becomes of it ---------------------------------------------------------------------------------------

    def _odd_end(self) -> bool:
        """Spam is deleted, a duplicate is merged; True where that is all there is to tell."""
        rng, start = self._rng, self._start
        dice = rng.random()
        if dice < 0.022:
            gone = start.at + self._after(2)
            self._say(gone, "topic-deleted")
            if rng.random() > 0.2:
                return True
            self._say(gone + self._after(5), "topic-restored")
        elif dice < 0.036 and start.earlier:
            self._say(start.at + self._after(4), "topic-merged", into_topic_id=rng.choice(start.earlier))
            return rng.random() < 0.7
        return False

    def _answered(self) -> None:
        rng, start = self._rng, self._start
        difference = SPACES[self._space][1] + OF_LANGUAGE[self._language]
        in_time = rng.random() < min(self._climate.attainment + difference, 0.985)
        if in_time:
            hours = self._wait()
        elif rng.random() < 0.5:
            hours = min(TARGET_HOURS + 0.2 + rng.expovariate(1 / 40), 24 * 25)
        else:
            hours = math.inf
        # Haste makes no late answer one in time.
        at = start.at + timedelta(hours=hours / (start.haste if in_time else 1)) if hours < math.inf else None
        helper = self._helper(at, set()) if at else None
        if at is None or helper is None:
            self._meanwhile(start.at + timedelta(hours=TARGET_HOURS * 2))
            self._forgotten()
            return
        self._meanwhile(at)
        self._waits_until = at
        if helper.id in self._cast.stars_at(at) and rng.random() < 0.6:
            claimed = max(start.at + (at - start.at) * 0.3, at - timedelta(minutes=rng.uniform(20, 230)))
            self._found.append(
                Happening(claimed, f"claim/{start.id}", CLAIM, {**self._ref, "member_id": helper.id}, at)
            )
        self._conversation(at, helper)

    def _wait(self) -> float:
        """Hours until an answer that comes in time."""
        mean = math.log(self._climate.median_hours)
        for _ in range(8):
            if (hours := self._rng.lognormvariate(mean, 1.4)) < TARGET_HOURS:
                return max(hours, 0.02)
        return self._rng.uniform(10, TARGET_HOURS - 1)

    def _helper(self, at: datetime, but: set[str]) -> Member | None:
        """Who answers first: the company's people now and then, above all where money is concerned."""
        chance = 0.22 if self._space == "Accounts & Billing" else 0.07
        if self._rng.random() < chance:
            return self._cast.staff_for(self._rng, self._language)
        found = self._cast.answers(self._rng, self._language, self._space, at, but | {self._start.author.id})
        return found.member if found else None

    def _meanwhile(self, answer_at: datetime) -> None:
        """What is said before the answer, and does not count as one."""
        rng, start = self._rng, self._start
        if start.at > self._cast.began - BOT_SINCE and rng.random() < 0.22:
            self._reply(rng.choice(self._cast.bots), start.at + timedelta(seconds=rng.uniform(2, 50)))
        waiting = answer_at - start.at
        if rng.random() < 0.03:
            staff = self._cast.staff_for(rng, self._language)
            self._reply(staff, start.at + waiting * rng.uniform(0.1, 0.9), visibility="internal")
        if waiting > timedelta(hours=9) and rng.random() < 0.25:
            self._reply(start.author, start.at + waiting * rng.uniform(0.4, 0.95))
        if rng.random() < 0.008:
            # Somebody answered beside the point, and a moderator took it away: the clock runs on.
            early = self._reply(self._passers(rng, start.at), start.at + waiting * rng.uniform(0.1, 0.8))
            self._say(answer_at + self._after(3), "reply-deleted", early)

    def _forgotten(self) -> None:
        """Nobody answers; after a month it is closed."""
        self._say(self._start.at + timedelta(days=30, minutes=self._rng.uniform(0, 300)), "topic-closed")

    def _conversation(self, at: datetime, helper: Member) -> None:
        rng, start = self._rng, self._start
        first = self._reply(helper, at)
        answers = [(first, helper, at)]
        self._kudos(first, helper, at)
        if rng.random() < 0.42:
            at += self._after(3)
            self._reply(start.author, at)
            if rng.random() < 0.5:
                at += self._after(3)
                answers.append((self._reply(helper, at), helper, at))
        while rng.random() < 0.3:
            at += self._after(8)
            more = self._cast.answers(rng, self._language, self._space, at, {start.author.id})
            if more:
                reply = self._reply(more.member, at)
                answers.append((reply, more.member, at))
                self._kudos(reply, more.member, at)
        if rng.random() < 0.01:
            self._crowd(at)
        if rng.random() < 0.025:
            self._game(at)
        if rng.random() < 0.012:
            reply, _, posted = rng.choice(answers)
            gone = posted + self._after(10)
            self._say(gone, "reply-deleted", reply)
            if rng.random() < 0.4:
                self._say(gone + self._after(8), "reply-restored", reply)
        elif rng.random() < 0.46:
            self._accepted(answers)
        if rng.random() < 0.05:
            closed = at + timedelta(days=rng.uniform(5, 28))
            self._say(closed, "topic-closed")
            if rng.random() < 0.15:
                self._say(closed + self._after(30), "topic-reopened")
        if rng.random() < 0.1:
            self._kudos_from(self._passers(rng, start.at), None, start.at + self._after(10))

    def _accepted(self, answers: list[tuple[str, Member, datetime]]) -> None:
        rng = self._rng
        reply, _, posted = answers[0] if rng.random() < 0.7 else rng.choice(answers)
        at = posted + self._after(7)
        self._say(at, "solution-accepted", reply, accepted_by=self._start.author.id)
        if rng.random() < 0.5:
            self._kudos_from(self._start.author, reply, at + timedelta(seconds=rng.uniform(3, 90)))
        dice = rng.random()
        if dice < 0.015:
            self._say(at + self._after(20), "solution-revoked", reply)
        elif dice < 0.03 and len(answers) > 1:
            other, _, other_posted = answers[-1]
            if other != reply:
                self._say(max(at, other_posted) + self._after(9), "solution-accepted", other)

    def _crowd(self, at: datetime) -> None:
        """Many have the same trouble, and say so."""
        for _ in range(min(int(4 * self._rng.paretovariate(1.1)), 60)):
            at += self._after(2)
            self._reply(self._passers(self._rng, at), at)

    def _game(self, at: datetime) -> None:
        """One of the ring says a word of no use, and the others applaud within minutes."""
        if at < self._cast.began - GAMING_SINCE:
            return
        at += self._after(1)
        author, *others = self._rng.sample(self._cast.gamers, len(self._cast.gamers))
        reply = self._reply(author, at)
        for other in others:
            at += timedelta(seconds=self._rng.uniform(15, 200))
            self._kudos_from(other, reply, at)

    def _talk(self) -> None:
        rng, at = self._rng, self._start.at
        for _ in range(min(int(rng.paretovariate(0.9)), 30)):
            at += self._after(5)
            if rng.random() < 0.4:
                helper = self._cast.answers(rng, self._language, self._space, at, set())
                author = helper.member if helper else self._start.author
            else:
                author = self._passers(rng, at)
            reply = self._reply(author, at)
            if rng.random() < 0.3:
                self._kudos_from(self._passers(rng, at), reply, at + self._after(6))

    def _edited(self, title: str, tags: list[str]) -> None:
        at = self._start.at + self._after(4)
        dice = self._rng.random()
        if dice < 0.5:
            better = title[0].upper() + title[1:]
            self._say(at, "topic-edited", title=better.removesuffix(", any ideas?").removesuffix(" – please help"))
        elif dice < 0.85:
            self._say(at, "topic-edited", tags=[*tags, "needs-info"])
        else:
            self._say(at, "topic-edited", kind="discussion")

    # --- words ----------------------------------------------------------------------------------------------------

    def _after(self, hours: float) -> timedelta:
        """Some time, so many hours in the mean; at least a few seconds."""
        spread = self._rng.expovariate(1) * hours * 3600 / self._start.haste
        return timedelta(seconds=spread + self._rng.uniform(4, 40))

    def _say(self, at: datetime, type: str, reply_id: str | None = None, **more: Any) -> None:
        data = self._ref | ({"reply_id": reply_id} if reply_id else {}) | more
        name = f"{type}/{more.get('kudos_id') or reply_id or self._start.id}"
        self._names[name] += 1
        again = f"/{self._names[name]}" if self._names[name] > 1 else ""
        self._found.append(Happening(at, name + again, type, data))

    def _reply(self, author: Member, at: datetime, visibility: str = "public") -> str:
        self._replies += 1
        reply_id = f"{self._start.id}.{self._replies}"
        self._say(at, "reply-posted", reply_id, author_id=author.id, author_kind=author.kind, visibility=visibility)
        return reply_id

    def _kudos(self, reply_id: str, author: Member, at: datetime) -> None:
        """What others think of a reply; good helpers get more."""
        for _ in range(poisson(self._rng, self._cast.skills.get(author.id, 0.5) * 1.3)):
            self._kudos_from(self._passers(self._rng, at), reply_id, at + self._after(14))

    def _kudos_from(self, giver: Member, reply_id: str | None, at: datetime) -> None:
        number = sum(one.type == "kudos-given" for one in self._found) + 1
        kudos_id = f"{self._start.id}.k{number}"
        who = {} if self._rng.random() < 0.05 else {"giver_id": giver.id}
        self._say(at, "kudos-given", reply_id, kudos_id=kudos_id, **who)
        if self._rng.random() < 0.015:
            self._say(at + self._after(2), "kudos-revoked", reply_id, kudos_id=kudos_id, **who)
