"""A whole installation as the outside world sees it: a process, its URL, and tokens."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from deploy.infrastructure import Instance, InstanceInfo, guard
from shared.web import Role, issue_token

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PROBLEM = "application/problem+json"
PATIENCE = 20.0
"""Seconds after which a test gives up waiting; how fast an answer should be is said where it is promised."""

Json = dict[str, Any]


def fresh(word: str) -> str:
    """A name that nobody else uses."""
    return f"{word}-{uuid.uuid4().hex[:10]}"


def ago(**since: float) -> datetime:
    """An instant in the past."""
    return datetime.now(UTC) - timedelta(**since)


def instant(text: str) -> datetime:
    """A time as the interface tells it."""
    assert text.endswith("Z"), f"not RFC 3339 in UTC: {text}"
    return datetime.fromisoformat(text)


def event(kind: str, data: Json, at: datetime | str | None = None, **more: Any) -> Json:
    """An event as a forum's front end writes it."""
    at = datetime.now(UTC) if at is None else at
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/forum/e2e",
        "type": kind,
        "time": at if isinstance(at, str) else at.isoformat(),
        "data": data,
        **more,
    }


def asked(topic_id: str, at: datetime | None = None, **more: Any) -> Json:
    """topic-created, a question of the member ``asker`` in the space ``help`` unless MORE says otherwise."""
    data = {
        "topic_id": topic_id,
        "author_id": "asker",
        "author_kind": "member",
        "title": "How?",
        "space": "help",
        "tags": [],
        "kind": "question",
        **more,
    }
    return event("topic-created", data, at)


def replied(topic_id: str, reply_id: str, author: str = "helper", at: datetime | None = None, **more: Any) -> Json:
    """reply-posted, public and by a member unless MORE says otherwise."""
    data = {
        "topic_id": topic_id,
        "reply_id": reply_id,
        "author_id": author,
        "author_kind": "member",
        "visibility": "public",
        **more,
    }
    return event("reply-posted", data, at)


def of(name: str, topic_id: str, reply_id: str | None = None, at: datetime | None = None, **more: Any) -> Json:
    """Any event that names a topic and perhaps a reply."""
    return event(name, {"topic_id": topic_id} | ({"reply_id": reply_id} if reply_id else {}) | more, at)


def problem(answer: httpx.Response, status: int, slug: str | None = None) -> Json:
    """The body of an answer that must be a problem (RFC 9457) of this status."""
    told = f"{answer.request.method} {answer.request.url}"[:300] + f" -> {answer.status_code} {answer.text[:500]}"
    assert answer.status_code == status, told
    assert answer.headers["content-type"] == PROBLEM, told
    body: Json = answer.json()
    assert body["status"] == status, told
    assert {"type", "title"} <= body.keys(), told
    if slug is not None:
        assert body["type"] == f"/problems/{slug}", told
    return body


def eventually(read: Callable[[], T], holds: Callable[[T], bool] = bool, within: float = PATIENCE) -> T:
    """What READ gives once it HOLDS; fails with what it gave last."""
    end = time.monotonic() + within
    while True:
        found = read()
        if holds(found):
            return found
        assert time.monotonic() < end, f"still {found!r} after {within} s"
        time.sleep(0.02)


@dataclass
class Program:
    """A `stars` command that serves HTTP."""

    process: "subprocess.Popen[str]" = field(repr=False)
    log: Path
    url: str

    @classmethod
    def start(cls, arguments: Sequence[str], log: Path, settings: Mapping[str, str]) -> "Program":
        """Start it and wait for its `ready: URL`. Raises RuntimeError with what it said instead."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STARS_")}
        with log.open("w") as errors:
            process = subprocess.Popen(
                # Stopped as Ctrl-C does, also when the tests are killed.
                [
                    *(sys.executable, guard.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-1", "-1"),
                    *(sys.executable, "-c", "from deploy.cli import main; main()", *arguments),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=environment | dict(settings),
                start_new_session=True,
            )
        assert process.stdout
        for line in process.stdout:
            if line.startswith("ready: "):
                return cls(process, log, line.removeprefix("ready: ").strip())
        process.wait()
        raise RuntimeError(log.read_text()[-3000:])

    def stop(self) -> int:
        """Stop it as Ctrl-C does, and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Site:
    """A running installation."""

    def __init__(self, program: Program, data: Path) -> None:
        found = Instance.find(data)
        assert found is not None
        self.program, self.data, self.info = program, data, found
        self.url = program.url
        self.client = httpx.Client(base_url=self.url, timeout=60)

    info: InstanceInfo

    @cached_property
    def secret(self) -> str:
        """The signing secret."""
        return (self.data / "secret").read_text().strip()

    def token(self, *roles: str, member: str | None = None) -> str:
        """A bearer token."""
        return issue_token(self.secret, [Role(role) for role in roles], member, timedelta(hours=1))

    def bearer(self, *roles: str, member: str | None = None) -> dict[str, str]:
        """The header with a token."""
        return {"Authorization": f"Bearer {self.token(*roles, member=member)}"}

    @cached_property
    def forum(self) -> dict[str, str]:
        """The header of the forum's front end."""
        return self.bearer("forum")

    @cached_property
    def staff(self) -> dict[str, str]:
        """The header of programme staff."""
        return self.bearer("staff", member="staff")

    # Requests come with a token of no role where none is needed: nobody has to share an address's rate limit.

    def post(self, body: Any, content_type: str = BATCH, **parameters: str) -> httpx.Response:
        """POST events as the forum; BODY is sent as it is when it is text or bytes."""
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        headers = {**self.forum, "Content-Type": content_type}
        return self.client.post("/topics/api/events", content=content, headers=headers, params=parameters)

    def publish(self, *events: Json) -> None:
        """Publish events; they must all be taken."""
        answer = self.post(list(events))
        assert (answer.status_code, answer.json()) == (202, {"events": len(events)}), answer.text

    def get(self, path: str, headers: Mapping[str, str] | None = None, **parameters: Any) -> httpx.Response:
        """GET an address of the topics service; a parameter ``from_`` is sent as ``from``."""
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        return self.client.get(f"/topics/api/{path}", headers=dict(headers or {}), params=named)

    def ask(self, path: str, headers: Mapping[str, str] | None = None, **parameters: Any) -> Json:
        """As GET, when the answer must be 200."""
        answer = self.get(path, headers, **parameters)
        assert answer.status_code == 200, f"{answer.request.url} -> {answer.status_code} {answer.text[:500]}"
        assert answer.headers["content-type"] == "application/json"
        body: Json = answer.json()
        return body

    def topic(self, topic_id: str) -> Json | None:
        """A topic, or None while it is unknown."""
        answer = self.get(f"topics/{quote(topic_id, safe='')}")
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    def topic_when(self, topic_id: str, holds: Callable[[Json], bool] = bool, within: float = PATIENCE) -> Json:
        """A topic once it is known and HOLDS."""
        found = eventually(lambda: self.topic(topic_id), lambda topic: topic is not None and holds(topic), within)
        assert found is not None
        return found

    def pages(self, limit: int, headers: Mapping[str, str] | None = None, **parameters: Any) -> list[Json]:
        """All items of the queue, read page by page."""
        items: list[Json] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.ask("topics", headers, limit=limit, **parameters, **cursor)
            assert len(page["items"]) <= limit
            items += page["items"]
            if page["next"] is None:
                return items
            assert len(page["items"]) == limit
            cursor = {"cursor": page["next"]}

    def claim(self, topic_id: str, headers: Mapping[str, str]) -> httpx.Response:
        """Claim a topic."""
        return self.client.post(f"/topics/api/topics/{quote(topic_id, safe='')}/claim", headers=dict(headers))

    def release(self, topic_id: str, headers: Mapping[str, str]) -> httpx.Response:
        """Give a claim back."""
        return self.client.delete(f"/topics/api/topics/{quote(topic_id, safe='')}/claim", headers=dict(headers))

    def put_policy(self, body: Any, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """PUT a policy, as staff unless HEADERS say otherwise."""
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        own = self.staff if headers is None else headers
        return self.client.put(
            "/topics/api/policies", content=content, headers={**own, "Content-Type": "application/json"}
        )
