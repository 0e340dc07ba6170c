"""Sign-in by OpenID Connect: the code flow with PKCE, state and nonce (OpenID Connect Core 1.0, RFC 7636, RFC 9207)."""

import asyncio
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import jwt
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from shared.settings import Settings
from shared.web.auth import INVALID_TOKEN, LEEWAY_SECONDS, KeySet, verified
from shared.web.fetch import UNREACHABLE, fetch_json
from shared.web.principals import Principal, person, read_member, read_roles
from shared.web.problems import Problem
from shared.web.sign_in.attempts import Attempt, SignInFailed

FRESH_SECONDS = 3600.0
"""How long the provider's description of itself is taken for true."""
RETRY_SECONDS = 5.0
"""How long it is not asked again after it gave none: who came meanwhile need not wait for it one after the other."""

_CODE = re.compile(r"[a-z_]{1,64}")
_AWAY = "The provider does not answer at the moment. Please try again in a minute."
_UNSOUND = "What the provider answered does not hold, so nobody was signed in. If it happens again, tell the operator."


class OpenIDConnect:
    """The provider that ``STARS_ISSUER`` names, found by its own description (OpenID Connect Discovery 1.0)."""

    name = "oidc"

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not settings.issuer or not settings.oidc_client_id:
            raise ValueError("STARS_OIDC_CLIENT_ID needs STARS_ISSUER, the provider that it is a client of")
        if urlsplit(settings.issuer).scheme not in ("http", "https"):
            raise ValueError("STARS_ISSUER must be the provider's URL")
        self._settings, self._transport, self._clock = settings, transport, clock
        self._issuer, self._client_id = settings.issuer, settings.oidc_client_id
        secret = settings.oidc_client_secret
        self._secret = secret.get_secret_value() if secret else None
        self._provider: dict[str, Any] | None = None
        self._described_at = float("-inf")
        self._failed: SignInFailed | None = None
        self._failed_at = float("-inf")
        self._describing = asyncio.Lock()
        self._keys: tuple[str, KeySet] | None = None
        self.at = urlsplit(settings.issuer).netloc
        """Where people sign in."""

    async def begin(self, attempt: Attempt, callback: str) -> str:
        """The address at the provider where the sign-in goes on. Raises SignInFailed."""
        provider = await self.describe()
        address: str = prepare_grant_uri(
            provider["authorization_endpoint"],
            client_id=self._client_id,
            response_type="code",
            redirect_uri=callback,
            scope=self._settings.oidc_scope,
            state=attempt.state,
            nonce=attempt.secret("nonce"),
            code_challenge=create_s256_code_challenge(attempt.secret("verifier")),
            code_challenge_method="S256",
        )
        return address

    async def finish(self, attempt: Attempt, callback: str, answer: Mapping[str, str]) -> Principal:
        """Who signed in, from the provider's answer in the callback's query. Raises SignInFailed."""
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise SignInFailed(
                400, "Another sign-in was begun in this browser after this one. Please begin again.", "state"
            )
        provider = await self.describe()
        # A provider that names itself in the answer must be the one that was asked (RFC 9207: mix-up).
        if answer.get("iss", self._issuer) != self._issuer:
            raise SignInFailed(400, _UNSOUND, "the answer is another issuer's")
        if "error" in answer:
            raise _refused(answer["error"])
        if not answer.get("code"):
            raise SignInFailed(400, _UNSOUND, "the answer has no code")
        tokens = await self._exchange(provider, attempt, callback, answer["code"])
        claims = await self._claims(provider, attempt, tokens)
        return self._principal(claims)

    async def describe(self) -> dict[str, Any]:
        """The provider's description of itself, checked. Raises SignInFailed where it cannot be had or is not sound."""
        async with self._describing:
            if self._provider is None or self._clock() - self._described_at > FRESH_SECONDS:
                if self._failed is not None and self._clock() - self._failed_at < RETRY_SECONDS:
                    raise self._failed.with_traceback(None)
                try:
                    self._provider = await self._described()
                except SignInFailed as failed:
                    self._failed, self._failed_at = failed, self._clock()
                    raise
                self._described_at = self._clock()
            return self._provider

    async def _described(self) -> dict[str, Any]:
        url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            status, document = await fetch_json(url, transport=self._transport)
            if status != 200:
                raise ValueError(f"{url} answers {status}")
        except UNREACHABLE as error:
            # An old description is better than none: endpoints hardly ever move.
            if self._provider is None:
                raise SignInFailed(503, _AWAY, f"discovery: {error!r}") from None
            return self._provider
        return self._checked(document)

    def _checked(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            named = document.get("issuer") if isinstance(document, dict) else None
            raise SignInFailed(502, _UNSOUND, f"STARS_ISSUER is {self._issuer!r}, the provider calls itself {named!r}")
        allowed = ("http", "https") if self._issuer.startswith("http:") else ("https",)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            value = document.get(name)
            if not isinstance(value, str) or urlsplit(value).scheme not in allowed:
                raise SignInFailed(502, _UNSOUND, f"the provider's {name} is no URL of the schemes {allowed}")
        return document

    async def _exchange(
        self, provider: dict[str, Any], attempt: Attempt, callback: str, code: str
    ) -> Mapping[str, Any]:
        form = prepare_token_request(
            "authorization_code", redirect_uri=callback, code=code, code_verifier=attempt.secret("verifier")
        )
        method, client, secret = "none", self._client_id, self._secret
        if secret is not None:
            supported = provider.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
            method = "client_secret_basic" if "client_secret_basic" in supported else "client_secret_post"
            if method == "client_secret_basic":
                # RFC 6749 section 2.3.1: both are form-encoded first, or a colon in one of them would end it.
                client, secret = quote(client, safe=""), quote(secret, safe="")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url, headers, form = ClientAuth(client, secret, method).prepare(
            "POST", provider["token_endpoint"], headers, form
        )
        status, tokens = await self._ask("token endpoint", url, method="POST", headers=headers, content=form)
        if status != 200 or not isinstance(tokens, dict) or not isinstance(tokens.get("id_token"), str):
            error = tokens.get("error") if isinstance(tokens, dict) else None
            code_word = error if isinstance(error, str) and _CODE.fullmatch(error) else "no error code"
            raise SignInFailed(502, _UNSOUND, f"the token endpoint answers {status}: {code_word}")
        return tokens

    async def _claims(self, provider: dict[str, Any], attempt: Attempt, tokens: Mapping[str, Any]) -> Mapping[str, Any]:
        """The identity token's claims, verified (OpenID Connect Core, 3.1.3.7), and what else the provider tells."""
        token: str = tokens["id_token"]
        try:
            claims = await verified(token, None, self._keys_at(provider["jwks_uri"]), self._issuer, self._client_id)
            parameters = {"nonce": attempt.secret("nonce"), "client_id": self._client_id}
            if isinstance(tokens.get("access_token"), str):
                parameters["access_token"] = tokens["access_token"]
            CodeIDToken(claims, jwt.get_unverified_header(token), params=parameters).validate(leeway=LEEWAY_SECONDS)
        except Problem:
            raise SignInFailed(503, _AWAY, "the provider's keys cannot be had") from None
        except (*INVALID_TOKEN, JoseError) as error:
            # The kind of error alone: a text could hold what the token says.
            raise SignInFailed(502, _UNSOUND, f"identity token: {type(error).__name__}") from None
        wanted = (self._settings.member_claim, self._settings.roles_claim)
        endpoint, access = provider.get("userinfo_endpoint"), parameters.get("access_token")
        if all(name in claims for name in wanted) or not isinstance(endpoint, str) or access is None:
            return claims
        # Providers often put only the bare minimum into the identity token.
        status, more = await self._ask("userinfo endpoint", endpoint, headers={"Authorization": f"Bearer {access}"})
        if status != 200 or not isinstance(more, dict) or more.get("sub") != claims["sub"]:
            raise SignInFailed(502, _UNSOUND, f"the userinfo endpoint answers {status}, or of somebody else")
        return more | claims

    def _keys_at(self, url: str) -> KeySet:
        if self._keys is None or self._keys[0] != url:
            self._keys = (url, KeySet(url, self._transport, self._clock))
        return self._keys[1]

    async def _ask(self, what: str, url: str, **request: Any) -> tuple[int, Any]:
        try:
            return await fetch_json(url, transport=self._transport, **request)
        except json.JSONDecodeError:
            raise SignInFailed(502, _UNSOUND, f"the {what} does not answer in JSON") from None
        except UNREACHABLE as error:
            raise SignInFailed(503, _AWAY, f"{what}: {type(error).__name__}") from None

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        claim = self._settings.member_claim
        try:
            member = read_member(claims.get(claim))
        except ValueError:
            raise SignInFailed(403, f"What {self.at} gives as your id ({claim}) cannot be one.", "member id") from None
        who = person(
            member, read_roles(claims.get(self._settings.roles_claim)), claims.get("name") or claims.get("nickname")
        )
        if member is None and not who.roles:
            raise SignInFailed(
                403,
                f"Your account at {self.at} is no member of the forum: it has no {claim}. If it should be one, tell "
                "the operator.",
                f"no claim {claim}, and no role",
            )
        return who


def _refused(error: str) -> SignInFailed:
    if error == "access_denied":
        return SignInFailed(403, "The provider says that you did not agree, or that you may not sign in here.", error)
    word = error if _CODE.fullmatch(error) else "unknown"
    if word in ("temporarily_unavailable", "server_error"):
        return SignInFailed(503, _AWAY, word)
    return SignInFailed(502, f"The provider refused the sign-in ({word}).", word)
