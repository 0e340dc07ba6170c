"""Wiping erased members from what waits to be sent and from what could not be read."""

import json
import re
from collections.abc import Mapping
from typing import Any

from shared.contracts.catalogue import STREAMS
from shared.messaging.outbox import SQL, event_id

_KEYED_BY_MEMBER = [stream.name for stream in STREAMS if stream.key == "member_id"]

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which JSON can write and UTF-8 cannot: never part of an id."""

_STRING = re.compile(r'(?<!\\)(?="((?:[^"\\]++|\\.)++)")', re.DOTALL)
"""What may be a string of JSON in what is none, from any quote on: which one opens, nobody can know there."""
_NUMBER = re.compile(r'"\s*:\s*(-?\d+)')


async def forget(connection: Any, erased: Mapping[str, str]) -> None:
    """Put stand-ins for erased members' ids into the outbox, and empty the dead letters that name them.

    A dead letter is bytes that nobody could read as an event, so nothing finer than its whole value can go.
    """
    # The relay deletes what it has sent: row by row, it and we could each hold what the other waits for.
    await connection.execute("LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE")
    for member_id, stand_in in erased.items():
        for needle in {json.dumps(member_id).encode(), json.dumps(member_id, ensure_ascii=False).encode()}:
            rows = await connection.fetch(SQL.outbox_naming, needle)
            if rows:
                renamed = [_renamed(row, member_id, stand_in) for row in rows]
                await connection.execute(
                    SQL.rewrite_outbox,
                    [row["id"] for row in rows],
                    [key for key, _ in renamed],
                    [value for _, value in renamed],
                )
        await connection.execute(SQL.rename_sequences, _KEYED_BY_MEMBER, member_id, stand_in)
        await connection.execute(SQL.forget_sequences, _KEYED_BY_MEMBER, member_id)
    naming = [
        row["id"]
        async for row in connection.cursor(SQL.read_dead_letters)
        if not erased.keys().isdisjoint(strings_in(row["key"], row["value"]))
    ]
    if naming:
        await connection.execute(SQL.empty_dead_letters, naming)


def strings_in(*parts: bytes | None) -> set[str]:
    """Every string and number of a dead letter's key and value that may be an id, as far as they can be read at all."""
    found: set[str] = set()
    pending: list[Any] = []
    for part in filter(None, parts):
        text = part.decode("utf-8", "replace")
        pending.append(text)
        try:
            # Numbers as they are written, and of a name that is there twice both values.
            pending.append(json.loads(part, object_pairs_hook=list, parse_int=str, parse_float=str))
        except (ValueError, RecursionError):
            pending += map(_unescaped, _STRING.findall(text))
            pending += _NUMBER.findall(text)
    while pending:
        item = pending.pop()
        if isinstance(item, str) and len(item) <= 255 and not _SURROGATE.search(item):
            found.add(item)
        elif isinstance(item, list | tuple):
            pending += item
    return found


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _renamed(row: Any, member_id: str, stand_in: str) -> tuple[str, bytes]:
    """Key and value of an outgoing record that names them no more."""
    key, envelope = row["key"], json.loads(row["value"])
    if envelope["type"] != "member-erased":
        envelope["data"] = _replaced(envelope["data"], member_id, stand_in)
        if key == member_id and "sequence" in envelope:
            # A fact about the member: its key is their name, and its id is made of that.
            key = stand_in
            envelope["id"] = event_id(row["stream"], key, envelope["sequence"])
    return key, json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def _replaced(data: Any, member_id: str, stand_in: str, name: str = "") -> Any:
    """Only fields that hold members are renamed: a title or a kind may be the same word."""
    if isinstance(data, dict):
        return {key: _replaced(value, member_id, stand_in, key) for key, value in data.items()}
    if isinstance(data, list):
        return [_replaced(item, member_id, stand_in, name) for item in data]
    holds_member = name in ("author_id", "responder_id", "member_id", "giver_id", "accepted_by", "into_member_id")
    return stand_in if holds_member and data == member_id else data
