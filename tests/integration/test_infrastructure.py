"""The embedded Kafka and PostgreSQL: their data, their ends, and what people are told."""

import asyncio
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.infrastructure import (
    AlreadyRunning,
    EmbeddedKafka,
    EmbeddedPostgres,
    InfrastructureError,
    Instance,
    clear_leftovers,
    infrastructure,
    processes,
)
from deploy.infrastructure.kafka import Jar, default_cache, fetch, wanted
from deploy.infrastructure.processes import Child
from shared.settings import Settings
from tests.infrastructure import ROOT, start_for_tests

TOPIC = "survivors"


@pytest.fixture(scope="module", autouse=True)
def jars() -> list[str]:
    """The jars of the class path; where they cannot be had, these tests cannot run."""
    try:
        return fetch(default_cache()).split(":")
    except InfrastructureError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STARS_KAFKA", "STARS_POSTGRES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def stoppable() -> AsyncIterator[list[EmbeddedKafka | EmbeddedPostgres]]:
    """Whatever a test puts here is killed after it."""
    started: list[EmbeddedKafka | EmbeddedPostgres] = []
    yield started
    for server in started:
        server.kill()


async def rows(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["word"] for row in await connection.fetch("SELECT word FROM survivors ORDER BY word")]
    finally:
        await connection.close()


async def insert(dsn: str, word: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS survivors (word text)")
        await connection.execute("INSERT INTO survivors VALUES ($1)", word)
    finally:
        await connection.close()


async def create_topic(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()


async def produce(servers: str, word: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(TOPIC, word.encode())


async def messages(servers: str, count: int) -> list[str]:
    async with AIOKafkaConsumer(TOPIC, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        return [(await asyncio.wait_for(consumer.getone(), 30)).value.decode() for _ in range(count)]


def gone(pid: int, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


async def test_data_and_addresses_survive_a_stop_and_a_kill(
    tmp_path: Path, stoppable: list[EmbeddedKafka | EmbeddedPostgres]
) -> None:
    kafka, postgres = EmbeddedKafka(tmp_path), EmbeddedPostgres(tmp_path)
    stoppable += [kafka, postgres]
    servers, dsn = await asyncio.gather(kafka.start(), postgres.start())
    await create_topic(servers)
    await asyncio.gather(produce(servers, "stopped"), insert(dsn, "stopped"))

    await asyncio.gather(kafka.stop(), postgres.stop())
    assert tuple(await asyncio.gather(kafka.start(), postgres.start())) == (servers, dsn)
    await asyncio.gather(produce(servers, "killed"), insert(dsn, "killed"))

    pids = [kafka.pid, postgres.pid]
    kafka.kill()
    postgres.kill()
    assert all(pid and gone(pid, 0.1) for pid in pids)
    assert tuple(await asyncio.gather(kafka.start(), postgres.start())) == (servers, dsn)
    assert await rows(dsn) == ["killed", "stopped"]
    assert await messages(servers, 2) == ["stopped", "killed"]


async def test_kafkas_own_tools_run_and_its_settings_hold(
    tmp_path: Path, stoppable: list[EmbeddedKafka | EmbeddedPostgres]
) -> None:
    kafka = EmbeddedKafka(tmp_path)
    stoppable.append(kafka)
    servers = await kafka.start()
    await create_topic(servers)
    producer = await asyncio.create_subprocess_exec(
        *kafka.console_command(
            "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", servers, "--topic", TOPIC
        ),
        stdin=subprocess.PIPE,
    )
    await producer.communicate(b"from the console\n")
    assert producer.returncode == 0
    async with AIOKafkaConsumer(TOPIC, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        record = await asyncio.wait_for(consumer.getone(), 30)
    assert record.value == b"from the console"
    assert record.timestamp_type == 1  # LogAppendTime


CHILD = """
import asyncio, sys
from pathlib import Path
from deploy.infrastructure import EmbeddedKafka, EmbeddedPostgres, Instance
async def main(folder):
    with Instance.open(folder) as instance:
        kafka, postgres = EmbeddedKafka(folder), EmbeddedPostgres(folder)
        servers, dsn = await asyncio.gather(kafka.start(), postgres.start())
        instance.ready("http://localhost:8080", servers, dsn)
        print(servers, dsn, kafka.pid, postgres.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_killed_run_hinders_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: ASYNC220
    try:
        assert child.stdout
        servers, dsn, kafka, postgres = (await asyncio.to_thread(child.stdout.readline)).split()
        await create_topic(servers)
        await asyncio.gather(produce(servers, "before"), insert(dsn, "before"))

        found = Instance.find(tmp_path)
        assert found
        assert (found.url, found.kafka, found.postgres, found.pid) == ("http://localhost:8080", servers, dsn, child.pid)
        with pytest.raises(AlreadyRunning, match=rf"already runs .*process {child.pid}, http://localhost:8080"):
            with Instance.open(tmp_path):
                pass
    finally:
        child.kill()
        child.wait()

    assert (tmp_path / "instance.json").exists()  # a killed run cannot tidy up
    assert Instance.find(tmp_path) is None
    if sys.platform == "linux":
        assert gone(int(kafka))
        assert gone(int(postgres))
    said: list[str] = []
    with Instance.open(tmp_path):
        async with infrastructure(Settings(), tmp_path, said.append) as again:
            assert (again.kafka, again.postgres) == (servers, dsn)
            assert await rows(dsn) == ["before"]
            assert await messages(servers, 1) == ["before"]
    assert said == [again.described]
    assert "embedded" in again.described
    assert dsn.split(":")[2].split("@")[0] not in again.described  # no password


async def test_backends_that_survive_their_server_are_cleared(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path, {"fsync": "off"})
    try:
        dsn = await postgres.start()
        await insert(dsn, "before")
        connection = await asyncpg.connect(dsn)
        # A computation that does not look whether the server is still there.
        busy = asyncio.ensure_future(
            connection.fetchval("SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 30000) b")
        )
        await asyncio.sleep(0.3)
        backend = connection.get_server_pid()
        assert postgres.pid
        os.kill(postgres.pid, signal.SIGKILL)
        assert gone(postgres.pid)
        assert await postgres.start() == dsn
        assert gone(backend, 0.1)
        assert await rows(dsn) == ["before"]
        await asyncio.wait([busy], timeout=5)
        assert busy.exception()
        connection.terminate()
    finally:
        postgres.kill()


def test_leftovers_are_known_by_their_command_line(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = Child.start("kafka", [*program, str(tmp_path)], tmp_path, cwd=tmp_path, death_signal=signal.SIGKILL)
    foreign = subprocess.Popen(program)
    try:
        time.sleep(0.3)
        assert clear_leftovers(tmp_path, deadline=2) == [ours.pid]
        assert ours.process.wait(5) == -signal.SIGKILL
        (tmp_path / "kafka.pid").write_text(f"{foreign.pid}\n")
        assert clear_leftovers(tmp_path, deadline=2) == []
        assert foreign.poll() is None
    finally:
        ours.kill()
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("text", ["", "\n", "27o17", "99999999", "-1", "\xff"])
def test_a_number_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "port"
    file.write_text(text, "latin-1")
    port = processes.port_for(file)
    assert processes.is_free(port)
    assert processes.port_for(file) == port
    (tmp_path / "kafka.pid").write_text(text, "latin-1")
    assert clear_leftovers(tmp_path) == []
    assert not (tmp_path / "kafka.pid").exists()


def test_an_instance_of_another_version_is_found_by_what_it_says_and_not_where_that_is_too_little(
    tmp_path: Path,
) -> None:
    with Instance.open(tmp_path) as instance:
        info = instance.ready("http://localhost:1", "k", "p")
        said = tmp_path / "instance.json"
        newer = json.loads(said.read_text()) | {"more": 2}
        said.write_text(json.dumps(newer))
        assert Instance.find(tmp_path) == info
        del newer["kafka"]
        for text in (json.dumps(newer), "[]", "7", "{"):
            said.write_text(text)
            assert Instance.find(tmp_path) is None


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with Instance.open(folder) as first:
        assert len(bytes.fromhex(first.secret)) == 32
        assert Instance.find(folder) is None  # not ready yet
        with pytest.raises(AlreadyRunning, match=rf"starting or stopping .*process {os.getpid()}"):
            with Instance.open(folder):
                pass
        info = first.ready("http://localhost:1", "k", "p")
        assert Instance.find(folder) == info
        assert Path(info.secret).read_text().strip() == first.secret
        modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("secret", "erasure_key", "instance.json")}
    assert set(modes.values()) == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Instance.find(folder) is None
    with Instance.open(folder) as second:
        assert (second.secret, second.erasure_key) == (first.secret, first.erasure_key)
    assert first.secret != first.erasure_key


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose Maven settings name a mirror at FOLDER/served; returns that folder."""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    maven = tmp_path / "home" / ".m2"
    maven.mkdir(parents=True)
    (maven / "settings.xml").write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors><mirror><mirrorOf>*</mirrorOf>'
        f"<url>http://127.0.0.1:{server.server_port}/</url></mirror></mirrors></settings>"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("M2_REPO", raising=False)
    yield served
    server.shutdown()
    server.server_close()


def test_jars_come_from_a_mirror_and_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Path, jars: list[str]
) -> None:
    smallest = sorted(wanted(), key=lambda jar: jar.size)[:3]
    monkeypatch.setattr("deploy.infrastructure.kafka.wanted", lambda: smallest)
    cache = tmp_path / "cache"
    said: list[str] = []

    def place(jar: Jar, root: Path) -> Path:
        name = f"{jar.artifact}-{jar.version}.jar"
        path = root / jar.group.replace(".", "/") / jar.artifact / jar.version / name
        path.parent.mkdir(parents=True)
        path.write_bytes(next(Path(known) for known in jars if Path(known).name == name).read_bytes())
        return path

    for jar in smallest:
        place(jar, mirror)
    # One jar that a killed download cut off.
    place(smallest[0], cache / "maven").write_bytes(b"PK")
    class_path = fetch(cache, said.append)
    assert [Path(path).stat().st_size for path in class_path.split(":")] == [jar.size for jar in smallest]
    assert said
    assert "downloading Apache Kafka" in said[0]

    for file in mirror.rglob("*.jar"):
        file.write_bytes(b"something else")
    assert fetch(cache) == class_path  # no network is needed any more
    with pytest.raises(InfrastructureError, match="checksum"):
        fetch(tmp_path / "other")


async def test_without_a_network_it_says_what_to_do(tmp_path: Path, mirror: Path) -> None:
    settings = tmp_path / "home" / ".m2" / "settings.xml"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        old = settings.read_text().split("<url>")[1].split("</url>")[0]
        settings.write_text(settings.read_text().replace(old, f"http://127.0.0.1:{unused.getsockname()[1]}"))
    with pytest.raises(InfrastructureError) as caught:
        await EmbeddedKafka(tmp_path / "data", cache=tmp_path / "cache").start()
    assert "cannot be downloaded" in str(caught.value)
    assert "STARS_KAFKA=host:port" in str(caught.value)


async def test_any_folder_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "with spaces, é and 100% 'more'" / ("long" * 30) / ("longer" * 20)
    assert len(str(folder)) > 250
    async with infrastructure(Settings(), folder, lambda line: None, postgres_settings={"fsync": "off"}) as found:
        await insert(found.postgres, "ö")
        assert await rows(found.postgres) == ["ö"]
        await create_topic(found.kafka)
        postmaster = int((folder / "postgres.pid").read_text())
        if os.geteuid() == 0:
            assert os.stat(f"/proc/{postmaster}").st_uid != 0
        connection = await asyncpg.connect(found.postgres)
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        assert await connection.fetchval("SHOW fsync") == "off"
        assert await connection.fetchval("SELECT lower('ÄÖ') COLLATE \"default\"") == "äö"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(found.postgres.replace("postgres:", "postgres:x"))
    assert {file.name for file in (folder / "logs").iterdir()} == {"kafka.log", "postgres.log"}


async def test_a_failed_start_stops_the_other(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="unrecognized configuration parameter"):
        async with infrastructure(Settings(), tmp_path, lambda line: None, postgres_settings={"nonsense": "1"}):
            pass
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".pid")]


async def test_what_the_environment_names_is_taken(tmp_path: Path) -> None:
    said: list[str] = []
    named = Settings(kafka="broker:9092", postgres="postgresql://me:hidden@database:5433/stars")
    async with infrastructure(named, tmp_path / "none", said.append, docker=True) as found:
        assert (found.kafka, found.postgres) == (named.kafka, named.postgres)
    assert said == ["Kafka at broker:9092, PostgreSQL at database:5433/stars"]
    assert not (tmp_path / "none").exists()


async def test_one_for_a_test_session() -> None:
    running = await asyncio.to_thread(start_for_tests)
    try:
        await insert(running.postgres, "here")
        await create_topic(running.kafka)
        assert "PostgreSQL" in running.described
    finally:
        await asyncio.to_thread(running.stop)
    assert running.process.returncode == 0


@pytest.mark.parametrize("which", [EmbeddedKafka, EmbeddedPostgres])
async def test_a_port_that_was_taken_just_before_the_start_is_given_up_for_another(
    tmp_path: Path,
    which: type[EmbeddedKafka | EmbeddedPostgres],
    stoppable: list[EmbeddedKafka | EmbeddedPostgres],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = processes.port_for
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        taken = somebody.getsockname()[1]
        found = iter([taken])
        monkeypatch.setattr(processes, "port_for", lambda file: next(found, None) or looked(file))
        server = which(tmp_path)
        stoppable.append(server)
        address = await server.start()
        assert str(taken) not in address
        assert server.pid is not None
