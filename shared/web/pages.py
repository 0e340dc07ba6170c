"""Pages: Jinja2 templates inside one shell, icons, and the static files that they load.

A service keeps its templates in its own folder and extends ``shell.html``; its fragments (what htmx swaps) are plain
templates. Everything that is written out is escaped, and an undefined name is an error, not an empty place.
"""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.web import formats
from shared.web.auth import address_of, csrf_token, identified
from shared.web.problems import PROBLEM_MEDIA_TYPE

_HERE = Path(__file__).parent
STATIC = "/static"


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the shell's navigation; ``name`` is what a page calls its section."""

    name: str
    label: str
    href: str
    icon: str


SECTIONS = (
    Link("questions", "Questions", "/topics/", "message-circle-question-mark"),
    Link("promise", "Promise", "/topics/promise", "target"),
    Link("leaderboard", "Leaderboard", "/leaderboard/", "trophy"),
    Link("stars", "Stars", "/applications/", "star"),
)
"""The four services as one product. Each lives behind its own prefix, wherever its process runs."""

SERVICES = ("topics", "notifier", "leaderboard", "applications")

DESK = (
    Link("policies", "Policies", "/topics/policies", "scale"),
    Link("deliveries", "Deliveries", "/notifier/desk", "send"),
    Link("mailbox", "Mailbox", "/notifier/mailbox", "mail"),
    Link("letters", "Letters", "/notifier/letters", "file-text"),
    Link("reviews", "Reviews", "/applications/reviews", "clipboard-list"),
    Link("programme", "Programme", "/applications/desk/programme", "book-open"),
    Link("quiz", "Quiz questions", "/applications/desk/quiz", "circle-help"),
    Link("jams", "Star Jam", "/applications/desk/jams", "plane"),
    Link("perks", "Perks", "/applications/desk/perks", "gift"),
    Link("announce", "Announcements", "/applications/desk/announcements", "send"),
    Link("roster", "Roster", "/applications/desk/roster", "users"),
)
"""What staff see besides."""

mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("text/javascript", ".js")


@cache
def _static_files() -> dict[str, bytes]:
    folder = _HERE / "static"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@cache
def _version() -> str:
    """Names the present content of all static files, so that a browser may keep them for ever."""
    digest = hashlib.sha256()
    for name, content in sorted(_static_files().items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def static(name: str) -> str:
    """The address of a static file. Raises KeyError for one that is not there."""
    _static_files()[name]
    return f"{STATIC}/{_version()}/{name}"


async def serve_static(request: Request) -> Response:
    """A file of the static folder. Public: it is the same for everyone."""
    name = request.path_params["name"]
    content = _static_files().get(name)
    if content is None:
        return Response("There is no such file.\n", 404, media_type="text/plain")
    kept = "public, max-age=31536000, immutable" if request.path_params["version"] == _version() else "no-cache"
    return Response(
        content,
        media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        headers={"Cache-Control": kept},
    )


@cache
def icon(name: str, label: str | None = None) -> Markup:
    """An icon, inline. Without a label it is decoration, which a screen reader passes over."""
    svg = (_HERE / "icons" / f"{name}.svg").read_text(encoding="utf-8").strip()
    told = Markup(' role="img" aria-label="{}"').format(label) if label else Markup(' aria-hidden="true"')
    return Markup(svg.replace("<svg", f'<svg class="icon"{told}', 1))  # noqa: S704  our own files


def with_query(request: Request, **changes: Any) -> str:
    """This page's address with some of its query changed; None takes a parameter out."""
    named = {name.rstrip("_"): value for name, value in changes.items()}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in named]
    kept += [(name, str(value)) for name, value in named.items() if value is not None]
    return "?" + urlencode(kept)


def path_segment(text: str) -> str:
    """An id as one segment of an address, whatever is in it."""
    return quote(str(text), safe="")


class Pages:
    """Renders the templates of a folder, and of the common one."""

    def __init__(self, folder: Path | None = None) -> None:
        folders = [*([folder] if folder else []), _HERE / "templates"]
        self._environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(each) for each in folders]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(icon=icon, static=static, sections=SECTIONS, desk=DESK, services=SERVICES)
        self._environment.filters.update(
            duration=formats.duration,
            target=formats.target,
            left=formats.left,
            ago=formats.ago,
            share=formats.share,
            number=formats.number,
            instant=formats.instant,
            day=formats.day,
            initials=formats.initials,
            web_address=formats.web_address,
            capitalize_first=lambda text: text[:1].upper() + text[1:],
            path=path_segment,
            objective=formats.objective,
        )

    def render(
        self,
        request: Request,
        template: str,
        /,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **context: Any,
    ) -> HTMLResponse:
        """A page or a fragment. Pages show who is signed in, so nobody but their reader may keep a copy."""
        text = self._environment.get_template(template).render(
            request=request,
            principal=identified(request.scope),
            csrf_token=csrf_token(request),
            address=address_of(request.scope),
            with_query=lambda **changes: with_query(request, **changes),
            now=context.pop("now", None) or datetime.now(UTC),
            **context,
        )
        return HTMLResponse(text, status, headers={"Cache-Control": "private, no-store", **(headers or {})})


def is_navigation(scope: Scope) -> bool:
    """Whether a browser's window asks, so that a person will read the answer: not a program, and not htmx."""
    headers = Headers(scope=scope)
    return (
        scope["method"] in ("GET", "POST")
        and "text/html" in headers.get("accept", "")
        and "hx-request" not in headers
        and "/api/" not in scope["path"]
    )


class ProblemPages:
    """Answers a browser's window with a page where a program would get a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._pages = Pages()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and draw its problem if it has one."""
        if scope["type"] != "http" or not is_navigation(scope):
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = b""

        async def watched_send(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if kind.startswith(PROBLEM_MEDIA_TYPE):
                    start = message
                    return
            if not start:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                problem = {"detail": None, "request_id": None, **json.loads(body)}
                page = self._pages.render(Request(scope), "problem.html", status=start["status"], problem=problem)
                own = {name for name, _ in page.raw_headers}
                page.raw_headers[:] = [
                    *page.raw_headers,
                    *(one for one in start["headers"] if one[0].lower() not in own),
                ]
                await page(scope, receive, send)

        await self._app(scope, receive, watched_send)
