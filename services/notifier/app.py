"""The notifier service, wired. Who gets told what, where and when."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.notifier.consumer import STREAMS, NotifierConsumer
from shared import messaging
from shared.forum import Facts, migrations
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Service, create_service_app

NAME = "notifier"
MIGRATIONS = (messaging.MIGRATIONS, migrations("members"))


def build(settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service:
    """The service, ready to run: its HTTP side, its workers, or both."""
    runtime = Runtime(NAME, settings, MIGRATIONS)
    consumer = NotifierConsumer(Facts(settings.erasure_key_bytes()))
    app = create_service_app(
        NAME,
        "Constellation: notifier",
        "Who gets told what, where and when. So far it keeps members and their erasure.",
        version,
    )

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with runtime.running(STREAMS, consumer.apply if worker else None):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
