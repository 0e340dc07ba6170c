"""Wiping erased members from what waits to be sent and from what could not be read."""

import json
import re
from collections.abc import Mapping
from typing import Any

from shared.contracts.catalogue import STREAMS
from shared.messaging.consumer import DeadLetter
from shared.messaging.outbox import SQL, event_id

_KEYED_BY_MEMBER = [stream.name for stream in STREAMS if stream.key == "member_id"]

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which JSON can write and UTF-8 cannot: never part of an id."""


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
            await connection.execute(SQL.empty_dead_letters, needle)
        await connection.execute(SQL.empty_dead_letters_of_key, member_id.encode())
        await connection.execute(SQL.rename_sequences, _KEYED_BY_MEMBER, member_id, stand_in)
        await connection.execute(SQL.forget_sequences, _KEYED_BY_MEMBER, member_id)


def strings_in(letter: DeadLetter) -> set[str]:
    """Every string of a dead letter that may be an id, as far as it can be read at all."""
    found: set[str] = set()
    if letter.key is not None:
        found.add(letter.key.decode("utf-8", "replace"))
    try:
        pending = [json.loads(letter.value or b"null")]
    except (ValueError, RecursionError):
        pending = re.findall(r'"([^"\\]{1,255})"', (letter.value or b"").decode("utf-8", "replace"))
    while pending:
        item = pending.pop()
        if isinstance(item, str) and len(item) <= 255 and not _SURROGATE.search(item):
            found.add(item)
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
    return found


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
