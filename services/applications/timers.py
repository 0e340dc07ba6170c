"""Timers that are rows: due attempts, invitations and terms, taken by any number of replicas, each row by one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import asyncpg

from shared.observability import metrics
from shared.postgres import UNAVAILABLE

log = logging.getLogger(__name__)

SECONDS = 0.5

Timer = Callable[[], Awaitable[int]]
"""Does what is due in one transaction, and says how much that was."""


class Timers:
    """Asks each timer again and again."""

    def __init__(self, timers: Mapping[str, Timer]) -> None:
        self._timers = timers

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self.tick()
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("the timers could not look, they look again: %s", error)
            await asyncio.sleep(SECONDS)

    async def tick(self) -> None:
        """Do all that is due now."""
        for name, timer in self._timers.items():
            while count := await timer():
                metrics.TIMERS_FIRED.labels("applications", name).inc(count)
