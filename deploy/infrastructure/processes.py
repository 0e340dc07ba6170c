"""Children that do not outlive us, and what a killed run left behind."""

import asyncio
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL = 0.02  # seconds between two looks at a process
GUARD = Path(__file__).with_name("guard.py")
LOG_BYTES = 10_000_000  # a log larger than this is put aside at the next start


class InfrastructureError(RuntimeError):
    """Kafka or PostgreSQL cannot be had. The message says in plain words what is missing and what to do."""


@dataclass(frozen=True)
class User:
    """Whom a child runs as."""

    uid: int
    gid: int


def guarded(argv: Sequence[str], death_signal: signal.Signals = signal.SIGKILL, user: User | None = None) -> list[str]:
    """ARGV as a command that gets DEATH_SIGNAL when the thread that started it ends (Linux), and runs as USER."""
    who = [str(user.uid), str(user.gid)] if user else ["-1", "-1"]
    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(int(death_signal)), *who, *argv]


@dataclass
class Child:
    """A running program whose output goes to a log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    pid_file: Path

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        cwd: Path,
        death_signal: signal.Signals,
        user: User | None = None,
    ) -> "Child":
        """Start ARGV with FOLDER/logs/NAME.log and FOLDER/NAME.pid.

        It is in a session of its own, so that Ctrl-C in a terminal reaches only us, who stop the children in order.
        Call it from a thread that lives as long as the child shall: the kernel watches the thread, not the process.
        """
        log = folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.old"))
        with log.open("ab") as output:
            process = subprocess.Popen(
                guarded(argv, death_signal, user),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                # The C locale cannot name files that are not ASCII.
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        pid_file = folder / f"{name}.pid"
        pid_file.write_text(f"{process.pid}\n")
        return cls(name, process, log, pid_file)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ready(self, test: Callable[[], bool], deadline: float) -> None:
        """Wait until TEST says yes. Raises InfrastructureError if it ends first or DEADLINE seconds pass."""
        end = time.monotonic() + deadline
        while not await asyncio.to_thread(test):
            if self.process.poll() is not None:
                raise InfrastructureError(
                    f"{self.name} ended with status {self.process.returncode}; {self.last_words()}"
                )
            if time.monotonic() > end:
                raise InfrastructureError(f"{self.name} is not ready after {deadline:.0f} s; {self.last_words()}")
            await asyncio.sleep(POLL)

    def last_words(self) -> str:
        """The end of the log, for an error message."""
        return f"the end of {self.log}:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    async def stop(self, with_signal: signal.Signals, deadline: float) -> None:
        """Ask it to stop; after DEADLINE seconds kill it."""
        try:
            self.process.send_signal(with_signal)
            end = time.monotonic() + deadline
            while self.process.poll() is None and time.monotonic() < end:
                await asyncio.sleep(POLL)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL it and its children, and wait for their end. Does nothing to a program that has ended."""
        family = [self.pid, *_children(self.pid)] if self.process.poll() is None else []
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self.process.wait()
        _await_end(family)
        self.pid_file.unlink(missing_ok=True)


async def run(argv: Sequence[str], cwd: Path, name: str) -> None:
    """Run ARGV to its end. Raises InfrastructureError with what it said if it fails; NAME is for that message."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    if process.returncode:
        raise InfrastructureError(f"{name} failed:\n{output.decode(errors='replace').strip()}")


def clear_leftovers(folder: Path, names: Sequence[str] = ("kafka", "postgres"), deadline: float = 5) -> list[int]:
    """Kill what a killed run left in FOLDER, and return the process ids that had to be killed.

    Only for the holder of the folder's lock: it cannot tell a leftover from a child of another live run.
    A process counts as left over if FOLDER/NAME.pid names it and its command line names FOLDER (its id may by now
    belong to somebody else), or if it is a PostgreSQL process whose working folder lies in FOLDER.
    """
    left = []
    for name in names:
        pid_file = folder / f"{name}.pid"
        if pid_file.exists():
            pid = _number(pid_file)
            if pid and str(folder) in _command_line(pid):
                left += [pid, *_children(pid)]
            pid_file.unlink()
    if "postgres" in names:
        left += [pid for pid in _pids() if pid not in left and _is_orphaned_backend(pid, folder)]
    # They may be ending by themselves: PostgreSQL gets a signal to stop at once when its parent dies.
    _await_end(left, deadline / 2)
    killed = [pid for pid in left if _alive(pid)]
    for pid in killed:
        _signal(pid, signal.SIGKILL)
    _await_end(left, deadline / 2)
    return killed


def port_for(file: Path) -> int:
    """The port that FILE remembers, if nobody listens there now; else a free one, which FILE then remembers."""
    if 0 < (port := _number(file)) < 65_536 and is_free(port):
        return port
    port = free_port()
    file.write_text(f"{port}\n")
    return port


async def on_free_ports(files: Sequence[Path], start: Callable[..., Awaitable[str]], attempts: int = 3) -> str:
    """START a server on the ports that FILES remember, and where somebody took one before it listened, on others.

    START leaves nothing behind when it raises.
    """
    while True:
        attempts -= 1
        ports = [port_for(file) for file in files]
        try:
            return await start(*ports)
        except InfrastructureError:
            if not attempts or all(map(is_free, ports)):
                raise


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens. Raises InfrastructureError if there is none.

    It lies below what systems give to outgoing connections, so that none of those takes it while the server is down.
    """
    for port in random.sample(range(20_000, 32_000), 200):
        if is_free(port):
            return port
    raise InfrastructureError("no free TCP port on 127.0.0.1 between 20000 and 32000")


def is_free(port: int) -> bool:
    """Whether a server can listen on PORT of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _number(file: Path) -> int:
    """The number that FILE holds; 0 where there is none, as a full disk or a kill may leave it."""
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _alive(pid: int) -> bool:
    """Whether PID runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not Path("/proc/self").exists() and _signal(pid, 0)


def _await_end(pids: Sequence[int], deadline: float = 5) -> None:
    end = time.monotonic() + deadline
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(POLL)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()] if Path("/proc/self").exists() else []


def _command_line(pid: int) -> str:
    """The arguments of a process with spaces between, or nothing if there is none. Elsewhere than on Linux, by ps."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def _children(pid: int) -> list[int]:
    found = []
    for candidate in _pids():
        try:
            if int(Path(f"/proc/{candidate}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(candidate)
        except OSError:
            continue
    return found


def _is_orphaned_backend(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres" and Path(
            os.readlink(f"/proc/{pid}/cwd")
        ).is_relative_to(folder)
    except OSError:
        return False
