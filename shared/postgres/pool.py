"""Connections of a service: its own schema, its own role, and time-outs that free what a frozen process holds."""

from typing import Any, TypeAlias

import asyncpg

from shared.postgres.codecs import set_array_codecs

Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = asyncpg.Connection

MINIMUM_VERSION = 18


class PostgresUnavailable(OSError):
    """Nobody answers where PostgreSQL should be."""


async def open_connection(dsn: str, **options: Any) -> Connection:
    """``asyncpg.connect``, whose errors are PostgreSQL's and name no password.

    Raises PostgresUnavailable, ClientConfigurationError for a DSN that is none, or what the server says.
    """
    try:
        return await asyncpg.connect(dsn, **options)
    except OSError as error:
        raise PostgresUnavailable(str(error) or "no answer in time") from error
    except asyncpg.ClientConfigurationError:
        raise
    except (ValueError, OverflowError):
        # Their text quotes what was taken for a port, which may be a piece of the password.
        raise asyncpg.ClientConfigurationError(
            "it is not postgresql://user:password@host:port/database; in a password, / is written %2F, and @ %40"
        ) from None


def role_of(service: str) -> str:
    """The PostgreSQL role that owns a service's schema and nothing else."""
    return f"stars_{service}"


def _server_settings(service: str) -> dict[str, str]:
    return {
        "application_name": f"stars {service}",
        "search_path": service,
        "jit": "off",
        "statement_timeout": "60s",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "30s",
        "timezone": "UTC",
    }


async def _become(connection: Any, service: str) -> None:
    """Take the service's role where this login may: a login of the service's own has no need to."""
    role = role_of(service)
    member = await connection.fetchval(
        "SELECT pg_has_role(current_user, oid, 'member') FROM pg_roles WHERE rolname = $1", role
    )
    if member:
        await connection.execute(f'SET ROLE "{role}"')


def create_pool(dsn: str, service: str, size: int) -> Pool:
    """A pool whose connections see the service's schema alone. Await it before use; connections are made on demand,
    so that PostgreSQL may be away when a process starts. Call it inside a running event loop."""

    async def prepare(connection: Any) -> None:
        set_array_codecs(connection)
        await _become(connection, service)

    async def leave(connection: Any) -> None:
        """No code of ours sets anything or takes a lock beyond its transaction over a pool: that is all to undo."""
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")

    return asyncpg.create_pool(
        dsn,
        connect=open_connection,
        min_size=0,
        max_size=size,
        server_settings=_server_settings(service),
        init=prepare,
        reset=leave,
        timeout=10,
    )


async def connect(dsn: str, service: str) -> Connection:
    """One connection outside the pool, for what is held long: an advisory lock, a listener."""
    connection = await open_connection(dsn, server_settings=_server_settings(service), timeout=10)
    set_array_codecs(connection)
    await _become(connection, service)
    return connection


UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection that the server broke off in mid-sentence
)
"""What is raised while PostgreSQL is away, restarting or full: the same may work later."""

GAVE_WAY = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
"""What is raised where somebody else held what we need, or changed it first: the same may work at once."""
