"""Signing in for real: against an OpenID provider, against a Discourse, by HTTP and in a browser."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import httpx
import pytest
from fastapi import Depends
from playwright.async_api import async_playwright
from pydantic import SecretStr
from starlette.types import ASGIApp

from shared.settings import Settings
from shared.web import Principal, Role, Service, create_process, create_service_app, principal_or_none, serve, signed_in
from tests.e2e.eye import CHROMIUM, open_browser
from tests.providers.discourse import FakeDiscourse, User
from tests.providers.openid import Missing, openid_provider

SECRET = "a-secret-of-at-least-thirty-two-bytes!"
CLIENT_SECRET = "s3cret: with + everything/%&=?"

ACCOUNTS: dict[str, dict[str, Any]] = {
    "ada-at-work": {"name": "Ada Lovelace", "forum_id": "ada", "roles": ["star", "forum", "wizard"]},
    "boss": {"name": "The Boss", "forum_id": 42, "roles": "staff"},
    "desk": {"name": "Desk", "roles": ["staff"]},
    "stranger": {"name": "Stranger"},
    "odd": {"name": "Odd", "forum_id": {"a": 1}},
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def serving(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """A server of its own for the length of a block."""
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(app, "127.0.0.1", port, ready=listening.set_result))
    done, _ = await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    if task in done:
        await task
    try:
        yield listening.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def constellation(port: int = 0, **settings: Any) -> AsyncIterator[str]:
    """A process with one service, whose pages say who is there."""
    app = create_service_app("topics", "Topics", "", "1")

    @app.get("/who")
    async def who(principal: Annotated[Principal | None, Depends(principal_or_none)]) -> dict[str, Any]:
        if principal is None:
            return {"member": None}
        return {"member": principal.member_id, "roles": sorted(principal.roles), "name": principal.name}

    @app.get("/desk")
    async def desk(principal: Annotated[Principal, Depends(signed_in(Role.STAFF))]) -> dict[str, Any]:
        return {"desk": principal.member_id}

    @asynccontextmanager
    async def idle() -> AsyncIterator[None]:
        yield

    async def no_problems() -> list[str]:
        return []

    values = {"secret": SecretStr(SECRET)} | settings
    process = create_process([Service("topics", app, idle, no_problems)], Settings(**values), embedded=True)
    async with serving(process, port) as url:
        yield url


def browser(base: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base, headers={"accept": "text/html"}, trust_env=False, timeout=20)


async def follow(http: httpx.AsyncClient, answer: httpx.Response, until: str = "") -> httpx.Response:
    """Go where an answer leads, up to an address that begins with UNTIL, which is not opened."""
    for _ in range(20):
        if not answer.is_redirect:
            return answer
        where = urljoin(str(answer.url), answer.headers["location"])
        if until and where.startswith(until):
            return answer
        answer = await http.get(where)
    raise AssertionError("round in circles")


async def who(http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/topics/who")).json()
    return found


def failed(answer: httpx.Response, status: int, words: str) -> None:
    """Nobody was signed in, and the page says why, and how to go on."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert words in answer.text
    assert 'role="alert"' in answer.text
    assert "/sign-in/" in answer.text
    assert not any("-session=" in value for value in answer.headers.get_list("set-cookie"))


# --- OpenID Connect, against npm's oidc-provider --------------------------------------------------------------------

CLIENTS = {
    "basic": {"client_secret": CLIENT_SECRET},
    "post": {"client_secret": CLIENT_SECRET, "token_endpoint_auth_method": "client_secret_post"},
    "public": {"token_endpoint_auth_method": "none"},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[str, int]]:
    """Its issuer, and the port on which it expects us."""
    port = free_port()
    clients = [
        {"client_id": name, "redirect_uris": [f"http://127.0.0.1:{port}/sign-in/oidc/callback"], **more}
        for name, more in CLIENTS.items()
    ]
    try:
        with openid_provider(clients, ACCOUNTS) as issuer:
            yield issuer, port
    except Missing as missing:
        pytest.skip(f"no OpenID provider to be had here: {missing}")


@asynccontextmanager
async def with_provider(provider: tuple[str, int], client: str = "basic", **more: Any) -> AsyncIterator[str]:
    issuer, port = provider
    secret = CLIENTS[client].get("client_secret")
    settings = {
        "issuer": issuer,
        "oidc_client_id": client,
        "oidc_client_secret": SecretStr(secret) if secret else None,
        "member_claim": "forum_id",
    } | more
    async with constellation(port, **settings) as url:
        yield url


async def at_provider(http: httpx.AsyncClient, start: httpx.Response, login: str, ours: str) -> str:
    """Log in there and agree; the address at which it sends the browser back to us."""
    page = await follow(http, start)
    for form in ({"prompt": "login", "login": login, "password": "x"}, {"prompt": "consent"}):
        action = re.search(r'action="([^"]+)"', page.text)
        assert action is not None, page.text
        page = await follow(http, await http.post(urljoin(str(page.url), action[1]), data=form), ours)
    assert page.is_redirect, page.text
    return str(page.headers["location"])


@pytest.mark.parametrize("client", CLIENTS)
async def test_openid_connect_from_a_page_and_back_to_it(provider: tuple[str, int], client: str) -> None:
    async with with_provider(provider, client) as url, browser(url) as http:
        asked = await http.get("/topics/desk?tab=1")
        assert asked.headers["location"].startswith("/sign-in?next=")
        page = await follow(http, asked)
        link = re.search(r'href="(/sign-in/oidc\?[^"]+)"', page.text)
        assert link is not None
        start = await http.get(link[1].replace("&amp;", "&"))
        sent = parse_qs(urlsplit(start.headers["location"]).query)
        assert sent["code_challenge_method"] == ["S256"]
        assert sent["response_type"] == ["code"]
        assert len(sent["state"][0]) >= 32
        assert len(sent["nonce"][0]) == 43
        back = await at_provider(http, start, "boss", url)
        answer = await http.get(back)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/topics/desk?tab=1"
        assert (await follow(http, answer)).json() == {"desk": "42"}
        assert await who(http) == {"member": "42", "roles": ["member", "staff"], "name": "The Boss"}
        # An answer is taken once.
        failed(await http.get(back), 400, "Please begin again")


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        # Roles that are not ours mean nothing, and nobody signs in as the forum.
        ("ada-at-work", {"member": "ada", "roles": ["member", "star"], "name": "Ada Lovelace"}),
        ("desk", {"member": None, "roles": ["staff"], "name": "Desk"}),
        ("stranger", "is no member of the forum"),
        ("odd", "cannot be one"),
    ],
)
async def test_the_claims_say_who_somebody_is(provider: tuple[str, int], login: str, expected: Any) -> None:
    async with with_provider(provider) as url, browser(url) as http:
        answer = await http.get(await at_provider(http, await http.get("/sign-in/oidc"), login, url))
        if isinstance(expected, str):
            failed(answer, 403, expected)
            assert await who(http) == {"member": None}
        else:
            assert answer.status_code == 303
            assert await who(http) == expected


async def test_without_a_claim_of_its_own_the_subject_is_the_member(provider: tuple[str, int]) -> None:
    async with with_provider(provider, member_claim="sub") as url, browser(url) as http:
        await http.get(await at_provider(http, await http.get("/sign-in/oidc"), "stranger", url))
        assert await who(http) == {"member": "stranger", "roles": ["member"], "name": "Stranger"}


async def test_who_refuses_at_the_provider_is_told_so_and_can_begin_again(provider: tuple[str, int]) -> None:
    async with with_provider(provider) as url, browser(url) as http:
        page = await follow(http, await http.get("/sign-in/oidc?next=/topics/desk"))
        answer = await follow(http, await http.get(f"{str(page.url).rstrip('/')}/abort"))
        failed(answer, 403, "did not agree")
        assert "next=%2Ftopics%2Fdesk" in answer.text


async def test_an_answer_in_another_browser_signs_nobody_in(provider: tuple[str, int]) -> None:
    async with with_provider(provider) as url, browser(url) as http, browser(url) as victim:
        back = await at_provider(http, await http.get("/sign-in/oidc"), "ada-at-work", url)
        failed(await victim.get(back), 400, "not begun in this browser")
        # Nor where the victim has begun a sign-in of their own.
        started = await victim.get("/sign-in/oidc")
        failed(await victim.get(back), 400, "Another sign-in was begun")
        # Nor with the victim's own state: the code was given for another verifier (PKCE).
        state = parse_qs(urlsplit(started.headers["location"]).query)["state"][0]
        query = dict(parse_qsl(urlsplit(back).query)) | {"state": state}
        failed(await victim.get(f"/sign-in/oidc/callback?{urlencode(query)}"), 502, "does not hold")
        assert await who(victim) == {"member": None}


async def test_answers_that_were_changed_on_the_way_sign_nobody_in(provider: tuple[str, int]) -> None:
    async with with_provider(provider) as url, browser(url) as http:
        back = await at_provider(http, await http.get("/sign-in/oidc"), "ada-at-work", url)
        query = dict(parse_qsl(urlsplit(back).query))
        assert set(query) == {"code", "state", "iss"}
        for change, status in (
            ({"iss": "https://evil.example"}, 400),
            ({"code": ""}, 400),
            ({"code": "x" * 43}, 502),
            ({"state": query["state"][:-1]}, 400),
            ({"state": ""}, 400),
            ({"error": "<script>"}, 502),
            ({"error": "temporarily_unavailable"}, 503),
        ):
            answer = await http.get(f"/sign-in/oidc/callback?{urlencode(query | change)}")
            failed(answer, status, "")
            assert "<script>" not in answer.text
        twice = f"/sign-in/oidc/callback?{urlencode(query)}&code=other"
        failed(await http.get(twice), 400, "does not hold")
        failed(await http.get("/sign-in/oidc/callback"), 400, "")
        # None of it has spoilt the true answer.
        assert (await http.get(back)).status_code == 303


async def test_a_wrong_client_secret_is_the_operators_to_see_and_not_in_the_log(
    provider: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = SecretStr("wrong-" + CLIENT_SECRET)
    async with with_provider(provider, oidc_client_secret=wrong) as url, browser(url) as http:
        back = await at_provider(http, await http.get("/sign-in/oidc"), "ada-at-work", url)
        failed(await http.get(back), 502, "tell the operator")
    assert "the token endpoint answers 401: invalid_client" in str([record.__dict__ for record in caplog.records])
    code = parse_qs(urlsplit(back).query)["code"][0]
    for record in caplog.records:
        if not record.name.startswith("httpx"):
            assert code not in str(record.__dict__)
            assert CLIENT_SECRET not in str(record.__dict__)


async def test_an_issuer_that_is_written_otherwise_or_away_is_said_so(provider: tuple[str, int]) -> None:
    async with with_provider(provider, issuer=provider[0].replace("localhost", "127.0.0.1")) as url:
        async with browser(url) as http:
            failed(await http.get("/sign-in/oidc"), 502, "tell the operator")
    async with with_provider(provider, issuer=f"http://127.0.0.1:{free_port()}") as url, browser(url) as http:
        failed(await http.get("/sign-in/oidc"), 503, "does not answer")


# --- DiscourseConnect -----------------------------------------------------------------------------------------------

DISCOURSE_SECRET = "discourse connect secret"
USERS = [
    User(1, "root", admin=True),
    User(2, "mod", moderator=True, groups=["moderators", "staff"]),
    User(7, "ada", groups=["trust_level_2", "stars"]),
    User(8, "bob", groups=["trust_level_1", "admin", "Stars"]),
    User(-1, "system", admin=True),
]


@asynccontextmanager
async def with_discourse(**more: Any) -> AsyncIterator[tuple[str, FakeDiscourse, str]]:
    discourse = FakeDiscourse(DISCOURSE_SECRET, USERS)
    async with serving(discourse.app) as forum:
        settings = {
            "discourse_url": forum,
            "discourse_connect_secret": SecretStr(DISCOURSE_SECRET),
            "discourse_roles": "admin=staff, moderator=staff, group:stars=star",
        } | more
        async with constellation(**settings) as url:
            yield url, discourse, forum


async def at_discourse(http: httpx.AsyncClient, start: httpx.Response, login: str, ours: str) -> str:
    page = await follow(http, start)
    assert "Log in" in page.text, page.text
    answer = await follow(http, await http.post(urljoin(str(page.url), "/session"), data={"login": login}), ours)
    return str(answer.headers["location"])


@pytest.mark.parametrize(
    ("login", "number", "roles"),
    [
        ("root", 1, ["member", "staff"]),
        ("mod", 2, ["member", "staff"]),
        ("ada", 7, ["member", "star"]),
        # A group that is called as the flag is no flag, and names are exact.
        ("bob", 8, ["member"]),
    ],
)
async def test_discourse_connect_from_a_page_and_back_to_it(login: str, number: int, roles: list[str]) -> None:
    async with with_discourse() as (url, _, forum), browser(url) as http:
        start = await http.get("/sign-in/discourse?next=/topics/who%3Fa%3Db")
        back = await at_discourse(http, start, login, url)
        answer = await http.get(back)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/topics/who?a=b"
        # The id is the one that the forum's events have.
        place = urlsplit(forum).netloc
        assert await who(http) == {"member": f"{place}:u:{number}", "roles": roles, "name": login}
        failed(await http.get(back), 400, "Please begin again")


async def test_what_discourse_did_not_sign_signs_nobody_in() -> None:
    async with with_discourse() as (url, discourse, _), browser(url) as http, browser(url) as other:
        back = await at_discourse(http, await http.get("/sign-in/discourse"), "ada", url)
        query = dict(parse_qsl(urlsplit(back).query))
        evil = FakeDiscourse("another secret", USERS)
        for change in (
            {"sig": query["sig"][:-1] + ("0" if query["sig"][-1] != "0" else "1")},
            {"sig": ""},
            {"sig": "é"},
            {"sso": query["sso"][:-4]},
            {"sso": ""},
            {"sso": "A" * 20_000},
            {"sso": query["sso"], "sig": evil.sign(query["sso"])},
        ):
            failed(await http.get(f"/sign-in/discourse/callback?{urlencode(query | change)}"), 400, "does not hold")
        failed(await other.get(back), 400, "not begun in this browser")
        await other.get("/sign-in/discourse")
        failed(await other.get(back), 400, "Another sign-in was begun")
        # Signed, but not an answer to what was asked.
        user = USERS[2]
        for nonce in ("", "x" * 43):
            failed(
                await http.get(discourse.answer(user, nonce, f"{url}/sign-in/discourse/callback")), 400, "begin again"
            )
        assert await who(http) == {"member": None}
        assert (await http.get(back)).status_code == 303


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"external_id": ""}, 502),
        ({"external_id": "-1"}, 502),
        ({"external_id": "0"}, 502),
        ({"external_id": "1 OR 1=1"}, 502),
        ({"external_id": "9" * 30}, 502),
        ({"external_id": "٧"}, 502),
        ({"failed": "true"}, 403),
    ],
    ids=str,
)
async def test_an_answer_of_discourse_that_names_no_user_signs_nobody_in(fields: dict[str, str], status: int) -> None:
    async with with_discourse() as (url, discourse, _), browser(url) as http:
        discourse.tampering = fields
        failed(await http.get(await at_discourse(http, await http.get("/sign-in/discourse"), "ada", url)), status, "")


async def test_a_secret_that_differs_ends_at_the_discourse() -> None:
    async with with_discourse(discourse_connect_secret=SecretStr("other")) as (url, _, _), browser(url) as http:
        answer = await follow(http, await http.get("/sign-in/discourse"))
        assert (answer.status_code, answer.text) == (422, "Bad signature for payload")


# --- In a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Any]:
    """Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    async with async_playwright() as playwright:
        running = await open_browser(playwright)
        yield running
        await running.close()


async def _text(page: Any, url: str) -> str:
    await page.goto(url)
    found: str = await page.inner_text("body")
    return found


async def test_a_person_signs_in_by_openid_connect_and_out_in_a_browser(
    provider: tuple[str, int], chromium: Any
) -> None:
    async with with_provider(provider) as url:
        context = await chromium.new_context()
        page = await context.new_page()
        # The provider is another site (localhost) than we are (127.0.0.1): cookies must survive the way back.
        await page.goto(f"{url}/topics/desk")
        assert urlsplit(page.url).path == "/sign-in"
        await page.click("text=Sign in at localhost")
        await page.fill("input[name=login]", "boss")
        await page.fill("input[name=password]", "x")
        await page.click("button[type=submit]")
        await page.click("text=Continue")
        await page.wait_for_url(f"{url}/topics/desk")
        assert '"desk":"42"' in await page.inner_text("body")
        cookies = {cookie["name"]: cookie for cookie in await context.cookies(url)}
        assert set(cookies) == {"stars-session"}
        assert cookies["stars-session"]["httpOnly"]
        assert cookies["stars-session"]["sameSite"] == "Lax"
        await page.goto(f"{url}/sign-in")
        await page.click("main >> text=Sign out")
        await page.wait_for_url(f"{url}/")
        assert '"member":null' in await _text(page, f"{url}/topics/who")
        await context.close()


async def test_a_person_signs_in_by_discourse_in_a_browser(chromium: Any) -> None:
    async with with_discourse() as (url, _, _):
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(f"{url}/sign-in?next=/topics/who")
        await page.click("text=Sign in at 127.0.0.1")
        await page.fill("input[name=login]", "ada")
        await page.click("text=Log in")
        await page.wait_for_url(f"{url}/topics/who")
        assert '"star"' in await page.inner_text("body")
        await context.close()


async def test_a_form_of_another_site_changes_nothing_in_a_browser(chromium: Any) -> None:
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    async with constellation() as url:

        async def trap(_: Any) -> HTMLResponse:
            fields = '<input name="role" value="staff"><input name="member_id" value="eve">'
            return HTMLResponse(
                f'<form id="in" method="post" action="{url}/sign-in/development">{fields}<button>in</button></form>'
                f'<form id="out" method="post" action="{url}/sign-out"><button>out</button></form>'
            )

        async with serving(Starlette(routes=[Route("/", trap)])) as evil:
            context = await chromium.new_context()
            page = await context.new_page()
            await page.goto(f"{url}/sign-in?next=/topics/who")
            await page.check("input[value=star]")
            await page.fill("input[name=member_id]", "ada")
            await page.click("form[action='/sign-in/development'] button")
            assert '"member":"ada"' in await page.inner_text("body")
            for form in ("in", "out"):
                # Its own port makes it another origin, though the same site: SameSite alone would let it pass.
                await page.goto(evil)
                await page.click(f"#{form} button")
                await page.wait_for_load_state()
                assert '"member":"ada"' in await _text(page, f"{url}/topics/who")
            await context.close()
