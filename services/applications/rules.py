"""What holds in the programme: criteria, applications, the quiz, ranks, the quota of Star Jam. Pure functions."""

import calendar
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any, Literal

from shared.contracts.types import is_text

# --- criteria: facts about a member, and what is asked of them ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Month:
    """What became of the replies that a member gave others in a month, in one space and language."""

    month: date
    space: str
    language: str
    replies: int
    solutions: int
    first_responses: int
    kudos: int


@dataclass(frozen=True)
class Record:
    """What the facts say of a member."""

    months: Sequence[Month] = ()
    joined_at: datetime | None = None
    suspended_at: datetime | None = None
    is_suspended: bool = False
    languages: frozenset[str] = frozenset()

    def within(self, months: int | None, today: date) -> list[Month]:
        """The months of the window that ends with this one; None: all."""
        if months is None:
            return list(self.months)
        first = first_of_window(months, today)
        return [one for one in self.months if one.month >= first]


def first_of_window(months: int, today: date) -> date:
    """The first day of a window of so many calendar months, this one included."""
    count = today.year * 12 + today.month - months
    return date(count // 12, count % 12 + 1, 1) if count >= 12 else date.min


def add_months(at: datetime, months: int) -> datetime:
    """The same day so many months later, or that month's last day."""
    count = at.year * 12 + at.month - 1 + months
    year, month = divmod(count, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))


FactName = Literal[
    "months-active",
    "months-since-joined",
    "replies",
    "solutions",
    "first-responses",
    "kudos-ratio",
    "suspensions",
    "languages",
]


def fact(name: FactName, record: Record, months: int | None, today: date) -> float:
    """One fact about a member over a window of calendar months (UTC), this one included."""
    window = record.within(months, today)
    replies = sum(one.replies for one in window)
    match name:
        case "months-active":
            return len({one.month for one in window if one.replies})
        case "months-since-joined":
            joined = record.joined_at
            if joined is None:
                return 0
            whole = (today.year - joined.year) * 12 + today.month - joined.month - (today.day < joined.day)
            return max(0, whole)
        case "replies":
            return replies
        case "solutions":
            return sum(one.solutions for one in window)
        case "first-responses":
            return sum(one.first_responses for one in window)
        case "kudos-ratio":
            # Of no replies at all none was liked.
            return sum(one.kudos for one in window) / replies if replies else 0.0
        case "suspensions":
            if record.is_suspended:
                return 1
            at = record.suspended_at
            return int(at is not None and (months is None or at.date() >= first_of_window(months, today)))
        case "languages":
            return len(record.languages | {one.language for one in window if one.language})


@dataclass(frozen=True, slots=True)
class Criterion:
    """What is asked of one fact: at least so much, or at most."""

    fact: FactName
    at_least: float | None = None
    at_most: float | None = None
    months: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a member is with a criterion."""

    criterion: Criterion
    value: float
    met: bool

    @property
    def part(self) -> float:
        """From 0 to 1: the one next step is the smallest."""
        if self.met:
            return 1.0
        goal = self.criterion.at_least
        return min(self.value / goal, 0.999) if goal else 0.0


def progress(criteria: Iterable[Criterion], record: Record, today: date) -> list[Progress]:
    """Each criterion with what the facts say of it."""
    found = []
    for one in criteria:
        value = fact(one.fact, record, one.months, today)
        low, high = one.at_least, one.at_most
        found.append(Progress(one, value, (low is None or value >= low) and (high is None or value <= high)))
    return found


def meets(criteria: Iterable[Criterion], record: Record, today: date) -> bool:
    """Whether every criterion is met."""
    return all(one.met for one in progress(criteria, record, today))


# --- applications: the state machine is this table ------------------------------------------------------------------


class State(StrEnum):
    """Where an application stands."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    IN_REVIEW = "in-review"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class Action(StrEnum):
    """What can happen to an application."""

    SAVE = "save"
    SUBMIT = "submit"
    PASS = "pass-quiz"  # noqa: S105  no password
    FAIL = "fail-quiz"
    EXHAUST = "fail-last-quiz"
    ACCEPT = "accept"
    DECLINE = "decline"
    WITHDRAW = "withdraw"


Who = Literal["applicant", "quiz", "staff"]


@dataclass(frozen=True, slots=True)
class Transition:
    """Where an action leads, who takes it, and what is published."""

    to: State
    by: Who
    events: tuple[str, ...] = ()


TRANSITIONS: Mapping[tuple[State, Action], Transition] = {
    (State.DRAFT, Action.SAVE): Transition(State.DRAFT, "applicant"),
    (State.DRAFT, Action.SUBMIT): Transition(State.SUBMITTED, "applicant", ("application-submitted",)),
    (State.DRAFT, Action.WITHDRAW): Transition(State.WITHDRAWN, "applicant"),
    (State.SUBMITTED, Action.PASS): Transition(State.IN_REVIEW, "quiz", ("quiz-passed",)),
    (State.SUBMITTED, Action.FAIL): Transition(State.SUBMITTED, "quiz", ("quiz-failed",)),
    (State.SUBMITTED, Action.EXHAUST): Transition(State.FAILED, "quiz", ("quiz-failed", "application-decided")),
    (State.SUBMITTED, Action.WITHDRAW): Transition(State.WITHDRAWN, "applicant", ("application-withdrawn",)),
    (State.IN_REVIEW, Action.ACCEPT): Transition(State.ACCEPTED, "staff", ("application-decided", "star-appointed")),
    (State.IN_REVIEW, Action.DECLINE): Transition(State.DECLINED, "staff", ("application-decided",)),
    (State.IN_REVIEW, Action.WITHDRAW): Transition(State.WITHDRAWN, "applicant", ("application-withdrawn",)),
}
FINAL = frozenset(State) - {state for state, _ in TRANSITIONS}


def follow(state: State, action: Action) -> Transition | None:
    """What an action does to an application in a state; None where there is no such thing."""
    return TRANSITIONS.get((state, action))


def state_diagram() -> str:
    """The table as a Mermaid state diagram; the README's is made of it."""
    lines = ["stateDiagram-v2", "    [*] --> draft"]
    for (state, action), way in TRANSITIONS.items():
        said = f"{action} ({way.by})" + (f": {', '.join(way.events)}" if way.events else "")
        lines.append(f"    {_node(state)} --> {_node(way.to)}: {said}")
    lines += [f"    {_node(state)} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)


def _node(state: State) -> str:
    return state.replace("-", "_")


def may_apply_from(closed_at: datetime | None, cool_down: timedelta) -> datetime | None:
    """From when on somebody may apply again; None: at any time."""
    return None if closed_at is None else closed_at + cool_down


# --- the quiz -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question of an attempt: which one, and its options as shuffled. Option 0 of the bank is the right one."""

    question_id: str
    options: tuple[int, ...]


def draw(questions: Mapping[str, int], count: int, rng: Random) -> list[Drawn]:
    """COUNT different questions of a bank (id and number of options), in any order, their options shuffled."""
    chosen = rng.sample(sorted(questions), min(count, len(questions)))
    return [Drawn(id, tuple(rng.sample(range(questions[id]), questions[id]))) for id in chosen]


def score(questions: Iterable[tuple[Sequence[int], int | None]]) -> int:
    """How many were answered rightly; pairs of the options as shown and the option that was chosen."""
    return sum(answer is not None and options[answer] == 0 for options, answer in questions)


def seconds_left(deadline: datetime, now: datetime) -> float:
    """Seconds until time is up, never below nought."""
    return max(0.0, (deadline - now).total_seconds())


# --- ranks and terms ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rank:
    """A rank with what it asks for a further term, and how long that is."""

    id: str
    term_months: int | None
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """A membership as far as time and facts decide on it."""

    state: Literal["active", "grace", "leave"]
    rank: str
    term_ends: datetime | None
    grace_ends: datetime | None = None
    leave_since: datetime | None = None
    leave_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of a membership: what happened, and how it stands then; None: it ends."""

    what: Literal["renewed", "promoted", "demoted", "warned", "returned", "retired"]
    standing: Standing | None


def judge(standing: Standing, ranks: Sequence[Rank], record: Record, now: datetime, grace: timedelta) -> Judged | None:
    """What a due membership becomes. RANKS from the lowest to the highest. None while nothing is due.

    At the end of a term the highest rank stands whose criteria are met. Who meets less than their own has a grace
    period; after it they have the highest rank that they do meet, and without any their membership ends, with thanks.
    """
    today = now.astimezone(UTC).date()
    if standing.state == "leave":
        if standing.leave_until is None or standing.leave_until > now:
            return None
        return Judged("returned", returned(standing, standing.leave_until))
    due = standing.term_ends if standing.state == "active" else standing.grace_ends
    if due is None or due > now:
        return None
    known = [rank.id for rank in ranks]
    own = known.index(standing.rank) if standing.rank in known else 0
    met = max((n for n, rank in enumerate(ranks) if meets(rank.criteria, record, today)), default=None)
    if met is not None and met >= own:
        what: Literal["renewed", "promoted"] = "renewed" if met == own else "promoted"
        return Judged(what, new_term(ranks[met], now))
    if standing.state == "active":
        return Judged("warned", Standing("grace", standing.rank, standing.term_ends, now + grace))
    if met is None:
        return Judged("retired", None)
    return Judged("demoted", new_term(ranks[met], now))


def new_term(rank: Rank, now: datetime) -> Standing:
    """An active membership with a whole term before it."""
    return Standing("active", rank.id, None if rank.term_months is None else add_months(now, rank.term_months))


def returned(standing: Standing, at: datetime) -> Standing:
    """Back from leave: what was left of the term, or of grace, when it began is left now."""
    since = standing.leave_since or at
    if standing.grace_ends is not None:
        return Standing("grace", standing.rank, standing.term_ends, max(standing.grace_ends + (at - since), at))
    ends = standing.term_ends
    return Standing("active", standing.rank, None if ends is None else max(ends + (at - since), at))


# --- Star Jam: who is invited, and why ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A name on a season's standings, as far as the quota looks at it."""

    member_id: str
    rank: int
    points: int
    space: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """A name on the shortlist: whether it can be invited, and why or why not, in words."""

    candidate: Candidate
    may_be_invited: bool
    why: str


def shortlist(
    standings: Iterable[Candidate],
    stars: Collection[str],
    invited_lately: Mapping[str, str],
    most_per_space: int | None,
) -> list[Named]:
    """Every name of the standings in its order: who may be invited, and why not.

    ``invited_lately``: to which Jam somebody was invited that is too recent. One member is named once.
    """
    found: list[Named] = []
    seen: set[str] = set()
    for one in standings:
        if one.member_id in seen:
            continue
        seen.add(one.member_id)
        place = f"Place {one.rank} with {one.points} points"
        if one.member_id not in stars:
            found.append(Named(one, False, f"{place}, but no Star at the moment"))
        elif one.member_id in invited_lately:
            found.append(Named(one, False, f"{place}, but invited to {invited_lately[one.member_id]}"))
        else:
            where = f"; helps mostly in {one.space}" if one.space and most_per_space else ""
            found.append(Named(one, True, place + where))
    return found


GuestState = Literal["passed-over", "waiting", "invited", "accepted", "declined", "lapsed"]
HOLDS_SEAT = frozenset({"invited", "accepted"})


def next_invited(
    guests: Sequence[tuple[str, GuestState, str | None]], seats: int, most_per_space: int | None
) -> list[str]:
    """Whom to invite now, of the list in its order (member, state, space): free seats go to the first who may have one.

    A space that has its most is passed over until a seat of it comes free.
    """
    taken = Counter(space for _, state, space in guests if state in HOLDS_SEAT)
    free = seats - taken.total()
    chosen: list[str] = []
    for member, state, space in guests:
        if len(chosen) >= free:
            break
        if state != "waiting":
            continue
        if most_per_space is not None and space is not None and taken[space] >= most_per_space:
            continue
        taken[space] += 1
        chosen.append(member)
    return chosen


# --- forms ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """A question of the form, as far as an answer can be right or wrong."""

    id: str
    kind: Literal["text", "choice", "evidence", "languages", "spaces", "consent"]
    required: bool = True
    least: int = 0
    most: int = 10
    longest: int = 4000
    options: frozenset[str] = field(default_factory=frozenset)


MOST_DRAFT = 20_000


def check_draft(fields: Iterable[Field], answers: Mapping[str, Any]) -> dict[str, str]:
    """What cannot even be kept as a draft, by field."""
    known = {one.id: one for one in fields}
    wrong = {}
    for id, value in answers.items():
        one = known.get(id)
        if one is None:
            wrong[id[:100]] = "The form has no such question."
        elif one.kind in ("text", "choice"):
            if not is_text(value) or len(value) > MOST_DRAFT:
                wrong[id] = "This is a text."
        elif one.kind == "consent":
            if not isinstance(value, bool):
                wrong[id] = "This is yes or no."
        elif (
            not isinstance(value, list)
            or len(value) > 50
            or not all(is_text(item) and 0 < len(item) <= 255 for item in value)
        ):
            wrong[id] = "This is a list of at most 50 texts."
    return wrong


def check_answers(fields: Iterable[Field], answers: Mapping[str, Any], own_replies: Collection[str]) -> dict[str, str]:
    """What is missing or wrong before an application can be submitted, by field. The draft is checked already."""
    wrong = {}
    for one in fields:
        value: Any = answers.get(one.id)
        if one.kind == "consent":
            if one.required and value is not True:
                wrong[one.id] = "Without your consent we cannot read your application."
            continue
        empty = not value or (isinstance(value, str) and not value.strip())
        if empty:
            if one.required:
                wrong[one.id] = "This is still to be answered."
        elif one.kind == "text":
            if len(value) > one.longest:
                wrong[one.id] = f"At most {one.longest} characters; there are {len(value)}."
            elif len(value.strip()) < one.least:
                wrong[one.id] = f"At least {one.least} characters, please."
        elif one.kind == "choice":
            if value not in one.options:
                wrong[one.id] = "Choose one of the options."
        else:
            if len(set(value)) < max(one.least, 1):
                wrong[one.id] = f"At least {max(one.least, 1)}, please."
            elif len(value) > one.most:
                wrong[one.id] = f"At most {one.most}."
            elif one.kind == "evidence" and not set(value) <= set(own_replies):
                wrong[one.id] = "Only replies of your own that can be seen count."
    return wrong
