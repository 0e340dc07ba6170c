"""Where a benchmark plays: embedded Kafka and PostgreSQL of its own in a temporary folder, and programs on them.

Always of its own, whatever the environment names: a benchmark writes hundreds of thousands of events to the streams.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from deploy.infrastructure import Instance, infrastructure
from deploy.infrastructure.processes import guarded
from deploy.services import migrations
from shared.messaging.kafka import ensure_streams
from shared.postgres import migrate
from shared.settings import Settings
from shared.web import Role, issue_token
from tests.load.mix import Record

ROOT = Path(__file__).parents[2]
PARTITIONS = 12
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def say(line: str) -> None:
    """What is going on, for whoever waits; not part of the result."""
    print(f"  … {line}", file=sys.stderr, flush=True)


class Program:
    """A child process, started and stopped by the benchmark."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name, self._process, self._log = name, process, log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Raise where it has ended by itself."""
        if self._process.poll() is not None:
            last = "\n".join(self.output().splitlines()[-15:])
            raise RuntimeError(f"{self.name} ended with status {self._process.returncode}:\n{last}")

    async def ready(self, seconds: float = 60) -> str:
        """Wait for its line ``ready: URL`` and return the URL."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.output().splitlines():
                if line.startswith("ready: "):
                    return line.removeprefix("ready: ").strip()
            self.check()
            await asyncio.sleep(0.02)
        raise TimeoutError(f"{self.name} is not ready after {seconds:.0f} s:\n{self.output()[-2000:]}")

    async def wait(self, seconds: float) -> str:
        """Wait until it ends well, and return what it printed."""
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} has not ended after {seconds:.0f} s:\n{self.output()[-2000:]}")
            await asyncio.sleep(0.02)
        if self._process.returncode:
            self.check()
        return self.output()

    async def stop(self, seconds: float = 20) -> None:
        """Ask it to end; kill it where it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        end = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far."""

    program: float
    postgres: float
    kafka: float

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.program - other.program, self.postgres - other.postgres, self.kafka - other.kafka)


@dataclass
class Stage:
    """Kafka, PostgreSQL and what is needed to run programs on them."""

    folder: Path
    kafka: str
    postgres: str
    secret: str
    erasure_key: str

    def dsn(self, database: str) -> str:
        """The DSN of one of our databases."""
        return urlunsplit(urlsplit(self.postgres)._replace(path=f"/{database}"))

    def token(self, *roles: Role) -> str:
        """A bearer token that our services take."""
        return issue_token(self.secret, list(roles), "bench", timedelta(hours=1))

    async def database(self, name: str, template: str = "template1") -> str:
        """A database, made anew as a copy; returns its DSN."""
        admin = await asyncpg.connect(self.postgres)
        try:
            await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
            await admin.execute("CHECKPOINT")
        finally:
            await admin.close()
        return self.dsn(name)

    async def service_database(self, name: str, *services: str) -> str:
        """A database with the schemas of these services; returns its DSN."""
        dsn = await self.database(name)
        for service in services:
            await migrate(dsn, service, migrations(service))
        return dsn

    @contextlib.asynccontextmanager
    async def program(self, name: str, argv: Sequence[str], dsn: str = "", **settings: str) -> AsyncIterator[Program]:
        """Run a program with the settings that name this stage; it does not outlive the block, nor us."""
        program = start(self.folder, name, argv, self.environment(dsn or self.postgres, **settings))
        try:
            yield program
        except Exception:
            said = [line for line in program.output().splitlines() if '"INFO"' not in line]
            say(f"the last words of {name} beside what it did:\n" + "\n".join(line[:2000] for line in said[-12:]))
            raise
        finally:
            await program.stop()

    def environment(self, dsn: str, **settings: str) -> dict[str, str]:
        """Nothing of the caller's own settings, so that two runs compare."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("STARS_")}
        return plain | {
            "STARS_DATA": str(self.folder / "none"),
            "STARS_KAFKA": self.kafka,
            "STARS_POSTGRES": dsn,
            "STARS_SECRET": self.secret,
            "STARS_ERASURE_KEY": self.erasure_key,
            "STARS_PARTITIONS": str(PARTITIONS),
            "PYTHONUNBUFFERED": "1",
            **settings,
        }

    async def make_topic(self, name: str) -> None:
        """A Kafka topic of the baselines, with as many partitions as the streams."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        finally:
            await admin.close()

    async def feed(self, topic: str, records: Iterable[Record]) -> int:
        """Records into a Kafka topic; returns how many."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", linger_ms=20, max_batch_size=524_288)
        await producer.start()
        sent = 0
        try:
            last: dict[int, Any] = {}
            for key, value in records:
                future = await producer.send(topic, value, key=key.encode())
                last[hash(key) % 64] = future
                sent += 1
            await producer.flush()
            for future in last.values():
                await future
        finally:
            await producer.stop()
        return sent

    async def ends(self, topic: str) -> dict[int, int]:
        """Where each partition of a Kafka topic ends."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
        await consumer.start()
        try:
            await consumer._client.set_topics([topic])
            partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]
            return {at.partition: end for at, end in (await consumer.end_offsets(partitions)).items()}
        finally:
            await consumer.stop()

    async def forget(self, topic: str) -> None:
        """Forget the records of a Kafka topic, so that the next run reads its own alone."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            ends = await self.ends(topic)
            await admin.delete_records(
                {TopicPartition(topic, n): RecordsToDelete(before_offset=end) for n, end in ends.items()}
            )
        finally:
            await admin.close()

    def usage(self, program: Program | None = None) -> Usage:
        """CPU seconds of a program, of PostgreSQL with all that it started, and of Kafka."""
        return Usage(
            _cpu(program.pid) if program else 0.0,
            _cpu(postgres := self._pid("postgres"), reaped=True) + sum(map(_cpu, children(postgres))),
            _cpu(self._pid("kafka")),
        )

    def memory(self, program: Program) -> dict[str, float]:
        """Megabytes: the program's highest, and what PostgreSQL and Kafka have now."""
        postgres = self._pid("postgres")
        return {
            "program": _status(program.pid, "VmHWM"),
            "postgres": sum(map(_proportional, (postgres, *children(postgres)))),
            "kafka": _status(self._pid("kafka"), "VmRSS"),
        }

    def _pid(self, name: str) -> int:
        try:
            return int((self.folder / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return 0


class Bystanders:
    """What others on this machine used of its processors meanwhile: figures taken on a busy machine say little."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = time.monotonic(), _busy(), _own()

    def __str__(self) -> str:
        seconds = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        others = max(0.0, (_busy() - self._busy) - (_own() - self._own)) / seconds
        return f"meanwhile other programs used {others:.0%} of this machine's processors"


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Start everything in a temporary folder, with the streams made and fsync on; remove it all afterwards."""
    own = Settings().model_copy(update={"kafka": None, "postgres": None})
    with tempfile.TemporaryDirectory(prefix="stars-load-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with Instance.open(folder) as instance:
            async with infrastructure(own, folder, say) as found:
                for place in (found.kafka, urlsplit(found.postgres).hostname):
                    assert str(place).startswith("127.0.0.1"), "a benchmark loads this machine alone"
                await ensure_streams(found.kafka, PARTITIONS, 1)
                yield Stage(folder, found.kafka, found.postgres, instance.secret, instance.erasure_key)


def start(folder: Path, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
    """Start a program whose output goes to a file; it ends when we do."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            guarded(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=dict(environment),
        )
    return Program(name, process, log)


def stars(*arguments: str) -> list[str]:
    """The command ``stars``, of this virtual environment."""
    return [sys.executable, "-c", "from deploy.cli import main; main()", *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """One of our own modules as a program."""
    return [sys.executable, "-m", f"tests.load.{name}", *arguments]


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] if pid else []
    except OSError:
        return []


def _cpu(pid: int, *, reaped: bool = False) -> float:
    """CPU seconds of a process; with ``reaped`` also of its children that have ended. 0 where that cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if reaped else 13])) / TICK


def _own() -> float:
    """CPU seconds of this process and of all that it has started and seen end."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _busy() -> float:
    """CPU seconds that this machine's processors have worked, or were taken away from it."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0.0
    return (sum(fields) - fields[3] - fields[4]) / TICK


def _status(pid: int, name: str) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(f"{name}:")), 0.0)


def _proportional(pid: int) -> float:
    """Memory of a process, of what it shares only its share."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)
