"""Each service has a schema and a role, and nothing of another's."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from deploy import services
from shared.postgres import Migrations, MigrationsError, migrate
from shared.postgres.pool import connect


@pytest.fixture(scope="module")
async def all_schemas(database: str) -> str:
    for name in services.NAMES:
        await migrate(database, name, services.migrations(name))
    return database


@pytest.mark.parametrize("name", services.NAMES)
async def test_a_service_cannot_read_another_services_schema(all_schemas: str, name: str) -> None:
    connection = await connect(all_schemas, name)
    try:
        await connection.fetch("SELECT * FROM outbox")
        for other in set(services.NAMES) - {name}:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {other}.outbox")
    finally:
        await connection.close()


@pytest.mark.parametrize("name", services.NAMES)
async def test_every_table_says_whether_it_is_primary_fact_or_derived(all_schemas: str, name: str) -> None:
    connection = await connect(all_schemas, name)
    rows = await connection.fetch(
        "SELECT relname, obj_description(oid) AS comment FROM pg_class"
        " WHERE relkind IN ('r', 'p') AND relnamespace = $1::regnamespace",
        name,
    )
    await connection.close()
    assert rows
    unclear = {
        row["relname"] for row in rows if not (row["comment"] or "").startswith(("primary: ", "fact: ", "derived: "))
    }
    assert not unclear


async def test_migrations_run_by_several_at_once_are_applied_once(database: str) -> None:
    applied = await asyncio.gather(*(migrate(database, "crowd", services.migrations("topics")) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len([f for one in services.migrations("topics") for f in one.files])]


async def test_a_migration_that_was_changed_after_it_had_been_applied_is_refused(database: str, tmp_path: Path) -> None:
    file = tmp_path / "0001_one.sql"
    file.write_text("CREATE TABLE one (n int)")
    sets = [Migrations.of_folder("own", tmp_path)]
    await migrate(database, "changed", sets)
    file.write_text("CREATE TABLE one (n bigint)")
    with pytest.raises(MigrationsError, match="was changed after it had been applied"):
        await migrate(database, "changed", sets)


async def test_a_migration_that_fails_leaves_nothing_behind(database: str, tmp_path: Path) -> None:
    (tmp_path / "0001_half.sql").write_text("CREATE TABLE half (n int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database, "halfway", [Migrations.of_folder("own", tmp_path)])
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT to_regclass('halfway.half')") is None
    await connection.close()
