"""The applications service, wired. Who becomes and stays a Star, and what they get."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.applications.consumer import STREAMS, ApplicationsConsumer
from services.applications.erasing import erase
from services.applications.programme import Programme
from services.applications.projector import Projector
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


async def _nobody(*_: object) -> None:
    pass


def consumer_of(facts: Facts, written: Callable[[], None] = lambda: None) -> ApplicationsConsumer:
    """The consumer, with what else hears of a batch."""
    return ApplicationsConsumer(facts, erase, _nobody, written)


def build(settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service:
    """The service, ready to run: its HTTP side, its workers (consumer, relay, projector, timers), or both."""
    runtime = Runtime(NAME, settings, MIGRATIONS)
    facts = facts_of(settings.erasure_key_bytes())
    programme = Programme(runtime.outbox)
    projector = Projector(settings.postgres_of(NAME) or "", NAME, runtime.outbox, programme)
    app = create_service_app(NAME, "Constellation: applications", "", version)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        consumer = consumer_of(facts, projector.wake.set)
        async with runtime.running(STREAMS, consumer.apply if worker else None, [*([projector.run] if worker else [])]):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
