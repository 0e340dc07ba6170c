"""Kafka and PostgreSQL, always real: what the environment names, else Docker if asked for, else embedded."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.infrastructure.containers import DockerKafka, DockerPostgres, docker_answers
from deploy.infrastructure.instance import AlreadyRunning, Instance, InstanceInfo
from deploy.infrastructure.kafka import VERSION, EmbeddedKafka
from deploy.infrastructure.postgres import MAJOR, EmbeddedPostgres
from deploy.infrastructure.processes import InfrastructureError, clear_leftovers
from shared.settings import Settings

__all__ = [
    "AlreadyRunning",
    "EmbeddedKafka",
    "EmbeddedPostgres",
    "Infrastructure",
    "InfrastructureError",
    "Instance",
    "InstanceInfo",
    "clear_leftovers",
    "infrastructure",
]

STOP_SECONDS = 15  # after which a stop is given up and the child killed; each child's own deadline is shorter


@dataclass(frozen=True)
class Infrastructure:
    """Where Kafka and PostgreSQL are."""

    kafka: str  # bootstrap servers
    postgres: str  # DSN; a superuser's unless it was given
    described: str  # for people, without a password


def to_stderr(line: str) -> None:
    """Say LINE where it does not mix with what a command prints."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


@contextlib.asynccontextmanager
async def infrastructure(
    settings: Settings,
    folder: Path,
    say: Callable[[str], None] = to_stderr,
    *,
    docker: bool = False,
    postgres_settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Infrastructure]:
    """Kafka and PostgreSQL for the length of a block; what was started for it is stopped after it.

    FOLDER keeps embedded data; whoever calls holds its lock (`Instance.open`). SAY gets one line that says which was
    taken, and lines about downloads before it. Raises InfrastructureError.
    """
    stack = contextlib.AsyncExitStack()
    use_docker = docker and not (settings.kafka and settings.postgres) and await asyncio.to_thread(docker_answers)

    async def start_kafka() -> tuple[str, str]:
        if settings.kafka:
            return settings.kafka, f"Kafka at {settings.kafka}"
        if use_docker:
            container = DockerKafka()
            servers = await asyncio.to_thread(container.start)
            stack.push_async_callback(asyncio.to_thread, container.stop)
            return servers, f"Kafka {VERSION} in Docker at {servers}"
        kafka = EmbeddedKafka(folder)
        servers = await kafka.start(say)
        stack.push_async_callback(_stop, kafka)
        return servers, f"Kafka {VERSION} embedded at {servers}"

    async def start_postgres() -> tuple[str, str]:
        if settings.postgres:
            return settings.postgres, f"PostgreSQL at {_place(settings.postgres)}"
        if use_docker:
            container = DockerPostgres()
            dsn = await asyncio.to_thread(container.start)
            stack.push_async_callback(asyncio.to_thread, container.stop)
            return dsn, f"PostgreSQL {MAJOR} in Docker at {_place(dsn)}"
        postgres = EmbeddedPostgres(folder, postgres_settings)
        dsn = await postgres.start()
        stack.push_async_callback(_stop, postgres)
        return dsn, f"PostgreSQL {MAJOR} embedded at {_place(dsn)}"

    async with stack:
        starting = [asyncio.ensure_future(start_kafka()), asyncio.ensure_future(start_postgres())]
        try:
            (servers, kafka_described), (dsn, postgres_described) = await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            raise
        described = f"{kafka_described}, {postgres_described}"
        say(described)
        yield Infrastructure(servers, dsn, described)


async def _stop(child: EmbeddedKafka | EmbeddedPostgres) -> None:
    try:
        await asyncio.wait_for(child.stop(), STOP_SECONDS)
    except TimeoutError:
        child.kill()


def _place(dsn: str) -> str:
    """The host, port and database of a DSN, without user and password."""
    parts = urlsplit(dsn)
    return f"{parts.hostname or 'the local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"
