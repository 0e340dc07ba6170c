"""A service as ``stars run`` runs it, with stop-watches: what does a batch's time go to?

Only for the pass that explains; rates are taken from the service as it is.
"""

import argparse
import asyncio
import cProfile
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from deploy.services import build
from services.leaderboard import consumer as ledger
from services.leaderboard import derive as entries
from services.leaderboard import projector
from services.topics import clock, consumer, derive
from shared.forum import facts
from shared.messaging import consumer as messaging
from shared.messaging import outbox, relay
from shared.observability import configure_logging
from shared.settings import Settings
from shared.web import create_process, run, serve


class Watch:
    """Wall-clock seconds by what they were spent on: calls nest, so phases and statements are kept apart."""

    def __init__(self) -> None:
        self.phases: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self.statements: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self._names: dict[str, str] = {}
        for queries in (facts.SQL, derive.SQL, outbox.SQL, clock.SQL, entries.SQL, projector.SQL):
            self._names |= {text: name for name, text in queries._texts.items()}
        self._names[projector.FOLD_TAKEN] = "fold (beside the batches)"
        self._names["outbox"] = "COPY outbox"

    def watch(self) -> None:
        """Put stop-watches on the phases of a batch, and on every statement."""
        self._wrap(messaging.Consumer, "_apply_batch", "a batch, all of it")
        self._wrap(messaging.Consumer, "_decode", "decode")
        self._wrap(facts.Facts, "fold", "fold into facts")
        self._wrap(consumer, "rederive", "derive and store")
        self._wrap(ledger, "rederive", "derive and store")
        self._wrap(entries, "derive", "… of it deciding, in Python")
        self._wrap(projector.Projector, "fold", "fold into boards (beside the batches)")
        self._wrap(outbox.Transaction, "write_outbox", "write the outbox")
        self._wrap(relay.Relay, "_publish", "relay (beside the batches)")
        for name in ("fetch", "fetchrow", "fetchval", "execute", "copy_records_to_table"):
            self._wrap_statement(name)

    def dump(self, file: Path) -> None:
        """Write what was measured."""
        file.write_text(json.dumps({"phases": self.phases, "statements": self.statements}))

    def _wrap(self, owner: Any, name: str, label: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        if asyncio.iscoroutinefunction(inner):

            @functools.wraps(inner)
            async def timed(*args: Any, **kwargs: Any) -> Any:
                started = time.perf_counter()
                try:
                    return await inner(*args, **kwargs)
                finally:
                    self._add(self.phases[label], started)

        else:

            @functools.wraps(inner)
            def timed(*args: Any, **kwargs: Any) -> Any:
                started = time.perf_counter()
                try:
                    return inner(*args, **kwargs)
                finally:
                    self._add(self.phases[label], started)

        setattr(owner, name, timed)

    def _wrap_statement(self, name: str) -> None:
        inner = getattr(asyncpg.Connection, name)

        @functools.wraps(inner)
        async def timed(connection: Any, query: str, *args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return await inner(connection, query, *args, **kwargs)
            finally:
                label = self._names.get(query) or " ".join(query.split())[:40]
                self._add(self.statements[label], started)

        setattr(asyncpg.Connection, name, timed)

    @staticmethod
    def _add(into: list[float], started: float) -> None:
        into[0] += 1
        into[1] += time.perf_counter() - started


async def _serve(name: str, only: str | None) -> None:
    settings = Settings()
    configure_logging(settings)
    service = build(name, settings, http=only != "worker", worker=only != "http")
    await serve(
        create_process([service], settings), "127.0.0.1", 0, ready=lambda url: print(f"ready: {url}", flush=True)
    )


def main() -> None:
    """Serve until told to stop, then write down what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("service")
    parser.add_argument("--only", choices=["http", "worker"])
    parser.add_argument("--phases", type=Path, help="write wall-clock time by phase and statement here")
    parser.add_argument("--profile", type=Path, help="write a profile for pstats here")
    given = parser.parse_args()
    watch = Watch()
    if given.phases:
        watch.watch()
    profile = cProfile.Profile() if given.profile else None
    if profile:
        profile.enable()
    try:
        run(_serve(given.service, given.only))
    finally:
        if profile:
            profile.disable()
            profile.dump_stats(given.profile)
        if given.phases:
            watch.dump(given.phases)


if __name__ == "__main__":
    main()
