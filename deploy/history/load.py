"""Events into Kafka: in batches, read ahead while others are on their way, and resumable."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiokafka.errors import KafkaError

from deploy.history.findings import Findings, HistoryError
from services.topics.ingestion import records
from shared.contracts.envelope import Event
from shared.messaging import KafkaUnavailable

T = TypeVar("T")
Record = tuple[str, str, bytes]
Send = Callable[[Sequence[Record]], Awaitable[None]]
"""Takes (stream, key, value) records and returns when Kafka has them all, or raises."""

BATCH = 2000
IN_FLIGHT = 4
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
PATIENCE = 300.0
"""How long a batch is tried before the import gives up."""
SAVE_EVERY = 0.5
AWAY = (KafkaUnavailable, KafkaError, OSError, TimeoutError)
"""What is worth another try."""

ORDER = 1
"""To be raised whenever a reader's order of events changes: a count is a place only within one order."""


class LoadFailed(HistoryError):
    """Kafka did not take a batch for too long. What it took is remembered where there is a checkpoint."""


@dataclass(frozen=True)
class Loaded:
    """What became of the events. ``skipped`` were taken by an earlier, interrupted run."""

    sent: int
    skipped: int
    refused: int
    seconds: float


def checkpoint_file(data: Path, name: str) -> Path:
    """Where the progress of one import is kept, in the instance's data folder."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:60]
    return data / "imports" / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.json"


def fingerprint(files: Iterable[Path], **about: str | None) -> str:
    """Names what is imported, and where to: another file, size, time, option or cluster is another import."""
    seen = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    return json.dumps({"order": ORDER, "files": sorted(seen), **about}, sort_keys=True)


async def load(
    events: Iterable[Event],
    send: Send,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] | None = None,
    dump: str = "",
    findings: Findings | None = None,
    say: Callable[[str], None] | None = None,
    batch: int = BATCH,
    in_flight: int = IN_FLIGHT,
    patience: float = PATIENCE,
) -> Loaded:
    """Send all events; returns when Kafka has every one.

    ``events`` is read in threads of their own, one at a time, while up to ``in_flight`` batches are on their way.
    ``checkpoint`` is a file that remembers how many events of ``dump`` (its fingerprint) Kafka has: an interrupted run
    goes on from there, a finished one removes it, so that a repeat sends everything again, which is safe: the ids
    are the same. ``progress`` hears how many events Kafka has, those of earlier runs included. ``say`` hears plain
    sentences. ``findings`` is what the reader of ``events`` fills. Raises LoadFailed, and whatever reading raises.
    """
    begun = time.monotonic()
    say = say or (lambda _: None)
    place = _Place(checkpoint, dump)
    skipped = 0
    iterator = iter(events)
    on_the_way: deque[tuple[int, asyncio.Task[None]]] = deque()

    def acknowledge() -> None:
        count, task = on_the_way[0]
        task.result()  # where it failed it stays the first: nothing after it counts
        on_the_way.popleft()
        place.advance(count)
        if progress:
            progress(place.count)

    try:
        if place.count:
            say(f"going on after the {place.count:,} events that an interrupted import has brought in")
            skipped = await _in_thread(lambda: _skip(iterator, place.count))
            if progress:
                progress(skipped)
        while taken := await _in_thread(lambda: records(list(itertools.islice(iterator, batch)))):
            task = asyncio.create_task(_send(send, taken, say, patience))
            on_the_way.append((len(taken), task))
            while on_the_way and (len(on_the_way) >= in_flight or on_the_way[0][1].done()):
                await asyncio.wait([on_the_way[0][1]])
                acknowledge()
        while on_the_way:
            await asyncio.wait([on_the_way[0][1]])
            acknowledge()
    except BaseException:
        # What Kafka has taken meanwhile counts, up to the first batch that it may not have.
        while on_the_way and on_the_way[0][1].done() and _well(on_the_way[0][1]):
            acknowledge()
        for _, task in on_the_way:
            task.cancel()
        place.save()
        await asyncio.gather(*(task for _, task in on_the_way), return_exceptions=True)
        raise
    place.forget()
    return Loaded(place.sent, skipped, findings.refused if findings else 0, time.monotonic() - begun)


def _well(task: "asyncio.Task[None]") -> bool:
    return not task.cancelled() and task.exception() is None


async def _send(send: Send, batch: Sequence[Record], say: Callable[[str], None], patience: float) -> None:
    """Send one batch, again and again while Kafka is away."""
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return await send(batch)
        except AWAY as error:
            why = f"{type(error).__name__}: {error}"
            if time.monotonic() + pause > deadline:
                raise LoadFailed(
                    f"Kafka did not take a batch in {patience:.0f} s ({why}). Run the same command again to go on"
                ) from error
            say(f"Kafka did not take a batch of {len(batch):,} events; trying it again in {pause:.1f} s ({why})")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _skip(events: Iterator[Event], count: int) -> int:
    """Pass over events, and say how many there were."""
    return sum(1 for _ in itertools.islice(events, count))


async def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that nobody waits for at the end: reading a large dump must not hold up Ctrl-C."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is gone: so is whoever asked
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="reading history", daemon=True).start()
    return await future


class _Place:
    """How many events Kafka is known to have, in a file that is always whole."""

    def __init__(self, file: Path | None, dump: str) -> None:
        self._file, self._dump = file, dump
        self._saved_at = time.monotonic()
        self.count = self._read()
        self.sent = 0

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            found = json.loads(self._file.read_bytes())
            count = found["events"] if found["dump"] == self._dump else 0
        except (OSError, ValueError, LookupError, TypeError):
            return 0  # absent or unreadable: from the beginning is always right
        return count if isinstance(count, int) and count > 0 else 0

    def advance(self, count: int) -> None:
        self.count += count
        self.sent += count
        if time.monotonic() - self._saved_at > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write the file anew beside the old one, then put it in its place."""
        self._saved_at = time.monotonic()
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with beside.open("w") as stream:
            json.dump({"dump": self._dump, "events": self.count}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._file)

    def forget(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)
