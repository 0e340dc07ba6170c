"""Who is in the forum: a cast that answers, and those who come with a question. All of it follows from the seed."""

import math
import re
import unicodedata
from bisect import bisect
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import Literal, TypeVar

from deploy.demo import names
from deploy.demo.titles import LOUNGE, subjects

T = TypeVar("T")
Kind = Literal["member", "staff", "bot"]
LANGUAGES = {"en": 51, "es": 18, "pt-BR": 13, "de": 10, "sv": 8}
"""Language of the forum -> its share in a hundred."""

STARS, HELPERS, GAMERS, STAFF = 60, 320, 4, 10
BOTS = (("bot-answers", "Answer Bot"), ("bot-welcome", "Welcome Bot"), ("bot-status", "Status Bot"))
BOT_SINCE = timedelta(weeks=60)
"""How long before the beginning of the demo the first bot answered."""
GAMING_SINCE = timedelta(weeks=34)
PROGRAMME = timedelta(weeks=101)
"""How long before the beginning the first Stars were appointed."""


@dataclass(frozen=True)
class Member:
    """An account."""

    id: str
    name: str
    language: str
    locale: str
    zone: str
    joined_at: datetime
    kind: Kind = "member"
    languages: tuple[str, ...] = ()

    @property
    def email(self) -> str | None:
        """An address that leads nowhere (RFC 2606); a bot has none."""
        if self.kind == "bot":
            return None
        plain = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode().lower()
        return f"{re.sub(r'[^a-z0-9]+', '.', plain).strip('.') or 'member'}.{self.id}@example.org"


@dataclass(frozen=True)
class Helper:
    """A member who answers. ``weight`` says how much, ``skill`` how well."""

    member: Member
    weight: float
    skill: float
    spaces: frozenset[str]
    until: datetime
    appointed_at: datetime | None = None
    retired_at: datetime | None = None

    def activity(self, at: datetime) -> float:
        """How much of all answers at an instant is theirs, as a weight."""
        if not self.member.joined_at <= at < self.until:
            return 0
        return self.weight * (3.5 if self.star(at) else 1)

    def star(self, at: datetime) -> bool:
        """Whether they are a Star then."""
        if self.appointed_at is None or at < self.appointed_at:
            return False
        return self.retired_at is None or at < self.retired_at


def invent(rng: Random, id: str, language: str, joined_at: datetime, kind: Kind = "member") -> Member:
    """A member with a name such as people choose in forums."""
    first, last = rng.choice(names.FIRST[language]), rng.choice(names.LAST[language])
    word, creature, year = rng.choice(names.HANDLES), rng.choice(names.CREATURES), rng.randrange(61, 108) % 100
    styles = (
        (f"{first} {last}", 26),
        (f"{first} {last[0]}.", 12),
        (f"{first}{year:02}", 9),
        (f"{first.lower()}.{last.lower()}", 9),
        (f"{first[0].lower()}{last.lower()}", 6),
        (f"{word.title()}{creature.title()}", 9),
        (f"{word}_{creature}", 7),
        (f"{word.title()}{first}", 7),
        (f"{first}_{word}", 6),
        (f"{creature}{year:02}", 5),
        (f"{first}", 4),
    )
    name = f"{first} (Team)" if kind == "staff" else _pick(rng, dict(styles))
    locale, zone = _pick(rng, {(locale, zone): weight for locale, zone, weight in names.PLACES[language]})
    languages = [language]
    if language != "en" and rng.random() < 0.6:
        languages.append("en")
    return Member(id, name, language, locale, zone, joined_at, kind, tuple(languages))


def _pick(rng: Random, weights: dict[T, int]) -> T:
    return rng.choices(list(weights), list(weights.values()))[0]


@dataclass
class Cast:
    """Those who answer. ``began`` is the instant of the demo's first start: the forum's story leads up to it."""

    seed: int
    began: datetime
    _weights: dict[tuple[str, int], tuple[list[Helper], list[float]]] = field(default_factory=dict)

    @cached_property
    def helpers(self) -> list[Helper]:
        """Stars (``u1`` to ``u60``), then those who answer now and then; the first of them answer most."""
        rng = Random(f"{self.seed} helpers")
        return [self._helper(rng, n) for n in range(1, STARS + HELPERS + 1)]

    def _helper(self, rng: Random, n: int) -> Helper:
        star = n <= STARS
        language = _pick(rng, LANGUAGES) if n > len(LANGUAGES) else list(LANGUAGES)[n - 1]
        weight = min(0.25 * rng.paretovariate(1.05), 5)
        appointed_at = retired_at = None
        until = datetime.max.replace(tzinfo=UTC)
        if star:
            # A few in the first months, then more and more.
            appointed_at = (
                self.began - PROGRAMME * (1 - n / (STARS + 1)) ** 1.25 - timedelta(hours=rng.randrange(5, 60))
            )
            joined_at = appointed_at - timedelta(days=rng.uniform(100, 900))
            weight = max(weight, 1.0)
            if n % 11 == 7 and appointed_at < self.began - timedelta(days=300):
                retired_at = self.began - timedelta(days=rng.uniform(20, 200))
                until = retired_at + timedelta(days=rng.uniform(0, 15))
        else:
            joined_at = self.began - timedelta(days=rng.uniform(20, 1500))
            if rng.random() < 0.55:  # most go again
                until = joined_at + timedelta(days=rng.lognormvariate(5.4, 0.9))
        member = invent(rng, f"u{n}", language, joined_at)
        spaces = [space for space in subjects() if space != LOUNGE]
        known = frozenset(rng.sample(spaces, rng.choice((1, 2, 2, 3))))
        return Helper(member, weight, rng.betavariate(5, 3), known, until, appointed_at, retired_at)

    @cached_property
    def skills(self) -> dict[str, float]:
        """How well each of them answers, by id."""
        return {one.member.id: one.skill for one in self.helpers}

    def stars_at(self, at: datetime) -> frozenset[str]:
        """The ids of those who are Stars at an instant."""
        return frozenset(one.member.id for one in self.helpers[:STARS] if one.star(at))

    @cached_property
    def gamers(self) -> list[Member]:
        """Members who give each other kudos for replies that say little."""
        rng = Random(f"{self.seed} gamers")
        since = self.began - GAMING_SINCE
        first = STARS + HELPERS + 1
        return [invent(rng, f"u{first + n}", "en", since - timedelta(days=rng.uniform(1, 9))) for n in range(GAMERS)]

    @cached_property
    def staff(self) -> list[Member]:
        """The company's people: ``staff-1`` and so on."""
        rng = Random(f"{self.seed} staff")
        languages = ("en", "es", "pt-BR", "de", "sv")
        return [
            invent(
                rng, f"staff-{n + 1}", languages[n % 5], self.began - timedelta(days=rng.uniform(1000, 2400)), "staff"
            )
            for n in range(STAFF)
        ]

    @cached_property
    def bots(self) -> list[Member]:
        """Programs that answer at once, and never count."""
        since = self.began - BOT_SINCE - timedelta(days=1)
        return [Member(id, name, "en", "en-US", "UTC", since, "bot", ("en",)) for id, name in BOTS]

    def members(self) -> list[Member]:
        """All of them, in the order of their joining."""
        everyone = [helper.member for helper in self.helpers] + self.gamers + self.staff + self.bots
        return sorted(everyone, key=lambda member: member.joined_at)

    def appointments(self) -> list[tuple[datetime, Member, bool]]:
        """When somebody became a Star (True) or is one no more, in order."""
        found = [(one.appointed_at, one.member, True) for one in self.helpers if one.appointed_at]
        found += [(one.retired_at, one.member, False) for one in self.helpers if one.retired_at]
        return sorted(found, key=lambda change: change[0])

    def answers(self, rng: Random, language: str, space: str, at: datetime, but: set[str]) -> Helper | None:
        """Somebody who answers in a language at an instant; rather one who knows the space."""
        month = (at - self.began).days // 30
        if (language, month) not in self._weights:
            start = self.began + timedelta(days=30 * month)
            found = [(one, one.activity(start)) for one in self.helpers if language in one.member.languages]
            active = [(one, weight) for one, weight in found if weight]
            self._weights[language, month] = [one for one, _ in active], list(accumulate(w for _, w in active))
        helpers, sums = self._weights[language, month]
        chosen = None
        for _ in range(3 if helpers else 0):
            one = helpers[min(bisect(sums, rng.random() * sums[-1]), len(helpers) - 1)]
            if one.member.id in but or not one.activity(at):
                continue
            chosen = one
            if space in one.spaces:
                break
        return chosen

    def staff_for(self, rng: Random, language: str) -> Member:
        """Somebody of the company who speaks a language."""
        return rng.choice([one for one in self.staff if one.language == language])


def poisson(rng: Random, mean: float) -> int:
    """A number of independent happenings (Knuth's way, in pieces that stay well above the smallest float)."""
    count = 0
    while mean > 0:
        piece, product = min(mean, 50.0), rng.random()
        floor = math.exp(-piece)
        while product > floor:
            count += 1
            product *= rng.random()
        mean -= piece
    return count
