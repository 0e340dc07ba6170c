"""What the pages say about boards and ledgers, in words and charts. Pure functions."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.leaderboard.windows import Period, Window

WINDOWS = (
    (Window.day, "Day"),
    (Window.week, "Week"),
    (Window.month, "Month"),
    (Window.quarter, "Quarter"),
    (Window.year, "Year"),
    (Window.all, "All time"),
)

RULES = {
    "reply": "reply",
    "first-response": "first response",
    "solution": "solution",
    "kudos": "kudos",
}
_COLOURS = {"reply": "quiet", "first-response": "good", "solution": "accent", "kudos": "soon"}

_REASONS = {
    "bot": "bots earn nothing",
    "internal": "it is not public",
    "own-topic": "it is on your own question",
    "own-kudos": "it is your own kudos",
    "late": "it came after the promised time",
    "not-a-question": "the topic is no question",
    "deleted": "the reply was deleted",
    "topic-deleted": "the question was deleted",
    "taken-back": "it was taken back",
    "unaccepted": "the solution was taken back",
    "moved": "the reply was moved to another question",
    "kudos-repeated": "they had given you kudos for it before",
    "solution-replaced": "another reply became the solution",
}


def deed(rule: str, title: str) -> str:
    """What an entry is for, in the words of whom it belongs to: "your answer to “…” was accepted"."""
    return {
        "reply": f"you replied to “{title}”",
        "first-response": f"you were the first to answer “{title}”",
        "solution": f"your answer to “{title}” was accepted",
        "kudos": f"somebody liked your reply to “{title}”",
    }[rule]


def deed_of_another(rule: str, title: str) -> str:
    """The same of somebody else."""
    return {
        "reply": f"replied to “{title}”",
        "first-response": f"first to answer “{title}”",
        "solution": f"the answer to “{title}” was accepted",
        "kudos": f"somebody liked the reply to “{title}”",
    }[rule]


def why_not(entry: dict[str, Any], most: int) -> str | None:
    """Why an entry does not count, in plain words; None for one that does."""
    match entry["status"]:
        case "effective":
            return None
        case "capped":
            return f"of your replies to one question {most} count"
        case "quarantined":
            return "it is being looked at"
        case _:
            reason: str = entry["reason"] or entry["status"]
            return _REASONS.get(reason, reason)


def window_name(window: Window, period: Period, today: date) -> str:
    """A window in words: "this week", "November 2026", "all time"."""
    if window is Window.all or period.start is None or period.end is None:
        return "all time"
    if period.start <= today < period.end:
        return {
            Window.day: "today",
            Window.week: "this week",
            Window.month: "this month",
            Window.quarter: "this quarter",
            Window.year: "this year",
        }.get(window, "this season")
    last = period.end - timedelta(days=1)
    match window:
        case Window.day:
            return f"{period.start:%-d %b %Y}"
        case Window.month:
            return f"{period.start:%B %Y}"
        case Window.year:
            return f"{period.start:%Y}"
        case Window.quarter:
            return f"quarter {(period.start.month + 2) // 3} of {period.start:%Y}"
        case _:
            return f"{period.start:%-d %b} to {last:%-d %b %Y}"


def before(period: Period) -> date | None:
    """A day of the window before this one; None for all time and where the calendar begins."""
    if period.start is None or period.start <= date(1, 1, 2):
        return None
    return period.start - timedelta(days=1)


def points_chart(rows: Sequence[Any]) -> dict[str, Any]:
    """A member's points by month, each rule drawn on top of those before it."""
    if not rows:
        return {"x": [], "unit": "count", "series": []}
    months: list[datetime] = []
    month, last = rows[0]["month"], rows[-1]["month"]
    while month <= last:
        months.append(month.replace(tzinfo=UTC))
        month = (month + timedelta(days=32)).replace(day=1)
    earned = {(row["month"].replace(tzinfo=UTC), row["rule"]): row["points"] for row in rows}
    sums = {rule: [int(earned.get((month, rule), 0)) for month in months] for rule in RULES}
    series = []
    # The tallest is drawn first, so that each bar shows what the rules before it do not cover.
    for n in range(len(RULES), 0, -1):
        covered = list(RULES)[:n]
        top = covered[-1]
        series.append(
            {
                "label": RULES[top],
                "values": [sum(sums[rule][at] for rule in covered) for at in range(len(months))],
                "shown": sums[top],
                "colour": _COLOURS[top],
                "style": "bars",
            }
        )
    return {"x": [int(month.timestamp()) for month in months], "unit": "count", "series": series}
