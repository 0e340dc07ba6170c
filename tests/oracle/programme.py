"""What members contributed and who is eligible, worked out the slow and plain way.

Of a Stack Exchange dump straight from its XML: no event, no SQL, no rule of the service. A member's figures, from their
answers to other people's questions: months (UTC) with one, how many, how many are the accepted answer, how many came
first of all, and upvotes. Of any other history from the oracle's own ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeAlias

from tests.oracle.figures import micros, moment
from tests.oracle.ledger import Row
from tests.oracle.stackexchange import BOT, author, rows


@dataclass
class Figures:
    """What a member of a dump has done."""

    months: set[str] = field(default_factory=set)
    replies: int = 0
    solutions: int = 0
    first_responses: int = 0
    kudos: int = 0
    by_month: Counter[str] = field(default_factory=Counter)

    def eligible(self) -> bool:
        """By the criteria of the first edition, written down again."""
        return (
            len(self.months) >= 3
            and self.replies >= 50
            and self.solutions >= 5
            and self.first_responses >= 10
            and 2 * self.kudos >= self.replies
        )


def figures(folder: Path, name: str) -> dict[str, Figures]:
    """Each member of a dump that was imported as NAME."""
    posts = {post["Id"]: post for post in rows(folder / "Posts.xml")}
    answers = {
        id: post
        for id, post in posts.items()
        if post["PostTypeId"] == "2" and posts.get(post.get("ParentId", ""), {}).get("PostTypeId") == "1"
    }
    upvotes = Counter(
        vote["PostId"] for vote in rows(folder / "Votes.xml") if vote["VoteTypeId"] == "2" and vote["PostId"] in answers
    )
    first: dict[str, tuple[int, bytes]] = {}
    for id, answer in answers.items():
        question = posts[answer["ParentId"]]
        at = micros(answer["CreationDate"])
        if author(answer) not in (author(question), BOT) and at >= micros(question["CreationDate"]):
            place = at, id.encode()
            first[question["Id"]] = min(place, first.get(question["Id"], place))
    found: dict[str, Figures] = defaultdict(Figures)
    for id, answer in answers.items():
        question, who = posts[answer["ParentId"]], author(answer)
        if who in (author(question), BOT):
            continue
        kind, number = who
        own = found[f"{name}:{number}" if kind == "account" else f"{name}:{kind}:{number}"]
        month = answer["CreationDate"][:7]
        own.months.add(month)
        own.by_month[month] += 1
        own.replies += 1
        own.solutions += question.get("AcceptedAnswerId") == id
        own.first_responses += first[question["Id"]][1] == id.encode() if question["Id"] in first else False
        own.kudos += upvotes[id]
    return dict(found)


Contribution: TypeAlias = tuple[str, date, str, str, int, int, int, int]
"""Member, month, space, language; replies, solutions, first responses and kudos."""


def contributions(rows: Iterable[Row], nobody: Collection[str]) -> set[Contribution]:
    """What members contributed by months, from every row of the ledger; NOBODY: erased members' stand-ins.

    A reply counts where only the cap of points, or nothing, stands against it; what became of it counts in its month.
    """
    counted = {row.reply_id: row for row in rows if row.rule == "reply" and row.status in ("effective", "capped")}
    found: dict[tuple[str, date, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        reply = counted.get(row.reply_id)
        if reply is None or reply.member_id in nobody:
            continue
        if row.rule == "first-response":
            # Points ask whether it was in time and for a question; who was first was first.
            stands = row.status == "effective" or row.reason in ("late", "not-a-question")
        else:
            stands = row.status == "effective" or row is reply
        if stands:
            month = moment(reply.at).date().replace(day=1)
            key = reply.member_id, month, reply.space or "", reply.language or ""
            found[key][("reply", "solution", "first-response", "kudos").index(row.rule)] += 1
    return {(*key, *counts) for key, counts in found.items()}
