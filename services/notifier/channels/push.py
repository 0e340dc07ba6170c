"""Web push (RFC 8030), encrypted for the browser (RFC 8291), signed with our key (RFC 8292).

The endpoint is a URL that a stranger gave us. It must be https on the usual port of a known push service; the address
behind its name is checked at the moment of connecting; nothing is followed anywhere else.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.notifier.breaker import Breaker
from services.notifier.channels import Attempts, Outcome, Ready, traced
from services.notifier.mail import Composer, push_payload
from shared.postgres import Pool, Queries

log = logging.getLogger(__name__)

SQL = Queries(Path(__file__).parent.parent / "sql" / "push.sql")

HOSTS = (
    "fcm.googleapis.com",
    "android.googleapis.com",
    "push.services.mozilla.com",
    "push.apple.com",
    "notify.windows.com",
)
MOST_ENDPOINT = 2048
MOST_PLAINTEXT = 3000
SECONDS = 10.0
VAPID_LASTS = timedelta(hours=12)
LONGEST_TTL = timedelta(days=28)
LONGEST_WAIT = timedelta(hours=6)
CONNECTIONS = 32
ACCEPTED_NOTED_SECONDS = 60.0


class Unwelcome(ValueError):
    """An endpoint that is no push service of those that are allowed."""


@dataclass(frozen=True)
class Guard:
    """Where pushes may go."""

    hosts: tuple[str, ...] = HOSTS
    schemes: tuple[str, ...] = ("https",)
    any_port: bool = False
    private: bool = False
    """Whether addresses that only this machine or network reaches are fine: in tests alone."""

    def check(self, endpoint: str) -> str:
        """The endpoint's origin. Raises Unwelcome."""
        if len(endpoint) > MOST_ENDPOINT or any(ord(c) <= 0x20 or ord(c) >= 0x7F or c == "\\" for c in endpoint):
            raise Unwelcome("an endpoint is a plain URL")
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError:
            raise Unwelcome("an endpoint is a plain URL") from None
        if parts.scheme not in self.schemes:
            raise Unwelcome("an endpoint begins with https://")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise Unwelcome("an endpoint has neither user nor fragment")
        if port not in (None, 443) and not self.any_port:
            raise Unwelcome("an endpoint is on port 443")
        host = (parts.hostname or "").rstrip(".")
        if not any(host == allowed or host.endswith(f".{allowed}") for allowed in self.hosts):
            raise Unwelcome("that is no push service that this installation knows")
        return f"{parts.scheme}://{parts.netloc}"


class _CheckedResolver(AbstractResolver):
    """Resolves names, and gives nothing out that is not on the open internet: checked at each connection, so that a
    name which changes its address gains nothing."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host that may be connected to."""
        found = await self._inner.resolve(host, port, family)
        good = [one for one in found if self._private or ipaddress.ip_address(one["host"]).is_global]
        if not good:
            raise OSError(f"no address of {host} is on the open internet")
        return good

    async def close(self) -> None:
        """Let go."""
        await self._inner.close()


def unpadded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw_public_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as browsers want it: 65 bytes, uncompressed."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _expand(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869) for lengths up to one block."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:length]


def encrypt(plaintext: bytes, p256dh: bytes, auth: bytes, *, salt: bytes | None = None) -> bytes:
    """The body of a push message, ``aes128gcm``. Raises ValueError for a key that is none."""
    browser = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), p256dh)
    ours = ec.generate_private_key(ec.SECP256R1())
    public = raw_public_key(ours)
    salt = salt or os.urandom(16)
    secret = _expand(auth, ours.exchange(ec.ECDH(), browser), b"WebPush: info\x00" + p256dh + public, 32)
    key = _expand(salt, secret, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _expand(salt, secret, b"Content-Encoding: nonce\x00", 12)
    sealed = AESGCM(key).encrypt(nonce, plaintext + b"\x02", None)
    return salt + (4096).to_bytes(4, "big") + bytes([len(public)]) + public + sealed


class Vapid:
    """Tokens that tell a push service who we are, one for each origin, made anew when half their life is over."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, contact: str) -> None:
        self._key, self._contact = key, contact
        self.public = unpadded(raw_public_key(key))
        self._tokens: dict[str, tuple[float, str]] = {}

    def header(self, origin: str) -> str:
        """The value of the Authorization header."""
        now = time.time()
        known = self._tokens.get(origin)
        if known is None or known[0] < now:
            expires = now + VAPID_LASTS.total_seconds()
            claims = {"aud": origin, "exp": int(expires), "sub": self._contact}
            token = jwt.encode(claims, self._key, algorithm="ES256")
            known = (now + VAPID_LASTS.total_seconds() / 2, f"vapid t={token}, k={self.public}")
            self._tokens[origin] = known
        return known[1]


def wait_of(header: str | None, now: datetime) -> timedelta | None:
    """What Retry-After says, in seconds or as a date; None where it says nothing that makes sense."""
    if header is None:
        return None
    if header.strip().isdecimal() and len(header) < 10:
        wait = timedelta(seconds=int(header))
    else:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, TypeError):
            return None
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta(seconds=1)), LONGEST_WAIT)


class PushChannel:
    """Web push to any number of push services, each with a breaker of its own."""

    name = "push"

    def __init__(
        self,
        pool: Pool,
        composer: Composer,
        vapid: Vapid,
        guard: Guard | None = None,
        on_change: Callable[[Breaker], None] = lambda breaker: None,
        on_accepted: Callable[[str], None] = lambda origin: None,
        *,
        ssl: Any = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._composer, self.vapid, self.guard = pool, composer, vapid, guard or Guard()
        self._on_change, self._on_accepted, self._ssl, self._clock = on_change, on_accepted, ssl, clock
        self._breakers: dict[str, Breaker] = {}
        self._noted: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None

    def available(self) -> bool:
        """Always: each push service has a breaker of its own."""
        return True

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    # One share for each lane: two that are ordinary and the urgent one.
                    limit=3 * CONNECTIONS,
                    resolver=_CheckedResolver(self.guard.private),
                    use_dns_cache=False,
                    ssl=self._ssl,
                ),
                timeout=aiohttp.ClientTimeout(total=SECONDS, connect=SECONDS / 2),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session

    async def deliver(self, batch: Sequence[Ready], attempts: Attempts, *, urgent: bool) -> None:
        """Send a batch, many at once."""
        rows = await self._pool.fetch(SQL.subscriptions, sorted({ready.target for ready in batch}))
        found = {row["subscription_id"]: row for row in rows}
        queue = deque(batch)

        async def work() -> None:
            while queue:
                ready = queue.popleft()
                outcome = await self._one(ready, found.get(ready.target), attempts)
                if outcome is not None:
                    await attempts.finish(ready, outcome)

        await asyncio.gather(*(work() for _ in range(min(CONNECTIONS, len(batch)))))

    async def _one(self, ready: Ready, row: Any, attempts: Attempts) -> Outcome | None:
        if row is None:
            return Outcome("skipped", "subscription-gone")
        try:
            origin = self.guard.check(row["endpoint"])
        except Unwelcome as error:
            return Outcome("dead", "endpoint-not-allowed", str(error), forget=True)
        breaker = self._breakers.setdefault(origin, Breaker(origin))
        now = self._clock()
        if not breaker.allows(now):
            wait = max(breaker.open_until - now, 1.0)
            return Outcome("retry", "push-service-waits", provider=origin, retry_after=timedelta(seconds=wait))
        payload = push_payload(self._composer, ready)
        try:
            body = self._sealed(payload, row)
        except ValueError as error:
            return Outcome("dead", "bad-key", str(error), origin, forget=True)
        if not await attempts.begin(ready):
            return None
        breaker.probe(now)
        with traced("push", ready, origin):
            outcome = await self._post(ready, row, origin, breaker, body)
            if outcome.reason == "413":
                # Once more with the title alone.
                body = self._sealed({**payload, "body": "", "title": payload["title"][:60]}, row)
                outcome = await self._post(ready, row, origin, breaker, body)
                if outcome.reason == "413":
                    outcome = Outcome("dead", "413", outcome.detail, origin)
        breaker.probing = False
        return outcome

    def _sealed(self, payload: dict[str, Any], row: Any) -> bytes:
        plaintext = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        if len(plaintext) > MOST_PLAINTEXT:
            plaintext = json.dumps({**payload, "body": ""}, ensure_ascii=False, separators=(",", ":")).encode()
        return encrypt(plaintext, row["p256dh"], row["auth"])

    def _headers(self, ready: Ready, origin: str) -> dict[str, str]:
        left = ready.expires_at - datetime.now(UTC)
        return {
            "Authorization": self.vapid.header(origin),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(max(0, math.floor(min(left, LONGEST_TTL).total_seconds()))),
            # One that comes twice, or is told again, replaces the first one while the browser is away.
            "Topic": hashlib.sha256(f"{ready.topic_id or ready.notification_id}".encode()).hexdigest()[:32],
            "Urgency": "high" if ready.category.priority <= 1 else "normal",
        }

    async def _post(self, ready: Ready, row: Any, origin: str, breaker: Breaker, body: bytes) -> Outcome:
        try:
            async with self._client().post(
                row["endpoint"], data=body, headers=self._headers(ready, origin), allow_redirects=False
            ) as response:
                status, wait = response.status, response.headers.get("Retry-After")
                said = (await response.content.read(300)).decode("utf-8", "replace")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._failed(breaker, "no-connection")
            return Outcome("retry", "no-connection", type(error).__name__, origin)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._failed(breaker, "no-reply")
            return Outcome("unknown", "no-reply", type(error).__name__, origin)
        return self._said(status, wait, said, origin, breaker)

    def _said(self, status: int, wait: str | None, said: str, origin: str, breaker: Breaker) -> Outcome:
        reason, detail = str(status), f"{status} {said}".strip()
        if 200 <= status < 300:
            if breaker.succeeded():
                self._on_change(breaker)
            if self._noted.get(origin, -math.inf) < self._clock() - ACCEPTED_NOTED_SECONDS:
                self._noted[origin] = self._clock()
                self._on_accepted(origin)
            return Outcome("accepted", None, reason, origin)
        if status in (404, 410):
            breaker.succeeded()
            return Outcome("bounced", reason, detail, origin, forget=True)
        if status in (429, 503):
            pause = wait_of(wait, datetime.now(UTC))
            if pause is not None:
                breaker.open_until = max(breaker.open_until, self._clock() + pause.total_seconds())
            else:
                self._failed(breaker, reason)
            breaker.reason = reason
            return Outcome("retry", reason, detail, origin, retry_after=pause)
        if status == 413:
            return Outcome("retry", reason, detail, origin)
        if status in (400, 401, 403):
            # Ours, or a subscription that was made with another key: three within a day tell which.
            log.error("%s refuses our pushes with %s: %s", origin, status, said[:200])
            self._failed(breaker, reason)
            return Outcome("retry", reason, detail, origin, strike=True)
        if status >= 500:
            self._failed(breaker, reason)
            return Outcome("retry", reason, detail, origin)
        return Outcome("dead", reason, detail, origin)

    def _failed(self, breaker: Breaker, reason: str) -> None:
        if breaker.failed(self._clock(), reason):
            log.error("%s takes nothing, it is left alone for a while: %s", breaker.name, reason)
            self._on_change(breaker)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
