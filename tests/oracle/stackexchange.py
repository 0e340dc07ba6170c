"""A Stack Exchange dump, read straight from its XML: what was asked, and when it was first answered.

It goes by way of no event, so that an importer, the events that it makes and the services that fold them are all on
the other side of the comparison.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.oracle.figures import SECOND, TARGET_SECONDS, Instant, Wait, micros, report
from tests.oracle.ledger import Row


@dataclass(frozen=True)
class Question:
    """A question: its post's id, when it was asked, and the answer that came first, if any."""

    id: str
    created: int
    first_response: int | None
    first_response_id: str | None


def data_folder() -> Path:
    """Where the real data are kept: never in the repository, and perhaps nowhere."""
    named = os.environ.get("STARS_TEST_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"


def dump(name: str) -> Path | None:
    """The folder of one dump, or None where it is absent."""
    folder = data_folder() / "stackexchange" / name
    return folder if (folder / "Posts.xml").is_file() else None


def rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of one file of a dump."""
    for _, element in ElementTree.iterparse(file):
        if element.tag == "row":
            yield dict(element.attrib)
        element.clear()


def author(post: dict[str, str]) -> tuple[str, str]:
    """Who wrote a post: the account, or the name of one that is gone, or nobody but this post's own author."""
    if "OwnerUserId" in post:
        return "account", post["OwnerUserId"]
    if "OwnerDisplayName" in post:
        return "name", post["OwnerDisplayName"]
    return "post", post["Id"]


def questions(folder: Path) -> list[Question]:
    """Every question of a dump with its first response."""
    posts = list(rows(folder / "Posts.xml"))
    asked = {post["Id"]: post for post in posts if post["PostTypeId"] == "1"}
    answers: dict[str, list[tuple[int, bytes]]] = {}
    for post in posts:
        question = asked.get(post.get("ParentId", "")) if post["PostTypeId"] == "2" else None
        if question is None or author(post) in (author(question), ("account", "-1")):
            continue
        at = micros(post["CreationDate"])
        if at >= micros(question["CreationDate"]):
            answers.setdefault(question["Id"], []).append((at, post["Id"].encode()))
    found = []
    for post in asked.values():
        at_and_id = min(answers.get(post["Id"], ()), default=None)
        found.append(
            Question(
                id=post["Id"],
                created=micros(post["CreationDate"]),
                first_response=None if at_and_id is None else at_and_id[0],
                first_response_id=None if at_and_id is None else at_and_id[1].decode(),
            )
        )
    return found


def sla(
    folder: Path,
    *,
    from_: Instant | None = None,
    to: Instant | None = None,
    as_of: Instant | None = None,
    every: str | None = "month",
    target_seconds: int = TARGET_SECONDS,
) -> dict[str, Any]:
    """The report over a dump, in the shape of `GET /topics/api/sla`, by month unless told otherwise."""
    waits = [Wait(question.created, question.first_response, target_seconds * SECOND) for question in questions(folder)]
    return report(waits, from_=from_, to=to, as_of=as_of, every=every)


BOT = ("account", "-1")
MOST = 3


def points(folder: Path, name: str) -> list[Row]:
    """Every row of the ledger of a dump that was imported as NAME, by the rule set classic."""
    posts = {post["Id"]: post for post in rows(folder / "Posts.xml")}
    answers = {
        id: post
        for id, post in posts.items()
        if post["PostTypeId"] == "2" and posts.get(post.get("ParentId", ""), {}).get("PostTypeId") == "1"
    }
    accepted_at: dict[str, int] = {}
    kudos: list[tuple[str, str, int]] = []
    for vote in rows(folder / "Votes.xml"):
        id, at = vote["PostId"], micros(vote["CreationDate"])
        if vote["VoteTypeId"] == "1" and id in answers:
            accepted_at[id] = min(at, accepted_at.get(id, at))
        elif vote["VoteTypeId"] == "2" and id in answers:
            kudos.append((vote["Id"], id, max(at, micros(answers[id]["CreationDate"]))))
    found: list[Row] = []

    def row(
        rule: str, cause: tuple[str, ...], answer: dict[str, str], at: int, points: int, status: str, why: str | None
    ) -> Row:
        kind, who = author(answer)
        return Row(
            rule=rule,
            cause=cause,
            member_id=f"{name}:{who}" if kind == "account" else f"{name}:{kind}:{who}",
            points=points,
            status=status,
            reason=why,
            topic_id=f"{name}:{answer['ParentId']}",
            reply_id=f"{name}:{answer['Id']}",
            kudos_id=cause[0] if rule == "kudos" else None,
            at=at,
            space=name,
            language=None,
            star=False,
        )

    threads: dict[tuple[str, tuple[str, str]], list[dict[str, str]]] = defaultdict(list)
    first: dict[str, tuple[int, bytes]] = {}
    for id, answer in answers.items():
        question, at = posts[answer["ParentId"]], micros(answer["CreationDate"])
        threads[question["Id"], author(answer)].append(answer)
        if author(answer) not in (author(question), BOT) and at >= micros(question["CreationDate"]):
            first[question["Id"]] = min((at, id.encode()), first.get(question["Id"], (at, id.encode())))
    for (asked, who), own in threads.items():
        why = "bot" if who == BOT else "own-topic" if who == author(posts[asked]) else None
        own.sort(key=lambda answer: (micros(answer["CreationDate"]), answer["Id"].encode()))
        for n, answer in enumerate(own):
            status = "void" if why else "effective" if n < MOST else "capped"
            found.append(
                row("reply", (f"{name}:{answer['Id']}",), answer, micros(answer["CreationDate"]), 1, status, why)
            )
    for asked, (at, answer_id) in first.items():
        late = at - micros(posts[asked]["CreationDate"]) > TARGET_SECONDS * SECOND
        status, why = ("void", "late") if late else ("effective", None)
        found.append(row("first-response", (f"{name}:{asked}",), answers[answer_id.decode()], at, 3, status, why))
    for id, question in posts.items():
        answer = answers.get(question.get("AcceptedAnswerId", ""))
        if question["PostTypeId"] != "1" or answer is None or answer["ParentId"] != id:
            continue
        at = max(micros(answer["CreationDate"]), accepted_at.get(answer["Id"], 0))
        why = "bot" if author(answer) == BOT else "own-topic" if author(answer) == author(question) else None
        cause = (f"{name}:{id}", f"{name}:{answer['Id']}")
        found.append(row("solution", cause, answer, at, 10, "void" if why else "effective", why))
    for vote_id, id, at in kudos:
        why = "bot" if author(answers[id]) == BOT else None
        found.append(row("kudos", (f"{name}:{vote_id}",), answers[id], at, 2, "void" if why else "effective", why))
    return found
