"""Mail servers of the tests: Debian's smtp-sink where it is there, and a small scripted one for what it cannot play."""

import asyncio
import base64
import contextlib
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.infrastructure.processes import free_port, guarded

SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin:/usr/local/sbin") or shutil.which("smtp-sink")
needs_sink = pytest.mark.skipif(SINK is None, reason="smtp-sink is not here (Debian: postfix)")


@contextlib.contextmanager
def smtp_sink(*options: str, dump: bool = False) -> Iterator[tuple[int, Path]]:
    """An smtp-sink with these options; its port, and the file that messages are appended to (``dump``)."""
    assert SINK is not None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="stars-sink-") as folder:
        Path(folder).chmod(0o777)
        file = Path(folder) / "mails"
        command = [SINK, "-u", "nobody", *options, *(["-D", str(file)] if dump else []), f"127.0.0.1:{port}", "1000"]
        process = subprocess.Popen(
            guarded(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            end = time.monotonic() + 10
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, "smtp-sink ended by itself"
                assert time.monotonic() < end, "smtp-sink does not listen"
                time.sleep(0.02)
            yield port, file
        finally:
            process.kill()
            process.wait()


@dataclass
class Server:
    """A scripted SMTP server. ``answer`` is asked at each step (connect, EHLO, MAIL, RCPT, DATA, ., …) for a reply:
    None is the usual one, "hang up" none at all."""

    answer: Callable[[str, str], str | None] = lambda step, line: None
    pipelining: bool = True
    context: ssl.SSLContext | None = None
    password: str | None = None
    pause: float = 0.0
    """Seconds that it takes at most to queue a message."""
    port: int = 0
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    connections: int = 0
    commands: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._session(reader, writer)
        writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients, encrypted, known = "", list[str](), False, self.password is None

        async def say(step: str, usual: str, line: str = "", queue: Callable[[], None] = lambda: None) -> bool:
            reply = self.answer(step, line)
            if reply is None or reply[0] == "2":
                # What is taken is taken, whoever is still there to hear of it.
                queue()
            reply = reply or usual
            if step == "." and self.pause:
                await asyncio.sleep(random.uniform(0, self.pause))
            if reply == "hang up":
                raise ConnectionError
            writer.write(reply.encode() + b"\r\n")
            await writer.drain()
            return reply[0] in "23"

        if not await say("connect", "220 test ESMTP"):
            return
        while line := (await reader.readuntil(b"\n")).decode("ascii").strip():
            self.commands.append(line)
            verb = line.split(" ")[0].split(":")[0].upper()
            if verb in ("EHLO", "HELO"):
                more = ["PIPELINING"] if self.pipelining else []
                more += ["STARTTLS"] if self.context and not encrypted else []
                more += ["AUTH PLAIN"] if self.password else []
                lines = ["test", *more, "SIZE 1000000"]
                text = "\r\n".join(f"250{'-' if n < len(lines) - 1 else ' '}{one}" for n, one in enumerate(lines))
                await say("EHLO", text)
            elif verb == "STARTTLS" and self.context:
                await say("STARTTLS", "220 go")
                await writer.start_tls(self.context)
                encrypted = True
            elif verb == "AUTH":
                parts = base64.b64decode(line.split(" ")[2]).split(b"\0")
                good = parts[2].decode() == self.password
                known = await say("AUTH", "235 2.7.0 ok" if good else "535 5.7.8 no") and good
            elif verb == "MAIL":
                sender, recipients = line, []
                await say("MAIL", "250 2.1.0 ok" if known else "530 5.7.0 who are you?", line)
            elif verb == "RCPT":
                if await say("RCPT", "250 2.1.5 ok", line):
                    recipients.append(line)
            elif verb == "DATA":
                if not recipients:
                    await say("DATA", "503 5.5.1 no recipients")
                elif await say("DATA", "354 go on"):
                    body = b""
                    while (part := await reader.readuntil(b"\n")) != b".\r\n":
                        body += part
                    self.commands.append(".")
                    mail = (sender, recipients, body)
                    await say(".", "250 2.0.0 queued", line, lambda mail=mail: self.mails.append(mail))
            elif verb == "QUIT":
                await say("QUIT", "221 bye")
                return
            else:
                await say(verb, "250 2.0.0 ok")


@asynccontextmanager
async def smtp_server(
    answer: Callable[[str, str], str | None] = lambda step, line: None,
    tls: ssl.SSLContext | None = None,
    **more: object,
) -> AsyncIterator[Server]:
    """A scripted server that listens. ``tls``: a context of the server, for TLS from the first byte."""
    server = Server(answer, **more)  # type: ignore[arg-type]
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
