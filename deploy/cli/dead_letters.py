"""``stars dead-letters``: what could not be applied, and what becomes of it."""

from typing import Annotated, Any

import typer

from deploy import services
from deploy.cli.context import DEFAULT_DATA, Data, commands, console, fail, needed, run, settings_of
from shared.messaging.dead_letters import DeadLetters
from shared.postgres.pool import connect
from shared.settings import Settings

app = commands(help="Records that a service could not apply: list, show, replay, drop.")

ServiceName = Annotated[str, typer.Argument(help=f"One of {', '.join(services.NAMES)}.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Ids from `list`.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


def _settings(service: str, data: Any) -> Settings:
    if service not in services.NAMES:
        fail(f"there is no service {service!r}; there are {', '.join(services.NAMES)}")
    settings, _ = settings_of(data)
    if not settings.postgres_of(service):
        needed(settings, data, "postgres")
    return settings


async def _open(service: str, settings: Settings) -> DeadLetters:
    connection = await connect(settings.postgres_of(service) or "", service)
    if not await connection.fetchval("SELECT to_regclass('dead_letter') IS NOT NULL"):
        fail(f"the schema of {service} is not there: run `stars migrate {service}`")
    return DeadLetters(connection)


@app.command("list")
def list_letters(
    service: ServiceName,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    after: Annotated[int, typer.Option(help="Go on after this id.")] = 0,
    data: Data = DEFAULT_DATA,
) -> None:
    """List dead letters, oldest first: id, where it lay in Kafka, when it failed, why."""
    settings = _settings(service, data)

    async def work() -> None:
        rows = await (await _open(service, settings)).list(after, limit)
        if not rows:
            console.print("none")
        for row in rows:
            typer.echo(
                f"{row['id']}\t{row['stream']}-{row['partition']}@{row['offset']}\t"
                f"{row['failed_at']:%Y-%m-%dT%H:%M:%SZ}\t{row['error'].splitlines()[0] if row['error'] else ''}"
            )

    run(work())


@app.command("show")
def show(
    service: ServiceName, letter: Annotated[int, typer.Argument(help="Its id.")], data: Data = DEFAULT_DATA
) -> None:
    """Show one dead letter whole: its key, headers, value as it came, and the reason."""
    settings = _settings(service, data)

    async def work() -> None:
        row = await (await _open(service, settings)).show(letter)
        if row is None:
            fail(f"{service} has no dead letter {letter}")
        for name, value in row.items():
            text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
            typer.echo(f"{name}: {text}")

    run(work())


@app.command("replay")
def replay(service: ServiceName, letters: Ids = None, every: All = False, data: Data = DEFAULT_DATA) -> None:
    """Send dead letters back to their streams, as they came, and drop them here. Mend the reason first."""
    settings = _settings(service, data)
    needed(settings, data, "kafka")

    async def work() -> None:
        held = await _open(service, settings)
        ids = await _chosen(held, letters, every)
        done = await held.replay(ids, settings.kafka or "")
        console.print(f"{done} sent again")

    run(work())


@app.command("drop")
def drop(service: ServiceName, letters: Ids = None, every: All = False, data: Data = DEFAULT_DATA) -> None:
    """Forget dead letters for good."""
    settings = _settings(service, data)

    async def work() -> None:
        held = await _open(service, settings)
        console.print(f"{await held.drop(await _chosen(held, letters, every))} dropped")

    run(work())


async def _chosen(held: DeadLetters, letters: list[int] | None, every: bool) -> list[int]:
    if every:
        everything: list[int] = await held.ids()
        return everything
    if not letters:
        fail("name ids from `list`, or say --all")
    return letters
