"""The installation's keys, when they are needed: a process may start while PostgreSQL is away."""

import asyncio

from services.notifier.channels.push import Vapid
from services.notifier.tokens import Keys, load_keys
from shared.postgres import Pool


class Signing:
    """Loads the keys once, and makes them on the very first start."""

    def __init__(self, pool: Pool, push_contact: str) -> None:
        self._pool, self._push_contact = pool, push_contact
        self._keys: Keys | None = None
        self._vapid: Vapid | None = None
        self._loading = asyncio.Lock()

    async def keys(self) -> Keys:
        """The keys. Raises what PostgreSQL's absence raises."""
        if self._keys is None:
            async with self._loading:
                if self._keys is None:
                    self._keys = await load_keys(self._pool)
        return self._keys

    async def vapid(self) -> Vapid:
        """What signs pushes."""
        if self._vapid is None:
            self._vapid = Vapid((await self.keys()).vapid, self._push_contact)
        return self._vapid
