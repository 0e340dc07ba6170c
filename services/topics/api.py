"""The JSON interface of the topics service."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
)

from services.topics import ingestion
from services.topics.claims import Claims
from services.topics.policies import read_policies, write_policy
from services.topics.queue import Chosen, QueueState, read_queue, read_topic
from services.topics.report import Report, Scope, TooManyBuckets
from shared.contracts.types import Id, Instant
from shared.runtime import Runtime
from shared.web import Cursor, Limit, Principal, Problem, Role, principal_or_none, require
from shared.web.parameters import BLANK_IS_ABSENT, Word

_OFFSET_SPACE = re.compile(r" (\d{2}:\d{2})$")


def _moment(value: Any) -> Any:
    """RFC 3339, or a date for its UTC midnight. A bare plus of an offset reaches us as a space."""
    if not isinstance(value, str):
        return value
    value = value.upper()  # RFC 3339 section 5.6 knows t and z as well
    try:
        instant = datetime.fromisoformat(_OFFSET_SPACE.sub(r"+\1", value) if "T" in value else value)
    except ValueError:
        raise ValueError('give a time as "2026-11-22T10:00:00Z" or a date as "2026-11-22"') from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _utc(value: datetime | None) -> datetime | None:
    try:
        return None if value is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("that time cannot be told in UTC") from None


Moment = Annotated[datetime | None, BeforeValidator(_moment), BLANK_IS_ABSENT, AfterValidator(_utc), Query()]
Yes = Annotated[bool | None, BLANK_IS_ABSENT, Query()]
Every = Annotated[Literal["day", "week", "month", "year"] | None, BLANK_IS_ABSENT, Query()]
State = Annotated[QueueState | None, BLANK_IS_ABSENT, Query()]


class Taken(BaseModel):
    """How many events were taken, or checked."""

    events: int


class ClaimOut(BaseModel):
    """Who has a topic, and until when."""

    topic_id: str
    member_id: str
    until: Instant


class Claimed(BaseModel):
    """A topic's open claim."""

    member_id: str
    until: Instant


class FirstResponse(BaseModel):
    """The first response to a topic."""

    reply_id: str
    responder_id: str
    at: Instant
    seconds: float
    within_target: bool


class TopicSummary(BaseModel):
    """A topic in the queue."""

    topic_id: str
    title: str | None
    url: str | None
    space: str | None
    language: str | None
    tags: list[str]
    kind: str | None
    author_id: str
    created_at: Instant
    state: Literal["waiting", "breached", "answered", "closed", "deleted"] | None = Field(
        description="null for what owes nobody an answer, such as an open discussion"
    )
    due_at: Instant
    stage: Literal["new", "stalled", "warning", "breached"] | None
    claim: Claimed | None
    first_response: FirstResponse | None


class Solution(BaseModel):
    """The solution in force."""

    reply_id: str
    at: Instant


class TimelineEntry(BaseModel):
    """Something that happened to a topic; ``detail`` is the stage that was told, or why a claim ended."""

    at: Instant
    what: str
    topic_id: str
    reply_id: str | None = None
    member_id: str | None = None
    detail: str | None = None


class TopicDetail(TopicSummary):
    """A topic with all that is known of it."""

    solution: Solution | None
    replies: int
    timeline: list[TimelineEntry]


class TopicPage(BaseModel):
    """A page of the queue."""

    items: list[TopicSummary]
    next: str | None


class FiguresOut(BaseModel):
    """How the promise stands for a set of topics; times in seconds."""

    topics: int
    answered: int
    met: int
    missed: int
    pending: int
    attainment: float | None
    p50_seconds: float | None
    p80_seconds: float | None
    p90_seconds: float | None
    answered_median_seconds: float | None


class Bucket(FiguresOut):
    """The figures of a day, ISO week, month or year in UTC."""

    start: datetime  # not an Instant: it may lie before 1970, where `from` does


class Sla(FiguresOut):
    """The report."""

    series: list[Bucket]


class PolicyOut(BaseModel):
    """A version of a policy; ``from`` null: it has no beginning."""

    model_config = ConfigDict(populate_by_name=True)

    scope: str
    target_seconds: int
    objective: float
    since: Instant | None = Field(alias="from")
    in_force: bool | None = None


class PolicyPage(BaseModel):
    """All versions of all policies."""

    items: list[PolicyOut]
    next: None = None


class PolicyIn(BaseModel):
    """A new version of a policy."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    scope: Annotated[str, StringConstraints(pattern=r"^(all|space:[^\x00]{1,100}|language:[A-Za-z0-9_-]{1,35})$")]
    target_seconds: Annotated[StrictInt, Field(ge=1, le=10 * 366 * 86_400)]
    objective: Annotated[float, Field(gt=0, le=1, strict=True)]
    since: Instant | None = Field(None, alias="from", description="from when on; absent: from now on")


_ENVELOPE = {"type": "object", "required": ["specversion", "id", "source", "type", "time", "data"]}
_EVENTS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": _ENVELOPE},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _ENVELOPE}},
        },
    }
}


def router(runtime: Runtime, report: Report, claims: Claims) -> APIRouter:
    """The routes under ``/topics/api``."""
    routes = APIRouter(prefix="/api")

    @routes.post(
        "/events",
        status_code=202,
        response_model=Taken,
        responses={200: {"model": Taken, "description": "Only checked"}},
        openapi_extra=_EVENTS_BODY,
        dependencies=[Depends(require(Role.FORUM))],
    )
    async def post_events(request: Request, dry_run: Yes = None) -> Any:
        """Publish one event or a batch, all or nothing; with `dry_run=true` only check."""
        envelopes = ingestion.read_body(await request.body(), request.headers.get("content-type", ""))
        events = ingestion.check(envelopes, ingestion.now())
        if dry_run:
            return JSONResponse({"events": len(envelopes)})
        await ingestion.publish(runtime.messaging, events)
        return Taken(events=len(envelopes))

    @routes.get("/topics", response_model=TopicPage)
    async def list_topics(
        state: State = None,
        space: Word = None,
        language: Word = None,
        tag: Word = None,
        mine: Yes = None,
        limit: Limit = 50,
        cursor: Cursor = None,
        principal: Annotated[Principal | None, Depends(principal_or_none)] = None,
    ) -> Any:
        """The queue, soonest due first; without `state` both the waiting and the breached."""
        claimed_by = None
        if mine:
            if principal is None or principal.member_id is None:
                raise Problem(401, "`mine` needs a token that names a member.", headers={"WWW-Authenticate": "Bearer"})
            claimed_by = await claims.member_of(principal.member_id)
        return await read_queue(runtime.pool, Chosen(state, space, language, tag, claimed_by), limit, cursor)

    @routes.get("/topics/{topic_id}", response_model=TopicDetail)
    async def get_topic(topic_id: Id) -> Any:
        """A topic with its clock and its timeline; a merged-away one answers as what it was merged into."""
        found = await read_topic(runtime.pool, topic_id)
        if found is None:
            raise Problem(404, "There is no such topic.")
        return found

    @routes.post("/topics/{topic_id}/claim", response_model=ClaimOut, responses={409: {"description": "Not to be had"}})
    async def claim_topic(topic_id: Id, principal: Annotated[Principal, Depends(require())]) -> Any:
        """Take a topic on for four hours; it stops further asking, not the clock."""
        return await claims.take(topic_id, principal)

    @routes.delete(
        "/topics/{topic_id}/claim", response_model=ClaimOut, responses={409: {"description": "Not yours, or nobody's"}}
    )
    async def release_topic(topic_id: Id, principal: Annotated[Principal, Depends(require())]) -> Any:
        """Give a claim back."""
        return await claims.release(topic_id, principal)

    @routes.get("/sla", response_model=Sla)
    async def get_sla(
        since: Annotated[Moment, Query(alias="from")] = None,
        until: Annotated[Moment, Query(alias="to")] = None,
        space: Word = None,
        language: Word = None,
        as_of: Moment = None,
        every: Every = None,
    ) -> Any:
        """Was the promise kept for the questions created in [from, to), as of an instant?"""
        try:
            return await report.answer(Scope(since, until, space, language), as_of or datetime.now(UTC), every)
        except TooManyBuckets as error:
            raise Problem(400, f"every: {error}", type="too-many-buckets") from None

    @routes.get("/policies", response_model=PolicyPage, response_model_by_alias=True)
    async def get_policies() -> Any:
        """Every version of every policy."""
        return {"items": await read_policies(runtime.pool)}

    @routes.put("/policies", response_model=PolicyOut, response_model_by_alias=True)
    async def put_policy(policy: PolicyIn, principal: Annotated[Principal, Depends(require(Role.STAFF))]) -> Any:
        """Promise something else from an instant on that is not in the past."""
        return await write_policy(
            runtime.outbox,
            claims.facts,
            policy.scope,
            policy.target_seconds,
            policy.objective,
            policy.since,
            principal.member_id,
        )

    return routes
