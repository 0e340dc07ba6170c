"""The topics service, wired: who is waiting, since when, and who should be asked?"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.topics import api, discourse, ingestion, pages
from services.topics.claims import Claims
from services.topics.clock import Clock
from services.topics.consumer import STREAMS, TopicsConsumer
from services.topics.polling import Poller
from services.topics.report import Report
from shared import messaging
from shared.forum import Facts, migrations
from shared.postgres import Migrations
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Service, create_service_app

NAME = "topics"
MIGRATIONS = (
    messaging.MIGRATIONS,
    migrations("members", "topics", "stars"),
    Migrations.of_folder(NAME, Path(__file__).parent / "migrations"),
)


def build(settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service:
    """The service, ready to run: its HTTP side, its workers (consumer, relay, clock), or both."""
    runtime = Runtime(NAME, settings, MIGRATIONS)
    facts = Facts(settings.erasure_key_bytes(), topics=True, stars=True)
    report = Report(runtime.pool)
    door = ingestion.Door(runtime.messaging)
    poller = Poller.of(settings, NAME, door.publish, facts)
    clock = Clock(runtime.outbox, lambda: runtime.messaging.cluster)
    app = create_service_app(
        NAME,
        "Constellation: topics",
        "The first-response clock, the waiting queue, claims, policies and the report on the promise.",
        version,
    )
    if http:
        claims = Claims(runtime.outbox, facts)
        app.include_router(api.router(runtime, report, claims))
        app.include_router(pages.router(runtime, report, claims))
        if hook := discourse.router(settings, door.publish, ingestion.now):
            app.include_router(hook)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        consumer = TopicsConsumer(facts)
        async with runtime.running(
            STREAMS,
            consumer.apply if worker else None,
            [
                *([clock.run] if worker else []),
                *([report.keep_up] if http else []),
                *([poller.run] if worker and poller else []),
            ],
        ):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
