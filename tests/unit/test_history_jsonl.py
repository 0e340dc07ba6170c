"""A file of CloudEvents, one a line, as backfill events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.history import Findings, HistoryError, read_jsonl
from services.topics.ingestion import check, records
from shared.contracts.codec import encode
from shared.contracts.envelope import Event

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def reply(id: str, **more: Any) -> dict[str, Any]:
    data = {
        "topic_id": "t",
        "reply_id": id,
        "author_id": "a",
        "author_kind": "member",
        "visibility": "public",
        **more.pop("data", {}),
    }
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/forum",
        "type": "reply-posted",
        "time": "2020-01-01T00:00:00Z",
        "data": data,
        **more,
    }


def member(id: str, **data: Any) -> dict[str, Any]:
    given = {"member_id": id, "status": "active", "name": "Ada", **data}
    return {**reply(id), "type": "member-registered", "data": given}


def written(folder: Path, *lines: Any) -> Path:
    file = folder / "history.jsonl"
    file.write_bytes(b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines))
    return file


def read(file: Path, **more: Any) -> tuple[list[Event], Findings]:
    findings = Findings()
    return list(read_jsonl(file, findings=findings, now=NOW, **more)), findings


def test_each_line_is_an_event_marked_as_backfill(tmp_path: Path) -> None:
    events, findings = read(written(tmp_path, reply("1"), reply("2", backfill=False), reply("3", backfill=True)))
    assert [(event.id, event.backfill) for event in events] == [("1", True), ("2", True), ("3", True)]
    assert all(b'"backfill":true' in encode(event) for event in events)
    assert findings.events == {"reply-posted": 3}
    assert findings.lines() == []


def test_a_member_with_an_address_is_split_as_at_the_door(tmp_path: Path) -> None:
    envelope = member("ada", email="ada@example.org")
    events, _ = read(written(tmp_path, envelope))
    assert records(events) == records(check([{**envelope, "backfill": True}], NOW))
    assert [stream for stream, _, _ in records(events)] == ["members.events", "members.contacts"]
    assert all(event.backfill for event in events)
    assert b"example.org" not in records(events)[0][2]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{\n", "not JSON"),
        (b"\xff\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b'{"a": NaN}\n', "not JSON"),
        (reply("x", type="topic-claimed"), "type: unknown here"),
        (reply("x", type="contact-changed"), "type: unknown here"),
        (reply("x", data={"reply_id": ""}), "data.reply_id"),
        (reply("x", colour="red"), "colour"),
        (reply("x", time="2026-01-01T00:05:01Z"), "5 minutes"),
        (member("x", email="no address"), "email"),
        (b'"' + b"x" * 1_100_000 + b'"\n', "longer than"),
    ],
)
def test_a_bad_line_is_reported_by_number_and_nothing_stops(tmp_path: Path, line: Any, why: str) -> None:
    file = written(tmp_path, reply("1"), b"\n", line, reply("2"))
    events, findings = read(file)
    assert [event.id for event in events] == ["1", "2"]
    assert findings.refused == 1
    assert findings.examples[0].startswith("line 3: ")
    assert why in findings.examples[0]
    with pytest.raises(HistoryError, match=rf"history\.jsonl, line 3: .*{why}"):
        read(file, strict=True)


def test_of_many_bad_lines_the_first_twenty_are_told_and_all_are_counted(tmp_path: Path) -> None:
    events, findings = read(written(tmp_path, *[b"bad\n"] * 50, reply("1")))
    assert len(events) == 1
    assert findings.refused == 50
    assert [line.partition(":")[0] for line in findings.examples] == [f"line {n}" for n in range(1, 21)]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_marks_ends_and_empty_lines_do_no_harm(tmp_path: Path, end: bytes) -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps(reply("1")).encode() + b"\r\n",
        b"  \n",
        json.dumps(reply("2")).encode() + end,
    ]
    events, findings = read(written(tmp_path, *lines))
    assert [event.id for event in events] == ["1", "2"]
    assert findings.refused == 0


def test_a_second_run_gives_the_same_bytes(tmp_path: Path) -> None:
    file = written(tmp_path, *(member(f"m{n}", email=f"m{n}@example.org") for n in range(100)))
    assert records(read(file)[0]) == records(read(file)[0])


def test_progress_ends_at_the_end(tmp_path: Path) -> None:
    file = written(tmp_path, *(reply(str(n)) for n in range(2500)))
    told: list[tuple[str, int, int]] = []
    read(file, progress=lambda *now: told.append(now))
    assert len(told) == 3
    assert told[-1] == ("history.jsonl", file.stat().st_size, file.stat().st_size)


def test_an_absent_file_is_a_plain_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="cannot be read: No such file"):
        read_jsonl(tmp_path / "absent")
