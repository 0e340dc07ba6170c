"""What is broken: an embedded Kafka and PostgreSQL of these tests alone, and services as processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from deploy.infrastructure import EmbeddedKafka, EmbeddedPostgres
from deploy.infrastructure.processes import guarded
from shared.postgres.pool import connect
from tests.infrastructure import FAST, ROOT

SERVICE = "topics"
LEADERBOARD = "leaderboard"
ERASURE_KEY = b"the key of the chaos tests, and of nothing else"
PARTITIONS = 6
STARS = Path(sys.executable).with_name("stars")
READY_SECONDS = 60.0


class Replica:
    """One ``stars run SERVICE``, which can be killed, frozen and started again."""

    def __init__(self, name: str, service: str, environment: dict[str, str], folder: Path) -> None:
        self.name, self.service, self.log = name, service, folder / f"{service}-{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def url(self) -> str:
        """Where it listens since it was started last; empty, which no client takes, until it says so."""
        if not self.log.exists():
            return ""
        found = re.search(rb"^ready: (\S+)$", self.log.read_bytes()[self._said_before :], re.MULTILINE)
        return found[1].decode() if found else ""

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self, **settings: str) -> None:
        """Start it, with these settings besides, without waiting for anything. It dies with us."""
        assert not self.runs
        # A port chosen here might be another program's when the replica comes to listen.
        command = [str(STARS), "run", self.service, "--port", "0"]
        with self.log.open("ab") as log:
            self._said_before = log.tell()
            self._process = subprocess.Popen(
                guarded(command),
                env=self._environment | settings,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP it: it holds what it holds, and knows of nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT it."""
        self._signal(signal.SIGCONT)

    async def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        assert self._process is not None
        self._signal(signal.SIGTERM)
        status = await asyncio.to_thread(self._process.wait, 40)
        self._process = None
        return status

    async def problems(self) -> list[str]:
        """What /readyz says; empty when it is ready."""
        try:
            async with httpx.AsyncClient(timeout=3) as client:
                answer = await client.get(f"{self.url}/readyz")
            found: list[str] = answer.json()["problems"][self.service]
            return found
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return [f"no answer: {type(error).__name__}"]

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it says that it is ready."""
        end = time.monotonic() + seconds
        while problems := await self.problems():
            assert self.runs, f"{self.name} ended by itself:\n{self.last_words()}"
            assert time.monotonic() < end, f"{self.name} is not ready: {problems}\n{self.last_words()}"
            await asyncio.sleep(0.1)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values over what has these labels."""
        try:
            async with httpx.AsyncClient(timeout=3) as client:
                text = (await client.get(f"{self.url}/metrics")).text
        except httpx.HTTPError:
            return 0
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(f"{name}{{") and all(part in line for part in wanted)
        )

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Ground:
    """Kafka, PostgreSQL and the replicas. Start it in the thread that lives as long as it shall."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="stars-chaos-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        fsync = os.environ.get("STARS_TEST_FSYNC") == "1"
        self.kafka = EmbeddedKafka(self.folder)
        self.postgres = EmbeddedPostgres(self.folder, {} if fsync else FAST)
        self.servers, self.dsn = "", ""
        self.environment: dict[str, str] = {}
        self._replicas: dict[tuple[str, str], Replica] = {}

    async def start(self) -> None:
        """Start Kafka and PostgreSQL and migrate. Raises InfrastructureError where they cannot be had."""
        self.servers, self.dsn = await asyncio.gather(self.kafka.start(), self.postgres.start())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STARS_")},
            "STARS_DATA": str(self.folder / "no-instance"),
            "STARS_KAFKA": self.servers,
            "STARS_POSTGRES": self.dsn,
            "STARS_SECRET": "a secret of the chaos tests that is long enough",
            "STARS_ERASURE_KEY": ERASURE_KEY.decode(),
            "STARS_PARTITIONS": str(PARTITIONS),
            # So small that whatever breaks, breaks in the middle of some.
            "STARS_BATCH_RECORDS": "15",
        }
        status, said = await self.stars("migrate", SERVICE)
        assert status == 0, said

    async def stop(self) -> None:
        """End everything and forget the data."""
        for replica in self._replicas.values():
            replica.kill()
        self.kafka.kill()
        self.postgres.kill()
        await asyncio.to_thread(self._temporary.cleanup)

    def replica(self, name: str = "first", service: str = SERVICE) -> Replica:
        """A replica of a service by its name; it may not run yet."""
        if (service, name) not in self._replicas:
            self._replicas[service, name] = Replica(name, service, self.environment, self.folder)
        return self._replicas[service, name]

    def running(self, service: str = SERVICE) -> list[Replica]:
        """The replicas of a service that run."""
        return [replica for replica in self._replicas.values() if replica.service == service and replica.runs]

    async def stars(self, *arguments: str) -> tuple[int, str]:
        """Run a command of ours; its exit status and what it said."""
        process = await asyncio.create_subprocess_exec(
            str(STARS),
            *arguments,
            env=self.environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode(errors="replace")

    async def connect(self, service: str = SERVICE) -> asyncpg.Connection:
        """A connection as a service has them."""
        return await connect(self.dsn, service)

    async def fetch(self, query: str, *arguments: Any, service: str = SERVICE) -> list[Any]:
        """Rows of a service's schema."""
        connection = await self.connect(service)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def bury(self, service: str = SERVICE) -> None:
        """Let Kafka forget the members of a service's group that are dead, as it would by itself after ten seconds.

        So more kills fit into a minute. Only while no replica of it runs.
        """
        assert not self.running(service)
        name = f"constellation-{service}"
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            for response in await admin.describe_consumer_groups([name]):
                for group in response.to_object()["groups"]:
                    for member in group["members"]:
                        await admin._send_request(LeaveGroupRequest(name, member["member_id"]))
        finally:
            await admin.close()


async def until(test: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait until the awaited answer of TEST is true."""
    end = time.monotonic() + seconds
    while not await test():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)
