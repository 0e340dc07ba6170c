"""From bytes to events and back: strict for who produces, tolerant for who consumes."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError

from shared.contracts.catalogue import STREAMS, Stream, event_types
from shared.contracts.envelope import Event
from shared.contracts.upcasters import UPCASTERS, Upcaster, upcast, version_of

MAX_AHEAD = timedelta(minutes=5)
"""How far in the future an event's time may lie."""


class UnknownType(Exception):
    """An event type that the reader does not know: counted and skipped, never an error."""


class Undecodable(Exception):
    """Not a valid event; the message says why, in words for who sent it."""


def _union(types: Sequence[type[Event]]) -> TypeAdapter[Event]:
    union = Union[tuple(types)] if len(types) > 1 else types[0]  # noqa: UP007 - made at run time
    annotated = Annotated[union, Field(discriminator="type")] if len(types) > 1 else union
    adapter: TypeAdapter[Event] = TypeAdapter(annotated)  # type: ignore[arg-type]
    return adapter


def plainly(error: ValidationError) -> str:
    """A validation error in one line: where and what, without the value (it may be personal or huge)."""
    parts = []
    for item in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        where = ".".join(str(step) for step in item["loc"] if not (isinstance(step, str) and step in _TYPES))[:200]
        parts.append(f"{where}: {item['msg'][:300]}" if where else item["msg"][:300])
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


_TYPES = event_types()
_NAME = re.compile(r"[\x21-\x7e]{1,255}")
"""What may be a type's name: it is counted by it, so it must not be huge or unprintable."""


class Decoder:
    """Reads the events of a stream as a consumer does: unknown fields are ignored, unknown types skipped."""

    def __init__(self, stream: Stream, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS) -> None:
        self._adapter = _union(stream.events)
        self._types = {event.type_name(): event for event in stream.events}
        self._current = {f"/schemas/{name}.v{event.version}.json" for name, event in self._types.items()}
        self._upcasters = upcasters
        self._stream = stream.name

    def decode(self, value: bytes) -> Event:
        """The event in a record's value. Raises UnknownType or Undecodable."""
        try:
            event = self._adapter.validate_json(value)
        except ValidationError as error:
            return self._slowly(value, error)
        if event.version != 1 and event.dataschema not in self._current and version_of(event.__dict__) < event.version:
            return self._slowly(value, None)
        return event

    def _slowly(self, value: bytes, error: ValidationError | None) -> Event:
        try:
            envelope = json.loads(value)
        except (ValueError, RecursionError) as broken:
            raise Undecodable(f"not JSON in UTF-8: {broken}") from None
        if not isinstance(envelope, dict):
            raise Undecodable("not a JSON object")
        name = envelope.get("type")
        if isinstance(name, str) and name not in self._types:
            if name in _TYPES:
                raise Undecodable(f"{name} does not belong on {self._stream}")
            if not _NAME.fullmatch(name):
                raise Undecodable("type: not the name of an event type")
            raise UnknownType(name)
        event = self._types.get(str(name))
        if event is not None and version_of(envelope) < event.version:
            try:
                lifted = json.dumps(upcast(envelope, event.version, self._upcasters)).encode()
                return event.model_validate_json(lifted)
            except ValidationError as invalid:
                raise Undecodable(f"cannot be lifted to version {event.version}: {plainly(invalid)}") from None
            except Exception as failed:  # an upcaster may trip over anything in data that was never valid
                raise Undecodable(f"cannot be lifted to version {event.version}: {type(failed).__name__}") from None
        raise Undecodable(plainly(error) if error else "not a valid event")


class StrictReader:
    """Reads what a producer sends us, for some streams: unknown types and unknown fields are refused."""

    def __init__(self, streams: Iterable[Stream] = STREAMS) -> None:
        types = {event.type_name(): event for stream in streams for event in stream.events}
        self._adapter = _union(list(types.values()))
        self._names = ", ".join(sorted(types))

    def read(self, envelope: Any) -> Event:
        """The event in an envelope that is already parsed from JSON. Raises Undecodable."""
        try:
            return self._adapter.validate_python(envelope, extra="forbid")
        except ValidationError as error:
            if error.errors()[0]["type"] == "union_tag_invalid":
                raise Undecodable(f"type: unknown here; known are {self._names}") from None
            raise Undecodable(plainly(error)) from None


def encode(event: Event) -> bytes:
    """The event as the value of a record: the envelope in JSON, with what was said and nothing else."""
    event.model_fields_set.add("type")  # a default of the class, and yet always said
    return event.model_dump_json(exclude_unset=True).encode()


def too_far_ahead(time: datetime, now: datetime) -> bool:
    """Whether an event claims to be from more than five minutes after ``now``."""
    return time > now + MAX_AHEAD
