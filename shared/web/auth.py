"""Who asks: bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519, with the advice of RFC 8725), and sessions."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlencode

import httpx
import jwt
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from shared.settings import Settings
from shared.settings import settings as process_settings
from shared.web import csrf
from shared.web.addresses import local_address
from shared.web.fetch import UNREACHABLE, fetch_json
from shared.web.principals import MAX_MEMBER_ID, Principal, Role, is_member_id, read_member, read_roles
from shared.web.problems import Problem
from shared.web.sessions import Session, Sessions

log = logging.getLogger(__name__)

LEEWAY_SECONDS = 60
MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: a key of HS256 has at least the size of its hash."""
MAX_TOKEN = 16 * 1024

JWKS_PAUSE_SECONDS = 60.0
"""An unknown key id makes us fetch at most this often: it is a stranger's to invent."""
JWKS_RETRY_SECONDS = 5.0
JWKS_FRESH_SECONDS = 600.0
"""A key that the issuer took back is refused after about this long."""
JWKS_STALE_SECONDS = 24 * 3600.0
"""How long keys outlive an issuer that cannot be reached."""

SIGN_IN_PATH = "/sign-in"

# One key type for each algorithm, and only these: the token never chooses how a key is used (RFC 8725 section 3.1).
_KEY_OF = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}

SCOPE_AUTHENTICATOR = "constellation.authenticator"
_SCOPE_IDENTITY = "constellation.identity"
_SCOPE_SESSION = "constellation.session"
_SCOPE_CHECKED = "constellation.csrf_checked"
_CHALLENGE = 'Bearer realm="constellation"'


def unauthorised(detail: str, *, invalid: bool = False) -> Problem:
    """401 with the challenge of RFC 6750 section 3: ``error`` only where a token was sent."""
    challenge = _CHALLENGE + (', error="invalid_token"' if invalid else "")
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})


class Authenticator:
    """Knows who asks: by an Authorization header, and only without one by the session's cookie.

    Tokens are verified with ``settings.secret`` (HS256) or ``settings.jwks`` (RS256, ES256, EdDSA).

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
        self.sessions = Sessions(settings) if settings.secret else None
        self.public_url = settings.url

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
                if not found and self.sessions and (session := self.sessions.read(scope)):
                    scope[_SCOPE_SESSION] = session
                    scope[_SCOPE_IDENTITY] = session.principal
                else:
                    scope[_SCOPE_IDENTITY] = await self.authenticate(found[0] if found else None)
            except Problem as problem:
                scope[_SCOPE_IDENTITY] = problem
        identity = scope[_SCOPE_IDENTITY]
        if isinstance(identity, Problem):
            raise identity
        return identity if isinstance(identity, Principal) else None

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            return await verified(token, self._secret, self._keys, self._settings.issuer, self._settings.audience)
        except jwt.ExpiredSignatureError:
            raise unauthorised("The token has expired. Sign in again or get a new one.", invalid=True) from None
        except INVALID_TOKEN:
            # Which check failed helps a forger more than a user.
            raise unauthorised("The token is not valid here.", invalid=True) from None

    def _principal(self, claims: dict[str, Any]) -> Principal:
        try:
            member = read_member(claims.get(self._settings.member_claim))
        except ValueError:
            raise unauthorised("The token's member id is not one.", invalid=True) from None
        return Principal(member, read_roles(claims.get(self._settings.roles_claim)))


INVALID_TOKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What ``verified`` raises for a token that does not hold; an expired one is ``jwt.ExpiredSignatureError`` among it."""


async def verified(
    token: str, secret: str | None, keys: "KeySet | None", issuer: str | None, audience: str | None
) -> dict[str, Any]:
    """The claims of a token that holds. Raises one of INVALID_TOKEN, and 503 when the issuer's keys cannot be had."""
    if len(token) > MAX_TOKEN:
        raise jwt.InvalidTokenError("oversize")
    header = jwt.get_unverified_header(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    key: str | jwt.PyJWK
    if algorithm == "HS256" and secret is not None:
        key = secret
    elif algorithm in _KEY_OF and keys is not None:
        key = await keys.find(algorithm, kid)
    else:
        raise jwt.InvalidAlgorithmError("not an algorithm of this installation")
    return jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        issuer=issuer,
        audience=audience,
        leeway=LEEWAY_SECONDS,
        options={
            "require": ["exp"],
            "verify_iss": issuer is not None,
            "verify_aud": audience is not None,
            "enforce_minimum_key_length": True,
        },
    )


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
            status, document = await fetch_json(self._url, transport=self._transport)
            if status != 200:
                raise ValueError(f"the answer has status {status}")
            if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
                raise ValueError("not a key set")
            self._keys = [key for data in document["keys"] if (key := _usable(data)) is not None]
            self._fetched_at = self._clock()
        except UNREACHABLE as error:
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
    if member_id is not None and not is_member_id(member_id):
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


async def identify(request: Request) -> Principal | None:
    """Who asks, None for anyone. All that lets somebody do something asks here.

    Raises 401 for a bearer token that was sent and does not hold, and 403 for a request that would change something,
    is known by its session alone, and does not show that it comes from a page of ours (see ``shared.web.csrf``).
    """
    authenticator = request.scope.get(SCOPE_AUTHENTICATOR)
    if not isinstance(authenticator, Authenticator):
        # A service's app that runs without the process around it.
        authenticator = _default_authenticator()
    found = await authenticator.of(request.scope)
    if (session := session_of(request.scope)) is not None and not request.scope.get(_SCOPE_CHECKED):
        await csrf.check(request, session, authenticator.public_url)
        request.scope[_SCOPE_CHECKED] = True
    return found


def identified(scope: Scope) -> Principal | None:
    """Whom pages show as signed in, without asking again; None for anyone. What lets somebody act asks ``identify``."""
    found = scope.get(_SCOPE_IDENTITY)
    return found if isinstance(found, Principal) else None


def session_of(scope: Scope) -> Session | None:
    """The session that the request is known by; None with a bearer token, and for anyone."""
    found = scope.get(_SCOPE_SESSION)
    return found if isinstance(found, Session) else None


def csrf_token(request: Request) -> str:
    """What a page's forms and scripts send along (``csrf_token``, ``X-CSRF-Token``); empty without a session."""
    session = session_of(request.scope)
    return csrf.new_token(session) if session is not None else ""


async def principal_or_none(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_optional)]
) -> Principal | None:
    """Dependency: who asks, None for anyone. A token that was sent and does not hold is 401, not "anyone"."""
    return await identify(request)


def require(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency that asks for any one of the roles, or with none for anyone who is known.

    ``Annotated[Principal, Depends(require(Role.STAFF))]``. 401 for who is not known, 403 without the role.
    """
    wanted = [role.value for role in roles]

    async def principal(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer, scopes=wanted)]
    ) -> Principal:
        return _allowed(await identify(request), roles)

    return principal


def signed_in(*roles: Role) -> Callable[[Request], Awaitable[Principal]]:
    """The same for a page: a browser that comes without a session is sent to sign in, and then back to the page."""

    async def principal(request: Request) -> Principal:
        found = await identify(request)
        # A part of a page (htmx) is no place to sign in: the script sends the whole page there on 401.
        by_window = "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers
        if found is None and by_window and request.method in ("GET", "HEAD"):
            raise SignInNeeded(address_of(request.scope))
        return _allowed(found, roles)

    return principal


class SignInNeeded(Problem):
    """Sends a browser to sign in; NEXT is where it comes back to, if that is an address of ours."""

    def __init__(self, next: str) -> None:
        super().__init__(303, "This needs a sign-in.")
        self._where = f"{SIGN_IN_PATH}?{urlencode({'next': local_address(next)})}"

    def response(self) -> Response:
        """The redirect."""
        return RedirectResponse(self._where, 303, headers={"Cache-Control": "no-store"})


def _allowed(found: Principal | None, roles: tuple[Role, ...]) -> Principal:
    if found is None:
        raise unauthorised("This needs a bearer token, or that you sign in.")
    if roles and not found.has(*roles):
        raise Problem(
            403,
            f"This needs the role {' or '.join(roles)}.",
            headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'},
        )
    return found


def address_of(scope: Scope) -> str:
    """Path and query as the browser sent them."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    query = scope.get("query_string", b"")
    address: bytes = path + (b"?" + query if query else b"")
    return address.decode("latin-1")
