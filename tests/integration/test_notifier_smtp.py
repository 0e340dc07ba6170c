"""E-mail over SMTP: what each reply and each break makes of a delivery, against smtp-sink and a scripted server."""

import asyncio
import datetime as dt
import email
import email.policy
import ssl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.notifier.channels.smtp import Account, Reply, SmtpChannel, verdict
from shared.postgres import Pool
from tests.notifier import World, composer, running
from tests.smtp import needs_sink, smtp_server, smtp_sink

Script = Callable[[str, str], str | None]


def at(step: str, reply: str) -> Script:
    return lambda found, line: reply if found == step else None


def channel(*ports: int, scheme: str = "smtp", user: str = "", context: ssl.SSLContext | None = None) -> SmtpChannel:
    accounts = [Account.of(f"{scheme}://{user}localhost:{port}?connections=4") for port in ports]
    return SmtpChannel(accounts, composer(), context=context)


async def told(pool: Pool, mails: SmtpChannel, members: int = 1, event: str = "milestone-reached") -> World:
    """A world in which so many members are told something, once."""
    world = World(pool, [mails])
    for n in range(members):
        await world.member(f"m{n}")
    more = {"board": "everyone", "kind": "first-place"} if event == "milestone-reached" else {"application_id": "a"}
    await world.happen(*(world.event(event, member_id=f"m{n}", **more) for n in range(members)))
    await world.turn()
    await mails.close()
    return world


async def state(world: World, member: str = "m0") -> tuple[str, str | None]:
    [one] = await world.deliveries(member, channel="email")
    return one["state"], one["reason"]


# --- The table of replies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "reply", "expected"),
    [
        ("dot", "250 2.0.0 queued", "accepted"),
        ("rcpt", "450 4.2.0 later", "retry"),
        ("rcpt", "451 4.7.1 greylisted", "retry slow"),
        ("dot", "454 4.3.0 throttled", "retry slow"),
        ("mail", "454 4.3.0", "retry"),
        ("mail", "421 4.3.2 closing", "retry close"),
        ("connect", "421 busy", "retry close"),
        ("rcpt", "550 5.1.1 nobody", "bounced suppress"),
        ("dot", "550 5.1.1 nobody", "bounced suppress"),
        ("rcpt", "550 nobody", "bounced suppress"),
        ("dot", "550 no", "bounced"),
        ("rcpt", "552 5.2.2 full", "bounced"),
        ("rcpt", "550 5.7.1 refused", "retry ours"),
        ("connect", "535 5.7.8 bad password", "retry ours"),
        ("mail", "530 5.7.0 authenticate", "retry ours"),
        ("mail", "553 sender", "retry ours"),
        ("rcpt", "550 5.1.8 your domain", "retry ours"),
        ("dot", "500 5.3.0 no", "bounced"),
        ("connect", "554 5.3.2 go away", "retry ours"),
    ],
)
def test_a_reply_means(phase: str, reply: str, expected: str) -> None:
    found = verdict(phase, Reply(int(reply[:3]), reply[4:]))  # type: ignore[arg-type]
    said = [found.result, *(name for name in ("suppress", "ours", "slow", "close") if getattr(found, name))]
    assert " ".join(said) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (at("RCPT", "450 4.2.0 later"), ("retry", "450 4.2.0")),
        (at("MAIL", "421 4.3.2 closing"), ("retry", "421 4.3.2")),
        (at("connect", "421 4.3.2 busy"), ("retry", "421 4.3.2")),
        (at("DATA", "451 4.3.0 later"), ("retry", "451 4.3.0")),
        (at(".", "454 4.7.0 throttled"), ("retry", "454 4.7.0")),
        (at("RCPT", "550 5.1.1 nobody"), ("bounced", "550 5.1.1")),
        (at(".", "552 5.2.2 full"), ("bounced", "552 5.2.2")),
        (at(".", "550 5.7.1 reputation"), ("retry", "550 5.7.1")),
        (at("RCPT", "hang up"), ("retry", "no-connection")),
        (at(".", "hang up"), ("unknown", "no-reply-after-dot")),
        (at("MAIL", "nonsense"), ("retry", "no-connection")),
        (at(".", "nonsense"), ("unknown", "no-reply-after-dot")),
        (at(".", "250-one\r\n250-two\r\n250 three"), ("accepted", None)),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_delivery_becomes(
    notifier_pool: Pool, script: Script, expected: tuple[str, str | None], pipelining: bool
) -> None:
    async with smtp_server(script, pipelining=pipelining) as server:
        world = await told(notifier_pool, channel(server.port))
    assert await state(world) == expected
    suppressed = await world.pool.fetchval("SELECT count(*) FROM suppression")
    assert suppressed == (1 if expected == ("bounced", "550 5.1.1") else 0)


async def test_a_recipient_who_is_refused_does_not_harm_the_next_one(notifier_pool: Pool) -> None:
    def script(step: str, line: str) -> str | None:
        return "550 5.1.1 nobody" if step == "RCPT" and "m3@" in line else None

    async with smtp_server(script) as server:
        world = await told(notifier_pool, channel(server.port), 8)
        assert len(server.mails) == 7
    assert [await state(world, f"m{n}") for n in range(8)] == [
        ("bounced", "550 5.1.1") if n == 3 else ("accepted", None) for n in range(8)
    ]


async def test_a_server_that_wants_a_message_without_recipients_gets_an_empty_one(notifier_pool: Pool) -> None:
    def script(step: str, line: str) -> str | None:
        if step == "RCPT":
            return "452 4.2.2 full"
        return "354 go on" if step == "DATA" else None

    async with smtp_server(script) as server:
        server_mails = server.mails
        world = await told(notifier_pool, channel(server.port))
        assert server_mails == [] or server_mails[0][1] == []
    assert await state(world) == ("retry", "452 4.2.2")


# --- smtp-sink ------------------------------------------------------------------------------------------------------


@needs_sink
@pytest.mark.parametrize(
    ("options", "event", "expected"),
    [
        (("-r", "."), "milestone-reached", ("retry", "450 4.3.0")),
        (("-f", "."), "milestone-reached", ("bounced", "500 5.3.0")),
        (("-q", "."), "milestone-reached", ("unknown", "no-reply-after-dot")),
        (("-q", "."), "quiz-passed", ("retry", "no-reply-after-dot")),
        (("-q", "RCPT"), "milestone-reached", ("retry", "no-connection")),
        (("-Q", "CONNECT"), "milestone-reached", ("retry", "421 4.0.0")),
        (("-w", "2"), "milestone-reached", ("accepted", None)),
        (("-a",), "milestone-reached", ("accepted", None)),
        (("-p",), "milestone-reached", ("accepted", None)),
    ],
)
async def test_smtp_sink_in_each_of_its_moods(
    notifier_pool: Pool, options: tuple[str, ...], event: str, expected: tuple[str, str | None]
) -> None:
    with smtp_sink(*options) as (port, _):
        world = await told(notifier_pool, channel(port), 3, event)
    states = Counter([await state(world, f"m{n}") for n in range(3)])
    assert states[expected] >= 1, states
    assert {(await state(world, f"m{n}"))[0] for n in range(3)} <= {expected[0], "pending"}


@needs_sink
async def test_what_smtp_sink_got_is_what_was_written(notifier_pool: Pool) -> None:
    with smtp_sink(dump=True) as (port, file):
        await told(notifier_pool, channel(port), 40)
        text = await asyncio.to_thread(_settled, file, 40)
    messages = [part for part in text.split(b"X-Client-Addr:") if part.strip()]
    assert len(messages) == 40
    recipients = set()
    for part in messages:
        message = email.message_from_bytes(b"X-Client-Addr:" + part, policy=email.policy.default)
        recipients.add(str(message["To"]))
        body = message.get_body(("plain",))
        assert body is not None
        assert "You are first on everyone's leaderboard" in body.get_content()
    assert recipients == {f"m{n}@mail.example" for n in range(40)}


def _settled(file: Path, count: int) -> bytes:
    end = time.monotonic() + 10
    while (text := file.read_bytes() if file.exists() else b"").count(b"X-Client-Addr:") < count:
        assert time.monotonic() < end
        time.sleep(0.05)
    return text


# --- Connections ----------------------------------------------------------------------------------------------------


async def test_connections_are_kept_and_so_many_as_was_said(notifier_pool: Pool) -> None:
    async with smtp_server() as server:
        mails = channel(server.port)
        await told(notifier_pool, mails, 60)
        assert len(server.mails) == 60
        assert server.connections <= 5
        assert len({mail[0].split(" ")[1] for mail in server.mails}) == 60, "an envelope address for each"


async def test_a_kept_connection_that_is_gone_is_replaced_without_a_loss(notifier_pool: Pool) -> None:
    async with smtp_server() as server:
        mails = channel(server.port)
        world = World(notifier_pool, [mails])
        await world.member("m0")
        for n in range(3):
            await world.happen(world.asked(f"t{n}", "m0"))
            if n == 1:  # the server forgets those who rest
                hung = iter([True])
                server.answer = lambda step, line, hung=hung: (
                    "hang up" if step == "MAIL" and next(hung, False) else None
                )
            await world.turn()
        assert [s for s, _ in await world.states("m0")] == ["accepted"] * 3
        assert len(server.mails) == 3
        await mails.close()


async def test_an_idle_connection_is_asked_whether_it_is_there(
    notifier_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.channels.smtp.IDLE_SECONDS", 0.0)
    async with smtp_server() as server:
        mails = channel(server.port)
        world = World(notifier_pool, [mails])
        await world.member("m0")
        for n in range(2):
            await world.happen(world.asked(f"t{n}", "m0"))
            await world.turn()
        await mails.close()
        assert "NOOP" in server.commands


async def test_what_is_urgent_has_a_connection_of_its_own(notifier_pool: Pool) -> None:
    busy: list[str] = []

    def script(step: str, line: str) -> str | None:
        if step == "RCPT":
            busy.append(line)
        return None

    async with smtp_server(script) as server:
        mails = channel(server.port)
        # Every ordinary connection is taken, for as long as it takes.
        slot = mails.providers[0].slot(False)
        for _ in range(4):
            await slot.acquire()
        world = World(notifier_pool, [mails])
        await world.member("m0")
        await world.happen(world.asked("t1", "m0"), world.event("quiz-passed", member_id="m0", application_id="a"))

        async def urgent_is_told() -> bool:
            found = await world.deliveries("m0", channel="email", category="application")
            return [one["state"] for one in found] == ["accepted"]

        await running(world.pipeline, urgent_is_told)
        assert len(busy) == 1


# --- Breaker, providers ---------------------------------------------------------------------------------------------


async def test_a_refused_password_opens_the_breaker_at_once_and_nobody_is_suppressed(notifier_pool: Pool) -> None:
    async with smtp_server(password="right") as server:
        mails = channel(server.port, user="me:wrong@")
        world = await told(notifier_pool, mails, 30)
        assert not mails.available()
        assert server.connections <= 5, "it is left alone"
    states = Counter([await state(world, f"m{n}") for n in range(30)])
    assert set(states) <= {("retry", "535 5.7.8"), ("pending", None)}
    assert states["pending", None] >= 25
    assert await world.pool.fetchval("SELECT count(*) FROM suppression") == 0


async def test_a_server_that_is_away_is_left_alone_and_tried_again_alone(notifier_pool: Pool) -> None:
    clock = [0.0]
    async with smtp_server() as server:
        port = server.port
    mails = SmtpChannel([Account.of(f"smtp://localhost:{port}")], composer(), clock=lambda: clock[0])
    world = await told(notifier_pool, mails, 40)
    assert not mails.available()
    assert Counter([(await state(world, f"m{n}"))[0] for n in range(40)])["pending"] >= 20
    clock[0] += 60
    assert mails.available()


async def test_the_next_provider_serves_while_the_first_takes_nothing_but_never_for_an_unknown(
    notifier_pool: Pool,
) -> None:
    async with smtp_server(at("MAIL", "550 5.7.1 go away")) as bad, smtp_server() as good:
        mails = channel(bad.port, good.port)
        world = await told(notifier_pool, mails, 20)
        states = [(await state(world, f"m{n}"))[0] for n in range(20)]
        assert states.count("accepted") == len(good.mails) >= 15
    async with smtp_server(at(".", "hang up")) as lost, smtp_server() as good:
        mails = channel(lost.port, good.port)
        world = World(notifier_pool, [mails])
        await world.happen(world.event("milestone-reached", member_id="m0", board="stars", kind="first-place"))
        await world.turn()
        await world.make_due()
        await world.turn()
        assert good.mails == []
        await mails.close()


async def test_a_throttling_reply_slows_down_and_successes_speed_up_again(notifier_pool: Pool) -> None:
    replies = iter(["454 4.3.0 slower", "454 4.3.0 slower"])
    async with smtp_server(lambda step, line: next(replies, None) if step == "." else None) as server:
        mails = channel(server.port)
        breaker = mails.providers[0].breaker
        world = await told(notifier_pool, mails, 2)
        assert breaker.rest >= 0.05
        await world.make_due()
        await world.turn()
        await world.happen(*(world.event("quiz-passed", member_id=f"m{n % 2}", application_id="a") for n in range(6)))
        await world.turn()
        assert breaker.rest < 0.05
        await mails.close()


async def test_a_server_that_throttles_after_an_outage_holds_up_nothing_urgent(notifier_pool: Pool) -> None:
    def script(step: str, line: str) -> str | None:
        return "451 4.7.0 too much" if step == "RCPT" and "m0@" not in line else None

    async with smtp_server(script) as server:
        mails = channel(server.port)
        breaker = mails.providers[0].breaker
        for _ in range(breaker.tolerated):
            breaker.failed(0.0, "no-connection")
        breaker.open_until, breaker.rest = 0.0, 1.0
        world = World(notifier_pool, [mails])
        await world.member("m0")
        for n in range(1, 12):
            await world.member(f"m{n}")
            more = {"board": "everyone", "kind": "first-place"}
            await world.happen(world.event("milestone-reached", member_id=f"m{n}", **more))

        async def urgent_is_told() -> bool:
            found = await world.deliveries("m0", channel="email", category="application")
            return [one["state"] for one in found] == ["accepted"]

        ordinary = asyncio.create_task(running(world.pipeline, urgent_is_told))
        while not any(line.startswith("RCPT") for line in server.commands):
            await asyncio.sleep(0.05)
        began = time.monotonic()
        await world.happen(world.event("quiz-passed", member_id="m0", application_id="a"))
        await ordinary
        assert time.monotonic() - began < 3
        await mails.close()


# --- TLS and authentication -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for localhost, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    pem = built.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client


async def test_starttls_and_a_password(notifier_pool: Pool, certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server_side, client_side = certificate
    async with smtp_server(context=server_side, password="p@ss:w/rd") as server:
        mails = channel(server.port, scheme="smtp+starttls", user="me:p%40ss%3Aw%2Frd@", context=client_side)
        world = await told(notifier_pool, mails, 5)
        assert len(server.mails) == 5
        assert server.commands.index("STARTTLS") < next(
            n for n, command in enumerate(server.commands) if command.startswith("AUTH")
        )
    assert await state(world) == ("accepted", None)


async def test_tls_from_the_first_byte(notifier_pool: Pool, certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server_side, client_side = certificate
    async with smtp_server(tls=server_side) as server:
        world = await told(notifier_pool, channel(server.port, scheme="smtps", context=client_side), 3)
        assert len(server.mails) == 3
    assert await state(world) == ("accepted", None)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    notifier_pool: Pool, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with smtp_server(context=certificate[0]) as server:
        world = await told(notifier_pool, channel(server.port, scheme="smtp+starttls"))
        assert server.mails == []
    assert (await state(world))[0] == "retry"


async def test_a_server_that_offers_no_starttls_gets_nothing_where_it_is_required(notifier_pool: Pool) -> None:
    async with smtp_server() as server:
        world = await told(notifier_pool, channel(server.port, scheme="smtp+starttls"))
        assert server.mails == []
    assert (await state(world))[0] == "retry"


@pytest.mark.parametrize(
    "url", ["http://mail.example", "smtp://", "smtp://mail.example?connections=0", "smtp://u:secret@host:99999"]
)
def test_a_url_that_is_none_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ValueError) as error:
        Account.of(url)
    assert "secret" not in str(error.value)


def test_an_accounts_name_and_repr_hide_nothing_but_its_name() -> None:
    account = Account.of("smtp+starttls://me:secret@mail.example:2525?connections=3")
    assert (account.host, account.port, account.tls, account.password) == ("mail.example", 2525, "required", "secret")
    assert account.name == "smtp://mail.example:2525"
