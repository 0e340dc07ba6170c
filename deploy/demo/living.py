"""The demo at work: its history comes in as any forum's does, and then it lives on as one would."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from aiokafka.errors import KafkaError

from deploy import services
from deploy.demo.life import CLAIM, Happening
from deploy.demo.people import Helper, Member
from deploy.demo.world import Session, World
from deploy.history import HistoryError, NotSettled, load, wait_until_settled
from services.topics.ingestion import check
from shared.contracts.applications import StarAppointed, StarRetired
from shared.contracts.catalogue import APPLICATIONS
from shared.contracts.codec import encode
from shared.contracts.envelope import BATCH_CONTENT_TYPE, Event
from shared.messaging.kafka import KafkaUnavailable, cluster_id
from shared.messaging.producer import Producer
from shared.settings import Settings
from shared.web import Role, issue_token

log = logging.getLogger(__name__)

SOURCE = "/forum/demo"
TARGET = timedelta(hours=48)
CLAIM_LASTS = timedelta(hours=4)
OLD = timedelta(minutes=10)
"""What happened longer ago, such as while this machine slept, is history and not news."""
TICK = 1.0
AT_ONCE = 200
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class DemoFailed(Exception):
    """The demo cannot be shown; the message says why, for whoever typed the command."""


def envelope(one: Happening, *, backfill: bool) -> dict[str, Any]:
    """A happening as the forum would publish it."""
    return {
        "specversion": "1.0",
        "id": one.name,
        "source": SOURCE,
        "type": one.type,
        "time": one.at.isoformat(),
        "datacontenttype": "application/json",
        "data": one.data,
    } | ({"backfill": True} if backfill else {})


def history(happenings: Iterable[Happening], now: datetime) -> Iterator[Event]:
    """What happened up to an instant, as backfill; but questions that wait are news: they go on being told."""
    for one in takewhile(lambda one: one.at <= now, happenings):
        if one.type != CLAIM:
            yield from check([envelope(one, backfill=not _waits(one, now))], now)


def _waits(one: Happening, now: datetime) -> bool:
    if one.type != "topic-created" or now - one.at > TARGET:
        return False
    return one.waits_until is None or one.waits_until > now


def appointments(changes: Iterable[tuple[datetime, Member, bool]]) -> list[tuple[str, str, bytes]]:
    """Who became a Star and who is one no more, as records of ``applications.events``."""
    found = []
    for at, member, appointed in changes:
        kind = StarAppointed if appointed else StarRetired
        event = kind.model_validate(
            {
                "specversion": "1.0",
                "id": f"{kind.type_name()}/{member.id}",
                "source": SOURCE,
                "time": at,
                "datacontenttype": "application/json",
                "backfill": True,
                "data": {"member_id": member.id},
            }
        )
        found.append((APPLICATIONS.name, member.id, encode(event)))
    return found


def roster_line(star: Helper) -> str:
    """A Star as a line of a roster. Whoever answers most has the higher rank; some do not want to be found."""
    since = star.appointed_at.isoformat() if star.appointed_at else ""
    rank = "rock-star" if star.weight > 2 else "rising-star"
    spaces, languages = ";".join(sorted(star.spaces)), ";".join(star.member.languages)
    return f"{star.member.id},{since},{rank},{spaces},{languages},{'no' if star.member.id.endswith('6') else 'yes'}"


@dataclass
class Story:
    """How far the demo has come on a data folder. ``until``: everything up to then is in Kafka."""

    seed: int
    began: datetime
    cluster: str
    until: datetime | None = None
    sessions: list[Session] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Story | None":
        """The story that a file tells; None where there is none. Raises DemoFailed."""
        instant = datetime.fromisoformat
        try:
            found = json.loads(file.read_text())
            until = instant(found["until"]) if found["until"] else None
            sessions = [Session(instant(start), instant(end)) for start, end in found["sessions"]]
            return cls(found["seed"], instant(found["began"]), found["cluster"], until, sessions)
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            raise DemoFailed(f"{file} cannot be read ({error}); another --data begins a new demo") from error

    def write(self, file: Path) -> None:
        """Keep it, whole or not at all. A session that still runs has come as far as the story."""
        sessions = [(one.start.isoformat(), (one.end or self.until or one.start).isoformat()) for one in self.sessions]
        until = self.until.isoformat() if self.until else None
        told = {"seed": self.seed, "began": self.began.isoformat(), "cluster": self.cluster, "until": until}
        beside = file.with_name(f"{file.name}.{os.getpid()}")
        beside.write_text(json.dumps({**told, "sessions": sessions}, indent=2) + "\n")
        beside.replace(file)


class Demo:
    """An invented forum on one instance. ``settings`` are complete: Kafka, PostgreSQL and the signing secret."""

    def __init__(self, settings: Settings, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self._settings, self._seed, self._say = settings, seed, say
        self._file = folder / "demo.json"
        self._story: Story | None = None

    async def open(self) -> None:
        """Find the story that the folder tells, or begin one. Raises DemoFailed where it is one of another seed."""
        cluster = await cluster_id(self._settings.kafka or "")
        story = Story.read(self._file)
        if story is None or story.cluster != cluster:
            story = Story(self._seed, datetime.now(UTC), cluster)
            story.write(self._file)
        if story.seed != self._seed:
            raise DemoFailed(f"{self._file} tells of the demo with seed {story.seed}; another one needs another --data")
        self._story = story

    async def fill(self, url: str) -> None:
        """After ``open``: bring in all that happened up to now, and return when every service shows it.

        Raises DemoFailed. ``url``: where the services answer already.
        """
        kafka, story = self._settings.kafka or "", self._story
        if story is None:
            raise RuntimeError("there is no story yet to fill in")
        try:
            world, now = World(story.seed, story.began), datetime.now(UTC)
            producer = Producer(kafka, "constellation-demo")
            await producer.start()
            try:
                if story.until is None:
                    await producer.send_all(appointments(world.cast.appointments()))
                happened = world.happenings(story.until, story.sessions)
                loaded = await load(history(happened, now), producer.send_all)
            finally:
                await producer.stop()
            if story.until is None:
                await self._bring_roster(url, world, now)
            story.until = now
            story.write(self._file)
            self._say(f"the demo's forum: {loaded.sent:,} events in {loaded.seconds:.1f} s")
            dsns = {name: dsn for name in services.NAMES if (dsn := self._settings.postgres_of(name))}
            settled = await wait_until_settled(kafka, dsns)
            self._say(f"every service shows them after another {settled.seconds:.1f} s")
        except (HistoryError, NotSettled, KafkaUnavailable, KafkaError, httpx.HTTPError, OSError) as error:
            raise DemoFailed(f"the demo could not be brought in: {error}. Start again to go on") from error

    async def _bring_roster(self, url: str, world: World, now: datetime) -> None:
        """Those who are Stars now, as a programme that exists brings them in: the directory shows most of them."""
        lines = [roster_line(one) for one in world.cast.helpers if one.appointed_at and one.star(now)]
        text = "\n".join(["member_id,since,rank,spaces,languages,listed", *lines])
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            headers = {**self._bearer(Role.STAFF), "Content-Type": "text/csv"}
            answer = await client.post("/applications/api/stars/roster", content=text, headers=headers)
        if answer.status_code != 200:
            raise DemoFailed(f"the demo's Stars were not taken: {answer.status_code} {answer.text[:500]}")

    async def live(self, url: str) -> None:
        """Go on living after ``fill``, until cancelled: what happens is published at ``url`` when it happens."""
        story = self._story
        if story is None or story.until is None:
            raise RuntimeError("there is no forum yet to go on with")
        begun = datetime.now(UTC)
        before, sessions = list(story.sessions), [*story.sessions, Session(begun)]
        world = World(story.seed, story.began)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            await self._hold_seasons(client, story.began.date())
            for one in takewhile(lambda one: one.at <= begun, world.happenings(begun - CLAIM_LASTS, before)):
                if one.type == CLAIM and one.waits_until and one.waits_until > begun:
                    await self._claim(client, one)
            story.sessions = sessions
            async for due in _when_due(world.happenings(story.until, sessions)):
                now = datetime.now(UTC)
                events = [envelope(one, backfill=now - one.at > OLD) for one in due if one.type != CLAIM]
                if events:
                    await self._publish(client, events)
                for one in due:
                    if one.type == CLAIM and now - one.at < OLD:
                        await self._claim(client, one)
                story.until = due[-1].at
                story.write(self._file)

    async def _hold_seasons(self, client: httpx.AsyncClient, began: date) -> None:
        """The season of the quarter in which the demo began is open, the one before is closed; done once."""
        this = began.replace(month=(began.month - 1) // 3 * 3 + 1, day=1)
        before = (this - timedelta(days=1)).replace(day=1, month=(this - timedelta(days=1)).month - 2)
        after = (this + timedelta(days=100)).replace(day=1)
        headers = self._bearer(Role.STAFF)
        try:
            for start, end in ((before, this), (this, after)):
                season = f"{start.year}-q{(start.month + 2) // 3}"
                name = f"Quarter {(start.month + 2) // 3} of {start.year}"
                body = {"season_id": season, "name": name, "start": start.isoformat(), "end": end.isoformat()}
                answer = await client.post("/leaderboard/api/seasons", json=body, headers=headers)
                if answer.status_code == 201 and end == this:
                    await client.post(f"/leaderboard/api/seasons/{season}/close", headers=headers)
        except httpx.HTTPError as error:
            log.warning("the demo's seasons were not opened: %s", type(error).__name__)

    async def _publish(self, client: httpx.AsyncClient, events: Sequence[dict[str, Any]]) -> None:
        """Hand events in at the front door, again and again while it is shut: the ids are the same."""
        pause = FIRST_PAUSE
        while True:
            headers = {**self._bearer(Role.FORUM), "Content-Type": BATCH_CONTENT_TYPE}
            try:
                answer = await client.post("/topics/api/events", content=json.dumps(events), headers=headers)
            except httpx.HTTPError as error:
                why = type(error).__name__
            else:
                if answer.status_code < 300:
                    return
                why = f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code not in (429, 502, 503, 504):
                    log.error("the demo's events were refused: %s", why)
                    return
            log.warning("the demo's events were not taken, they are sent again: %s", why)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _claim(self, client: httpx.AsyncClient, one: Happening) -> None:
        """A Star takes a question on; where somebody else was quicker, or it has gone, nothing happens."""
        try:
            await client.post(
                f"/topics/api/topics/{quote(one.data['topic_id'], safe='')}/claim",
                headers=self._bearer(Role.STAR, one.data["member_id"]),
            )
        except httpx.HTTPError as error:
            log.warning("a claim of the demo was not made: %s", type(error).__name__)

    def _bearer(self, role: Role, member: str | None = None) -> dict[str, str]:
        settings = self._settings
        token = issue_token(
            settings.secret.get_secret_value() if settings.secret else "",
            [role],
            member,
            timedelta(minutes=5),
            issuer=settings.issuer,
            audience=settings.audience,
            member_claim=settings.member_claim,
            roles_claim=settings.roles_claim,
        )
        return {"Authorization": f"Bearer {token}"}


async def _when_due(happenings: Iterator[Happening]) -> AsyncIterator[list[Happening]]:
    """What has become due, a little at a time."""
    coming = next(happenings)
    while True:
        due: list[Happening] = []
        now = datetime.now(UTC)
        while coming.at <= now and len(due) < AT_ONCE:
            due.append(coming)
            coming = next(happenings)
        if due:
            yield due
        if len(due) < AT_ONCE:
            await asyncio.sleep(TICK)
