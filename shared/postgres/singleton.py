"""Work that one process of a service does while the others stand by."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator

from shared.postgres.pool import Connection, connect

STANDBY_SECONDS = 1.0


@contextlib.asynccontextmanager
async def held_alone(dsn: str, service: str, name: str) -> AsyncIterator[Connection]:
    """Wait for the advisory lock of this name, and hold it over a connection of its own.

    The lock is the connection's: whoever loses the one has lost the other, and is told so by its next query.
    """
    connection = await connect(dsn, service)
    try:
        number = zlib.crc32(f"{service} {name}".encode()) - 2**31
        while not await connection.fetchval("SELECT pg_try_advisory_lock(4829118, $1)", number):
            await asyncio.sleep(STANDBY_SECONDS)
        yield connection
    finally:
        with contextlib.suppress(Exception):
            await connection.close(timeout=2)
