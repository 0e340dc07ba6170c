"""Sessions: whom a cookie speaks for, how long, and what a request that is known by one alone must show."""

import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from fastapi import Depends, Form, Request
from pydantic import SecretStr
from starlette.types import Scope

from shared.settings import Settings
from shared.web import (
    Principal,
    Process,
    Role,
    Service,
    create_process,
    create_service_app,
    issue_token,
    principal_or_none,
    require,
    signed_in,
)
from shared.web.auth import csrf_token, identified
from shared.web.csrf import is_token, new_token
from shared.web.pages import static
from shared.web.principals import person
from shared.web.sessions import IDLE_SECONDS, LONGEST_SECONDS, Session, Sessions
from shared.web.sign_in.attempts import Attempts, SignInFailed

SECRET = "a-secret-of-at-least-thirty-two-bytes!"
ADA = Principal("ada", frozenset({Role.MEMBER, Role.STAR}), "Ada L.")
HOME = "http://127.0.0.1:8080"


def settings(**more: Any) -> Settings:
    return Settings(**({"secret": SecretStr(SECRET)} | more))


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def scope_of(*headers: str) -> Scope:
    return {"type": "http", "headers": [(b"cookie", header.encode("latin-1")) for header in headers]}


def pair(set_cookie: str) -> str:
    """What a browser sends back."""
    return set_cookie.split(";")[0]


def opened(sessions: Sessions, who: Principal = ADA) -> tuple[Session, str]:
    session = sessions.open(who)
    return session, pair(sessions.write(session))


# --- The cookie -----------------------------------------------------------------------------------------------------


def test_a_session_is_read_back_by_any_process_that_has_the_secret() -> None:
    session, cookie = opened(Sessions(settings()))
    assert Sessions(settings()).read(scope_of(cookie)) == session
    assert Sessions(settings()).read(scope_of(f"theme=dark; {cookie}; other=1")) == session
    other = settings(secret=SecretStr("another-secret-of-at-least-thirty-two"))
    assert Sessions(other).read(scope_of(cookie)) is None


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites_and_for_neighbours_where_there_is_https() -> None:
    on_this_machine = Sessions(settings(), Clock())
    plain = on_this_machine.write(on_this_machine.open(ADA))
    assert plain.startswith("stars-session=")
    assert plain.split("; ")[1:] == [f"Max-Age={IDLE_SECONDS}", "Path=/", "HttpOnly", "SameSite=Lax"]
    behind_tls = Sessions(settings(url="https://stars.example"))
    secure = behind_tls.write(behind_tls.open(ADA))
    # RFC 6265bis: this prefix needs Secure, the path / and no domain, or the browser refuses the cookie.
    assert secure.startswith("__Host-stars-session=")
    assert "Secure" in secure.split("; ")
    assert "domain" not in secure.lower()
    # A cookie without the prefix could be set by anybody on the way.
    assert behind_tls.read(scope_of(pair(secure).removeprefix("__Host-"))) is None
    assert behind_tls.read(scope_of(pair(secure))) is not None
    assert "Max-Age=0" in behind_tls.clear()
    assert behind_tls.clear().startswith("__Host-stars-session=;")


def test_every_sign_in_has_a_session_of_its_own() -> None:
    sessions = Sessions(settings())
    assert len({sessions.open(ADA).id for _ in range(100)}) == 100


def test_a_session_ends_when_nobody_uses_it_and_at_the_latest_after_a_week_of_use() -> None:
    clock = Clock()
    sessions = Sessions(settings(), clock)
    session, cookie = opened(sessions)
    began = clock.now
    clock.now = began + IDLE_SECONDS - 1
    assert sessions.read(scope_of(cookie)) == session
    clock.now = began + IDLE_SECONDS
    assert sessions.read(scope_of(cookie)) is None
    # Used every half day, it lives on, as the same one.
    clock.now, last = began, session
    while (held := sessions.read(scope_of(cookie))) is not None:
        assert held.id == session.id
        last = held
        if renewed := sessions.renew(held):
            cookie = pair(sessions.write(renewed))
        clock.now += IDLE_SECONDS / 2
    assert last.expires == began + LONGEST_SECONDS
    assert clock.now == began + LONGEST_SECONDS


def test_a_session_is_not_written_again_with_every_request() -> None:
    clock = Clock()
    sessions = Sessions(settings(), clock)
    session, _ = opened(sessions)
    assert sessions.renew(session) is None
    clock.now += 299
    assert sessions.renew(session) is None
    clock.now += 1
    assert sessions.renew(session) is not None


def _tampered() -> list[str]:
    sessions = Sessions(settings())
    _, cookie = opened(sessions, Principal("ada", frozenset({Role.MEMBER})))
    name, _, token = cookie.partition("=")
    head, body, mac = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))

    def part(data: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    none = part({"alg": "none", "typ": "JWT"})
    staff = part(claims | {"roles": ["staff"]})
    bearer = issue_token(SECRET, [Role.STAFF], "ada", timedelta(hours=1))
    same_claims = jwt.encode(claims, SECRET, "HS256")
    return [
        f"{name}={value}"
        for value in (
            f"{head}.{staff}.{mac}",
            f"{none}.{body}.",
            f"{none}.{staff}.{mac}",
            f"{head}.{body}.{'A' if mac[0] != 'A' else 'B'}{mac[1:]}",
            f"{head}.{body}",
            "",
            ".",
            "..",
            "x" * 100_000,
            "é",
            bearer,
            same_claims,
            jwt.encode(claims, "0" * 32, "HS256"),
        )
    ]


@pytest.mark.parametrize("which", range(13))
def test_a_cookie_that_was_tampered_with_or_is_a_bearer_token_is_nobodys(which: int) -> None:
    assert Sessions(settings()).read(scope_of(_tampered()[which])) is None


def test_two_cookies_of_the_name_are_nobodys() -> None:
    sessions = Sessions(settings())
    (_, mine), (_, theirs) = opened(sessions), opened(sessions, Principal("eve", frozenset({Role.MEMBER})))
    assert sessions.read(scope_of(f"{theirs}; {mine}")) is None
    assert sessions.read(scope_of(theirs, mine)) is None


def test_a_sign_in_cookie_of_another_purpose_is_no_session() -> None:
    attempts = Attempts(settings())
    cookie = pair(attempts.cookie(attempts.begin("oidc", "/")))
    _, _, token = cookie.partition("=")
    assert Sessions(settings()).read(scope_of(f"stars-session={token}")) is None


def test_an_attempt_is_found_by_its_browser_and_its_way_alone() -> None:
    clock = Clock()
    attempts = Attempts(settings(), clock)
    begun = attempts.begin("discourse", "/topics/")
    scope = scope_of(pair(attempts.cookie(begun)))
    assert attempts.find(scope, "discourse") == begun
    for other, way in ((scope, "oidc"), (scope_of(), "discourse"), (scope_of("stars-sign-in=x.y.z"), "discourse")):
        with pytest.raises(SignInFailed):
            attempts.find(other, way)
    clock.now += 600
    with pytest.raises(SignInFailed):
        attempts.find(scope, "discourse")


def test_nobody_signs_in_as_the_forum_and_a_name_is_only_a_name() -> None:
    who = person("m", [Role.FORUM, Role.STAR], "  Ada\n\x00<b>\u202eL.  " + "x" * 500)
    assert who.roles == {Role.MEMBER, Role.STAR}
    assert who.name is not None
    assert who.name.startswith("Ada <b> L. xxx")
    assert len(who.name) == 100
    assert person(None, [Role.STAFF]).roles == {Role.STAFF}
    sessions = Sessions(settings())
    held = sessions.read(scope_of(opened(sessions, Principal("m", frozenset({Role.FORUM})))[1]))
    assert held is not None
    assert held.principal.roles == {Role.MEMBER}


def test_a_cookie_that_no_browser_would_keep_is_not_written() -> None:
    sessions = Sessions(settings())
    sessions.write(sessions.open(Principal("ä" * 255, frozenset(Role), "ä" * 100)))
    with pytest.raises(ValueError, match="too large"):
        sessions.write(sessions.open(Principal("🙂" * 255, frozenset(Role), "x" * 100)))


def test_csrf_tokens_differ_each_time_and_hold_for_their_session_alone() -> None:
    sessions = Sessions(settings())
    (mine, _), (other, _) = opened(sessions), opened(sessions)
    tokens = {new_token(mine) for _ in range(10)}
    assert len(tokens) == 10
    assert all(is_token(mine, token) and not is_token(other, token) for token in tokens)
    token = tokens.pop()
    salt, _, mac = token.partition(".")
    for bad in ("", ".", token[:-1], token + "0", f"x{salt}.{mac}", mac, f".{mac}", "é.é", mine.id, "\ud800."):
        assert not is_token(mine, bad)


# --- Requests -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def idle() -> AsyncIterator[None]:
    yield


async def no_problems() -> list[str]:
    return []


def make_process(**more: Any) -> Process:
    app = create_service_app("topics", "Topics", "", "1")

    def told(who: Principal | None) -> dict[str, Any]:
        return {"member": who.member_id, "roles": sorted(who.roles), "name": who.name} if who else {"member": None}

    @app.get("/open")
    async def open_to_all(who: Annotated[Principal | None, Depends(principal_or_none)]) -> dict[str, Any]:
        return told(who)

    @app.get("/shown")
    async def shown(request: Request) -> dict[str, Any]:
        return told(identified(request.scope)) | {"token": csrf_token(request)}

    @app.post("/api/things")
    async def change(
        request: Request, who: Annotated[Principal, Depends(require(Role.STAR, Role.STAFF))]
    ) -> dict[str, Any]:
        return told(who) | {"body": (await request.body()).decode()}

    @app.post("/form")
    async def form(who: Annotated[Principal, Depends(require())], title: Annotated[str, Form()]) -> dict[str, Any]:
        return told(who) | {"title": title}

    @app.get("/desk")
    async def desk(who: Annotated[Principal, Depends(signed_in(Role.STAFF))]) -> dict[str, Any]:
        return told(who)

    @app.post("/desk")
    async def save(who: Annotated[Principal, Depends(signed_in(Role.STAFF))]) -> dict[str, Any]:
        return told(who)

    return create_process([Service("topics", app, idle, no_problems)], settings(**more), embedded=True)


def browser(process: Process | None = None, base: str = HOME, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(process or make_process()), base_url=base, headers={"accept": "text/html"}, **more
    )


async def sign_in(http: httpx.AsyncClient, role: str = "star", member: str = "ada", **form: str) -> httpx.Response:
    answer = await http.post("/sign-in/development", data={"role": role, "member_id": member, **form})
    assert answer.status_code == 303, answer.text
    return answer


async def token(http: httpx.AsyncClient) -> str:
    found: str = (await http.get("/topics/shown")).json()["token"]
    return found


async def test_a_session_says_who_asks_to_pages_and_api_alike() -> None:
    async with browser() as http:
        assert (await http.get("/topics/open")).json() == {"member": None}
        assert (await http.get("/topics/shown")).json() == {"member": None, "token": ""}
        await sign_in(http)
        ada = {"member": "ada", "roles": ["member", "star"], "name": "ada"}
        assert (await http.get("/topics/open")).json() == ada
        shown = (await http.get("/topics/shown")).json()
        assert shown.pop("token")
        assert shown == ada


async def test_a_cookie_that_does_not_hold_is_nobody_and_no_error() -> None:
    async with browser(cookies={"stars-session": "x.y.z"}) as http:
        assert (await http.get("/topics/open")).json() == {"member": None}
        assert (await http.post("/topics/api/things")).status_code == 401


async def test_an_authorization_header_always_outranks_the_session() -> None:
    async with browser() as http:
        await sign_in(http, "staff", "ada")
        bob = {"authorization": f"Bearer {issue_token(SECRET, [Role.STAR], 'bob', timedelta(minutes=5))}"}
        assert (await http.get("/topics/open", headers=bob)).json()["member"] == "bob"
        assert (await http.get("/topics/desk", headers=bob)).status_code == 403
        assert (await http.get("/topics/shown", headers=bob)).json()["token"] == ""
        # And one that does not hold is refused, whatever the cookie says.
        assert (await http.get("/topics/open", headers={"authorization": "Bearer x.y.z"})).status_code == 401
        # Nobody sends a token by accident: it needs no other.
        answer = await http.post("/topics/api/things", headers=bob | {"sec-fetch-site": "cross-site"})
        assert answer.json()["member"] == "bob"


async def test_what_a_session_changes_needs_its_csrf_token() -> None:
    async with browser() as http:
        await sign_in(http)
        answer = await http.post("/topics/api/things")
        assert answer.status_code == 403
        assert answer.json()["type"] == "/problems/csrf-token-needed"
        good = {"x-csrf-token": await token(http)}
        answer = await http.post("/topics/api/things", headers=good, content=b"hello")
        assert answer.json()["body"] == "hello"
        async with browser() as other:
            await sign_in(other, member="eve")
            theirs = {"x-csrf-token": await token(other)}
        for bad in ({"x-csrf-token": ""}, {"x-csrf-token": "x"}, theirs, {"x-csrf-token": good["x-csrf-token"][:-1]}):
            assert (await http.post("/topics/api/things", headers=bad)).status_code == 403
        # Not in the address, where it would be logged.
        answer = await http.post("/topics/api/things", params={"csrf_token": good["x-csrf-token"]})
        assert answer.status_code == 403


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
async def test_a_form_may_carry_the_token_and_its_route_reads_it_all_the_same(kind: str) -> None:
    async with browser() as http:
        await sign_in(http)
        form = {"title": "A title", "csrf_token": await token(http)}

        def body(fields: dict[str, str]) -> dict[str, Any]:
            return {"data": fields} if kind == "urlencoded" else {"files": {k: (None, v) for k, v in fields.items()}}

        assert (await http.post("/topics/form", **body(form))).json()["title"] == "A title"
        assert "A title" in (await http.post("/topics/api/things", **body(form))).json()["body"].replace("+", " ")
        for bad in (form | {"csrf_token": "x"}, {"title": "A title"}):
            assert (await http.post("/topics/form", **body(bad))).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": HOME}, 403),
        ({"sec-fetch-site": "anything"}, 403),
        ({"origin": HOME}, 200),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://127.0.0.1:8081"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8080.evil.example"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({}, 200),
    ],
    ids=str,
)
async def test_a_request_from_another_site_is_refused_even_with_the_token(headers: dict[str, str], status: int) -> None:
    async with browser() as http:
        await sign_in(http)
        good = {"x-csrf-token": await token(http)}
        assert (await http.post("/topics/api/things", headers=headers | good)).status_code == status


async def test_behind_a_proxy_the_public_address_is_the_origin() -> None:
    process = make_process(url="https://stars.example")
    sessions = Sessions(settings(url="https://stars.example"))
    session, cookie = opened(sessions)
    headers = {"cookie": cookie, "x-csrf-token": new_token(session)}
    async with browser(process, "http://10.0.0.7:8080") as http:
        for origin, status in (
            ("https://stars.example", 200),
            ("http://stars.example", 403),
            ("https://x.example", 403),
        ):
            answer = await http.post("/topics/api/things", headers=headers | {"origin": origin})
            assert answer.status_code == status, origin


async def test_a_page_that_needs_a_sign_in_sends_browsers_there_and_answers_programs_401() -> None:
    async with browser() as http:
        answer = await http.get("/topics/desk?a=1&b=%2Fx%20y")
        assert answer.status_code == 303
        where = urlsplit(answer.headers["location"])
        assert (where.scheme, where.netloc, where.path) == ("", "", "/sign-in")
        assert parse_qs(where.query) == {"next": ["/topics/desk?a=1&b=%2Fx%20y"]}
        for headers in ({"accept": "application/json"}, {"accept": "*/*"}):
            answer = await http.get("/topics/desk", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await http.post("/topics/desk")).status_code == 401
        bad = {"authorization": "Bearer x.y.z"}
        assert (await http.get("/topics/desk", headers=bad)).status_code == 401
        # A part of a page is no place for the sign-in: the whole page goes there.
        assert (await http.get("/topics/desk", headers={"hx-request": "true"})).status_code == 401
        await sign_in(http, "star")
        assert (await http.get("/topics/desk")).status_code == 403
        answer = await sign_in(http, "staff", "", next="/topics/desk?a=1")
        assert answer.headers["location"] == "/topics/desk?a=1"
        assert (await http.get("/topics/desk")).json()["roles"] == ["staff"]


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "http:evil.example",
        "evil.example",
        "",
        "/x\r\nSet-Cookie: a=b",
        "/" + "x" * 5000,
        "/" + "é" * 1400,
        "/sign-in",
        "/sign-in/oidc?next=/",
        "/sign-out",
        "/\x00",
    ],
)
async def test_nobody_is_sent_to_another_site_after_signing_in(next: str) -> None:
    async with browser() as http:
        assert (await sign_in(http, next=next)).headers["location"] == "/"
        page = await http.get("/sign-in", params={"next": next.replace("\x00", "\x01")})
        assert page.status_code == 200
        assert "evil.example" not in page.text


@pytest.mark.parametrize("next", ["/", "/topics/?state=waiting&space=a%20b#top", "/leaderboard/members/a%2Fb", "/x//y"])
async def test_people_come_back_to_where_they_were(next: str) -> None:
    async with browser() as http:
        assert (await sign_in(http, next=next)).headers["location"] == next


async def test_signing_in_gives_another_session_and_signing_out_takes_the_cookie_away() -> None:
    async with browser() as http:
        first = (await sign_in(http)).headers["set-cookie"]
        second = (await sign_in(http)).headers["set-cookie"]
        assert pair(first) != pair(second)
        # Another site cannot sign anybody out.
        assert (await http.post("/sign-out")).status_code == 403
        assert (await http.get("/sign-out")).status_code == 405
        answer = await http.post("/sign-out", data={"csrf_token": await token(http)})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
        assert len(answer.headers.get_list("set-cookie")) == 1
        assert "stars-session" not in http.cookies
        assert (await http.get("/topics/open")).json() == {"member": None}
        assert (await http.post("/sign-out")).status_code == 303


async def test_a_session_that_is_used_is_renewed_and_what_a_page_fetches_by_itself_is_no_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = make_process()
    async with browser(process) as http:
        await sign_in(http)
        clock = Clock()
        clock.now = time.time() + 3600
        monkeypatch.setattr(process._authenticator.sessions, "_clock", clock)
        assert "set-cookie" not in (await http.get(static("constellation.css"))).headers
        answer = await http.get("/topics/open", headers={"sec-fetch-mode": "cors"})
        assert "set-cookie" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
        answer = await http.get("/topics/open", headers={"sec-fetch-mode": "navigate"})
        assert answer.headers["set-cookie"].startswith("stars-session=")
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in (await http.get("/topics/open", headers={"sec-fetch-mode": "navigate"})).headers
        # Who signs out is not signed in again by the same answer.
        csrf = await token(http)
        clock.now += 3600
        out = await http.post("/sign-out", data={"csrf_token": csrf})
        assert [pair(value) for value in out.headers.get_list("set-cookie")] == ["stars-session="]


async def test_sessions_count_as_callers_of_the_rate_limit() -> None:
    process = make_process(rate_limit=5)
    async with browser(process) as ada, browser(process) as bob, browser(process) as staff, browser(process) as anyone:
        sessions = Sessions(settings())
        for http, who in ((ada, ADA), (bob, Principal("bob", frozenset({Role.MEMBER})))):
            http.headers["cookie"] = opened(sessions, who)[1]
        staff.headers["cookie"] = opened(sessions, Principal(None, frozenset({Role.STAFF})))[1]
        assert [(await ada.get("/topics/open")).status_code for _ in range(6)] == [200] * 5 + [429]
        assert [(await bob.get("/topics/open")).status_code for _ in range(6)] == [200] * 5 + [429]
        assert {(await staff.get("/topics/open")).status_code for _ in range(20)} == {200}
        assert (await anyone.get("/topics/open")).status_code == 200


async def test_signing_in_is_limited_more_than_the_rest() -> None:
    process = make_process()
    async with browser(process) as http:
        answers = [(await http.post("/sign-in/development", data={"role": "star"})).status_code for _ in range(61)]
        assert answers == [400] * 60 + [429]
        assert (await http.get("/topics/open")).status_code == 200
        assert (await http.get("/sign-in")).status_code == 200


async def test_sessions_and_their_tokens_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with browser() as http:
            cookie = pair((await sign_in(http)).headers["set-cookie"]).partition("=")[2]
            csrf = await token(http)
            await http.post("/topics/api/things", headers={"x-csrf-token": csrf})
            await http.post("/topics/api/things", headers={"x-csrf-token": csrf[:-1]})
    for record in caplog.records:
        text = record.getMessage() + str(record.__dict__)
        assert cookie not in text
        assert csrf[:-1] not in text


# --- The sign-in for development ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"url": "https://stars.example"},
        {"url": "http://stars.example:8080"},
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "10.0.0.7"},
        {"secret": None},
    ],
    ids=str,
)
async def test_there_is_no_sign_in_for_development_where_others_reach_the_instance(more: dict[str, Any]) -> None:
    async with browser(make_process(**more)) as http:
        assert (await http.post("/sign-in/development", data={"role": "staff"})).status_code == 404
        assert "development" not in (await http.get("/sign-in")).text


async def test_there_is_no_sign_in_for_development_outside_an_embedded_instance() -> None:
    async with browser(create_process([], settings())) as http:
        assert (await http.post("/sign-in/development", data={"role": "staff"})).status_code == 404
        page = await http.get("/sign-in")
        assert page.status_code == 200
        assert "development" not in page.text


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"host": "evil.example:8080"}, "127.0.0.1"),
        ({"host": "127.0.0.1.evil.example"}, "127.0.0.1"),
        ({"host": ""}, "127.0.0.1"),
        ({"host": "["}, "127.0.0.1"),
        ({"x-forwarded-for": "192.0.2.1"}, "127.0.0.1"),
        ({"forwarded": "for=192.0.2.1"}, "127.0.0.1"),
        ({"origin": "http://evil.example"}, "127.0.0.1"),
        ({"origin": "null"}, "127.0.0.1"),
        ({"sec-fetch-site": "cross-site"}, "127.0.0.1"),
        ({}, "192.0.2.1"),
    ],
    ids=str,
)
async def test_only_this_machine_and_pages_of_this_instance_sign_in_for_development(
    headers: dict[str, str], client: str
) -> None:
    transport = httpx.ASGITransport(make_process(), client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url=HOME) as http:
        answer = await http.post("/sign-in/development", data={"role": "staff"}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST"])
async def test_this_machine_has_several_names(host: str) -> None:
    async with browser() as http:
        answer = await http.post(
            "/sign-in/development", data={"role": "staff"}, headers={"host": host, "origin": f"http://{host}"}
        )
        assert answer.status_code == 303


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"role": "forum", "member_id": "x"},
        {"role": "root", "member_id": "x"},
        {"role": "star"},
        {"role": "member", "member_id": "  "},
        {"role": "member", "member_id": "x" * 256},
        {"role": "member", "member_id": "a\x00b"},
    ],
    ids=str,
)
async def test_the_sign_in_for_development_says_what_it_needs(form: dict[str, str]) -> None:
    async with browser() as http:
        answer = await http.post("/sign-in/development", data=form | {"next": "/topics/desk"})
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text
        # What was wanted is not forgotten.
        assert 'value="/topics/desk"' in answer.text
        assert "set-cookie" not in answer.headers


async def test_the_page_is_plain_about_who_is_signed_in_and_escapes_it() -> None:
    async with browser() as http:
        page = (await http.get("/sign-in", params={"next": '/"><script>alert(1)</script>'})).text
        assert "<script>alert" not in page
        assert "evelopment" in page
        await sign_in(http, "staff", '<img src="x">')
        page = (await http.get("/sign-in")).text
        assert '<img src="x">' not in page
        assert "&lt;img src=" in page
        assert 'action="/sign-out"' in page
