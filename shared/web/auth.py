"""Who asks: bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519, with the advice of RFC 8725)."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, TypeGuard

import httpx
import jwt
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from shared.settings import Settings
from shared.settings import settings as process_settings
from shared.web.problems import Problem

log = logging.getLogger(__name__)

LEEWAY_SECONDS = 60
MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: a key of HS256 has at least the size of its hash."""
MAX_TOKEN = 16 * 1024
MAX_MEMBER_ID = 255
"""Characters, as of every id in the contracts."""

JWKS_PAUSE_SECONDS = 60.0
"""An unknown key id makes us fetch at most this often: it is a stranger's to invent."""
JWKS_RETRY_SECONDS = 5.0
JWKS_FRESH_SECONDS = 600.0
"""A key that the issuer took back is refused after about this long."""
JWKS_STALE_SECONDS = 24 * 3600.0
"""How long keys outlive an issuer that cannot be reached."""
MAX_JWKS = 1024 * 1024

# One key type for each algorithm, and only these: the token never chooses how a key is used (RFC 8725 section 3.1).
_KEY_OF = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}

SCOPE_AUTHENTICATOR = "constellation.authenticator"
_SCOPE_IDENTITY = "constellation.identity"


class Role(StrEnum):
    """What a token may say about its bearer."""

    MEMBER = "member"
    STAR = "star"
    STAFF = "staff"
    FORUM = "forum"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``member_id`` is None for a machine (the forum) or staff without an account in the forum."""

    member_id: str | None
    roles: frozenset[Role]

    def has(self, *roles: Role) -> bool:
        """Whether it has one of the roles."""
        return not self.roles.isdisjoint(roles)

    def owns(self, member_id: str) -> bool:
        """Whether it is this member."""
        return self.member_id is not None and self.member_id == member_id

    @property
    def is_staff(self) -> bool:
        """Whether it runs the programme."""
        return Role.STAFF in self.roles

    @property
    def shown_as(self) -> str:
        """What pages call them."""
        return self.member_id or "Staff"


def identified(scope: Scope) -> Principal | None:
    """Whom ``Authenticator.of`` found to make this request; None for anyone, and before it was asked."""
    found = scope.get(_SCOPE_IDENTITY)
    return found if isinstance(found, Principal) else None


def unauthorised(detail: str, *, invalid: bool = False) -> Problem:
    """401 with the challenge of RFC 6750 section 3: ``error`` only where a token was sent."""
    challenge = 'Bearer realm="constellation"' + (', error="invalid_token"' if invalid else "")
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})


class Authenticator:
    """Verifies tokens with ``settings.secret`` (HS256) or ``settings.jwks`` (RS256, ES256, EdDSA).

    With both set, the token's ``alg`` only chooses between two disjoint sets of keys: a symmetric key is never tried
    with a public key's bytes, nor the other way round. Raises ValueError for a secret that is too short.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._secret = check_secret(settings.secret.get_secret_value()) if settings.secret else None
        self._keys = KeySet(settings.jwks, transport, clock) if settings.jwks else None

    async def authenticate(self, authorization: str | None) -> Principal | None:
        """Who an Authorization header speaks for; None without one.

        Raises a 401 problem for a token that does not hold, and 503 when the issuer's keys cannot be had.
        """
        if authorization is None:
            return None
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorised("The Authorization header must be: Bearer TOKEN.", invalid=True)
        return self._principal(await self._verified(token.strip()))

    async def of(self, scope: Scope) -> Principal | None:
        """Who makes this request, found once for the limiter and the routes alike. Raises as ``authenticate`` does."""
        if _SCOPE_IDENTITY not in scope:
            found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
            try:
                if len(found) > 1:
                    raise unauthorised("There is more than one Authorization header.", invalid=True)
                scope[_SCOPE_IDENTITY] = await self.authenticate(found[0] if found else None)
            except Problem as problem:
                scope[_SCOPE_IDENTITY] = problem
        identity = scope[_SCOPE_IDENTITY]
        if isinstance(identity, Problem):
            raise identity
        return identity if isinstance(identity, Principal) else None

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            if len(token) > MAX_TOKEN:
                raise jwt.InvalidTokenError("oversize")
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            key: str | jwt.PyJWK
            if algorithm == "HS256" and self._secret is not None:
                key = self._secret
            elif algorithm in _KEY_OF and self._keys is not None:
                key = await self._keys.find(algorithm, kid)
            else:
                raise jwt.InvalidAlgorithmError("not an algorithm of this installation")
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                leeway=LEEWAY_SECONDS,
                options={
                    "require": ["exp"],
                    "verify_iss": self._settings.issuer is not None,
                    "verify_aud": self._settings.audience is not None,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.ExpiredSignatureError:
            raise unauthorised("The token has expired. Sign in again or get a new one.", invalid=True) from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            # Which check failed helps a forger more than a user.
            raise unauthorised("The token is not valid here.", invalid=True) from None

    def _principal(self, claims: dict[str, Any]) -> Principal:
        member: object = claims.get(self._settings.member_claim)
        if isinstance(member, int) and not isinstance(member, bool):
            # Forums that number their members put a number into their own claim.
            member = str(member)
        if not (member is None or _is_id(member)):
            raise unauthorised("The token's member id is not one.", invalid=True)
        return Principal(member, _roles(claims.get(self._settings.roles_claim)))


def _is_id(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_MEMBER_ID or "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _roles(claim: object) -> frozenset[Role]:
    """A list, or a text separated by spaces or commas; what is not a role of ours means nothing to us."""
    names: Iterable[object] = ()
    if isinstance(claim, str):
        names = claim.replace(",", " ").split()
    elif isinstance(claim, list):
        names = claim
    known = {role.value: role for role in Role}
    return frozenset(known[name] for name in names if isinstance(name, str) and name in known)


class KeySet:
    """An issuer's JSON Web Key Set (RFC 7517), cached, fetched without blocking the loop.

    Raises ``jwt.InvalidKeyError`` for a key that is not there and a 503 problem when no keys could be had yet.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None, clock: Callable[[], float]) -> None:
        self._url = url
        self._transport = transport
        self._clock = clock
        self._keys: list[jwt.PyJWK] | None = None
        self._fetched_at = 0.0
        self._next_attempt = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, algorithm: str, kid: object) -> jwt.PyJWK:
        """The key of this id and of this algorithm's type; without an id, the only one of that type."""
        if self._keys is not None and self._clock() - self._fetched_at > JWKS_STALE_SECONDS:
            self._keys = None
        key = self._known(algorithm, kid)
        if key is None:
            await self._refresh()
            key = self._known(algorithm, kid)
        elif self._clock() - self._fetched_at > JWKS_FRESH_SECONDS:
            # The key is at hand: nobody waits for the issuer.
            self._start()
        if key is None:
            if self._keys is None:
                raise Problem(503, "The issuer's keys cannot be had at the moment.", headers={"Retry-After": "5"})
            raise jwt.InvalidKeyError("unknown key")
        return key

    def _known(self, algorithm: str, kid: object) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys or () if key.algorithm_name == algorithm]
        if kid is not None:
            fitting = [key for key in fitting if key.key_id == kid]
        return fitting[0] if len(fitting) == 1 else None

    def _start(self) -> asyncio.Task[None] | None:
        """The fetch under way, a new one where the last is long enough ago, or None."""
        if self._fetching is None or self._fetching.done():
            if self._clock() < self._next_attempt:
                return None
            self._next_attempt = self._clock() + JWKS_PAUSE_SECONDS
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _refresh(self) -> None:
        if (task := self._start()) is not None:
            # One caller who goes away must not stop the fetch that others wait for.
            await asyncio.shield(task)

    async def _fetch(self) -> None:
        try:
            async with (
                httpx.AsyncClient(transport=self._transport, timeout=5.0, follow_redirects=False) as client,
                asyncio.timeout(10),
                client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
            ):
                response.raise_for_status()
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_JWKS:
                        raise ValueError("the key set is too large")
            document = json.loads(body)
            if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
                raise ValueError("not a key set")
            self._keys = [key for data in document["keys"] if (key := _usable(data)) is not None]
            self._fetched_at = self._clock()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
            self._next_attempt = self._clock() + (JWKS_RETRY_SECONDS if self._keys is None else JWKS_PAUSE_SECONDS)
            log.warning("the issuer's keys could not be fetched", extra={"url": self._url, "error": repr(error)})


def _usable(data: object) -> jwt.PyJWK | None:
    """A key of the set, bound to its one algorithm; None for what we do not use: symmetric, for encryption, unknown."""
    if not isinstance(data, dict) or data.get("use", "sig") != "sig":
        return None
    for algorithm, (kind, curve) in _KEY_OF.items():
        if data.get("kty") == kind and data.get("alg", algorithm) == algorithm and curve in (None, data.get("crv")):
            try:
                return jwt.PyJWK(data, algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                return None
    return None


def check_secret(secret: str) -> str:
    """The secret, or ValueError in plain words when it is too short to sign with."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"STARS_SECRET has {len(secret.encode())} bytes, HS256 needs at least {MIN_SECRET_BYTES}")
    return secret


def issue_token(
    secret: str,
    roles: Iterable[Role],
    member_id: str | None,
    ttl: timedelta,
    *,
    issuer: str | None = None,
    audience: str | None = None,
    member_claim: str = "sub",
    roles_claim: str = "roles",
) -> str:
    """A bearer token signed with HS256. An installation that expects an issuer or audience needs them here too."""
    if member_id is not None and not _is_id(member_id):
        raise ValueError(f"a member id is 1 to {MAX_MEMBER_ID} characters without NUL")
    now = int(time.time())
    optional = {member_claim: member_id, "iss": issuer, "aud": audience}
    claims: dict[str, Any] = {
        "iat": now,
        "exp": now + max(1, int(ttl.total_seconds())),
        roles_claim: sorted(Role(role).value for role in roles),
    } | {name: value for name, value in optional.items() if value is not None}
    return jwt.encode(claims, check_secret(secret), algorithm="HS256")


# --- FastAPI --------------------------------------------------------------------------------------------------------

BEARER_SCHEME = "bearer"
OPTIONAL_SCHEME = "bearerOptional"
"""Stands in the raw OpenAPI document for "with or without a token"; the service's app writes it as OpenAPI does."""

_DESCRIPTION = (
    "A JSON Web Token. Roles: member, star, staff, forum; a route that names several asks for any one of them."
)
_bearer = HTTPBearer(bearerFormat="JWT", scheme_name=BEARER_SCHEME, description=_DESCRIPTION, auto_error=False)
_optional = HTTPBearer(bearerFormat="JWT", scheme_name=OPTIONAL_SCHEME, description=_DESCRIPTION, auto_error=False)


@lru_cache(maxsize=1)
def _default_authenticator() -> Authenticator:
    return Authenticator(process_settings())


async def _identify(request: Request) -> Principal | None:
    authenticator = request.scope.get(SCOPE_AUTHENTICATOR)
    if not isinstance(authenticator, Authenticator):
        # A service's app that runs without the process around it.
        authenticator = _default_authenticator()
    return await authenticator.of(request.scope)


async def principal_or_none(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_optional)]
) -> Principal | None:
    """Dependency: who asks, None for anyone. A token that was sent and does not hold is 401, not "anyone"."""
    return await _identify(request)


def require(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency that asks for any one of the roles, or with none for any token that holds.

    ``Annotated[Principal, Depends(require(Role.STAFF))]``. 401 without a token or with a bad one, 403 without the role.
    """
    wanted = [role.value for role in roles]

    async def principal(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer, scopes=wanted)]
    ) -> Principal:
        found = await _identify(request)
        if found is None:
            raise unauthorised("This needs a bearer token.")
        if roles and not found.has(*roles):
            raise Problem(
                403,
                f"This needs the role {' or '.join(wanted)}.",
                headers={"WWW-Authenticate": 'Bearer realm="constellation", error="insufficient_scope"'},
            )
        return found

    return principal
