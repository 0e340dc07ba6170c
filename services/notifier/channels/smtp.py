"""E-mail over SMTP, on kept connections.

aiosmtplib does what is delicate: connecting, STARTTLS, certificates, authentication. The transactions are our own, on
the connection that it made: the commands of a message go out together where the server advertises PIPELINING, and it is
known at every moment whether the final dot was sent, which aiosmtplib's one exception for a lost connection does not
tell. That is worth five times the messages a second.
"""

import asyncio
import logging
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from services.notifier.breaker import Breaker
from services.notifier.channels import Attempts, Outcome, Ready, traced
from services.notifier.mail import Composer, Mail, NotAnAddress

log = logging.getLogger(__name__)

CONNECT_SECONDS, REPLY_SECONDS, FINAL_SECONDS = 20.0, 60.0, 300.0
IDLE_SECONDS = 10.0
"""A connection that rested longer is asked with NOOP whether it is still there."""
MOST_MESSAGES, MOST_SECONDS = 1000, 600.0
MOST_REPLY = 32 * 1024

Phase = Literal["connect", "mail", "rcpt", "data", "dot"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463), where there is one."""
        found = re.match(r"[245]\.\d{1,3}\.\d{1,3}(?= |$)", self.text)
        return found[0] if found else None

    @property
    def brief(self) -> str:
        """The codes alone: the words may hold an address."""
        return f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means: for the delivery, and for what we think of the provider."""

    result: Literal["accepted", "retry", "bounced"]
    suppress: bool = False
    ours: bool = False
    """Our credentials or our reputation: nobody is to be blamed but us."""
    slow: bool = False
    close: bool = False


NOBODY_THERE = re.compile(r"5\.1\.(1|2|3|6|10)$")


def verdict(phase: Phase, reply: Reply) -> Verdict:
    """What a reply in this phase of a transaction means."""
    code, enhanced = reply.code, reply.enhanced or ""
    if 200 <= code < 300:
        return Verdict("accepted")
    if code == 421:
        return Verdict("retry", close=True)
    if code in (530, 534, 535, 538) or enhanced.startswith("5.7.") or enhanced in ("5.1.7", "5.1.8"):
        return Verdict("retry", ours=True)
    if 400 <= code < 500:
        return Verdict("retry", slow=(code == 454 and phase == "dot") or enhanced.startswith("4.7."))
    if phase in ("connect", "mail"):
        return Verdict("retry", ours=True)
    if NOBODY_THERE.match(enhanced) or (not enhanced and phase == "rcpt" and code in (550, 551, 553)):
        return Verdict("bounced", suppress=True)
    return Verdict("bounced")


class Lost(Exception):
    """The connection broke, or the server spoke no SMTP."""


class Wire(asyncio.Protocol):
    """An established connection: bytes out, replies in, in their order."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost: str | None = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > MOST_REPLY:
            self._fail("a reply that has no end")
            return
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in map(bytes.rstrip, map(bytes, lines)):
            if not (line[:3].isdigit() and line[:1] in b"2345" and line[3:4] in b" -"):
                self._fail("a reply that is none")
                return
            self._lines.append(line)
            if line[3:4] != b"-":
                text = b" ".join(one[4:].strip() for one in self._lines)
                self._replies.append(Reply(int(line[:3]), text.decode("utf-8", "replace")[:1000]))
                self._lines.clear()
            elif len(self._lines) > 100:
                self._fail("a reply of too many lines")
                return
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or (f"the connection broke: {type(exc).__name__}" if exc else "the server hung up")
        self._wake()

    def eof_received(self) -> bool:
        return False

    def _fail(self, why: str) -> None:
        self._lost = why
        if self.transport is not None:
            self.transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def write(self, data: bytes) -> None:
        """Send. Raises Lost where the connection is known to be broken."""
        if self._lost is not None or self.transport.is_closing():
            raise Lost(self._lost or "the connection was closed")
        self.transport.write(data)

    async def read(self, seconds: float) -> Reply:
        """The next reply. Raises Lost, also where none came in time."""
        if not self._replies:
            loop = asyncio.get_running_loop()
            late = loop.call_later(seconds, self._fail, "no reply in time")
            try:
                while not self._replies:
                    if self._lost is not None:
                        raise Lost(self._lost)
                    self._waiter = loop.create_future()
                    await self._waiter
            finally:
                self._waiter = None
                late.cancel()
        return self._replies.popleft()

    @property
    def usable(self) -> bool:
        """Whether it is not known to be broken."""
        return self._lost is None and not self.transport.is_closing()


class Session:
    """A connection that is ready for transactions."""

    def __init__(self, client: aiosmtplib.SMTP, wire: Wire) -> None:
        self._client, self._wire = client, wire
        self._pipelining = client.supports_extension("pipelining")
        self._size = client.supports_extension("size")
        self._dirty = False
        self._born = self._used = time.monotonic()
        self.messages = 0

    @property
    def usable(self) -> bool:
        """Whether it may serve another message."""
        young = time.monotonic() - self._born < MOST_SECONDS and self.messages < MOST_MESSAGES
        return young and self._wire.usable

    async def alive(self) -> bool:
        """Whether the server still answers; asked only where the connection has rested."""
        if time.monotonic() - self._used < IDLE_SECONDS:
            return self.usable
        try:
            self._wire.write(b"NOOP\r\n")
            return (await self._wire.read(5)).code == 250
        except Lost:
            return False

    async def send(self, mail: Mail) -> tuple[Phase, Reply]:
        """One transaction: the phase in which it ended, and the reply. Raises Lost where it surely was not sent, and
        ``MaybeSent`` where the connection broke after the message had gone out."""
        wire = self._wire
        self.messages += 1
        self._used = time.monotonic()
        size = f" SIZE={len(mail.raw)}" if self._size else ""
        commands: list[tuple[Phase, bytes]] = [
            ("mail", f"MAIL FROM:<{mail.sender}>{size}\r\n".encode("ascii")),
            ("rcpt", f"RCPT TO:<{mail.recipient}>\r\n".encode("ascii")),
            ("data", b"DATA\r\n"),
        ]
        if self._dirty:
            wire.write(b"RSET\r\n")
            await wire.read(REPLY_SECONDS)
        self._dirty = True
        refused: tuple[Phase, Reply] | None = None
        if self._pipelining:
            wire.write(b"".join(command for _, command in commands))
        for phase, command in commands:
            if not self._pipelining:
                if refused is not None:
                    return refused
                wire.write(command)
            reply = await wire.read(REPLY_SECONDS)
            good = reply.code == 354 if phase == "data" else 200 <= reply.code < 300
            if not good and refused is None:
                refused = (phase, reply)
                if reply.code == 421:
                    return refused
            if phase == "data" and good and refused is not None:
                # It waits for a message although it takes no recipient: an empty one, which it must refuse.
                wire.write(b".\r\n")
                await wire.read(REPLY_SECONDS)
        if refused is not None:
            return refused
        wire.write(mail.raw + b".\r\n")
        try:
            reply = await wire.read(FINAL_SECONDS)
        except Lost as lost:
            raise MaybeSent(str(lost)) from None
        self._dirty = not 200 <= reply.code < 300
        self._used = time.monotonic()
        return "dot", reply

    def close(self) -> None:
        """Say good-bye, without waiting for an answer."""
        with suppress(Lost, RuntimeError):
            self._wire.write(b"QUIT\r\n")
        if self._wire.transport is not None:
            self._wire.transport.close()


class MaybeSent(Exception):
    """The connection broke between the final dot and its reply: nobody can know (RFC 1047)."""


@dataclass(frozen=True)
class Account:
    """A provider, as the settings name it: ``smtp://user:password@host:port?connections=8``."""

    host: str
    port: int
    tls: Literal["implicit", "required", "offered", "never"]
    user: str | None = None
    password: str | None = None
    connections: int = 8

    @property
    def name(self) -> str:
        """How it is called on the desk and in the logs: without its credentials."""
        return f"smtp://{self.host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> "Account":
        """Read a URL. ``smtp``: TLS where it is offered; ``smtp+starttls``: never without; ``smtps``: from the first
        byte on; ``smtp+plain``: never. Raises ValueError, without repeating the URL, which holds a password."""
        try:
            parts = urlsplit(url)
            schemes: dict[str, tuple[Any, int]] = {
                "smtp": ("offered", 25),
                "smtp+starttls": ("required", 587),
                "smtps": ("implicit", 465),
                "smtp+plain": ("never", 25),
            }
            tls, port = schemes[parts.scheme]
            connections = int(parse_qs(parts.query).get("connections", ["8"])[0])
            if not parts.hostname or not 1 <= connections <= 100:
                raise ValueError
            return cls(
                parts.hostname,
                parts.port or port,
                tls,
                unquote(parts.username) if parts.username else None,
                unquote(parts.password) if parts.password else None,
                connections,
            )
        except (ValueError, KeyError):
            raise ValueError(
                "STARS_SMTP: not smtp://, smtp+starttls://, smtps:// or smtp+plain:// with a host, and at most"
                " ?connections=N"
            ) from None

    async def connect(self, local_name: str, context: ssl.SSLContext | None = None) -> Session:
        """A connection that is encrypted and authenticated as it should be. Raises what aiosmtplib raises, OSError."""
        start_tls = {"required": True, "offered": None}.get(self.tls, False)
        client = aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            use_tls=self.tls == "implicit",
            start_tls=start_tls,
            tls_context=context,
            local_hostname=local_name,
            timeout=CONNECT_SECONDS,
        )
        await client.connect()
        try:
            if self.user is not None:
                encrypted = client.get_transport_info("sslcontext") is not None
                if not encrypted and self.host not in ("localhost", "127.0.0.1", "::1"):
                    raise aiosmtplib.SMTPAuthenticationError(538, "5.7.11 no password goes over an open line")
                await client.login(self.user, self.password or "")
            elif client.is_ehlo_or_helo_needed:
                await client.ehlo()
            protocol = client.protocol
            transport: Any = protocol.transport if protocol is not None else None
            if transport is None or transport.is_closing():
                raise aiosmtplib.SMTPServerDisconnected("the server hung up")
        except BaseException:
            client.close()
            raise
        wire = Wire()
        wire.transport = transport
        transport.set_protocol(wire)
        return Session(client, wire)


class Provider:
    """An account with its breaker and its connections."""

    def __init__(self, account: Account, local_name: str, context: ssl.SSLContext | None) -> None:
        self.account, self._local_name, self._context = account, local_name, context
        self.breaker = Breaker(account.name)
        self._idle: dict[bool, list[Session]] = {True: [], False: []}
        # One connection is kept for what is urgent: nothing else can hold it up.
        self._slots = {True: asyncio.Semaphore(1), False: asyncio.Semaphore(account.connections)}

    def slot(self, urgent: bool) -> asyncio.Semaphore:
        """What limits the number of connections."""
        return self._slots[urgent]

    async def session(self, urgent: bool) -> tuple[Session, bool]:
        """A connection, and whether it is a new one."""
        idle = self._idle[urgent]
        while idle:
            session = idle.pop()
            if session.usable and await session.alive():
                return session, False
            session.close()
        return await self.connect(), True

    async def connect(self) -> Session:
        """A new connection. Raises what aiosmtplib raises, OSError."""
        return await self.account.connect(self._local_name, self._context)

    def give_back(self, session: Session, urgent: bool) -> None:
        """Keep a connection for later."""
        if session.usable:
            self._idle[urgent].append(session)
        else:
            session.close()

    def close(self) -> None:
        """Close what is idle."""
        for sessions in self._idle.values():
            while sessions:
                sessions.pop().close()


class SmtpChannel:
    """E-mail over one provider, or over the next one while the first takes nothing."""

    name = "email"

    def __init__(
        self,
        accounts: Sequence[Account],
        composer: Composer,
        on_change: Callable[[Breaker], None] = lambda breaker: None,
        *,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._composer, self._on_change, self._clock = composer, on_change, clock
        self.providers = [Provider(account, composer.domain, context) for account in accounts]

    def available(self) -> bool:
        """Whether a provider takes anything."""
        return self._provider() is not None

    def _provider(self) -> Provider | None:
        now = self._clock()
        return next((one for one in self.providers if one.breaker.allows(now)), None)

    async def deliver(self, batch: Sequence[Ready], attempts: Attempts, *, urgent: bool) -> None:
        """Send a batch over as many connections as there are; what the breaker holds back is left unreported."""
        provider = self._provider()
        if provider is None:
            return
        queue = deque(batch)
        while queue and provider.breaker.probe(self._clock()):
            try:
                await self._work(provider, deque([queue.popleft()]), attempts, urgent)
            finally:
                provider.breaker.probing = False
        workers = 1 if urgent else min(provider.account.connections, len(queue))
        await asyncio.gather(*(self._work(provider, queue, attempts, urgent) for _ in range(workers)))

    async def _work(self, provider: Provider, queue: deque[Ready], attempts: Attempts, urgent: bool) -> None:
        async with provider.slot(urgent):
            session: Session | None = None
            try:
                while queue and not provider.breaker.is_open(self._clock()):
                    if provider.breaker.rest > 0.01 and not urgent:
                        await asyncio.sleep(provider.breaker.rest)
                    ready = queue.popleft()
                    session = await self._one(provider, session, ready, attempts, urgent)
            finally:
                if session is not None:
                    provider.give_back(session, urgent)

    async def _one(
        self, provider: Provider, session: Session | None, ready: Ready, attempts: Attempts, urgent: bool
    ) -> Session | None:
        """One delivery, on the connection that there is or on another. Returns the connection to go on with."""
        try:
            mail = self._composer.mail(ready)
        except NotAnAddress as error:
            outcome = Outcome("bounced", "not-an-address", str(error), address=ready.address, suppress=True)
            await attempts.finish(ready, outcome)
            return session
        fresh = False
        try:
            if session is None or not session.usable:
                if session is not None:
                    session.close()
                session, fresh = await provider.session(urgent)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            await attempts.finish(ready, self._no_connection(provider, error))
            return None
        if not await attempts.begin(ready):
            return session
        with traced("email", ready, provider.account.name):
            try:
                session, phase, reply = await self._try(provider, session, mail, fresh)
            except MaybeSent as error:
                session.close()
                self._failed(provider, "the connection breaks after messages")
                outcome = Outcome("unknown", "no-reply-after-dot", str(error), provider.account.name, ready.address)
                await attempts.finish(ready, outcome)
                return None
            except (Lost, aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                session.close()
                await attempts.finish(ready, self._no_connection(provider, error))
                return None
        return await self._said(provider, session, ready, attempts, phase, reply)

    async def _try(self, provider: Provider, session: Session, mail: Mail, fresh: bool) -> tuple[Session, Phase, Reply]:
        """Send; once more on a new connection where a kept one turned out to be gone before anything was sent."""
        try:
            return session, *(await session.send(mail))
        except Lost:
            if fresh and session.messages <= 1:
                raise
        session.close()
        another = await provider.connect()
        try:
            return another, *(await another.send(mail))
        except (Lost, MaybeSent):
            another.close()
            raise

    async def _said(
        self, provider: Provider, session: Session, ready: Ready, attempts: Attempts, phase: Phase, reply: Reply
    ) -> Session | None:
        found = verdict(phase, reply)
        name, breaker = provider.account.name, provider.breaker
        if found.ours:
            self._failed(provider, f"{reply.brief} at {phase}", at_once=True)
        elif found.close:
            self._failed(provider, reply.brief)
        elif breaker.slow_down() if found.slow else breaker.succeeded():
            self._on_change(breaker)
        detail = f"{phase}: {reply.code} {reply.text}"
        outcome = Outcome(found.result, reply.brief, detail, name, ready.address, suppress=found.suppress)
        if found.result == "accepted":
            outcome = Outcome("accepted", None, detail, name, ready.address)
        await attempts.finish(ready, outcome)
        if found.close:
            session.close()
            return None
        return session

    def _no_connection(self, provider: Provider, error: Exception) -> Outcome:
        code = getattr(error, "code", None)
        at_once, reason = False, "no-connection"
        if isinstance(code, int):
            reply = Reply(code, str(getattr(error, "message", "")))
            ours = isinstance(error, aiosmtplib.SMTPAuthenticationError) or verdict("connect", reply).ours
            at_once, reason = ours and code >= 500, reply.brief
        detail = f"{type(error).__name__}: {error}"
        self._failed(provider, reason, at_once=at_once)
        return Outcome("retry", reason, detail, provider.account.name)

    def _failed(self, provider: Provider, reason: str, *, at_once: bool = False) -> None:
        if provider.breaker.failed(self._clock(), reason, at_once=at_once):
            log.error("%s takes nothing, it is left alone for a while: %s", provider.account.name, reason)
            self._on_change(provider.breaker)

    async def close(self) -> None:
        """Close the connections."""
        for provider in self.providers:
            provider.close()
