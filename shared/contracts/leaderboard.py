"""Events of ``leaderboard.events`` (key: the member's id) and ``leaderboard.seasons`` (key: the season's id)."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.envelope import Data, Event
from shared.contracts.types import Count, Id, Instant, Label, Name, Text

Points = Annotated[int, Field(ge=-(2**31), le=2**31)]


class Cause(Data):
    topic_id: Id | None = None
    reply_id: Id | None = None
    kudos_id: Id | None = None


class PointsData(Data):
    entry_id: Id
    member_id: Id
    points: Points
    rule: Label
    cause: Cause


class PointsAwarded(Event):
    type: Literal["points-awarded"] = "points-awarded"
    data: PointsData


class PointsRevoked(Event):
    type: Literal["points-revoked"] = "points-revoked"
    data: PointsData


class RulesRewrittenData(Data):
    """Instead of a flood of single changes: whoever keeps totals reads them again."""

    rule_set: Label
    version: Count
    effective_from: Instant | None = None


class RulesRewritten(Event):
    type: Literal["rules-rewritten"] = "rules-rewritten"
    data: RulesRewrittenData


class MilestoneReachedData(Data):
    member_id: Id
    board: Text
    kind: Label


class MilestoneReached(Event):
    type: Literal["milestone-reached"] = "milestone-reached"
    data: MilestoneReachedData


class SeasonOpenedData(Data):
    season_id: Id
    name: Name | None = None
    board: Text | None = None
    opens_at: Instant | None = None
    closes_at: Instant | None = None


class SeasonOpened(Event):
    type: Literal["season-opened"] = "season-opened"
    data: SeasonOpenedData


class Standing(Data):
    rank: Count
    member_id: Id
    points: Points
    solutions: Count
    reached_at: Instant | None = Field(None, description="evidence for the tie rule: when the total was reached")


class SeasonClosedData(Data):
    season_id: Id
    standings: Annotated[list[Standing], Field(max_length=200)]


class SeasonClosed(Event):
    type: Literal["season-closed"] = "season-closed"
    data: SeasonClosedData
