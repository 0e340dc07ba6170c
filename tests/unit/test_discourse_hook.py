"""The webhook's door: signatures, replays, refusals."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.topics.discourse.hook import router, signed
from services.topics.discourse.mapping import Envelope
from services.topics.ingestion import check
from shared.settings import Settings
from shared.web import Problem, create_service_app
from tests.unit.test_discourse_mapping import CATEGORIES, DATA, DELIVERIES, POST, TOPIC, URL

SECRET = "a secret of the webhook"
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


class Door:
    def __init__(self) -> None:
        self.published: list[Envelope] = []
        self.away = False
        routes = router(Settings(discourse_secret=SecretStr(SECRET)), self.publish, lambda: NOW, CATEGORIES)
        assert routes is not None
        app = create_service_app("topics", "Topics", "", "1")
        app.include_router(routes)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        assert "/hooks/discourse" in app.openapi()["paths"]

    async def publish(self, envelopes: list[Envelope]) -> None:
        if self.away:
            raise Problem(503, "away", type="kafka-unavailable", headers={"Retry-After": "5"})
        check(envelopes, NOW)
        self.published += envelopes

    async def post(self, name: str, body: Any, id: str = "1", **headers: str) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        root = next(iter(body)) if isinstance(body, dict) else "topic"
        sent = {
            "X-Discourse-Instance": URL,
            "X-Discourse-Event": name,
            "X-Discourse-Event-Type": root,
            "X-Discourse-Event-Id": id,
            "X-Discourse-Event-Signature": sign(raw),
            "Content-Type": "application/json",
        } | headers
        return await self.client.post("/hooks/discourse", content=raw, headers=sent)


def sign(raw: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


@pytest.fixture
def door() -> Door:
    return Door()


async def test_a_delivery_becomes_events(door: Door) -> None:
    answer = await door.post("topic_created", {"topic": TOPIC})
    assert (answer.status_code, answer.json()) == (200, {"events": 1})
    assert [one["type"] for one in door.published] == ["topic-created"]
    answer = await door.post("topic_created", {"topic": TOPIC | {"archetype": "private_message"}})
    assert answer.status_code == 200
    assert "private" in answer.json()["ignored"]
    assert len(door.published) == 1


async def test_a_form_is_json_too(door: Door) -> None:
    """Discourse's other content type changes the header and not the body."""
    answer = await door.post("post_created", {"post": POST}, **{"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.json() == {"events": 1}


async def test_a_replay_and_a_retry(door: Door) -> None:
    first = await door.post("post_created", {"post": POST}, "1")
    replay = await door.post("post_created", {"post": POST}, "1")
    retry = await door.post("post_created", {"post": POST}, "2")
    assert [one.status_code for one in (first, replay, retry)] == [200, 200, 200]
    assert "ignored" in replay.json()
    assert len({one["id"] for one in door.published}) == 1


async def test_a_replayed_deletion_does_not_undo_a_recovery(door: Door) -> None:
    await door.post("post_destroyed", {"post": POST}, "1")
    await door.post("post_recovered", {"post": POST}, "2")
    await door.post("post_destroyed", {"post": POST}, "1")
    assert [one["type"] for one in door.published] == ["reply-deleted", "reply-restored"]
    # The same again under another id is news: it was deleted once more.
    await door.post("post_destroyed", {"post": POST}, "3")
    assert door.published[-1]["type"] == "reply-deleted"


async def test_what_was_not_published_is_taken_when_it_comes_again(door: Door) -> None:
    door.away = True
    answer = await door.post("post_created", {"post": POST})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    door.away = False
    assert (await door.post("post_created", {"post": POST})).json() == {"events": 1}


RAW = json.dumps({"topic": TOPIC}).encode()


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        sign(RAW)[:-1],
        sign(RAW)[:-2],
        sign(RAW) + "0",
        sign(RAW).removeprefix("sha256="),
        sign(RAW, "another"),
        sign(RAW + b" "),
        sign(RAW).replace("sha256", "sha1"),
        "sha256=" + "g" * 64,
        "sha256=" + "0" * 64,
        "sha256=" + "é" * 64,
        " sha256= " + sign(RAW)[7:],
        "sha256=" + "٠" * 64,
    ],
)
async def test_a_wrong_signature(door: Door, signature: str) -> None:
    answer = await door.client.post(
        "/hooks/discourse",
        content=RAW,
        headers=[
            (b"x-discourse-event", b"topic_created"),
            (b"x-discourse-event-type", b"topic"),
            (b"x-discourse-instance", URL.encode()),
            (b"x-discourse-event-signature", signature.encode()),
        ],
    )
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text
    assert door.published == []


async def test_no_signature_and_two_of_them(door: Door) -> None:
    assert (await door.client.post("/hooks/discourse", content=RAW)).status_code == 401
    two = [("x-discourse-event-signature", sign(RAW)), ("x-discourse-event-signature", sign(RAW))]
    assert (await door.client.post("/hooks/discourse", content=RAW, headers=two)).status_code == 401


async def test_hex_is_hex_in_either_case(door: Door) -> None:
    upper = {"X-Discourse-Event-Signature": "sha256=" + sign(RAW)[7:].upper()}
    assert (await door.post("topic_created", RAW, **upper)).status_code == 200


def test_signed_takes_nothing_for_a_signature() -> None:
    assert not signed(b"s", b"", None)
    assert signed(b"s", b"", "sha256=" + hmac.new(b"s", b"", hashlib.sha256).hexdigest())


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff", b'{"topic": NaN}', b"[" * 100_000, b'{"topic": {}}']
)
async def test_an_unreadable_body(door: Door, raw: bytes) -> None:
    answer = await door.post("topic_created", raw)
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/unreadable-delivery"
    assert door.published == []


async def test_a_ping(door: Door) -> None:
    assert (await door.post("ping", {"ping": "OK"})).json() == {"ignored": "a ping"}


@pytest.mark.parametrize("secret", [None, SecretStr("")])
def test_no_route_without_a_secret(secret: SecretStr | None) -> None:
    async def publish(_: list[Envelope]) -> None: ...

    assert router(Settings(discourse_secret=secret), publish, lambda: NOW) is None


def test_the_mapping_comes_from_the_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def publish(_: list[Envelope]) -> None: ...

    path = tmp_path / "mapping.json"
    path.write_text('{"97": {"space": "english"}}')
    assert router(Settings(discourse_secret=SecretStr("s"), discourse_mapping=path), publish, lambda: NOW)
    assert not caplog.records
    assert router(Settings(discourse_secret=SecretStr("s")), publish, lambda: NOW)
    assert "STARS_DISCOURSE_MAPPING" in caplog.text


@pytest.mark.skipif(not DELIVERIES, reason=f"no real Discourse deliveries under {DATA} (STARS_TEST_DATA)")
async def test_the_real_deliveries_signed_anew(door: Door) -> None:
    """Their own signatures cannot be verified: the bodies were stripped after they were recorded."""
    for path in DELIVERIES:
        delivery = json.loads(path.read_text())
        raw = json.dumps(delivery["body"]).encode()
        old = await door.client.post("/hooks/discourse", content=raw, headers=delivery["headers"])
        assert old.status_code == 401
        headers = delivery["headers"] | {"X-Discourse-Event-Signature": sign(raw)}
        answer = await door.client.post("/hooks/discourse", content=raw, headers=headers)
        assert answer.status_code == 200, (path.name, answer.text)
    assert len(door.published) == 10
