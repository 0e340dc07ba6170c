"""Signing in and out: the pages and redirects that every process has, whichever services run in it."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import httpx
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from shared.settings import Settings
from shared.web import csrf
from shared.web.addresses import local_address, public_url
from shared.web.auth import SIGN_IN_PATH, Authenticator, identify
from shared.web.middleware import RateLimit
from shared.web.pages import Pages
from shared.web.principals import Principal
from shared.web.problems import Problem
from shared.web.sign_in import development
from shared.web.sign_in.attempts import Attempt, Attempts, SignInFailed
from shared.web.sign_in.discourse import DiscourseConnect
from shared.web.sign_in.oidc import OpenIDConnect

__all__ = ["SignIn"]

log = logging.getLogger(__name__)

SIGN_INS_A_MINUTE = 60
"""Of one address, or one who is signed in already; those of staff are not counted."""


class Way(Protocol):
    """A provider that says who somebody is."""

    name: str
    at: str

    async def begin(self, attempt: Attempt, callback: str) -> str: ...

    async def finish(self, attempt: Attempt, callback: str, answer: Mapping[str, str]) -> Principal: ...


class SignIn:
    """The ways to sign in that the settings give, and their routes.

    ``embedded`` says that the process runs an instance with an infrastructure of its own, on which a sign-in for
    development is possible. Raises ValueError for settings that cannot work.
    """

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator,
        *,
        embedded: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url, self._authenticator, self._pages = settings.url, authenticator, Pages()
        self._limit = settings.rate_limit and SIGN_INS_A_MINUTE
        ways: list[Way] = []
        if settings.discourse_connect_secret:
            ways.append(DiscourseConnect(settings))
        if settings.oidc_client_id:
            ways.append(OpenIDConnect(settings, transport=transport))
        if ways and authenticator.sessions is None:
            raise ValueError("STARS_SECRET is not set: it signs the sessions of those who sign in")
        if ways and not settings.url and not embedded:
            raise ValueError("STARS_URL is not set: providers send people back there")
        self._ways = {way.name: way for way in ways}
        self._attempts = Attempts(settings) if settings.secret else None
        self._development = embedded and authenticator.sessions is not None and development.is_possible(settings)

    def routes(self) -> list[BaseRoute]:
        """``/sign-in`` with what is below it, and ``/sign-out``."""
        steps: list[BaseRoute] = []
        for way in self._ways.values():
            steps.append(Route(f"/{way.name}", self._answering(self._begin(way))))
            steps.append(Route(f"/{way.name}/callback", self._answering(self._finish(way))))
        if self._development:
            steps.append(Route("/development", self._answering(self._sign_in_for_development), methods=["POST"]))
        limit = Middleware(RateLimit, authenticator=self._authenticator, per_minute=self._limit)
        return [
            Route(SIGN_IN_PATH, self._page),
            Mount(SIGN_IN_PATH, routes=steps, middleware=[limit]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
        ]

    def _answering(self, step: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                response = await step(request)
            except SignInFailed as failed:
                log.warning(
                    "a sign-in failed", extra={"address": request.url.path, "reason": failed.reason or failed.words}
                )
                response = await self._show(request, failed)
            response.headers["Cache-Control"] = "no-store"
            return response

        return answer

    async def _page(self, request: Request) -> Response:
        return await self._show(request)

    async def _show(self, request: Request, failed: SignInFailed | None = None) -> Response:
        """The page with the ways to sign in, and what went wrong where something did."""
        next: object = request.query_params.get("next")
        if next is None and self._attempts is not None:
            next = self._attempts.next_of(request.scope)
        form: Mapping[str, object] = {}
        if request.method == "POST":
            form = await request.form()
            next = form.get("next", next)
        return self._pages.render(
            request,
            "sign_in.html",
            status=failed.status if failed else 200,
            headers={"Cache-Control": "no-store"},
            failed=failed.words if failed else None,
            ways=list(self._ways.values()),
            development=self._development and development.is_local(request),
            roles=development.ROLES.items(),
            form={"role": form.get("role", "star"), "member_id": form.get("member_id", "")},
            next=local_address(next if isinstance(next, str) else "/"),
        )

    def _begin(self, way: Way) -> Callable[[Request], Awaitable[Response]]:
        async def begin(request: Request) -> Response:
            assert self._attempts is not None
            attempt = self._attempts.begin(way.name, local_address(request.query_params.get("next", "/")))
            response = RedirectResponse(await way.begin(attempt, self._callback(request, way)), 303)
            response.headers.append("Set-Cookie", self._attempts.cookie(attempt))
            return response

        return begin

    def _finish(self, way: Way) -> Callable[[Request], Awaitable[Response]]:
        async def finish(request: Request) -> Response:
            assert self._attempts is not None
            attempt = self._attempts.find(request.scope, way.name)
            # A parameter that is there twice is nobody's honest answer.
            names = request.query_params.multi_items()
            answer = {name: value for name, value in names if len(request.query_params.getlist(name)) == 1}
            who = await way.finish(attempt, self._callback(request, way), answer)
            response = self._signed_in(who, attempt.next, way.name)
            response.headers.append("Set-Cookie", self._attempts.ended())
            return response

        return finish

    def _callback(self, request: Request, way: Way) -> str:
        base = public_url(request, self._url)
        if base is None:
            raise SignInFailed(
                503, "Nobody has said what this installation's address is: STARS_URL is not set.", "STARS_URL"
            )
        return f"{base}{SIGN_IN_PATH}/{way.name}/callback"

    async def _sign_in_for_development(self, request: Request) -> Response:
        if not development.is_local(request) or not csrf.is_same_origin(request, self._url):
            raise Problem(403, "Only pages of this instance, opened on its own machine, sign in for development.")
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        return self._signed_in(development.read(form), local_address(form.get("next", "/")), "development")

    def _signed_in(self, who: Principal, next: str, way: str) -> Response:
        sessions = self._authenticator.sessions
        assert sessions is not None
        try:
            cookie = sessions.write(sessions.open(who))
        except ValueError:
            raise SignInFailed(403, "Your member id is too long for a session.", "cookie size") from None
        log.info("somebody signed in", extra={"way": way, "roles": sorted(role.value for role in who.roles)})
        response = RedirectResponse(next, 303)
        response.headers.append("Set-Cookie", cookie)
        return response

    async def _sign_out(self, request: Request) -> Response:
        # It asks as everything else does that changes something: no other site signs anybody out.
        await identify(request)
        response = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
        if self._authenticator.sessions is not None:
            response.headers.append("Set-Cookie", self._authenticator.sessions.clear())
        return response
