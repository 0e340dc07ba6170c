"""A Stack Exchange dump as backfill events: ``Posts.xml``, and ``Users.xml`` and ``Votes.xml`` where they are.

Ids are ``NAME:Id`` and event ids say what happened to what (``topic-created/4711``), so that a repeat, and a newer dump
of the same site, name the same events. The order is always the same: the members of Users.xml, then each post in
the order of its file (an author who is in no Users.xml just before the first post), a question's closing right after
it, then kudos in the order of Votes.xml, then solutions by answer. So a number of events is a place in a dump.

Posts.xml is read twice: first for what hangs on what, kept in three arrays of integers (24 bytes a post, and 24 for
each acceptance), then for the events. No text is ever kept but the names of authors who have no account.
"""

import hashlib
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from deploy.history.findings import Findings, HistoryError, Progress
from deploy.history.rows import rows
from shared.contracts import forum, members
from shared.contracts.catalogue import FORUM, MEMBERS
from shared.contracts.codec import MAX_AHEAD, StrictReader, Undecodable
from shared.contracts.envelope import Event
from shared.contracts.types import EPOCH, Label, Language

QUESTION, ANSWER = "1", "2"
ACCEPTED_BY_ASKER, UPVOTE = "1", "2"
COMMUNITY = "-1"

LONGEST_ID, LONGEST_NAME, LONGEST_TITLE, LONGEST_TAG, MOST_TAGS = 255, 255, 1000, 100, 100
LONGEST_EVENT_KEY = 200

NO_QUESTION = "an answer without its question"
NO_POST = "a vote without its post"
NOT_ITS_ANSWER = "an AcceptedAnswerId that is no answer of its question"

_USER = re.compile(r"-?[1-9][0-9]{0,17}|0", re.ASCII)
_TAGS = re.compile(r"<([^<>]*)>")
_MICROSECOND = timedelta(microseconds=1)
_SPACE: TypeAdapter[str] = TypeAdapter(Label)
_LANGUAGE: TypeAdapter[str] = TypeAdapter(Language)


def read_dump(
    folder: Path,
    space: str,
    language: str | None = None,
    progress: Progress | None = None,
    *,
    findings: Findings | None = None,
    now: datetime | None = None,
) -> Iterator[Event]:
    """The events of the dump in ``folder``, all of space ``space``; the same ones in the same order every time.

    ``now`` (default: the clock) is what a time must not be ahead of. Raises HistoryError, at once for what is wrong
    with the arguments, and while reading for a file that is not well-formed.
    """
    files = dump_files(folder)
    _check("--space", _SPACE, space)
    if language is not None:
        _check("--language", _LANGUAGE, language)
    reading = _Reading(files, space, language, progress, findings or Findings(), now or datetime.now(UTC))
    return reading.events()


def dump_files(folder: Path) -> dict[str, Path]:
    """The files of a dump that are read, by name. Raises HistoryError where there is no Posts.xml."""
    if not folder.is_dir():
        raise HistoryError(f"{folder} is not a folder: unpack the dump and name the folder with its Posts.xml")
    there = {file.name.lower(): file for file in sorted(folder.iterdir()) if file.is_file()}
    files = {name: there[name.lower()] for name in ("Posts.xml", "Users.xml", "Votes.xml") if name.lower() in there}
    if "Posts.xml" not in files:
        raise HistoryError(f"{folder} holds no Posts.xml: unpack the dump and name the folder with its Posts.xml")
    return files


def _check(option: str, bound: TypeAdapter[str], value: str) -> None:
    try:
        bound.validate_python(value)
    except ValidationError as error:
        raise HistoryError(f"{option}: {error.errors()[0]['msg']}") from None


class _Post(NamedTuple):
    """What is used of a question or an answer. ``parent`` is the question's id, and 0 for a question."""

    id: int
    at: int
    parent: int
    author: str
    named: str | None  # the name of an author without an account


class _Unusable(Exception):
    """A row that cannot become an event; the message says why."""


class _Index:
    """When each post was written and what it answers: sorted arrays, 24 bytes a post."""

    def __init__(self) -> None:
        self.ids: array[int] = array("q")
        self.times: array[int] = array("q")
        self.parents: array[int] = array("q")

    def add(self, post: _Post) -> None:
        self.ids.append(post.id)
        self.times.append(post.at)
        self.parents.append(post.parent)

    def seal(self) -> int:
        """Sort, keep the first of each id, and mark (parent -1) answers without their question: how many."""
        ids = np.frombuffer(self.ids, np.int64)
        if not ids.size:
            return 0
        if not bool(np.all(ids[1:] > ids[:-1])):  # a dump is sorted, but nothing promises it
            kept = np.unique(ids, return_index=True)[1]  # the first of each, by id
            times, parents = np.frombuffer(self.times, np.int64), np.frombuffer(self.parents, np.int64)
            self.times, self.parents = array("q", times[kept].tobytes()), array("q", parents[kept].tobytes())
            self.ids = array("q", ids[kept].tobytes())
            ids = np.frombuffer(self.ids, np.int64)
        parents = np.frombuffer(self.parents, np.int64)
        answers = np.flatnonzero(parents)
        at = np.minimum(np.searchsorted(ids, parents[answers]), ids.size - 1)
        lost = answers[(ids[at] != parents[answers]) | (parents[at] != 0)]
        parents[lost] = -1
        return int(lost.size)

    def find(self, id: int) -> int:
        """The position of a post that becomes an event; -1 where there is none."""
        at = bisect_left(self.ids, id)
        return at if at < len(self.ids) and self.ids[at] == id and self.parents[at] >= 0 else -1


class _Acceptances:
    """The accepted answers, sorted, and the earliest accept vote for each."""

    NEVER = 2**63 - 1

    def __init__(self) -> None:
        self.questions, self.answers = array("q"), array("q")
        self.votes = array("q")

    def add(self, question: int, answer: int) -> None:
        self.questions.append(question)
        self.answers.append(answer)

    def seal(self, index: _Index) -> int:
        """Keep those that name an answer of their question: how many do not."""
        questions, answers = np.frombuffer(self.questions, np.int64), np.frombuffer(self.answers, np.int64)
        kept = np.empty(0, np.int64)
        if index.ids and answers.size:
            ids, parents = np.frombuffer(index.ids, np.int64), np.frombuffer(index.parents, np.int64)
            at = np.minimum(np.searchsorted(ids, answers), ids.size - 1)
            kept = np.unique(answers[(ids[at] == answers) & (parents[at] == questions)])
        lost = int(answers.size - kept.size)
        self.questions, self.answers = array("q"), array("q", kept.tobytes())
        self.votes = array("q", [self.NEVER]) * len(self.answers)
        return lost

    def vote(self, answer: int, at: int) -> None:
        place = bisect_left(self.answers, answer)
        if place < len(self.answers) and self.answers[place] == answer:
            self.votes[place] = min(self.votes[place], at)


class _Reading:
    """One reading of one dump."""

    def __init__(
        self,
        files: dict[str, Path],
        space: str,
        language: str | None,
        progress: Progress | None,
        findings: Findings,
        now: datetime,
    ) -> None:
        self._files, self._space, self._language = files, space, language
        self._progress, self._findings = progress, findings
        self._source = f"/import/stackexchange/{space}"
        self._latest = _micros(now + MAX_AHEAD)
        self._strict = StrictReader([FORUM, MEMBERS])
        self._index, self._acceptances = _Index(), _Acceptances()
        self._named: set[str] = set()
        sizes = {name: file.stat().st_size for name, file in files.items()}
        self._done, self._total = 0, sum(sizes.values()) + sizes["Posts.xml"]

    def events(self) -> Iterator[Event]:
        self._survey()
        yield from self._users()
        yield from self._posts()
        yield from self._votes()
        yield from self._solutions()

    # --- files --------------------------------------------------------------------------------------------------

    def _rows(self, name: str, what: str) -> Iterator[dict[str, str]]:
        def told(size: int) -> None:
            self._done += size
            if self._progress:
                self._progress(what, self._done, self._total)

        return rows(self._files[name], told)

    def _survey(self) -> None:
        """Read Posts.xml for what hangs on what, and say what is missing."""
        posts = 0
        for row in self._rows("Posts.xml", "Posts.xml, first for what answers what"):
            posts += 1
            try:
                post = self._post(row)
            except _Unusable as why:
                self._findings.refuse(f"Posts.xml, post {row.get('Id', 'without an Id')[:40]}", str(why))
                continue
            if post is None:
                continue
            self._index.add(post)
            if not post.parent and (accepted := row.get("AcceptedAnswerId")):
                self._acceptances.add(post.id, _number(accepted))
        given = len(self._index.ids)
        self._leave_out(NO_QUESTION, self._index.seal())
        self._leave_out("a post whose Id the file has had already", given - len(self._index.ids))
        self._leave_out(NOT_ITS_ANSWER, self._acceptances.seal(self._index))
        if not given:
            self._note(f"Posts.xml holds {posts:,} rows, and no question and no answer among them")
        if "Users.xml" not in self._files:
            self._note("There is no Users.xml: members with an account have no name")
        if "Votes.xml" not in self._files:
            self._note("There is no Votes.xml: no kudos, and a solution has the time of its answer")

    def _users(self) -> Iterator[Event]:
        if "Users.xml" not in self._files:
            return
        for row in self._rows("Users.xml", "Users.xml"):
            where = f"Users.xml, user {row.get('Id', 'without an Id')[:40]}"
            try:
                id = _user(row.get("Id", ""))
                joined = self._time(row, "CreationDate")
            except _Unusable as why:
                self._findings.refuse(where, str(why))
                continue
            name = row.get("DisplayName")
            yield from self._member(where, f"{self._space}:{id}", id, joined, name, {"joined_at": _instant(joined)})

    def _posts(self) -> Iterator[Event]:
        seen = bytearray(len(self._index.ids))
        for row in self._rows("Posts.xml", "Posts.xml"):
            try:
                post = self._post(row)
            except _Unusable:
                continue  # counted when the file was read first
            if post is None or (at := self._index.find(post.id)) < 0 or seen[at]:
                continue
            seen[at] = 1
            if post.named is not None and post.author not in self._named:
                if row.get("OwnerDisplayName") is not None:
                    self._named.add(post.author)  # the others are one a post
                key = post.author[len(self._space) + 1 :]
                yield from self._member(f"Posts.xml, post {post.id}", post.author, key, post.at, post.named, {})
            yield from self._question(row, post) if not post.parent else self._answer(post)

    def _votes(self) -> Iterator[Event]:
        if "Votes.xml" not in self._files:
            return
        space, index = self._space, self._index
        for row in self._rows("Votes.xml", "Votes.xml"):
            kind = row.get("VoteTypeId")
            if kind != UPVOTE and kind != ACCEPTED_BY_ASKER:
                continue
            post = _number(row.get("PostId", ""))
            place = index.find(post)
            if place < 0:
                self._leave_out(NO_POST, 1)
                continue
            try:
                id = _positive(row.get("Id", ""), "Id")
                at = max(_when(row.get("CreationDate", ""), "CreationDate"), index.times[place])
                if at > self._latest:
                    raise _Unusable("CreationDate: in the future")
            except _Unusable as why:
                self._findings.refuse(f"Votes.xml, vote {row.get('Id', 'without an Id')[:40]}", str(why))
                continue
            if kind == ACCEPTED_BY_ASKER:
                self._acceptances.vote(post, at)
                continue
            parent = index.parents[place]
            data = {"topic_id": f"{space}:{parent or post}", "kudos_id": f"{space}:{id}"}
            if parent:
                data["reply_id"] = f"{space}:{post}"
            yield from self._event(forum.KudosGiven, f"Votes.xml, vote {id}", str(id), at, data)

    def _solutions(self) -> Iterator[Event]:
        space, index, acceptances = self._space, self._index, self._acceptances
        for answer, voted in zip(acceptances.answers, acceptances.votes, strict=True):
            place = index.find(answer)
            at = index.times[place] if voted == acceptances.NEVER else max(voted, index.times[place])
            data = {"topic_id": f"{space}:{index.parents[place]}", "reply_id": f"{space}:{answer}"}
            yield from self._event(forum.SolutionAccepted, f"Posts.xml, post {answer}", str(answer), at, data)

    # --- rows ---------------------------------------------------------------------------------------------------

    def _post(self, row: dict[str, str]) -> _Post | None:
        """A question or an answer; None for any other kind of post."""
        kind = row.get("PostTypeId")
        if kind != QUESTION and kind != ANSWER:
            return None
        id = _positive(row.get("Id", ""), "Id")
        at = self._time(row, "CreationDate")
        # A parent that is none is an answer without its question, as one that is not there.
        parent = (_number(row.get("ParentId", "")) or id) if kind == ANSWER else 0
        named: str | None = None
        if (user := row.get("OwnerUserId")) is not None:
            author = f"{self._space}:{_user(user, 'OwnerUserId')}"
        elif (named := row.get("OwnerDisplayName")) is not None:
            author = f"{self._space}:name:{named}"
            if len(author) > LONGEST_ID:
                raise _Unusable("OwnerDisplayName: too long for an id")
        else:
            author = named = f"{self._space}:post:{id}"
        return _Post(id, at, parent, author, named)

    def _time(self, row: dict[str, str], name: str) -> int:
        """A time that an event may have."""
        at = _when(row.get(name, ""), name)
        if at < 0:
            raise _Unusable(f"{name}: before 1970")
        if at > self._latest:
            raise _Unusable(f"{name}: in the future")
        return at

    def _question(self, row: dict[str, str], post: _Post) -> Iterator[Event]:
        topic_id, where = f"{self._space}:{post.id}", f"Posts.xml, post {post.id}"
        data: dict[str, Any] = {
            "topic_id": topic_id,
            "author_id": post.author,
            "author_kind": self._kind(post),
            "title": self._cut(row.get("Title", ""), LONGEST_TITLE, "title"),
            "space": self._space,
            "tags": self._tags(row.get("Tags", "")),
            "kind": "question",
        }
        if self._language is not None:
            data["language"] = self._language
        yield from self._event(forum.TopicCreated, where, str(post.id), post.at, data)
        if row.get("ClosedDate"):
            try:
                closed = self._time(row, "ClosedDate")
            except _Unusable as why:
                self._findings.refuse(where, str(why))
            else:
                yield from self._event(forum.TopicClosed, where, str(post.id), closed, {"topic_id": topic_id})

    def _answer(self, post: _Post) -> Iterator[Event]:
        data = {
            "topic_id": f"{self._space}:{post.parent}",
            "reply_id": f"{self._space}:{post.id}",
            "author_id": post.author,
            "author_kind": self._kind(post),
            "visibility": "public",
        }
        yield from self._event(forum.ReplyPosted, f"Posts.xml, post {post.id}", str(post.id), post.at, data)

    def _kind(self, post: _Post) -> str:
        return "bot" if post.author == f"{self._space}:{COMMUNITY}" else "member"

    def _member(
        self, where: str, member_id: str, key: str, at: int, name: str | None, more: dict[str, Any]
    ) -> Iterator[Event]:
        data: dict[str, Any] = {"member_id": member_id, "status": "active", **more}
        if name is not None:
            data["name"] = self._cut(name, LONGEST_NAME, "name")
        if len(key) > LONGEST_EVENT_KEY:
            key = hashlib.sha256(key.encode()).hexdigest()
        yield from self._event(members.MemberRegistered, where, key, at, data)

    def _tags(self, text: str) -> list[str]:
        """``<a><b>``, or ``|a|b|`` since 2024."""
        found = _TAGS.findall(text) if "<" in text else [tag for tag in text.split("|") if tag]
        tags = [tag for tag in found[:MOST_TAGS] if 0 < len(tag) <= LONGEST_TAG]
        if len(tags) < len(found):
            self._findings.mended["a tag too long or one too many, dropped"] += len(found) - len(tags)
        return tags

    def _cut(self, text: str, longest: int, what: str) -> str:
        if len(text) > longest:
            self._findings.mended[f"a {what} cut to {longest:,} characters"] += 1
            return text[:longest]
        return text

    def _event(self, kind: type[Event], where: str, key: str, at: int, data: dict[str, Any]) -> Iterator[Event]:
        """The event, or none where it breaks its contract in a way that nothing above knows."""
        name = kind.type_name()
        try:
            event = self._strict.read(
                {
                    "specversion": "1.0",
                    "id": f"{name}/{key}",
                    "source": self._source,
                    "type": name,
                    "time": _instant(at),
                    "datacontenttype": "application/json",
                    "dataschema": kind.schema_path(),
                    "backfill": True,
                    "data": data,
                }
            )
        except Undecodable as why:
            self._findings.refuse(where, str(why))
            return
        self._findings.events[name] += 1
        yield event

    def _leave_out(self, what: str, count: int) -> None:
        if count:
            self._findings.left_out[what] += count

    def _note(self, line: str) -> None:
        self._findings.notes.append(line)


def _number(text: str) -> int:
    """A positive number as dumps write it; 0 for anything else."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and text[0] != "0":
        return int(text)
    return 0


def _positive(text: str, name: str) -> int:
    number = _number(text)
    if not number:
        raise _Unusable(f"{name}: not a positive number")
    return number


def _user(text: str, name: str = "Id") -> str:
    if not _USER.fullmatch(text):
        raise _Unusable(f"{name}: not a number")
    return text


@lru_cache(4096)  # votes have days for dates: the same ones over and over
def _parsed(text: str) -> int | None:
    try:
        at = datetime.fromisoformat(text)
        return _micros(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _when(text: str, name: str) -> int:
    """Microseconds since 1970; digits beyond the sixth are cut, and a time without a zone is in UTC."""
    at = _parsed(text) if len(text) <= 64 else None
    if at is None:
        raise _Unusable(f"{name}: not a date" if text else f"{name}: missing")
    return at


def _micros(at: datetime) -> int:
    return (at - EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
