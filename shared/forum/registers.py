"""Registers: what the last writer of each field said, whatever the order in which events arrive.

A stamp orders the writers of a field: the event's time as an instant, then its source, then its id, as bytes. Two
opposites (deleted and restored) are two instants, of each the latest.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.contracts.envelope import Event
from shared.contracts.types import microseconds

NEVER = ""


def stamp_of(event: Event) -> str:
    """The event's place among the writers of a register; compared as bytes (``COLLATE "C"``).

    Python compares strings by code point, which is the order of their UTF-8 bytes: what is sorted here is in the order
    in which PostgreSQL locks and compares.
    """
    return f"{microseconds(event.time):016d}{event.source}\x01{event.id}"


def latest(one: datetime | None, other: datetime) -> datetime:
    """The later of two instants, of which the first may not be known."""
    return other if one is None or other > one else one


@dataclass(slots=True)
class TopicRow:
    """A topic's registers, as far as a batch says something of them; the fields are the table's columns."""

    topic_id: str
    created_stamp: str = NEVER
    created_at: datetime | None = None
    author_id: str | None = None
    author_kind: str | None = None
    url: str | None = None
    appended_at: datetime | None = None
    backfill: bool | None = None
    title_stamp: str = NEVER
    title: str | None = None
    tags_stamp: str = NEVER
    tags: str | None = None
    language_stamp: str = NEVER
    language: str | None = None
    kind_stamp: str = NEVER
    kind: str | None = None
    space_stamp: str = NEVER
    space: str | None = None
    merged_stamp: str = NEVER
    into_topic_id: str | None = None
    closed_at: datetime | None = None
    reopened_at: datetime | None = None
    deleted_at: datetime | None = None
    restored_at: datetime | None = None


@dataclass(slots=True)
class ReplyRow:
    """A reply's registers."""

    reply_id: str
    topic_stamp: str = NEVER
    topic_id: str | None = None
    posted_stamp: str = NEVER
    posted_at: datetime | None = None
    author_id: str | None = None
    author_kind: str | None = None
    visibility: str | None = None
    backfill: bool | None = None
    deleted_at: datetime | None = None
    restored_at: datetime | None = None


@dataclass(slots=True)
class AcceptanceRow:
    """An acceptance's registers."""

    topic_id: str
    reply_id: str
    accepted_stamp: str = NEVER
    accepted_at: datetime | None = None
    backfill: bool | None = None
    revoked_at: datetime | None = None


@dataclass(slots=True)
class KudosRow:
    """A kudos' registers."""

    kudos_id: str
    given_stamp: str = NEVER
    given_at: datetime | None = None
    topic_id: str | None = None
    reply_id: str | None = None
    giver_id: str | None = None
    backfill: bool | None = None
    revoked_at: datetime | None = None


@dataclass(slots=True)
class ResponseRow:
    """What topics.events says of a topic's first response: of its facts the one with the highest sequence stands."""

    topic_id: str
    sequence: int
    reply_id: str | None
    within_target: bool | None
    backfill: bool
