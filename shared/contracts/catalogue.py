"""The one catalogue of streams: Kafka topics, their keys, readers, retention and event types.

Kafka topics are created from it; the AsyncAPI document, the event map in the README and the values of a
deployment are generated from it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from shared.contracts import applications, forum, leaderboard, members, notifier, topics
from shared.contracts.envelope import Event

Party = Literal["forum", "topics", "notifier", "leaderboard", "applications"]
SERVICES: tuple[Party, ...] = ("topics", "notifier", "leaderboard", "applications")
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Stream:
    """A Kafka topic. ``key`` names the field of ``data`` that is the record's key."""

    name: str
    key: str
    written_by: tuple[Party, ...]
    read_by: tuple[Party, ...]
    kept: Literal["for ever", "compacted"] | int
    """For ever, the last record of each key, or a number of days."""
    events: tuple[type[Event], ...]
    key_of_type: tuple[tuple[str, str], ...] = ()
    """Event types whose key is another field."""

    def key_field(self, event_type: str) -> str:
        """The field of ``data`` that keys an event of this type."""
        return self._key_of_type.get(event_type, self.key)

    @cached_property
    def _key_of_type(self) -> dict[str, str]:
        return dict(self.key_of_type)

    def config(self) -> dict[str, str]:
        """The Kafka topic's configuration. A day bounds how long compaction may wait to wipe a value."""
        common = {"message.timestamp.type": "LogAppendTime", "segment.ms": str(DAY_MS)}
        if self.kept == "compacted":
            return common | {"cleanup.policy": "compact", "max.compaction.lag.ms": str(DAY_MS)}
        retention = -1 if self.kept == "for ever" else self.kept * DAY_MS
        return common | {"cleanup.policy": "delete", "retention.ms": str(retention), "retention.bytes": "-1"}


MEMBER_EVENTS: tuple[type[Event], ...] = (
    members.MemberRegistered,
    members.MemberUpdated,
    members.MemberSuspended,
    members.MemberReinstated,
    members.MemberMerged,
    members.MemberErased,
)

FORUM = Stream(
    "forum.events",
    "topic_id",
    ("forum",),
    ("topics", "leaderboard", "applications", "notifier"),
    "for ever",
    (
        forum.TopicCreated,
        forum.TopicEdited,
        forum.TopicMoved,
        forum.TopicClosed,
        forum.TopicReopened,
        forum.TopicDeleted,
        forum.TopicRestored,
        forum.TopicMerged,
        forum.ReplyPosted,
        forum.ReplyDeleted,
        forum.ReplyRestored,
        forum.ReplyMoved,
        forum.SolutionAccepted,
        forum.SolutionRevoked,
        forum.KudosGiven,
        forum.KudosRevoked,
    ),
)
MEMBERS = Stream("members.events", "member_id", ("forum",), SERVICES, "compacted", MEMBER_EVENTS)
CONTACTS = Stream(
    "members.contacts",
    "member_id",
    ("topics",),
    ("notifier",),
    "compacted",
    (members.ContactChanged, members.MemberErased),
)
TOPICS = Stream(
    "topics.events",
    "topic_id",
    ("topics",),
    ("notifier", "leaderboard", "applications"),
    "for ever",
    (
        topics.FirstResponseRecorded,
        topics.FirstResponseRevoked,
        topics.AnswerNeeded,
        topics.TargetBreached,
        topics.TopicClaimed,
        topics.ClaimReleased,
    ),
)
LEADERBOARD = Stream(
    "leaderboard.events",
    "member_id",
    ("leaderboard",),
    ("notifier", "applications"),
    30,
    (
        leaderboard.PointsAwarded,
        leaderboard.PointsRevoked,
        leaderboard.RulesRewritten,
        leaderboard.MilestoneReached,
    ),
    key_of_type=(("rules-rewritten", "rule_set"),),
)
SEASONS = Stream(
    "leaderboard.seasons",
    "season_id",
    ("leaderboard",),
    ("notifier", "applications"),
    "for ever",
    (leaderboard.SeasonOpened, leaderboard.SeasonClosed),
)
APPLICATIONS = Stream(
    "applications.events",
    "member_id",
    ("applications",),
    ("notifier", "leaderboard", "topics"),
    "for ever",
    (
        applications.ApplicationSubmitted,
        applications.ApplicationWithdrawn,
        applications.QuizPassed,
        applications.QuizFailed,
        applications.ApplicationDecided,
        applications.StarAppointed,
        applications.StarRetired,
        applications.StarRanked,
        applications.PerkGranted,
        applications.PerkFulfilled,
        applications.JamInvited,
        applications.JamAccepted,
        applications.JamDeclined,
        applications.AnnouncementPublished,
        applications.ProgrammeInvited,
    ),
    key_of_type=(("announcement-published", "announcement_id"),),
)
NOTIFIER = Stream(
    "notifier.events",
    "member_id",
    ("notifier",),
    (),
    7,
    (notifier.NotificationAccepted, notifier.NotificationFailed, notifier.ContactSuppressed),
)
AVAILABILITY = Stream(
    "notifier.availability",
    "member_id",
    ("notifier",),
    ("topics",),
    "compacted",
    (notifier.AvailabilityChanged, members.MemberErased),
)

STREAMS: tuple[Stream, ...] = (
    FORUM,
    MEMBERS,
    CONTACTS,
    TOPICS,
    LEADERBOARD,
    SEASONS,
    APPLICATIONS,
    NOTIFIER,
    AVAILABILITY,
)
BY_NAME: dict[str, Stream] = {stream.name: stream for stream in STREAMS}


def event_types() -> dict[str, type[Event]]:
    """Every event type once, by name."""
    return {event.type_name(): event for stream in STREAMS for event in stream.events}
