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
    age = as_of - created
    answered = (response >= 0) & (response <= age)
    met = int(np.count_nonzero(answered & (response <= target)))
    missed = int(np.count_nonzero(answered)) - met + int(np.count_nonzero(~answered & (age > target)))
    times, censored = response[answered], age[~answered]
    times = np.sort(times)
    p50, p80, p90 = percentiles(times, np.sort(censored))
    return Figures(
        topics=total,
        answered=len(times),
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
    if not len(times):
        return [None] * len(QUANTILES)
    # At the i-th response (in order) those at risk are the later responses and whoever was not censored before it.
    # Of equal times each is a step of its own; their product is the step of all of them, and the time is the same.
    at_risk = np.arange(len(times), 0, -1, dtype=np.float64)
    if len(censored):
        # Whoever was censored left after the last response that was not later than that.
        left = np.bincount(np.searchsorted(times, censored, side="right"), minlength=len(times))
        at_risk += len(censored) - np.cumsum(left[: len(times)])
    survival = np.cumprod((at_risk - 1.0) / at_risk)
    found: list[float | None] = []
    for quantile in QUANTILES:
        # Survival only falls, so its negative is sorted.
        n = int(np.searchsorted(-survival, -(1 - quantile + TOLERANCE), side="left"))
        found.append(int(times[n]) / 1_000_000 if n < len(times) else None)
    return found


def median(times: Microseconds) -> float | None:
    """The plain median of sorted times, in seconds: of an even number the mean of the middle two."""
    n = len(times)
    if not n:
        return None
    return (int(times[(n - 1) // 2]) + int(times[n // 2])) / 2 / 1_000_000
