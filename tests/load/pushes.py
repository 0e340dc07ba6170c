"""Web pushes a second over TLS: encrypted, signed and sent, beside npm's web-push; an nginx answers 201 to both."""

import asyncio
import datetime as dt
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.infrastructure.processes import free_port
from services.notifier.channels import Outcome, Ready
from services.notifier.channels.push import CONNECTIONS, Guard, PushChannel, Vapid, raw_public_key, unpadded
from services.notifier.mail import Composer
from services.notifier.rules import CATEGORIES, Recipient
from services.notifier.tokens import Tokens
from tests.load.figures import Line, Spread, table
from tests.load.mails import npm
from tests.load.stage import say, start

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin") or shutil.which("nginx")

WEB_PUSH = """
const [endpoint, count, connections, p256dh, auth, payload] = process.argv.slice(2);
const webpush = require("web-push"), https = require("https");
const keys = webpush.generateVAPIDKeys();
const options = { TTL: 3600, vapidDetails: { subject: "mailto:ops@stars.example", ...keys },
  agent: new https.Agent({ keepAlive: true, maxSockets: +connections }) };
const one = () => webpush.sendNotification({ endpoint, keys: { p256dh, auth } }, payload, options);
const many = async (count) => {
  let left = count;
  await Promise.all([...Array(+connections)].map(async () => { while (left-- > 0) await one(); }));
};
(async () => {
  await many(100);
  const before = process.cpuUsage(), began = process.hrtime.bigint();
  await many(+count);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9, used = process.cpuUsage(before);
  const cpu = (used.user + used.system) / 1e6, rss = process.memoryUsage().rss / 1e6;
  console.log(JSON.stringify({ rate: count / seconds, cpu, rss }));
  options.agent.destroy();
})();
"""
CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location / {{ return 201; }} }}
}}
"""


async def pushes(quick: bool) -> list[Line]:
    """Measure, print, and return the README's lines."""
    if NGINX is None:
        say("pushes: nginx is not here (Debian: nginx-light)")
        return []
    count, repetitions = (2000, 1) if quick else (8000, 3)
    with tempfile.TemporaryDirectory(prefix="stars-load-") as name:
        folder, port = Path(name), free_port()
        trusted = _prepare(folder, port)
        command = [NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        server = start(folder, "nginx", command, dict(os.environ))
        try:
            await asyncio.sleep(0.5)
            server.check()
            peer = npm(folder, "web-push")
            browser = ec.generate_private_key(ec.SECP256R1())
            p256dh, auth = raw_public_key(browser), os.urandom(16)
            ours, theirs, cost = [], [], ["", "", ""]
            for _ in range(repetitions):
                rate, cpu = await asyncio.to_thread(
                    lambda: uvloop.run(_ours(f"https://localhost:{port}/push", p256dh, auth, count, trusted))
                )
                ours.append(rate)
                cost[0] = f"{cpu / count * 1000:.2f} s"
                if peer is not None:
                    found = await asyncio.to_thread(
                        _web_push, peer, f"https://localhost:{port}/push", p256dh, auth, count, folder / "cert.pem"
                    )
                    theirs.append(found["rate"])
                    cost[1], cost[2] = f"{found['cpu'] / count * 1000:.2f} s", f"{found['rss']:.0f} MB"
        finally:
            await server.stop()
    rows = [["ours", f"{Spread.of(ours):,.0f}", cost[0]]]
    lines = [Line("web pushes a second over TLS, one process", f"{Spread.of(ours):,.0f}")]
    if theirs:
        rows.append(["npm web-push", f"{Spread.of(theirs):,.0f}", cost[1]])
        ratio = Spread.of(ours).middle / Spread.of(theirs).middle
        lines.append(
            Line("… against npm web-push", f"{ratio:.1f} times ({Spread.of(theirs):,.0f})", "ahead", ratio > 1)
        )
    table(f"Push: {count} to one nginx over {CONNECTIONS} kept TLS connections", ["", "pushes/s", "CPU of 1,000"], rows)
    return lines


class _Rows:
    """Stands where the pool is: the subscription is always there."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    async def fetch(self, query: str, ids: list[int]) -> list[dict[str, Any]]:
        return [self._row]


class _Attempts:
    """Stands where the pipeline is, and counts."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def begin(self, ready: Ready) -> bool:
        return True

    async def finish(self, ready: Ready, outcome: Outcome) -> None:
        self.outcomes.append(outcome.result)


async def _ours(endpoint: str, p256dh: bytes, auth: bytes, count: int, context: ssl.SSLContext) -> tuple[float, float]:
    composer = Composer(Tokens({1: b"k" * 32}), lambda: "https://stars.example", "Stars <stars@stars.example>")
    vapid = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:ops@stars.example")
    guard = Guard(hosts=("localhost",), any_port=True, private=True)
    row = {"subscription_id": 1, "endpoint": endpoint, "p256dh": p256dh, "auth": auth}
    pool: Any = _Rows(row)
    channel = PushChannel(pool, composer, vapid, guard, ssl=context)
    attempts = _Attempts()
    await channel.deliver(_batch(100), attempts, urgent=False)
    began, used = time.monotonic(), time.process_time()
    await channel.deliver(_batch(count), attempts, urgent=False)
    seconds, cpu = time.monotonic() - began, time.process_time() - used
    await channel.close()
    if set(attempts.outcomes) != {"accepted"}:
        raise RuntimeError(f"not every push was accepted: {set(attempts.outcomes)}")
    return count / seconds, cpu


def _batch(count: int) -> Sequence[Ready]:
    now = datetime.now(UTC)
    recipient = Recipient("m1", ZoneInfo("UTC"))
    return [
        Ready(
            delivery_id=n,
            fence=1,
            notification_id=n,
            member_id="m1",
            channel="push",
            target=1,
            category=CATEGORIES["milestone"],
            what="milestone",
            data={"board": "everyone", "kind": "entered-top-10"},
            at=now,
            topic_id=None,
            actor_id=None,
            actor_name=None,
            recipient=recipient,
            attempts=0,
            expires_at=now + timedelta(days=1),
            made_at=now,
            traceparent=None,
            address=None,
        )
        for n in range(count)
    ]


def _web_push(
    place: Path, endpoint: str, p256dh: bytes, auth: bytes, count: int, certificate: Path
) -> dict[str, float]:
    script = place / "pushes.cjs"
    script.write_text(WEB_PUSH)
    payload = json.dumps(
        {"title": "You are among the first ten on everyone's leaderboard", "body": "Thank you.", "tag": "n1"}
    )
    done = subprocess.run(
        ["node", str(script), endpoint, str(count), str(CONNECTIONS), unpadded(p256dh), unpadded(auth), payload],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=place,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(certificate)},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _prepare(folder: Path, port: int) -> ssl.SSLContext:
    """What nginx needs; returns a context that trusts it."""
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port))
    return _certificate(folder)


def _certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for localhost in the folder; returns a context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ssl.create_default_context(cadata=pem.decode())
