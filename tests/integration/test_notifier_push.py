"""Web push: every status, every trick with endpoints, and encryption against independent implementations."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import http_ece
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from py_vapid import Vapid02

from services.notifier.channels.push import Guard, PushChannel, Unwelcome, Vapid, encrypt, raw_public_key, wait_of
from services.notifier.desk import ProviderBook
from shared.postgres import Pool
from tests.notifier import World, composer

KEY = ec.generate_private_key(ec.SECP256R1())
LOOPBACK = Guard(hosts=("127.0.0.1", "localhost"), schemes=("http",), any_port=True, private=True)


@dataclass
class Browser:
    """The end that can decrypt."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def p256dh(self) -> bytes:
        return raw_public_key(self.key)

    def read(self, body: bytes) -> bytes:
        """Decrypt with http-ece, which shares no code with ours."""
        plain: bytes = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        return plain


@dataclass
class PushService:
    """A push service that answers as a test says."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    port: int = 0
    requests: list[tuple[web.Request, bytes]] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        return await self.answer(request)


@asynccontextmanager
async def push_service(
    status: int | Callable[[web.Request], Awaitable[web.StreamResponse]] = 201, **headers: str
) -> AsyncIterator[PushService]:
    async def usual(request: web.Request) -> web.StreamResponse:
        assert isinstance(status, int)
        return web.Response(status=status, headers=headers, text="words")

    service = PushService(usual if isinstance(status, int) else status)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield service
    finally:
        await runner.cleanup()


async def told(
    pool: Pool, service: PushService, browsers: int = 1, event: str = "milestone-reached", clock: Any = None
) -> tuple[World, PushChannel, list[Browser]]:
    book = ProviderBook(pool, "push")
    more = {"clock": clock} if clock else {}
    channel = PushChannel(
        pool, composer(), Vapid(KEY, "mailto:ops@stars.example"), LOOPBACK, book.changed, book.accepted, **more
    )
    world = World(pool, [channel])
    found = []
    for n in range(browsers):
        browser = Browser()
        found.append(browser)
        await world.member(f"m{n}")
        await pool.execute(
            "INSERT INTO push_subscription (member_id, endpoint, p256dh, auth) VALUES ($1, $2, $3, $4)",
            f"m{n}",
            f"{service.origin}/push/{n}",
            browser.p256dh,
            browser.auth,
        )
    data = {"board": "everyone", "kind": "first-place"} if event == "milestone-reached" else {"application_id": "a"}
    await world.happen(*(world.event(event, member_id=f"m{n}", **data) for n in range(browsers)))
    await world.turn()
    await book.write()
    return world, channel, found


@pytest.mark.parametrize(
    ("status", "expected", "kept"),
    [
        (200, ("accepted", None), 1),
        (201, ("accepted", None), 1),
        (202, ("accepted", None), 1),
        (204, ("accepted", None), 1),
        (404, ("bounced", "404"), 0),
        (410, ("bounced", "410"), 0),
        (400, ("retry", "400"), 1),
        (401, ("retry", "401"), 1),
        (403, ("retry", "403"), 1),
        (413, ("dead", "413"), 1),
        (429, ("retry", "429"), 1),
        (500, ("retry", "500"), 1),
        (502, ("retry", "502"), 1),
        (503, ("retry", "503"), 1),
        (301, ("dead", "301"), 1),
        (307, ("dead", "307"), 1),
        (418, ("dead", "418"), 1),
    ],
)
async def test_a_status_makes_of_a_delivery(
    notifier_pool: Pool, status: int, expected: tuple[str, str | None], kept: int
) -> None:
    async with push_service(status, Location="http://127.0.0.1:1/elsewhere") as service:
        world, channel, _ = await told(notifier_pool, service)
        await channel.close()
    assert await world.states("m0", "push") == [expected]
    assert await world.pool.fetchval("SELECT count(*) FROM push_subscription") == kept
    assert len(service.requests) == (2 if status == 413 else 1)


async def test_what_arrives_can_be_read_and_is_signed_for_this_origin(notifier_pool: Pool) -> None:
    async with push_service() as service:
        _, channel, [browser] = await told(notifier_pool, service)
        await channel.close()
    [(request, body)] = service.requests
    shown = json.loads(browser.read(body))
    assert shown["title"] == "You are first on everyone's leaderboard"
    assert shown["tag"].startswith("n")
    assert int(request.headers["TTL"]) > 3600
    assert len(request.headers["Topic"]) == 32
    assert request.headers["Content-Encoding"] == "aes128gcm"
    scheme, _, rest = request.headers["Authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    assert scheme == "vapid"
    claims = jwt.decode(parts["t"], KEY.public_key(), algorithms=["ES256"], audience=service.origin)
    assert claims["sub"] == "mailto:ops@stars.example"
    assert 0 < claims["exp"] - datetime.now(UTC).timestamp() <= 24 * 3600
    assert parts["k"] == base64.urlsafe_b64encode(raw_public_key(KEY)).rstrip(b"=").decode()
    assert Vapid02.verify(request.headers["Authorization"].replace(", ", ","))


async def test_a_wait_is_honoured_for_the_whole_origin(notifier_pool: Pool) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "120"})

    async with push_service(busy) as service:
        world, channel, _ = await told(notifier_pool, service, 3)
        for n in range(3):
            [one] = await world.deliveries(f"m{n}", channel="push")
            assert one["state"] == "retry"
            assert timedelta(seconds=100) < one["due_at"] - datetime.now(UTC) < timedelta(seconds=130)
        asked = len(service.requests)
        await world.make_due()
        await world.turn()
        assert len(service.requests) == asked, "it said when to come back"
        await channel.close()


async def test_one_bad_key_never_deletes_everyone(notifier_pool: Pool) -> None:
    async with push_service(403) as service:
        world, channel, _ = await told(notifier_pool, service, 4, clock=iter(range(0, 10**9, 1000)).__next__)
        for _ in range(6):
            await world.make_due()
            await world.turn()
        await channel.close()
    assert await world.pool.fetchval("SELECT min(strikes) FROM push_subscription") >= 3
    assert await world.pool.fetchval("SELECT count(*) FROM push_subscription") == 4


async def test_a_subscription_that_alone_refuses_us_ends_at_the_third_time(notifier_pool: Pool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403 if request.path.endswith("/0") else 201)

    async with push_service(answer) as service:
        world, channel, _ = await told(notifier_pool, service, 2)
        book = ProviderBook(notifier_pool, "push")
        for n in range(3):
            book.accepted(service.origin)
            await book.write()
            await world.make_due()
            await world.turn()
            left = [row["member_id"] for row in await world.pool.fetch("SELECT member_id FROM push_subscription")]
            assert sorted(left) == (["m0", "m1"] if n == 0 else ["m1"])
            if n:
                break
        await channel.close()


@pytest.mark.parametrize(("event", "state"), [("milestone-reached", "unknown"), ("quiz-passed", "retry")])
async def test_a_reply_that_is_lost_is_unknown(notifier_pool: Pool, event: str, state: str) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with push_service(hang_up) as service:
        world, channel, _ = await told(notifier_pool, service, 1, event)
        await channel.close()
    assert await world.states("m0", "push") == [(state, "no-reply")]


async def test_a_hung_push_service_holds_nothing_up_for_long(
    notifier_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.channels.push.SECONDS", 0.5)

    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        await asyncio.sleep(5)
        return response

    async with push_service(hang) as service:
        world, channel, _ = await told(notifier_pool, service, 1)
        await channel.close()
    assert await world.states("m0", "push") == [("unknown", "no-reply")]


async def test_an_endless_answer_is_not_read(notifier_pool: Pool) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        for _ in range(200):
            await response.write(b"x" * 65536)
        return response

    async with push_service(flood) as service:
        world, channel, _ = await told(notifier_pool, service, 1)
        await channel.close()
    assert await world.states("m0", "push") == [("accepted", None)]


# --- Endpoints are strangers' URLs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc",
        "https://updates.push.services.mozilla.com/wpush/v2/abc",
        "https://web.push.apple.com/abc",
        "https://wns2-db5p.notify.windows.com/w/?token=abc",
        "https://fcm.googleapis.com:443/fcm/send/abc",
    ],
)
def test_known_push_services_are_welcome(endpoint: str) -> None:
    assert Guard().check(endpoint).startswith("https://")


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://fcm.googleapis.com/x",
        "https://fcm.googleapis.com:8443/x",
        "https://127.0.0.1/a.fcm.googleapis.com/",
        "https://127.0.0.1/?fcm.googleapis.com",
        "https://evilfcm.googleapis.com.attacker.example/",
        "https://xfcm.googleapis.com/",
        "https://googleapis.com/",
        "https://user@fcm.googleapis.com/",
        "https://fcm.googleapis.com@127.0.0.1/",
        "https://fcm.googleapis.com\\@127.0.0.1/",
        "https://fcm.googleapis.com#@127.0.0.1/",
        "https://fcm.googleapis.com /x",
        "https://fcm.googleapis.com/\r\nHost: x",
        "https://[::1]/",
        "https://2130706433/",
        "file:///etc/passwd",
        "https://fcm.googleapis.com:99999/",
        "https:///x",
        "",
        "https://ｆcm.googleapis.com/",
        "https://fcm.googleapis.com/" + "x" * 3000,
    ],
)
def test_anything_else_is_not(endpoint: str) -> None:
    with pytest.raises(Unwelcome):
        Guard().check(endpoint)


async def test_a_name_that_points_inside_is_not_connected_to(notifier_pool: Pool) -> None:
    guard = Guard(hosts=("localhost",), schemes=("http",), any_port=True)  # a known host whose address is private
    async with push_service() as service:
        channel = PushChannel(notifier_pool, composer(), Vapid(KEY, "mailto:x@stars.example"), guard)
        world = World(notifier_pool, [channel])
        browser = Browser()
        await world.member("m0")
        await world.pool.execute(
            "INSERT INTO push_subscription (member_id, endpoint, p256dh, auth) VALUES ('m0', $1, $2, $3)",
            f"http://localhost:{service.port}/push",
            browser.p256dh,
            browser.auth,
        )
        await world.happen(world.event("quiz-passed", member_id="m0", application_id="a"))
        await world.turn()
        await channel.close()
    assert service.requests == []
    assert await world.states("m0", "push") == [("retry", "no-connection")]


# --- Encryption ----------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000))
def test_another_implementation_reads_what_we_encrypt(plaintext: bytes) -> None:
    browser = Browser()
    assert browser.read(encrypt(plaintext, browser.p256dh, browser.auth)) == plaintext


@pytest.mark.parametrize("key", [b"", b"\x04" * 65, b"\x04" + b"\x00" * 64, b"x" * 65, b"\x02" + b"\x01" * 32])
def test_a_key_that_is_none_is_an_error_and_no_crash(key: bytes) -> None:
    with pytest.raises(ValueError):
        encrypt(b"x", key, b"a" * 16)


def test_one_token_serves_an_origin_for_hours() -> None:
    vapid = Vapid(KEY, "mailto:x@stars.example")
    assert vapid.header("https://a.example") == vapid.header("https://a.example")
    assert vapid.header("https://a.example") != vapid.header("https://b.example")


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        ("0", 1),
        ("99999999", 6 * 3600),
        (format_datetime(NOW + timedelta(seconds=90)), 90),
        (format_datetime(NOW - timedelta(seconds=90)), 1),
        ("soon", None),
        ("-5", None),
    ],
)
def test_what_retry_after_says(header: str | None, seconds: int | None) -> None:
    found = wait_of(header, NOW)
    assert found == (None if seconds is None else timedelta(seconds=seconds))


def test_the_key_is_kept_as_browsers_want_it() -> None:
    assert len(raw_public_key(KEY)) == 65
    assert KEY.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
