"""What an OpenID provider answers, forged and broken: nobody is signed in by what does not hold."""

import asyncio
import base64
import hashlib
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr

from shared.settings import Settings
from shared.web.principals import Principal, Role
from shared.web.sign_in import SignIn
from shared.web.sign_in.attempts import Attempt, Attempts, SignInFailed
from shared.web.sign_in.discourse import DiscourseConnect
from shared.web.sign_in.oidc import OpenIDConnect

SECRET = "a-secret-of-at-least-thirty-two-bytes!"
ISSUER = "https://issuer.example/tenant"
CALLBACK = "https://stars.example/sign-in/oidc/callback"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
OTHER = rsa.generate_private_key(65537, 2048)


def settings(**more: Any) -> Settings:
    values = {"secret": SecretStr(SECRET), "url": "https://stars.example", "issuer": ISSUER, "oidc_client_id": "stars"}
    return Settings(**(values | more))


class Provider(httpx.AsyncBaseTransport):
    """A provider as a transport. What a test changes in it is what goes wrong."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.requests: list[httpx.Request] = []
        self.metadata: Any = {
            "issuer": ISSUER,
            "authorization_endpoint": "https://issuer.example/auth?tenant=1",
            "token_endpoint": "https://issuer.example/token",
            "jwks_uri": "https://issuer.example/jwks",
            "userinfo_endpoint": "https://issuer.example/me",
        }
        self.tokens: Any = {}
        self.userinfo: Any = {"sub": "ada-at-work", "roles": ["star"], "name": "Ada"}
        self.broken: dict[str, httpx.Response | Exception] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/tenant").strip("/")
        self.asked.append(path)
        self.requests.append(request)
        if path in self.broken:
            broken = self.broken[path]
            if isinstance(broken, Exception):
                raise broken
            return broken
        if path == "jwks":
            keys = [
                json.loads(jwt.get_algorithm_by_name(name).to_jwk(key.public_key())) | {"kid": name}
                for name, key in KEYS.items()
            ]
            return httpx.Response(200, json={"keys": keys})
        found = {".well-known/openid-configuration": self.metadata, "token": self.tokens, "me": self.userinfo}[path]
        return httpx.Response(200, json=found)


def attempt_of(values: Settings) -> Attempt:
    return Attempts(values).begin("oidc", "/")


def identity(attempt: Attempt, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "ada-at-work", "aud": "stars", "exp": now + 300, "iat": now}
    return {name: v for name, v in (claims | {"nonce": attempt.secret("nonce")} | more).items() if v is not None}


def signed(claims: dict[str, Any], algorithm: str = "RS256", key: Any = None) -> str:
    return jwt.encode(claims, key or KEYS[algorithm], algorithm, headers={"kid": algorithm})


async def finish(provider: Provider, attempt: Attempt, values: Settings | None = None) -> Principal:
    way = OpenIDConnect(values or settings(), transport=provider)
    return await way.finish(attempt, CALLBACK, {"state": attempt.state, "code": "c0de"})


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_sound_answer_signs_in_whatever_sound_algorithm_it_is_signed_with(algorithm: str) -> None:
    provider, attempt = Provider(), attempt_of(settings())
    half = {"RS256": 16, "ES256": 16, "EdDSA": 32}[algorithm]
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(b"access").digest()[:half]
    at_hash = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    provider.tokens = {"id_token": signed(identity(attempt, at_hash=at_hash), algorithm), "access_token": "access"}
    expected = Principal("ada-at-work", frozenset({Role.MEMBER, Role.STAR}), "Ada")
    assert await finish(provider, attempt) == expected
    assert provider.asked == [".well-known/openid-configuration", "token", "jwks", "me"]


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": None},
        {"nonce": "x" * 43},
        {"iss": "https://issuer.example/other"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": ["another-client"]},
        {"aud": ["stars", "another-client"], "azp": "another-client"},
        {"aud": ["stars", "another-client"]},
        {"exp": int(time.time()) - 120},
        {"exp": None},
        {"iat": None},
        {"iat": int(time.time()) + 3600},
        {"sub": None},
        {"at_hash": "x" * 22},
    ],
    ids=", ".join,
)
async def test_an_identity_token_that_is_not_for_this_sign_in_is_refused(claims: dict[str, Any]) -> None:
    provider, attempt = Provider(), attempt_of(settings())
    provider.tokens = {"id_token": signed(identity(attempt, **claims)), "access_token": "access"}
    with pytest.raises(SignInFailed) as failed:
        await finish(provider, attempt)
    assert failed.value.status == 502
    assert "me" not in provider.asked


async def test_an_identity_token_that_somebody_else_signed_is_refused() -> None:
    attempt = attempt_of(settings())
    claims = identity(attempt)
    none = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": "RS256"}, claims)
    )
    for token in (
        signed(claims, key=OTHER),
        f"{none}.",
        jwt.encode(claims, SECRET, "HS256", headers={"kid": "RS256"}),
        "x.y.z",
        "",
        "x" * 20_000,
    ):
        provider = Provider()
        provider.tokens = {"id_token": token, "access_token": "access"}
        with pytest.raises(SignInFailed) as failed:
            await finish(provider, attempt, settings(oidc_client_secret=SecretStr(SECRET)))
        assert failed.value.status == 502
        assert token == "" or token not in str(failed.value.reason)


async def test_who_the_userinfo_is_about_must_be_who_signed_in() -> None:
    provider, attempt = Provider(), attempt_of(settings())
    provider.tokens = {"id_token": signed(identity(attempt)), "access_token": "access"}
    for userinfo in ({"sub": "eve", "roles": ["staff"]}, {"roles": ["staff"]}, [], "x"):
        provider.userinfo = userinfo
        with pytest.raises(SignInFailed):
            await finish(provider, attempt)


async def test_what_the_identity_token_says_outranks_the_userinfo_which_is_not_asked_without_need() -> None:
    provider, attempt = Provider(), attempt_of(settings())
    provider.userinfo = {"sub": "ada-at-work", "forum_id": "eve", "roles": ["staff"]}
    values = settings(member_claim="forum_id")
    provider.tokens = {"id_token": signed(identity(attempt, forum_id="ada")), "access_token": "access"}
    who = await finish(provider, attempt, values)
    assert (who.member_id, who.roles) == ("ada", {Role.MEMBER, Role.STAFF})
    provider.tokens = {"id_token": signed(identity(attempt, forum_id="ada", roles=[])), "access_token": "access"}
    provider.asked.clear()
    who = await finish(provider, attempt, values)
    assert (who.member_id, who.roles) == ("ada", {Role.MEMBER})
    assert "me" not in provider.asked


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"issuer": ISSUER + "/"}, 502),
        ({"issuer": None}, 502),
        ({"token_endpoint": "http://issuer.example/token"}, 502),
        ({"token_endpoint": "file:///etc/passwd"}, 502),
        ({"authorization_endpoint": "javascript:alert(1)"}, 502),
        ({"jwks_uri": None}, 502),
        ({"jwks_uri": 7}, 502),
    ],
    ids=str,
)
async def test_a_description_that_is_not_sound_is_not_followed(change: dict[str, Any], status: int) -> None:
    provider = Provider()
    provider.metadata |= change
    with pytest.raises(SignInFailed) as failed:
        await OpenIDConnect(settings(), transport=provider).begin(attempt_of(settings()), CALLBACK)
    assert failed.value.status == status


@pytest.mark.parametrize(
    "broken",
    [
        httpx.ConnectError("no route"),
        httpx.ReadTimeout("slow"),
        httpx.Response(500, json={}),
        httpx.Response(302, headers={"location": "https://evil.example/"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, content=b"[" * 2_000_000),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", [".well-known/openid-configuration", "token", "jwks", "me"])
async def test_a_provider_that_is_away_or_talks_nonsense_signs_nobody_in(
    where: str, broken: httpx.Response | Exception
) -> None:
    provider, attempt = Provider(), attempt_of(settings())
    provider.tokens = {"id_token": signed(identity(attempt)), "access_token": "access"}
    provider.broken[where] = broken
    with pytest.raises(SignInFailed) as failed:
        await finish(provider, attempt)
    assert failed.value.status in (502, 503)
    assert "evil.example" not in str(provider.requests)


async def test_a_description_outlives_a_provider_that_goes_away_and_is_asked_for_again_after_an_hour() -> None:
    provider, now = Provider(), [0.0]
    way = OpenIDConnect(settings(), transport=provider, clock=lambda: now[0])
    for _ in range(3):
        await way.begin(attempt_of(settings()), CALLBACK)
    assert len(provider.asked) == 1
    now[0] += 3601
    provider.broken[".well-known/openid-configuration"] = httpx.ConnectError("away")
    await way.begin(attempt_of(settings()), CALLBACK)
    await way.begin(attempt_of(settings()), CALLBACK)
    assert len(provider.asked) == 2


@pytest.mark.parametrize(
    "broken", [httpx.ConnectTimeout("slow"), httpx.Response(200, json={"issuer": "another"})], ids=repr
)
async def test_callers_wait_together_for_a_provider_that_gives_no_description_and_it_is_asked_again_after_5_seconds(
    broken: httpx.Response | Exception,
) -> None:
    provider, now = Provider(), [0.0]
    provider.broken[".well-known/openid-configuration"] = broken
    way = OpenIDConnect(settings(), transport=provider, clock=lambda: now[0])
    failed = await asyncio.gather(*(way.describe() for _ in range(5)), return_exceptions=True)
    assert [isinstance(one, SignInFailed) for one in failed] == [True] * 5
    assert len(provider.asked) == 1
    now[0] += 4.9
    with pytest.raises(SignInFailed):
        await way.describe()
    assert len(provider.asked) == 1
    provider.broken.clear()
    now[0] += 0.2
    assert await way.describe() == provider.metadata
    assert len(provider.asked) == 2


@pytest.mark.parametrize(
    ("supported", "secret", "expected"),
    [
        (None, "s3:cret +%", "Basic " + base64.b64encode(b"stars:s3%3Acret%20%2B%25").decode()),
        (["client_secret_post", "client_secret_basic"], "x", "Basic " + base64.b64encode(b"stars:x").decode()),
        (["client_secret_post"], "s3:cret +%", None),
        (None, None, None),
    ],
    ids=str,
)
async def test_the_client_says_who_it_is_as_the_provider_wants_it(
    supported: list[str] | None, secret: str | None, expected: str | None
) -> None:
    provider, attempt = Provider(), attempt_of(settings())
    if supported:
        provider.metadata["token_endpoint_auth_methods_supported"] = supported
    provider.tokens = {"id_token": signed(identity(attempt)), "access_token": "access"}
    await finish(provider, attempt, settings(oidc_client_secret=SecretStr(secret) if secret else None))
    asked = next(request for request in provider.requests if request.url.path == "/token")
    form = {name: values[0] for name, values in parse_qs(asked.content.decode()).items()}
    assert asked.headers.get("authorization") == expected
    assert form.get("client_secret") == (secret if expected is None else None)
    assert form.get("client_id") == ("stars" if expected is None else None)
    assert (form["grant_type"], form["code"], form["redirect_uri"]) == ("authorization_code", "c0de", CALLBACK)
    challenge = hashlib.sha256(form["code_verifier"].encode()).digest()
    address = await OpenIDConnect(settings(), transport=provider).begin(attempt, CALLBACK)
    sent = parse_qs(urlsplit(address).query)
    assert sent["code_challenge"] == [base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()]
    assert sent["tenant"] == ["1"]


def test_the_secrets_of_an_attempt_differ_by_purpose_attempt_and_installation() -> None:
    attempts, other = Attempts(settings()), Attempts(settings(secret=SecretStr("x" * 32)))
    one, two = attempts.begin("oidc", "/"), attempts.begin("oidc", "/")
    same = Attempt(one.way, one.state, one.next, other.begin("oidc", "/")._key)
    assert len({one.secret("nonce"), one.secret("verifier"), two.secret("nonce"), same.secret("nonce")}) == 4
    assert one.secret("nonce") not in attempts.cookie(one)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"issuer": None}, "needs STARS_ISSUER"),
        ({"issuer": "issuer.example"}, "STARS_ISSUER must be"),
        ({"secret": None}, "STARS_SECRET is not set"),
        ({"url": None}, "STARS_URL is not set"),
        ({"discourse_connect_secret": SecretStr("x")}, "needs STARS_DISCOURSE_URL"),
        ({"discourse_connect_secret": SecretStr("x"), "discourse_url": "forum"}, "STARS_DISCOURSE_URL: a base URL"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_said_so_at_the_start(values: dict[str, Any], words: str) -> None:
    from shared.web import create_process

    with pytest.raises(ValueError, match=words):
        create_process([], settings(**values))


@pytest.mark.parametrize(
    "roles", ["", "admin", "admin=forum", "group:=star", "owner=staff", "admin=staff,,", "a b=star"]
)
def test_a_mapping_of_roles_that_is_none_is_refused(roles: str) -> None:
    with pytest.raises(ValueError, match="discourse_roles"):
        Settings(discourse_roles=roles)


def test_a_discourse_in_a_folder_gives_the_ids_of_its_adapter() -> None:
    way = DiscourseConnect(
        settings(discourse_url="https://Example.com:8443/forum/", discourse_connect_secret=SecretStr("x"))
    )
    from services.topics.discourse.mapping import Instance

    assert way.at == Instance("https://Example.com:8443/forum/").place == "example.com:8443/forum"
    assert way._discourse.user(7) == Instance("https://example.com:8443/forum").user(7)


def test_only_the_ways_that_the_settings_give_are_routes() -> None:
    from shared.web import Authenticator

    def paths(values: Settings) -> set[str]:
        mount = SignIn(values, Authenticator(values)).routes()[1]
        return {route.path for route in mount.routes}  # type: ignore[attr-defined]

    assert paths(settings()) == {"/oidc", "/oidc/callback"}
    assert paths(Settings(secret=SecretStr(SECRET))) == set()
