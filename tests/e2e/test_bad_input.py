"""Whatever is sent: a clear 4xx or the right answer, never a 5xx, and the installation goes on."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.e2e.site import BATCH, ONE, PROBLEM, Json, Site, ago, asked, event, fresh, problem, replied

TEN_MB = 10_000_000
GOOD = json.dumps(asked("never", datetime(2026, 1, 1, tzinfo=UTC)) | {"id": "always-the-same"})
HOSTILE = [
    "'; DROP TABLE topic_state; --",
    '" OR ""="',
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "%s%n%x",
    "a\r\nX-Evil: 1",
    "\u202egpj.exe",
    "\ufeff",
    "👩‍👩‍👧‍👦",
    "\x7f\x1b[31m",
    "../../etc/passwd",
    "%00",
    "\\",
    "NULL",
]


def _swap(text: str) -> str:
    """A good event with this piece of JSON for its title."""
    return GOOD.replace('"How?"', text, 1)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", ONE),
        (" ", ONE),
        (GOOD[:-7], ONE),
        (GOOD + GOOD, ONE),
        (f"[{GOOD}]", ONE),
        (GOOD, BATCH),
        (f"[{GOOD},]", BATCH),
        (f"[[{GOOD}]]", BATCH),
        ("null", ONE),
        ("true", ONE),
        ('"text"', ONE),
        ("1e999", ONE),
        ("-", ONE),
        (_swap("NaN"), ONE),
        (_swap("Infinity"), ONE),
        (_swap("-Infinity"), ONE),
        (_swap('"\\ud800"'), ONE),
        (_swap('"\\udc00\\ud800"'), ONE),
        (_swap('"\\u0000"'), ONE),
        (_swap('"\x00"'), ONE),
        (_swap('"\n"'), ONE),
        (_swap("1" + "0" * 5000), ONE),
        (_swap("9" * 30), ONE),
        (_swap('["How?"]'), ONE),
        (_swap("{}"), ONE),
        (_swap("null"), ONE),
        (_swap(json.dumps("x" * 1001)), ONE),
        (GOOD.encode().replace(b"How?", b"\xff\xfe"), ONE),
        (GOOD.encode().replace(b"How?", b"\xed\xa0\x80"), ONE),
        (GOOD.encode("utf-16"), ONE),
        (b"\x1f\x8b\x08\x00", ONE),
        ("[" * 100_000 + "]" * 100_000, BATCH),
        ('{"a":' * 100_000, ONE),
        (_swap('{"a":' * 1000 + "1" + "}" * 1000), ONE),
        (GOOD[:-1] + ', "type": "nonsense"}', ONE),
        (GOOD[:-1] + ', "sequence": 0}', ONE),
        (GOOD[:-1] + ', "sequence": 9223372036854775808}', ONE),
        (GOOD[:-1] + ', "backfill": "yes"}', ONE),
        (GOOD[:-1] + ', "traceparent": "00-00"}', ONE),
        (GOOD[:-1] + ', "datacontenttype": "text/html"}', ONE),
        (GOOD[:-1] + ', "data_base64": "aGk="}', ONE),
        (GOOD.replace('"1.0"', '"0.3"'), ONE),
        (GOOD.replace('"topic-created"', "7"), ONE),
        (GOOD.replace('"topic-created"', '"Topic-Created"'), ONE),
        (GOOD.replace('"never"', '""'), ONE),
        (GOOD.replace('"never"', "42"), ONE),
        (GOOD.replace('"never"', json.dumps("x" * 256)), ONE),
        (GOOD.replace('"member"', '"Member"'), ONE),
    ],
    ids=lambda value: ascii(value[:40]),
)
def test_what_is_no_event_is_refused_with_its_index(site: Site, body: str | bytes, content_type: str) -> None:
    found = problem(site.post(body, content_type), 400, "invalid-events")
    assert [error["index"] for error in found["errors"]] == [0]
    assert all(error["detail"] for error in found["errors"])
    assert len(json.dumps(found)) < 5000, "what was sent is not sent back"


@pytest.mark.parametrize(
    "at",
    [
        "2099-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:00",
        "0001-01-01T00:00:00+23:00",
        "1969-12-31T23:59:59.999999Z",
        "2024-01-01T00:00:00",
        "2024-01-01",
        "2024-02-30T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2024-01-01T24:00:00Z",
        "20240101T000000Z",
        "1704067200",
        "",
        "yesterday",
    ],
)
def test_a_time_that_cannot_be_is_refused(site: Site, at: str) -> None:
    found = problem(site.post(asked("never") | {"time": at}, ONE), 400, "invalid-events")
    assert found["errors"][0]["detail"].startswith("time")
    problem(site.post(asked("never") | {"time": 1704067200}, ONE), 400, "invalid-events")


@pytest.mark.parametrize("minutes", [4.8, 5.2])
def test_a_clock_may_be_five_minutes_ahead_and_no_more(site: Site, minutes: float) -> None:
    answer = site.post(asked(fresh("topic"), ago(minutes=-minutes)), ONE)
    assert answer.status_code == (202 if minutes < 5 else 400)


def test_a_million_of_anything_is_refused_in_no_time(site: Site) -> None:
    tags = '"tags": []'
    assert tags in GOOD
    bodies = {
        "tags": (GOOD.replace(tags, f'"tags": [{",".join(["1"] * 1_000_000)}]'), ONE),
        "texts": (GOOD.replace(tags, f'"tags": [{",".join([json.dumps("a")] * 1_000_000)}]'), ONE),
        "fields": (GOOD[:-1] + "".join(f',"x{n}":1' for n in range(300_000)) + "}", ONE),
        "numbers": (f"[{','.join(['1'] * 2_000_000)}]", BATCH),
        "objects": (f"[{','.join(['{}'] * 1_000_000)}]", BATCH),
        "repeated keys": ("{" + ",".join(['"id":1'] * 500_000) + "}", ONE),
        "text": (_swap(json.dumps("x" * 4_000_000)), ONE),
    }
    for what, (body, content_type) in bodies.items():
        assert len(body) <= 4 * 1024 * 1024, what
        began = time.monotonic()
        found = problem(site.post(body, content_type), 400, "invalid-events")
        assert time.monotonic() - began < 5, what
        assert len(found["errors"]) <= 100
        assert len(json.dumps(found)) < 50_000, what


def _chunks(size: int = TEN_MB) -> Iterator[bytes]:
    for _ in range(size // 50_000):
        yield b"x" * 50_000


@pytest.mark.parametrize("body", [lambda: b"x" * TEN_MB, _chunks], ids=["with its length", "chunked"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/topics/api/events"),
        ("PUT", "/topics/api/policies"),
        ("POST", "/topics/api/topics/t/claim"),
        ("POST", "/nowhere"),
    ],
)
def test_ten_megabytes_are_too_much(site: Site, method: str, path: str, body: Callable[[], Any]) -> None:
    headers = site.bearer("forum", "staff", "star", member="m") | {"Content-Type": BATCH}
    answer = site.client.request(method, path, content=body(), headers=headers)
    # A body that no route reads may as well be left unread.
    assert answer.status_code == 413 or (body is _chunks and path in ("/nowhere", "/topics/api/topics/t/claim"))
    problem(answer, answer.status_code)


IDS = [
    "a/b",
    "/",
    "//",
    "a/claim",
    "/claim",
    "..",
    ".",
    "../..",
    "with space",
    " ",
    "%2F",
    "%",
    "%zz",
    "a?b=c#d",
    "a;b",
    "+",
    "a\\b",
    "a\nb",
    "\n",
    "a\tb",
    "é",
    "e\u0301",
    "😀" * 200,
    "x" * 230,
    *HOSTILE,
]


@pytest.fixture(scope="module")
def hostile(site: Site) -> tuple[str, list[str]]:
    """A mark, and ids that end with it: a question each, told with hostile words in every text."""
    mark = fresh("")
    ids = [id + mark for id in IDS]
    for number, topic in enumerate(ids):
        word = HOSTILE[number % len(HOSTILE)]
        site.publish(
            asked(topic, ago(hours=1), author_id=word, title=word, space=word, tags=[word, topic[:100]], url=word),
            event("member-updated", {"member_id": word, "name": word, "time_zone": word}, subject=word, id=word + mark),
        )
    for topic in ids:
        site.topic_when(topic)
    return mark, ids


def test_any_id_is_found_at_its_encoded_address(site: Site, hostile: tuple[str, list[str]]) -> None:
    mark, ids = hostile
    member = fresh("star")
    star = site.bearer("star", member=member)
    for number, topic in enumerate(ids):
        word = HOSTILE[number % len(HOSTILE)]
        found = site.topic(topic)
        assert found is not None, topic
        assert (found["topic_id"], found["author_id"], found["title"]) == (topic, word, word)
        assert (found["space"], found["tags"], found["url"]) == (word, [word, topic[:100]], word)
        claim = site.claim(topic, star).json()
        assert (claim["topic_id"], claim["member_id"]) == (topic, member)
        assert site.release(topic, star).status_code == 200
    everything = [item["topic_id"] for item in site.pages(200) if item["topic_id"].endswith(mark)]
    assert sorted(everything) == sorted(ids)


def test_hostile_words_filter_as_any_other(site: Site, hostile: tuple[str, list[str]]) -> None:
    mark, ids = hostile
    for number, word in enumerate(HOSTILE):
        if word == "%00":
            continue
        expected = {topic for n, topic in enumerate(ids) if n % len(HOSTILE) == number}
        for parameters in ({"space": word}, {"tag": word}):
            found = {item["topic_id"] for item in site.pages(200, **parameters) if item["topic_id"].endswith(mark)}
            assert found == expected, parameters
        assert site.ask("sla", space=word)["topics"] >= len(expected)


@pytest.mark.parametrize("length", [255, 256])
@pytest.mark.parametrize("letter", ["x", "😀"])
def test_ids_of_255_characters_are_the_longest(site: Site, letter: str, length: int) -> None:
    topic = fresh("").rjust(length, letter)
    answer = site.post(asked(topic), ONE)
    if length == 255:
        assert answer.status_code == 202, answer.text
        assert site.topic_when(topic)["topic_id"] == topic
    else:
        problem(answer, 400, "invalid-events")
        problem(site.get(f"topics/{quote(topic)}"), 400, "invalid-request")
        problem(site.claim(topic, site.bearer("star", member="s")), 400, "invalid-request")


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        *(("topics", {"limit": value}) for value in ("0", "-1", "201", "1.5", "ten", "9" * 5000, " ", "１")),
        *(("topics", {"cursor": value}) for value in ("x", "", "W10", "bnVsbA", "é", "====", "x" * 5000, "WyJhIiwxXQ")),
        *(("topics", {"state": value}) for value in ("Waiting", "closed", "waiting,breached", "null", "[]")),
        *(("topics", {"mine": value}) for value in ("maybe", "2", "null")),
        *(("topics", {name: "x" * 256}) for name in ("space", "language", "tag")),
        *(("topics", {name: "\x00"}) for name in ("space", "language", "tag", "cursor", "state", "nonsense")),
        *(("sla", {name: "x" * 256}) for name in ("space", "language")),
        ("topics/%00", {}),
        ("topics/a%00b", {}),
        ("topics/a%2F%00", {}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_parameter_that_makes_no_sense_is_400(site: Site, path: str, parameters: dict[str, str]) -> None:
    found = problem(site.get(path, **parameters), 400)
    assert len(json.dumps(found)) < 3000


def test_forged_cursors_are_positions_and_never_errors(site: Site) -> None:
    def forged(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")

    at = "2024-01-01T00:00:00+00:00"
    for value in ([at, "x"], ["0001-01-01T00:00:00+00:00", ""], ["9999-12-31T23:59:59Z", "\U0010ffff"], [at, None]):
        assert site.get("topics", cursor=forged(value)).status_code == 200, value
    for value in (
        [at],
        [at, "x", 1],
        ["2024-01-01", "x"],
        ["2024-01-01T00:00:00", "x"],
        ["0001-01-01T00:00:00+23:00", "x"],
        [at, "\x00"],
        [at, 7],
        [7, "x"],
        {"a": 1},
        "[NaN, 1]",
        "[" * 3000,
        "7" * 3000,
        '["' + at + '","\\ud800"]',
        "[",
    ):
        problem(site.get("topics", cursor=forged(value)), 400, "bad-cursor")


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_a_policy_in_another_dress_is_refused(site: Site, content_type: str) -> None:
    body = json.dumps({"scope": f"space:{fresh('s')}", "target_seconds": 60, "objective": 0.5})
    headers = site.staff | {"Content-Type": content_type}
    answer = site.client.put("/topics/api/policies", content=body, headers=headers)
    assert answer.status_code in (400, 415)
    problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        b"\xff",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"scope": "\\ud800", "target_seconds": 1, "objective": 0.5}',
        '{"\\ud800": 1}',
        '{"scope": "all", "target_seconds": ' + "1" * 10_000 + ', "objective": 0.5}',
        '{"scope": "all", "target_seconds": NaN, "objective": NaN}',
        "{" + ",".join(f'"x{n}": 1' for n in range(100_000)) + "}",
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_a_policy_that_is_no_json_object_is_refused(site: Site, body: str | bytes) -> None:
    before = site.ask("policies")
    found = problem(site.put_policy(body), 400)
    assert len(json.dumps(found)) < 50_000
    assert site.ask("policies") == before


# --- below the level of a well-behaved client ------------------------------------------------------------------------


def _raw(site: Site, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes; the status, headers and body of what comes back."""
    address = urlsplit(site.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


def _request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: h", "Connection: close", *headers, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /topics/api/topics/%ff%fe", 404),
        ("GET /topics/api/topics/%", 404),
        ("GET /topics/api/topics/../../../etc/passwd", 404),
        ("GET /topics/api/topics/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        ("GET //topics/api/topics", 404),
        ("GET /topics/api/topics/" + "a" * 50_000, 400),
        ("GET /topics/api/topics?" + "a=1&" * 10_000, 200),
        ("GET /topics/api/topics?limit=1&limit=2", 200),
        ("GET /topics/api/topics?space=%ff%fe%c0%80", 200),
        ("GET /topics/api/topics?space=%ed%a0%80", 200),
        ("GET /topics/api/topics?space=%00", 400),
        ("OPTIONS *", 404),
        ("CONNECT evil.example:443", 404),
        ("GET http://evil.example/topics/api/policies", None),
        ("GET /metrics/../topics", 404),
    ],
    ids=lambda value: str(value)[:60],
)
def test_odd_addresses_get_a_plain_answer(site: Site, line: str, status: int | None) -> None:
    got, headers, body = _raw(site, _request(line))
    assert got < 500
    assert status is None or got == status
    if got >= 400:
        assert headers["content-type"] == PROBLEM
        assert json.loads(body)["status"] == got


@pytest.mark.parametrize("method", ["PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "HEAD", "FROB", "get", "PROPFIND"])
def test_a_method_that_an_address_does_not_know_is_405(site: Site, method: str) -> None:
    request = _request(f"{method} /topics/api/policies", "X-HTTP-Method-Override: PUT", "Content-Length: 0")
    status, headers, body = _raw(site, request)
    assert status == 405
    assert headers["content-type"] == PROBLEM
    assert {"GET", "PUT"} <= set(headers["allow"].replace(" ", "").split(","))
    assert (body == b"") == (method == "HEAD")


def test_a_method_cannot_be_smuggled_in(site: Site) -> None:
    before = site.ask("policies")
    body = json.dumps({"scope": "all", "target_seconds": 60, "objective": 0.5})
    for headers in ({"X-HTTP-Method-Override": "PUT"}, {"X-HTTP-Method": "PUT"}, {"X-Method-Override": "PUT"}):
        answer = site.client.post("/topics/api/policies?_method=PUT", content=body, headers={**site.staff, **headers})
        problem(answer, 405)
    assert site.client.get("/topics/api/policies?_method=PUT").status_code == 200
    assert site.ask("policies") == before


@pytest.mark.parametrize("host", ["evil.example", "evil.example:99999", "a b", "", "'\"><script>", "[::1", "a@b"])
def test_the_host_header_has_no_say_in_where_we_send_anybody(site: Site, host: str) -> None:
    request = f"GET /topics?x=%0d%0aX-Evil:1 HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {host}\r\n"
    status, headers, _ = _raw(site, (request + "Connection: close\r\n\r\n").encode())
    assert status < 500
    if status == 307:
        assert headers["location"] == "/topics/?x=%0d%0aX-Evil:1"
    assert "x-evil" not in headers
    document = site.client.get("/topics/api/openapi.json", headers={"Host": "evil.example"})
    assert "evil" not in document.text


@pytest.mark.parametrize(
    "line",
    [
        "X-Request-ID: aaaaaaaa%0d%0aX-Evil: 1",
        "X-Request-ID: " + "a" * 1000,
        'X-Request-ID: "><script>alert(1)</script>',
        "traceparent: 00-zz-zz-zz",
        "traceparent: " + "0" * 5000,
        "tracestate: " + "a=b," * 3000,
        "Accept: application/xml",
        "Accept-Encoding: nonsense",
        "Range: bytes=0-1",
        "Expect: 100-continue",
        "If-None-Match: *",
        "Cookie: " + "a=b; " * 2000,
        "X-Forwarded-For: evil",
        "X-Forwarded-Proto: gopher",
        "Content-Type: \xff\xfe",
        "X-Big: " + "a" * 50_000,
        "Upgrade: websocket",
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_odd_headers_change_nothing(site: Site, line: str) -> None:
    status, headers, body = _raw(site, _request("GET /topics/api/policies", line))
    assert status in (200, 400, 431)
    if status == 200:
        assert json.loads(body)["next"] is None
    assert "x-evil" not in headers
    assert "script" not in headers["x-request-id"]
    assert len(headers["x-request-id"]) <= 128


@pytest.mark.parametrize(
    "rest",
    [
        ["Content-Length: -1"],
        ["Content-Length: " + "9" * 50],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: chunked", "X: 1"],
    ],
    ids="; ".join,
)
def test_a_body_of_doubtful_length_is_refused(site: Site, rest: list[str]) -> None:
    own = [f"Authorization: {site.forum['Authorization']}", f"Content-Type: {ONE}"]
    # What comes after a body that ended early must not pass for another request.
    body = b"zz\r\n\r\nGET /topics/api/policies HTTP/1.1\r\nHost: h\r\n\r\n"
    status, _, _ = _raw(site, _request("POST /topics/api/events", *own, *rest, body=body))
    assert 400 <= status < 500 or status == 501


def test_what_is_no_http_is_refused(site: Site) -> None:
    for request in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"nonsense\r\n\r\n", b"GET\r\n\r\n"):
        assert _raw(site, request)[0] == 400
    assert _raw(site, b"GET /topics/api/policies HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 400, "no Host"


def test_who_hangs_up_harms_nobody(site: Site) -> None:
    address = urlsplit(site.url)
    place = str(address.hostname), int(address.port or 0)
    start = _request("POST /topics/api/events", *(f"{k}: {v}" for k, v in site.forum.items()), "Content-Length: 100000")
    for sent in (b"", start[:40], start, start + b"[" * 1000):
        for _ in range(5):
            with socket.create_connection(place, timeout=10) as connection:
                connection.sendall(sent)
    topic = fresh("topic")
    site.publish(asked(topic))
    site.topic_when(topic)


def test_errors_carry_the_careful_headers_too(site: Site) -> None:
    answers: list[httpx.Response] = [
        site.get("topics/unknown"),
        site.get("sla", from_="never"),
        site.post("{", ONE),
        site.client.get("/nowhere"),
        site.client.get("/topics/api/policies"),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers


def test_what_a_consumer_cannot_take_does_not_stop_the_next(site: Site) -> None:
    """Events about nothing that is known: answers, merges in circles, replies to themselves."""
    one, other = fresh("one"), fresh("other")
    circle: list[Json] = [
        event("topic-merged", {"topic_id": one, "into_topic_id": other}),
        event("topic-merged", {"topic_id": other, "into_topic_id": one}),
        event("topic-merged", {"topic_id": one, "into_topic_id": one}),
        event("member-merged", {"member_id": one, "status": "merged", "into_member_id": one}),
        event("reply-moved", {"topic_id": one, "reply_id": "r", "from_topic_id": one}),
        replied(fresh("unknown"), fresh("r")),
        asked(one, ago(hours=1)),
        asked(other, ago(hours=1)),
    ]
    site.publish(*circle)
    found = site.topic_when(other, lambda topic: topic["topic_id"] == min(one, other))
    assert site.topic(one) == found
