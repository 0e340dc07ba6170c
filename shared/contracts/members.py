"""Events of ``members.events`` and ``members.contacts``. Key: the member's id.

Both streams are compacted, so every record is the whole member; the type says only what happened.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.contracts.envelope import Data, Event
from shared.contracts.types import NO_NUL, Email, Id, Instant, Language, Languages, Name

MemberStatus = Literal["active", "suspended", "merged", "erased"]


class MemberData(Data):
    member_id: Id
    status: MemberStatus
    name: Name | None = None
    locale: Language | None = None
    time_zone: Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL)] | None = None
    languages: Languages = []
    joined_at: Instant | None = None


class MergedMemberData(MemberData):
    status: Literal["merged"] = "merged"
    into_member_id: Id


class ErasedMemberData(Data):
    """Only the id: all that may remain."""

    member_id: Id
    status: Literal["erased"] = "erased"


class ActiveMemberData(MemberData):
    status: Literal["active", "suspended"] = "active"


class SuspendedMemberData(MemberData):
    status: Literal["suspended"] = "suspended"


class MemberRegistered(Event):
    type: Literal["member-registered"] = "member-registered"
    data: ActiveMemberData


class MemberUpdated(Event):
    type: Literal["member-updated"] = "member-updated"
    data: ActiveMemberData


class MemberSuspended(Event):
    type: Literal["member-suspended"] = "member-suspended"
    data: SuspendedMemberData


class MemberReinstated(Event):
    type: Literal["member-reinstated"] = "member-reinstated"
    data: ActiveMemberData


class MemberMerged(Event):
    type: Literal["member-merged"] = "member-merged"
    data: MergedMemberData


class MemberErased(Event):
    type: Literal["member-erased"] = "member-erased"
    data: ErasedMemberData


class ContactData(Data):
    member_id: Id
    email: Email | None = Field(description="null: the forum knows no address any more")


class ContactChanged(Event):
    type: Literal["contact-changed"] = "contact-changed"
    data: ContactData
