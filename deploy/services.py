"""The four services, by name: the one place that knows them all."""

from importlib.metadata import version
from types import ModuleType
from typing import Protocol

from services.applications import app as applications
from services.applications import consumer as applications_consumer
from services.leaderboard import app as leaderboard
from services.leaderboard import consumer as leaderboard_consumer
from services.notifier import app as notifier
from services.notifier import consumer as notifier_consumer
from services.topics import app as topics
from services.topics import consumer as topics_consumer
from shared.postgres import Migrations
from shared.settings import Settings
from shared.web import Service

VERSION = version("constellation")
_MODULES: dict[str, ModuleType] = {module.NAME: module for module in (topics, notifier, leaderboard, applications)}
_CONSUMERS: dict[str, ModuleType] = {
    "topics": topics_consumer,
    "notifier": notifier_consumer,
    "leaderboard": leaderboard_consumer,
    "applications": applications_consumer,
}
NAMES = tuple(_MODULES)


class Build(Protocol):
    """How a service is built, inside a running event loop."""

    def __call__(self, settings: Settings, version: str, *, http: bool = True, worker: bool = True) -> Service: ...


def build(name: str, settings: Settings, *, http: bool = True, worker: bool = True) -> Service:
    """A service by its name."""
    make: Build = _MODULES[name].build
    return make(settings, VERSION, http=http, worker=worker)


def streams(name: str) -> frozenset[str]:
    """The streams that a service reads."""
    return frozenset(stream.name for stream in _CONSUMERS[name].STREAMS)


def migrations(name: str) -> tuple[Migrations, ...]:
    """What a service's schema is made of."""
    found: tuple[Migrations, ...] = _MODULES[name].MIGRATIONS
    return found
