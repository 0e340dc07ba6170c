"""The JSON interface of the applications service."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints
from starlette.responses import Response

from services.applications.announcements import Announcements
from services.applications.applying import Applying, progress_of
from services.applications.jams import Jams
from services.applications.members import Members
from services.applications.membership import Membership
from services.applications.perks import Perks
from services.applications.programme import SQL as PROGRAMME_SQL
from services.applications.programme import Edition, Programme
from services.applications.quiz import Quiz
from services.applications.record import Records
from services.applications.records import read_records
from services.applications.reviews import Reviews
from services.applications.roster import Roster
from shared.contracts.types import NO_NUL, Id, Instant, Language
from shared.runtime import Runtime
from shared.web import Cursor, Limit, Principal, Problem, Role, decode_cursor, encode_cursor, principal_or_none, require
from shared.web.parameters import BLANK_IS_ABSENT, Word

Known = Annotated[Principal, Depends(require())]
Staff = Annotated[Principal, Depends(require(Role.STAFF))]
Anyone = Annotated[Principal | None, Depends(principal_or_none)]


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000, pattern=NO_NUL)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_NUL)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
Number = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


@dataclass(frozen=True)
class Parts:
    """What the service is made of, as far as its doors use it."""

    runtime: Runtime
    members: Members
    programme: Programme
    applying: Applying
    quiz: Quiz
    reviews: Reviews
    membership: Membership
    records: Records
    roster: Roster
    perks: Perks
    jams: Jams
    announcements: Announcements


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CriterionOut(BaseModel):
    """A criterion: what is asked of a fact."""

    id: str
    label: str
    fact: str
    at_least: float | None
    at_most: float | None
    months: int | None = Field(description="a window of calendar months, this one included; null: all time")


class OptionOut(BaseModel):
    """An option of a choice."""

    id: str
    label: str


class FieldOut(BaseModel):
    """A question of the form."""

    id: str
    kind: Literal["text", "choice", "evidence", "languages", "spaces", "consent"]
    label: str
    hint: str | None
    required: bool
    least: int
    most: int
    longest: int
    options: list[OptionOut]


class QuizOut(BaseModel):
    """How the quiz goes."""

    questions: int
    seconds: int
    pass_mark: int
    attempts: int
    wait_seconds: float
    languages: list[str]


class ProgressItem(BaseModel):
    """How far somebody is with a criterion."""

    id: str
    label: str
    value: float
    at_least: float | None
    at_most: float | None
    met: bool


class ProgressOut(BaseModel):
    """How far somebody is: "3 of 5 met"."""

    met: int
    of: int
    eligible: bool
    next: str | None = Field(description="the criterion that is the next step")
    criteria: list[ProgressItem]


class RankOut(BaseModel):
    """A rank of Stars."""

    id: str
    name: str
    term_months: int | None
    criteria: list[CriterionOut]


class ProgrammeOut(BaseModel):
    """The present edition of the programme."""

    edition: int
    name: str
    about: str
    offers: list[str]
    published_at: Instant
    open_to: Literal["eligible", "everyone"]
    criteria: list[CriterionOut]
    form: list[FieldOut]
    quiz: QuizOut
    cool_down_days: float
    service_days: float
    ranks: list[RankOut]
    progress: ProgressOut | None = Field(description="of whoever asks; null for anyone")


class EditionIn(_In):
    """A new edition; as JSON here, as YAML on the page."""

    edition: dict[str, Any]
    bank: dict[str, Any] | None = Field(None, description="a bank of questions of its own")


class EditionOut(BaseModel):
    """An edition."""

    edition: int
    published_at: Instant
    bank: str
    document: dict[str, Any]


class EditionPage(BaseModel):
    """Every edition, the present one first."""

    items: list[EditionOut]
    next: None = None


class InvitingIn(_In):
    """Whether eligible members are invited by themselves."""

    inviting: StrictBool


class EligibleOut(BaseModel):
    """Who meets every criterion."""

    member_id: str
    name: str | None
    since: Instant
    invited_at: Instant | None
    is_star: bool


class EligiblePage(BaseModel):
    """A page of the eligible members, the latest first."""

    items: list[EligibleOut]
    next: str | None


Answers = dict[Annotated[str, StringConstraints(max_length=60)], Any]


class ApplicationIn(_In):
    """Answers to the form by its questions' ids; those that are not named stay as they are."""

    answers: Answers = {}


class AttemptsOut(BaseModel):
    """Where an application stands with the quiz."""

    attempts: int
    attempts_left: int
    open: bool
    passed: bool
    next_at: Instant | None


class ChangeOut(BaseModel):
    """Something that happened to an application."""

    at: Instant
    action: str
    state: str
    by: str | None
    detail: str | None


class ApplicationOut(BaseModel):
    """An application."""

    application_id: str
    member_id: str
    edition: int
    state: Literal["draft", "submitted", "in-review", "accepted", "declined", "failed", "withdrawn"]
    answers: dict[str, Any]
    created_at: Instant
    submitted_at: Instant | None
    review_due: Instant | None
    closed_at: Instant | None
    outcome: str | None
    reason: str | None
    quiz: AttemptsOut
    timeline: list[ChangeOut]


class ApplicationSummary(BaseModel):
    """An application in a list."""

    application_id: str
    edition: int
    state: str
    created_at: Instant
    submitted_at: Instant | None
    closed_at: Instant | None
    outcome: str | None
    reason: str | None


class ApplicationPage(BaseModel):
    """One's own applications, the latest first."""

    items: list[ApplicationSummary]
    next: None = None


class AttemptIn(_In):
    """The language to be asked in; English where the bank does not have it."""

    language: Language | None = None


class QuestionOut(BaseModel):
    """A question of an attempt. ``correct`` and ``explanation`` are told after its end."""

    n: int
    question: str
    options: list[str]
    answer: int | None
    correct: int | None
    explanation: str | None


class AttemptOut(BaseModel):
    """An attempt at the quiz."""

    attempt: int
    attempts: int
    state: Literal["open", "finished"]
    language: str
    started_at: Instant
    deadline: Instant
    remaining_seconds: float
    pass_mark: int
    questions: list[QuestionOut]
    answers: dict[str, int] = Field(description="what was saved, by the question's number: options count from 0")
    score: int | None
    passed: bool | None
    ended_by: Literal["member", "time", "withdrawal"] | None
    next_at: Instant | None


class AnswerIn(_In):
    """The option that was chosen, counted from 0; null takes an answer back."""

    answer: Annotated[StrictInt, Field(ge=0, le=100)] | None


class AnswerOut(BaseModel):
    """What was saved."""

    n: int
    answer: int | None
    remaining_seconds: float


class ReviewItem(BaseModel):
    """An application in the queue."""

    application_id: str
    member_id: str
    name: str
    state: str
    edition: int
    since: Instant
    due_at: Instant | None
    late: bool
    reviews: int
    needed: int
    reviewed_by_me: bool
    conflict: bool
    own: bool


class ReviewPage(BaseModel):
    """A page of the queue, those that wait longest first."""

    items: list[ReviewItem]
    next: str | None


class ReviewIn(_In):
    """Scores from 1 to 5 for each item of the rubric; or that one stands too near to judge."""

    scores: dict[Slug, Annotated[StrictInt, Field(ge=1, le=5)]] = {}
    note: Prose | None = None
    conflict: StrictBool = False


class NoteIn(_In):
    """Something for the other reviewers."""

    text: Prose


class DecisionIn(_In):
    """A decision; the applicant reads its reason."""

    outcome: Literal["accepted", "declined"]
    reason: Prose


class Dossier(BaseModel):
    """All that reviewers see of an application. Scores of others and the discussion are there once all are in."""

    model_config = ConfigDict(extra="allow")

    application_id: str
    member_id: str
    state: str
    answers: dict[str, Any]
    progress: ProgressOut
    needed: int
    given: int
    complete: bool
    mine: dict[str, Any] | None
    reviews: list[dict[str, Any]]
    discussion: list[dict[str, Any]]


class QuestionFigures(BaseModel):
    """How a question of the bank fares."""

    question_id: str
    question: str
    seen: int
    right: float
    blank: float
    apart: float | None = Field(description="how much more often those who passed were right than the others")
    chosen: list[dict[str, Any]]


class QuestionFiguresPage(BaseModel):
    """Every question that was ever asked, the worst first."""

    items: list[QuestionFigures]
    next: None = None


class StarOut(BaseModel):
    """A Star in the directory. ``state`` and ``listed`` are told to staff and themselves."""

    member_id: str
    name: str
    rank: str
    rank_name: str
    since: Instant
    about: str | None
    spaces: list[str]
    languages: list[str]
    state: Literal["active", "grace", "leave", "retired"] | None
    listed: bool | None


class StarPage(BaseModel):
    """A page of the directory, who has been there longest first."""

    items: list[StarOut]
    next: str | None


class SpaceOut(BaseModel):
    """A space and how many replies somebody gave there."""

    space: str
    replies: int


class HistoryOut(BaseModel):
    """Something that happened to a membership."""

    at: Instant
    what: str
    rank: str
    detail: str | None


class StarDetail(StarOut):
    """A Star with all that is to be told to whoever asks."""

    term_ends: Instant | None
    grace_ends: Instant | None
    leave_until: Instant | None
    retired_at: Instant | None
    helps_in: list[SpaceOut]
    history: list[HistoryOut]


class StarIn(_In):
    """What a Star says of themselves."""

    listed: StrictBool
    about: Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)] | None = None
    spaces: Annotated[list[Label], Field(max_length=50)] = []
    languages: Annotated[list[Language], Field(max_length=50)] = []


class RetireIn(_In):
    """Why a membership ends."""

    reason: Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)] | None = None


class LeaveIn(_In):
    """Until when somebody is away."""

    until: Instant


class RankIn(_In):
    """A rank of the present edition."""

    rank: Slug


class RecordOut(BaseModel):
    """A contribution record, and the same signed (RFC 7515, Ed25519): verify it with `/api/record-keys`."""

    record: dict[str, Any]
    jws: str


class KeysOut(BaseModel):
    """A JSON Web Key Set."""

    keys: list[dict[str, Any]]


class RosterOut(BaseModel):
    """What became of the lines of a roster."""

    lines: int
    appointed: int
    stars_already: int
    erased: int


class GrantOut(BaseModel):
    """A perk that somebody got."""

    grant_id: str
    perk_id: str
    perk: str
    member_id: str
    granted_at: Instant
    fulfilled_at: Instant | None


class OwnGrant(BaseModel):
    """One's own grant of a perk."""

    grant_id: str
    granted_at: Instant
    needs_address: bool
    fulfilled_at: Instant | None


class PerkOut(BaseModel):
    """A perk; ``granted`` and ``waiting`` are told to staff."""

    perk_id: str
    name: str
    about: str
    kind: Literal["access", "swag"]
    ranks: list[str]
    left_in_stock: int | None
    claimable: bool
    offered: bool
    granted: int | None
    waiting: int | None
    mine: OwnGrant | None
    for_me: bool


class PerkPage(BaseModel):
    """The catalogue."""

    items: list[PerkOut]
    next: None = None


class PerkIn(_In):
    """A new perk. Swag is sent to an address; access needs none."""

    name: Line
    about: Prose
    kind: Literal["access", "swag"]
    ranks: Annotated[list[Slug], Field(max_length=20)] = []
    stock: Number | None = Field(None, description="null: as many as there are Stars")
    claimable: StrictBool = False


class PerkChange(_In):
    """What is left of a perk, and whether it is offered."""

    stock: Number | None
    offered: StrictBool = True


class Made(BaseModel):
    """The id of what was made."""

    id: str


class GrantIn(_In):
    """Whom a perk is given to."""

    member_id: Id


class AddressIn(_In):
    """Where to send it."""

    address: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=1000, pattern=NO_NUL)]


class InvitationOut(BaseModel):
    """One's own invitation to a Star Jam."""

    state: str
    answer_by: Instant | None
    answered_at: Instant | None
    travel_notes: str | None


class JamOut(BaseModel):
    """A Star Jam; the counts are told to staff."""

    jam_id: str
    name: str
    place: str
    starts_on: date
    ends_on: date
    season_id: str
    state: Literal["planned", "inviting", "over"]
    seats: int
    answer_days: int
    rest_editions: int
    most_per_space: int | None
    consent: str
    accepted: int | None
    invited: int | None
    waiting: int | None
    invitation: InvitationOut | None = None


class JamPage(BaseModel):
    """Every Star Jam, the latest first."""

    items: list[JamOut]
    next: None = None


class GuestOut(BaseModel):
    """A name on the list."""

    member_id: str
    name: str
    place: int
    rank: int
    points: int
    space: str | None
    state: Literal["passed-over", "waiting", "invited", "accepted", "declined", "lapsed"]
    why: str
    invited_at: Instant | None
    answer_by: Instant | None
    answered_at: Instant | None
    consented: bool | None
    travel_notes: str | None
    attended: bool | None


class JamDesk(JamOut):
    """A Star Jam with its list, name by name."""

    guests: list[GuestOut]


class JamIn(_In):
    """A new Star Jam, from a closed season."""

    name: Line
    place: Line
    starts_on: date
    ends_on: date
    season_id: Id
    seats: Annotated[StrictInt, Field(ge=1, le=1000)]
    answer_days: Annotated[StrictInt, Field(ge=1, le=365)] = 14
    rest_editions: Annotated[StrictInt, Field(ge=0, le=100)] = 1
    most_per_space: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    consent: Prose = "I come at my own will, and photographs of the event may show me."


class SeatsIn(_In):
    """How many seats there are."""

    seats: Annotated[StrictInt, Field(ge=1, le=1000)]


class JamAnswer(_In):
    """Accept or decline; whoever accepts agrees to the terms."""

    accept: StrictBool
    consent: StrictBool = False
    travel_notes: Annotated[str, StringConstraints(max_length=2000, pattern=NO_NUL)] | None = None


class AttendanceIn(_In):
    """Whether somebody was there."""

    member_id: Id
    attended: StrictBool


class AnnouncementOut(BaseModel):
    """Words to Stars."""

    announcement_id: str
    title: str
    text: str
    audience: str
    embargo_until: Instant | None
    under_embargo: bool
    published_at: Instant


class AnnouncementPage(BaseModel):
    """A page of announcements, the latest first."""

    items: list[AnnouncementOut]
    next: str | None


class AnnouncementIn(_In):
    """Words to an audience: everyone, stars, or rank:NAME."""

    title: Line
    text: Prose
    audience: Label
    embargo_until: Instant | None = None


_CONFLICT: dict[int | str, dict[str, Any]] = {409: {"description": "Not in this state, or not yet; `type` says why"}}


def described(edition: Edition, languages: list[str], progress: dict[str, Any] | None, language: str | None) -> Any:
    """An edition as the interface tells it."""
    document = edition.document

    def said(one: Any) -> dict[str, Any]:
        return {
            "id": one.id,
            "label": one.label.in_(language),
            "fact": one.fact,
            "at_least": one.at_least,
            "at_most": one.at_most,
            "months": one.months,
        }

    return {
        "edition": edition.number,
        "name": document.name.in_(language),
        "about": document.about.in_(language),
        "offers": [one.in_(language) for one in document.offers],
        "published_at": edition.published_at,
        "open_to": document.open_to,
        "criteria": [said(one) for one in document.criteria],
        "form": [
            {
                "id": one.id,
                "kind": one.kind,
                "label": one.label.in_(language),
                "hint": None if one.hint is None else one.hint.in_(language),
                "required": one.required,
                "least": one.least,
                "most": one.most,
                "longest": one.longest,
                "options": [{"id": option.id, "label": option.label.in_(language)} for option in one.options],
            }
            for one in document.form
        ],
        "quiz": {
            "questions": document.quiz.questions,
            "seconds": document.quiz.seconds,
            "pass_mark": document.quiz.pass_mark,
            "attempts": document.quiz.attempts,
            "wait_seconds": document.quiz_wait.total_seconds(),
            "languages": languages,
        },
        "cool_down_days": document.cool_down_days,
        "service_days": document.review.service_days,
        "ranks": [
            {
                "id": one.id,
                "name": one.name.in_(language),
                "term_months": one.term_months,
                "criteria": [said(criterion) for criterion in one.criteria],
            }
            for one in document.ranks
        ],
        "progress": progress,
    }


async def read_programme(parts: Parts, principal: Principal | None, language: str | None = None) -> dict[str, Any]:
    """The present edition, with how far the reader is."""
    async with parts.runtime.outbox.transaction() as transaction:
        connection = transaction.connection
        edition = await parts.programme.present(connection)
        bank = await parts.programme.bank(connection, edition.bank)
        member = await parts.members.reading(connection, principal)
        progress = None
        if member is not None:
            record = (await read_records(connection, [member]))[member]
            progress = progress_of(edition, record, await connection.fetchval("SELECT now()"), language)
    found: dict[str, Any] = described(edition, bank.languages(), progress, language)
    return found


async def read_eligible(parts: Parts, limit: int, cursor: str | None) -> dict[str, Any]:
    """Who meets every criterion, the latest first."""
    before = decode_cursor(cursor, datetime, str) if cursor else [None, None]
    async with parts.runtime.outbox.transaction() as transaction:
        edition = await parts.programme.present(transaction.connection)
        rows = await transaction.connection.fetch(PROGRAMME_SQL.eligible, edition.number, *before, limit + 1)
    shown = rows[:limit]
    more = len(rows) > limit
    return {
        "items": [dict(row) for row in shown],
        "next": encode_cursor([shown[-1]["since"], shown[-1]["member_id"]]) if more else None,
    }


def edition_of(edition: Edition) -> dict[str, Any]:
    """An edition with its whole document."""
    return {
        "edition": edition.number,
        "published_at": edition.published_at,
        "bank": edition.bank,
        "document": edition.document.model_dump(mode="json", exclude_none=True),
    }


def router(parts: Parts) -> APIRouter:
    """The routes under ``/applications/api``."""
    routes = APIRouter(prefix="/api")
    applying, quiz, reviews = parts.applying, parts.quiz, parts.reviews
    membership, perks, jams = parts.membership, parts.perks, parts.jams

    # --- the programme ------------------------------------------------------------------------------------------

    @routes.get("/programme", response_model=ProgrammeOut)
    async def get_programme(principal: Anyone, language: Annotated[Language | None, Query()] = None) -> Any:
        """The present edition: criteria, form, quiz; and how far the caller is."""
        return await read_programme(parts, principal, language)

    @routes.get("/programme/editions", response_model=EditionPage)
    async def list_editions(principal: Staff) -> Any:
        """Every edition with its document, the present one first."""
        async with parts.runtime.outbox.transaction() as transaction:
            return {"items": [edition_of(one) for one in await parts.programme.editions(transaction.connection)]}

    @routes.post("/programme/editions", response_model=EditionOut, status_code=201)
    async def publish_edition(edition: EditionIn, principal: Staff) -> Any:
        """Publish the next edition; applications that are there keep theirs."""
        return edition_of(await publish(parts, principal, edition.edition, edition.bank))

    @routes.get("/programme/eligible", response_model=EligiblePage)
    async def list_eligible(principal: Staff, limit: Limit = 50, cursor: Cursor = None) -> Any:
        """Who meets every criterion of the present edition, the latest first."""
        return await read_eligible(parts, limit, cursor)

    @routes.put("/programme/inviting", response_model=InvitingIn)
    async def put_inviting(inviting: InvitingIn, principal: Staff) -> Any:
        """Whether members who become eligible are invited by themselves; off until it is switched on."""
        await parts.runtime.pool.execute(PROGRAMME_SQL.set_inviting, inviting.inviting)
        return inviting

    # --- applications -------------------------------------------------------------------------------------------

    @routes.post("/applications", response_model=ApplicationOut, status_code=201, responses=_CONFLICT)
    async def create_application(principal: Known, application: ApplicationIn | None = None) -> Any:
        """A draft in the present edition, or the application that is open."""
        return await applying.begin(principal, application.answers if application else {})

    @routes.get("/applications", response_model=ApplicationPage)
    async def list_applications(principal: Known) -> Any:
        """One's own applications, the latest first."""
        async with parts.runtime.outbox.transaction() as transaction:
            member = await parts.members.reading(transaction.connection, principal)
            return {"items": [] if member is None else await applying.of_member(transaction.connection, member)}

    @routes.get("/applications/{application_id}", response_model=ApplicationOut)
    async def get_application(application_id: Id, principal: Known) -> Any:
        """Where an application stands; for its owner, and for staff once it was handed in."""
        return await applying.read(principal, application_id)

    @routes.put("/applications/{application_id}", response_model=ApplicationOut, responses=_CONFLICT)
    async def put_application(application_id: Id, application: ApplicationIn, principal: Known) -> Any:
        """Keep a draft."""
        return await applying.save(principal, application_id, application.answers)

    @routes.post("/applications/{application_id}/submit", response_model=ApplicationOut, responses=_CONFLICT)
    async def submit_application(application_id: Id, principal: Known) -> Any:
        """Hand it in, once an edition."""
        return await applying.submit(principal, application_id)

    @routes.post("/applications/{application_id}/withdraw", response_model=ApplicationOut, responses=_CONFLICT)
    async def withdraw_application(application_id: Id, principal: Known) -> Any:
        """Take it back."""
        return await applying.withdraw(principal, application_id)

    # --- the quiz -----------------------------------------------------------------------------------------------

    @routes.post("/applications/{application_id}/quiz", response_model=AttemptOut, responses=_CONFLICT)
    async def open_quiz(application_id: Id, principal: Known, attempt: AttemptIn | None = None) -> Any:
        """The open attempt, or a new one."""
        return await quiz.open(principal, application_id, attempt.language if attempt else None)

    @routes.get("/applications/{application_id}/quiz", response_model=AttemptOut, responses=_CONFLICT)
    async def get_quiz(application_id: Id, principal: Known) -> Any:
        """The latest attempt: questions, saved answers, remaining seconds; the explanations after its end."""
        return await quiz.read(principal, application_id)

    @routes.put("/applications/{application_id}/quiz/answers/{n}", response_model=AnswerOut, responses=_CONFLICT)
    async def put_answer(application_id: Id, n: int, answer: AnswerIn, principal: Known) -> Any:
        """Save one answer: the last saved before the deadline wins, after it `time-is-up`."""
        return await quiz.answer(principal, application_id, n, answer.answer)

    @routes.post("/applications/{application_id}/quiz/finish", response_model=AttemptOut, responses=_CONFLICT)
    async def finish_quiz(application_id: Id, principal: Known) -> Any:
        """End the attempt."""
        return await quiz.finish(principal, application_id)

    @routes.get("/quiz/questions", response_model=QuestionFiguresPage)
    async def list_question_figures(principal: Staff) -> Any:
        """How each question fares, the worst first."""
        async with parts.runtime.outbox.transaction() as transaction:
            return {"items": await quiz.statistics(transaction.connection)}

    # --- review -------------------------------------------------------------------------------------------------

    @routes.get("/reviews", response_model=ReviewPage)
    async def list_reviews(
        principal: Staff,
        state: Annotated[Literal["in-review", "submitted", "accepted", "declined", "failed", "withdrawn"], Query()] = (
            "in-review"
        ),
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Any:
        """The queue, those that wait longest first."""
        return await reviews.queue(principal, state, limit, cursor)

    @routes.get("/applications/{application_id}/reviews", response_model=Dossier)
    async def get_reviews(application_id: Id, principal: Staff) -> Any:
        """All that reviewers see; others' scores once all are in."""
        return await reviews.dossier(principal, application_id)

    @routes.post("/applications/{application_id}/reviews", response_model=Dossier, responses=_CONFLICT)
    async def post_review(application_id: Id, review: ReviewIn, principal: Staff) -> Any:
        """Give one's scores, blind to the others'."""
        return await reviews.give(principal, application_id, review.scores, review.note, review.conflict)

    @routes.post("/applications/{application_id}/discussion", response_model=Dossier, responses=_CONFLICT)
    async def post_note(application_id: Id, note: NoteIn, principal: Staff) -> Any:
        """Say something to the other reviewers, once all scores are in."""
        return await reviews.discuss(principal, application_id, note.text)

    @routes.post("/applications/{application_id}/decision", response_model=Dossier, responses=_CONFLICT)
    async def post_decision(application_id: Id, decision: DecisionIn, principal: Staff) -> Any:
        """Decide; whoever is accepted is a Star at once."""
        return await reviews.decide(principal, application_id, decision.outcome, decision.reason)

    # --- membership ---------------------------------------------------------------------------------------------

    @routes.get("/stars", response_model=StarPage)
    async def list_stars(
        principal: Anyone, space: Word = None, language: Word = None, limit: Limit = 50, cursor: Cursor = None
    ) -> Any:
        """The Stars who want to be found; all of them for staff."""
        return await membership.directory(principal, space, language, limit, cursor)

    @routes.post(
        "/stars/roster",
        response_model=RosterOut,
        openapi_extra={"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def post_roster(
        request: Request,
        principal: Staff,
        dry_run: Annotated[bool | None, BLANK_IS_ABSENT, Query()] = None,
    ) -> Any:
        """Take in the roster of a programme that is there already; with `dry_run=true` only check it."""
        return await parts.roster.take(principal, decoded(await request.body()), dry_run=bool(dry_run))

    @routes.get("/stars/{member_id}", response_model=StarDetail)
    async def get_star(member_id: Id, principal: Anyone) -> Any:
        """A Star who wants to be found; for themselves and staff in any case."""
        return for_reader(await membership.read(principal, member_id), principal)

    @routes.put("/stars/{member_id}", response_model=StarDetail)
    async def put_star(member_id: Id, star: StarIn, principal: Known) -> Any:
        """What a Star says of themselves, and whether the directory may show it."""
        return await membership.describe(
            principal,
            member_id,
            listed=star.listed,
            about=star.about,
            spaces=star.spaces,
            languages=star.languages,
        )

    @routes.post("/stars/{member_id}/retire", response_model=StarDetail)
    async def retire_star(member_id: Id, principal: Known, retire: RetireIn | None = None) -> Any:
        """End a membership, with thanks."""
        return await membership.retire(principal, member_id, retire.reason if retire else None)

    @routes.post("/stars/{member_id}/leave", response_model=StarDetail, responses=_CONFLICT)
    async def take_leave(member_id: Id, leave: LeaveIn, principal: Known) -> Any:
        """Be away for a while: the term waits."""
        return await membership.take_leave(principal, member_id, leave.until)

    @routes.delete("/stars/{member_id}/leave", response_model=StarDetail, responses=_CONFLICT)
    async def end_leave(member_id: Id, principal: Known) -> Any:
        """Be back."""
        return await membership.come_back(principal, member_id)

    @routes.put("/stars/{member_id}/rank", response_model=StarDetail)
    async def put_rank(member_id: Id, rank: RankIn, principal: Staff) -> Any:
        """Give a rank, with a whole term."""
        return await membership.set_rank(principal, member_id, rank.rank)

    @routes.get("/stars/{member_id}/record", response_model=RecordOut, responses=_CONFLICT)
    async def get_record(member_id: Id, principal: Known) -> Any:
        """What a Star can take along, signed; one's own, or for staff anybody's."""
        record = await parts.records.read(principal, member_id)
        return {"record": record, "jws": parts.records.signer.sign(record, datetime.now(UTC))}

    @routes.get("/record-keys", response_model=KeysOut)
    async def get_record_keys() -> Any:
        """The public key that records are verified with."""
        return parts.records.signer.keys()

    # --- perks --------------------------------------------------------------------------------------------------

    @routes.get("/perks", response_model=PerkPage)
    async def list_perks(principal: Anyone) -> Any:
        """What Stars can get."""
        return {"items": await perks.catalogue(principal)}

    @routes.post("/perks", response_model=Made, status_code=201)
    async def create_perk(perk: PerkIn, principal: Staff) -> Any:
        """Put a perk in the catalogue."""
        return {"id": await perks.make(perk.name, perk.about, perk.kind, perk.ranks, perk.stock, perk.claimable)}

    @routes.put("/perks/{perk_id}", status_code=204)
    async def put_perk(perk_id: Id, change: PerkChange, principal: Staff) -> None:
        """Set what is left, and whether it is offered."""
        await perks.change(perk_id, stock=change.stock, offered=change.offered)

    @routes.get("/perks/{perk_id}/grants", response_model=list[dict[str, Any]])
    async def list_grants(perk_id: Id, principal: Staff) -> Any:
        """Who got it, those that wait first; never an address."""
        return await perks.grants(perk_id)

    @routes.post("/perks/{perk_id}/grants", response_model=GrantOut, status_code=201, responses=_CONFLICT)
    async def grant_perk(perk_id: Id, grant: GrantIn, principal: Staff) -> Any:
        """Give a perk to a Star."""
        return await perks.grant(principal, perk_id, grant.member_id)

    @routes.post("/perks/{perk_id}/claim", response_model=GrantOut, status_code=201, responses=_CONFLICT)
    async def claim_perk(perk_id: Id, principal: Known) -> Any:
        """Take a perk that Stars may take by themselves."""
        return await perks.grant(principal, perk_id, None)

    @routes.put("/grants/{grant_id}/address", response_model=GrantOut, responses=_CONFLICT)
    async def put_address(grant_id: Id, address: AddressIn, principal: Known) -> Any:
        """Where to send one's own; it is erased once it was used."""
        return await perks.address(principal, grant_id, address.address)

    @routes.post("/grants/{grant_id}/fulfil", response_model=GrantOut, responses=_CONFLICT)
    async def fulfil_grant(grant_id: Id, principal: Staff) -> Any:
        """It is on its way; its address is erased."""
        return await perks.fulfil(grant_id)

    @routes.get(
        "/perks/{perk_id}/export",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}, "description": "CSV"}},
    )
    async def export_perk(perk_id: Id, principal: Staff) -> Response:
        """What is to be sent, with addresses, as CSV."""
        return csv_response(await perks.export(perk_id), "to-send")

    # --- Star Jam -----------------------------------------------------------------------------------------------

    @routes.get("/jams", response_model=JamPage)
    async def list_jams(principal: Anyone) -> Any:
        """Every Star Jam, with the caller's invitation."""
        return {"items": await jams.all(principal)}

    @routes.post("/jams", response_model=Made, status_code=201, responses=_CONFLICT)
    async def create_jam(jam: JamIn, principal: Staff) -> Any:
        """Plan a Star Jam from a closed season; its shortlist is made at once."""
        return {"id": await jams.make(**jam.model_dump())}

    @routes.get("/jams/{jam_id}", response_model=JamDesk)
    async def get_jam(jam_id: Id, principal: Staff) -> Any:
        """A Star Jam with its list, name by name."""
        return await jams.desk(jam_id)

    @routes.post("/jams/{jam_id}/shortlist", response_model=JamDesk, responses=_CONFLICT)
    async def make_shortlist(jam_id: Id, principal: Staff) -> Any:
        """Make the list again, while nobody is invited."""
        await jams.shortlist(jam_id)
        return await jams.desk(jam_id)

    @routes.post("/jams/{jam_id}/invite", response_model=JamDesk, responses=_CONFLICT)
    async def invite_to_jam(jam_id: Id, principal: Staff) -> Any:
        """Send the invitations; the list moves by itself from then on."""
        await jams.invite(jam_id)
        return await jams.desk(jam_id)

    @routes.put("/jams/{jam_id}/seats", response_model=JamDesk)
    async def put_seats(jam_id: Id, seats: SeatsIn, principal: Staff) -> Any:
        """More seats invite more; fewer take nothing back."""
        await jams.set_seats(jam_id, seats.seats)
        return await jams.desk(jam_id)

    @routes.post("/jams/{jam_id}/end", response_model=JamDesk)
    async def end_jam(jam_id: Id, principal: Staff) -> Any:
        """It is over: nobody is invited any more."""
        await jams.end(jam_id)
        return await jams.desk(jam_id)

    @routes.post("/jams/{jam_id}/answer", response_model=InvitationOut, responses=_CONFLICT)
    async def answer_invitation(jam_id: Id, answer: JamAnswer, principal: Known) -> Any:
        """Accept or decline one's own invitation."""
        return await jams.answer(
            principal, jam_id, accept=answer.accept, consent=answer.consent, travel_notes=answer.travel_notes
        )

    @routes.post("/jams/{jam_id}/attendance", response_model=JamDesk)
    async def put_attendance(jam_id: Id, attendance: AttendanceIn, principal: Staff) -> Any:
        """Who was there."""
        await jams.attend(jam_id, attendance.member_id, attendance.attended)
        return await jams.desk(jam_id)

    # --- announcements ------------------------------------------------------------------------------------------

    @routes.get("/announcements", response_model=AnnouncementPage)
    async def list_announcements(principal: Anyone, limit: Limit = 50, cursor: Cursor = None) -> Any:
        """What the caller may read, the latest first."""
        return await parts.announcements.page(principal, limit, cursor)

    @routes.post("/announcements", response_model=Made, status_code=201)
    async def publish_announcement(announcement: AnnouncementIn, principal: Staff) -> Any:
        """Tell an audience."""
        return {
            "id": await parts.announcements.publish(
                principal, announcement.title, announcement.text, announcement.audience, announcement.embargo_until
            )
        }

    return routes


async def publish(parts: Parts, principal: Principal, document: Any, bank: Any) -> Edition:
    """Publish an edition in the name of whoever asks."""
    async with parts.runtime.outbox.transaction() as transaction:
        by = await parts.members.reading(transaction.connection, principal)
    return await parts.programme.publish(document, bank, by)


def decoded(body: bytes) -> str:
    """A body as UTF-8 text. Raises Problem 400."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(400, "The file is not in UTF-8.", type="invalid-roster") from None


def read_yaml(text: str) -> Any:
    """A YAML document. Raises Problem 400."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Problem(400, f"This is not YAML: {str(error)[:300]}", type="invalid-edition") from None


def for_reader(star: dict[str, Any], principal: Principal | None) -> dict[str, Any]:
    """A Star as the directory shows them to somebody who is neither themselves nor staff."""
    if principal is not None and (principal.has(Role.STAFF) or principal.owns(star["member_id"])):
        return star
    private = {"state": None, "listed": None, "term_ends": None, "grace_ends": None, "leave_until": None}
    kept = [one for one in star["history"] if one["what"] in ("appointed", "promoted")]
    return {**star, **private, "history": [{**one, "detail": None} for one in kept]}


def csv_response(text: str, name: str) -> Response:
    """A CSV file to keep."""
    return Response(
        text,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "private, no-store"},
    )
