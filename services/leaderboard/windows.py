"""Windows of boards: days, weeks, months, quarters, years, all time and seasons, in local dates."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

_EPOCH = date(1970, 1, 1)
_KIND = 4_000_000
"""Periods are numbers: so many for each kind of window, in the order of Window, and the days since 1970 in it."""

SEASON = 6 * _KIND


class Window(StrEnum):
    """What can be asked for."""

    all = "all"
    day = "day"
    week = "week"
    month = "month"
    quarter = "quarter"
    year = "year"
    season = "season"


@dataclass(frozen=True, slots=True)
class Period:
    """One window: its number, its first local date and the one after its last; of all time there are none."""

    number: int
    start: date | None = None
    end: date | None = None


def period(window: Window, at: date) -> Period:
    """The window of this kind that a local date lies in; none for seasons. Raises OverflowError where dates end."""
    match window:
        case Window.all:
            return Period(0)
        case Window.day:
            start, end = at, at + timedelta(days=1)
        case Window.week:
            start = at - timedelta(days=at.weekday())
            end = start + timedelta(days=7)
        case Window.month:
            start = at.replace(day=1)
            end = _months_later(start, 1)
        case Window.quarter:
            start = at.replace(month=(at.month - 1) // 3 * 3 + 1, day=1)
            end = _months_later(start, 3)
        case Window.year:
            start = at.replace(month=1, day=1)
            end = _months_later(start, 12)
        case _:
            raise ValueError(f"{window} is no window of the calendar")
    return Period(list(Window).index(window) * _KIND + (start - _EPOCH).days, start, end)


def _months_later(start: date, months: int) -> date:
    month = start.month - 1 + months
    if start.year + month // 12 > date.max.year:
        raise OverflowError("the calendar ends in 9999")
    return date(start.year + month // 12, month % 12 + 1, 1)
