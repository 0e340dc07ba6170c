"""``stars up``: infrastructure, migrations, Kafka topics and all four services, in one process."""

import asyncio
import logging
from typing import Annotated

import typer
from pydantic import SecretStr

from deploy import services
from deploy.cli.context import DEFAULT_DATA, Data, console, fail, read_settings
from deploy.infrastructure import InfrastructureError, Instance, infrastructure
from shared.messaging.kafka import KafkaUnavailable, ensure_streams
from shared.observability import configure_logging, configure_traces, shutdown_traces
from shared.postgres import MigrationsError, migrate
from shared.settings import Settings
from shared.web import PortTaken, StartFailed, create_process, run, serve


def up(
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 finds a free one.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Start everything: embedded Kafka and PostgreSQL unless the environment names them, and all four services.

    Prints `ready: URL` when it is; Ctrl-C stops all of it, and a second start finds everything again.
    """
    settings = read_settings()
    if "log_format" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_format": "text"})
    try:
        with Instance.open(data) as instance:
            if port is not None:
                settings = settings.model_copy(update={"port": port})
            run(_up(settings, instance, settings.port))
    except (InfrastructureError, MigrationsError, PortTaken, StartFailed, KafkaUnavailable, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        pass
    console.print("stopped")


async def _up(settings: Settings, instance: Instance, port: int) -> None:
    configure_logging(settings)
    configure_traces(settings)
    # Errors of what is started in this process are said by it; its steps are for whoever looks for them.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    embedded = settings.postgres is None
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

        built = [services.build(name, settings) for name in services.NAMES]
        announcing: list[asyncio.Task[None]] = []

        async def announce(url: str) -> None:
            while any([await service.problems() for service in built]):
                await asyncio.sleep(0.1)
            instance.ready(url, found.kafka, found.postgres)
            typer.echo(f"ready: {url}")

        def listening(url: str) -> None:
            announcing.append(asyncio.get_running_loop().create_task(announce(settings.url or url)))

        await serve(create_process(built, settings, embedded=embedded), settings.host, port, ready=listening)
    shutdown_traces()


def _say(line: str) -> None:
    console.print(line, style="dim", soft_wrap=True)
