"""One Kafka and one PostgreSQL for a whole test session, run by a process of their own.

So they depend on no event loop of the tests, and end when the tests end, however they end. Taken from STARS_KAFKA and
STARS_POSTGRES, else from Docker with STARS_TEST_DOCKER=1, else embedded, in a temporary folder. STARS_TEST_FSYNC=1
lets PostgreSQL wait for the disk.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from deploy.infrastructure import InfrastructureError, infrastructure
from shared.settings import Settings

ROOT = Path(__file__).parent.parent
FAST = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Running:
    """What runs for the tests."""

    kafka: str  # bootstrap servers
    postgres: str  # a superuser's DSN
    described: str
    process: "subprocess.Popen[str]" = field(repr=False)

    def stop(self) -> None:
        """Stop both; their data are removed."""
        assert self.process.stdin
        self.process.stdin.close()  # what it waits for
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_for_tests() -> Running:
    """Start both and wait until they are ready, about 4 seconds. Raises InfrastructureError."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.infrastructure"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is for the tests, which stop this when they have ended
    )
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise InfrastructureError("no infrastructure for the tests, see above")
    answer: dict[str, str] = json.loads(line)
    if "error" in answer:
        process.wait()
        raise InfrastructureError(answer["error"])
    return Running(process=process, **answer)


async def _serve() -> None:
    fsync = os.environ.get("STARS_TEST_FSYNC") == "1"
    docker = os.environ.get("STARS_TEST_DOCKER") == "1"
    with tempfile.TemporaryDirectory(prefix="stars-test-", ignore_cleanup_errors=True) as folder:
        async with infrastructure(
            Settings(), Path(folder), docker=docker, postgres_settings={} if fsync else FAST
        ) as found:
            answer = {"kafka": found.kafka, "postgres": found.postgres, "described": found.described}
            print(json.dumps(answer), flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(_serve())
    except InfrastructureError as error:
        print(json.dumps({"error": str(error)}), flush=True)
