"""The HTTP server around a process."""

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

T = TypeVar("T")

GRACE_SECONDS = 10
"""How long requests under way may take to finish when the server stops."""

KEEP_ALIVE_SECONDS = 65
"""Longer than the 60 s of common load balancers, or they reuse a connection that we are just closing."""


class PortTaken(RuntimeError):
    """Another program listens there already."""


class StartFailed(RuntimeError):
    """It cannot be served; the message says why, or that the log does."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        await super().shutdown(sockets=sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again after its own shutdown, which would end the program before the rest of it
        # (embedded Kafka and PostgreSQL) is closed. Here serve() simply returns.
        loop = asyncio.get_running_loop()
        taken: list[signal.Signals] = []
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):
                    loop.add_signal_handler(number, self.handle_exit, number, None)
                    taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The second one, of either kind, no longer waits for requests.
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet. Port 0 takes a free one. Raises PortTaken, StartFailed."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(host, port, error) from None
    try:
        # So that a restart need not wait for the connections of before to be forgotten (TIME_WAIT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(host, port) from None
        raise _unusable(host, port, error) from None
    return sock


def _taken(host: str, port: int) -> PortTaken:
    return PortTaken(f"port {port} on {host} is taken by another program; choose another one, or 0 for any free one")


def _unusable(host: str, port: int, error: OSError) -> StartFailed:
    return StartFailed(f"cannot listen on {host}, port {port}: {error.strerror}; look at STARS_HOST and STARS_PORT")


def _url(host: str, port: int) -> str:
    """Where a program on this machine finds the server."""
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


async def serve(app: ASGIApp, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT, SIGTERM or cancellation; then stop accepting, let requests finish for 10 s, close the app.

    ``ready(url)`` is called once it listens and the application's lifespan is up. Raises PortTaken, StartFailed.
    """
    sock = bind(host, port)
    url = _url(host, sock.getsockname()[1])
    config = uvicorn.Config(
        app,
        http="auto",
        ws="none",
        lifespan="on",
        # Our own line has the route, the trace and no query string.
        access_log=False,
        log_config=None,
        server_header=False,
        # The process itself knows which proxies to believe.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    stop: Callable[[], None] = getattr(app, "stop", lambda: None)
    server = _Server(config, lambda: ready(url) if ready is not None else None, stop)
    task = asyncio.create_task(_serve(server, sock, host))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        # uvicorn's own loop, cancelled, would drop requests and never close the application.
        server.should_exit = True
        if not task.done():
            await asyncio.wait([task])
        raise
    finally:
        sock.close()


async def _serve(server: _Server, sock: socket.socket, host: str) -> None:
    try:
        await server.serve(sockets=[sock])
    except SystemExit:
        # uvicorn's way to say that the lifespan failed. As it is, asyncio would end the program on the spot.
        raise StartFailed("a service could not start; the log says which and why") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            # Two programs bound it at the same time, and the other one was the first to listen.
            raise _taken(host, sock.getsockname()[1]) from None
        raise


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on uvloop, where there is one."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
