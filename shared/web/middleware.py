"""What every request passes on its way in and out: plain ASGI, so that streams stay streams."""

import asyncio
import ipaddress
import logging
import math
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection
from urllib.parse import unquote

from opentelemetry.trace import Status, StatusCode
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability import SpanKind, metrics, request_id, service_name, span
from shared.web.auth import SCOPE_AUTHENTICATOR, Authenticator, session_of
from shared.web.principals import Role
from shared.web.problems import Problem, problem_response

log = logging.getLogger(__name__)
access_log = logging.getLogger("constellation.access")

OWN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""The operator's own addresses: never limited, logged at DEBUG only."""

CLIENT_WENT_AWAY = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}")
_ENCODED = re.compile(rb"%2f|%0a", re.IGNORECASE)
_STANDS = {b"%2f": b"%000", b"%0a": b"%001"}
_LONG_SEGMENT = re.compile(r"[^/]{20,}")


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _template(scope: Scope) -> str:
    """The route as it was declared. Never the path: that would be a metric for every id."""
    route = scope.get("route")
    path = getattr(route, "path_format", None)
    # FastAPI keeps the prefix of an included router beside the route.
    context = (scope.get("fastapi") or {}).get("effective_route_context")
    if context is not None and getattr(context, "original_route", None) is route:
        path = getattr(context, "path_format", path)
    if route is None or not isinstance(path, str) or "methods" not in dir(route):
        return "unmatched"
    return str(scope.get("root_path", "")) + path


def _shown_path(scope: Scope, path: str, template: str) -> str:
    """The path for the log, with tokens (an unsubscribe link holds one) masked."""
    if template == "unmatched":
        return _LONG_SEGMENT.sub("***", path)[:500]
    for name, value in (scope.get("path_params") or {}).items():
        if "token" in name or "secret" in name:
            path = path.replace(str(value), "***")
    return path[:500]


class Observed:
    """Request id, server span, duration metric and one access log line.

    A caller's ``X-Request-ID`` is kept when it is 8 to 128 plain characters. A W3C ``traceparent`` is continued when it
    is valid and there is one of it.
    """

    def __init__(self, app: ASGIApp, services: Collection[str]) -> None:
        self._app = app
        self._services = frozenset(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and tell about it afterwards."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        service = first if first in self._services else "process"
        given = _headers(scope, b"x-request-id")
        request = given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else uuid.uuid4().hex
        parents, states = _headers(scope, b"traceparent"), _headers(scope, b"tracestate")
        status, answered_at, streamed, sent = CLIENT_WENT_AWAY, None, False, 0
        started = time.perf_counter()

        async def observed_send(message: Message) -> None:
            nonlocal status, answered_at, streamed, sent
            if message["type"] == "http.response.start":
                status, answered_at = message["status"], time.perf_counter()
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request
                streamed = _is_event_stream(message)
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        request_token, service_token = request_id.set(request), service_name.set(service)
        try:
            with span(
                method,
                parents[0] if len(parents) == 1 else None,
                SpanKind.SERVER,
                {"http.request.method": method, "url.scheme": scope.get("scheme", "http")},
                tracestate=",".join(states) or None,
            ) as current:
                try:
                    await self._app(scope, receive, observed_send)
                finally:
                    template = _template(scope)
                    ended = answered_at if streamed and answered_at is not None else time.perf_counter()
                    metrics.HTTP_SECONDS.labels(service, method, template, str(status)).observe(ended - started)
                    current.update_name(f"{method} {template}")
                    current.set_attribute("http.route", template)
                    current.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        current.set_status(Status(StatusCode.ERROR))
                    access_log.log(
                        logging.DEBUG if path in OWN_PATHS else logging.INFO,
                        "%s %s %s",
                        method,
                        _shown_path(scope, path, template),
                        status,
                        extra={
                            "method": method,
                            "route": template,
                            "status": status,
                            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
                            "bytes_sent": sent,
                            "client": (scope.get("client") or ("unknown",))[0],
                        },
                    )
        finally:
            service_name.reset(service_token)
            request_id.reset(request_token)


# Nothing from elsewhere, nothing inline, nobody frames us. Forms and links stay inside unless a page says otherwise.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers then send "Origin: null" with our own forms, and their origin could not be checked.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityHeaders:
    """The headers that make a browser careful; a route that sets one of them itself keeps its own.

    ``https`` says that browsers come by it, whatever a proxy in front makes of that.
    """

    def __init__(self, app: ASGIApp, *, https: bool = False) -> None:
        self._app = app
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the headers to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if self._https or scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self._app(scope, receive, secured_send)


class Errors:
    """The last resort: what nobody caught is logged here, once, and the caller gets a 500 problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = finished = False

        async def watched_send(message: Message) -> None:
            nonlocal started, finished
            started = started or message["type"] == "http.response.start"
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            access_log.debug("the client went away")
        except Problem as problem:
            if started:
                raise
            await problem.response()(scope, receive, send)
        except Exception:
            log.exception("a request failed", extra={"route": _template(scope)})
            if started and not finished:
                # The only way left to say that the body is not whole is to break the connection.
                raise
            if not started:
                response = problem_response(
                    500, "Something went wrong here. It has been logged under the request's id."
                )
                await response(scope, receive, send)


class RateLimit:
    """A token bucket for each caller: ``per_minute`` at once, refilled evenly. Who is refused learns when to return.

    The caller is the token's or the session's member, or the client's address (of IPv6 the /64, which is one
    customer). The roles forum and staff have no limit. At most ``max_callers`` buckets are kept: the one that was used
    longest ago goes first.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        per_minute: int,
        *,
        max_callers: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._max_callers = max_callers
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429."""
        if scope["type"] == "http":
            scope[SCOPE_AUTHENTICATOR] = self._authenticator
            if self._capacity > 0 and scope["path"] not in OWN_PATHS:
                caller = await self._caller(scope)
                wait = 0.0 if caller is None else self._take(caller)
                if wait > 0:
                    seconds = math.ceil(wait)
                    response = problem_response(
                        429,
                        f"That was more than {self._capacity:.0f} requests a minute. Try again in {seconds} s.",
                        headers={"Retry-After": str(seconds)},
                    )
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> str | None:
        try:
            principal = await self._authenticator.of(scope)
        except Problem:
            # A bad token is the route's to refuse, and buys no bucket of its own.
            principal = None
        if principal is not None:
            if principal.has(Role.FORUM, Role.STAFF):
                return None
            if principal.member_id is not None:
                return f"member:{principal.member_id}"
        return f"address:{_network(scope)}"

    def _take(self, caller: str) -> float:
        """0 when there was a token to take, else the seconds until there is one."""
        now = self._clock()
        tokens, at = self._buckets.pop(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - at) * self._per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_second
        self._buckets[caller] = (tokens if wait else tokens - 1, now)
        while len(self._buckets) > self._max_callers:
            self._buckets.popitem(last=False)
        return wait


class SessionRenewal:
    """Keeps a session that is in use alive: a new cookie with the answer, where that is worth one.

    What a page fetches by itself is no use: only what somebody opens or changes is. An answer to one who is signed in
    is kept nowhere, unless its route says otherwise; and one that may be kept carries no cookie.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        sessions = self._authenticator.sessions
        if scope["type"] != "http" or sessions is None or scope["path"] in OWN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            await self._authenticator.of(scope)
        except Problem:
            # The route's to refuse.
            pass
        session = session_of(scope)
        if session is None:
            await self._app(scope, receive, send)
            return
        mode = _headers(scope, b"sec-fetch-mode")
        renewed = sessions.renew(session) if not mode or mode == ["navigate"] or scope["method"] == "POST" else None

        async def renewing_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                own = any(sessions.is_set_by(value) for value in headers.getlist("set-cookie"))
                if renewed is not None and not own and "no-store" in headers["cache-control"]:
                    headers.append("Set-Cookie", sessions.write(renewed))
            await send(message)

        await self._app(scope, receive, renewing_send)


def _network(scope: Scope) -> str:
    client = scope.get("client")
    if not client:
        return "unknown"
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return str(client[0])[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


class _TooLarge(Exception):
    """Ends the reading of a body; the limiter that raised it answers."""


class BodyLimit:
    """413 for a body above ``limit`` bytes: by its Content-Length before a byte is read, and while it comes in."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = _headers(scope, b"content-length")
        # Python refuses to read numbers of thousands of digits; one of twenty is too large already.
        if any(text.isdecimal() and (len(text) > 20 or int(text) > self._limit) for text in lengths):
            await self._refuse(scope, receive, send)
            return
        read, exceeded, started = 0, False, False

        async def limited_receive() -> Message:
            nonlocal read, exceeded
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._limit:
                    exceeded = True
                    raise _TooLarge
            return message

        async def limited_send(message: Message) -> None:
            nonlocal started
            if exceeded and not started:
                # The framework's own answer to a body that broke off; ours comes below.
                return
            started = True
            await send(message)

        try:
            await self._app(scope, limited_receive, limited_send)
        except Exception:
            if not exceeded or started:
                raise
        if exceeded and not started:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_response(
            413,
            f"The body is larger than {self._limit} bytes. Send it in parts.",
            # The rest of the body is still on its way: the connection is of no further use.
            headers={"Connection": "close"},
            limit=self._limit,
        )
        await response(scope, receive, send)


class _Segment(StringConvertor):
    def convert(self, value: str) -> str:
        return value.replace("\x000", "/").replace("\x001", "\n")


# What a parameter of a path is read with, unless the route says otherwise.
register_url_convertor("str", _Segment())


class PlainInput:
    """400 for NUL in the path or the query: PostgreSQL's text cannot hold it, and no id of ours has it.

    So NUL is free to stand for a slash or line feed that was percent-encoded, inside an id, until a route is found.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        if scope["type"] == "http" and ("\x00" in scope["path"] or b"%00" in scope.get("query_string", b"")):
            response = problem_response(400, "An address cannot hold NUL.", type="invalid-request")
            await response(scope, receive, send)
            return
        raw = scope.get("raw_path") or b""
        if scope["type"] == "http" and _ENCODED.search(raw):
            scope["path"] = unquote(_ENCODED.sub(lambda found: _STANDS[found[0].lower()], raw).decode("latin-1"))
        await self._app(scope, receive, send)


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


class EventStreams:
    """Ends open server-sent event streams when the process stops, or each would hold it up for the whole grace.

    The browser connects again by itself, to whoever answers then.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[asyncio.Task[object]] = set()
        self._stopping = False

    def stop(self) -> None:
        """End those that are open and every one that opens from now on."""
        self._stopping = True
        for task in list(self._open):
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return

        async def watched_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and _is_event_stream(message):
                # From here on the headers are out, and an empty last part is all that ends it.
                self._open.add(task)
                if self._stopping:
                    task.cancel()

        try:
            await self._app(scope, receive, watched_send)
        except asyncio.CancelledError:
            if not (self._stopping and task in self._open):
                raise
            self._open.discard(task)
            task.uncancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._open.discard(task)
