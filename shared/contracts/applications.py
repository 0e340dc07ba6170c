"""Events of ``applications.events``. Key: the member's id; of an announcement, its own id."""

from typing import Literal

from pydantic import Field

from shared.contracts.envelope import Data, Event
from shared.contracts.types import Id, Instant, Label, LongText, Text


class ApplicationData(Data):
    member_id: Id
    application_id: Id


class ApplicationSubmitted(Event):
    type: Literal["application-submitted"] = "application-submitted"
    data: ApplicationData


class ApplicationWithdrawn(Event):
    type: Literal["application-withdrawn"] = "application-withdrawn"
    data: ApplicationData


class QuizPassed(Event):
    type: Literal["quiz-passed"] = "quiz-passed"
    data: ApplicationData


class QuizFailed(Event):
    type: Literal["quiz-failed"] = "quiz-failed"
    data: ApplicationData


class ApplicationDecidedData(ApplicationData):
    outcome: Label
    reason: LongText | None = None


class ApplicationDecided(Event):
    type: Literal["application-decided"] = "application-decided"
    data: ApplicationDecidedData


class MembershipData(Data):
    member_id: Id


class StarAppointedData(MembershipData):
    rank: Label | None = None


class StarAppointed(Event):
    type: Literal["star-appointed"] = "star-appointed"
    data: StarAppointedData


class StarRankedData(MembershipData):
    rank: Label


class StarRanked(Event):
    """A Star has another rank from now on."""

    type: Literal["star-ranked"] = "star-ranked"
    data: StarRankedData


class ProgrammeInvitedData(Data):
    member_id: Id
    edition: Label


class ProgrammeInvited(Event):
    """An eligible member may apply; nobody is told twice."""

    type: Literal["programme-invited"] = "programme-invited"
    data: ProgrammeInvitedData


class StarRetiredData(MembershipData):
    reason: Text | None = None


class StarRetired(Event):
    type: Literal["star-retired"] = "star-retired"
    data: StarRetiredData


class PerkData(Data):
    member_id: Id
    grant_id: Id
    perk: Label


class PerkGranted(Event):
    type: Literal["perk-granted"] = "perk-granted"
    data: PerkData


class PerkFulfilled(Event):
    type: Literal["perk-fulfilled"] = "perk-fulfilled"
    data: PerkData


class JamData(Data):
    member_id: Id
    jam_id: Id
    answer_by: Instant | None = None


class JamInvited(Event):
    type: Literal["jam-invited"] = "jam-invited"
    data: JamData


class JamAccepted(Event):
    type: Literal["jam-accepted"] = "jam-accepted"
    data: JamData


class JamDeclinedData(JamData):
    lapsed: bool | None = Field(None, description="nobody declined: the time to answer was over")


class JamDeclined(Event):
    type: Literal["jam-declined"] = "jam-declined"
    data: JamDeclinedData


class AnnouncementData(Data):
    announcement_id: Id
    title: Text
    text: LongText
    audience: Label
    embargo_until: Instant | None = None


class AnnouncementPublished(Event):
    type: Literal["announcement-published"] = "announcement-published"
    data: AnnouncementData
