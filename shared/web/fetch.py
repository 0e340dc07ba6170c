"""JSON from another server: never followed elsewhere, never endless."""

import asyncio
import json
from typing import Any

import httpx

MOST_BYTES = 1024 * 1024
SECONDS = 10.0


async def fetch_json(
    url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    content: str | None = None,
) -> tuple[int, Any]:
    """The status and the document of an answer.

    Raises httpx.HTTPError, httpx.InvalidURL, OSError (TimeoutError is one) where there is none, ValueError or
    RecursionError for what is not JSON or above 1 MiB.
    """
    async with (
        httpx.AsyncClient(transport=transport, timeout=5.0, follow_redirects=False) as client,
        asyncio.timeout(SECONDS),
        client.stream(
            method, url, headers={"Accept": "application/json"} | (headers or {}), content=content
        ) as response,
    ):
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                raise ValueError("the answer is too large")
    return response.status_code, json.loads(body)


UNREACHABLE = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError)
"""What ``fetch_json`` raises."""
