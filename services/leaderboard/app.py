"""The leaderboard service, wired. Who helped most, and why exactly that many points."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.leaderboard.consumer import STREAMS, LeaderboardConsumer
from shared import messaging
from shared.forum import Facts, migrations
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Service, create_service_app

NAME = "leaderboard"
MIGRATIONS = (messaging.MIGRATIONS, migrations("members"))


def build(settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service:
    """The service, ready to run: its HTTP side, its workers, or both."""
    runtime = Runtime(NAME, settings, MIGRATIONS)
    consumer = LeaderboardConsumer(Facts(settings.erasure_key_bytes()))
    app = create_service_app(
        NAME,
        "Constellation: leaderboard",
        "Who helped most, and why exactly that many points. So far it keeps members and their erasure.",
        version,
    )

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with runtime.running(STREAMS, consumer.apply if worker else None):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
