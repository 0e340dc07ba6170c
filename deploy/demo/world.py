"""The forum of the demo: everything that ever happens there, in order, as a pure function of a seed and two instants.

The instant at which the demo began is the middle of its world: two and a half years lead up to it, with growth and a
promise that is kept better and better, and time goes on from it at the same pace. While somebody watches (a session)
the forum is livelier, so that pages are seen to change.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from heapq import heappop, heappush, merge
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from deploy.demo.life import LONGEST, Climate, Happening, Life, Start, space_of
from deploy.demo.people import LANGUAGES, Cast, Member, invent, poisson

HISTORY = timedelta(weeks=130)
"""Two years, and half a year before them to compare with."""
TWO_YEARS = timedelta(weeks=104)
GROWTH = 4.0
"""How many times as many questions as two years before: up 300%."""
TOPICS_A_DAY = 26.0
"""When the demo begins."""
NEWCOMERS = 0.33
"""New members a topic."""

ATTAINMENT = (0.7, 0.92)
MEDIAN_HOURS = (18.0, 8.5)
"""Two years before the beginning, and now."""
OUTAGES = ((430, 2.0, -0.12), (250, 3.0, -0.25), (120, 1.6, -0.06))
"""Days before the beginning, how many times the usual questions came, what it cost in attainment for a week."""

WEEKDAYS = (1.09, 1.06, 1.03, 1.0, 0.95, 0.9, 0.97)
HOURS = (30, 18, 10, 7, 6, 9, 18, 34, 48, 56, 60, 63, 66, 64, 64, 67, 74, 84, 92, 98, 100, 94, 76, 50)
"""How much is asked in each hour of the asker's own day."""

HASTE = 120.0
"""How many times sooner everything comes to topics that begin while somebody watches; all of them are questions."""


@dataclass(frozen=True)
class Session:
    """A time in which the demo ran; ``end`` is None for the one that runs."""

    start: datetime
    end: datetime | None = None


@dataclass
class World:
    """The same seed and beginning are the same world, to the last kudos."""

    seed: int
    began: datetime
    _days: dict[date, list[Member]] = field(default_factory=dict)

    @cached_property
    def cast(self) -> Cast:
        """Those who answer."""
        return Cast(self.seed, self.began)

    @cached_property
    def starts(self) -> datetime:
        """The forum's first day."""
        return datetime.combine((self.began - HISTORY).date(), time(), UTC)

    def happenings(self, after: datetime | None = None, sessions: Iterable[Session] = ()) -> Iterator[Happening]:
        """What happens after an instant (None: all there ever was), in order and without end."""
        since = self.starts if after is None else max(self.starts, after - LONGEST)
        lives = merge(
            ([registered(member)] for member in self.cast.members()),
            self._days_from(since.date()),
            *(self._session(n, one) for n, one in enumerate(sessions)),
            key=lambda life: life[0].at,
        )
        waiting: list[Happening] = []
        for life in lives:
            while waiting and waiting[0].at <= life[0].at:
                yield heappop(waiting)
            for one in life:
                if after is None or one.at > after:
                    heappush(waiting, one)

    # --- who comes ------------------------------------------------------------------------------------------------

    def newcomers(self, day: date) -> list[Member]:
        """The members who join on a day."""
        if day not in self._days:
            rng = Random(f"{self.seed} newcomers {day}")
            midnight = datetime.combine(day, time(), UTC)
            found = []
            for n in range(poisson(rng, self._topics(midnight) * NEWCOMERS)):
                language = rng.choices(list(LANGUAGES), list(LANGUAGES.values()))[0]
                at = midnight + timedelta(seconds=rng.random() * 86_400)
                found.append(invent(rng, f"m{_number(day)}-{n + 1}", language, at))
            self._days[day] = sorted(found, key=lambda member: member.joined_at)
        return self._days[day]

    def passer(self, rng: Random, at: datetime) -> Member:
        """Somebody who is around at an instant: a third came lately, the others some time ago."""
        mean = 2 if rng.random() < 0.35 else 220
        day = at.date() - timedelta(days=int(rng.expovariate(1 / mean)))
        first = self.starts.date()
        while day >= first:
            among = [member for member in self.newcomers(day) if member.joined_at < at]
            if among:
                return rng.choice(among)
            day -= timedelta(days=1)
        return rng.choice([one.member for one in self.cast.helpers if one.member.joined_at < at])

    # --- how it stands --------------------------------------------------------------------------------------------

    def _topics(self, at: datetime) -> float:
        """Topics to be expected on the day that begins at an instant."""
        grown: float = GROWTH ** ((at - self.began) / TWO_YEARS)
        season = 1 + 0.1 * math.cos((at.timetuple().tm_yday - 5) / 365.25 * math.tau)
        usual = TOPICS_A_DAY * grown * season * WEEKDAYS[at.weekday()]
        days = (self.began - at).days
        return usual * max((many for day, many, _ in OUTAGES if day - 2 <= days <= day), default=1.0)

    def climate(self, at: datetime) -> Climate:
        """How well questions are answered that are asked at an instant."""
        way = min(max(1 + (at - self.began) / TWO_YEARS, 0.0), 1.0)
        days = (self.began - at).days
        lost = min((cost for day, _, cost in OUTAGES if day - 6 <= days <= day), default=0.0)
        attainment = ATTAINMENT[0] + (ATTAINMENT[1] - ATTAINMENT[0]) * way + lost
        return Climate(attainment, MEDIAN_HOURS[0] * (MEDIAN_HOURS[1] / MEDIAN_HOURS[0]) ** way)

    # --- lives ----------------------------------------------------------------------------------------------------

    def _days_from(self, day: date) -> Iterator[list[Happening]]:
        """The lives that begin on a day and on all that follow, in order of their beginning."""
        while True:
            yield from self._day(day)
            day += timedelta(days=1)

    def _day(self, day: date) -> list[list[Happening]]:
        rng = Random(f"{self.seed} day {day}")
        midnight = datetime.combine(day, time(), UTC)
        lives = [[registered(member)] for member in self.newcomers(day)]
        earlier: dict[tuple[str, str], list[str]] = {}
        # In the order of their beginning, so that a duplicate is one of something that was there before.
        for n, at in enumerate(sorted(self._asked(rng, midnight)), 1):
            topic_id = f"{_number(day)}-{n}"
            lives.append(self._life(Random(f"{self.seed} topic {topic_id}"), topic_id, at, earlier))
        return sorted(lives, key=lambda life: life[0].at)

    def _asked(self, rng: Random, midnight: datetime) -> Iterator[datetime]:
        """When topics begin on a day: each in its asker's waking hours."""
        zones = [("America/New_York", 24), ("Europe/Berlin", 44), ("America/Sao_Paulo", 22), ("Australia/Sydney", 10)]
        offsets = [midnight.astimezone(ZoneInfo(zone)).utcoffset() or timedelta() for zone, _ in zones]
        for _ in range(poisson(rng, self._topics(midnight))):
            offset = rng.choices(offsets, [share for _, share in zones])[0]
            hour = rng.choices(range(24), HOURS)[0] - offset / timedelta(hours=1)
            yield midnight + timedelta(hours=(hour + rng.random()) % 24)

    def _session(self, number: int, session: Session) -> Iterator[list[Happening]]:
        """The lives that begin because somebody watches: one at once, then one in a minute, later one in five."""
        rng = Random(f"{self.seed} session {number}")
        at, n = session.start + timedelta(seconds=rng.uniform(3, 9)), 1
        while session.end is None or at < session.end:
            topic_id = f"s{number + 1}-{n}"
            yield self._life(Random(f"{self.seed} topic {topic_id}"), topic_id, at, {}, HASTE)
            passed = (at - session.start) / timedelta(minutes=30)
            at, n = at + timedelta(minutes=rng.expovariate(0.2 + 1.3 * math.exp(-passed))), n + 1

    def _life(
        self, rng: Random, topic_id: str, at: datetime, earlier: dict[tuple[str, str], list[str]], haste: float = 1.0
    ) -> list[Happening]:
        author, space = self.passer(rng, at), space_of(rng, talk=haste == 1)
        before = earlier.setdefault((space, author.language), [])
        start = Start(topic_id, at, author, haste, tuple(before))
        before.append(topic_id)
        return Life(rng, self.cast, start, space, self.climate(at), self.passer).happenings()


def registered(member: Member) -> Happening:
    """A member joins."""
    data: dict[str, Any] = {
        "member_id": member.id,
        "status": "active",
        "name": member.name,
        "locale": member.locale,
        "time_zone": member.zone,
        "languages": list(member.languages),
        "joined_at": member.joined_at.isoformat(),
    }
    if member.email:
        data["email"] = member.email
    return Happening(member.joined_at, f"member-registered/{member.id}", "member-registered", data)


def _number(day: date) -> int:
    """Days since 2000: short, and in order."""
    return (day - date(2000, 1, 1)).days
