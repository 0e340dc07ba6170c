"""Events of ``topics.events``: the first-response clock and the waiting queue. Key: the topic's id."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.envelope import Data, Event
from shared.contracts.types import Id, Instant, Label, Language, Score, Seconds, Tags, Text, Url

Stage = Literal["new", "stalled", "warning"]
RevokedReason = Literal["reply-gone", "earlier-reply", "topic-merged"]
"""Gone: deleted, moved away, or no longer one that counts; earlier: another turned up before it."""


class FirstResponseRecordedData(Data):
    topic_id: Id
    reply_id: Id
    responder_id: Id
    responder_kind: Literal["member", "star", "staff"]
    seconds: Seconds = Field(description="from the topic's creation to the reply")
    within_target: bool
    topic_kind: Label | None = None
    space: Label
    language: Language | None = None
    answered_at: Instant


class FirstResponseRecorded(Event):
    type: Literal["first-response-recorded"] = "first-response-recorded"
    data: FirstResponseRecordedData


class FirstResponseRevokedData(Data):
    topic_id: Id
    reply_id: Id
    reason: RevokedReason


class FirstResponseRevoked(Event):
    type: Literal["first-response-revoked"] = "first-response-revoked"
    data: FirstResponseRevokedData


class Candidate(Data):
    member_id: Id
    score: Score
    reasons: Annotated[list[Label], Field(max_length=10)] = []


class AnswerNeededData(Data):
    topic_id: Id
    author_id: Id
    title: Text | None = None
    url: Url | None = None
    space: Label
    language: Language | None = None
    tags: Tags
    stage: Stage
    due_at: Instant
    candidates: Annotated[list[Candidate], Field(max_length=100)]
    arm: Literal["routed", "control"] | None = Field(None, description="absent before there is routing")


class AnswerNeeded(Event):
    type: Literal["answer-needed"] = "answer-needed"
    data: AnswerNeededData


class TargetBreachedData(Data):
    topic_id: Id
    due_at: Instant


class TargetBreached(Event):
    type: Literal["target-breached"] = "target-breached"
    data: TargetBreachedData


class ClaimData(Data):
    topic_id: Id
    member_id: Id
    until: Instant


class TopicClaimed(Event):
    type: Literal["topic-claimed"] = "topic-claimed"
    data: ClaimData


class ClaimReleased(Event):
    type: Literal["claim-released"] = "claim-released"
    data: ClaimData
