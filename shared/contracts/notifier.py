"""Events of ``notifier.events`` and ``notifier.availability``. Key: the member's id."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.contracts.envelope import Data, Event
from shared.contracts.members import MemberErased
from shared.contracts.types import NO_NUL, Id, Instant, Label, Languages, Tags, Text

Channel = Literal["email", "push", "inbox"]
LocalTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class NotificationData(Data):
    member_id: Id
    delivery_id: Id
    channel: Channel
    category: Label


class NotificationAccepted(Event):
    type: Literal["notification-accepted"] = "notification-accepted"
    data: NotificationData


class NotificationFailedData(NotificationData):
    reason: Text


class NotificationFailed(Event):
    type: Literal["notification-failed"] = "notification-failed"
    data: NotificationFailedData


class ContactSuppressedData(Data):
    member_id: Id
    channel: Channel
    reason: Text


class ContactSuppressed(Event):
    type: Literal["contact-suppressed"] = "contact-suppressed"
    data: ContactSuppressedData


class QuietHours(Data):
    """A half-open window of local time that may span midnight."""

    start: LocalTime
    end: LocalTime
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]


class AvailabilityData(Data):
    member_id: Id
    paused_until: Instant | None = None
    quiet_hours: QuietHours | None = None
    daily_budget: Annotated[int, Field(ge=0, le=1000)] | None = None
    muted_spaces: Tags = []
    muted_tags: Tags = []
    muted_languages: Languages = []


class AvailabilityChanged(Event):
    type: Literal["availability-changed"] = "availability-changed"
    data: AvailabilityData


__all__ = ["AvailabilityChanged", "ContactSuppressed", "MemberErased", "NotificationAccepted", "NotificationFailed"]
