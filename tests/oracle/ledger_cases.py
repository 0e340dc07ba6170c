"""Handwritten histories of points, each with what must be true after it: status and reason by rule and cause.

Every answer is worked out by hand from the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.oracle.envelopes import Event, Story, at


@dataclass(frozen=True)
class LedgerCase:
    """A story, and (member, points, status, reason) of some of its entries by rule and cause."""

    name: str
    events: tuple[Event, ...]
    entries: dict[tuple[str, ...], tuple[Any, ...] | None]
    totals: dict[str, int]


CASES: list[LedgerCase] = []


def case(name: str, story: Story, entries: dict[tuple[str, ...], tuple[Any, ...] | None], **totals: int) -> None:
    """Write a case down; an entry of None must not be there."""
    CASES.append(LedgerCase(name, tuple(story.events), entries, totals))


case(
    "the earliest three replies of a member in a topic count, the others are capped, whatever came first",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "r4", at(4))
    .reply("t", "r2", at(2))
    .reply("t", "r1", at(1))
    .reply("t", "r3", at(3))
    .reply("t", "other", at(5), "carl"),
    {
        ("reply", "r1"): ("ben", 1, "effective", None),
        ("reply", "r3"): ("ben", 1, "effective", None),
        ("reply", "r4"): ("ben", 1, "capped", None),
        ("reply", "other"): ("carl", 1, "effective", None),
    },
    ben=3,
    carl=1,
)

case(
    "a deleted reply frees its place under the cap, and takes it again when it is restored",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2))
    .reply("t", "r3", at(3))
    .reply("t", "r4", at(4))
    .reply("t", "r5", at(5))
    .tell("reply-deleted", at(6), topic_id="t", reply_id="r1")
    .tell("reply-deleted", at(6), topic_id="t", reply_id="r2")
    .tell("reply-restored", at(7), topic_id="t", reply_id="r2"),
    {
        ("reply", "r1"): ("ben", 1, "revoked", "deleted"),
        ("reply", "r2"): ("ben", 1, "effective", None),
        ("reply", "r4"): ("ben", 1, "effective", None),
        ("reply", "r5"): ("ben", 1, "capped", None),
    },
    ben=3,
)

case(
    "at equal times the reply of the smaller id is the earlier, as bytes",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "é", at(1))
    .reply("t", "z", at(1))
    .reply("t", "Z", at(1))
    .reply("t", "10", at(1)),
    {("reply", "z"): ("ben", 1, "effective", None), ("reply", "é"): ("ben", 1, "capped", None)},
    ben=3,
)

case(
    "a reply on one's own topic is void, kudos on it are not",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1), "ada")
    .kudos("t", "r", "k", at(2), "carl")
    .kudos("t", "r", "own", at(3), "ada"),
    {
        ("reply", "r"): ("ada", 1, "void", "own-topic"),
        ("kudos", "k"): ("ada", 2, "effective", None),
        ("kudos", "own"): ("ada", 2, "void", "own-kudos"),
        ("first-response", "t"): None,
    },
    ada=2,
)

case(
    "a person's reply on a bot's topic earns, a bot's never does",
    Story()
    .topic("t", at(), "robot", author_kind="bot")
    .reply("t", "r1", at(1), "robot2", author_kind="bot")
    .reply("t", "r2", at(2))
    .kudos("t", "r1", "k1", at(3), "carl")
    .tell("solution-accepted", at(4), topic_id="t", reply_id="r1"),
    {
        ("reply", "r1"): ("robot2", 1, "void", "bot"),
        ("kudos", "k1"): ("robot2", 2, "void", "bot"),
        ("solution", "t", "r1"): ("robot2", 10, "void", "bot"),
        ("first-response", "t"): ("ben", 3, "effective", None),
        ("reply", "r2"): ("ben", 1, "effective", None),
    },
    ben=4,
)

case(
    "an internal reply is void, what hangs on it too, also when it is deleted",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1), visibility="internal")
    .kudos("t", "r", "k", at(2), "carl")
    .tell("reply-deleted", at(3), topic_id="t", reply_id="r"),
    {("reply", "r"): ("ben", 1, "void", "internal"), ("kudos", "k"): ("ben", 2, "void", "internal")},
)

case(
    "a late first response and one on a discussion earn nothing, and say why",
    Story()
    .topic("late", at())
    .reply("late", "r1", at(48, us=1))
    .topic("talk", at(), kind="discussion")
    .reply("talk", "r2", at(1)),
    {
        ("first-response", "late"): ("ben", 3, "void", "late"),
        ("first-response", "talk"): ("ben", 3, "void", "not-a-question"),
    },
    ben=2,
)

case(
    "accepting another reply replaces the solution; taking the later one back does not bring the earlier one back",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2), "carl")
    .tell("solution-accepted", at(3), topic_id="t", reply_id="r1")
    .tell("solution-accepted", at(4), topic_id="t", reply_id="r2")
    .tell("solution-revoked", at(5), topic_id="t", reply_id="r2"),
    {
        ("solution", "t", "r1"): ("ben", 10, "superseded", "solution-replaced"),
        ("solution", "t", "r2"): ("carl", 10, "revoked", "unaccepted"),
    },
    ben=1,
    carl=1,
)

case(
    "a solution that moves to another topic is revoked, and its entry stays with the topic of the acceptance",
    Story()
    .topic("t", at(), kind="discussion")
    .topic("u", at(), "dora", kind="discussion")
    .reply("t", "r", at(1))
    .tell("solution-accepted", at(2), topic_id="t", reply_id="r")
    .tell("reply-moved", at(3), topic_id="u", reply_id="r", from_topic_id="t"),
    {("solution", "t", "r"): ("ben", 10, "revoked", "moved"), ("reply", "r"): ("ben", 1, "effective", None)},
    ben=1,
)

case(
    "a deleted topic revokes all that hangs on it",
    Story()
    .topic("t", at())
    .reply("t", "r", at(1))
    .kudos("t", "r", "k", at(2))
    .tell("solution-accepted", at(2), topic_id="t", reply_id="r")
    .tell("topic-deleted", at(3), topic_id="t"),
    {
        ("reply", "r"): ("ben", 1, "revoked", "topic-deleted"),
        ("kudos", "k"): ("ben", 2, "revoked", "topic-deleted"),
        ("solution", "t", "r"): ("ben", 10, "revoked", "topic-deleted"),
        ("first-response", "t"): ("ben", 3, "revoked", "topic-deleted"),
    },
)

case(
    "one kudos a giver and reply, the earliest; when that is taken back the next one counts",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "r", at(1))
    .kudos("t", "r", "k3", at(4), "carl")
    .kudos("t", "r", "k1", at(2), "carl")
    .kudos("t", "r", "k2", at(3), "carl")
    .kudos_back("t", "r", "k1", at(5), "carl"),
    {
        ("kudos", "k1"): ("ben", 2, "revoked", "taken-back"),
        ("kudos", "k2"): ("ben", 2, "effective", None),
        ("kudos", "k3"): ("ben", 2, "superseded", "kudos-repeated"),
    },
    ben=3,
)

case(
    "a kudos on a topic has no entry, and nothing has one whose reply or topic is not known",
    Story()
    .topic("t", at())
    .kudos("t", None, "k1", at(1), "carl")
    .kudos("t", "never", "k2", at(1), "carl")
    .reply("never", "r", at(1))
    .tell("solution-accepted", at(2), topic_id="t", reply_id="never"),
    {("kudos", "k1"): None, ("kudos", "k2"): None, ("reply", "r"): None, ("solution", "t", "never"): None},
)

case(
    "merged topics are one: three replies count in it, and an acceptance of either is of the survivor",
    Story()
    .topic("t", at(), kind="discussion")
    .topic("u", at(), "dora", kind="discussion")
    .reply("t", "r1", at(1))
    .reply("u", "r2", at(2))
    .reply("t", "r3", at(3))
    .reply("u", "r4", at(4))
    .reply("t", "r5", at(5), "dora")
    .tell("solution-accepted", at(6), topic_id="t", reply_id="r1")
    .tell("topic-merged", at(7), topic_id="t", into_topic_id="u"),
    {
        ("reply", "r4"): ("ben", 1, "capped", None),
        ("reply", "r5"): ("dora", 1, "void", "own-topic"),
        ("solution", "u", "r1"): ("ben", 10, "effective", None),
        ("solution", "t", "r1"): None,
    },
    ben=13,
)

case(
    "a merged member's deeds are the survivor's: the cap is common, kudos between the two are to oneself",
    Story()
    .topic("t", at(), kind="discussion")
    .reply("t", "r1", at(1))
    .reply("t", "r2", at(2), "ben2")
    .reply("t", "r3", at(3))
    .reply("t", "r4", at(4), "ben2")
    .kudos("t", "r1", "k1", at(5), "ben2")
    .kudos("t", "r1", "k2", at(6), "carl")
    .member("ben2", "merged", at(7), into="ben"),
    {
        ("reply", "r2"): ("ben", 1, "effective", None),
        ("reply", "r4"): ("ben", 1, "capped", None),
        ("kudos", "k1"): ("ben", 2, "void", "own-kudos"),
    },
    ben=5,
)
