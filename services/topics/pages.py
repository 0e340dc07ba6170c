"""The page at the prefix: how the promise stands, and what is due next."""

from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from services.topics.derive import load_policies
from services.topics.queue import read_queue
from services.topics.report import Report, Scope
from shared.runtime import Runtime
from shared.web import page

SHOWN, MOST_SPACES = 20, 12


def router(runtime: Runtime, report: Report) -> APIRouter:
    """The routes of pages under ``/topics``."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/", response_class=HTMLResponse)
    async def promise_page() -> str:
        """The promise in one sentence, the spaces compared, the questions due next."""
        now = datetime.now(UTC)
        async with runtime.pool.acquire() as connection:
            policies = await load_policies(connection)
        week = await report.answer(Scope(since=now - timedelta(days=7)), now, None)
        ever = await report.answer(Scope(), now, None)
        rows = await report.by_space(now, MOST_SPACES)
        queue = await read_queue(runtime.pool, None, None, None, None, None, SHOWN, None)
        goal = policies.at(now, None, None)
        return page("Questions", _promise(week, ever, goal) + _spaces(rows) + _queue(queue["items"], now))

    return routes


def _promise(week: dict[str, Any], ever: dict[str, Any], goal: Any) -> str:
    hours = f"{goal.target / timedelta(hours=1):g} hours"
    aim = f"the goal is {goal.objective:.0%}"
    if ever["attainment"] is None:
        text, more = "Nobody has asked yet.", "Publish events, or bring history in with <code>stars import</code>."
    elif week["attainment"] is None:
        text = f"{ever['attainment']:.1%} of all questions were answered within {hours}; {aim}."
        more = "No question of the last seven days is decided yet."
    else:
        text = f"{week['attainment']:.1%} of the last seven days' questions were answered within {hours}; {aim}."
        more = f"Of all questions ever asked: {ever['attainment']:.1%}."
    return f'<p class="promise">{text}</p><p class="quiet">{more}</p>'


def _spaces(rows: list[tuple[str, dict[str, Any]]]) -> str:
    if not rows:
        return ""
    body = "".join(
        f"<tr><td>{escape(space)}</td>"
        + "".join(f'<td class="number">{found[name]:,}</td>' for name in ("topics", "met", "missed", "pending"))
        + f'<td class="number">{_share(found["attainment"])}</td>'
        + "".join(f'<td class="number">{_span(found[name])}</td>' for name in ("p50_seconds", "p90_seconds"))
        + "</tr>"
        for space, found in rows
    )
    head = "".join(
        f'<th class="number">{name}</th>'
        for name in ("asked", "met", "missed", "pending", "kept", "half within", "90% within")
    )
    return f'<h2>Where was it kept?</h2><div class="scroll"><table><tr><th>space</th>{head}</tr>{body}</table></div>'


def _queue(items: list[dict[str, Any]], now: datetime) -> str:
    if not items:
        return "<h2>Who is waiting?</h2><p>Nobody is waiting.</p>"
    body = "".join(
        f"<tr><td>{_title(item)}</td><td>{escape(item['space'] or '')}</td>"
        f'<td><time datetime="{item["due_at"].isoformat()}" title="{item["due_at"]:%Y-%m-%d %H:%M} UTC">'
        f"{_left(item['due_at'] - now)}</time></td></tr>"
        for item in items
    )
    return (
        '<h2>Who is waiting?</h2><div class="scroll"><table><tr><th>question</th><th>space</th><th>time</th></tr>'
        f"{body}</table></div>"
    )


def _title(item: dict[str, Any]) -> str:
    title = escape(item["title"] or item["topic_id"])
    # A URL is the forum's to choose: nothing but a web address becomes a link.
    if item["url"] and urlsplit(item["url"]).scheme in ("http", "https"):
        return f'<a href="{escape(item["url"])}" rel="noopener noreferrer">{title}</a>'
    return title


def _share(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.1%}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def _left(span: timedelta) -> str:
    words = _span(abs(span).total_seconds())
    return f"{words} left" if span >= timedelta() else f"{words} late"
