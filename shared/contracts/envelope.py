"""The CloudEvents 1.0 envelope in JSON, structured mode (https://cloudevents.io)."""

from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from shared.contracts.types import NO_NUL, Id, Instant, Url

CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"


Traceparent = Annotated[
    str, StringConstraints(max_length=55, pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
]
"""W3C Trace Context, level 1."""


class Data(BaseModel):
    """What an event says. Unknown fields are refused by producers and ignored by consumers."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})


class Event(BaseModel):
    """One event: the attributes that all of them have. ``source`` and ``id`` together name it."""

    version: ClassVar[int] = 1
    """Version of the type's data; older ones are lifted by ``upcasters``."""

    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: str
    subject: Annotated[str, StringConstraints(max_length=1024, pattern=NO_NUL)] | None = None
    time: Instant
    datacontenttype: Literal["application/json"] | None = None
    dataschema: Url | None = None
    traceparent: Traceparent | None = None
    tracestate: Annotated[str, StringConstraints(max_length=512, pattern=r"^[\x20-\x7e]*$")] | None = None
    backfill: StrictBool = Field(
        False, description="history, or what history alone causes: read, but not told to anyone"
    )
    sequence: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(
        None, description="counter of the key, on events of ours: of the facts about one thing the highest stands"
    )
    data: Any

    @classmethod
    @cache
    def type_name(cls) -> str:
        """The event's type, like ``topic-created``."""
        name: str = cls.model_fields["type"].default
        return name

    @classmethod
    @cache
    def schema_path(cls) -> str:
        """Where the frozen JSON Schema of this version is served, and what ``dataschema`` says."""
        return f"/schemas/{cls.type_name()}.v{cls.version}.json"
