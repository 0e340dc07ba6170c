"""Errors as RFC 9457 problem details, the same from every service."""

import http
import http.client
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from shared.observability import request_id
from shared.postgres import GAVE_WAY, UNAVAILABLE

log = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MOST_ERRORS = 100
_LONGEST_TEXT = 500


# Python 3.13 names these as RFC 9110 does, 3.11 by their older names: a title must not depend on that.
_RENAMED = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def _phrase(status: int) -> str:
    try:
        return _RENAMED.get(status) or http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class Problem(HTTPException):
    """An answer that is an error, raised from wherever it is found.

    ``type`` is a slug ("time-is-up") that programs may rely on: it becomes the URI reference ``/problems/SLUG``, a full
    path as RFC 9457 section 3.1.1 advises; without one the status says it all (``about:blank``). ``members`` are
    extension members of the body.
    """

    # It is an HTTPException because FastAPI lets only those pass through while it reads a body.

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        type: str | None = None,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status, detail or "", dict(headers) if headers else None)
        self.status = status
        self.title = title or _phrase(status)
        self.type = type
        self.members = members

    def response(self) -> Response:
        """The problem as a response."""
        return problem_response(
            self.status,
            self.detail or None,
            type=self.type,
            title=self.title,
            headers=self.headers,
            **self.members,
        )


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    type: str | None = None,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem+json response; from 500 on it names the request, so that its log lines can be found."""
    body: dict[str, Any] = {
        "type": f"/problems/{type}" if type else "about:blank",
        "title": title or _phrase(status),
        "status": status,
    }
    if detail:
        body["detail"] = detail
    if status >= 500 and (request := request_id.get()) is not None:
        body["request_id"] = request
    body.update(members)
    # A caller's own text may hold a lone surrogate, which UTF-8 cannot; its backslash form is its JSON escape.
    content = json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
    return Response(content, status, headers, media_type=PROBLEM_MEDIA_TYPE)


def _allowed(scope: Scope) -> str | None:
    """Every method that the path knows. RFC 9110 section 15.5.6 asks for all; the router names its first match's."""
    app = scope.get("app")
    if not isinstance(app, Starlette):
        return None
    found = [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]
    return ", ".join(found) or None


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Whatever the framework or a route raised as an HTTP error."""
    if isinstance(error, Problem):
        return error.response()
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    detail: str | None = error.detail
    if error.status_code == 405:
        if allowed := _allowed(request.scope):
            headers = {key: value for key, value in headers.items() if key.lower() != "allow"} | {"Allow": allowed}
        detail = "This address does not know that method."
    elif error.status_code == 404 and detail == _phrase(404):
        detail = "There is nothing at this address."
    elif detail in (_phrase(error.status_code), http.client.responses.get(error.status_code)):
        detail = None
    return problem_response(error.status_code, detail, headers=headers)


def _location(parts: Sequence[Any]) -> str:
    return ".".join(str(part) for part in parts)[:_LONGEST_TEXT]


async def on_validation_error(_: Request, error: Exception) -> Response:
    """A request that does not fit its schema: 400, and where it does not. What was sent is not sent back."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [{"location": _location(e["loc"]), "detail": str(e["msg"])[:_LONGEST_TEXT]} for e in found[:_MOST_ERRORS]]
    detail = "The request is not valid."
    if len(found) > _MOST_ERRORS:
        detail += f" The first {_MOST_ERRORS} of {len(found)} errors are listed."
    return problem_response(400, detail, type="invalid-request", errors=errors)


async def on_error(_: Request, __: Exception) -> Response:
    """An error of ours. Nothing of it is shown: the process logs it under the request id that the body names."""
    return problem_response(500, "Something went wrong here. It has been logged under the request's id.")


async def on_unavailable(_: Request, error: Exception) -> Response:
    """PostgreSQL, or whatever else the service needs, is away: the same may work later."""
    log.warning("a request met what is away: %s: %s", type(error).__name__, error)
    detail = "What keeps the data does not answer at the moment. Nothing was changed; try again in a moment."
    return problem_response(503, detail, type="unavailable", headers={"Retry-After": "5"})


async def on_gave_way(_: Request, error: Exception) -> Response:
    """Somebody else was at the same, and went first: the same may work at once."""
    log.warning("a request gave way: %s: %s", type(error).__name__, error)
    detail = "Somebody else was changing the same. Nothing was changed; try again in a moment."
    return problem_response(503, detail, type="unavailable", headers={"Retry-After": "1"})


def add_problem_handlers(app: Starlette) -> None:
    """Make every error of the application a problem."""
    for kind in UNAVAILABLE:
        app.add_exception_handler(kind, on_unavailable)
    for kind in GAVE_WAY:
        app.add_exception_handler(kind, on_gave_way)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(Exception, on_error)
