"""Migrations: numbered ``.sql`` files, each applied once, in one transaction, under an advisory lock.

A service's schema is made of several sets of files, in order: what messaging needs, the facts, its own.
A file that was applied must never change: its checksum is kept and compared.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from shared.postgres.pool import MINIMUM_VERSION, open_connection, role_of

_LOCK = 4_829_117


class MigrationsError(Exception):
    """The schema cannot be brought up to date; the message says what to do."""


@dataclass(frozen=True)
class Migrations:
    """A named set of migration files, applied in the order of their names."""

    name: str
    files: tuple[Path, ...]

    @classmethod
    def of_folder(cls, name: str, folder: Path, prefix: str = "") -> "Migrations":
        """All ``.sql`` files of a folder whose names begin with ``prefix``."""
        files = tuple(sorted(folder.glob(f"{prefix}*.sql")))
        if not files:
            raise MigrationsError(f"no migrations in {folder}")
        return cls(name, files)


async def migrate(dsn: str, service: str, sets: Sequence[Migrations]) -> list[str]:
    """Bring a service's schema up to date and return the names of what was applied.

    Safe to run by several at once: the second waits for the first. Creates the schema and, where the login
    may create roles, the role that owns it.
    """
    connection = await open_connection(
        dsn, timeout=10, server_settings={"application_name": f"stars migrate {service}"}
    )
    try:
        if connection.get_server_version().major < MINIMUM_VERSION:
            raise MigrationsError(f"PostgreSQL {MINIMUM_VERSION} or newer is needed")
        await connection.execute("SELECT pg_advisory_lock($1, hashtext($2))", _LOCK, service)
        await _create_schema(connection, service)
        return await _apply(connection, service, sets)
    finally:
        await connection.close()


async def pending(connection: asyncpg.Connection, service: str, sets: Sequence[Migrations]) -> list[str]:
    """The migrations that are not applied yet, by name."""
    exists = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{service}.migration")
    done = {row["name"] for row in await connection.fetch(f"SELECT name FROM {service}.migration")} if exists else set()
    return [name for one in sets for name in (f"{one.name}/{file.stem}" for file in one.files) if name not in done]


async def _create_schema(connection: asyncpg.Connection, service: str) -> None:
    role = role_of(service)
    may_create = await connection.fetchval(
        "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    )
    exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
    # Roles belong to the whole cluster, so two databases of one server may race for the same one.
    if may_create and not exists:
        try:
            await connection.execute(f'CREATE ROLE "{role}" NOLOGIN')
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            pass
        exists = True
    if exists and not await connection.fetchval("SELECT pg_has_role(current_user, $1, 'set')", role):
        await connection.execute(f'GRANT "{role}" TO current_user')
    owner = f'"{role}"' if exists else "current_user"
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {owner}")
    if exists:
        await connection.execute(f'SET ROLE "{role}"')
    await connection.execute(f"SET search_path TO {service}")


async def _apply(connection: asyncpg.Connection, service: str, sets: Sequence[Migrations]) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    await connection.execute("COMMENT ON TABLE migration IS 'primary: which migrations were applied'")
    done = {row["name"]: row["checksum"] for row in await connection.fetch("SELECT name, checksum FROM migration")}
    applied = []
    for one in sets:
        for file in one.files:
            name, text = f"{one.name}/{file.stem}", file.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            if name in done:
                if done[name] != checksum:
                    raise MigrationsError(
                        f"{service}: {name} was changed after it had been applied; restore the file and write a new one"
                    )
                continue
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '10min'")
                await connection.execute(text)
                await connection.execute("INSERT INTO migration (name, checksum) VALUES ($1, $2)", name, checksum)
            applied.append(name)
    return applied
