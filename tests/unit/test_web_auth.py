"""Bearer tokens: which hold, which do not, and what they say."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import Depends
from pydantic import SecretStr

from shared.settings import Settings
from shared.web import (
    Authenticator,
    Principal,
    Problem,
    Role,
    Service,
    create_process,
    create_service_app,
    issue_token,
    principal_or_none,
    require,
)

SECRET = "a-secret-of-at-least-thirty-two-bytes!"
JWKS_URL = "https://issuer.example/jwks"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


@asynccontextmanager
async def idle() -> AsyncIterator[None]:
    yield


async def no_problems() -> list[str]:
    return []


def with_secret(**more: Any) -> Settings:
    return Settings(secret=SecretStr(SECRET), **more)


def claims(**more: Any) -> dict[str, Any]:
    return {"exp": time.time() + 300, "sub": "m-1", "roles": ["star"]} | more


def signed(payload: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(payload, key, algorithm, headers=header)


def forged(header: dict[str, Any], payload: dict[str, Any], key: bytes = b"") -> str:
    """A token made by hand, as an attacker makes it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body = part(json.dumps(header).encode()) + "." + part(json.dumps(payload).encode())
    mac = hmac.new(key, body.encode(), hashlib.sha256).digest() if key else b""
    return f"{body}.{part(mac)}"


async def ask(authenticator: Authenticator, token: str) -> Principal:
    principal = await authenticator.authenticate(f"Bearer {token}")
    assert principal is not None
    return principal


async def refused(authenticator: Authenticator, token: str) -> Problem:
    with pytest.raises(Problem) as raised:
        await authenticator.authenticate(f"Bearer {token}")
    return raised.value


class Issuer(httpx.AsyncBaseTransport):
    """An issuer's key set as a fake transport; ``keys`` may be rotated, ``status`` set to fail."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys
        self.status = 200
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(0)
        found = []
        for kid, key in self.keys.items():
            if isinstance(key, dict):
                found.append(key | {"kid": kid})
                continue
            kind = {"RSA": "RS256", "Ell": "ES256", "ECP": "ES256"}.get(type(key).__name__[:3], "EdDSA")
            algorithm = jwt.get_algorithm_by_name(kind)
            found.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"})
        return httpx.Response(self.status, json={"keys": found})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def with_jwks(issuer: Issuer, clock: Clock | None = None, **more: Any) -> Authenticator:
    return Authenticator(Settings(jwks=JWKS_URL, **more), transport=issuer, clock=clock or Clock())


@pytest.mark.asyncio
async def test_an_issued_token_says_who_and_which_roles() -> None:
    token = issue_token(SECRET, [Role.STAR, Role.STAFF], "m-1", timedelta(minutes=5))
    assert await ask(Authenticator(with_secret()), token) == Principal("m-1", frozenset({Role.STAR, Role.STAFF}))
    token = issue_token(SECRET, [Role.FORUM], None, timedelta(minutes=5))
    assert await ask(Authenticator(with_secret()), token) == Principal(None, frozenset({Role.FORUM}))


@pytest.mark.asyncio
async def test_an_issued_token_can_meet_an_expected_issuer_and_audience() -> None:
    settings = with_secret(issuer="https://i", audience="stars", member_claim="forum_id", roles_claim="groups")
    token = issue_token(
        SECRET,
        [Role.STAR],
        "m-1",
        timedelta(minutes=5),
        issuer="https://i",
        audience="stars",
        member_claim="forum_id",
        roles_claim="groups",
    )
    assert (await ask(Authenticator(settings), token)).member_id == "m-1"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "HS512", ["HS256"], {"a": 1}])
@pytest.mark.asyncio
async def test_alg_none_or_another_than_ours_is_refused(alg: Any) -> None:
    for settings in (with_secret(), with_secret(jwks=JWKS_URL)):
        authenticator = Authenticator(settings, transport=Issuer(k=RSA_KEY))
        for key in (b"", SECRET.encode()):
            problem = await refused(authenticator, forged({"alg": alg, "typ": "JWT", "kid": "k"}, claims(), key))
            assert problem.status == 401


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED_KEY], ids=["RSA", "EC", "Ed25519"])
@pytest.mark.asyncio
async def test_hs256_with_a_public_key_as_its_secret_is_refused(key: Any) -> None:
    issuer = Issuer(k=key)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = forged({"alg": "HS256", "typ": "JWT", "kid": "k"}, claims(), pem)
    for authenticator in (with_jwks(issuer), with_jwks(issuer, secret=SecretStr(SECRET))):
        assert (await refused(authenticator, token)).status == 401
    assert issuer.asked == 0


@pytest.mark.asyncio
async def test_a_symmetric_key_in_a_key_set_is_never_used() -> None:
    weak = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    issuer = Issuer(k={"kty": "oct", "k": weak, "alg": "HS256"})
    assert (await refused(with_jwks(issuer), signed(claims(), kid="k"))).status == 401


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")], ids=["RS256", "ES256", "EdDSA"]
)
@pytest.mark.asyncio
async def test_a_key_set_verifies_its_own_algorithms(key: Any, algorithm: str) -> None:
    authenticator = with_jwks(Issuer(a=RSA_KEY, b=EC_KEY, c=ED_KEY))
    kid = {"RS256": "a", "ES256": "b", "EdDSA": "c"}[algorithm]
    assert (await ask(authenticator, signed(claims(), key, algorithm, kid=kid))).member_id == "m-1"
    assert (await ask(authenticator, signed(claims(), key, algorithm))).member_id == "m-1"
    other = {"a": "b", "b": "c", "c": "a"}[kid]
    assert (await refused(authenticator, signed(claims(), key, algorithm, kid=other))).status == 401


@pytest.mark.asyncio
async def test_a_key_is_used_for_its_declared_algorithm_and_purpose_only() -> None:
    public = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(RSA_KEY.public_key()))
    for odd in ({"alg": "PS256"}, {"use": "enc"}):
        assert (await refused(with_jwks(Issuer(k=public | odd)), signed(claims(), RSA_KEY, "RS256", kid="k"))).status
    small = rsa.generate_private_key(65537, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        token = signed(claims(), small, "RS256", kid="k")
    assert (await refused(with_jwks(Issuer(k=small)), token)).status == 401


@pytest.mark.asyncio
async def test_a_rotated_key_is_fetched_when_its_id_is_unknown_at_most_once_a_minute() -> None:
    clock, issuer = Clock(), Issuer(old=RSA_KEY)
    authenticator = with_jwks(issuer, clock)
    await ask(authenticator, signed(claims(), RSA_KEY, "RS256", kid="old"))
    assert issuer.asked == 1
    new = rsa.generate_private_key(65537, 2048)
    issuer.keys = {"new": new}
    clock.now += 61
    assert (await ask(authenticator, signed(claims(), new, "RS256", kid="new"))).member_id == "m-1"
    assert issuer.asked == 2
    for n in range(20):
        await refused(authenticator, signed(claims(), new, "RS256", kid=f"invented-{n}"))
    assert issuer.asked == 2
    assert (await refused(authenticator, signed(claims(), RSA_KEY, "RS256", kid="old"))).status == 401


@pytest.mark.asyncio
async def test_many_callers_at_once_make_one_fetch_and_one_who_leaves_does_not_stop_it() -> None:
    issuer = Issuer(k=RSA_KEY)
    authenticator = with_jwks(issuer)
    token = signed(claims(), RSA_KEY, "RS256", kid="k")
    tasks = [asyncio.create_task(ask(authenticator, token)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(r, Principal) for r in results[1:])
    assert issuer.asked == 1


@pytest.mark.asyncio
async def test_keys_that_cannot_be_had_are_503_and_are_asked_for_again() -> None:
    clock, issuer = Clock(), Issuer(k=RSA_KEY)
    authenticator = with_jwks(issuer, clock)
    token = signed(claims(), RSA_KEY, "RS256", kid="k")
    issuer.status = 500
    problem = await refused(authenticator, token)
    assert problem.status == 503
    assert problem.headers is not None
    assert "Retry-After" in problem.headers
    issuer.status = 200
    clock.now += 6
    assert (await ask(authenticator, token)).member_id == "m-1"


@pytest.mark.asyncio
async def test_known_keys_outlive_an_issuer_that_is_away_for_a_day_and_no_longer() -> None:
    clock, issuer = Clock(), Issuer(k=RSA_KEY)
    authenticator = with_jwks(issuer, clock)
    token = signed(claims(), RSA_KEY, "RS256", kid="k")
    await ask(authenticator, token)
    issuer.status = 500
    clock.now += 3600
    assert (await ask(authenticator, token)).member_id == "m-1"
    await asyncio.sleep(0.01)
    assert issuer.asked == 2
    clock.now += 24 * 3600
    assert (await refused(authenticator, token)).status == 503


@pytest.mark.asyncio
async def test_a_key_that_the_issuer_took_back_is_refused_after_the_cache_is_renewed() -> None:
    clock, issuer = Clock(), Issuer(k=RSA_KEY, other=EC_KEY)
    authenticator = with_jwks(issuer, clock)
    token = signed(claims(), RSA_KEY, "RS256", kid="k")
    await ask(authenticator, token)
    del issuer.keys["k"]
    clock.now += 601
    await ask(authenticator, token)
    await asyncio.sleep(0.01)
    assert (await refused(authenticator, token)).status == 401


@pytest.mark.parametrize(
    "payload",
    [
        {"exp": 1},
        {"exp": time.time() - 61},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1e400},
        {"exp": float("nan")},
        {"nbf": time.time() + 3600},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "a\x00b"},
        {"sub": "\ud800"},
        {"sub": ["m-1"]},
        {"sub": True},
    ],
    ids=lambda payload: next(iter(payload)),
)
@pytest.mark.asyncio
async def test_a_token_that_is_expired_early_endless_or_names_no_sound_member_is_refused(
    payload: dict[str, Any],
) -> None:
    token = forged({"alg": "HS256", "typ": "JWT"}, claims(**payload), SECRET.encode())
    assert (await refused(Authenticator(with_secret()), token)).status == 401


@pytest.mark.asyncio
async def test_exp_is_required_and_clocks_may_differ_by_a_minute_at_most() -> None:
    authenticator = Authenticator(with_secret())
    without = claims()
    del without["exp"]
    assert (await refused(authenticator, signed(without))).status == 401
    assert await ask(authenticator, signed(claims(exp=time.time() - 50)))
    assert (await refused(authenticator, signed(claims(exp=time.time() - 62)))).status == 401


@pytest.mark.asyncio
async def test_another_issuer_or_audience_is_refused_where_one_is_set() -> None:
    authenticator = Authenticator(with_secret(issuer="https://us", audience="stars"))
    assert await ask(authenticator, signed(claims(iss="https://us", aud=["x", "stars"])))
    for wrong in ({"iss": "https://them", "aud": "stars"}, {"iss": "https://us", "aud": "x"}, {"aud": "stars"}, {}):
        assert (await refused(authenticator, signed(claims(**wrong)))).status == 401
    assert await ask(Authenticator(with_secret()), signed(claims(iss="https://x", aud="y")))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["star", "staff"], {Role.STAR, Role.STAFF}),
        ("star staff", {Role.STAR, Role.STAFF}),
        ("star,staff, forum", {Role.STAR, Role.STAFF, Role.FORUM}),
        (["star", "root", 7, None, ["staff"], "STAFF"], {Role.STAR}),
        ("", set()),
        (None, set()),
        ({"staff": True}, set()),
        (7, set()),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
@pytest.mark.asyncio
async def test_roles_are_a_list_or_a_text_and_unknown_ones_mean_nothing(value: Any, expected: set[Role]) -> None:
    assert (await ask(Authenticator(with_secret()), signed(claims(roles=value)))).roles == expected


@pytest.mark.asyncio
async def test_the_member_is_the_claim_that_the_settings_name_and_may_be_a_number() -> None:
    authenticator = Authenticator(with_secret(member_claim="forum_id"))
    assert (await ask(authenticator, signed(claims(forum_id=42)))).member_id == "42"
    assert (await ask(authenticator, signed(claims()))).member_id is None


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer a b", "Bearer x.y.z", "Bearer é", "Bearer " + "x" * 20_000],
)
@pytest.mark.asyncio
async def test_a_malformed_or_oversize_authorization_header_is_401(header: str) -> None:
    with pytest.raises(Problem) as raised:
        await Authenticator(with_secret(jwks=JWKS_URL), transport=Issuer()).authenticate(header)
    assert raised.value.status == 401


def test_a_secret_that_is_too_short_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Authenticator(Settings(secret=SecretStr("short")))
    with pytest.raises(ValueError, match="at least 32"):
        issue_token("short", [Role.STAR], "m", timedelta(minutes=1))


def test_a_token_is_not_issued_for_what_is_no_member_id() -> None:
    for bad in ("", "a\x00", "x" * 256):
        with pytest.raises(ValueError, match="member id"):
            issue_token(SECRET, [Role.STAR], bad, timedelta(minutes=1))


def protected() -> httpx.AsyncClient:
    app = create_service_app("topics", "Topics", "", "1")

    @app.get("/open")
    async def open_to_all(who: Annotated[Principal | None, Depends(principal_or_none)]) -> dict[str, Any]:
        return {"member": who.member_id if who else None}

    @app.get("/staff")
    async def staff_only(who: Annotated[Principal, Depends(require(Role.STAFF))]) -> dict[str, Any]:
        return {"member": who.member_id}

    process = create_process([Service("topics", app, idle, no_problems)], with_secret())
    return httpx.AsyncClient(transport=httpx.ASGITransport(process), base_url="http://test/topics/")


@pytest.mark.asyncio
async def test_a_route_answers_401_without_a_token_403_without_the_role_and_200_with_it() -> None:
    async with protected() as http:
        answer = await http.get("staff")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="constellation"'
        answer = await http.get("staff", headers={"authorization": "Bearer x.y.z"})
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        answer = await http.get("staff", headers={"authorization": f"Bearer {signed(claims())}"})
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        answer = await http.get("staff", headers={"authorization": f"bearer {signed(claims(roles='staff'))}"})
        assert answer.json() == {"member": "m-1"}


@pytest.mark.asyncio
async def test_an_open_route_knows_who_asks_and_refuses_a_bad_token() -> None:
    async with protected() as http:
        assert (await http.get("open")).json() == {"member": None}
        good = {"authorization": f"Bearer {signed(claims())}"}
        assert (await http.get("open", headers=good)).json() == {"member": "m-1"}
        assert (await http.get("open", headers={"authorization": "Bearer nonsense"})).status_code == 401
        twice = [("authorization", good["authorization"])] * 2
        assert (await http.get("open", headers=twice)).status_code == 401


@pytest.mark.asyncio
async def test_tokens_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = signed(claims()), signed(claims(), "another-secret-of-thirty-two-bytes!!!")
    with caplog.at_level(logging.DEBUG):
        async with protected() as http:
            for token in (good, bad):
                answer = await http.get("staff", headers={"authorization": f"Bearer {token}"})
                assert token not in answer.text
    for token in (good, bad):
        assert not any(token in record.getMessage() or token in str(record.__dict__) for record in caplog.records)
