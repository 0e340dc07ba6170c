"""The series of the report: which buckets there are."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

import numpy as np
import pytest

from services.topics.promise import shown_since
from services.topics.report import MOST_BUCKETS, Columns, Every, Report, Scope, TooManyBuckets
from services.topics.rules import microseconds

HOUR = timedelta(hours=1)
DAY = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


def starts(scope: Scope, as_of: datetime, every: str, *created: datetime) -> list[str]:
    report = Report.__new__(Report)
    report._columns = Columns()
    if created:
        report._columns.put([(f"t{n}", microseconds(at), None, 1, "s", None) for n, at in enumerate(created)])
    return [f"{bucket['start']:%m-%d}" for bucket in report._compute(scope, as_of, every)["series"]]


def test_a_bucket_is_there_when_it_starts_before_as_of_even_if_the_range_does_not() -> None:
    scope = Scope(since=DAY + 2 * HOUR, until=DAY + 50 * HOUR)
    assert starts(scope, DAY + HOUR, "day") == ["01-01"]
    assert starts(scope, DAY, "day") == ["01-01"]
    assert starts(scope, DAY - HOUR, "day") == []
    assert starts(scope, DAY + 99 * HOUR, "day") == ["01-01", "01-02", "01-03"]


def test_the_end_of_the_range_is_excluded() -> None:
    assert starts(Scope(since=DAY, until=DAY + 24 * HOUR), DAY + 99 * HOUR, "day") == ["01-01"]
    assert starts(Scope(since=DAY, until=DAY), DAY + 99 * HOUR, "day") == []


def test_where_a_bound_is_absent_the_first_and_last_topic_counted_bound_the_series() -> None:
    topics = (DAY + HOUR, DAY + 80 * HOUR)
    assert starts(Scope(), DAY + 999 * HOUR, "day", *topics) == ["01-01", "01-02", "01-03", "01-04"]
    assert starts(Scope(since=DAY - 24 * HOUR), DAY + 999 * HOUR, "day", topics[0]) == ["12-31", "01-01"]
    assert starts(Scope(), DAY + 999 * HOUR, "day") == []


def test_weeks_begin_on_monday_and_months_and_years_on_their_first_day() -> None:
    scope = Scope(since=datetime(2023, 12, 30, tzinfo=UTC), until=datetime(2024, 1, 9, tzinfo=UTC))
    as_of = datetime(2025, 1, 1, tzinfo=UTC)
    assert starts(scope, as_of, "week") == ["12-25", "01-01", "01-08"]
    assert starts(scope, as_of, "month") == ["12-01", "01-01"]
    assert starts(scope, as_of, "year") == ["01-01", "01-01"]


def test_a_series_that_nobody_can_read_is_refused_plainly() -> None:
    scope = Scope(since=datetime(1970, 1, 1, tzinfo=UTC), until=datetime(9999, 1, 1, tzinfo=UTC))
    with pytest.raises(TooManyBuckets, match=str(MOST_BUCKETS)):
        starts(scope, datetime(9999, 1, 1, tzinfo=UTC), "day")


def test_columns_grow_and_later_rows_replace_earlier_ones() -> None:
    columns = Columns()
    for n in range(0, 5000, 100):
        columns.put([(f"t{n + k}", n + k, None, 1, "s", None) for k in range(100)])
    columns.put([("t7", None, None, None, None, None)])
    created, _, _ = columns.chosen(Scope(), 10**15)
    assert sorted(created) == [n for n in range(5000) if n != 7]
    assert np.all(columns.chosen(Scope(space="nowhere"), 10**15)[0] == [])


@pytest.mark.parametrize(("every", "count"), [("day", 30), ("week", 26), ("month", 25)])
def test_a_page_shows_as_many_buckets_on_every_day_of_the_year(every: Every, count: int) -> None:
    for day in range(366):
        now = DAY + timedelta(days=day, hours=13)
        assert len(starts(Scope(since=shown_since(now, every)), now, every, now)) == count, now


async def test_spaces_are_compared_by_what_each_has_by_itself() -> None:
    report = Report.__new__(Report)
    report._columns, report._lock = Columns(), asyncio.Lock()
    report._follow = AsyncMock(return_value=0)  # type: ignore[method-assign]
    rows = [
        (f"t{n}", microseconds(DAY + n * HOUR), None if n % 3 else n * 1000, 1000, ("a", "b", None, "c")[n % 4], "en")
        for n in range(60)
    ]
    report._columns.put([*rows, ("d", microseconds(DAY), 5, 1000, "small", "de")])
    as_of = DAY + 99 * HOUR
    for scope in (Scope(), Scope(since=DAY + 5 * HOUR, until=DAY + 50 * HOUR, language="en")):
        found = await report.by_space(scope, as_of, "day", 3)
        assert {name for name, _ in found} == {"a", "b", "c"}
        for name, answer in found:
            assert answer == report._compute(replace(scope, space=name), as_of, "day")
