"""A forum in one file that tells Constellation over HTTP what happens in it, with nothing but Python's own library:

python3 deploy/examples/http_forum.py --token "$(./stars token --role forum)"

It keeps its topics in memory. What a real forum does otherwise: it writes each event beside its own data, in the same
transaction, and sends it from there until it is taken. The same event may be sent as often as you like.
"""

import argparse
import json
import os
import secrets
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("http_forum.html")
LONGEST = 10_000


class Refused(Exception):
    """Constellation did not take an event, or could not be asked; the message is its own."""


class Constellation:
    """The two requests that a forum needs."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell that something happened now. ``source`` and ``id`` name the event: derived, so that a repeat is one."""
        event = {
            "specversion": "1.0",
            "id": f"{kind}/{data.get('reply_id', data['topic_id'])}",
            "source": "/forum/http-example",
            "type": kind,
            "time": datetime.now(UTC).isoformat(),
            "data": data,
        }
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/cloudevents+json"}
        self._ask(urllib.request.Request(f"{self._url}/topics/api/events", json.dumps(event).encode(), headers))

    def topic(self, topic_id: str) -> dict[str, Any] | None:
        """How it stands with a topic, by the forum's own id; None until it is known, a moment after it was told."""
        path = f"/topics/api/topics/{urllib.parse.quote(topic_id, safe='')}"
        return self._ask(urllib.request.Request(self._url + path))

    def _ask(self, request: urllib.request.Request) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Refused(f"{error.code} {error.read(2000).decode(errors='replace')}") from error
        except OSError as error:
            raise Refused(f"Constellation cannot be reached: {error}") from error


class Forum:
    """Topics and replies. Every method publishes first: what was not told has not happened."""

    def __init__(self, constellation: Constellation) -> None:
        self._constellation = constellation
        self._lock = threading.Lock()
        # Ids must never come again, and this forum forgets its own when it ends.
        self._prefix = f"http-example:{secrets.token_hex(4)}"
        self.topics: dict[str, dict[str, Any]] = {}

    def ask(self, author: str, title: str) -> str:
        """Somebody asks a question."""
        with self._lock:
            topic_id = f"{self._prefix}:{len(self.topics) + 1}"
            data = {
                "topic_id": topic_id,
                "author_id": f"http-example:{author}",
                "author_kind": "member",
                "title": title,
                "space": "Example",
                "tags": [],
                "language": "en",
                "kind": "question",
            }
            self._constellation.publish("topic-created", data)
            self.topics[topic_id] = {
                "topic_id": topic_id,
                "title": title,
                "author": author,
                "replies": [],
                "solution": None,
            }
            return topic_id

    def reply(self, topic_id: str, author: str, text: str) -> str:
        """Somebody answers."""
        with self._lock:
            replies = self.topics[topic_id]["replies"]
            reply_id = f"{topic_id}:{len(replies) + 1}"
            data = {
                "topic_id": topic_id,
                "reply_id": reply_id,
                "author_id": f"http-example:{author}",
                "author_kind": "member",
                "visibility": "public",
            }
            self._constellation.publish("reply-posted", data)
            replies.append({"reply_id": reply_id, "author": author, "text": text})
            return reply_id

    def accept(self, topic_id: str, reply_id: str) -> None:
        """The asker says which reply was the solution."""
        with self._lock:
            topic = self.topics[topic_id]
            data = {
                "topic_id": topic_id,
                "reply_id": reply_id,
                "accepted_by": f"http-example:{topic['author']}",
            }
            self._constellation.publish("solution-accepted", data)
            topic["solution"] = reply_id

    def shown(self) -> list[dict[str, Any]]:
        """All topics, the latest first, each with what Constellation says about it."""
        with self._lock:
            topics = [dict(topic) for topic in reversed(self.topics.values())]
        return [{**topic, "constellation": self._constellation.topic(topic["topic_id"])} for topic in topics]


def handler(forum: Forum) -> type[BaseHTTPRequestHandler]:
    """The page, and what its buttons do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/":
                self._answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
            elif self.path == "/topics":
                self._try(forum.shown)
            else:
                self._answer(404, b"not found\n", "text/plain")

        def do_POST(self) -> None:
            actions: dict[str, Callable[..., Any]] = {"/ask": forum.ask, "/reply": forum.reply, "/accept": forum.accept}
            length = int(self.headers.get("Content-Length") or 0)
            # JSON only: a page of somebody else's cannot send that here without being asked first.
            if self.path not in actions or self.headers.get_content_type() != "application/json" or length > LONGEST:
                self._answer(400, b"not understood\n", "text/plain")
                return
            body = self.rfile.read(length)
            self._try(lambda: actions[self.path](**{name: str(value) for name, value in json.loads(body).items()}))

        def _try(self, action: Any) -> None:
            try:
                status, result = 200, action()
            except Refused as why:
                status, result = 502, {"error": str(why)}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                status, result = 400, {"error": f"{type(error).__name__}: {error}"}
            self._answer(status, json.dumps(result).encode(), "application/json")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each request."""

    return Handler


def main() -> None:
    """Serve the forum on this machine until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small forum that publishes its events over HTTP.")
    parser.add_argument("--url", default="http://localhost:8080", help="where Constellation is")
    parser.add_argument("--token", default=os.environ.get("STARS_TOKEN"), help="a token of the role forum")
    parser.add_argument("--port", type=int, default=8090, help="where this forum is to be; 0 finds a free port")
    given = parser.parse_args()
    if not given.token:
        parser.error('give --token "$(./stars token --role forum)", or STARS_TOKEN')
    forum = Forum(Constellation(given.url, given.token))
    with ThreadingHTTPServer(("127.0.0.1", given.port), handler(forum)) as server:
        print(f"the forum: http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
