"""The applications service, wired. Who becomes and stays a Star, and what they get."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.applications import api, pages
from services.applications.announcements import Announcements
from services.applications.api import Parts
from services.applications.applying import Applying
from services.applications.consumer import STREAMS, ApplicationsConsumer
from services.applications.erasing import erase
from services.applications.jams import Jams
from services.applications.members import Members
from services.applications.membership import Membership
from services.applications.perks import Perks
from services.applications.programme import Programme
from services.applications.projector import Projector
from services.applications.quiz import Quiz
from services.applications.record import Records, Signer
from services.applications.reviews import Reviews
from services.applications.roster import Roster
from services.applications.telling import Telling
from services.applications.timers import Timers
from shared import messaging
from shared.forum import Facts, migrations
from shared.postgres import Migrations
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Service, create_service_app

NAME = "applications"
MIGRATIONS = (
    messaging.MIGRATIONS,
    migrations("members", "topics", "kudos", "responses"),
    Migrations.of_folder(NAME, Path(__file__).parent / "migrations"),
)


def facts_of(erasure_key: bytes) -> Facts:
    """The facts that the service keeps. Who is a Star is its own to know."""
    return Facts(erasure_key, topics=True, kudos=True, responses=True)


def consumer_of(facts: Facts, telling: Telling, written: Callable[[], None] = lambda: None) -> ApplicationsConsumer:
    """The consumer, with what else hears of a batch."""
    return ApplicationsConsumer(facts, erase, telling.answering, telling.regroup, written)


def parts_of(runtime: Runtime, facts: Facts, programme: Programme, telling: Telling, signer: Signer) -> Parts:
    """What the doors of the service open on."""
    outbox, members = runtime.outbox, Members(facts)
    membership = Membership(outbox, members, programme, telling.star)
    return Parts(
        runtime=runtime,
        members=members,
        programme=programme,
        applying=Applying(outbox, members, programme),
        quiz=Quiz(outbox, members, programme),
        reviews=Reviews(outbox, members, programme, membership),
        membership=membership,
        records=Records(outbox, membership, signer),
        roster=Roster(outbox, members, programme, membership),
        perks=Perks(outbox, members),
        jams=Jams(outbox, members),
        announcements=Announcements(outbox, members, programme),
    )


def build(settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service:
    """The service, ready to run: its HTTP side, its workers (consumer, relay, projector, timers), or both."""
    runtime = Runtime(NAME, settings, MIGRATIONS)
    facts = facts_of(settings.erasure_key_bytes())
    programme = Programme(runtime.outbox)
    telling = Telling.of(settings, runtime.pool)
    parts = parts_of(runtime, facts, programme, telling, Signer(settings))
    projector = Projector(settings.postgres_of(NAME) or "", NAME, runtime.outbox, programme)
    timers = Timers(
        {
            "time-is-up": parts.quiz.close_due,
            "invitation-lapsed": parts.jams.lapse_due,
            "term-over": parts.membership.judge_due,
            "jam-over": parts.jams.end_due,
            "notes-erased": parts.jams.forget_notes,
        }
    )
    app = create_service_app(
        NAME,
        "Constellation: applications",
        "The programme, applications, the quiz, reviews, membership, perks, Star Jam and announcements.",
        version,
    )
    if http:
        app.include_router(api.router(parts))
        app.include_router(pages.router(parts))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        consumer = consumer_of(facts, telling, projector.wake.set)
        async with runtime.running(
            STREAMS,
            consumer.apply if worker else None,
            [projector.run, timers.run, telling.run] if worker else [],
        ):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
