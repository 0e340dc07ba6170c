"""The HTTP door for the forum's events: checked strictly, all or nothing, then into Kafka."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from shared.contracts.catalogue import CONTACTS, FORUM, MEMBERS, Stream
from shared.contracts.codec import StrictReader, Undecodable, encode, too_far_ahead
from shared.contracts.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE, Event
from shared.contracts.members import ContactChanged, MemberErased
from shared.messaging import KafkaUnavailable, Messaging
from shared.observability import current_traceparent, metrics
from shared.web import Problem

_READER = StrictReader([FORUM, MEMBERS])
_CONTACTS = StrictReader([CONTACTS])
_MOST_ERRORS = 100
_STREAM_OF: dict[str, Stream] = {event.type_name(): stream for stream in (FORUM, MEMBERS) for event in stream.events}
_STREAM_OF[ContactChanged.type_name()] = CONTACTS


def read_body(body: bytes, content_type: str) -> list[Any]:
    """The envelopes in a request's body. Raises Problem 415 or 400."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in (CONTENT_TYPE, BATCH_CONTENT_TYPE):
        raise Problem(415, f"Send {CONTENT_TYPE} for one event or {BATCH_CONTENT_TYPE} for a list of them.")
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _invalid([(0, f"not JSON in UTF-8: {error}")]) from None
    if media_type == CONTENT_TYPE:
        return [parsed]
    if not isinstance(parsed, list):
        raise _invalid([(0, f"{BATCH_CONTENT_TYPE} is a JSON array of events")])
    return parsed


def check(envelopes: Sequence[Any], now: datetime) -> list[Event]:
    """The events to publish: what each envelope says, and a member's address apart. Raises Problem 400."""
    events: list[Event] = []
    errors: list[tuple[int, str]] = []
    for index, envelope in enumerate(envelopes):
        try:
            events += _read(envelope, now)
        except Undecodable as error:
            errors.append((index, str(error)))
            if len(errors) == _MOST_ERRORS:
                break  # a body of numbers alone would keep everybody waiting for seconds
    if errors:
        metrics.HTTP_EVENTS.labels("topics", "invalid").inc(len(errors))
        raise _invalid(errors)
    return events


def _read(envelope: Any, now: datetime) -> list[Event]:
    envelope, email = _without_email(envelope)
    event = _READER.read(envelope)
    if too_far_ahead(event.time, now):
        raise Undecodable(f"time: more than 5 minutes ahead of this server, whose clock says {now.isoformat()}")
    if event.traceparent is None and (trace := current_traceparent()):
        event.traceparent = trace
    if email is _ABSENT:
        return [event]
    if isinstance(event, MemberErased):
        raise Undecodable("data.email: an erased member has none")
    contact = {
        **event.model_dump(exclude_unset=True, exclude={"data", "subject", "dataschema"}),
        "id": hashlib.sha256(f"{event.source}\n{event.id}\ncontact".encode()).hexdigest(),
        "type": ContactChanged.type_name(),
        "data": {"member_id": event.data.member_id, "email": email},
    }
    return [event, _CONTACTS.read(contact)]


_ABSENT = object()


def _without_email(envelope: Any) -> tuple[Any, Any]:
    """Split a member's address from the member, so that it reaches the contacts' stream alone."""
    if isinstance(envelope, dict) and isinstance(data := envelope.get("data"), dict):
        is_member = str(envelope.get("type", "")).startswith("member-")
        if is_member and "email" in data:
            rest = {name: value for name, value in data.items() if name != "email"}
            return {**envelope, "data": rest}, data["email"]
    return envelope, _ABSENT


def records(events: Sequence[Event]) -> list[tuple[str, str, bytes]]:
    """Each event as (stream, key, value)."""
    found = []
    for event in events:
        stream = _STREAM_OF[event.type]
        found.append((stream.name, str(getattr(event.data, stream.key_field(event.type))), encode(event)))
    return found


class Door:
    """The strict door for envelopes that are made here, such as those of an adapter."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging

    async def publish(self, envelopes: Sequence[Any]) -> None:
        """Check envelopes and take them to Kafka. Raises Problem 400 or 503."""
        await publish(self._messaging, check(envelopes, now()))


async def publish(messaging: Messaging, events: Sequence[Event]) -> None:
    """Take events to Kafka. Raises Problem 503 where some may not be there: send all again, with the same ids."""
    try:
        await messaging.send_all(records(events))
    except KafkaUnavailable as error:
        metrics.HTTP_EVENTS.labels("topics", "unavailable").inc(len(events))
        raise Problem(
            503,
            "Kafka does not answer. Some events may have been taken: send all of them again with the same ids.",
            type="kafka-unavailable",
            headers={"Retry-After": "5"},
        ) from error
    metrics.HTTP_EVENTS.labels("topics", "accepted").inc(len(events))


def now() -> datetime:
    """This door's own clock."""
    return datetime.now(UTC)


def _invalid(errors: list[tuple[int, str]]) -> Problem:
    return Problem(
        400,
        "Nothing was published. Mend what `errors` names and send the whole request again.",
        type="invalid-events",
        errors=[{"index": index, "detail": detail} for index, detail in errors],
    )
