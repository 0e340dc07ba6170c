"""Envelopes by hand: the events of a story, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.oracle.figures import micros, rfc3339

Event = dict[str, Any]

FORUM = "forum.events"
MEMBERS = "members.events"
APPLICATIONS = "applications.events"

BEGINNING = "2024-01-01T00:00:00Z"
"""A Monday: the zero of every time that a story tells, far enough back for everything in it to be past."""


def at(hours: float = 0, *, days: int = 0, us: int = 0) -> str:
    """An instant, counted from the beginning of the stories."""
    return rfc3339(micros(BEGINNING) + timedelta(days=days, hours=hours, microseconds=us) // timedelta(microseconds=1))


def stream_of(event: Mapping[str, Any]) -> str:
    """The Kafka topic that an event belongs to."""
    if event["type"].startswith("member-"):
        return MEMBERS
    return APPLICATIONS if event["type"].startswith("star-") else FORUM


def key_of(event: Mapping[str, Any]) -> str:
    """The key of an event on its stream."""
    key: str = event["data"]["topic_id" if stream_of(event) == FORUM else "member_id"]
    return key


def envelope(
    type_: str, time: str, data: dict[str, Any], *, id_: str, source: str = "/forum/test", backfill: bool = False
) -> Event:
    """One CloudEvent."""
    stands_for = f"topic/{data['topic_id']}" if "topic_id" in data else f"member/{data['member_id']}"
    event: Event = {
        "specversion": "1.0",
        "id": id_,
        "source": source,
        "type": type_,
        "subject": stands_for,
        "time": time,
        "datacontenttype": "application/json",
        "dataschema": f"/schemas/{type_}.v1.json",
        "data": data,
    }
    if backfill:
        event["backfill"] = True
    return event


def member_data(member_id: str, status: str, into: str | None = None) -> dict[str, Any]:
    """A whole member, as every record of one is."""
    data: dict[str, Any] = {
        "member_id": member_id,
        "status": status,
        "name": f"The member {member_id}",
        "locale": "en",
        "time_zone": "UTC",
        "languages": ["en"],
        "joined_at": "2020-01-01T00:00:00Z",
    }
    if into is not None:
        data["into_member_id"] = into
    return data


class Story:
    """Events one after the other; each call adds one and returns the story. Ids follow the telling."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def tell(
        self,
        type_: str,
        time: str,
        *,
        id_: str | None = None,
        source: str | None = None,
        backfill: bool = False,
        **data: Any,
    ) -> Story:
        """Any event of any type."""
        if source is None:
            source = "/applications" if type_.startswith("star-") else "/forum/test"
        name = f"event-{len(self.events):03d}" if id_ is None else id_
        self.events.append(envelope(type_, time, data, id_=name, source=source, backfill=backfill))
        return self

    def topic(
        self,
        topic_id: str,
        time: str,
        author_id: str = "ada",
        *,
        author_kind: str = "member",
        kind: str = "question",
        space: str = "help",
        language: str | None = "en",
        tags: tuple[str, ...] = (),
        title: str | None = None,
        **envelope_fields: Any,
    ) -> Story:
        """A topic-created."""
        data: dict[str, Any] = {
            "author_id": author_id,
            "author_kind": author_kind,
            "title": f"About {topic_id}" if title is None else title,
            "space": space,
            "tags": list(tags),
            "kind": kind,
            "url": "https://forum.example/t/1",
        }
        if language is not None:
            data["language"] = language
        return self.tell("topic-created", time, topic_id=topic_id, **data, **envelope_fields)

    def reply(
        self,
        topic_id: str,
        reply_id: str,
        time: str,
        author_id: str = "ben",
        *,
        author_kind: str = "member",
        visibility: str = "public",
        **envelope_fields: Any,
    ) -> Story:
        """A reply-posted."""
        return self.tell(
            "reply-posted",
            time,
            topic_id=topic_id,
            reply_id=reply_id,
            author_id=author_id,
            author_kind=author_kind,
            visibility=visibility,
            **envelope_fields,
        )

    def member(self, member_id: str, type_: str, time: str, *, into: str | None = None) -> Story:
        """A record of a member: registered, updated, suspended, reinstated, merged (into) or erased."""
        if type_ == "erased":
            return self.tell("member-erased", time, member_id=member_id)
        status = {"merged": "merged", "suspended": "suspended"}.get(type_, "active")
        return self.tell(f"member-{type_}", time, **member_data(member_id, status, into))

    def kudos(
        self, topic_id: str, reply_id: str | None, kudos_id: str, time: str, giver_id: str | None = None
    ) -> Story:
        """A kudos-given, on a reply or on the topic itself."""
        return self._kudos("kudos-given", topic_id, reply_id, kudos_id, time, giver_id)

    def kudos_back(
        self, topic_id: str, reply_id: str | None, kudos_id: str, time: str, giver_id: str | None = None
    ) -> Story:
        """A kudos-revoked."""
        return self._kudos("kudos-revoked", topic_id, reply_id, kudos_id, time, giver_id)

    def _kudos(
        self, type_: str, topic_id: str, reply_id: str | None, kudos_id: str, time: str, giver_id: str | None
    ) -> Story:
        data: dict[str, Any] = {"topic_id": topic_id, "kudos_id": kudos_id}
        if reply_id is not None:
            data["reply_id"] = reply_id
        if giver_id is not None:
            data["giver_id"] = giver_id
        return self.tell(type_, time, **data)
