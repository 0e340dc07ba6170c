"""A lean HTTP client: what is measured is the server."""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit


class Client:
    """One connection that is kept, one request at a time."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> tuple[int, Any]:
        """GET; returns status and body."""
        self._connection.request("GET", path, headers=self._headers)
        return self._answer()

    def post(self, path: str, body: Any, content_type: str) -> tuple[int, Any]:
        """POST; returns status and body."""
        headers = {**self._headers, "Content-Type": content_type}
        self._connection.request("POST", path, json.dumps(body).encode(), headers)
        return self._answer()

    def timed(self, path: str) -> tuple[float, Any]:
        """GET that must succeed; returns milliseconds and body."""
        started = time.perf_counter()
        status, body = self.get(path)
        milliseconds = (time.perf_counter() - started) * 1000
        if status != 200:
            raise RuntimeError(f"{path}: {status} {body}")
        return milliseconds, body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _answer(self) -> tuple[int, Any]:
        response = self._connection.getresponse()
        body = response.read()
        is_json = "json" in (response.getheader("Content-Type") or "")
        return response.status, json.loads(body) if body and is_json else body
