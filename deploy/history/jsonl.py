"""A file of CloudEvents, one a line, as backfill events: read as strictly as the HTTP door reads."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic_core import from_json

from deploy.history.findings import Findings, HistoryError, Progress
from services.topics.ingestion import check
from shared.contracts.envelope import Event
from shared.web import Problem

LONGEST_LINE = 1024 * 1024
"""No valid event is longer."""
TELL_EVERY = 1000
_BOM = b"\xef\xbb\xbf"


def read_jsonl(
    file: Path,
    progress: Progress | None = None,
    *,
    strict: bool = False,
    findings: Findings | None = None,
    now: datetime | None = None,
) -> Iterator[Event]:
    """The forum and member events of ``file``, marked as backfill; the same ones in the same order every time.

    A member with an ``email`` becomes two events, as at the HTTP door. A line that is no valid event is counted and
    left out; with ``strict`` it ends the reading with a HistoryError. Empty lines are nothing.
    """
    try:
        size = file.stat().st_size
        stream = file.open("rb")
    except OSError as error:
        raise HistoryError(f"{file} cannot be read: {error.strerror or error}") from None
    return _events(file, stream, size, progress, strict, findings or Findings(), now or datetime.now(UTC))


def _events(
    file: Path,
    stream: BinaryIO,
    size: int,
    progress: Progress | None,
    strict: bool,
    findings: Findings,
    now: datetime,
) -> Iterator[Event]:
    with stream:
        done = 0
        for number, (line, length) in enumerate(_lines(stream), 1):
            done += length
            if progress and (number % TELL_EVERY == 0 or done >= size):
                progress(file.name, done, size)
            if number == 1:
                line = line.removeprefix(_BOM)
            if not line.strip():
                continue
            try:
                events = _read(line, now)
            except _Bad as why:
                if strict:
                    raise HistoryError(f"{file}, line {number:,}: {why}") from None
                findings.refuse(f"line {number:,}", str(why))
                continue
            for event in events:
                findings.events[event.type] += 1
                yield event


class _Bad(Exception):
    """A line that is no valid event; the message says why."""


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each line, or as much of it as is more than enough, and its length."""
    while line := stream.readline(LONGEST_LINE + 1):
        length = len(line)
        if length > LONGEST_LINE:
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(LONGEST_LINE)
                length += len(rest)
        yield line, length


def _read(line: bytes, now: datetime) -> list[Event]:
    if len(line) > LONGEST_LINE:
        raise _Bad(f"longer than {LONGEST_LINE:,} bytes")
    try:
        envelope = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise _Bad(f"not JSON in UTF-8: {error}") from None
    if not isinstance(envelope, dict):
        raise _Bad("not a JSON object")
    try:
        return check([{**envelope, "backfill": True}], now)
    except Problem as problem:
        raise _Bad("; ".join(str(one["detail"]) for one in problem.members["errors"])) from None
