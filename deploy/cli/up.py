"""``stars up``: infrastructure, migrations, Kafka topics and all four services, in one process."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from starlette.types import ASGIApp

from deploy import services
from deploy.cli.context import DEFAULT_DATA, OUTSIDE, Data, commands, console, fail, in_words, read_settings
from deploy.demo import Demo, DemoFailed
from deploy.infrastructure import InfrastructureError, Instance, infrastructure
from shared.messaging.kafka import ensure_streams
from shared.observability import configure_logging, configure_traces, shutdown_traces
from shared.postgres import MigrationsError, migrate
from shared.settings import Settings
from shared.web import PortTaken, Service, StartFailed, create_process, run, serve

app = commands()

QUIET_SECONDS = 5.0
"""How long a start may take before it says what it waits for."""


@app.command("up")
def up(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 finds a free one.")] = None,
    data: Data = DEFAULT_DATA,
    demo: Annotated[
        bool, typer.Option("--demo", help="Invent a forum with two years of history, and let it live.")
    ] = False,
    demo_seed: Annotated[int, typer.Option(help="Another seed is another forum.", show_default=True)] = 1,
) -> None:
    """Start everything: embedded Kafka and PostgreSQL unless the environment names them, and all four services.

    Prints `ready: URL` when it is; Ctrl-C stops all of it, and a second start finds everything again. With `--demo`
    it is ready when the invented history can be read; a second start fills the time in between, and lives on.
    """
    settings = read_settings()
    if "log_format" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_format": "text"})
    try:
        with Instance.open(data) as instance:
            run(_up(settings, instance, settings.port if port is None else port, demo_seed if demo else None))
    except OUTSIDE as error:
        fail(in_words(error))
    except (InfrastructureError, MigrationsError, DemoFailed, PortTaken, StartFailed, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        pass
    console.print("stopped")


async def _up(settings: Settings, instance: Instance, port: int, demo_seed: int | None) -> None:
    configure_logging(settings)
    configure_traces(settings)
    # Errors of what is started in this process are said by it; its steps are for whoever looks for them.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    embedded = not any(settings.postgres_of(name) for name in services.NAMES)
    async with infrastructure(settings, instance.folder, _say) as found:
        settings = settings.model_copy(
            update={
                "kafka": found.kafka,
                "postgres": found.postgres,
                "secret": settings.secret or SecretStr(instance.secret),
                "erasure_key": settings.erasure_key or SecretStr(instance.erasure_key),
            }
        )
        for name in services.NAMES:
            dsn = settings.postgres_of(name) or found.postgres
            if applied := await migrate(dsn, name, services.migrations(name)):
                _say(f"{name}: {len(applied)} migrations applied")
        if created := await ensure_streams(found.kafka, settings.partitions, settings.kafka_replication):
            _say(f"Kafka: {len(created)} streams created")
        demo = None if demo_seed is None else Demo(settings, instance.folder, demo_seed, _say)
        if demo:
            await demo.open()

        built = [services.build(name, settings) for name in services.NAMES]

        async def announce(url: str) -> None:
            settings.listens_at(url)
            await _ready(built)
            if demo:
                await demo.fill(url)
            instance.ready(settings.url or url, found.kafka, found.postgres)
            typer.echo(f"ready: {settings.url or url}")
            if demo:
                await demo.live(url)

        await _serve_and(announce, create_process(built, settings, embedded=embedded), settings.host, port)
    shutdown_traces()


async def _ready(built: Sequence[Service]) -> None:
    """Wait until every service is; after some seconds say what is waited for, and again when it is something else."""
    begun, said = time.monotonic(), ""
    while problems := [f"{service.name}: {line}" for service in built for line in await service.problems()]:
        # Some of them count seconds or attempts: that alone is no news.
        kind = re.sub(r"\d+", "", "; ".join(problems))
        if kind != said and time.monotonic() - begun > QUIET_SECONDS:
            _say(f"waiting: {'; '.join(problems)}")
            said = kind
        await asyncio.sleep(0.1)


async def _serve_and(work: Callable[[str], Coroutine[Any, Any, None]], app: ASGIApp, host: str, port: int) -> None:
    """Serve, and do some work once it listens; where the work fails, serving ends and that is raised."""
    working: list[asyncio.Task[None]] = []
    serving = asyncio.current_task()

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() and serving:
            serving.cancel()

    def listening(url: str) -> None:
        working.append(asyncio.get_running_loop().create_task(work(url)))
        working[0].add_done_callback(ended)

    try:
        await serve(app, host, port, ready=listening)
    except asyncio.CancelledError:
        if working and working[0].done() and (error := working[0].exception()):
            raise error from None
        raise
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


def _say(line: str) -> None:
    console.print(line, style="dim", soft_wrap=True)
