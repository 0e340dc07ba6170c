"""Opaque cursors and bounds of a page."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query

from shared.web.problems import Problem

MAX_CURSOR = 4096
"""Characters: room for three ids of 255 characters of four bytes each, in base64."""

MAX_LIMIT = 200

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many to list at most")]
"""The query parameter ``limit``; give it a default: ``limit: Limit = 50``."""

Cursor = Annotated[str | None, Query(max_length=MAX_CURSOR, description="`next` of the page before, unchanged")]
"""The query parameter ``cursor``: ``cursor: Cursor = None``."""

CursorValue = str | int | float | bool | datetime | None


def encode_cursor(values: Sequence[CursorValue]) -> str:
    """Where the next page starts, as URL-safe base64 (RFC 4648 section 5) of a JSON list, without padding."""
    plain = [v.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(v, datetime) else v for v in values]
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # Escaped, an id of 255 characters of four bytes would outgrow MAX_CURSOR.
    return base64.urlsafe_b64encode(text.encode("utf-8", "backslashreplace")).rstrip(b"=").decode()


def _fits(value: Any, kind: type) -> Any:
    if kind is datetime:
        if not isinstance(value, str):
            raise ValueError
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC)
    if kind is float and type(value) is int:
        value = float(value)
    # Exactly the kind: to Python, True is an int as well.
    if type(value) is not kind:
        raise ValueError
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        # PostgreSQL's bigint.
        raise ValueError
    if isinstance(value, str):
        value.encode()
        if "\x00" in value:
            raise ValueError
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The values of a cursor, each of the kind that is asked for (str, int, float, bool or datetime), or None.

    A cursor is the caller's to forge: whatever is not exactly such a list is a 400 problem. It is a position, never a
    permission.
    """
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = json.loads(text, parse_constant=_no_constant)
        if not isinstance(values, list) or len(values) != len(kinds):
            raise ValueError
        return [None if value is None else _fits(value, kind) for value, kind in zip(values, kinds, strict=True)]
    except (ValueError, OverflowError, RecursionError, binascii.Error):
        raise Problem(
            400, "The cursor is not one that this list gave out. Start again without it.", type="bad-cursor"
        ) from None
