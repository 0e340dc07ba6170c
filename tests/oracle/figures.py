"""Instants and the figures of the 48-hour promise, by the definitions, in exact arithmetic.

Instants and durations are whole microseconds (an instant counts from 1970). Only the answers are floats, each rounded
once, at the very end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, TypeAlias

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
TARGET_SECONDS = 172_800

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))?)?",
    re.ASCII,
)

Instant: TypeAlias = str | datetime | int


def micros(time: Instant) -> int:
    """The instant in microseconds since 1970; finer digits are cut off, a date is its UTC midnight."""
    if isinstance(time, int):
        return time
    if isinstance(time, datetime):
        return (time.astimezone(UTC) - EPOCH) // MICROSECOND
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {time!r}")
    year, month, day, hour, minute, second, digits, sign, offset_hours, offset_minutes = match.groups()
    fraction = int((digits or "")[:6].ljust(6, "0"))
    local = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), fraction, tzinfo=UTC
    )
    offset = timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
    return (local - (-offset if sign == "-" else offset) - EPOCH) // MICROSECOND


def moment(instant: int) -> datetime:
    """The instant as a UTC datetime."""
    return EPOCH + timedelta(microseconds=instant)


def rfc3339(instant: int) -> str:
    """The instant as RFC 3339 in UTC, with six digits where there is a fraction."""
    return moment(instant).isoformat().replace("+00:00", "Z")


def seconds(duration: Fraction | int) -> float:
    """A duration in microseconds, in seconds, with its fraction."""
    return float(Fraction(duration) / SECOND)


@dataclass(frozen=True)
class Wait:
    """One counted topic: when it was created, when it was first answered, and how long that may take."""

    created: int
    answered: int | None
    target: int


def as_known_at(waits: Iterable[Wait], as_of: int) -> list[Wait]:
    """What stood there at `as_of`: topics and replies of later times are hidden."""
    return [
        Wait(wait.created, wait.answered if wait.answered is not None and wait.answered <= as_of else None, wait.target)
        for wait in waits
        if wait.created <= as_of
    ]


def kaplan_meier(observed: Sequence[int], censored: Sequence[int], share: Fraction) -> int | None:
    """The smallest observed time t with S(t) <= 1 - share; who is censored at t is at risk at t; None if never."""
    survival = Fraction(1)
    for t in sorted(set(observed)):
        at_risk = sum(1 for other in observed if other >= t) + sum(1 for other in censored if other >= t)
        survival *= 1 - Fraction(sum(1 for other in observed if other == t), at_risk)
        if survival <= 1 - share:
            return t
    return None


def median(observed: Sequence[int]) -> Fraction | None:
    """The plain median: the mean of the middle two, None when there are none."""
    if not observed:
        return None
    ordered = sorted(observed)
    return Fraction(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2], 2)


def figures(waits: Iterable[Wait], as_of: int) -> dict[str, Any]:
    """The figures of these topics at `as_of`, without a series."""
    present = as_known_at(waits, as_of)
    met = missed = pending = late = 0
    observed: list[int] = []
    censored: list[int] = []
    for wait in present:
        if wait.answered is not None:
            took = wait.answered - wait.created
            observed.append(took)
            if took <= wait.target:
                met += 1
            else:
                late += 1
                missed += 1
        else:
            age = as_of - wait.created
            censored.append(age)
            if age > wait.target:
                missed += 1
            else:
                pending += 1

    def percentile(share: Fraction) -> float | None:
        t = kaplan_meier(observed, censored, share)
        return None if t is None else seconds(t)

    middle = median(observed)
    return {
        "topics": met + missed + pending,
        "answered": met + late,
        "met": met,
        "missed": missed,
        "pending": pending,
        "attainment": float(Fraction(met, met + missed)) if met + missed else None,
        "p50_seconds": percentile(Fraction(1, 2)),
        "p80_seconds": percentile(Fraction(8, 10)),
        "p90_seconds": percentile(Fraction(9, 10)),
        "answered_median_seconds": None if middle is None else seconds(middle),
    }


def bucket_start(instant: int, every: str) -> int:
    """Where the bucket that holds the instant starts, in UTC; weeks start on Monday."""
    day = moment(instant).replace(hour=0, minute=0, second=0, microsecond=0)
    if every == "week":
        day -= timedelta(days=day.weekday())
    elif every == "month":
        day = day.replace(day=1)
    elif every == "year":
        day = day.replace(month=1, day=1)
    elif every != "day":
        raise ValueError(f"not a bucket: {every!r}")
    return micros(day)


def bucket_end(start: int, every: str) -> int:
    """Where the bucket that starts here ends, itself excluded."""
    longest = {"day": 1, "week": 7, "month": 31, "year": 366}[every]
    ends = (moment(start) + timedelta(days=days) for days in range(1, longest + 1))
    return next(micros(end) for end in ends if bucket_start(micros(end), every) != start)


def report(
    waits: Iterable[Wait],
    *,
    from_: Instant | None = None,
    to: Instant | None = None,
    as_of: Instant | None = None,
    every: str | None = None,
) -> dict[str, Any]:
    """The whole answer of the report over the topics created in [from, to), at `as_of` (default: now)."""
    instant = micros(datetime.now(UTC) if as_of is None else as_of)
    begin = None if from_ is None else micros(from_)
    end = None if to is None else micros(to)
    counted = [
        wait
        for wait in as_known_at(waits, instant)
        if (begin is None or begin <= wait.created) and (end is None or wait.created < end)
    ]
    series: list[dict[str, Any]] = []
    if every is not None and (counted or (begin is not None and end is not None)):
        # The range that the buckets must touch: [first, beyond).
        first = begin if begin is not None else min(wait.created for wait in counted)
        beyond = end if end is not None else max(wait.created for wait in counted) + 1
        start = bucket_start(first, every)
        while first < beyond and start < beyond and start <= instant:
            after = bucket_end(start, every)
            inside = [wait for wait in counted if start <= wait.created < after]
            series.append({"start": rfc3339(start), **figures(inside, instant)})
            start = after
    return {**figures(counted, instant), "series": series}


def mismatches(expected: Any, actual: Any, where: str = "") -> list[str]:
    """What of `expected` is not so in `actual`, in words; fields that `expected` does not name may be anything.

    Numbers may differ by a billionth or by what floats themselves cannot tell apart, no more: durations are exact.
    Instants may be written differently.
    """
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        found = []
        for name, value in expected.items():
            if name not in actual:
                found.append(f"{where}.{name}: missing, expected {value!r}")
            else:
                found += mismatches(value, actual[name], f"{where}.{name}")
        return found
    if isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        if len(expected) != len(actual):
            return [f"{where}: {len(actual)} entries, expected {len(expected)}: {actual!r} is not {expected!r}"]
        pairs = zip(expected, actual, strict=True)
        return [line for index, (a, b) in enumerate(pairs) for line in mismatches(a, b, f"{where}[{index}]")]
    if _is_number(expected) and _is_number(actual):
        close = abs(expected - actual) <= max(1e-9, 4 * math.ulp(expected))
        return [] if close else [f"{where}: {actual!r}, expected {expected!r}"]
    if isinstance(expected, str) and isinstance(actual, str) and _TIME.fullmatch(expected) and _TIME.fullmatch(actual):
        return [] if micros(expected) == micros(actual) else [f"{where}: {actual!r}, expected {expected!r}"]
    return [] if type(expected) is type(actual) and expected == actual else [f"{where}: {actual!r}, not {expected!r}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
