"""A real browser gets a real push: Debian's Firefox, a push service of the test's own, and our service between them.

The push service speaks Mozilla's autopush protocol over a websocket and checks what browsers never check: VAPID.
"""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiokafka
import asyncpg
import httpx
import jwt
import pytest
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from deploy.infrastructure.processes import free_port, guarded
from services.notifier import app as notifier
from services.notifier.channels import push
from services.notifier.channels.push import Guard
from shared.messaging.kafka import ensure_streams
from shared.postgres import migrate
from shared.settings import Settings
from shared.web import Role, create_process, issue_token, serve
from tests.infrastructure import Running

FIREFOX = shutil.which("firefox-esr")
pytestmark = [
    pytest.mark.skipif(FIREFOX is None, reason="no firefox-esr here: apt-get install firefox-esr"),
    pytest.mark.timeout(150),
]

SECRET = "a secret of the push tests that is long enough"
PREFERENCES = """
user_pref("dom.push.serverURL", "ws://127.0.0.1:{push}/");
user_pref("dom.push.testing.allowInsecureServerURL", true);
user_pref("dom.push.connection.enabled", true);
user_pref("permissions.default.desktop-notification", 1);
user_pref("alerts.useSystemBackend", false);
user_pref("marionette.port", {marionette});
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.normandy.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("browser.startup.page", 0);
"""


async def until(holds: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait until HOLDS gives something true, and return it."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < end, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.05)


class AutoPush:
    """A push service for one browser."""

    def __init__(self) -> None:
        self.port = 0
        self.hello = asyncio.Event()
        self.keys: dict[str, str] = {}
        self.acks: list[tuple[str, int]] = []
        self.refused: list[str] = []
        self.corrupt = False
        self._socket: web.WebSocketResponse | None = None

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("push-notification",))
        await socket.prepare(request)
        self._socket = socket
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            said = json.loads(message.data or "{}")
            match said.get("messageType"):
                case "hello":
                    await socket.send_json(
                        {"messageType": "hello", "status": 200, "uaid": uuid.uuid4().hex, "use_webpush": True}
                    )
                    self.hello.set()
                case "register":
                    channel = said["channelID"]
                    self.keys[channel] = said["key"]
                    endpoint = f"http://127.0.0.1:{self.port}/push/{channel}"
                    answer = {"messageType": "register", "channelID": channel, "status": 200, "pushEndpoint": endpoint}
                    await socket.send_json(answer)
                case "unregister":
                    self.keys.pop(said["channelID"], None)
                    await socket.send_json({"messageType": "unregister", "channelID": said["channelID"], "status": 200})
                case "ack":
                    self.acks += [(one["version"], one.get("code", 0)) for one in said["updates"]]
                case None:
                    await socket.send_str("{}")
        return socket

    async def push(self, request: web.Request) -> web.StreamResponse:
        channel = request.match_info["channel"]
        if channel not in self.keys:
            return web.Response(status=410)
        if (wrong := self._wrong(request, channel)) is not None:
            self.refused.append(wrong)
            return web.Response(status=401, text=wrong)
        assert int(request.headers["TTL"]) >= 0
        body = await request.read()
        if self.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        assert self._socket is not None
        await self._socket.send_json(
            {
                "messageType": "notification",
                "channelID": channel,
                "version": uuid.uuid4().hex,
                "data": base64.urlsafe_b64encode(body).rstrip(b"=").decode(),
                "headers": {"encoding": request.headers["Content-Encoding"]},
            }
        )
        return web.Response(status=201)

    def _wrong(self, request: web.Request, channel: str) -> str | None:
        """What a real push service would refuse."""
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
        if scheme != "vapid" or parts.get("k") != self.keys[channel].rstrip("="):
            return "not the key that was subscribed with"
        raw = base64.urlsafe_b64decode(parts["k"] + "=" * (-len(parts["k"]) % 4))
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        try:
            claims = jwt.decode(parts["t"], key, algorithms=["ES256"], audience=f"http://127.0.0.1:{self.port}")
        except jwt.PyJWTError as error:
            return type(error).__name__
        if claims["exp"] > datetime.now(UTC).timestamp() + 24 * 3600:
            return "it lasts too long"
        return None


class Firefox:
    """A headless Firefox, driven over Marionette's own protocol: lengths and JSON."""

    def __init__(self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._process, self._reader, self._writer, self._n = process, reader, writer, 0

    @classmethod
    async def start(cls, folder: Path, push_port: int) -> "Firefox":
        port = free_port()
        (folder / "user.js").write_text(PREFERENCES.format(push=push_port, marionette=port))
        assert FIREFOX is not None
        command = [FIREFOX, "--headless", "--no-remote", "--profile", str(folder), "--marionette"]
        process = subprocess.Popen(  # noqa: ASYNC220  it takes a moment, and there is nothing else to do
            guarded([*command, "--remote-allow-system-access", "about:blank"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        async def connected() -> Any:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)

        try:
            reader, writer = await until(connected, "Firefox listens", 60)
            browser = cls(process, reader, writer)
            await browser._read()
            await browser.do("WebDriver:NewSession", capabilities={})
            await browser.do("WebDriver:SetTimeouts", script=30_000)
        except BaseException:
            process.kill()
            raise
        return browser

    async def _read(self) -> Any:
        length = int((await self._reader.readuntil(b":"))[:-1])
        return json.loads(await self._reader.readexactly(length))

    async def do(self, command: str, **parameters: Any) -> Any:
        """A command of Marionette. Fails with what Firefox said."""
        self._n += 1
        sent = json.dumps([0, self._n, command, parameters]).encode()
        self._writer.write(f"{len(sent)}:".encode() + sent)
        _, _, error, result = await self._read()
        assert error is None, error
        return result["value"] if isinstance(result, dict) and "value" in result else result

    async def run(self, script: str, *args: Any) -> Any:
        """Run a script in the page; what it returns, awaited."""
        wrapped = (
            "const done = arguments[arguments.length - 1]; const args = [...arguments].slice(0, -1);"
            f"(async () => {{ {script} }})().then((v) => done({{ v }}), (e) => done({{ e: String(e) }}));"
        )
        found = await self.do("WebDriver:ExecuteAsyncScript", script=wrapped, args=list(args))
        assert "e" not in found, found["e"]
        return found.get("v")

    async def chrome(self, script: str) -> Any:
        """Run a script as Firefox itself may."""
        await self.do("Marionette:SetContext", value="chrome")
        try:
            return await self.do("WebDriver:ExecuteScript", script=script, args=[])
        finally:
            await self.do("Marionette:SetContext", value="content")

    def stop(self) -> None:
        self._writer.close()
        self._process.kill()
        self._process.wait()


class Stage:
    """The browser, the push service and ours."""

    def __init__(self, url: str, autopush: AutoPush, firefox: Firefox, kafka: str, dsn: str, forum: str) -> None:
        self.url, self.autopush, self.firefox, self._kafka, self._dsn = url, autopush, firefox, kafka, dsn
        self.forum = forum
        token = issue_token(SECRET, [Role.MEMBER], "ada", timedelta(hours=1))
        self.client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"})
        self._n = 0

    async def subscribe(self) -> None:
        """Let this browser be told, with the key that the service gives out."""
        key = (await self.client.get("/notifier/api/push-key")).json()["public_key"]
        subscription = await self.firefox.run(
            "const r = await navigator.serviceWorker.register('/notifier/service-worker.js');"
            "await navigator.serviceWorker.ready;"
            "const plain = atob(args[0].replaceAll('-', '+').replaceAll('_', '/'));"
            "const raw = Uint8Array.from(plain, c => c.charCodeAt(0));"
            "const s = await r.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: raw });"
            "return s.toJSON();",
            key,
        )
        answer = await self.client.post("/notifier/api/members/ada/push-subscriptions", json=subscription)
        assert answer.status_code == 201, answer.text

    async def ask(self) -> str:
        """A question for Ada comes through Kafka; returns its topic."""
        self._n += 1
        topic = f"t{self._n}-{uuid.uuid4().hex[:6]}"
        now = datetime.now(UTC)
        data = {
            "topic_id": topic,
            "author_id": "asker",
            "title": f"How about <b>{topic}</b>?",
            "url": f"{self.forum}/t/{topic}",
            "space": "help",
            "tags": [],
            "stage": "new",
            "due_at": (now + timedelta(hours=40)).isoformat(),
            "candidates": [{"member_id": "ada", "score": 1}],
            "arm": "routed",
        }
        event = {"specversion": "1.0", "id": topic, "source": "/test", "type": "answer-needed", "sequence": 1}
        event |= {"time": now.isoformat(), "data": data}
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self._kafka)
        await producer.start()
        await producer.send_and_wait("topics.events", json.dumps(event).encode(), key=topic.encode())
        await producer.stop()
        return topic

    async def state(self, topic: str) -> tuple[str, str | None] | None:
        """State and reason of the push about a topic."""
        connection = await asyncpg.connect(self._dsn, server_settings={"search_path": "notifier"})
        try:
            row = await connection.fetchrow(
                "SELECT d.state, d.reason FROM delivery AS d JOIN notification AS n USING (notification_id)"
                " WHERE n.topic_id = $1 AND d.channel = 'push' AND d.state NOT IN ('pending', 'leased', 'sending')",
                topic,
            )
            return None if row is None else (row["state"], row["reason"])
        finally:
            await connection.close()

    async def shown(self) -> list[dict[str, Any]]:
        """What the browser shows at the moment."""
        found: list[dict[str, Any]] = await self.firefox.run(
            "const r = await navigator.serviceWorker.ready;"
            "return (await r.getNotifications()).map(n => ({ title: n.title, body: n.body, url: n.data?.url }));"
        )
        return found


@pytest.fixture
async def stage(infrastructure: Running, database: str, tmp_path: Path) -> AsyncIterator[Stage]:
    autopush = AutoPush()
    application = web.Application()
    application.router.add_get("/", autopush.websocket)
    application.router.add_post("/push/{channel}", autopush.push)

    async def topic_page(request: web.Request) -> web.Response:
        return web.Response(text=f"<title>{request.match_info['topic']}</title>", content_type="text/html")

    application.router.add_get("/t/{topic}", topic_page)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    autopush.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    admin = await asyncpg.connect(infrastructure.postgres)
    name = f"push_{uuid.uuid4().hex[:10]}"
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = infrastructure.postgres.rpartition("/")[0] + f"/{name}"
    await migrate(dsn, notifier.NAME, notifier.MIGRATIONS)
    await ensure_streams(infrastructure.kafka, 3, 1)
    settings = Settings(
        kafka=infrastructure.kafka,
        postgres=dsn,
        secret=SecretStr(SECRET),
        erasure_key=SecretStr("a key of the push tests"),
        partitions=3,
    )
    guard = Guard(hosts=("127.0.0.1",), schemes=("http",), any_port=True, private=True)
    service = notifier.build(settings, "test", guard=guard)
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(create_process([service], settings), "127.0.0.1", 0, ready=listening.set_result)
    )
    firefox = None
    try:
        url = await asyncio.wait_for(listening, 30)
        firefox = await Firefox.start(tmp_path, autopush.port)
        await asyncio.wait_for(autopush.hello.wait(), 60)
        await firefox.do("WebDriver:Navigate", url=f"{url}/notifier/unsubscribe/none")
        yield Stage(url, autopush, firefox, infrastructure.kafka, dsn, f"http://127.0.0.1:{autopush.port}")
    finally:
        if firefox is not None:
            firefox.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await runner.cleanup()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_a_push_is_shown_by_a_real_browser_and_its_click_opens_the_topic(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.subscribe()
    topic = await stage.ask()
    await until(lambda: stage.autopush.acks, "the browser acknowledges")
    assert [code for _, code in stage.autopush.acks] == [100], "delivered, and decrypted"
    assert await until(lambda: stage.state(topic), "the result is written") == ("accepted", None)
    [shown] = await until(stage.shown, "the notification is shown")
    assert shown["title"] == f"A question for you: How about <b>{topic}</b>?"
    assert shown["url"] == f"{stage.forum}/t/{topic}"

    # A click, as the browser's own window of the notification would pass it on.
    clicked = await until(
        lambda: stage.firefox.chrome(
            "for (const w of Services.wm.getEnumerator('alert:alert')) { w.onAlertClick(); return true; } return false;"
        ),
        "the notification's window is there",
    )
    assert clicked

    async def opened() -> bool:
        urls = await stage.firefox.chrome(
            "return [...Services.wm.getEnumerator('navigator:browser')].flatMap("
            "w => w.gBrowser.browsers.map(b => b.currentURI.spec));"
        )
        return f"{stage.forum}/t/{topic}" in urls

    await until(opened, "the click opens the topic")

    # Corrupted on its way: the browser says that it cannot read it, and shows nothing of it.
    stage.autopush.acks.clear()
    stage.autopush.corrupt = True
    await stage.ask()
    await until(lambda: stage.autopush.acks, "the browser answers")
    assert [code for _, code in stage.autopush.acks] == [101]
    stage.autopush.corrupt = False

    # A token that has expired, and one of another key: refused, tried again later, and the subscription stays.
    made = push.Vapid.header

    def anew(self: push.Vapid, origin: str) -> str:
        self._tokens.clear()
        return made(self, origin)

    monkeypatch.setattr(push.Vapid, "header", anew)
    monkeypatch.setattr(push, "VAPID_LASTS", timedelta(hours=-1))
    topic = await stage.ask()
    assert await until(lambda: stage.state(topic), "an expired token is refused") == ("retry", "401")
    monkeypatch.undo()
    assert stage.autopush.refused == ["ExpiredSignatureError"]
    channel, key = next(iter(stage.autopush.keys.items()))
    stage.autopush.keys[channel] = "another"
    topic = await stage.ask()
    assert await until(lambda: stage.state(topic), "a wrong key is refused") == ("retry", "401")
    stage.autopush.keys[channel] = key
    answer = await stage.client.get("/notifier/api/members/ada/push-subscriptions")
    assert len(answer.json()) == 1

    # Unsubscribed in the browser, which we learn from the push service.
    await stage.firefox.run(
        "const r = await navigator.serviceWorker.ready; await (await r.pushManager.getSubscription()).unsubscribe();"
    )
    await until(lambda: not stage.autopush.keys, "the browser unregisters")
    topic = await stage.ask()
    assert await until(lambda: stage.state(topic), "a subscription that is gone") == ("bounced", "410")
    answer = await stage.client.get("/notifier/api/members/ada/push-subscriptions")
    assert answer.json() == []
