"""The report: is the promise kept? Read from columns in memory that follow the database row by row.

A million topics cannot be ranked by their response times in a query that a person waits for, and no table of sums
can answer for any range, any ``as_of`` and any correction at once. So each process keeps five numbers a topic
(40 bytes) and, before each answer, reads what changed since the last: one indexed query, most often of no rows.

What changed is found by transaction: every version of a row names the transaction that wrote it, and whatever is
older than the oldest one running is settled. Rows that were in flight then are read again; that is all.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.topics.rules import microseconds
from services.topics.statistics import UNANSWERED, Figures, figures
from shared.postgres import Pool, Queries

SQL = Queries(Path(__file__).parent / "sql" / "report.sql")

Every = Literal["day", "week", "month", "year"]
log = logging.getLogger(__name__)

KEEP_UP_SECONDS = 1.0
_CHUNK = 20_000
_NOT_COUNTED = -1
MOST_BUCKETS = 10_000


class TooManyBuckets(ValueError):
    """A series would be longer than anyone reads."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which topics are meant: created in [since, until), in a space, in a language."""

    since: datetime | None = None
    until: datetime | None = None
    space: str | None = None
    language: str | None = None


class Columns:
    """Five numbers a topic, in arrays that grow by half when they are full."""

    _NAMES = ("created", "response", "target", "space", "language")

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._numbers: dict[str | None, int] = {}
        self._size = 0
        self._arrays = {name: np.empty(1024, np.int64) for name in self._NAMES}

    def __len__(self) -> int:
        return self._size

    def put(self, rows: list[Any]) -> None:
        """Take rows (topic_id, created_us, response_us, target_us, space, language); created_us null: not counted."""
        places = np.fromiter((self._place(row[0]) for row in rows), np.int64, len(rows))
        created = [_NOT_COUNTED if row[1] is None else row[1] for row in rows]
        self._arrays["created"][places] = created
        self._arrays["response"][places] = [UNANSWERED if row[2] is None else row[2] for row in rows]
        self._arrays["target"][places] = [row[3] or 0 for row in rows]
        self._arrays["space"][places] = [self._number(row[4]) for row in rows]
        self._arrays["language"][places] = [self._number(row[5]) for row in rows]

    def chosen(self, scope: Scope, as_of: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """created, response and target of the topics of a scope that exist at ``as_of``."""
        created, response, target, space, language = (self._arrays[name][: self._size] for name in self._NAMES)
        mask = (created >= (0 if scope.since is None else max(0, microseconds(scope.since)))) & (created <= as_of)
        if scope.until is not None:
            mask &= created < microseconds(scope.until)
        if scope.space is not None:
            mask &= space == self._numbers.get(scope.space, -1)
        if scope.language is not None:
            mask &= language == self._numbers.get(scope.language, -1)
        if mask.all():
            return created, response, target
        return created[mask], response[mask], target[mask]

    def largest_spaces(self, most: int) -> list[str]:
        """The spaces with the most topics, largest first."""
        counted = self._arrays["space"][: self._size][self._arrays["created"][: self._size] != _NOT_COUNTED]
        sizes = np.bincount(counted, minlength=len(self._numbers))
        names = [(int(sizes[number]), name) for name, number in self._numbers.items() if name is not None]
        return [name for size, name in sorted(names, key=lambda one: (-one[0], one[1].encode()))[:most] if size]

    def _place(self, topic_id: str) -> int:
        place = self._row_of.get(topic_id)
        if place is None:
            place = self._row_of[topic_id] = self._size
            self._size += 1
            if self._size > len(self._arrays["created"]):
                self._arrays = {
                    name: np.concatenate((array, np.empty(len(array) // 2, np.int64)))
                    for name, array in self._arrays.items()
                }
        return place

    def _number(self, name: str | None) -> int:
        return self._numbers.setdefault(name, len(self._numbers))


class Report:
    """Answers about the promise, for one process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._columns = Columns()
        self._settled: str = "0"
        self._lock = asyncio.Lock()

    async def follow(self) -> int:
        """Read what changed since the last time; returns how many rows. The first time, that is everything."""
        async with self._lock:
            return await self._follow()

    async def keep_up(self) -> None:
        """Follow the database all the time, so that nobody who asks waits for a long list of changes."""
        while True:
            try:
                await self.follow()
            except asyncpg.UndefinedTableError:
                log.info("the report waits for the migrations")
            await asyncio.sleep(KEEP_UP_SECONDS)

    async def _follow(self) -> int:
        read = 0
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            settled = await connection.fetchval(SQL.oldest_running)
            async for rows in _chunks(connection, SQL.changed_since, self._settled):
                self._columns.put(rows)
                read += len(rows)
        self._settled = settled
        return read

    async def answer(self, scope: Scope, as_of: datetime, every: Every | None) -> dict[str, Any]:
        """The figures of a scope as of an instant, and the series where ``every`` asks for one."""
        async with self._lock:
            await self._follow()
            return await asyncio.to_thread(self._compute, scope, as_of, every)

    async def by_space(self, as_of: datetime, most: int) -> list[tuple[str, dict[str, Any]]]:
        """The figures of the largest spaces."""
        async with self._lock:
            await self._follow()
            names = self._columns.largest_spaces(most)
            return [(n, await asyncio.to_thread(self._compute, Scope(space=n), as_of, None)) for n in names]

    def _compute(self, scope: Scope, as_of: datetime, every: Every | None) -> dict[str, Any]:
        instant = microseconds(as_of)
        created, response, target = self._columns.chosen(scope, instant)
        answer = figures(created, response, target, instant).as_dict()
        answer["series"] = [] if every is None else list(_series(created, response, target, scope, as_of, every))
        return answer


async def _chunks(connection: Any, query: str, *arguments: Any) -> Any:
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(_CHUNK):
        yield rows


def _series(
    created: NDArray[np.int64],
    response: NDArray[np.int64],
    target: NDArray[np.int64],
    scope: Scope,
    as_of: datetime,
    every: Every,
) -> Iterator[dict[str, Any]]:
    """One entry for every bucket that touches the range, empty ones included, none that starts after ``as_of``."""
    bounds = _range(created, scope)
    if bounds is None:
        return
    until_now = takewhile(lambda start: start <= as_of, buckets(*bounds, every))
    starts = list(islice(until_now, MOST_BUCKETS + 1))
    if len(starts) > MOST_BUCKETS:
        raise TooManyBuckets(f"more than {MOST_BUCKETS} of them: choose a shorter range or longer steps")
    order = np.argsort(created)
    created, response, target = created[order], response[order], target[order]
    edges = np.searchsorted(created, [microseconds(start) for start in starts] + [np.iinfo(np.int64).max])
    instant = microseconds(as_of)
    for n, start in enumerate(starts):
        part = slice(edges[n], edges[n + 1])
        found: Figures = figures(created[part], response[part], target[part], instant)
        yield {"start": start, **found.as_dict()}


def _range(created: NDArray[np.int64], scope: Scope) -> tuple[datetime, datetime] | None:
    """The first and last instant of the series: the scope's own bounds, else those of the topics counted."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    if len(created) == 0 and (scope.since is None or scope.until is None):
        # An end without a topic counted bounds nothing on the other side.
        return None
    if scope.since is not None and scope.until is not None and scope.until <= scope.since:
        return None
    first = scope.since or epoch + timedelta(microseconds=int(created.min()))
    last = (
        scope.until - timedelta(microseconds=1)
        if scope.until is not None
        else epoch + timedelta(microseconds=int(created.max()))
    )
    return (first, last) if first <= last else None


def buckets(first: datetime, last: datetime, every: Every) -> Iterator[datetime]:
    """The starts of the buckets, in UTC, that touch [first, last]; weeks are ISO weeks, from Monday."""
    start = bucket_start(first, every)
    while start <= last:
        yield start
        try:
            start = _next(start, every)
        except (ValueError, OverflowError):
            return  # the calendar ends with the year 9999


def bucket_start(instant: datetime, every: Every) -> datetime:
    """The start of the bucket in which an instant lies."""
    day = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if every == "week":
        return day - timedelta(days=day.weekday())
    if every == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if every == "year" else day


def _next(start: datetime, every: Every) -> datetime:
    if every == "day":
        return start + timedelta(days=1)
    if every == "week":
        return start + timedelta(days=7)
    if every == "year":
        return start.replace(year=start.year + 1)
    return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
