"""The four services, by name: the one place that knows them all."""

from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Protocol

from shared.postgres import Migrations
from shared.settings import Settings
from shared.web import Service

VERSION = version("constellation")
NAMES = ("topics", "notifier", "leaderboard", "applications")


def _module(name: str, file: str) -> ModuleType:
    """A service's module, imported when it is needed: a command that runs one service does not wait for the others."""
    return import_module(f"services.{name}.{file}")


class Build(Protocol):
    """How a service is built, inside a running event loop."""

    def __call__(self, settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service: ...


def build(name: str, settings: Settings, *, http: bool = True, worker: bool = True) -> Service:
    """A service by its name."""
    make: Build = _module(name, "app").build
    return make(settings, VERSION, http=http, worker=worker)


def streams(name: str) -> frozenset[str]:
    """The streams that a service reads."""
    return frozenset(stream.name for stream in _module(name, "consumer").STREAMS)


def migrations(name: str) -> tuple[Migrations, ...]:
    """What a service's schema is made of."""
    found: tuple[Migrations, ...] = _module(name, "app").MIGRATIONS
    return found
