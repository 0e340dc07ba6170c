"""The arithmetic of the promise goes through columns in pieces: where they are cut must not matter."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.topics import statistics
from services.topics.statistics import QUANTILES, UNANSWERED, figures

AS_OF = 1_000

topics = st.tuples(st.integers(0, 60), st.one_of(st.just(UNANSWERED), st.integers(0, 50)), st.integers(0, 40))
"""Age, response time and target."""


def kaplan_meier(times: list[int], censored: list[int]) -> list[float | None]:
    """By definition, in fractions."""
    survival, found = Fraction(1), []
    goals = [1 - Fraction(str(quantile)) for quantile in QUANTILES]
    for time in sorted(set(times)):
        at_risk = sum(one >= time for one in [*times, *censored])
        survival *= 1 - Fraction(times.count(time), at_risk)
        while len(found) < len(goals) and survival <= goals[len(found)]:
            found.append(time / 1_000_000)
    return [*found, *[None] * (len(goals) - len(found))]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(topics, max_size=60), st.integers(1, 9))
def test_figures_are_by_definition_wherever_the_columns_are_cut(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[int, int, int]], chunk: int
) -> None:
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    found = figures(AS_OF - columns[0], columns[1].copy(), columns[2].copy(), AS_OF)
    answered = [row for row in rows if 0 <= row[1] <= row[0]]
    waiting = [row for row in rows if row not in answered]
    assert (found.topics, found.answered) == (len(rows), len(answered))
    assert found.met == sum(waited <= target for _, waited, target in answered)
    assert found.pending == sum(age <= target for age, _, target in waiting)
    assert found.met + found.missed + found.pending == len(rows)
    expected = kaplan_meier([row[1] for row in answered], [row[0] for row in waiting])
    assert [found.p50_seconds, found.p80_seconds, found.p90_seconds] == expected
