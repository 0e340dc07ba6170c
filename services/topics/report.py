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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.topics.rules import MICROSECOND
from services.topics.statistics import UNANSWERED, Figures, figures
from shared.contracts.types import EPOCH, microseconds
from shared.postgres import Pool, Queries

SQL = Queries(Path(__file__).parent / "sql" / "report.sql")

Every = Literal["day", "week", "month", "year"]
TopicColumns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""created, response and target of some topics."""
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

    def chosen(self, scope: Scope, as_of: int) -> TopicColumns:
        """created, response and target of the topics of a scope that exist at ``as_of``."""
        return self._masked(self._mask(scope, as_of))

    def _mask(self, scope: Scope, as_of: int) -> NDArray[np.bool_]:
        mask = self._created_in(scope, as_of)
        if scope.space is not None:
            mask &= self._arrays["space"][: self._size] == self._numbers.get(scope.space, -1)
        if scope.language is not None:
            mask &= self._arrays["language"][: self._size] == self._numbers.get(scope.language, -1)
        return mask

    def largest_spaces(self, scope: Scope, as_of: int, most: int) -> list[tuple[str, TopicColumns]]:
        """As ``chosen``, of each of the spaces with the most topics, largest first: copies, which stay as they are."""
        mask = self._mask(scope, as_of)
        space = self._arrays["space"][: self._size][mask]
        columns = self._masked(mask)
        sizes = np.bincount(space, minlength=len(self._numbers))
        names = [(int(sizes[number]), name, number) for name, number in self._numbers.items() if name is not None]
        largest = [one for one in sorted(names, key=lambda one: (-one[0], one[1]))[:most] if one[0]]
        # All topics are sorted once, rather than looked through once for each of many spaces.
        order = np.argsort(space, kind="stable")
        ends = np.cumsum(sizes)
        found = []
        for size, name, number in largest:
            places = order[ends[number] - size : ends[number]]
            created, response, target = (column[places] for column in columns)
            found.append((name, (created, response, target)))
        return found

    def languages(self) -> list[str]:
        """Every language of a counted topic, by name."""
        used = np.unique(self._counted("language"))
        return sorted(name for name, number in self._numbers.items() if name is not None and number in used)

    def answered_since(self, instant: int) -> tuple[int, datetime | None]:
        """How many first responses there are since an instant (microseconds), and the instant of the last one."""
        created, response = self._counted("created"), self._counted("response")
        at = (created + response)[response != UNANSWERED]
        if not len(at):
            return 0, None
        return int(np.count_nonzero(at >= instant)), EPOCH + timedelta(microseconds=int(at.max()))

    def governed(self, scope: str, own: set[str], period: Scope, as_of: int) -> TopicColumns:
        """As ``chosen``, for the topics that a policy of ``scope`` governs where ``own`` have policies as well."""
        kind, _, name = scope.partition(":")
        space, language = self._arrays["space"][: self._size], self._arrays["language"][: self._size]
        numbers = {each: self._numbers.get(each.partition(":")[2], -1) for each in own}
        spaces = [number for each, number in numbers.items() if each.startswith("space:")]
        languages = [number for each, number in numbers.items() if each.startswith("language:")]
        if kind == "space":
            mask = space == self._numbers.get(name, -1)
        elif kind == "language":
            mask = (language == self._numbers.get(name, -1)) & ~np.isin(space, spaces)
        else:
            mask = ~np.isin(space, spaces) & ~np.isin(language, languages)
        return self._masked(mask & self._created_in(period, as_of))

    def _counted(self, name: str) -> NDArray[np.int64]:
        counted: NDArray[np.bool_] = self._arrays["created"][: self._size] != _NOT_COUNTED
        return self._arrays[name][: self._size][counted]

    def _created_in(self, scope: Scope, as_of: int) -> NDArray[np.bool_]:
        created = self._arrays["created"][: self._size]
        mask = (created >= (0 if scope.since is None else max(0, microseconds(scope.since)))) & (created <= as_of)
        if scope.until is not None:
            mask &= created < microseconds(scope.until)
        return mask

    def _masked(self, mask: NDArray[np.bool_]) -> TopicColumns:
        created, response, target = (self._arrays[name][: self._size] for name in ("created", "response", "target"))
        if mask.all():
            return created, response, target
        return created[mask], response[mask], target[mask]

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


@dataclass(frozen=True, slots=True)
class Preview:
    """The figures of the same questions, as they stand and under another target."""

    stands: Figures
    would: Figures


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

    async def by_space(
        self, scope: Scope, as_of: datetime, every: Every | None, most: int
    ) -> list[tuple[str, dict[str, Any]]]:
        """The figures of the largest spaces within a scope, and their series where ``every`` asks for one."""
        async with self._lock:
            await self._follow()
            found = await asyncio.to_thread(self._columns.largest_spaces, scope, microseconds(as_of), most)
        return await asyncio.to_thread(
            lambda: [(name, _answer(chosen, replace(scope, space=name), as_of, every)) for name, chosen in found]
        )

    async def languages(self) -> list[str]:
        """Every language that a question was asked in."""
        async with self._lock:
            await self._follow()
            return self._columns.languages()

    async def pulse(self, since: datetime) -> tuple[int, datetime | None]:
        """How many questions got their first response since an instant, and when the last one did."""
        async with self._lock:
            await self._follow()
            return self._columns.answered_since(microseconds(since))

    async def preview(self, scope: str, target: timedelta, own: set[str], period: Scope, now: datetime) -> Preview:
        """What a promise would have been worth in a period: its questions as they stand, and under ``target``.

        ``own`` are the scopes that have a policy of their own: a more specific one keeps what it governs.
        """
        async with self._lock:
            await self._follow()
            instant = microseconds(now)
            created, response, stood = self._columns.governed(scope, own, period, instant)
        other = np.full_like(stood, target // MICROSECOND)
        return Preview(figures(created, response, stood, instant), figures(created, response, other, instant))

    def _compute(self, scope: Scope, as_of: datetime, every: Every | None) -> dict[str, Any]:
        return _answer(self._columns.chosen(scope, microseconds(as_of)), scope, as_of, every)


async def _chunks(connection: Any, query: str, *arguments: Any) -> Any:
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(_CHUNK):
        yield rows


def _answer(columns: TopicColumns, scope: Scope, as_of: datetime, every: Every | None) -> dict[str, Any]:
    answer = figures(*columns, microseconds(as_of)).as_dict()
    answer["series"] = [] if every is None else list(_series(columns, scope, as_of, every))
    return answer


def _series(columns: TopicColumns, scope: Scope, as_of: datetime, every: Every) -> Iterator[dict[str, Any]]:
    """One entry for every bucket that touches the range, empty ones included, none that starts after ``as_of``."""
    created, response, target = columns
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
    if len(created) == 0 and (scope.since is None or scope.until is None):
        # An end without a topic counted bounds nothing on the other side.
        return None
    if scope.since is not None and scope.until is not None and scope.until <= scope.since:
        return None
    first = scope.since or EPOCH + timedelta(microseconds=int(created.min()))
    last = (
        scope.until - timedelta(microseconds=1)
        if scope.until is not None
        else EPOCH + timedelta(microseconds=int(created.max()))
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
