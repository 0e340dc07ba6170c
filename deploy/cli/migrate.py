"""``stars migrate``: schemas and Kafka topics up to date."""

from typing import Annotated

import typer

from deploy import services
from deploy.cli.context import DEFAULT_DATA, Data, commands, console, fail, needed, run, settings_of
from shared.messaging.kafka import ensure_streams
from shared.postgres import MigrationsError
from shared.postgres import migrate as migrate_schema
from shared.settings import Settings

app = commands()


@app.command("migrate")
def migrate(
    service: Annotated[str | None, typer.Argument(help="One service; without it, all of them.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Apply migrations, and create the Kafka topics that are missing. Safe to run by several at once."""
    if service is not None and service not in services.NAMES:
        fail(f"there is no service {service!r}; there are {', '.join(services.NAMES)}")
    settings, _ = settings_of(data)
    if service is None or not settings.postgres_of(service):
        needed(settings, data, "postgres")
    try:
        run(_migrate(settings, [service] if service else list(services.NAMES)))
    except MigrationsError as error:
        fail(str(error))


async def _migrate(settings: Settings, names: list[str]) -> None:
    for name in names:
        applied = await migrate_schema(settings.postgres_of(name) or "", name, services.migrations(name))
        console.print(f"{name}: " + (", ".join(applied) if applied else "up to date"))
    if settings.kafka:
        created = await ensure_streams(settings.kafka, settings.partitions, settings.kafka_replication)
        console.print("Kafka: " + (", ".join(created) if created else "up to date"))
    else:
        console.print("Kafka: STARS_KAFKA is not set, no topics were looked at")
