"""A sign-in on its way: what the browser that began it keeps until it comes back."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope

from shared.settings import Settings
from shared.web.sessions import SignedCookie

ATTEMPT_SECONDS = 600
"""How long signing in at the provider may take; Discourse gives a nonce as long."""


class SignInFailed(Exception):
    """Why nobody is signed in, in words for who tried; REASON is for the log alone."""

    def __init__(self, status: int, words: str, reason: str | None = None) -> None:
        super().__init__(words)
        self.status, self.words, self.reason = status, words, reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one browser, by one way. Only the browser that holds its cookie can end it."""

    way: str
    state: str
    next: str
    _key: bytes

    def secret(self, purpose: str) -> str:
        """A nonce or verifier of this attempt: 43 characters that follow from it and that nobody else can know."""
        mac = hmac.digest(self._key, f"{purpose} {self.way} {self.state}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


class Attempts:
    """Begins attempts and finds them again by their cookie: no process has to remember what another one began."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._cookie = SignedCookie(settings, "stars-sign-in", clock)
        self._clock = clock
        assert settings.secret is not None
        self._key = hmac.digest(settings.secret.get_secret_value().encode(), b"sign-in", hashlib.sha256)

    def begin(self, way: str, next: str) -> Attempt:
        """A new one. It replaces what the browser began before."""
        return Attempt(way, secrets.token_urlsafe(24), next, self._key)

    def cookie(self, attempt: Attempt) -> str:
        """The value of the Set-Cookie header that keeps it."""
        claims = {"way": attempt.way, "state": attempt.state, "next": attempt.next}
        return self._cookie.write(claims, self._clock() + ATTEMPT_SECONDS)

    def ended(self) -> str:
        """The value of the Set-Cookie header that forgets it, so that no answer is taken twice."""
        return self._cookie.clear()

    def next_of(self, scope: Scope) -> str | None:
        """Where the attempt that this browser began wanted to go, whatever became of it."""
        claims = self._cookie.read(scope)
        return claims["next"] if claims else None

    def find(self, scope: Scope, way: str) -> Attempt:
        """The attempt that this browser began by this way. Raises SignInFailed."""
        claims = self._cookie.read(scope)
        if claims is None or claims.get("way") != way:
            raise SignInFailed(
                400,
                "This sign-in was not begun in this browser, or more than ten minutes ago. Please begin again.",
                "no attempt",
            )
        return Attempt(way, claims["state"], claims["next"], self._key)
