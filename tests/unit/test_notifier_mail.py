"""What is written: letters in every language, mails held against the standard library, links that cannot be forged."""

import base64
import email
import email.policy
import re
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.batching import Batcher
from services.notifier.bounces import Bounce
from services.notifier.bounces import read as read_bounce
from services.notifier.breaker import Breaker
from services.notifier.channels import Ready
from services.notifier.letters import CATEGORY_WORDS, WHATS, Occasion, line, web_address, write
from services.notifier.mail import Composer, NotAnAddress, address_of, header_text, push_payload
from services.notifier.rules import CATEGORIES, Recipient
from services.notifier.tokens import Grant, Tokens
from services.notifier.words import FOLDER, LANGUAGES, language_of, words_of
from shared.web import Problem

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOKENS = Tokens({1: b"a" * 32, 2: b"b" * 32})
COMPOSER = Composer(
    TOKENS, lambda: "https://stars.example", "Constellation <stars@stars.example>", "bounce@stars.example"
)

HOSTILE = [
    "Bcc: victim@mail.example",
    "a\r\nBcc: victim@mail.example\r\n\r\nbody",
    "a\nb\x0bc\x0cd\x85e\u2028f",
    "=?utf-8?q?=0D=0ABcc:_victim@mail.example?=",
    "%0d%0aBcc: x",
    "Ada, Countess <b@c.example>",
    '"; DROP TABLE mail; --',
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} %(title)s %s",
    "\u202etxt.exe\u2066",
    "ＺＡＬＧＯ Ω̷̱ 😀" * 40,
    "\ud800 half a character",
    ".\r\n.\r\nQUIT",
    "",
    "x" * 5000,
]


def ready(**more: Any) -> Ready:
    known: dict[str, Any] = {
        "delivery_id": 7,
        "fence": 1,
        "notification_id": 70,
        "member_id": "ada",
        "channel": "email",
        "target": 0,
        "category": CATEGORIES["answer-needed"],
        "what": "answer-needed",
        "data": {
            "title": "How?",
            "url": "https://forum.example/t/1",
            "space": "help",
            "stage": "new",
            "due_at": NOW.isoformat(),
            "tags": [],
        },
        "at": NOW,
        "topic_id": "t1",
        "actor_id": None,
        "actor_name": None,
        "recipient": Recipient("ada", ZoneInfo("Europe/Stockholm"), "en", "Ada", email="ada@mail.example"),
        "attempts": 0,
        "expires_at": NOW + timedelta(days=1),
        "made_at": NOW,
        "traceparent": None,
        "address": "ada@mail.example",
    }
    return Ready(**(known | more))


def parsed(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content


# --- The bytes ------------------------------------------------------------------------------------------------------


def test_a_mail_is_what_the_standard_library_reads() -> None:
    mail = COMPOSER.mail(ready())
    message = parsed(mail.raw)
    assert message["From"] == "Constellation <stars@stars.example>"
    assert message["To"] == "ada@mail.example"
    assert message["Subject"] == "A question for you: How?"
    assert message["Message-ID"] == COMPOSER_ID
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["List-Id"] == "<answer-needed.constellation.stars.example>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert re.fullmatch(r"<https://stars\.example/notifier/unsubscribe/[\w.-]+>", message["List-Unsubscribe"])
    assert message["References"] == message["In-Reply-To"]
    assert message.get_content_type() == "multipart/alternative"
    assert [p.get_content_type() for p in message.iter_parts()] == ["text/plain", "text/html"]
    text = part(message, "plain")
    for words in ("An answer is promised by", "Open the question", "You get this because", "Pause for a week"):
        assert words in text
        assert words in part(message, "html")
    assert re.fullmatch(r"bounce\+7-[0-9a-f]{16}@stars\.example", mail.sender)


COMPOSER_ID = f"<7.{int(NOW.timestamp() * 1e6)}@stars.example>"


def test_mails_about_a_topic_form_a_thread_and_others_do_not() -> None:
    one, two = (parsed(COMPOSER.mail(ready(delivery_id=n, made_at=NOW)).raw) for n in (1, 2))
    other = parsed(COMPOSER.mail(ready(topic_id="t2")).raw)
    assert one["References"] == two["References"] != other["References"]
    assert one["Message-ID"] != two["Message-ID"]
    alone = parsed(COMPOSER.mail(ready(topic_id=None, what="milestone", category=CATEGORIES["milestone"])).raw)
    assert alone["References"] is None


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("what", WHATS)
def test_nothing_hostile_gets_out_of_its_place(what: str, hostile: str) -> None:
    data = {
        "title": hostile,
        "url": hostile,
        "space": hostile,
        "reasons": [hostile],
        "board": f"space:{hostile}",
        "kind": hostile,
        "outcome": hostile,
        "reason": hostile,
        "perk": hostile,
        "text": hostile,
        "week": hostile,
        "due_at": NOW.isoformat(),
        "met": 1,
        "missed": 2,
    }
    item = ready(what=what, data=data, actor_id="x", actor_name=hostile, topic_id="t")
    mail = COMPOSER.mail(ready(what=what, data=data, actor_name=hostile, items=[item, item]))
    head = mail.raw.split(b"\r\n\r\n")[0]
    assert b"\n" not in head.replace(b"\r\n", b"")
    names = [found.split(b":")[0] for found in head.split(b"\r\n") if found[:1] not in (b" ", b"\t")]
    assert len(names) == len(set(names))
    assert set(names) <= set(EXPECTED)
    assert max(map(len, mail.raw.split(b"\r\n"))) <= 998
    assert not any(found.startswith(b".") for found in mail.raw.split(b"\r\n"))
    assert mail.raw.isascii()
    message = parsed(mail.raw)
    html = part(message, "html")
    assert "<script" not in html
    assert "<img" not in html
    assert "alert(1)>" not in html
    assert "49" not in html or "{{ 7" not in hostile
    assert set(re.findall(r'href="([a-z]+):', html)) <= {"https"}
    assert "\u202e" not in str(message["Subject"]) + html + part(message, "plain")


EXPECTED = [
    *(b"From", b"To", b"Subject", b"Date", b"Message-ID", b"In-Reply-To", b"References", b"List-Id"),
    *(b"Auto-Submitted", b"X-Auto-Response-Suppress", b"Content-Language", b"List-Unsubscribe"),
    *(b"List-Unsubscribe-Post", b"MIME-Version", b"Content-Type"),
]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_any_text_survives_as_the_value_of_a_header(text: str) -> None:
    value = header_text(text, 9)
    assert not re.search(rb"[\r\n](?!\n? )", value.replace(b"\r\n ", b""))
    message = email.message_from_bytes(b"Subject: " + value + b"\r\n\r\n", policy=email.policy.default)
    assert str(message["Subject"]) == line(text, 400).replace("\ufffd", "\ufffd")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=500))
def test_any_text_is_the_same_in_both_parts(text: str) -> None:
    data = {"title": "T", "text": text}
    mail = COMPOSER.mail(ready(what="announcement", category=CATEGORIES["announcement"], data=data, topic_id=None))
    message = parsed(mail.raw)
    for paragraph in re.split(r"\n\s*\n", text):
        assert line(paragraph, 20_000) in part(message, "plain").replace("\r\n", "\n")


@pytest.mark.parametrize(
    "member", ["ada", "a/b?c#d", "Ω" * 255, "\U0001f600" * 255, "a\r\nb", "../..", "'\"<>", "x" * 255]
)
def test_a_link_works_for_every_member_id_and_no_line_is_too_long(member: str) -> None:
    recipient = Recipient(member, ZoneInfo("UTC"), email="ada@mail.example")
    mail = COMPOSER.mail(ready(recipient=recipient))
    assert max(map(len, mail.raw.split(b"\r\n"))) <= 998
    link = "".join(str(parsed(mail.raw)["List-Unsubscribe"]).split())
    token = link.strip("<>").rpartition("/")[2]
    grant = TOKENS.read(token, "unsubscribe")
    assert grant == Grant("unsubscribe", member, "answer-needed", "email")


def test_a_verification_has_nothing_to_unsubscribe_from() -> None:
    data = {"email": "new@mail.example"}
    mail = COMPOSER.mail(
        ready(
            what="verification",
            category=CATEGORIES["verification"],
            data=data,
            topic_id=None,
            address="new@mail.example",
        )
    )
    message = parsed(mail.raw)
    assert message["List-Unsubscribe"] is None
    assert message["To"] == "new@mail.example"
    token = re.search(r"/notifier/verify/([\w.-]+)", part(message, "plain"))
    assert token is not None
    assert TOKENS.read(token[1], "verify") == Grant("verify", "ada", detail="new@mail.example")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ada@mail.example", "ada@mail.example"),
        ("a.d-a+tag@mail.example", "a.d-a+tag@mail.example"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@localhost", "ada@localhost"),
    ],
)
def test_an_address_as_smtp_takes_it(given: str, expected: str) -> None:
    assert address_of(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "<ada@mail.example>",
        "ada,ben@mail.example",
        "ada@mail.example> SIZE=1",
        "ada@mail.example\r\nRCPT TO:<eve@mail.example>",
        "a..b@mail.example",
        ".a@mail.example",
        "ada",
        "@mail.example",
        "ådä@mail.example",
        "a" * 300 + "@mail.example",
        "",
    ],
)
def test_what_is_no_address_is_never_sent_to(given: str) -> None:
    with pytest.raises(NotAnAddress):
        address_of(given)


# --- Words ----------------------------------------------------------------------------------------------------------


def test_the_languages_are_there() -> None:
    assert set(LANGUAGES) == {"en", "sv", "es", "pt-BR"}


@pytest.mark.parametrize(
    ("wish", "language"),
    [(None, "en"), ("", "en"), ("sv-SE", "sv"), ("pt", "pt-BR"), ("pt_BR", "pt-BR"), ("es-419", "es"), ("tlh", "en")],
)
def test_a_wish_finds_the_nearest_language(wish: str | None, language: str) -> None:
    assert language_of(wish) == language


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.po")), ids=lambda file: file.stem)
def test_every_sentence_is_translated_and_keeps_its_places(file: Path) -> None:
    said: dict[str | tuple[str, ...], None] = {}
    for name in ("letters.py", "mail.py"):
        keywords: Any = {"_": None, "plural": (1, 2)}
        for _, message, _, _ in extract_from_file("python", FOLDER.parent / name, keywords=keywords):
            said[message] = None
    with file.open("rb") as source:
        catalogue = read_po(source)
    known = {message.id: message for message in catalogue if message.id}
    assert set(known) == set(said)
    for id, message in known.items():
        originals = id if isinstance(id, tuple) else (id,)
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        for string in strings:
            assert string, id
            assert set(re.findall(r"%\(\w+\)s", string)) == set(re.findall(r"%\(\w+\)s", originals[-1])), id


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("what", WHATS)
def test_every_letter_can_be_written_from_hardly_anything(what: str, language: str) -> None:
    occasion = Occasion(what, {}, None, None, ZoneInfo("UTC"), "https://stars.example")
    letter = write(occasion, words_of(language))
    assert letter.why
    assert "%(" not in letter.subject + "".join(letter.paragraphs)


def test_times_are_the_members_own() -> None:
    letter = write(COMPOSER.occasion(ready()), words_of("sv"))
    assert letter.subject == "En fråga till dig: How?"
    assert any("24 november 2026" in paragraph and "13:00" in paragraph for paragraph in letter.paragraphs)


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_every_category_has_a_name(category: str) -> None:
    assert CATEGORY_WORDS[category](lambda text: text)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "https://",
        "https://a b",
        'https://a"b',
        None,
        7,
        "ftp://x",
    ],
)
def test_only_a_web_address_becomes_a_link(url: Any) -> None:
    assert web_address(url) is None


def test_a_push_stays_small_whatever_it_says() -> None:
    import json

    data = {"title": "\U0001f600" * 1000, "url": "https://forum.example/" + "x" * 2000, "stage": "new"}
    payload = push_payload(COMPOSER, ready(data=data, channel="push"))
    assert len(json.dumps(payload, ensure_ascii=False).encode()) < 3000


# --- Tokens ---------------------------------------------------------------------------------------------------------

GRANT = Grant("unsubscribe", "ada", "milestone", "email")


def test_a_token_is_read_by_its_purpose_alone() -> None:
    token = TOKENS.make(GRANT)
    assert TOKENS.read(token, "unsubscribe") == GRANT
    assert TOKENS.read(token, "verify") is None


def test_a_newer_key_signs_and_older_ones_stay_valid() -> None:
    old = Tokens({1: b"a" * 32}).make(GRANT)
    assert TOKENS.read(old, "unsubscribe") == GRANT
    assert TOKENS.make(GRANT).startswith("2.")
    assert Tokens({2: b"b" * 32}).read(old, "unsubscribe") is None


@settings(max_examples=300)
@given(st.data())
def test_a_token_that_was_changed_anywhere_is_none(data: st.DataObject) -> None:
    token = TOKENS.make(GRANT)
    at = data.draw(st.integers(0, len(token) - 1))
    to = data.draw(st.sampled_from("ABCxyz019-_."))
    forged = token[:at] + to + token[at + 1 :]
    if forged != token:
        found = TOKENS.read(forged, "unsubscribe")
        # The last letter of base64 holds spare bits: the same bytes are the same token.
        assert found is None or (found == GRANT and at == len(token) - 1)


@given(st.text(max_size=200))
def test_any_text_may_be_sent_as_a_token(text: str) -> None:
    assert TOKENS.read(text, "unsubscribe") is None


@pytest.mark.parametrize("payload", [b"[]", b"[1,2]", b"null", b'["unsubscribe"]', b"\xff", b'{"a":1}'])
def test_even_a_signed_payload_of_nonsense_is_none(payload: bytes) -> None:
    encoded = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    mac = base64.urlsafe_b64encode(TOKENS._mac(1, encoded)).rstrip(b"=").decode()
    found = TOKENS.read(f"1.{encoded}.{mac}", "unsubscribe")
    assert found is None or found.member_id == ""


# --- Bounces --------------------------------------------------------------------------------------------------------

DSN = """From: MAILER-DAEMON@relay.example
To: {to}
Subject: Undelivered Mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

It failed.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; ada@mail.example
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 nobody

--b--
"""


def test_a_bounce_names_its_delivery_by_the_address_that_it_came_back_to() -> None:
    raw = DSN.format(to=COMPOSER.return_path(7), action="failed", status="5.1.1").encode()
    assert read_bounce(raw, TOKENS) == Bounce(7, "failed", "5.1.1")
    elsewhere = DSN.format(to="postmaster@stars.example", action="delayed", status="4.4.1 (x)").encode()
    assert read_bounce(elsewhere, TOKENS, COMPOSER.return_path(9)) == Bounce(9, "delayed", "4.4.1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        DSN.format(to="bounce+7-0000000000000000@stars.example", action="failed", status="5.1.1").encode(),
        DSN.format(to="bounce+8-" + COMPOSER.return_path(7)[9:], action="failed", status="5.1.1").encode(),
        ("To: " + COMPOSER.return_path(7) + "\n\nI am on holiday.").encode(),
        DSN.format(to=COMPOSER.return_path(7), action="invented", status="9").encode(),
    ],
)
def test_nobody_can_invent_a_bounce(raw: bytes) -> None:
    with pytest.raises(Problem):
        read_bounce(raw, TOKENS)


# --- Small machines -------------------------------------------------------------------------------------------------


def test_a_breaker_opens_after_some_failures_waits_longer_each_time_and_closes_on_success() -> None:
    breaker = Breaker("x", tolerated=3)
    assert [breaker.failed(0, "r") for _ in range(3)] == [False, False, True]
    assert not breaker.allows(4.9)
    assert breaker.allows(5)
    breaker.probe(5)
    assert not breaker.allows(5), "one attempt decides"
    assert breaker.failed(5, "r")
    assert not breaker.allows(14.9)
    assert breaker.allows(15)
    breaker.probe(15)
    assert breaker.succeeded()
    assert breaker.allows(15)
    assert not breaker.succeeded()


def test_what_is_no_accident_opens_it_at_once() -> None:
    assert Breaker("x").failed(0, "535", at_once=True)


@given(st.lists(st.booleans(), max_size=60))
def test_a_breaker_never_waits_for_ever(results: list[bool]) -> None:
    breaker, now = Breaker("x"), 0.0
    for good in results:
        now = max(now, breaker.open_until)
        assert breaker.allows(now)
        breaker.probe(now)
        if good:
            breaker.succeeded()
        else:
            breaker.failed(now, "r")
        assert breaker.open_until - now <= 600
        assert not breaker.probing


async def test_a_batcher_writes_what_comes_meanwhile_together_and_gives_each_its_answer() -> None:
    import asyncio

    batches: list[list[int]] = []

    async def double(items: list[int]) -> list[int]:
        batches.append(items)
        await asyncio.sleep(0.01)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]

    batcher: Batcher[int, int] = Batcher(double, most=50)
    first = batcher.put(1)
    await asyncio.sleep(0.005)
    answers = await asyncio.gather(*(batcher(n) for n in range(20, 120)))
    assert await first == 2
    assert answers == [2 * n for n in range(20, 120)]
    assert list(map(len, batches)) == [1, 50, 50]
    with pytest.raises(ValueError):
        await batcher(13)
    assert await batcher(14) == 28
