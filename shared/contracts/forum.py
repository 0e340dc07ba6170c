"""Events of ``forum.events``: what happens in the forum. Key: the topic's id."""

from typing import Literal

from pydantic import Field

from shared.contracts.envelope import Data, Event
from shared.contracts.types import AuthorKind, Id, Label, Language, Tags, Text, Url


class TopicRef(Data):
    topic_id: Id


class TopicCreatedData(TopicRef):
    author_id: Id
    author_kind: AuthorKind
    title: Text
    space: Label
    tags: Tags
    language: Language | None = None
    kind: Label = Field(description="question, discussion, …; the promise is about questions")
    url: Url | None = None


class TopicCreated(Event):
    type: Literal["topic-created"] = "topic-created"
    data: TopicCreatedData


class TopicEditedData(TopicRef):
    """What changed; a field that is absent did not change, null removes."""

    title: Text | None = None
    tags: Tags | None = None
    language: Language | None = None
    kind: Label | None = None


class TopicEdited(Event):
    type: Literal["topic-edited"] = "topic-edited"
    data: TopicEditedData


class TopicMovedData(TopicRef):
    space: Label


class TopicMoved(Event):
    type: Literal["topic-moved"] = "topic-moved"
    data: TopicMovedData


class TopicClosed(Event):
    type: Literal["topic-closed"] = "topic-closed"
    data: TopicRef


class TopicReopened(Event):
    type: Literal["topic-reopened"] = "topic-reopened"
    data: TopicRef


class TopicDeleted(Event):
    type: Literal["topic-deleted"] = "topic-deleted"
    data: TopicRef


class TopicRestored(Event):
    type: Literal["topic-restored"] = "topic-restored"
    data: TopicRef


class TopicMergedData(TopicRef):
    into_topic_id: Id


class TopicMerged(Event):
    type: Literal["topic-merged"] = "topic-merged"
    data: TopicMergedData


class ReplyRef(TopicRef):
    reply_id: Id


class ReplyPostedData(ReplyRef):
    author_id: Id
    author_kind: AuthorKind
    visibility: Literal["public", "internal"]


class ReplyPosted(Event):
    type: Literal["reply-posted"] = "reply-posted"
    data: ReplyPostedData


class ReplyDeleted(Event):
    type: Literal["reply-deleted"] = "reply-deleted"
    data: ReplyRef


class ReplyRestored(Event):
    type: Literal["reply-restored"] = "reply-restored"
    data: ReplyRef


class ReplyMovedData(ReplyRef):
    """``topic_id`` is where the reply lies now."""

    from_topic_id: Id


class ReplyMoved(Event):
    type: Literal["reply-moved"] = "reply-moved"
    data: ReplyMovedData


class SolutionAcceptedData(ReplyRef):
    accepted_by: Id | None = None


class SolutionAccepted(Event):
    """Accepting another reply replaces the solution."""

    type: Literal["solution-accepted"] = "solution-accepted"
    data: SolutionAcceptedData


class SolutionRevoked(Event):
    type: Literal["solution-revoked"] = "solution-revoked"
    data: ReplyRef


class KudosData(TopicRef):
    """``reply_id`` absent: the topic itself; ``giver_id`` absent: an anonymous vote."""

    reply_id: Id | None = None
    kudos_id: Id
    giver_id: Id | None = None


class KudosGiven(Event):
    type: Literal["kudos-given"] = "kudos-given"
    data: KudosData


class KudosRevoked(Event):
    type: Literal["kudos-revoked"] = "kudos-revoked"
    data: KudosData
