"""The four services, by name: the one place that knows them all."""

from importlib.metadata import version
from types import ModuleType
from typing import Protocol

from services.applications import app as applications
from services.leaderboard import app as leaderboard
from services.notifier import app as notifier
from services.topics import app as topics
from shared.postgres import Migrations
from shared.settings import Settings
from shared.web import Service

VERSION = version("constellation")
_MODULES: dict[str, ModuleType] = {module.NAME: module for module in (topics, notifier, leaderboard, applications)}
NAMES = tuple(_MODULES)


class Build(Protocol):
    """How a service is built, inside a running event loop."""

    def __call__(self, settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service: ...


def build(name: str, settings: Settings, *, http: bool = True, worker: bool = True) -> Service:
    """A service by its name."""
    make: Build = _MODULES[name].build
    return make(settings, VERSION, http=http, worker=worker)


def migrations(name: str) -> tuple[Migrations, ...]:
    """What a service's schema is made of."""
    found: tuple[Migrations, ...] = _MODULES[name].MIGRATIONS
    return found
