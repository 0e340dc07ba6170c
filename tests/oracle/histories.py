"""Hypothesis strategies: histories that are small, valid and nasty, and the ways in which they can arrive.

There are few ids and few times, so that the same things are said again and again, at equal instants and against each
other: opposites, cycles of merges, moves to and fro, events about what is never created, erasures before and after.
A pair of source and id never names two contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.oracle.envelopes import BEGINNING, Event, at, envelope, member_data
from tests.oracle.figures import SECOND, micros, rfc3339

T = TypeVar("T")

# In UTF-8 "Z" < "a" < "é" < "ｚ" < "😀"; a locale or UTF-16 would have it otherwise.
TOPICS = ("a", "Z", "é", "😀")
REPLIES = ("r", "R", "ö", "ｚ", "🙂")
MEMBERS = ("ada", "Ben", "élise", "ｚoe")
SPACES = ("help", "beer")
LANGUAGES = ("en", "de")
HOMES = {"r": "a", "R": "a", "ö": "Z", "ｚ": "Z", "🙂": "é"}
"""Where a reply mostly is, so that enough of what is said meets."""

KUDOS: dict[str, tuple[str | None, str | None]] = {
    "k1": ("r", "ada"),
    "K2": ("r", "ada"),
    "k3": ("r", "Ben"),
    "k4": ("r", None),
    "k5": ("r", None),
    "k6": ("R", "élise"),
    "k7": (None, "ada"),
}
"""What a kudos is on (None: the topic) and whose it is (None: nobody's) is the same whenever it is named."""

OFFSETS = (
    0,
    0,
    1,
    900 * SECOND,
    14_400 * SECOND,
    86_400 * SECOND,
    172_800 * SECOND,
    172_800 * SECOND + 1,
    700_000 * SECOND,
)
"""Microseconds after the beginning: equal times, the grace, a day, the target and just past it, another week."""

LAST = at(days=30)
"""An instant after everything that a history tells."""


def instants() -> st.SearchStrategy[int]:
    """An instant of a history, in microseconds since 1970."""
    return st.sampled_from(OFFSETS).map(lambda offset: micros(BEGINNING) + offset)


@st.composite
def times(draw: st.DrawFn, *, exotic: bool = False, early: bool = False) -> str:
    """A time of a history; exotic ones have more digits than are kept, or another offset from UTC."""
    instant = draw(instants())
    if early and draw(st.integers(0, 2)) < 2:
        instant = micros(BEGINNING)
    style = draw(st.integers(0, 9)) if exotic else 0
    if style == 7:
        return rfc3339(instant + 2 * 3600 * SECOND).replace("Z", "+02:00")
    if style == 8:
        return rfc3339(instant - 5400 * SECOND).replace("Z", "-01:30")
    if style == 9:
        whole, _, digits = rfc3339(instant).removesuffix("Z").partition(".")
        return f"{whole}.{digits.ljust(6, '0')}{draw(st.sampled_from(('0', '999', '5000001')))}Z"
    return rfc3339(instant)


def _topics() -> st.SearchStrategy[str]:
    """A topic's id, the first two more often."""
    return st.sampled_from((*TOPICS, *TOPICS[:2]))


def _places() -> st.SearchStrategy[tuple[str, str]]:
    """A topic and a reply, mostly one where the reply is at home."""
    return st.tuples(st.integers(0, 3), st.sampled_from(TOPICS), st.sampled_from(REPLIES)).map(
        lambda drawn: (HOMES[drawn[2]] if drawn[0] < 3 else drawn[1], drawn[2])
    )


def _topic_created(topic_id: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.fixed_dictionaries(
        {
            "topic_id": st.just(topic_id),
            "author_id": st.sampled_from(MEMBERS),
            "author_kind": st.sampled_from(("member", "member", "staff", "bot")),
            "title": st.sampled_from(("Why?", "How?")),
            "space": st.sampled_from(SPACES),
            "tags": st.lists(st.sampled_from(("foam", "malt", "Öl")), max_size=2, unique=True),
            "kind": st.sampled_from(("question", "question", "question", "discussion")),
        },
        optional={"language": st.sampled_from(LANGUAGES), "url": st.just("https://forum.example/t/1")},
    ).map(lambda data: ("topic-created", data))


def _reply_posted(reply_id: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.fixed_dictionaries(
        {
            "topic_id": st.sampled_from((*[HOMES[reply_id]] * 5, *TOPICS)),
            "reply_id": st.just(reply_id),
            "author_id": st.sampled_from(MEMBERS),
            "author_kind": st.sampled_from(("member", "member", "member", "staff", "bot")),
            "visibility": st.sampled_from(("public", "public", "public", "public", "internal")),
        }
    ).map(lambda data: ("reply-posted", data))


def _topic_edited() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    changes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {},
        optional={
            "title": st.sampled_from((None, "Really why?")),
            "tags": st.sampled_from((None, [], ["hops"])),
            "language": st.sampled_from((None, "en", "de")),
            "kind": st.sampled_from((None, "question", "discussion")),
        },
    ).filter(bool)
    return st.tuples(_topics(), changes).map(lambda pair: ("topic-edited", {"topic_id": pair[0], **pair[1]}))


def _about_topic(*types: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.sampled_from(types), _topics()).map(lambda pair: (pair[0], {"topic_id": pair[1]}))


def _about_reply(*types: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.sampled_from(types), _places()).map(
        lambda drawn: (drawn[0], {"topic_id": drawn[1][0], "reply_id": drawn[1][1]})
    )


def _two(ids: Sequence[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.sampled_from(ids), st.sampled_from(ids)).filter(lambda pair: pair[0] != pair[1])


def _kudos() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    def build(drawn: tuple[str, str, str]) -> tuple[str, dict[str, Any]]:
        type_, topic_id, kudos_id = drawn
        reply_id, giver_id = KUDOS[kudos_id]
        data = {"topic_id": topic_id, "reply_id": reply_id, "kudos_id": kudos_id, "giver_id": giver_id}
        return type_, {name: value for name, value in data.items() if value is not None}

    return st.tuples(
        st.sampled_from(("kudos-given", "kudos-given", "kudos-revoked")),
        st.sampled_from(TOPICS),
        st.sampled_from(sorted(KUDOS)),
    ).map(build)


def _member() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    plain = st.tuples(
        st.sampled_from(("registered", "updated", "suspended", "reinstated")), st.sampled_from(MEMBERS)
    ).map(
        lambda pair: (
            f"member-{pair[0]}",
            member_data(pair[1], "suspended" if pair[0] == "suspended" else "active"),
        )
    )
    merged = _two(MEMBERS).map(lambda pair: ("member-merged", member_data(pair[0], "merged", pair[1])))
    erased = st.sampled_from(MEMBERS).map(lambda member_id: ("member-erased", {"member_id": member_id}))
    return st.one_of(plain, merged, merged, erased)


def _star() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(
        st.sampled_from(("star-appointed", "star-appointed", "star-retired")), st.sampled_from(MEMBERS)
    ).map(lambda pair: (pair[0], {"member_id": pair[1]}))


def _anything(*, members: bool, stars: bool, kudos: bool) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    kinds: list[st.SearchStrategy[tuple[str, dict[str, Any]]]] = [
        st.sampled_from(TOPICS).flatmap(_topic_created),
        st.sampled_from(REPLIES).flatmap(_reply_posted),
        _topic_edited(),
        st.tuples(st.sampled_from(TOPICS), st.sampled_from(SPACES)).map(
            lambda pair: ("topic-moved", {"topic_id": pair[0], "space": pair[1]})
        ),
        _about_topic("topic-closed", "topic-reopened"),
        _about_topic("topic-deleted", "topic-restored"),
        _two(TOPICS).map(lambda pair: ("topic-merged", {"topic_id": pair[0], "into_topic_id": pair[1]})),
        _about_reply("reply-deleted", "reply-restored"),
        st.tuples(_two(TOPICS), st.sampled_from(REPLIES)).map(
            lambda drawn: (
                "reply-moved",
                {"topic_id": drawn[0][0], "reply_id": drawn[1], "from_topic_id": drawn[0][1]},
            )
        ),
        _about_reply("solution-accepted", "solution-accepted", "solution-revoked"),
    ]
    if kudos:
        kinds.append(_kudos())
    if members:
        kinds.append(_member())
    if stars:
        kinds.append(_star())
    return st.one_of(kinds)


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    members: bool = True,
    stars: bool = True,
    kudos: bool = True,
    exotic_times: bool = False,
    max_size: int = 20,
) -> list[Event]:
    """A history: most topics and replies come to be, and up to `max_size` things more are said about them."""
    bodies: list[tuple[str, dict[str, Any]]] = []
    for topic_id in TOPICS:
        if draw(st.integers(0, 9)) < 9:
            bodies.append(draw(_topic_created(topic_id)))  # noqa: PERF401
    for reply_id in REPLIES:
        if draw(st.integers(0, 9)) < 9:
            bodies.append(draw(_reply_posted(reply_id)))  # noqa: PERF401
    founding = len(bodies)
    more = draw(st.integers(0, max_size))
    anything = _anything(members=members, stars=stars, kudos=kudos)
    bodies += draw(st.lists(anything, min_size=more, max_size=more))
    # The names are drawn after the contents, in any order, so that at equal times any of two may be the greater.
    names = draw(
        st.lists(
            st.tuples(st.sampled_from(("/forum/a", "/forum/B")), st.integers(0, 999)),
            min_size=len(bodies),
            max_size=len(bodies),
            unique=True,
        )
    )
    return [
        envelope(
            type_,
            draw(times(exotic=exotic_times, early=type_ == "topic-created" and index < founding)),
            data,
            id_=_name(number),
            source="/applications" + source[-2:] if type_.startswith("star-") else source,
            backfill=draw(st.integers(0, 4)) == 0,
        )
        for index, ((type_, data), (source, number)) in enumerate(zip(bodies, names, strict=True))
    ]


def _name(number: int) -> str:
    """Every number has a name of its own; they are not ordered as the numbers are, nor all ASCII."""
    return f"{('e', 'E', 'é', '😀')[number % 4]}{number}"


@st.composite
def permutations(draw: st.DrawFn, events: Sequence[T]) -> list[T]:
    """The same, in another order."""
    return list(draw(st.permutations(events)))


@st.composite
def repetitions(draw: st.DrawFn, events: Sequence[T]) -> list[T]:
    """Each at least once, some again, later on or at once."""
    if not events:
        return []
    again = draw(st.lists(st.sampled_from(range(len(events))), max_size=6))
    arrived = list(events)
    for index in again:
        arrived.insert(draw(st.integers(0, len(arrived))), events[index])
    return arrived


@st.composite
def arrivals(draw: st.DrawFn, events: Sequence[T]) -> list[T]:
    """The same events in any order, with repetitions."""
    return draw(repetitions(draw(permutations(events))))


@st.composite
def batches(draw: st.DrawFn, events: Sequence[T]) -> list[list[T]]:
    """The same events in the same order, cut into batches, none of them empty."""
    cuts = draw(st.lists(st.booleans(), min_size=max(len(events) - 1, 0), max_size=max(len(events) - 1, 0)))
    found: list[list[T]] = []
    for index, event in enumerate(events):
        if index == 0 or cuts[index - 1]:
            found.append([])
        found[-1].append(event)
    return found


def policy_lists() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Policies: one for everything without a beginning, and more for scopes and from instants of a history."""
    more = st.fixed_dictionaries(
        {
            "scope": st.sampled_from(("all", "space:help", "space:beer", "language:en", "language:de")),
            "target_seconds": st.sampled_from((1, 900, 14_400, 86_400, 172_800)),
            "objective": st.sampled_from((0.5, 0.9)),
            "from": st.one_of(st.none(), instants().map(rfc3339)),
        }
    )
    first: dict[str, Any] = {"scope": "all", "target_seconds": 172_800, "objective": 0.9, "from": None}
    return st.lists(
        more.filter(lambda policy: (policy["scope"], policy["from"]) != ("all", None)),
        max_size=4,
        unique_by=lambda policy: (policy["scope"], policy["from"]),
    ).map(lambda policies: [first, *policies])


@st.composite
def queries(draw: st.DrawFn) -> dict[str, str]:
    """The parameters of a report, by their names over HTTP; `from` is never after `to`."""
    drawn: dict[str, str | None] = {
        "space": draw(st.sampled_from((None, None, *SPACES))),
        "language": draw(st.sampled_from((None, None, *LANGUAGES))),
        "as_of": draw(st.one_of(st.just(LAST), times())),
        "every": draw(st.sampled_from((None, "day", "week", "month", "year"))),
    }
    bounds = sorted(draw(st.lists(instants(), min_size=2, max_size=2)))
    drawn["from"] = rfc3339(bounds[0]) if draw(st.booleans()) else None
    drawn["to"] = rfc3339(bounds[1]) if draw(st.booleans()) else None
    return {name: value for name, value in drawn.items() if value is not None}
