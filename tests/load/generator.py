"""Steady load on the HTTP door, from a process of its own: ``python -m tests.load.generator --url URL …``.

Requests begin on a fixed schedule whether or not earlier ones were answered, so that a slow server is seen as slow.
"""

import argparse
import asyncio
import itertools
import json
import time

import httpx

from shared.contracts.envelope import BATCH_CONTENT_TYPE
from tests.load.figures import percentile
from tests.load.mix import mix

MOST_SECONDS = 120


async def generate(url: str, token: str, rate: int, batch: int, seconds: float) -> dict[str, float]:
    """Post ``rate`` events a second in batches for so long; returns what became of them."""
    records = (json.loads(value) for _, value in mix(int(rate * seconds), seed=7, prefix="g"))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": BATCH_CONTENT_TYPE}
    times: list[float] = []
    failed = 0
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:

        async def post(body: bytes) -> None:
            nonlocal failed
            began = time.perf_counter()
            try:
                response = await client.post("/topics/api/events", content=body)
            except httpx.HTTPError:
                failed += 1
                return
            failed += response.status_code != 202
            times.append((time.perf_counter() - began) * 1000)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in itertools.count():
                events = list(itertools.islice(records, batch))
                if not events:
                    break
                await asyncio.sleep(max(0.0, started + n * batch / rate - time.perf_counter()))
                group.create_task(post(json.dumps(events).encode()))
        took = time.perf_counter() - started
    return {
        "events_a_second": len(times) * batch / took,
        "failed": failed,
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
    }


def main() -> None:
    """Generate, then print the outcome as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    if not given.url.startswith("http://127.0.0.1:"):
        parser.error("a benchmark loads this machine alone")
    seconds = min(given.seconds, MOST_SECONDS)
    print("generating", flush=True)
    print("result:", json.dumps(asyncio.run(generate(given.url, given.token, given.rate, given.batch, seconds))))


if __name__ == "__main__":
    main()
