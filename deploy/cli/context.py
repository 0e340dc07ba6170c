"""Which instance a command works on: what the environment names, else the one that runs on the data folder."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from aiokafka.errors import KafkaError
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.text import Text

from deploy.infrastructure import Instance, InstanceInfo
from shared.messaging.kafka import KafkaUnavailable, hosts_of
from shared.postgres import UNAVAILABLE
from shared.postgres.pool import PostgresUnavailable
from shared.settings import Settings

T = TypeVar("T")

Data = Annotated[
    Path, typer.Option("--data", envvar="STARS_DATA", help="The folder that names the instance.", show_default=True)
]
DEFAULT_DATA = Path(".stars")


def commands(help: str | None = None) -> typer.Typer:
    """The command of a file, or, with ``help``, its group of commands."""
    return typer.Typer(
        help=help,
        no_args_is_help=help is not None,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )


# What is said is text: file names, ids and errors may hold what Rich would take for markup.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)


def fail(message: str) -> NoReturn:
    """End the command with a plain sentence."""
    console.print(Text.assemble(("stars:", "red"), f" {message}"), soft_wrap=True)
    raise typer.Exit(1)


OUTSIDE = (KafkaError, KafkaUnavailable, *UNAVAILABLE, asyncpg.PostgresError)
"""What is raised where Kafka, PostgreSQL or the network is away, refuses, or is not where the settings say."""


def in_words(error: Exception) -> str:
    """What one of OUTSIDE means: what is away or wrong, and the setting to look at."""
    match error:
        case KafkaError() | KafkaUnavailable():
            return f"Kafka cannot be used ({error}): look at STARS_KAFKA"
        case asyncpg.UndefinedTableError():
            return f"PostgreSQL cannot be used ({error}): run `stars migrate`"
        case PostgresUnavailable() | asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return f"PostgreSQL cannot be used ({error}): look at STARS_POSTGRES"
    return f"{type(error).__name__}: {error}"


def read_settings() -> Settings:
    """The settings of the environment, or a plain error that names the wrong one."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"STARS_{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        fail("; ".join(lines))


def settings_of(data: Path) -> tuple[Settings, InstanceInfo | None]:
    """The environment's settings, completed from the instance that runs on ``data``."""
    settings = read_settings()
    found = Instance.find(data)
    if found is None:
        return settings, None
    completed: dict[str, Any] = {}
    if not settings.kafka:
        completed["kafka"] = found.kafka
    if not settings.postgres:
        completed["postgres"] = found.postgres
    if not settings.url:
        completed["url"] = found.url
    folder = data.absolute()
    if not settings.secret:
        completed["secret"] = SecretStr((folder / "secret").read_text().strip())
    if not settings.erasure_key:
        completed["erasure_key"] = SecretStr((folder / "erasure_key").read_text().strip())
    return settings.model_copy(update=completed), found


def needed(settings: Settings, data: Path, *names: str) -> None:
    """End with a plain sentence where a setting is missing and no instance runs that would have it, or is wrong."""
    missing = [f"STARS_{name.upper()}" for name in names if not getattr(settings, name)]
    if missing:
        fail(
            f"no instance runs on {data}, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. "
            "Start one with `stars up`, or name another by environment."
        )
    if "kafka" in names:
        try:
            hosts_of(settings.kafka or "")
        except KafkaError as error:
            fail(in_words(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part; what is away or refuses is said in a sentence."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except OUTSIDE as error:
        fail(in_words(error))
