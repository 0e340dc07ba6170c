"""A Discourse as far as DiscourseConnect goes, from its documentation and ``lib/discourse_connect_base.rb``.

It shares no code with ours: what it signs and what it accepts is written down here a second time.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route


@dataclass
class User:
    """An account of the forum."""

    id: int
    username: str
    admin: bool = False
    moderator: bool = False
    groups: list[str] = field(default_factory=list)


class FakeDiscourse:
    """Its ``/session/sso_provider``, with a page to log in at. ``secret`` is the site setting's, for any host."""

    def __init__(self, secret: str, users: list[User]) -> None:
        self.secret = secret
        self.users = {user.username: user for user in users}
        self.tampering: dict[str, str] = {}
        """Fields that the answer has instead of the true ones, under a signature that holds."""
        self.app = Starlette(
            routes=[
                Route("/session/sso_provider", self._sso_provider),
                Route("/login", self._login_page),
                Route("/session", self._login, methods=["POST"]),
            ]
        )

    def sign(self, payload: str) -> str:
        """The signature of a payload in Base64."""
        return hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()

    async def _sso_provider(self, request: Request) -> Response:
        sso, signature = request.query_params["sso"], request.query_params["sig"]
        fields = {name: values[-1] for name, values in parse_qs(base64.b64decode(sso).decode()).items()}
        if "return_sso_url" not in fields:
            return Response("return_sso_url is blank", 400)
        if self.sign(sso) != signature:
            return Response("Bad signature for payload", 422)
        user = self.users.get(request.cookies.get("_t", ""))
        if user is None:
            response = RedirectResponse("/login", 302)
            response.set_cookie("sso_payload", request.url.query)
            return response
        return RedirectResponse(self.answer(user, fields["nonce"], fields["return_sso_url"]), 302)

    def answer(self, user: User, nonce: str, return_url: str) -> str:
        """The address that a user is sent back to."""
        fields: dict[str, Any] = {
            "admin": str(user.admin).lower(),
            "email": f"{user.username}@forum.example",
            "external_id": user.id,
            "groups": ",".join(user.groups),
            "moderator": str(user.moderator).lower(),
            "name": f"{user.username.title()} of the Forum",
            "nonce": nonce,
            "return_sso_url": return_url,
            "username": user.username,
        } | self.tampering
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in fields.items())
        sso = base64.b64encode(query.encode()).decode()
        join = "&" if urlsplit(return_url).query else "?"
        return f"{return_url}{join}sso={quote(sso, safe='')}&sig={self.sign(sso)}"

    async def _login_page(self, _: Request) -> Response:
        return HTMLResponse('<form method="post" action="/session"><input name="login"><button>Log in</button></form>')

    async def _login(self, request: Request) -> Response:
        login = str((await request.form())["login"])
        if login not in self.users:
            return Response("Incorrect username", 403)
        response = RedirectResponse(f"/session/sso_provider?{request.cookies['sso_payload']}", 302)
        response.set_cookie("_t", login, httponly=True, samesite="lax")
        return response
