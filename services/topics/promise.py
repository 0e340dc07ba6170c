"""What the pages say about the promise: the report's figures as sentences, comparisons and charts. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.topics.report import Every, Scope, bucket_start
from services.topics.rules import Policy
from shared.web import formats

Figures = dict[str, Any]

SPANS: dict[Every, int | None] = {"day": 30, "week": 26, "month": 25, "year": None}
"""How many buckets a page shows; None: all there are."""


def shown_since(now: datetime, every: Every) -> datetime | None:
    """From when on a page shows buckets of this size."""
    count = SPANS[every]
    if count is None:
        return None
    start = bucket_start(now, every)
    for _ in range(count - 1):
        start = bucket_start(start - timedelta(days=1), every)
    return start


def last_week(now: datetime) -> Scope:
    """The ISO week before this one, in UTC."""
    monday = bucket_start(now, "week")
    return Scope(since=monday - timedelta(days=7), until=monday)


@dataclass(frozen=True, slots=True)
class Sentence:
    """The promise in words, and a second, quieter line."""

    text: str
    more: str
    kept: bool | None


def sentence(week: Figures, ever: Figures, goal: Policy) -> Sentence:
    """How the promise stands, in one sentence."""
    hours = formats.target(goal.target.total_seconds()).replace(" ", "\u00a0")
    aim = f"the goal is {formats.objective(goal.objective)}"
    if ever["attainment"] is None:
        if ever["topics"]:
            return Sentence("Every question so far is still in time.", "None of them is decided yet.", None)
        return Sentence(
            "Nobody has asked yet.",
            "The first question that the forum publishes, or a history that is imported, begins the clock. "
            "“make demo” shows an invented forum.",
            None,
        )
    if week["attainment"] is None:
        return Sentence(
            f"{formats.share(ever['attainment'])} of all questions were answered within {hours}; {aim}.",
            "None of last week's questions is decided yet." if week["topics"] else "Nobody asked last week.",
            ever["attainment"] >= goal.objective,
        )
    left = week["pending"]
    waiting = f" {formats.number(left)} more {'is' if left == 1 else 'are'} still in time." if left else ""
    return Sentence(
        f"{formats.share(week['attainment'])} of last week’s questions were answered within {hours}; {aim}.",
        f"{formats.number(week['met'])} in time, {formats.number(week['missed'])} not.{waiting} "
        f"Of all questions ever asked: {formats.share(ever['attainment'])}.",
        week["attainment"] >= goal.objective,
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """A period beside earlier ones of the same length, each as it stood at its own end."""

    name: str
    figures: Figures
    growth: float | None
    """How many more were answered in time since then, as a share of then; None where there is nothing to compare."""


def periods(now: datetime, every: Every) -> list[tuple[str, Scope, datetime]]:
    """The present period, the one before, and those a year and two years before: name, scope, as of."""
    days = {"day": 7, "week": 28, "month": 91, "year": 365}[every]
    length = timedelta(days=days)
    words = {7: "7 days", 28: "4 weeks", 91: "13 weeks", 365: "365 days"}[days]
    ends = [
        (f"the last {words}", now),
        (f"the {words} before", now - length),
        ("a year before", now - timedelta(weeks=52)),
        ("two years before", now - timedelta(weeks=104)),
    ]
    if days == 365:
        del ends[2]  # the year before is the period before
    return [(name, Scope(since=end - length, until=end), end) for name, end in ends]


def compare(rows: Sequence[tuple[str, Figures]]) -> list[Compared]:
    """Each period, with how far the present one has grown since."""
    present = rows[0][1]["met"]
    return [
        Compared(name, figures, (present - figures["met"]) / figures["met"] if n and figures["met"] else None)
        for n, (name, figures) in enumerate(rows)
    ]


def grown(value: float | None) -> str:
    """A growth in words: "up 300%", "down 12%"."""
    if value is None:
        return formats.NOTHING
    if abs(value) < 0.005:
        return "as many"
    return f"{'up' if value > 0 else 'down'} {abs(value):.0%}"


def floor(*many: Sequence[Figures]) -> float:
    """Where the scale of attainment begins, for one chart or for several that are compared: so that both the worst
    and what is around the goal can be told apart."""
    found = [one["attainment"] for series in many for one in series if one["attainment"] is not None]
    return max(0.0, int((min(found, default=0.0) - 0.1) * 10) / 10) if found else 0.0


def attainment_chart(
    series: Sequence[Figures], objective: float, links: Sequence[str] | None = None, least: float = 0.0
) -> dict[str, Any]:
    """Attainment, with what it may yet become while some are pending drawn as a band; the scale begins at ``least``."""

    def bound(one: Figures, more: int) -> float | None:
        if not one["topics"]:
            return None
        return float((one["met"] + more) / one["topics"])

    uncertain = [one["pending"] > 0 for one in series]
    low = [bound(one, 0) if held else None for one, held in zip(series, uncertain, strict=True)]
    high = [bound(one, one["pending"]) if held else None for one, held in zip(series, uncertain, strict=True)]
    chart: dict[str, Any] = {
        "x": [int(one["start"].timestamp()) for one in series],
        "unit": "share",
        "min": least,
        "max": 1,
        "goal": objective,
        "series": [
            {
                "label": "answered in time",
                "values": [one["attainment"] for one in series],
                "colour": "accent",
                "style": "line",
            },
        ],
        "notes": [
            f"{formats.number(one['met'])} of {formats.number(one['met'] + one['missed'])} decided"
            + (f", {formats.number(one['pending'])} still in time" if one["pending"] else "")
            for one in series
        ],
    }
    if any(uncertain):
        chart["series"] += [
            {
                "label": "undecided: from all missed to all kept",
                "values": high,
                "colour": "soon",
                "style": "band",
                "to": 2,
            },
            {"label": "", "values": low, "colour": "soon", "style": "band"},
        ]
    if links is not None:
        chart["links"] = list(links)
    return chart


def waits_chart(series: Sequence[Figures], target: timedelta) -> dict[str, Any]:
    """How long half, 80% and 90% of the questions wait; where a line breaks, that share never got an answer."""
    lines = (
        ("p50_seconds", "half", "accent", "line"),
        ("p80_seconds", "80%", "soon", "line"),
        ("p90_seconds", "90%", "late", "line"),
    )
    return {
        "x": [int(one["start"].timestamp()) for one in series],
        "unit": "seconds",
        "goal": target.total_seconds(),
        # Beyond ten times the target the lines would only flatten what matters.
        "max": _ceiling(series, target),
        "series": [
            {"label": label, "values": [one[name] for one in series], "colour": colour, "style": style}
            for name, label, colour, style in lines
        ],
    }


def _ceiling(series: Sequence[Figures], target: timedelta) -> float:
    found = [one[name] for one in series for name in ("p50_seconds", "p80_seconds", "p90_seconds") if one[name]]
    goal = target.total_seconds()
    return float(min(max([*found, goal]) * 1.08, goal * 10))


def volume_chart(series: Sequence[Figures]) -> dict[str, Any]:
    """How many were asked, and how many of them were answered in time."""
    return {
        "x": [int(one["start"].timestamp()) for one in series],
        "unit": "count",
        "series": [
            {
                "label": "asked",
                "values": [one["topics"] for one in series],
                "colour": "quiet",
                "style": "bars",
                "faint": True,
            },
            {
                "label": "answered in time",
                "values": [one["met"] for one in series],
                "colour": "accent",
                "style": "bars",
            },
        ],
    }


def said(series: Sequence[Figures], objective: float) -> str:
    """A series of attainments in words, for whoever cannot see the chart."""
    decided = [one for one in series if one["attainment"] is not None]
    if not decided:
        return "No question of this time is decided yet."
    kept = sum(one["attainment"] >= objective for one in decided)
    return (
        f"From {formats.share(decided[0]['attainment'])} in the first to {formats.share(decided[-1]['attainment'])} "
        f"in the last period shown; the goal of {formats.objective(objective)} was reached in {kept} of {len(decided)}."
    )
