"""The leaderboard service, wired. Who helped most, and why exactly that many points?"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.leaderboard import api, pages
from services.leaderboard.consumer import STREAMS, LeaderboardConsumer
from services.leaderboard.members import Members
from services.leaderboard.projector import Projector
from services.leaderboard.rewriting import Rewriter
from services.leaderboard.seasons import Seasons
from services.leaderboard.stream import Watch
from shared import messaging
from shared.forum import Facts, migrations
from shared.postgres import Migrations
from shared.runtime import Runtime
from shared.settings import Settings
from shared.web import Service, create_service_app

NAME = "leaderboard"
MIGRATIONS = (
    messaging.MIGRATIONS,
    migrations("members", "topics", "kudos", "stars", "responses"),
    Migrations.of_folder(NAME, Path(__file__).parent / "migrations"),
)


def facts_of(erasure_key: bytes) -> Facts:
    """The facts that the service keeps."""
    return Facts(erasure_key, topics=True, kudos=True, stars=True, responses=True)


def build(settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service:
    """The service, ready to run: its HTTP side, its workers (consumer, relay, projector, rewriter), or both."""
    runtime = Runtime(NAME, settings, MIGRATIONS)
    facts = facts_of(settings.erasure_key_bytes())
    dsn = settings.postgres_of(NAME) or ""
    projector = Projector(dsn, NAME, runtime.outbox)
    rewriter = Rewriter(dsn, NAME, runtime.outbox, projector)
    watch = Watch(runtime.pool)
    app = create_service_app(
        NAME,
        "Constellation: leaderboard",
        "The ledger of points, boards, seasons, and who may be seen on them.",
        version,
    )
    if http:
        members = Members(runtime.pool, runtime.outbox, facts)
        seasons = Seasons(runtime.pool, runtime.outbox, projector)
        app.include_router(api.router(runtime, facts, members, seasons, watch))
        app.include_router(pages.router(runtime, members, seasons))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        consumer = LeaderboardConsumer(facts, projector.written)
        async with runtime.running(
            STREAMS,
            consumer.apply if worker else None,
            [
                *([projector.run, rewriter.run] if worker else []),
                *([watch.run] if http else []),
            ],
        ):
            yield

    return Service(NAME, app, lifespan, runtime.problems)
