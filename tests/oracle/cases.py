"""Handwritten histories for what real dumps never show, each with what must be true after it.

`expect` names only what matters: `topics` by id (fields as in `GET /topics/api/topics/{id}`, None for 404), `standing`
by topic (fields as in first-response-recorded, None where none stands), `report` (as in `GET /topics/api/sla`, asked
with `query` in the names of HTTP) and `kudos` (the ids of those that count). Every answer is worked out by hand, and
holds at any instant from `AS_OF` on, reports at their own `as_of`. Erased members are called by `ERASURE_KEY`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.oracle.envelopes import Event, Story, at
from tests.oracle.forum import DEFAULT_POLICIES, Policy, stand_in

ERASURE_KEY = b"the key of an installation under test"
AS_OF = at(days=30)
HOUR = 3600.0


@dataclass(frozen=True)
class Case:
    """A story, the policies under which it is told, and what must be true after it.

    Where the contract's words leave room, `reading` says in which sense they were taken.
    """

    name: str
    events: tuple[Event, ...]
    expect: dict[str, Any]
    policies: tuple[Policy, ...] = DEFAULT_POLICIES
    query: dict[str, str] = field(default_factory=lambda: {"as_of": AS_OF})
    reading: str = ""


CASES: list[Case] = []


def case(
    name: str,
    story: Story,
    *,
    policies: tuple[Policy, ...] = DEFAULT_POLICIES,
    query: dict[str, str] | None = None,
    reading: str = "",
    **expect: Any,
) -> None:
    """Write a case down."""
    CASES.append(Case(name, tuple(story.events), expect, policies, {"as_of": AS_OF, **(query or {})}, reading))


def gone(member_id: str) -> str:
    """What an erased member is called."""
    return stand_in(ERASURE_KEY, member_id)


def policy(scope: str, hours: float, from_: str | None = None, objective: float = 0.9) -> Policy:
    """A version of a policy."""
    return {"scope": scope, "target_seconds": int(hours * 3600), "objective": objective, "from": from_}


# The target

case(
    "an answer after exactly 48 hours meets the target",
    Story().topic("t", at()).reply("t", "r", at(48)),
    topics={
        "t": {
            "state": "answered",
            "created_at": at(),
            "due_at": at(48),
            "author_id": "ada",
            "replies": 1,
            "solution": None,
            "first_response": {
                "reply_id": "r",
                "responder_id": "ben",
                "at": at(48),
                "seconds": 172_800.0,
                "within_target": True,
            },
        }
    },
    standing={"t": {"reply_id": "r", "responder_kind": "member", "topic_kind": "question", "answered_at": at(48)}},
    report={
        "topics": 1,
        "answered": 1,
        "met": 1,
        "missed": 0,
        "pending": 0,
        "attainment": 1.0,
        "p50_seconds": 172_800.0,
        "p80_seconds": 172_800.0,
        "p90_seconds": 172_800.0,
        "answered_median_seconds": 172_800.0,
    },
)

case(
    "a microsecond more than 48 hours misses it",
    Story().topic("t", at()).reply("t", "r", at(48, us=1)),
    topics={"t": {"first_response": {"seconds": 172_800.000001, "within_target": False}}},
    standing={"t": {"within_target": False}},
    report={"topics": 1, "answered": 1, "met": 0, "missed": 1, "pending": 0, "attainment": 0.0},
)

case(
    "digits finer than a microsecond are cut off and do not miss the target",
    Story().topic("t", "2024-01-01T00:00:00.0000000Z").reply("t", "r", "2024-01-03T00:00:00.000000999Z"),
    topics={"t": {"first_response": {"at": at(48), "seconds": 172_800.0, "within_target": True}}},
    report={"met": 1, "missed": 0},
)

case(
    "an unanswered topic of exactly 48 hours is pending",
    Story().topic("t", at()),
    query={"as_of": at(48)},
    topics={"t": {"first_response": None, "replies": 0, "state": "breached"}},
    report={"topics": 1, "answered": 0, "met": 0, "missed": 0, "pending": 1, "attainment": None, "p50_seconds": None},
)

case(
    "an unanswered topic of a microsecond more is missed",
    Story().topic("t", at()),
    query={"as_of": at(48, us=1)},
    standing={"t": None},
    report={"topics": 1, "met": 0, "missed": 1, "pending": 0, "attainment": 0.0, "answered_median_seconds": None},
)

case(
    "an answer after as_of is not yet there",
    Story().topic("t", at()).reply("t", "r", at(5)),
    query={"as_of": at(5, us=-1)},
    report={"topics": 1, "answered": 0, "met": 0, "pending": 1, "p50_seconds": None},
)

case(
    "an answer at as_of and a topic at as_of are there",
    Story().topic("t", at()).reply("t", "r", at(5)).topic("u", at(5)).topic("v", at(5, us=1)),
    query={"as_of": at(5)},
    report={"topics": 2, "answered": 1, "met": 1, "pending": 1, "attainment": 1.0},
)

case(
    "deletions later than as_of apply to it as known now",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1))
    .topic("u", at())
    .tell("topic-deleted", at(20), topic_id="u")
    .tell("reply-deleted", at(20), topic_id="t", reply_id="r"),
    query={"as_of": at(10)},
    topics={"t": {"first_response": None, "replies": 0}, "u": {"state": "deleted"}},
    report={"topics": 1, "answered": 0, "pending": 1},
)

# Who counts as an answer

case(
    "of two replies at one instant the smaller id in bytes is first",
    Story()
    .topic("t", at())
    .reply("t", "🙂", at(1), "emil")
    .reply("t", "ｚ", at(1), "dora")
    .reply("t", "é", at(1), "carl")
    .topic("u", at())
    .reply("u", "a", at(1), "carl")
    .reply("u", "Z", at(1), "dora")
    .topic("v", at())
    .reply("v", "v🙂", at(1), "emil")
    .reply("v", "vｚ", at(1), "dora"),
    topics={
        "t": {"first_response": {"reply_id": "é", "responder_id": "carl"}, "replies": 3},
        "u": {"first_response": {"reply_id": "Z", "responder_id": "dora"}},
        "v": {"first_response": {"reply_id": "vｚ", "responder_id": "dora"}},
    },
)

case(
    "a bot that answers first is no person, but its reply is seen",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(us=1), "helper", author_kind="bot")
    .reply("t", "r2", at(3), "sven", author_kind="staff")
    .reply("t", "r3", at(4)),
    topics={"t": {"first_response": {"reply_id": "r2", "responder_id": "sven", "seconds": 3 * HOUR}, "replies": 3}},
    standing={"t": {"responder_kind": "staff"}},
)

case(
    "a question of a bot counts as any other",
    Story()
    .topic("t", at(), "helper", author_kind="bot")
    .topic("u", at(), "helper", author_kind="bot")
    .reply("t", "r", at(1)),
    topics={"t": {"state": "answered"}, "u": {"state": "breached"}},
    report={"topics": 2, "met": 1, "missed": 1, "attainment": 0.5},
)

case(
    "the author's own reply is no answer",
    Story().topic("t", at()).reply("t", "r1", at(1), "ada").reply("t", "r2", at(2)),
    topics={"t": {"first_response": {"reply_id": "r2", "seconds": 2 * HOUR}, "replies": 2}},
)

case(
    "an internal reply that came first is neither an answer nor counted",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1), "sven", author_kind="staff", visibility="internal")
    .reply("t", "r2", at(2)),
    topics={"t": {"first_response": {"reply_id": "r2", "seconds": 2 * HOUR}, "replies": 1}},
)

case(
    "a reply older than its topic is no answer, one of the same instant is",
    Story()
    .topic("t", at(1))
    .reply("t", "r1", at(1, us=-1))
    .reply("t", "r2", at(2))
    .topic("u", at(1))
    .reply("u", "r3", at(1), "carl"),
    topics={
        "t": {"first_response": {"reply_id": "r2", "seconds": HOUR}, "replies": 2},
        "u": {"first_response": {"reply_id": "r3", "seconds": 0.0, "within_target": True}},
    },
)

case(
    "a topic created later by a greater stamp makes the older answer none",
    Story().topic("t", at(5), title="Anew", id_="z").reply("t", "r", at(3)).topic("t", at(1), "carl", title="Old"),
    topics={"t": {"created_at": at(5), "author_id": "ada", "title": "Anew", "first_response": None, "replies": 1}},
)

case(
    "of two creations at one instant the greater source and then the greater id in bytes stands",
    Story()
    .topic("t", at(), "carl", id_="z", source="/forum/A", title="A z")
    .topic("t", at(), "dora", id_="a", source="/forum/a", title="a a")
    .topic("u", at(), "carl", id_="uｚ", title="fullwidth")
    .topic("u", at(), "dora", id_="u😀", title="smiling"),
    topics={"t": {"author_id": "dora", "title": "a a"}, "u": {"author_id": "dora", "title": "smiling"}},
)

case(
    "a reply without its topic counts nowhere, and neither does a topic that was only spoken of",
    Story()
    .reply("t", "r", at(1))
    .tell("topic-closed", at(2), topic_id="u")
    .tell("topic-moved", at(), topic_id="v", space="s"),
    topics={"t": None, "u": None, "v": None},
    standing={"t": None},
    report={"topics": 0, "answered": 0, "attainment": None, "p50_seconds": None, "answered_median_seconds": None},
)

# Deleted, restored, moved

case(
    "a deletion is stronger than a posting of any time",
    Story()
    .tell("reply-deleted", at(1), topic_id="t", reply_id="r")
    .reply("t", "r", at(2))
    .topic("t", at())
    .tell("topic-deleted", at(-5), topic_id="u")
    .topic("u", at()),
    topics={"t": {"first_response": None, "replies": 0}, "u": {"state": "deleted"}},
    report={"topics": 1, "answered": 0, "missed": 1},
)

case(
    "a deleted first response gives way to the next, a restored one comes back",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2), "carl")
    .tell("reply-deleted", at(3), topic_id="t", reply_id="r1")
    .topic("u", at())
    .reply("u", "r3", at(1))
    .reply("u", "r4", at(2), "carl")
    .tell("reply-deleted", at(3), topic_id="u", reply_id="r3")
    .tell("reply-restored", at(4), topic_id="u", reply_id="r3"),
    topics={
        "t": {"first_response": {"reply_id": "r2", "responder_id": "carl"}, "replies": 1},
        "u": {"first_response": {"reply_id": "r3", "responder_id": "ben"}, "replies": 2},
    },
)

case(
    "of opposites at one instant deleted and closed win, whatever the events are called",
    Story()
    .topic("t", at())
    .tell("topic-closed", at(1), topic_id="t", id_="a")
    .tell("topic-reopened", at(1), topic_id="t", id_="z")
    .topic("u", at())
    .tell("topic-deleted", at(1), topic_id="u", id_="b")
    .tell("topic-restored", at(1), topic_id="u", id_="y")
    .topic("v", at())
    .reply("v", "r", at(1))
    .tell("reply-deleted", at(2), topic_id="v", reply_id="r", id_="c")
    .tell("reply-restored", at(2), topic_id="v", reply_id="r", id_="x"),
    topics={"t": {"state": "closed"}, "u": {"state": "deleted"}, "v": {"state": "breached", "replies": 0}},
    report={"topics": 2, "missed": 2},
)

case(
    "a topic reopened and restored later is open again",
    Story()
    .topic("t", at())
    .tell("topic-closed", at(1), topic_id="t")
    .tell("topic-reopened", at(1, us=1), topic_id="t")
    .tell("topic-deleted", at(1), topic_id="t")
    .tell("topic-restored", at(2), topic_id="t"),
    topics={"t": {"state": "breached"}},
    report={"topics": 1},
)

case(
    "a closed topic counts, a deleted one does not",
    Story()
    .topic("t", at())
    .tell("topic-closed", at(1), topic_id="t")
    .topic("u", at())
    .reply("u", "r", at(1))
    .tell("topic-deleted", at(2), topic_id="u"),
    topics={"t": {"state": "closed"}, "u": {"state": "deleted"}},
    report={"topics": 1, "answered": 0, "missed": 1, "attainment": 0.0},
)

case(
    "a reply moved away answers elsewhere",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(3), "carl")
    .topic("u", at(), "dora")
    .tell("reply-moved", at(4), topic_id="u", reply_id="r1", from_topic_id="t"),
    topics={
        "t": {"first_response": {"reply_id": "r2"}, "replies": 1},
        "u": {"first_response": {"reply_id": "r1", "seconds": HOUR}, "replies": 1},
    },
    standing={"t": {"reply_id": "r2"}, "u": {"reply_id": "r1"}},
)

case(
    "a reply moved away and back answers where it was",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1))
    .topic("u", at(), "dora")
    .tell("reply-moved", at(4), topic_id="u", reply_id="r", from_topic_id="t")
    .tell("reply-moved", at(5), topic_id="t", reply_id="r", from_topic_id="u"),
    topics={"t": {"first_response": {"reply_id": "r"}, "replies": 1}, "u": {"first_response": None, "replies": 0}},
)

case(
    "a reply moved to the topic of its author is no answer there, one moved to a later topic neither",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(1), "carl")
    .topic("u", at(), "ben")
    .topic("v", at(2), "dora")
    .tell("reply-moved", at(4), topic_id="u", reply_id="r1", from_topic_id="t")
    .tell("reply-moved", at(4), topic_id="v", reply_id="r2", from_topic_id="t"),
    topics={
        "t": {"first_response": None, "replies": 0},
        "u": {"first_response": None, "replies": 1},
        "v": {"first_response": None, "replies": 1},
    },
)

case(
    "a deletion follows the reply to where it was moved",
    Story()
    .topic("t", at())
    .topic("u", at())
    .reply("t", "r", at(1))
    .tell("reply-moved", at(2), topic_id="u", reply_id="r", from_topic_id="t")
    .tell("reply-deleted", at(3), topic_id="t", reply_id="r"),
    topics={"t": {"replies": 0}, "u": {"replies": 0, "first_response": None}},
)

# Edited

case(
    "null removes, and what an edit does not name stays",
    Story()
    .topic("t", at(), tags=("foam", "malt"), title="Foam?", language="de")
    .tell("topic-edited", at(1), topic_id="t", language=None, title=None)
    .topic("u", at(), tags=("foam",), language="de")
    .tell("topic-edited", at(1), topic_id="u", kind=None),
    topics={
        "t": {"title": None, "language": None, "tags": ["foam", "malt"], "kind": "question"},
        "u": {"kind": None, "language": "de", "tags": ["foam"]},
    },
    query={"language": "de"},
    report={"topics": 0},
)

case(
    "each field of a topic has its own latest word",
    Story()
    .tell("topic-edited", at(3), topic_id="t", title="Third")
    .tell("topic-edited", at(2), topic_id="t", title="Second", tags=["second"])
    .tell("topic-moved", at(5), topic_id="t", space="attic")
    .tell("topic-moved", at(4), topic_id="t", space="cellar")
    .tell("topic-edited", at(-1), topic_id="t", language="fr")
    .topic("t", at(), title="First", tags=("first",), language="en"),
    topics={"t": {"title": "Third", "tags": ["second"], "space": "attic", "language": "en", "created_at": at()}},
)

case(
    "only what is a question now counts, but every kind has a first response",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "r1", at(1))
    .topic("u", at(), kind="discussion")
    .reply("u", "r2", at(1))
    .tell("topic-edited", at(9), topic_id="u", kind="question"),
    topics={"t": {"kind": "discussion", "first_response": {"reply_id": "r1"}}, "u": {"kind": "question"}},
    standing={"t": {"topic_kind": "discussion", "reply_id": "r1"}, "u": {"topic_kind": "question"}},
    report={"topics": 1, "met": 1},
)

# Merged topics

case(
    "a chain of merges ends at its last topic, whose clock is the earliest of all",
    Story()
    .topic("c", at(2), "carl", space="last", title="C")
    .topic("a", at(), "ada")
    .topic("b", at(1), "bea")
    .tell("topic-merged", at(9), topic_id="b", into_topic_id="c")
    .tell("topic-merged", at(8), topic_id="a", into_topic_id="b")
    .reply("a", "r1", at(1), "dora"),
    topics={
        topic_id: {
            "topic_id": "c",
            "title": "C",
            "space": "last",
            "author_id": "carl",
            "created_at": at(),
            "due_at": at(48),
            "replies": 1,
            "first_response": {"reply_id": "r1", "seconds": HOUR},
        }
        for topic_id in "abc"
    },
    standing={"a": None, "b": None, "c": {"reply_id": "r1", "space": "last"}},
    report={"topics": 1, "met": 1, "p50_seconds": HOUR},
)

case(
    "a cycle of merges ends at its smallest id in bytes, and who leads into it too",
    Story()
    .topic("a", at(1), "ada")
    .topic("Z", at(2), "zoe")
    .topic("é", at(), "emil")
    .topic("before", at(3), "bob")
    .tell("topic-merged", at(5), topic_id="a", into_topic_id="Z")
    .tell("topic-merged", at(5), topic_id="Z", into_topic_id="é")
    .tell("topic-merged", at(5), topic_id="é", into_topic_id="a")
    .tell("topic-merged", at(5), topic_id="before", into_topic_id="é")
    .reply("before", "r", at(4), "dora"),
    topics={
        topic_id: {"topic_id": "Z", "author_id": "zoe", "created_at": at(), "first_response": {"reply_id": "r"}}
        for topic_id in ("a", "Z", "é", "before")
    },
    report={"topics": 1},
)

case(
    "every merged topic's author is the asker",
    Story()
    .topic("t", at(), "ada")
    .topic("u", at(1), "ben")
    .reply("u", "r1", at(2), "ada")
    .reply("t", "r2", at(3), "ben")
    .reply("t", "r3", at(4), "carl")
    .tell("topic-merged", at(9), topic_id="u", into_topic_id="t"),
    topics={"t": {"author_id": "ada", "replies": 3, "first_response": {"reply_id": "r3", "seconds": 4 * HOUR}}},
    standing={"t": {"reply_id": "r3"}, "u": None},
    report={"topics": 1, "answered": 1},
)

case(
    "a reply older than its own topic may be none too old for the merged one",
    Story()
    .topic("t", at(), "ada")
    .topic("u", at(5), "bea")
    .reply("u", "r", at(1), "carl")
    .tell("topic-merged", at(9), topic_id="u", into_topic_id="t"),
    topics={"u": {"topic_id": "t", "first_response": {"reply_id": "r", "seconds": HOUR}}},
)

case(
    "the closing, deletion, kind and space of a topic that was merged away have no effect",
    Story()
    .topic("t", at(1), space="kept", language="en")
    .topic("u", at(), "bea", kind="discussion", space="lost", language="de")
    .tell("topic-closed", at(2), topic_id="u")
    .tell("topic-deleted", at(2), topic_id="u")
    .tell("topic-merged", at(3), topic_id="u", into_topic_id="t"),
    topics={
        "u": {"topic_id": "t", "state": "breached", "kind": "question", "space": "kept", "language": "en"},
        "t": {"created_at": at()},
    },
    report={"topics": 1, "missed": 1},
    reading="the present fields are the survivor's own, whatever the merged topic's were",
)

case(
    "the deletion of the survivor takes along what was merged into it",
    Story()
    .topic("t", at())
    .topic("u", at(), "bea")
    .tell("topic-merged", at(3), topic_id="u", into_topic_id="t")
    .tell("topic-deleted", at(2), topic_id="t"),
    topics={"t": {"state": "deleted"}, "u": {"topic_id": "t", "state": "deleted"}},
    report={"topics": 0},
)

case(
    "a topic that was merged into an unknown one counts nowhere",
    Story().topic("t", at()).reply("t", "r", at(1)).tell("topic-merged", at(3), topic_id="t", into_topic_id="nowhere"),
    topics={"t": None, "nowhere": None},
    standing={"t": None, "nowhere": None},
    report={"topics": 0},
    reading="a topic whose survivor is unknown is asked for in vain, by any id",
)

case(
    "a later merge of the same topic replaces the earlier one",
    Story()
    .topic("t", at())
    .topic("u", at(), "ursa")
    .topic("v", at(), "vera")
    .reply("t", "r", at(1))
    .tell("topic-merged", at(5), topic_id="t", into_topic_id="v")
    .tell("topic-merged", at(4), topic_id="t", into_topic_id="u"),
    topics={"t": {"topic_id": "v"}, "u": {"replies": 0}, "v": {"replies": 1}},
    report={"topics": 2, "met": 1, "missed": 1},
)

case(
    "a merged topic's earlier creation can put the answer beyond the target",
    Story()
    .topic("t", at(47), "ada")
    .topic("u", at(), "bea")
    .reply("t", "r", at(49), "carl")
    .tell("topic-merged", at(50), topic_id="u", into_topic_id="t"),
    topics={"t": {"due_at": at(48), "first_response": {"seconds": 49 * HOUR, "within_target": False}}},
    query={"from": at(), "to": at(us=1)},
    report={"topics": 1, "met": 0, "missed": 1},
)

# Members

case(
    "a merged member's deeds are the survivor's, answers to oneself included",
    Story()
    .topic("t", at(), "ada")
    .reply("t", "r1", at(1), "ada2")
    .reply("t", "r2", at(2), "ben2")
    .member("ada2", "merged", at(9), into="ada")
    .member("ben2", "merged", at(9), into="ben"),
    topics={"t": {"first_response": {"reply_id": "r2", "responder_id": "ben"}, "replies": 2}},
)

case(
    "members merged in a cycle are the one with the smallest id",
    Story()
    .topic("t", at(), "carl")
    .reply("t", "r", at(1), "ben")
    .member("ben", "merged", at(2), into="Zoe")
    .member("Zoe", "merged", at(2), into="ben"),
    topics={"t": {"first_response": {"responder_id": "Zoe"}}},
)

case(
    "a merge of members ends when a later record says another status",
    Story()
    .topic("t", at(), "ada")
    .reply("t", "r", at(1), "ben")
    .member("ben", "updated", at(6))
    .member("ben", "merged", at(5), into="ada")
    .topic("u", at(), "ada")
    .reply("u", "r2", at(1), "carl")
    .member("carl", "merged", at(5), into="ada")
    .member("carl", "registered", at(4)),
    topics={"t": {"first_response": {"responder_id": "ben"}}, "u": {"first_response": None, "replies": 1}},
    reading="records are ordered by their stamp, not by arrival",
)

case(
    "a member merged, erased and named again by a late event is its own stand-in for ever",
    Story()
    .topic("t", at(), "carl")
    .member("ben", "merged", at(2), into="ada")
    .member("ben", "erased", at(3))
    .member("ben", "reinstated", at(4))
    .member("ben", "merged", at(5), into="ada")
    .reply("t", "r", at(6), "ben")
    .topic("u", at(7), "ben"),
    topics={"t": {"first_response": {"responder_id": gone("ben")}}, "u": {"author_id": gone("ben")}},
    standing={"t": {"responder_id": gone("ben"), "responder_kind": "member"}},
)

case(
    "an erasure older than everything else that is known of a member holds as well",
    Story()
    .topic("t", at(), "ada")
    .member("ada", "erased", at(-9))
    .reply("t", "r1", at(1), "ada")
    .reply("t", "r2", at(2)),
    topics={"t": {"author_id": gone("ada"), "first_response": {"reply_id": "r2"}, "replies": 2}},
)

case(
    "who was merged into an erased member ends at its stand-in, what that was merged into stays itself",
    Story()
    .topic("t", at(), "asker")
    .topic("u", at(), "asker")
    .topic("v", at(), "asker")
    .reply("t", "r1", at(1), "first")
    .reply("u", "r2", at(1), "middle")
    .reply("v", "r3", at(1), "last")
    .member("first", "merged", at(2), into="middle")
    .member("middle", "merged", at(2), into="last")
    .member("middle", "erased", at(3)),
    topics={
        "t": {"first_response": {"responder_id": gone("middle")}},
        "u": {"first_response": {"responder_id": gone("middle")}},
        "v": {"first_response": {"responder_id": "last"}},
    },
)

case(
    "two erased members stay two, and each the author of what it asked",
    Story()
    .topic("t", at(), "ada")
    .reply("t", "r1", at(1), "ada")
    .reply("t", "r2", at(2), "ben")
    .member("ada", "erased", at(3))
    .member("ben", "erased", at(3)),
    topics={
        "t": {"author_id": gone("ada"), "first_response": {"reply_id": "r2", "responder_id": gone("ben")}},
    },
)

case(
    "a Star is who was appointed at the reply's time",
    Story()
    .tell("star-appointed", at(2), member_id="ben")
    .tell("star-retired", at(4), member_id="ben")
    .topic("t1", at())
    .reply("t1", "r1", at(2, us=-1))
    .topic("t2", at())
    .reply("t2", "r2", at(2), author_kind="staff")
    .topic("t3", at())
    .reply("t3", "r3", at(4, us=-1))
    .topic("t4", at())
    .reply("t4", "r4", at(4, us=1), author_kind="staff"),
    standing={
        "t1": {"responder_kind": "member"},
        "t2": {"responder_kind": "star"},
        "t3": {"responder_kind": "star"},
        "t4": {"responder_kind": "staff"},
    },
)

case(
    "a Star that merged into another account answered as a Star",
    Story()
    .topic("t", at())
    .reply("t", "r", at(3), "ben")
    .tell("star-appointed", at(1), member_id="ben")
    .member("ben", "merged", at(5), into="bernadette"),
    standing={"t": {"responder_id": "bernadette", "responder_kind": "star"}},
)

case(
    "an appointment is the survivor's when accounts merge, before and after the merge",
    Story()
    .tell("star-appointed", at(1), member_id="ben")
    .member("ben", "merged", at(5), into="bernadette")
    .topic("t", at())
    .reply("t", "r1", at(3), "bernadette")
    .topic("u", at())
    .reply("u", "r2", at(6), "bernadette"),
    standing={"t": {"responder_kind": "star"}, "u": {"responder_kind": "star"}},
    reading="a member's id stands for the survivor's wherever it is named, in an appointment too",
)

case(
    "an appointment that came by a merge goes with the account that is erased",
    Story()
    .tell("star-appointed", at(1), member_id="ben")
    .member("ben", "merged", at(2), into="bernadette")
    .topic("t", at())
    .reply("t", "r", at(3), "bernadette")
    .member("ben", "erased", at(5)),
    standing={"t": {"responder_id": "bernadette", "responder_kind": "member"}},
    reading="an erased member's deeds are those of its stand-in, whatever it had merged into",
)

case(
    "an appointment and a retirement of one instant leave no Star",
    Story()
    .tell("star-appointed", at(1), member_id="ben", id_="z")
    .tell("star-retired", at(1), member_id="ben", id_="a")
    .topic("t", at())
    .reply("t", "r", at(1)),
    standing={"t": {"responder_kind": "member"}},
    reading="appointed and retired are opposites as given and revoked are; an interval's end is excluded",
)

case(
    "a deleted topic keeps its first response, though no report counts it",
    Story().topic("t", at()).reply("t", "r", at(1)).tell("topic-deleted", at(2), topic_id="t"),
    topics={"t": {"state": "deleted", "first_response": {"reply_id": "r"}, "replies": 1}},
    standing={"t": {"reply_id": "r"}},
    report={"topics": 0, "answered": 0},
    reading="the first response looks at replies' deletion alone; a topic's takes it out of reports, not out of being",
)

case(
    "replies under a merged topic that itself was never created are the survivor's",
    Story()
    .topic("t", at(), "ada")
    .reply("ghost", "r", at(1))
    .tell("topic-merged", at(2), topic_id="ghost", into_topic_id="t"),
    topics={"ghost": {"topic_id": "t", "replies": 1, "first_response": {"reply_id": "r"}}},
    reading="it is the survivor that has to be known",
)

case(
    "an acceptance whose reply was moved back is in force again, unless its own topic took it back",
    Story()
    .topic("t", at())
    .topic("u", at(), "ursa")
    .reply("t", "r", at(1))
    .tell("solution-accepted", at(2), topic_id="t", reply_id="r")
    .tell("reply-moved", at(3), topic_id="u", reply_id="r", from_topic_id="t")
    .tell("solution-revoked", at(4), topic_id="u", reply_id="r")
    .tell("reply-moved", at(5), topic_id="t", reply_id="r", from_topic_id="u"),
    topics={"t": {"solution": {"reply_id": "r", "at": at(2)}}, "u": {"solution": None}},
    reading="a revocation speaks of the topic that it names",
)

case(
    "kudos follow a reply that was moved",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1))
    .kudos("t", "r", "k", at(2), "carl")
    .topic("u", at(), "ursa")
    .tell("reply-moved", at(3), topic_id="u", reply_id="r", from_topic_id="t")
    .tell("topic-deleted", at(4), topic_id="t"),
    kudos=["k"],
    reading="a kudos is on its reply, wherever that lies",
)

case(
    "removed tags are an empty list",
    Story().topic("t", at(), tags=("foam",)).tell("topic-edited", at(1), topic_id="t", tags=None),
    topics={"t": {"tags": []}},
    reading="a list that is absent is empty",
)

# Solutions

case(
    "accepting another reply replaces the solution",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2), "carl")
    .tell("solution-accepted", at(4), topic_id="t", reply_id="r2")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1", accepted_by="ada"),
    topics={"t": {"solution": {"reply_id": "r2", "at": at(4)}}},
)

case(
    "a revoked solution leaves none, and the replaced one does not return",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2), "carl")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1")
    .tell("solution-accepted", at(4), topic_id="t", reply_id="r2")
    .tell("solution-revoked", at(5), topic_id="t", reply_id="r2"),
    topics={"t": {"solution": None}},
    reading="only the latest acceptance is ever in force",
)

case(
    "a revocation that names another reply has no effect",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2), "carl")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1")
    .tell("solution-accepted", at(4), topic_id="t", reply_id="r2")
    .tell("solution-revoked", at(5), topic_id="t", reply_id="r1"),
    topics={"t": {"solution": {"reply_id": "r2", "at": at(4)}}},
)

case(
    "accepted and revoked at one instant is revoked, accepted again later is accepted",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .tell("solution-revoked", at(3), topic_id="t", reply_id="r1", id_="a")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1", id_="z")
    .topic("u", at())
    .reply("u", "r2", at(1))
    .tell("solution-accepted", at(5), topic_id="u", reply_id="r2")
    .tell("solution-revoked", at(4), topic_id="u", reply_id="r2")
    .tell("solution-accepted", at(3), topic_id="u", reply_id="r2"),
    topics={"t": {"solution": None}, "u": {"solution": {"reply_id": "r2", "at": at(5)}}},
)

case(
    "a solution whose reply is deleted is none until the reply is restored",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1")
    .tell("reply-deleted", at(4), topic_id="t", reply_id="r1")
    .topic("u", at())
    .reply("u", "r2", at(1))
    .tell("solution-accepted", at(3), topic_id="u", reply_id="r2")
    .tell("reply-deleted", at(4), topic_id="u", reply_id="r2")
    .tell("reply-restored", at(5), topic_id="u", reply_id="r2"),
    topics={"t": {"solution": None}, "u": {"solution": {"reply_id": "r2", "at": at(3)}}},
)

case(
    "a solution that was moved elsewhere is none, nor is it one there",
    Story()
    .topic("t", at())
    .topic("u", at())
    .reply("t", "r", at(1))
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r")
    .tell("reply-moved", at(4), topic_id="u", reply_id="r", from_topic_id="t"),
    topics={"t": {"solution": None}, "u": {"solution": None}},
)

case(
    "an acceptance lives on under the survivor, where the latest of all stands",
    Story()
    .topic("t", at())
    .topic("u", at(), "bea")
    .reply("t", "r1", at(1))
    .reply("u", "r2", at(1), "carl")
    .tell("solution-accepted", at(5), topic_id="t", reply_id="r1")
    .tell("solution-accepted", at(6), topic_id="u", reply_id="r2")
    .tell("topic-merged", at(7), topic_id="u", into_topic_id="t"),
    topics={"t": {"solution": {"reply_id": "r2", "at": at(6)}}},
)

case(
    "an acceptance under the survivor of a reply in a merged topic is in force",
    Story()
    .topic("t", at())
    .topic("u", at(), "bea")
    .reply("u", "r", at(1), "carl")
    .tell("topic-merged", at(7), topic_id="u", into_topic_id="t")
    .tell("solution-accepted", at(8), topic_id="t", reply_id="r"),
    topics={"u": {"topic_id": "t", "solution": {"reply_id": "r", "at": at(8)}}},
)

case(
    "an internal reply and one that is unknown can be no solution",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1), visibility="internal")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1")
    .topic("u", at())
    .tell("solution-accepted", at(3), topic_id="u", reply_id="never"),
    topics={"t": {"solution": None}, "u": {"solution": None}},
    reading="the acceptance of what is unknown stands, out of force",
)

case(
    "the asker's own reply and a bot's can be the solution",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1), "ada")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1")
    .topic("u", at())
    .reply("u", "r2", at(1), "helper", author_kind="bot")
    .tell("solution-accepted", at(3), topic_id="u", reply_id="r2"),
    topics={
        "t": {"solution": {"reply_id": "r1"}, "first_response": None},
        "u": {"solution": {"reply_id": "r2"}, "first_response": None},
    },
)

# Kudos

case(
    "of two kudos of one giver the earliest counts, and the other when that is taken back",
    Story()
    .topic("t", at())
    .reply("t", "r1", at(1))
    .kudos("t", "r1", "k1", at(3), "carl")
    .kudos("t", "r1", "k2", at(2), "carl")
    .reply("t", "r2", at(1))
    .kudos("t", "r2", "k3", at(2), "carl")
    .kudos("t", "r2", "k4", at(3), "carl")
    .kudos_back("t", "r2", "k3", at(4), "carl"),
    kudos=["k2", "k4"],
)

case(
    "a kudos given twice and taken back once is gone, but not if it was given again later",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1))
    .kudos("t", "r", "k1", at(2), "carl")
    .kudos("t", "r", "k1", at(3), "carl")
    .kudos_back("t", "r", "k1", at(3), "carl")
    .kudos("t", "r", "k2", at(2), "dora")
    .kudos_back("t", "r", "k2", at(3), "dora")
    .kudos("t", "r", "k2", at(4), "dora"),
    kudos=["k2"],
    reading="opposites are about one kudos_id",
)

case(
    "anonymous kudos count each, kudos to oneself, to a bot, on a topic and on what cannot be seen do not",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1))
    .kudos("t", "r", "k1", at(2))
    .kudos("t", "r", "k2", at(2))
    .kudos("t", "r", "own", at(2), "ben")
    .kudos("t", None, "topic", at(2), "carl")
    .reply("t", "bot", at(1), "helper", author_kind="bot")
    .kudos("t", "bot", "bot", at(2), "carl")
    .reply("t", "internal", at(1), visibility="internal")
    .kudos("t", "internal", "internal", at(2), "carl")
    .reply("t", "deleted", at(1))
    .kudos("t", "deleted", "deleted", at(2), "carl")
    .tell("reply-deleted", at(3), topic_id="t", reply_id="deleted")
    .kudos("t", "never", "unknown", at(2), "carl")
    .topic("gone", at())
    .reply("gone", "r9", at(1))
    .kudos("gone", "r9", "gone", at(2), "carl")
    .tell("topic-deleted", at(3), topic_id="gone")
    .reply("t", "asker", at(1), "ada")
    .kudos("t", "asker", "k3", at(2), "carl"),
    kudos=["k1", "k2", "k3"],
)

case(
    "kudos of accounts that were merged are one giver's, or one's own",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1), "ben")
    .kudos("t", "r", "k1", at(2), "carl")
    .kudos("t", "r", "k2", at(3), "carl2")
    .kudos("t", "r", "k3", at(2), "ben2")
    .member("carl2", "merged", at(9), into="carl")
    .member("ben2", "merged", at(9), into="ben"),
    kudos=["k1"],
    reading="aliases come before 'one a giver and reply' and 'to oneself'",
)

# Policies

SPECIFIC = (policy("all", 48), policy("language:de", 24), policy("space:beer", 12))

case(
    "the policy of a space goes before that of a language, and both before that of all",
    Story()
    .topic("all", at(), language="en")
    .topic("none", at(), language=None)
    .topic("language", at(), language="de")
    .topic("space", at(), language="en", space="beer")
    .topic("both", at(), language="de", space="beer")
    .reply("all", "r1", at(20))
    .reply("none", "r2", at(20))
    .reply("language", "r3", at(20))
    .reply("space", "r4", at(20))
    .reply("both", "r5", at(12)),
    policies=SPECIFIC,
    topics={
        "all": {"due_at": at(48), "first_response": {"within_target": True}},
        "none": {"due_at": at(48)},
        "language": {"due_at": at(24), "first_response": {"within_target": True}},
        "space": {"due_at": at(12), "first_response": {"within_target": False}},
        "both": {"due_at": at(12), "first_response": {"within_target": True}},
    },
    report={"topics": 5, "met": 4, "missed": 1, "attainment": 0.8},
)

case(
    "a topic's policy is that of its present space and language",
    Story()
    .topic("t", at(), language="de", space="beer")
    .tell("topic-moved", at(9), topic_id="t", space="help")
    .topic("u", at(), language="de")
    .tell("topic-edited", at(9), topic_id="u", language=None),
    policies=SPECIFIC,
    topics={"t": {"due_at": at(24)}, "u": {"due_at": at(48)}},
    query={"space": "help"},
    report={"topics": 2},
)

case(
    "a topic's policy is the version in force when it was created",
    Story()
    .topic("before", at(10, us=-1))
    .topic("at", at(10))
    .topic("beer-before", at(15), space="beer")
    .topic("beer-after", at(20), space="beer"),
    policies=(
        policy("all", 48),
        policy("all", 24, at(10)),
        policy("space:beer", 6, at(20)),
    ),
    topics={
        "before": {"due_at": at(58, us=-1)},
        "at": {"due_at": at(34)},
        "beer-before": {"due_at": at(39)},
        "beer-after": {"due_at": at(26)},
    },
    query={"as_of": at(34)},
    report={"topics": 4, "missed": 1, "pending": 3},
)

case(
    "of a merged topic the policy is that of the earliest creation, in the survivor's space",
    Story()
    .topic("t", at(11), space="beer")
    .topic("u", at(9), "bea")
    .tell("topic-merged", at(12), topic_id="u", into_topic_id="t"),
    policies=(policy("all", 48), policy("space:beer", 10), policy("space:beer", 1, at(10))),
    topics={"t": {"created_at": at(9), "due_at": at(19)}},
)

# Figures

case(
    "who is censored at a time is still at risk then",
    Story().topic("t", at()).reply("t", "r", at(3)).topic("u", at(7)),
    query={"as_of": at(10)},
    report={
        "topics": 2,
        "met": 1,
        "pending": 1,
        "attainment": 1.0,
        "p50_seconds": 3 * HOUR,
        "p80_seconds": None,
        "p90_seconds": None,
        "answered_median_seconds": 3 * HOUR,
    },
)

case(
    "censored topics leave the risk set once their age is passed",
    Story()
    .topic("t1", at())
    .reply("t1", "r1", at(3))
    .topic("t2", at(7))
    .topic("t3", at())
    .reply("t3", "r3", at(5))
    .topic("t4", at())
    .reply("t4", "r4", at(6)),
    query={"as_of": at(10)},
    # S: 3/4 after 3 h (4 at risk), 3/8 after 5 h (2 at risk), 0 after 6 h.
    report={
        "p50_seconds": 5 * HOUR,
        "p80_seconds": 6 * HOUR,
        "p90_seconds": 6 * HOUR,
        "answered_median_seconds": 5 * HOUR,
    },
)


def _ten(count: int) -> Story:
    story = Story()
    for n in range(1, count + 1):
        story.topic(f"t{n}", at()).reply(f"t{n}", f"r{n}", at(n))
    return story


for _count, _fifty, _eighty, _ninety in (
    (10, 5, 8, 9),
    (20, 10, 16, 18),
    (30, 15, 24, 27),
    (40, 20, 32, 36),
    (7, 4, 6, 7),
):
    case(
        f"a percentile is reached where S is exactly 1 - p, among {_count}",
        _ten(_count),
        report={
            "answered": _count,
            "p50_seconds": _fifty * HOUR,
            "p80_seconds": _eighty * HOUR,
            "p90_seconds": _ninety * HOUR,
            "answered_median_seconds": (_count + 1) / 2 * HOUR,
        },
    )

case(
    "the median of two is the mean of both, to half a microsecond",
    Story().topic("t", at()).reply("t", "r1", at(us=1)).topic("u", at()).reply("u", "r2", at(us=2)),
    report={"answered_median_seconds": 0.0000015, "p50_seconds": 0.000001, "p80_seconds": 0.000002},
)

case(
    "of a tie all leave at once",
    Story()
    .topic("t1", at())
    .reply("t1", "r1", at(1))
    .topic("t2", at())
    .reply("t2", "r2", at(1))
    .topic("t3", at())
    .reply("t3", "r3", at(2))
    .topic("t4", at())
    .reply("t4", "r4", at(90)),
    report={"p50_seconds": HOUR, "p80_seconds": 90 * HOUR, "answered_median_seconds": 1.5 * HOUR, "attainment": 0.75},
)

# Series

case(
    "a series has ISO weeks from Monday in UTC, empty ones too, cut by the range but started by themselves",
    Story()
    .topic("t1", at(days=1))
    .topic("t2", at(days=2))
    .reply("t2", "r2", at(days=2, hours=1))
    .topic("t3", at(days=6, hours=24, us=-1))
    .topic("t4", at(days=14))
    .topic("t5", at(days=16)),
    query={"every": "week", "from": at(days=2), "to": at(days=16), "as_of": at(days=25)},
    report={
        "topics": 3,
        "series": [
            {"start": at(), "topics": 2, "met": 1, "missed": 1, "attainment": 0.5, "p50_seconds": HOUR},
            {"start": at(days=7), "topics": 0, "met": 0, "missed": 0, "pending": 0, "attainment": None},
            {"start": at(days=14), "topics": 1, "missed": 1, "attainment": 0.0},
        ],
    },
)

case(
    "without a range the first and the last topic counted bound the series",
    Story()
    .topic("t0", at(), kind="discussion")
    .topic("t1", at(days=1, hours=23))
    .topic("t2", at(days=4))
    .topic("t3", at(days=9))
    .tell("topic-deleted", at(days=9), topic_id="t3"),
    query={"every": "day"},
    report={
        "topics": 2,
        "series": [
            {"start": at(days=1), "topics": 1},
            {"start": at(days=2), "topics": 0},
            {"start": at(days=3), "topics": 0},
            {"start": at(days=4), "topics": 1},
        ],
    },
)

case(
    "no bucket starts after as_of, and none at an excluded end",
    Story().topic("t", at(days=1)),
    query={"every": "day", "from": at(), "to": at(days=9), "as_of": at(days=2)},
    report={"series": [{"start": at(), "topics": 0}, {"start": at(days=1), "topics": 1}, {"start": at(days=2)}]},
)

case(
    "a range that ends where a bucket starts does not touch it",
    Story().topic("t", at(days=1)),
    query={"every": "month", "from": "2023-12-31T23:59:59.999999Z", "to": "2024-02-01", "as_of": at(days=60)},
    report={"series": [{"start": "2023-12-01T00:00:00Z", "topics": 0}, {"start": "2024-01-01T00:00:00Z", "topics": 1}]},
)

case(
    "years and time zones: a topic is in the bucket of its instant in UTC",
    Story().topic("t", "2024-01-01T00:30:00+01:00").topic("u", "2023-12-31T23:30:00-01:00"),
    query={"every": "year"},
    report={"series": [{"start": "2023-01-01T00:00:00Z", "topics": 1}, {"start": "2024-01-01T00:00:00Z", "topics": 1}]},
)

case(
    "a range takes a topic of its beginning and leaves one of its end",
    Story().topic("t", at(1)).topic("u", at(2)).topic("v", at(3)),
    query={"from": at(1), "to": at(3)},
    report={"topics": 2, "missed": 2},
)

case(
    "a report is of the present space and language",
    Story()
    .topic("t", at(), space="beer", language="de")
    .topic("u", at(), space="beer", language="en")
    .topic("v", at(), space="help", language="de")
    .tell("topic-moved", at(5), topic_id="v", space="beer"),
    query={"space": "beer", "language": "de"},
    report={"topics": 2},
)

# History and repetition

case(
    "history counts as news does",
    Story().topic("t", at(), backfill=True).reply("t", "r", at(1), backfill=True),
    topics={"t": {"first_response": {"reply_id": "r"}}},
    standing={"t": {"reply_id": "r"}},
    report={"topics": 1, "met": 1},
)

case(
    "the same event twice is once",
    Story()
    .topic("t", at(), id_="one")
    .reply("t", "r", at(1), id_="two")
    .reply("t", "r", at(1), id_="two")
    .topic("t", at(), id_="one"),
    topics={"t": {"replies": 1}},
    report={"topics": 1},
)

# A topic-created says everything of a topic, a later one by another event id too.

case(
    "a topic created anew without a language has none",
    Story().topic("t", at(1), language=None).topic("t", at(), language="en"),
    topics={"t": {"language": None, "created_at": at(1)}},
    reading="a topic-created writes every field of its topic; what it leaves out is absent",
)
