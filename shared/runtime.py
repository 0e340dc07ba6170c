"""What the inside of every service stands on while it runs: its pool, its outbox, its ends in Kafka, its tasks."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from shared.contracts.catalogue import Stream
from shared.messaging import Messaging, Outbox
from shared.messaging.consumer import Apply
from shared.observability import in_service, metrics
from shared.postgres import UNAVAILABLE, Migrations, Pool, create_pool
from shared.postgres.migrations import pending
from shared.settings import Settings

log = logging.getLogger(__name__)

DIED_LATELY_SECONDS = 30

Task = Callable[[], Coroutine[Any, Any, None]]


def _calm_garbage_collector() -> None:
    """A batch makes tens of thousands of objects and no cycles: at Python's defaults, a sixth of a worker's time went
    into looking for some. What start-up made stays for good, and is not looked at again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class Runtime:
    """A service's resources; make it inside a running event loop."""

    def __init__(self, name: str, settings: Settings, migrations: Sequence[Migrations]) -> None:
        dsn = settings.postgres_of(name)
        if not dsn:
            raise ValueError("STARS_POSTGRES is not set")
        self.name, self.settings = name, settings
        self._migrations = migrations
        self.pool: Pool = create_pool(dsn, name, settings.postgres_pool)
        self.outbox = Outbox(self.pool, name)
        self.messaging = Messaging(name, settings, self.pool, self.outbox)
        self._schema_ready = False
        self._died: dict[str, tuple[float, str]] = {}

    @asynccontextmanager
    async def running(
        self, streams: Sequence[Stream] = (), apply: Apply | None = None, tasks: Sequence[Task] = ()
    ) -> AsyncIterator[None]:
        """Run messaging and the service's own tasks; a task that dies of a bug is started again, and says so."""
        _calm_garbage_collector()
        with in_service(self.name):
            await self.pool

            async def run_messaging() -> None:
                await self._messaging(streams, apply)

            work: list[Task] = [run_messaging, self._watch_outbox, *tasks]
            running = [asyncio.create_task(self._again(task)) for task in work]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.pool.close(), 5)
                self.pool.terminate()

    async def migrated(self) -> None:
        """Wait until the schema is as this version of the service needs it."""
        while not await self._is_migrated():
            await asyncio.sleep(1)

    async def _messaging(self, streams: Sequence[Stream], apply: Apply | None) -> None:
        await self.migrated()
        await self.messaging.run(streams, apply)

    async def _again(self, task: Task) -> None:
        name = task.__name__.strip("_")
        pause = 1.0
        while True:
            begun = time.monotonic()
            try:
                await task()
                return
            except UNAVAILABLE as error:
                log.warning("%s waits for what is away: %s", name, error)
            except Exception as error:
                self._died[name] = (time.monotonic(), type(error).__name__)
                log.exception("%s died and is started again", name)
            if time.monotonic() - begun > 60:
                pause = 1.0  # it had recovered: this is another trouble
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30)

    async def _is_migrated(self) -> bool:
        if not self._schema_ready:
            async with self.pool.acquire() as connection:
                self._schema_ready = not await pending(connection, self.name, self._migrations)
        return self._schema_ready

    async def _watch_outbox(self) -> None:
        while True:
            try:
                if await self._is_migrated():
                    row = await self.pool.fetchrow(
                        "SELECT count(*) AS depth, extract(epoch FROM min(created_at))::float8 AS oldest"
                        " FROM (SELECT created_at FROM outbox ORDER BY id LIMIT 10000) AS head"
                    )
                    metrics.OUTBOX_DEPTH.labels(self.name).set(row["depth"])
                    metrics.OUTBOX_AGE.since(row["oldest"], service=self.name)
            except UNAVAILABLE as error:
                log.warning("PostgreSQL does not answer: %s", error)
            await asyncio.sleep(5)

    async def problems(self) -> list[str]:
        """Why the service is not ready, in plain words; empty when it is.

        Anyone may read them: an error's text, which may name hosts and users, is in the log alone.
        """
        try:
            if not await self._is_migrated():
                return [f"migrations are missing: run `stars migrate {self.name}`"]
            await self.pool.fetchval("SELECT 1")
        except UNAVAILABLE as error:
            return [f"PostgreSQL does not answer ({type(error).__name__}); the log says more"]
        lately = time.monotonic() - DIED_LATELY_SECONDS
        died = [f"{name} died ({why}); the log says why" for name, (at, why) in self._died.items() if at > lately]
        return [*died, *self.messaging.problems()]
