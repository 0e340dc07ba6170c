"""Who is signed in: sessions as signed cookies, which every process of every service reads without asking another.

A cookie is a JSON Web Token under a key that is derived from ``STARS_SECRET`` for that cookie alone: a session is never
a bearer token, nor the other way round. Nothing is stored, so signing out takes the cookie out of the browser; a copy
of it holds until it expires.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from starlette.datastructures import Headers
from starlette.types import Scope

from shared.settings import Settings
from shared.web.principals import Principal, person, read_member, read_roles

IDLE_SECONDS = 24 * 3600
"""A session that nobody uses ends after this long."""
LONGEST_SECONDS = 7 * 24 * 3600
"""And every session after this long: until then, what the provider took back may still hold."""
RENEW_SECONDS = 300
"""A session is written again when that makes it longer by this much."""

SESSION, HOST_SESSION = "stars-session", "__Host-stars-session"
MAX_COOKIE = 4000
"""Browsers keep 4096 bytes of name, value and attributes, and drop a larger cookie without a word."""

Clock = Callable[[], float]


class SignedCookie:
    """A cookie of ours: HttpOnly, SameSite=Lax, for the whole host and no other.

    Where the public URL is https it is Secure, with the prefix ``__Host-``: no neighbour under the same domain, and
    nobody on the way, can set it.
    """

    def __init__(self, settings: Settings, name: str, clock: Clock = time.time) -> None:
        if settings.secret is None:
            raise ValueError("STARS_SECRET is not set, and nothing else signs cookies")
        self._clock = clock
        self._key = hmac.digest(settings.secret.get_secret_value().encode(), f"cookie {name}".encode(), hashlib.sha256)
        secure = (settings.url or "").lower().startswith("https:")
        self.name = f"__Host-{name}" if secure else name
        self._attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")

    def read(self, scope: Scope) -> dict[str, Any] | None:
        """What it says; None without one, and for one that is forged, expired or there twice."""
        found = [
            value.strip()
            for header in Headers(scope=scope).getlist("cookie")
            for name, _, value in (part.partition("=") for part in header.split(";"))
            if name.strip() == self.name
        ]
        # Two of a name are somebody else's doing (a neighbouring host's): which is ours cannot be known.
        if len(found) != 1 or len(found[0]) > MAX_COOKIE:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                found[0], self._key, algorithms=["HS256"], options={"require": ["exp"], "verify_exp": False}
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return claims if self._clock() < claims["exp"] else None

    def write(self, claims: dict[str, Any], expires: float) -> str:
        """The value of a Set-Cookie header. Raises ValueError for more than a browser keeps."""
        token = jwt.encode(claims | {"exp": int(expires)}, self._key, algorithm="HS256")
        if len(token) > MAX_COOKIE - 200:
            raise ValueError("too large for a cookie")
        return f"{self.name}={token}; Max-Age={max(0, int(expires - self._clock()))}{self._attributes}"

    def clear(self) -> str:
        """The value of a Set-Cookie header that removes it."""
        return f"{self.name}=; Max-Age=0{self._attributes}"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser in which somebody is signed in."""

    id: str
    """Random, new at every sign-in, known to this browser alone: what its CSRF tokens are made with."""
    principal: Principal
    began: int
    """When they signed in, Unix time in seconds."""
    expires: int


class Sessions:
    """Opens, reads and renews sessions."""

    def __init__(self, settings: Settings, clock: Clock = time.time) -> None:
        self._clock = clock
        self._cookie = SignedCookie(settings, SESSION, clock)

    def open(self, principal: Principal) -> Session:
        """A session of its own for whoever has just signed in: no id of before lives on in it."""
        now = int(self._clock())
        return Session(secrets.token_urlsafe(16), principal, now, now + min(IDLE_SECONDS, LONGEST_SECONDS))

    def renew(self, session: Session) -> Session | None:
        """The session with its end moved on, or None while that is not worth a cookie."""
        expires = min(int(self._clock()) + IDLE_SECONDS, session.began + LONGEST_SECONDS)
        if expires - session.expires < RENEW_SECONDS:
            return None
        return Session(session.id, session.principal, session.began, expires)

    def read(self, scope: Scope) -> Session | None:
        """The session that a request's cookie holds; None for anyone."""
        claims = self._cookie.read(scope)
        if claims is None:
            return None
        try:
            principal = person(read_member(claims.get("sub")), read_roles(claims["roles"]), claims.get("name"))
            return Session(str(claims["sid"]), principal, int(claims["auth_time"]), int(claims["exp"]))
        except (KeyError, ValueError, TypeError):
            # Of another version of ours.
            return None

    def write(self, session: Session) -> str:
        """The value of the Set-Cookie header that keeps it. Raises ValueError where no browser would."""
        who = session.principal
        claims = {
            "sid": session.id,
            "roles": sorted(role.value for role in who.roles),
            "auth_time": session.began,
            **({"sub": who.member_id} if who.member_id is not None else {}),
            **({"name": who.name} if who.name is not None else {}),
        }
        return self._cookie.write(claims, session.expires)

    def clear(self) -> str:
        """The value of the Set-Cookie header that forgets it."""
        return self._cookie.clear()

    def is_set_by(self, header: str) -> bool:
        """Whether a Set-Cookie header is about it."""
        return header.startswith(f"{self._cookie.name}=")
