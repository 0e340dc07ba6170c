"""A Stack Exchange dump as events: each sentence of the specification, hostile files, and the real dumps."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import pytest

from deploy.history import Findings, HistoryError, read_dump
from deploy.history import rows as rows_module
from shared.contracts.catalogue import FORUM, MEMBERS
from shared.contracts.codec import StrictReader, encode
from tests.oracle import stackexchange as oracle

Row = dict[str, Any]
STRICT = StrictReader([FORUM, MEMBERS])
AT = "2014-01-21T20:26:05.383"
LATER = "2014-01-22T10:00:00.000"


def question(id: int, /, **more: Any) -> Row:
    return {"Id": id, "PostTypeId": 1, "CreationDate": AT, "OwnerUserId": 7, "Title": "Why?", "Tags": "<a>", **more}


def answer(id: int, parent: int, /, **more: Any) -> Row:
    return {"Id": id, "PostTypeId": 2, "ParentId": parent, "CreationDate": LATER, "OwnerUserId": 8, **more}


def vote(id: int, post: int, kind: int, date: str = "2014-03-01T00:00:00.000") -> Row:
    return {"Id": id, "PostId": post, "VoteTypeId": kind, "CreationDate": date}


def user(id: int, name: str, **more: Any) -> Row:
    return {"Id": id, "DisplayName": name, "CreationDate": "2013-05-06T07:08:09.123", **more}


def as_xml(root: str, rows: list[Row]) -> str:
    lines = ["  <row " + " ".join(f"{k}={quoteattr(str(v))}" for k, v in row.items() if v is not None) for row in rows]
    return f'<?xml version="1.0" encoding="utf-8"?>\n<{root}>\n' + " />\n".join([*lines, ""]) + f"</{root}>\n"


class Dump:
    """A dump that a test writes by hand, and what came of it when it was read last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings = Findings()

    def write(self, posts: list[Row], votes: list[Row] | None = None, users: list[Row] | None = None) -> Dump:
        for name, rows in (("Posts", posts), ("Votes", votes), ("Users", users)):
            if rows is not None:
                (self.folder / f"{name}.xml").write_text(as_xml(name.lower(), rows), encoding="utf-8")
        return self

    def read(self, space: str = "beer", language: str | None = None, **more: Any) -> list[dict[str, Any]]:
        self.findings = Findings()
        events = read_dump(self.folder, space, language, findings=self.findings, **more)
        found = [json.loads(encode(event)) for event in events]
        for event in found:
            STRICT.read(event)
        return found

    def of(self, type: str, **more: Any) -> list[dict[str, Any]]:
        return [event for event in self.read(**more) if event["type"] == type]


@pytest.fixture
def dump(tmp_path: Path) -> Dump:
    return Dump(tmp_path)


# --- questions and answers ----------------------------------------------------------------------------------------


def test_a_question_is_a_topic(dump: Dump) -> None:
    (event,) = dump.write([question(4711, Title='Is <b> & "c" é?', Tags="<ale><hop-oil>")]).read()
    assert event == {
        "specversion": "1.0",
        "id": "topic-created/4711",
        "source": "/import/stackexchange/beer",
        "type": "topic-created",
        "time": "2014-01-21T20:26:05.383000Z",
        "datacontenttype": "application/json",
        "dataschema": "/schemas/topic-created.v1.json",
        "backfill": True,
        "data": {
            "topic_id": "beer:4711",
            "author_id": "beer:7",
            "author_kind": "member",
            "title": 'Is <b> & "c" é?',
            "space": "beer",
            "tags": ["ale", "hop-oil"],
            "kind": "question",
        },
    }


def test_an_answer_is_a_public_reply(dump: Dump) -> None:
    (event,) = dump.write([question(1), answer(2, 1)]).of("reply-posted")
    assert event["id"] == "reply-posted/2"
    assert event["time"] == "2014-01-22T10:00:00Z"
    assert event["backfill"] is True
    assert event["data"] == {
        "topic_id": "beer:1",
        "reply_id": "beer:2",
        "author_id": "beer:8",
        "author_kind": "member",
        "visibility": "public",
    }


def test_other_kinds_of_posts_are_not_read(dump: Dump) -> None:
    wikis = [{**question(n), "PostTypeId": kind} for n, kind in ((3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8))]
    assert [event["id"] for event in dump.write([question(1), *wikis]).read()] == ["topic-created/1"]
    assert dump.findings.refused == 0


def test_answers_may_come_before_their_question_and_rows_in_any_order(dump: Dump) -> None:
    found = dump.write([answer(9, 3), question(3), answer(4, 1), question(1)], votes=[vote(1, 9, 2)]).read()
    assert [e["id"] for e in found] == [
        "reply-posted/9",
        "topic-created/3",
        "reply-posted/4",
        "topic-created/1",
        "kudos-given/1",
    ]
    assert found[-1]["data"] == {"topic_id": "beer:3", "reply_id": "beer:9", "kudos_id": "beer:1"}


@pytest.mark.parametrize("parent", [99, 2, 5, 6, "x", "", None])
def test_an_answer_without_its_question_is_left_out(dump: Dump, parent: Any) -> None:
    posts = [question(1), answer(2, 1), {**question(5), "PostTypeId": 5}, answer(6, 1, ParentId=parent)]
    found = dump.write(posts, votes=[vote(1, 6, 2)]).read()
    assert [event["id"] for event in found] == ["topic-created/1", "reply-posted/2"]
    assert dump.findings.left_out == {"an answer without its question": 1, "a vote without its post": 1}


def test_the_first_of_two_posts_with_one_id_stands(dump: Dump) -> None:
    (event,) = dump.write([question(1, Title="first"), question(1, Title="second")]).read()
    assert event["data"]["title"] == "first"
    assert sum(dump.findings.left_out.values()) == 1


def test_community_wiki_edits_and_scores_change_nothing(dump: Dump) -> None:
    plain = dump.write([question(1), answer(2, 1)]).read()
    more = {"CommunityOwnedDate": LATER, "LastEditDate": LATER, "LastEditorUserId": 3, "Score": -4, "CommentCount": 2}
    assert dump.write([question(1, **more), answer(2, 1, **more)]).read() == plain


def test_comments_are_not_read(dump: Dump) -> None:
    (dump.folder / "Comments.xml").write_text("<not well formed")
    assert len(dump.write([question(1)]).read()) == 1


# --- authors and members ------------------------------------------------------------------------------------------


def test_an_author_without_an_account_goes_by_name_and_is_a_member_once(dump: Dump) -> None:
    named = {"OwnerUserId": None, "OwnerDisplayName": "user 42 <x>:é"}
    found = dump.write([question(1, **named), answer(2, 1, **named)]).read()
    assert [event["type"] for event in found] == ["member-registered", "topic-created", "reply-posted"]
    member, topic, reply = (event["data"] for event in found)
    assert topic["author_id"] == reply["author_id"] == "beer:name:user 42 <x>:é"
    assert member == {"member_id": "beer:name:user 42 <x>:é", "status": "active", "name": "user 42 <x>:é"}
    assert found[0]["id"] == "member-registered/name:user 42 <x>:é"
    assert found[0]["time"] == found[1]["time"]


def test_an_author_without_account_and_name_goes_by_the_post(dump: Dump) -> None:
    found = dump.write([question(1, OwnerUserId=None), answer(2, 1, OwnerUserId=None)]).read()
    assert [event["data"].get("author_id") for event in found] == [None, "beer:post:1", None, "beer:post:2"]
    assert found[0]["data"] == {"member_id": "beer:post:1", "status": "active", "name": "beer:post:1"}
    assert found[2]["data"]["name"] == "beer:post:2"


def test_an_account_outranks_a_name(dump: Dump) -> None:
    (event,) = dump.write([question(1, OwnerDisplayName="gone")]).read()
    assert event["data"]["author_id"] == "beer:7"


def test_user_minus_one_alone_is_a_bot(dump: Dump) -> None:
    posts = [question(1, OwnerUserId=-1), answer(2, 1, OwnerUserId=-1), answer(3, 1, OwnerUserId=-2), answer(4, 1)]
    posts.append(answer(5, 1, OwnerUserId=None, OwnerDisplayName="-1"))
    found = dump.write(posts, users=[user(-1, "Community")]).read()
    kinds = [event["data"]["author_kind"] for event in found if "author_kind" in event["data"]]
    assert kinds == ["bot", "bot", "member", "member", "member"]
    assert found[0]["data"]["member_id"] == "beer:-1"
    assert found[0]["data"]["name"] == "Community"


def test_members_come_from_users(dump: Dump) -> None:
    (event, _) = dump.write([question(1)], users=[user(7, "Zoë & Co", Reputation=5, EmailHash="x", AboutMe="y")]).read()
    assert event["id"] == "member-registered/7"
    assert event["time"] == "2013-05-06T07:08:09.123000Z"
    assert event["backfill"] is True
    assert event["data"] == {
        "member_id": "beer:7",
        "status": "active",
        "name": "Zoë & Co",
        "joined_at": "2013-05-06T07:08:09.123000Z",
    }


def test_a_member_without_a_name_has_none(dump: Dump) -> None:
    (event, _) = dump.write([question(1)], users=[{"Id": 7, "CreationDate": AT}]).read()
    assert "name" not in event["data"]


# --- votes and solutions ------------------------------------------------------------------------------------------


def test_an_upvote_is_an_anonymous_kudos(dump: Dump) -> None:
    votes = [vote(11, 1, 2), vote(12, 2, 2)]
    on_topic, on_reply = dump.write([question(1), answer(2, 1)], votes).of("kudos-given")
    assert on_topic["id"] == "kudos-given/11"
    assert on_topic["data"] == {"topic_id": "beer:1", "kudos_id": "beer:11"}
    assert on_reply["data"] == {"topic_id": "beer:1", "reply_id": "beer:2", "kudos_id": "beer:12"}
    assert on_reply["time"] == "2014-03-01T00:00:00Z"


def test_a_kudos_is_never_older_than_its_post(dump: Dump) -> None:
    votes = [vote(11, 1, 2, "2014-01-21T00:00:00.000"), vote(12, 2, 2, "1950-01-01"), vote(13, 2, 2, LATER)]
    found = dump.write([question(1), answer(2, 1)], votes).of("kudos-given")
    assert [e["time"] for e in found] == [
        "2014-01-21T20:26:05.383000Z",
        "2014-01-22T10:00:00Z",
        "2014-01-22T10:00:00Z",
    ]


def test_a_vote_without_its_post_is_left_out(dump: Dump) -> None:
    assert dump.write([question(1)], [vote(1, 99, 2), vote(2, 99, 1), vote(3, 0, 2)]).of("kudos-given") == []
    assert dump.findings.left_out == {"a vote without its post": 3}
    assert dump.findings.refused == 0


def test_other_votes_are_not_read(dump: Dump) -> None:
    votes = [{**vote(n, 1, n), "CreationDate": "never"} for n in range(3, 17)]
    assert len(dump.write([question(1)], votes).read()) == 1
    assert dump.findings.refused == 0


@pytest.mark.parametrize(
    ("votes", "at"),
    [
        ([], "2014-01-22T10:00:00Z"),
        (["2014-01-25T00:00:00.000"], "2014-01-25T00:00:00Z"),
        (["2014-01-27", "2014-01-25", "2014-01-26"], "2014-01-25T00:00:00Z"),
        (["2014-01-22T00:00:00.000", "2014-01-25"], "2014-01-22T10:00:00Z"),
        (["never"], "2014-01-22T10:00:00Z"),
    ],
)
def test_a_solution_is_dated_by_its_earliest_accept_vote(dump: Dump, votes: list[str], at: str) -> None:
    posts = [question(1, AcceptedAnswerId=2), answer(2, 1), answer(3, 1)]
    cast = [vote(n, 2, 1, date) for n, date in enumerate(votes, 1)]
    cast += [vote(50, 3, 1, "2014-01-20"), vote(51, 1, 1, "2014-01-20")]  # not for the accepted answer
    (event,) = dump.write(posts, cast).of("solution-accepted")
    assert event["id"] == "solution-accepted/2"
    assert event["data"] == {"topic_id": "beer:1", "reply_id": "beer:2"}
    assert event["time"] == at
    assert len(dump.of("kudos-given")) == 0


def test_an_accept_vote_alone_is_no_solution(dump: Dump) -> None:
    assert dump.write([question(1), answer(2, 1)], [vote(1, 2, 1)]).of("solution-accepted") == []


@pytest.mark.parametrize("accepted", [99, 1, 4, 3, 6, "none"])
def test_only_an_answer_of_that_question_solves_it(dump: Dump, accepted: Any) -> None:
    """Absent, the question itself, another's answer, another question, an orphan, no number."""
    posts = [question(1, AcceptedAnswerId=accepted), answer(2, 1), question(3), answer(4, 3), answer(6, 98)]
    assert dump.write(posts).of("solution-accepted") == []
    assert dump.findings.left_out["an AcceptedAnswerId that is no answer of its question"] == 1


def test_a_closed_question_is_closed(dump: Dump) -> None:
    posts = [question(1, ClosedDate="2015-02-03T04:05:06.700"), question(2, ClosedDate="some day"), question(3)]
    (event,) = dump.write(posts).of("topic-closed")
    assert event["id"] == "topic-closed/1"
    assert event["time"] == "2015-02-03T04:05:06.700000Z"
    assert event["data"] == {"topic_id": "beer:1"}
    assert dump.findings.refused == 1
    assert dump.findings.events["topic-created"] == 3


# --- options, tags, times, bounds ---------------------------------------------------------------------------------


def test_ids_spaces_and_sources_have_the_name_that_was_given(dump: Dump) -> None:
    found = dump.write([question(1)], [vote(5, 1, 2)], [user(7, "Ada")]).read(space="wine & dine")
    member, topic, kudos = (event["data"] for event in found)
    assert (member["member_id"], topic["topic_id"], topic["space"]) == ("wine & dine:7", "wine & dine:1", "wine & dine")
    assert kudos["kudos_id"] == "wine & dine:5"
    assert {event["source"] for event in found} == {"/import/stackexchange/wine & dine"}


def test_a_language_only_if_given(dump: Dump) -> None:
    dump.write([question(1)])
    assert dump.read(language="pt-BR")[0]["data"]["language"] == "pt-BR"
    assert "language" not in dump.read()[0]["data"]


@pytest.mark.parametrize("wrong", [{"space": ""}, {"space": "x" * 101}, {"language": "no spaces"}, {"language": ""}])
def test_options_out_of_bounds_are_refused_at_once(dump: Dump, wrong: dict[str, Any]) -> None:
    dump.write([question(1)])
    with pytest.raises(HistoryError, match=r"^--(space|language): "):
        read_dump(dump.folder, **{"space": "beer", **wrong})


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("<a><b-c><c++>", ["a", "b-c", "c++"]),
        ("|a|b-c|c++|", ["a", "b-c", "c++"]),
        ("<a|b>", ["a|b"]),
        ("a", ["a"]),
        ("", []),
        (None, []),
        (f"<{'x' * 101}><a><>", ["a"]),
        ("|a" * 120 + "|", ["a"] * 100),
    ],
)
def test_tags_as_they_are(dump: Dump, text: str | None, tags: list[str]) -> None:
    (event,) = dump.write([question(1, Tags=text)]).read()
    assert event["data"]["tags"] == tags


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2014-01-21T20:26:05.383", "2014-01-21T20:26:05.383000Z"),
        ("2014-01-21T20:26:05.123456999", "2014-01-21T20:26:05.123456Z"),
        ("2014-01-21T20:26", "2014-01-21T20:26:00Z"),
        ("2014-01-21", "2014-01-21T00:00:00Z"),
        ("2014-01-21T20:26:05Z", "2014-01-21T20:26:05Z"),
        ("2014-01-21T20:26:05+02:00", "2014-01-21T18:26:05Z"),
    ],
)
def test_times_are_in_utc_to_the_microsecond(dump: Dump, text: str, at: str) -> None:
    (event,) = dump.write([question(1, CreationDate=text)]).read()
    assert event["time"] == at


def test_titles_and_names_are_cut_to_what_the_contract_takes(dump: Dump) -> None:
    found = dump.write([question(1, Title="t" * 1001)], users=[user(1, "n" * 256)]).read()
    assert found[0]["data"]["name"] == "n" * 255
    assert found[1]["data"]["title"] == "t" * 1000
    assert sum(dump.findings.mended.values()) == 2


def test_a_question_without_a_title_has_an_empty_one(dump: Dump) -> None:
    assert dump.write([question(1, Title=None)]).read()[0]["data"]["title"] == ""


def test_a_long_name_is_an_id_as_long_as_it_fits(dump: Dump) -> None:
    fits, too_long = "n" * (255 - len("beer:name:")), "n" * (256 - len("beer:name:"))
    posts = [question(n, OwnerUserId=None, OwnerDisplayName=name) for n, name in ((1, fits), (2, too_long))]
    found = dump.write(posts).read()
    assert [event["type"] for event in found] == ["member-registered", "topic-created"]
    assert dump.findings.examples == ["Posts.xml, post 2: OwnerDisplayName: too long for an id"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"CreationDate": None},
        {"CreationDate": "yesterday"},
        {"CreationDate": "1969-12-31T23:59:59.999"},
        {"CreationDate": "0001-01-01T00:00:00+10:00"},
        {"CreationDate": "2031-01-01T00:05:01"},
        {"Id": None},
        {"Id": "x"},
        {"Id": -3},
        {"Id": "007"},
        {"Id": "9" * 40},
        {"Id": "٣"},
        {"OwnerUserId": "x"},
        {"OwnerUserId": ""},
        {"OwnerUserId": "7" * 300},
    ],
)
def test_what_cannot_be_an_event_is_counted_once_and_the_rest_goes_on(dump: Dump, wrong: Row) -> None:
    rows = [question(1), {**answer(2, 1), **wrong}, {**question(3), **wrong}, question(4)]
    assert [e["id"] for e in dump.write(rows).read(now=datetime(2031, 1, 1, tzinfo=UTC))] == [
        "topic-created/1",
        "topic-created/4",
    ]
    assert dump.findings.refused == 2
    assert len(dump.findings.examples) == 2


def test_users_and_votes_that_cannot_be_events_are_counted(dump: Dump) -> None:
    votes = [vote(1, 1, 2, "never"), {**vote(2, 1, 2), "Id": None}, vote(3, 1, 2, "2999-01-01"), vote(4, 1, 2)]
    found = dump.write([question(1)], votes, [user(1, "a", CreationDate=""), {**user(2, "b"), "Id": "b"}]).read()
    assert [event["id"] for event in found] == ["topic-created/1", "kudos-given/4"]
    assert dump.findings.refused == 5


def test_many_refusals_are_a_count_and_the_first_twenty(dump: Dump) -> None:
    dump.write([question(n, CreationDate="x") for n in range(1, 51)]).read()
    assert len(dump.findings.examples) == 20
    assert dump.findings.lines()[-1] == "refused: 50 in all, the first 20 are above"


# --- files --------------------------------------------------------------------------------------------------------


def test_absent_files_are_said(dump: Dump) -> None:
    dump.write([question(1, AcceptedAnswerId=2), answer(2, 1)]).read()
    assert dump.findings.notes == [
        "There is no Users.xml: members with an account have no name",
        "There is no Votes.xml: no kudos, and a solution has the time of its answer",
    ]


def test_a_folder_that_is_no_dump_is_said(dump: Dump) -> None:
    with pytest.raises(HistoryError, match=r"no Posts\.xml"):
        read_dump(dump.folder, "beer")
    with pytest.raises(HistoryError, match="not a folder"):
        read_dump(dump.folder / "absent", "beer")


def test_an_empty_dump_is_said(dump: Dump) -> None:
    assert dump.write([], [vote(1, 1, 2)], []).read() == []
    assert "no question and no answer" in dump.findings.lines()[0]


def test_names_of_files_in_small_letters_do(dump: Dump) -> None:
    dump.write([question(1)], [vote(1, 1, 2)])
    for name in ("Posts", "Votes"):
        (dump.folder / f"{name}.xml").rename(dump.folder / f"{name.lower()}.xml")
    assert len(dump.read()) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(dump: Dump, encoding: str) -> None:
    text = as_xml("posts", [question(1, Title="é")]).replace('encoding="utf-8"', "")
    (dump.folder / "Posts.xml").write_bytes(text.encode(encoding))
    assert dump.read()[0]["data"]["title"] == "é"


@pytest.mark.parametrize("end", ["", "</posts", "<row Id='2", "<row Id='2' & />", "</wrong>", "\x01"])
def test_malformed_xml_is_a_plain_error_with_file_and_place(dump: Dump, end: str) -> None:
    (dump.folder / "Posts.xml").write_text('<posts>\n<row Id="1" />\n' + end)
    with pytest.raises(HistoryError, match=r"Posts\.xml is not well-formed XML: .+ at line 3, column \d+ \(byte \d+\)"):
        dump.read()


def test_an_unknown_encoding_is_a_plain_error(dump: Dump) -> None:
    (dump.folder / "Posts.xml").write_text('<?xml version="1.0" encoding="klingon"?><posts/>')
    with pytest.raises(HistoryError, match=r"Posts\.xml is not well-formed XML"):
        dump.read()


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "billion laughs": f'<!DOCTYPE posts [<!ENTITY l0 "ha">{LAUGHS}]><posts><row Id="1" Title="&l9;"/></posts>',
    "external entity": '<!DOCTYPE posts [<!ENTITY x SYSTEM "file:///etc/passwd">]><posts>&x;</posts>',
    "external DTD": '<!DOCTYPE posts SYSTEM "http://127.0.0.1:1/evil.dtd"><posts/>',
    "parameter entity": '<!DOCTYPE posts [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><posts/>',
    "deep": "<posts>" + "<a>" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("file", ["Posts.xml", "Users.xml", "Votes.xml"])
def test_hostile_xml_is_refused(dump: Dump, name: str, file: str) -> None:
    dump.write([question(1)], [], [])
    (dump.folder / file).write_text(HOSTILE[name])
    with pytest.raises(HistoryError, match=f"{file} is refused at line 1"):
        dump.read()


def test_an_entity_that_nobody_declared_is_refused(dump: Dump) -> None:
    (dump.folder / "Posts.xml").write_text('<posts><row Title="&nbsp;"/></posts>')
    with pytest.raises(HistoryError, match="undefined entity"):
        dump.read()


def test_a_row_without_end_is_refused_and_not_held(dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_ROW", 1024 * 1024)
    with (dump.folder / "Posts.xml").open("w") as stream:
        stream.write('<posts>\n<row Id="1" Body="')
        for _ in range(80):
            stream.write("x" * 100_000)
    with pytest.raises(HistoryError, match="a row of more than 1 MiB begins here"):
        dump.read()


# --- size ---------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_by_the_index_of_posts(dump: Dump) -> None:
    """8,000 posts with 32 MB of text, and 8,000 votes."""
    count, body = 8_000, quoteattr("word " * 800)
    with (dump.folder / "Posts.xml").open("w") as stream:
        stream.write("<posts>")
        for n in range(1, count + 1):
            kind = 'PostTypeId="1"' if n % 3 == 1 else f'PostTypeId="2" ParentId="{(n - 1) // 3 * 3 + 1}"'
            stream.write(f'<row Id="{n}" {kind} OwnerUserId="7" CreationDate="{AT}" Body={body} />\n')
        stream.write("</posts>")
    (dump.folder / "Votes.xml").write_text(as_xml("votes", [vote(n, n, 2) for n in range(1, count + 1)]))
    next(iter(read_dump(dump.folder, "warm")))  # what is imported and compiled once is no part of it
    tracemalloc.start()
    try:
        total = sum(1 for _ in read_dump(dump.folder, "beer"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 2 * count
    assert peak < 8 * 1024 * 1024, f"{peak:,} bytes"


def test_progress_ends_at_all_bytes(dump: Dump) -> None:
    dump.write([question(1)], [vote(1, 1, 2)], [user(1, "a")])
    told: list[tuple[str, int, int]] = []
    dump.read(progress=lambda *now: told.append(now))
    assert [what.partition(",")[0] for what, _, _ in told] == ["Posts.xml", "Users.xml", "Posts.xml", "Votes.xml"]
    assert (
        told[-1][1]
        == told[-1][2]
        == sum(f.stat().st_size for f in dump.folder.iterdir()) + (dump.folder / "Posts.xml").stat().st_size
    )


# --- the real dumps -----------------------------------------------------------------------------------------------


def real(name: str) -> Path:
    folder = oracle.dump(name)
    if folder is None:
        pytest.skip(f"SKIPPED FOR WANT OF DATA: no stackexchange/{name} in {oracle.data_folder()}; set STARS_TEST_DATA")
    return folder


def plainly(folder: Path, name: str) -> Iterator[dict[str, str]]:
    for element in ElementTree.parse(folder / f"{name}.xml").getroot():
        yield dict(element.attrib)


def micros(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def expected(folder: Path, space: str) -> Counter[tuple[Any, ...]]:
    """What must come of a dump, worked out with everything in memory."""
    posts = {row["Id"]: row for row in plainly(folder, "Posts") if row["PostTypeId"] in "12"}
    posts = {
        id: row
        for id, row in posts.items()
        if row["PostTypeId"] == "1" or posts.get(row["ParentId"], {}).get("PostTypeId") == "1"
    }
    found: Counter[tuple[Any, ...]] = Counter()
    for row in plainly(folder, "Users"):
        found["member-registered", f"{space}:{row['Id']}", row["DisplayName"], micros(row["CreationDate"])] += 1
    accepted: dict[str, datetime] = {}
    for row in plainly(folder, "Votes"):
        if (post := posts.get(row["PostId"])) is None:
            continue
        at = max(micros(row["CreationDate"]), micros(post["CreationDate"]))
        if row["VoteTypeId"] == "1":
            accepted[row["PostId"]] = min(at, accepted.get(row["PostId"], at))
        elif row["VoteTypeId"] == "2":
            reply = None if post["PostTypeId"] == "1" else f"{space}:{post['Id']}"
            topic = f"{space}:{post.get('ParentId', post['Id'])}"
            found["kudos-given", topic, reply, f"{space}:{row['Id']}", at] += 1
    gone: dict[str, tuple[str, datetime]] = {}
    for id, row in posts.items():
        at = micros(row["CreationDate"])
        if "OwnerUserId" in row:
            author = f"{space}:{row['OwnerUserId']}"
        elif "OwnerDisplayName" in row:
            author = f"{space}:name:{row['OwnerDisplayName']}"
            gone.setdefault(author, (row["OwnerDisplayName"], at))
        else:
            author = f"{space}:post:{id}"
            gone[author] = (author, at)
        kind = "bot" if row.get("OwnerUserId") == "-1" else "member"
        if row["PostTypeId"] == "2":
            found["reply-posted", f"{space}:{row['ParentId']}", f"{space}:{id}", author, kind, at] += 1
            continue
        tags = tuple(row["Tags"].strip("<>").split("><"))
        found["topic-created", f"{space}:{id}", author, kind, row.get("Title", ""), tags, at] += 1
        if "ClosedDate" in row:
            found["topic-closed", f"{space}:{id}", micros(row["ClosedDate"])] += 1
        solution = posts.get(row.get("AcceptedAnswerId", ""))
        if solution and solution.get("ParentId") == id:
            when = accepted.get(solution["Id"], micros(solution["CreationDate"]))
            found["solution-accepted", f"{space}:{id}", f"{space}:{solution['Id']}", when] += 1
    for author, (name, at) in gone.items():
        found["member-registered", author, name, at] += 1
    return found


def as_expected(event: Any) -> tuple[Any, ...]:
    data = event.data
    match event.type:
        case "member-registered":
            return (event.type, data.member_id, data.name, event.time)
        case "topic-created":
            return (
                event.type,
                data.topic_id,
                data.author_id,
                data.author_kind,
                data.title,
                tuple(data.tags),
                event.time,
            )
        case "reply-posted":
            return (event.type, data.topic_id, data.reply_id, data.author_id, data.author_kind, event.time)
        case "kudos-given":
            return (event.type, data.topic_id, data.reply_id, data.kudos_id, event.time)
        case "solution-accepted":
            return (event.type, data.topic_id, data.reply_id, event.time)
    return (event.type, data.topic_id, event.time)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("beer", {"topic-created": 1029, "reply-posted": 2277, "solution-accepted": 619, "topic-closed": 76}),
        ("opendata", {"topic-created": 3733, "reply-posted": 4803, "solution-accepted": 972}),
    ],
)
def test_the_real_dumps_become_what_they_say(name: str, counts: dict[str, int]) -> None:
    folder, findings = real(name), Findings()
    events = list(read_dump(folder, name, findings=findings))
    values = [encode(event) for event in events]
    assert [encode(event) for event in read_dump(folder, name)] == values, "a second run gives the same bytes"
    for value in values:
        assert STRICT.read(json.loads(value)).backfill is True
    assert len({event.id for event in events}) == len(events)
    assert not any(event.time > datetime.now(UTC) + timedelta(minutes=5) for event in events)
    assert Counter(map(as_expected, events)) == expected(folder, name)
    assert {type: findings.events[type] for type in counts} == counts
    assert findings.events == Counter(event.type for event in events)
    assert findings.refused == 0
    assert findings.mended == {}
