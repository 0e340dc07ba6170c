"""The data folder of an instance: who has it, its keys, and where its services are to be found."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from deploy.infrastructure.processes import InfrastructureError

LOCK = "lock"
INFO = "instance.json"


class AlreadyRunning(InfrastructureError):
    """Another process has the folder. The message names it."""


@dataclass(frozen=True)
class InstanceInfo:
    """What other commands need to know of a running instance. Kafka's servers and the DSN are a superuser's."""

    url: str
    kafka: str
    postgres: str
    secret: str  # path of the file with the key of bearer tokens
    pid: int


class Instance:
    """An open data folder; nobody else can open it until it is closed or our process ends, however it ends."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self.secret = _key(folder / "secret")
        self.erasure_key = _key(folder / "erasure_key")

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> Iterator["Instance"]:
        """Create FOLDER if need be and hold it. Raises AlreadyRunning, or InfrastructureError if it is not usable."""
        folder = folder.absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise InfrastructureError(f"{folder} cannot be used as a data folder: {error.strerror}") from error
        try:
            if not _try_lock(lock, fcntl.LOCK_EX, seconds=0.5):
                raise AlreadyRunning(_who(folder))
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
            # A killed run may have left its own.
            (folder / INFO).unlink(missing_ok=True)
            try:
                yield cls(folder, lock)
            finally:
                (folder / INFO).unlink(missing_ok=True)
        finally:
            os.close(lock)

    def ready(self, url: str, kafka: str, postgres: str) -> InstanceInfo:
        """Tell other commands where everything is."""
        info = InstanceInfo(url, kafka, postgres, str(self.folder / "secret"), os.getpid())
        _write(self.folder / INFO, json.dumps(asdict(info), indent=2) + "\n")
        return info

    @staticmethod
    def find(folder: Path) -> InstanceInfo | None:
        """The instance that runs in FOLDER and is ready, or None."""
        folder = folder.absolute()
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except OSError:
            return None
        try:
            # Shared, so that two that look do not see each other.
            if _try_lock(lock, fcntl.LOCK_SH):
                return None
            found: dict[str, Any] = json.loads((folder / INFO).read_text())
            return InstanceInfo(**{field.name: found[field.name] for field in fields(InstanceInfo)})
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or another version's that says too little.
            return None
        finally:
            os.close(lock)


def _try_lock(lock: int, kind: int, seconds: float = 0) -> bool:
    end = time.monotonic() + seconds  # those that look hold it for a moment
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)


def _who(folder: Path) -> str:
    if info := Instance.find(folder):
        return f"Constellation already runs on {folder}: process {info.pid}, {info.url}"
    pid = (folder / LOCK).read_text().strip()
    return f"Constellation is already starting or stopping on {folder}: process {pid or 'unknown'}, no URL yet"


def _key(file: Path) -> str:
    """The random key that FILE keeps, 32 bytes in hexadecimal; made once."""
    if not file.exists():
        _write(file, secrets.token_hex(32) + "\n")
    return file.read_text().strip()


def _write(file: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
