"""The bounded types that every event is made of.

Every string and list has a bound, so that no event can outgrow a Kafka record (1 MiB) or an index entry
of PostgreSQL, and none may hold NUL, which PostgreSQL's text cannot.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeGuard

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints, WithJsonSchema

NO_NUL = r"^[^\x00]*$"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = instant - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be kept: one without NUL and without a lone surrogate, which UTF-8 cannot write.

    For what no field's type has checked, such as values inside of any JSON.
    """
    if not isinstance(value, str) or "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instant(value: object) -> object:
    """Refuse what RFC 3339 does not call a date-time, such as 1700000000 or "2026-11-22"."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or len(value) < 20 or value[4] != "-" or value[10] not in "Tt ":
        raise ValueError('a time is RFC 3339 with an offset, like "2026-11-22T10:00:00Z"')
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time is between 1970 and 9999 in UTC") from None
    if value < EPOCH:
        raise ValueError("times before 1970 are not kept")
    return value


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_instant),
    AfterValidator(_in_utc),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A point in time, kept to the microsecond (finer digits are cut off), in UTC."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=NO_NUL)]
"""An opaque id, unique in an installation, compared as UTF-8 bytes."""

Name = Annotated[str, StringConstraints(max_length=255, pattern=NO_NUL)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_NUL)]
"""A space, a tag, a kind: short, and chosen by the forum."""

Text = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
LongText = Annotated[str, StringConstraints(max_length=20_000, pattern=NO_NUL)]
Url = Annotated[str, StringConstraints(max_length=2048, pattern=NO_NUL)]
Email = Annotated[
    str, StringConstraints(min_length=3, max_length=320, pattern=r"^[^\x00-\x20\x7f@]+@[^\x00-\x20\x7f@]+$")
]
Language = Annotated[str, StringConstraints(min_length=1, max_length=35, pattern=r"^[A-Za-z0-9_-]+$")]
"""A BCP 47 language tag (RFC 5646 allows 35 characters where no private use is agreed)."""

Tags = Annotated[list[Label], Field(max_length=100)]
Languages = Annotated[list[Language], Field(max_length=50)]
Score = Annotated[float, Field(allow_inf_nan=False)]
"""Any finite number; JSON knows no other."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
AuthorKind = Literal["member", "staff", "bot"]
