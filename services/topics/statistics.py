"""The arithmetic of the promise: attainment and Kaplan-Meier percentiles, on columns of whole microseconds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Microseconds = NDArray[np.int64]

TOLERANCE = 1e-9
"""Survival is compared with this much in favour of "reached": plain floats would get one month in six wrong."""

QUANTILES = (0.5, 0.8, 0.9)
UNANSWERED = -1
CHUNK = 1 << 14
"""Topics at a time: what lies between two steps stays in the processor's cache, and no memory is asked for twice."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How the promise stands for a set of topics. Times in seconds; None where there is nothing to say."""

    topics: int
    answered: int
    met: int
    missed: int
    pending: int
    attainment: float | None
    p50_seconds: float | None
    p80_seconds: float | None
    p90_seconds: float | None
    answered_median_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def figures(created: Microseconds, response: Microseconds, target: Microseconds, as_of: int) -> Figures:
    """The figures of topics created at or before ``as_of``.

    ``response`` is the time from creation to the first response, or UNANSWERED; a response after ``as_of`` has not
    happened yet. All in microseconds.
    """
    total = len(created)
    times, censored = np.empty(total, np.int64), np.empty(total, np.int64)
    answered = met = late = 0
    for start in range(0, total, CHUNK):
        part = slice(start, start + CHUNK)
        age, waited = as_of - created[part], response[part]
        is_answered = (waited >= 0) & (waited <= age)
        is_open = ~is_answered
        met += int(np.count_nonzero(is_answered & (waited <= target[part])))
        late += int(np.count_nonzero(is_open & (age > target[part])))
        come = int(np.count_nonzero(is_answered))
        # What is still open goes on from where the chunks before left off.
        still = start - answered
        np.compress(is_answered, waited, out=times[answered : answered + come])
        np.compress(is_open, age, out=censored[still : still + len(age) - come])
        answered += come
    times, censored = times[:answered], censored[: total - answered]
    times.sort()
    censored.sort()
    p50, p80, p90 = percentiles(times, censored)
    missed = answered - met + late
    return Figures(
        topics=total,
        answered=answered,
        met=met,
        missed=missed,
        pending=total - met - missed,
        attainment=met / (met + missed) if met + missed else None,
        p50_seconds=p50,
        p80_seconds=p80,
        p90_seconds=p90,
        answered_median_seconds=median(times),
    )


def percentiles(times: Microseconds, censored: Microseconds) -> list[float | None]:
    """Kaplan-Meier: for each of QUANTILES the smallest observed time t with S(t) <= 1 - p, in seconds.

    Both arguments are sorted. A topic censored at t is at risk at t. None where S never falls that far.
    """
    found: list[float | None] = []
    # Whoever was censored left after the last response that was not later than that.
    left_after = np.searchsorted(times, censored, side="right")
    left, survival = 0, 1.0
    for start in range(0, len(times), CHUNK):
        # At the i-th response (in order) those at risk are the later responses and whoever was not censored before
        # it. Of equal times each is a step of its own; their product is the step of all of them, and the time is the
        # same.
        end = min(start + CHUNK, len(times))
        first, last = np.searchsorted(left_after, (start, end))
        gone = left + np.cumsum(np.bincount(left_after[first:last] - start, minlength=end - start))
        left = int(last)
        at_risk = len(times) + len(censored) - np.arange(start, end, dtype=np.float64) - gone
        steps = (at_risk - 1.0) / at_risk
        steps[0] *= survival
        survivals = np.cumprod(steps)
        survival = float(survivals[-1])
        for quantile in QUANTILES[len(found) :]:
            goal = 1 - quantile + TOLERANCE
            if survival > goal:
                break
            # Survival only falls, so its negative is sorted.
            found.append(int(times[start + np.searchsorted(-survivals, -goal)]) / 1_000_000)
        if len(found) == len(QUANTILES):
            break
    return found + [None] * (len(QUANTILES) - len(found))


def median(times: Microseconds) -> float | None:
    """The plain median of sorted times, in seconds: of an even number the mean of the middle two."""
    n = len(times)
    if not n:
        return None
    return (int(times[(n - 1) // 2]) + int(times[n // 2])) / 2 / 1_000_000
