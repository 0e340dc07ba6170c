"""The process: mounting, lifespans, probes and what every request passes on its way."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import SecretStr, ValidationError
from starlette.responses import StreamingResponse
from starlette.types import Message, Scope

from shared.observability import current_traceparent, request_id, service_name
from shared.settings import Settings
from shared.web import (
    PortTaken,
    Process,
    Role,
    Service,
    StartFailed,
    create_process,
    create_service_app,
    issue_token,
    serve,
)
from shared.web import process as process_module
from shared.web.middleware import RateLimit
from shared.web.server import bind

SECRET = "a-secret-of-at-least-thirty-two-bytes!"


@asynccontextmanager
async def idle() -> AsyncIterator[None]:
    yield


async def no_problems() -> list[str]:
    return []


def make_service(name: str = "topics") -> FastAPI:
    app = create_service_app(name, name.title(), "", "1")

    @app.get("/")
    async def page() -> dict[str, str]:
        return {"page": name}

    router = APIRouter(prefix="/api/things")

    @router.get("/{thing_id}")
    async def get_thing(thing_id: str) -> dict[str, str | None]:
        return {
            "id": thing_id,
            "traceparent": current_traceparent(),
            "request_id": request_id.get(),
            "service": service_name.get(),
        }

    @router.post("")
    async def post_thing(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @router.put("")
    async def put_thing(thing: dict[str, Any]) -> dict[str, int]:
        return {"members": len(thing)}

    app.include_router(router)

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("postgresql://stars:hunter2@db/secret-internals")

    @app.get("/unsubscribe/{token}")
    async def unsubscribe(token: str) -> None: ...

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def forever() -> AsyncIterator[bytes]:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(forever(), media_type="text/event-stream")

    return app


def make_process(app: FastAPI | None = None, **settings: Any) -> Process:
    values = {"secret": SecretStr(SECRET)} | settings
    return create_process([Service("topics", app or make_service(), idle, no_problems)], Settings(**values))


def client(process: Process, base: str = "http://test", **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(process, **more), base_url=base)


async def raw(process: Process, scope: dict[str, Any], messages: list[Message]) -> list[Message]:
    """One request without a client library in between, which would not send what an attacker sends."""
    sent: list[Message] = []
    waiting = iter(messages)

    async def receive() -> Message:
        return next(waiting, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    full: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("192.0.2.1", 1),
        "server": ("test", 80),
    } | scope
    await process(full, receive, send)
    return sent


def parts(*bodies: bytes) -> list[Message]:
    last = len(bodies) - 1
    return [{"type": "http.request", "body": b, "more_body": n < last} for n, b in enumerate(bodies)]


# --- Mounting, lifespans, probes ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_each_service_answers_under_its_own_prefix_with_and_without_the_slash() -> None:
    services = [Service(name, make_service(name), idle, no_problems) for name in ("topics", "leaderboard")]
    async with client(create_process(services, Settings())) as http:
        for name in ("topics", "leaderboard"):
            assert (await http.get(f"/{name}/")).json() == {"page": name}
            assert (await http.get(f"/{name}/api/things/1")).json()["service"] == name
            document = (await http.get(f"/{name}/api/openapi.json")).json()
            assert document["servers"] == [{"url": f"/{name}"}]
            answer = await http.get(f"/{name}?a=1&b=%2F", headers={"host": "evil.example"})
            assert answer.status_code == 307
            assert answer.headers["location"] == f"/{name}/?a=1&b=%2F"
        index = await http.get("/")
    assert 'hx-get="/topics/today"' in index.text


@pytest.mark.asyncio
async def test_a_hostile_host_header_is_never_repeated() -> None:
    async with client(make_process()) as http:
        for host in ("evil.example", "evil.example:99999999", "[::1", "a b", "<script>", ""):
            for path in ("/", "/topics", "/topics/", "/topics/nothing", "/nothing", "/livez/", "/topics/boom"):
                answer = await http.get(path, headers={"host": host})
                assert answer.status_code in (200, 307, 404, 500)
                assert not host or host not in answer.text + str(answer.headers)


def _recording(name: str, events: list[str], fail: str = "") -> Callable[[], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if fail == "open":
            raise RuntimeError("no database")
        events.append(f"+{name}/{service_name.get()}")
        yield
        events.append(f"-{name}/{service_name.get()}")
        if fail == "close":
            raise RuntimeError("cannot close")
        if fail == "hang":
            await asyncio.sleep(3600)

    return lifespan


async def _live(process: Process) -> list[str]:
    """Start and stop as a server does."""
    messages: asyncio.Queue[Message] = asyncio.Queue()
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])

    messages.put_nowait({"type": "lifespan.startup"})
    messages.put_nowait({"type": "lifespan.shutdown"})
    await process({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, messages.get, send)
    return sent


@pytest.mark.asyncio
async def test_lifespans_open_in_order_and_close_in_reverse_even_when_one_fails_or_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_module, "CLOSE_SECONDS", 0.05)
    events: list[str] = []
    fails = {"a": "", "b": "close", "c": "hang"}
    services = [Service(n, make_service(n), _recording(n, events, fail), no_problems) for n, fail in fails.items()]
    sent = await _live(create_process(services, Settings()))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert events == ["+a/a", "+b/b", "+c/c", "-c/c", "-b/b", "-a/a"]


@pytest.mark.asyncio
async def test_a_service_that_cannot_start_stops_the_process_and_closes_those_before_it() -> None:
    events: list[str] = []
    services = [
        Service("a", make_service("a"), _recording("a", events), no_problems),
        Service("b", make_service("b"), _recording("b", events, "open"), no_problems),
    ]
    with pytest.raises(RuntimeError, match="no database"):
        await _live(create_process(services, Settings()))
    assert events == ["+a/a", "-a/a"]


@pytest.mark.asyncio
async def test_readyz_says_what_is_wrong_in_each_service_within_its_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "CHECK_SECONDS", 0.05)

    async def lagging() -> list[str]:
        return ["the relay is behind"]

    async def hanging() -> list[str]:
        await asyncio.sleep(3600)
        return []

    async def failing() -> list[str]:
        raise OSError("postgresql://stars:hunter2@db")

    checks = {"a": no_problems, "b": lagging, "c": hanging, "d": failing}
    services = [Service(n, make_service(n), idle, check) for n, check in checks.items()]
    async with client(create_process(services, Settings())) as http:
        answer = await http.get("/readyz")
        alive = await http.get("/livez")
    assert answer.status_code == 503
    body = answer.json()
    assert body["ready"] is False
    assert body["problems"]["a"] == []
    assert body["problems"]["b"] == ["the relay is behind"]
    assert "no answer" in body["problems"]["c"][0]
    assert "OSError" in body["problems"]["d"][0]
    assert "hunter2" not in answer.text
    assert (alive.status_code, alive.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    async with client(make_process()) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "problems": {"topics": []}})


@pytest.mark.asyncio
async def test_metrics_count_by_route_template_and_never_by_what_a_caller_invents() -> None:
    async with client(make_process()) as http:
        await http.get("/topics/api/things/an-id-that-must-not-show")
        await http.get("/topics/a-path-that-must-not-show")
        await http.request("AMETHODTHATMUSTNOTSHOW", "/topics/api/things/1")
        text = (await http.get("/metrics")).text
    assert (
        'constellation_http_request_duration_seconds_count{method="GET",'
        'route="/topics/api/things/{thing_id}",service="topics",status="200"}' in text
    )
    assert 'route="unmatched",service="topics",status="404"' in text
    assert "must-not-show" not in text
    assert "MUSTNOTSHOW" not in text


# --- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_500_shows_nothing_of_ours_but_the_request_id_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with client(make_process()) as http:
        answer = await http.get("/topics/boom")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert "content-security-policy" in answer.headers
    assert [record.name for record in caplog.records if record.exc_info] == ["shared.web.middleware"]


@pytest.mark.asyncio
async def test_404_and_405_outside_the_services_are_problems_too() -> None:
    async with client(make_process()) as http:
        for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/livez", 405), ("GET", "/topicsx", 404)):
            answer = await http.request(method, path)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


@pytest.mark.asyncio
async def test_nul_in_an_address_is_400() -> None:
    async with client(make_process()) as http:
        for path in ("/topics/api/things/a%00b", "/topics/?q=%00"):
            answer = await http.get(path)
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/problem+json"


# --- Request id, access log, traces ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_sound_request_id_is_kept_and_an_unsound_one_replaced() -> None:
    async with client(make_process()) as http:
        answer = await http.get("/topics/api/things/1", headers={"x-request-id": "order-12345678"})
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-12345678"
        for bad in ("short", "x" * 129, "has space in it", "quote\"'<>&12345"):
            answer = await http.get("/topics/api/things/1", headers={"x-request-id": bad})
            assert answer.headers["x-request-id"] != bad
            assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.asyncio
async def test_the_access_log_has_route_status_and_time_and_neither_query_nor_tokens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    with caplog.at_level(logging.INFO, "constellation.access"):
        async with client(make_process(rate_limit=2)) as http:
            await http.get(f"/topics/unsubscribe/{secret}?code={secret}")
            await http.get(f"/topics/no/route/{secret}")
            await http.get(f"/topics/unsubscribe/{secret}")
            await http.get("/livez")
    records = [r for r in caplog.records if r.name == "constellation.access"]
    assert [(r.__dict__["route"], r.__dict__["status"]) for r in records] == [
        ("/topics/unsubscribe/{token}", 200),
        ("unmatched", 404),
        ("unmatched", 429),
    ]
    assert all(secret not in str(r.__dict__) and secret not in r.getMessage() for r in records)
    assert all(r.__dict__["milliseconds"] >= 0 for r in records)


@pytest.mark.asyncio
async def test_a_traceparent_is_continued() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with client(make_process()) as http:
        found = (await http.get("/topics/api/things/1", headers={"traceparent": parent})).json()["traceparent"]
    assert found.split("-")[1] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert found.split("-")[2] != "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "")],
        [("traceparent", "00-" + "0" * 32 + "-00f067aa0ba902b7-01")],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01")],
        [("traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra")],
        [("traceparent", "x" * 100_000)],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01".encode("latin-1"))],
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")] * 2,
        [("traceparent", "\r\n"), ("tracestate", "," * 10_000)],
    ],
    ids=range(10),
)
@pytest.mark.asyncio
async def test_a_hostile_traceparent_starts_a_new_trace(headers: Any) -> None:
    coded = [(n.encode(), v if isinstance(v, bytes) else v.encode("latin-1")) for n, v in headers]
    sent = await raw(make_process(), {"path": "/topics/api/things/1", "headers": coded}, parts(b""))
    assert sent[0]["status"] == 200
    version, trace, span, _ = json.loads(sent[1]["body"])["traceparent"].split("-")
    assert (version, len(trace), len(span)) == ("00", 32, 16)
    assert trace not in ("0" * 32, "4bf92f3577b34da6a3ce929d0e0e4736")


# --- Limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_body_up_to_the_limit_passes_and_one_byte_more_is_413() -> None:
    async with client(make_process(max_body=1024)) as http:
        assert (await http.post("/topics/api/things", content=b"x" * 1024)).json() == {"bytes": 1024}
        answer = await http.post("/topics/api/things", content=b"x" * 1025)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["limit"], answer.json()["title"]) == (1024, "Content Too Large")


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.asyncio
async def test_a_chunked_body_is_413_as_soon_as_it_is_too_large(method: str) -> None:
    process = make_process(max_body=1024)
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(1000):
            given += 1
            yield b" " * 100

    async with client(process) as http:
        answer = await http.request(
            method, "/topics/api/things", content=endless(), headers={"content-type": "application/json"}
        )
    assert answer.status_code == 413
    assert answer.json()["status"] == 413
    assert given < 20


@pytest.mark.asyncio
async def test_a_content_length_that_lies_does_not_get_a_larger_body_in() -> None:
    for length in (b"5", b"-1", b"x", b"9" * 5000, b"\xb2"):
        scope = {
            "method": "POST",
            "path": "/topics/api/things",
            "headers": [(b"content-length", length)],
        }
        sent = await raw(make_process(max_body=1024), scope, parts(*[b"x" * 500] * 5))
        assert sent[0]["status"] == 413, length


@pytest.mark.asyncio
async def test_more_requests_than_the_limit_are_429_and_retry_after_says_when() -> None:
    async with client(make_process(rate_limit=3)) as http:
        answers = [await http.get("/topics/") for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert answers[3].headers["content-type"] == "application/problem+json"
        assert 1 <= int(answers[3].headers["retry-after"]) <= 20
        assert (await http.get("/livez")).status_code == 200


@pytest.mark.asyncio
async def test_each_caller_has_a_bucket_of_its_own_and_forum_and_staff_have_no_limit() -> None:
    def bearer(member: str | None, role: Role) -> dict[str, str]:
        return {"authorization": f"Bearer {issue_token(SECRET, [role], member, timedelta(minutes=5))}"}

    process = make_process(rate_limit=2)
    async with client(process) as http:
        for headers in ({}, bearer("m-1", Role.STAR), bearer("m-2", Role.MEMBER)):
            assert [(await http.get("/topics/", headers=headers)).status_code for _ in range(3)] == [200, 200, 429]
        for headers in (bearer(None, Role.FORUM), bearer("m-1", Role.STAFF)):
            assert [(await http.get("/topics/", headers=headers)).status_code for _ in range(5)] == [200] * 5
        # A forged token buys nothing: it counts with its address.
        assert (await http.get("/topics/", headers={"authorization": "Bearer a.b.c"})).status_code == 429
    async with client(process, client=("198.51.100.7", 1)) as http:
        assert (await http.get("/topics/")).status_code == 200


@pytest.mark.asyncio
async def test_an_ipv6_customer_is_one_caller() -> None:
    process = make_process(rate_limit=1)
    statuses = []
    for address in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "::ffff:192.0.2.9", "192.0.2.9"):
        sent = await raw(process, {"path": "/topics/", "client": (address, 1)}, parts(b""))
        statuses.append(sent[0]["status"])
    assert statuses == [200, 429, 200, 200, 429]


async def _statuses(process: Process, came_from: str, *forwarded: str) -> list[int]:
    async with client(process, client=(came_from, 1)) as http:
        return [(await http.get("/topics/", headers={"x-forwarded-for": one})).status_code for one in forwarded]


@pytest.mark.asyncio
async def test_whom_a_proxy_of_ours_forwards_is_a_caller_of_its_own_and_nobody_else_can_say_who_they_are() -> None:
    process = make_process(rate_limit=1, proxies="10.0.0.5, 192.168.0.0/16")
    assert await _statuses(process, "10.0.0.5", "203.0.113.1", "203.0.113.2", "203.0.113.1") == [200, 200, 429]
    assert await _statuses(process, "10.0.0.5", "203.0.113.9, 203.0.113.3, 192.168.3.4", "203.0.113.3") == [200, 429]
    for stranger in ("10.0.0.6", "127.0.0.1"):
        assert await _statuses(process, stranger, "203.0.113.4", "203.0.113.5") == [200, 429]


@pytest.mark.asyncio
async def test_without_a_setting_only_proxies_on_this_machine_are_believed() -> None:
    process = make_process(rate_limit=1)
    assert await _statuses(process, "127.0.0.1", "203.0.113.1", "203.0.113.2") == [200, 200]
    assert await _statuses(process, "::1", "203.0.113.3", "203.0.113.4") == [200, 200]
    assert await _statuses(process, "10.0.0.5", "203.0.113.5", "203.0.113.6") == [200, 429]


@pytest.mark.parametrize("proxies", ["*", "10.0.0.5, nonsense", "10.0.0.1/8", "10.0.0.0/33"])
def test_proxies_that_are_no_addresses_are_refused(proxies: str) -> None:
    with pytest.raises(ValidationError, match=r"name addresses \(10\.0\.0\.5\) or networks"):
        Settings(proxies=proxies)


@pytest.mark.asyncio
async def test_the_bucket_refills_evenly_and_the_memory_for_callers_is_bounded() -> None:
    now = [0.0]

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    class Nobody:
        async def of(self, _: Scope) -> None: ...

    limiter = RateLimit(app, Nobody(), 60, max_callers=10, clock=lambda: now[0])  # type: ignore[arg-type]

    async def ask(address: str) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        await limiter({"type": "http", "path": "/", "headers": [], "client": (address, 1)}, receive, send)
        return int(sent[0]["status"])

    assert [await ask("192.0.2.1") for _ in range(61)] == [200] * 60 + [429]
    now[0] += 2
    assert [await ask("192.0.2.1") for _ in range(3)] == [200, 200, 429]
    for n in range(100):
        await ask(f"198.51.100.{n}")
    assert len(limiter._buckets) == 10


@pytest.mark.asyncio
async def test_a_rate_limit_of_0_is_none() -> None:
    async with client(make_process(rate_limit=0)) as http:
        assert {(await http.get("/topics/")).status_code for _ in range(50)} == {200}


# --- Headers --------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_every_response_makes_the_browser_careful() -> None:
    async with client(make_process(rate_limit=4, max_body=1024)) as http:
        answers = [
            await http.get("/"),
            await http.get("/topics/"),
            await http.get("/nothing"),
            await http.post("/topics/api/things", content=b"x" * 2000),
            await http.get("/topics/"),
        ]
    assert [a.status_code for a in answers] == [200, 200, 404, 413, 429]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "strict-transport-security" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.asyncio
async def test_hsts_is_sent_over_https_and_where_the_public_address_is_https() -> None:
    async with client(make_process(), "https://test") as http:
        assert (await http.get("/")).headers["strict-transport-security"] == "max-age=31536000"
    async with client(make_process(url="https://stars.example"), client=("10.0.0.5", 1)) as http:
        assert (await http.get("/")).headers["strict-transport-security"] == "max-age=31536000"
    async with client(make_process(url="http://stars.example")) as http:
        assert "strict-transport-security" not in (await http.get("/")).headers


@pytest.mark.asyncio
async def test_other_origins_are_let_in_only_where_the_settings_name_them() -> None:
    preflight = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    async with client(make_process(cors_origins=["https://forum.example"])) as http:
        answer = await http.options("/topics/", headers=preflight | {"origin": "https://forum.example"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://forum.example"
        assert "access-control-allow-credentials" not in answer.headers
        answer = await http.get("/topics/boom", headers={"origin": "https://forum.example"})
        assert answer.headers["access-control-allow-origin"] == "https://forum.example"
        for origin in ("https://evil.example", "null", "https://forum.example.evil"):
            answer = await http.get("/topics/", headers={"origin": origin})
            assert "access-control-allow-origin" not in answer.headers
    async with client(make_process()) as http:
        answer = await http.options("/topics/", headers=preflight | {"origin": "https://forum.example"})
        assert answer.status_code == 405


# --- The server -----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_taken_port_is_said_so_plainly() -> None:
    with bind("127.0.0.1", 0) as other:
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken"):
            await serve(make_process(), "127.0.0.1", port)


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["192.0.2.9", "host.invalid"])
async def test_an_address_on_which_nobody_can_listen_is_said_so_plainly(host: str) -> None:
    with pytest.raises(StartFailed, match=f"cannot listen on {host}, port 0: .*STARS_HOST"):
        await serve(make_process(), host, 0)


@pytest.mark.asyncio
async def test_a_service_that_cannot_start_is_an_error_and_not_the_end_of_the_program() -> None:
    service = Service("a", make_service("a"), _recording("a", [], "open"), no_problems)
    with pytest.raises(StartFailed):
        await serve(create_process([service], Settings()), "127.0.0.1", 0)


@pytest.mark.asyncio
async def test_serve_tells_when_it_listens_and_cancellation_ends_streams_and_closes_the_services() -> None:
    events: list[str] = []
    service = Service("topics", make_service(), _recording("topics", events), no_problems)
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(create_process([service], Settings()), "127.0.0.1", 0, ready=listening.set_result)
    )
    url = await asyncio.wait_for(listening, 30)
    assert events == ["+topics/topics"]
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        assert (await http.get("/livez")).text == "ok\n"
        async with http.stream("GET", "/topics/stream") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "data: x"
            started = time.monotonic()
            server.cancel()
            async for _ in lines:
                pass
    with pytest.raises(asyncio.CancelledError):
        await server
    assert time.monotonic() - started < 5
    assert events == ["+topics/topics", "-topics/topics"]
