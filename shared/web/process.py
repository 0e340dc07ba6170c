"""One process: the services that run in it, behind one port."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import prometheus_client
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from shared.observability import in_service
from shared.settings import Settings
from shared.web import style
from shared.web.auth import Authenticator
from shared.web.middleware import (
    BodyLimit,
    Errors,
    EventStreams,
    Observed,
    PlainInput,
    RateLimit,
    SecurityHeaders,
    SessionRenewal,
)
from shared.web.pages import STATIC, Pages, ProblemPages, serve_static
from shared.web.problems import add_problem_handlers
from shared.web.service import Service
from shared.web.sign_in import SignIn

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""How long ``/readyz`` waits for one service's answer; Kubernetes gives up after its own time-out."""

CLOSE_SECONDS = 10.0
"""How long all services together may take to close."""

THIS_MACHINE = ["127.0.0.0/8", "::1"]
"""The proxies that are believed where no setting names one."""


class Process:
    """The ASGI application of a process. Its server calls ``stop`` when it begins to shut down."""

    def __init__(
        self,
        services: Sequence[Service],
        settings: Settings,
        authenticator: Authenticator | None = None,
        *,
        embedded: bool = False,
    ) -> None:
        self._services = tuple(services)
        self._pages = Pages()
        names = [service.name for service in self._services]
        if len(set(names)) != len(names):
            raise ValueError(f"a service is mounted twice: {', '.join(names)}")
        authenticator = authenticator or Authenticator(settings)
        self._authenticator = authenticator
        self._sign_in = SignIn(settings, authenticator, embedded=embedded)
        inner = Starlette(routes=self._routes(), lifespan=self._lifespan)
        inner.router.redirect_slashes = False
        add_problem_handlers(inner)
        self._streams = EventStreams(inner)
        # From the route outwards: the last one added is the first to see a request.
        app: ASGIApp = PlainInput(self._streams)
        app = BodyLimit(app, settings.max_body)
        app = SessionRenewal(app, authenticator)
        app = RateLimit(app, authenticator, settings.rate_limit)
        app = ProblemPages(Errors(app))
        if settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID", "traceparent"],
                # A token in a header is the caller's own doing; a cookie would be sent without being asked.
                allow_credentials=False,
                expose_headers=["Retry-After", "X-Request-ID", "WWW-Authenticate"],
                max_age=600,
            )
        app = SecurityHeaders(app, https=(settings.url or "").lower().startswith("https:"))
        # Any: uvicorn's types of ASGI are not Starlette's.
        observed: Any = Observed(app, names)
        self._app: Any = ProxyHeadersMiddleware(observed, trusted_hosts=settings.proxies or THIS_MACHINE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._app(scope, receive, send)

    def stop(self) -> None:
        """The process is about to end: event streams are closed, other requests may finish."""
        self._streams.stop()

    def _routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/", self._index),
            Route("/style", self._style),
            Route(f"{STATIC}/{{version}}/{{name:path}}", serve_static),
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            *self._sign_in.routes(),
        ]
        for service in self._services:
            routes.append(Route(f"/{service.name}", _with_slash))
            routes.append(Mount(f"/{service.name}", app=service.app, name=service.name))
        return routes

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        opened: list[tuple[str, AbstractAsyncContextManager[None]]] = []
        try:
            for service in self._services:
                with in_service(service.name):
                    context = service.lifespan()
                    await context.__aenter__()
                opened.append((service.name, context))
            yield
        finally:
            self.stop()
            deadline = asyncio.get_running_loop().time() + CLOSE_SECONDS
            for name, context in reversed(opened):
                # One that fails or hangs must not keep the others from closing.
                with in_service(name):
                    await _close(context, deadline)

    async def _index(self, request: Request) -> Response:
        """How the promise stands: each service answers for its part."""
        return self._pages.render(request, "home.html")

    async def _style(self, request: Request) -> Response:
        """Every component in every state."""
        return self._pages.render(request, "style.html", samples=style.samples(datetime.now(UTC)))

    async def _livez(self, _: Request) -> Response:
        """The event loop turns, or nobody would answer."""
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    async def _readyz(self, _: Request) -> Response:
        found = await asyncio.gather(*(_problems(service) for service in self._services))
        problems = {service.name: list(each) for service, each in zip(self._services, found, strict=True)}
        ready = not any(problems.values())
        body = {"ready": ready, "problems": problems}
        return JSONResponse(body, 200 if ready else 503, headers={"Cache-Control": "no-store"})

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = prometheus_client.exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encode(prometheus_client.REGISTRY), headers={"Content-Type": content_type})


def create_process(
    services: Sequence[Service],
    settings: Settings,
    *,
    authenticator: Authenticator | None = None,
    embedded: bool = False,
) -> Process:
    """The services of this process as one ASGI application: mounted, started in order and closed in reverse.

    ``embedded`` says that it runs an instance of its own, on which people may sign in for development. Raises
    ValueError for settings that cannot work, such as a secret that is too short.
    """
    return Process(services, settings, authenticator, embedded=embedded)


async def _with_slash(request: Request) -> Response:
    """``/topics`` is ``/topics/``. The address is relative: what the Host header claims has no say in it."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    location = f"{request.scope['path']}/" + (f"?{query}" if query else "")
    return Response(status_code=307, headers={"Location": location})


async def _problems(service: Service) -> list[str]:
    started = time.monotonic()
    with in_service(service.name):
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await service.problems()
        except TimeoutError:
            return [f"the check gave no answer within {time.monotonic() - started:.0f} s"]
        except Exception as error:
            log.exception("the readiness check failed")
            # The error's text may name hosts and users; the log has it.
            return [f"the check failed ({type(error).__name__}); the log says why"]


async def _close(context: AbstractAsyncContextManager[None], deadline: float) -> None:
    try:
        async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + 0.5)):
            await context.__aexit__(None, None, None)
    except TimeoutError:
        log.error("did not close in time and was left behind")
    except Exception:
        log.exception("did not close cleanly")
