"""A Stack Exchange dump, read straight from its XML: what was asked, and when it was first answered.

It goes by way of no event, so that an importer, the events that it makes and the services that fold them are all on
the other side of the comparison.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.oracle.figures import SECOND, TARGET_SECONDS, Instant, Wait, micros, report


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
