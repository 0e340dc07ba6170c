"""The oracle itself: against answers worked out by hand, against any order of arrival, and against the real dumps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import stackexchange
from tests.oracle.cases import CASES, ERASURE_KEY, Case
from tests.oracle.envelopes import Event, at, envelope, stream_of
from tests.oracle.figures import (
    Wait,
    as_known_at,
    bucket_end,
    bucket_start,
    kaplan_meier,
    micros,
    mismatches,
    rfc3339,
    seconds,
)
from tests.oracle.forum import DEFAULT_POLICIES, Forum, stand_in
from tests.oracle.histories import LAST, arrivals, batches, histories, policy_lists, queries

BEER_AS_OF = "2020-05-31T01:34:58Z"
OPENDATA_AS_OF = "2017-08-26T21:12:39.243Z"
SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def dump(name: str) -> Path:
    """A real dump, or a skip that says what is missing."""
    folder = stackexchange.dump(name)
    if folder is None:
        pytest.skip(
            f"SKIPPED FOR WANT OF DATA: no stackexchange/{name} in {stackexchange.data_folder()}; set STARS_TEST_DATA"
        )
    return folder


def asked(forum: Forum, query: dict[str, str], policies: Any = DEFAULT_POLICIES) -> dict[str, Any]:
    """A report by the parameters' names over HTTP."""
    named = {"from_" if name == "from" else name: value for name, value in query.items()}
    return forum.report(policies, **named)


def broken(case: Case, forum: Forum) -> list[str]:
    """What a case promises and this forum does not keep."""
    found: list[str] = []
    for topic_id, expected in case.expect.get("topics", {}).items():
        found += mismatches(expected, forum.view(topic_id, at(days=30), case.policies), topic_id)
    standing = forum.standing_first_responses(case.policies)
    for topic_id, expected in case.expect.get("standing", {}).items():
        found += mismatches(expected, standing.get(topic_id), f"standing {topic_id}")
    if "report" in case.expect:
        found += mismatches(case.expect["report"], asked(forum, case.query, case.policies), "report")
    if "kudos" in case.expect:
        found += mismatches(case.expect["kudos"], [kudos.kudos_id for kudos in forum.effective_kudos()], "kudos")
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_comes_out_as_worked_out_by_hand(case: Case) -> None:
    assert broken(case, Forum(case.events, ERASURE_KEY)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_comes_out_the_same_backwards_and_twice(case: Case) -> None:
    assert broken(case, Forum([*reversed(case.events), *case.events], ERASURE_KEY)) == []


def test_every_case_has_a_name_of_its_own_and_promises_something() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.expect and set(case.expect) <= {"topics", "standing", "report", "kudos"} for case in CASES)


@SOME
@given(st.data())
def test_any_order_and_any_repetition_give_the_same_state(data: st.DataObject) -> None:
    events = data.draw(histories(exotic_times=True))
    policies = data.draw(policy_lists())
    told = Forum(events, ERASURE_KEY).summary(LAST, policies)
    assert Forum(data.draw(arrivals(events)), ERASURE_KEY).summary(LAST, policies) == told


@SOME
@given(st.data())
def test_batches_hold_the_same_events_in_the_same_order(data: st.DataObject) -> None:
    events = data.draw(arrivals(data.draw(histories())))
    cut = data.draw(batches(events))
    assert [event for batch in cut for event in batch] == events
    assert all(cut)


@SOME
@given(histories(exotic_times=True))
def test_histories_never_give_one_name_to_two_events(events: list[Event]) -> None:
    assert len({(event["source"], event["id"]) for event in events}) == len(events)
    assert all(micros(event["time"]) <= micros(LAST) for event in events)


@SOME
@given(histories(), queries(), policy_lists())
def test_a_report_adds_up(events: list[Event], query: dict[str, str], policies: list[dict[str, Any]]) -> None:
    forum = Forum(events, ERASURE_KEY)
    report = asked(forum, query, policies)
    series = report["series"]
    assert report["topics"] == report["met"] + report["missed"] + report["pending"]
    assert (report["attainment"] is None) == (report["met"] + report["missed"] == 0)
    for figure in ("topics", "answered", "met", "missed", "pending"):
        assert "every" not in query or sum(bucket[figure] for bucket in series) == report[figure]
    assert all(micros(bucket["start"]) <= micros(query["as_of"]) for bucket in series)
    starts = [micros(bucket["start"]) for bucket in series]
    assert starts == sorted(set(starts))
    for start, after in pairwise(starts):
        assert bucket_end(start, query["every"]) == after


@SOME
@given(histories())
def test_an_erased_member_is_named_nowhere(events: list[Event]) -> None:
    told = repr(Forum(events, ERASURE_KEY).summary(LAST))
    for event in events:
        if event["type"] == "member-erased":
            assert repr(event["data"]["member_id"]) not in told


@SOME
@given(histories())
def test_merged_topics_count_once_and_answer_as_their_survivor(events: list[Event]) -> None:
    forum = Forum(events, ERASURE_KEY)
    ids = {topic_id for topic in forum.topics.values() for topic_id in (topic.topic_id, *topic.merged)}
    assert sum(1 + len(topic.merged) for topic in forum.topics.values()) == len(ids)
    for topic_id in ids:
        survivor = forum.survivor(topic_id)
        assert forum.survivor(survivor) == survivor
        assert forum.view(topic_id, LAST) == forum.view(survivor, LAST)


def test_one_name_for_two_contents_is_refused() -> None:
    one = envelope("topic-closed", at(), {"topic_id": "t"}, id_="e")
    other = envelope("topic-closed", at(1), {"topic_id": "t"}, id_="e")
    with pytest.raises(ValueError, match="two events are called"):
        Forum([one, other])


def test_times_are_instants_to_the_microsecond() -> None:
    assert micros("1970-01-01") == 0
    assert micros("1970-01-01T00:00:00.0000019Z") == 1
    assert micros("1970-01-01T01:00:00.5+01:00") == 500_000
    assert micros("1969-12-31T22:30:00-01:30") == 0
    assert rfc3339(micros("2024-02-29T12:00:00.25Z")) == "2024-02-29T12:00:00.250000Z"


def test_buckets_are_utc_days_iso_weeks_months_and_years() -> None:
    def bounds(every: str) -> tuple[str, str]:
        start = bucket_start(micros("2020-12-31T23:59:59.999999Z"), every)
        return rfc3339(start)[:10], rfc3339(bucket_end(start, every))[:10]

    assert bounds("day") == ("2020-12-31", "2021-01-01")
    assert bounds("week") == ("2020-12-28", "2021-01-04")
    assert bounds("month") == ("2020-12-01", "2021-01-01")
    assert bounds("year") == ("2020-01-01", "2021-01-01")


def test_a_stand_in_is_the_keyed_hash_of_the_id() -> None:
    # RFC 4231, test case 2: HMAC-SHA256("Jefe", "what do ya want for nothing?") = 5bdcc146bf60754e6a042426089575c7...
    assert stand_in(b"Jefe", "what do ya want for nothing?") == "erased:5bdcc146bf60754e6a042426089575c7"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.sampled_from([Fraction(1, 2), Fraction(4, 5)]))
def test_without_censoring_a_percentile_is_the_plain_one(observed: list[int], share: Fraction) -> None:
    plain = next(t for t in sorted(observed) if sum(1 for other in observed if other <= t) >= share * len(observed))
    assert kaplan_meier(observed, [], share) == plain


def test_mismatches_say_what_is_wrong_and_where() -> None:
    assert mismatches({"a": {"b": 1.0, "at": at()}}, {"a": {"b": 1, "at": "2024-01-01T00:00:00.000Z", "c": 9}}) == []
    assert mismatches({"a": [{"b": None}]}, {"a": [{"b": 0}]}) == [".a[0].b: 0, not None"]
    assert mismatches({"a": True}, {"a": 1}) != []
    assert mismatches({"seconds": 172_800.000001}, {"seconds": 172_800.0}) != []
    assert mismatches([1], [1, 2]) != []
    assert mismatches({"a": None}, {}) != []


@pytest.mark.parametrize(
    ("name", "query", "promised"),
    [
        (
            "beer",
            {"as_of": BEER_AS_OF},
            {
                "topics": 1029,
                "answered": 977,
                "met": 752,
                "p50_seconds": 37500.107,
                "p80_seconds": 360405.22,
                "p90_seconds": 3256020.327,
                "answered_median_seconds": 32384.833,
            },
        ),
        (
            "beer",
            {"as_of": BEER_AS_OF, "from_": "2015-01-01", "to": "2016-01-01"},
            {"topics": 122, "met": 83},
        ),
        ("beer", {"as_of": "2015-09-15", "from_": "2015-08-16"}, {"p80_seconds": 211947.647}),
        (
            "opendata",
            {"as_of": OPENDATA_AS_OF},
            {
                "topics": 3733,
                "met": 1775,
                "missed": 1953,
                "pending": 5,
                "p50_seconds": 241095.91,
                "p80_seconds": None,
                "p90_seconds": None,
            },
        ),
    ],
    ids=["beer", "beer-2015", "beer-last-30-days", "opendata"],
)
def test_the_dumps_have_the_promised_figures(name: str, query: dict[str, Any], promised: dict[str, Any]) -> None:
    report = stackexchange.sla(dump(name), **query)
    assert mismatches(promised, report) == []
    assert sum(bucket["topics"] for bucket in report["series"]) == report["topics"]


def as_events(folder: Path) -> Iterator[Event]:
    """The questions and answers of a dump as events, just enough of them for the report."""
    posts = list(stackexchange.rows(folder / "Posts.xml"))
    questions = {post["Id"] for post in posts if post["PostTypeId"] == "1"}
    for post in posts:
        kind, who = stackexchange.author(post)
        data = {"author_id": f"{kind}:{who}", "author_kind": "bot" if (kind, who) == ("account", "-1") else "member"}
        if post["PostTypeId"] == "1":
            data |= {"topic_id": post["Id"], "title": post["Title"], "kind": "question", "space": folder.name}
            yield envelope("topic-created", post["CreationDate"] + "Z", data | {"tags": []}, id_=f"post-{post['Id']}")
        elif post["PostTypeId"] == "2" and post["ParentId"] in questions:
            data |= {"topic_id": post["ParentId"], "reply_id": post["Id"], "visibility": "public"}
            yield envelope("reply-posted", post["CreationDate"] + "Z", data, id_=f"post-{post['Id']}")


@pytest.mark.parametrize(("name", "as_of"), [("beer", BEER_AS_OF), ("opendata", OPENDATA_AS_OF)])
def test_a_dump_by_way_of_events_gives_the_same_report_as_the_dump_itself(name: str, as_of: str) -> None:
    folder = dump(name)
    forum = Forum(as_events(folder), ERASURE_KEY)
    assert forum.report(space=name, as_of=as_of, every="month") == stackexchange.sla(folder, as_of=as_of)
    responses = {
        question.id: (question.first_response_id, seconds(question.first_response - question.created))
        for question in stackexchange.questions(folder)
        if question.first_response is not None
    }
    standing = forum.standing_first_responses()
    assert {topic: (fact["reply_id"], fact["seconds"]) for topic, fact in standing.items()} == responses


def test_every_event_of_a_case_is_of_a_stream_that_is_read() -> None:
    streams = {stream_of(event) for case in CASES for event in case.events}
    assert streams == {"forum.events", "members.events", "applications.events"}


def test_a_wait_is_hidden_in_part_or_whole_before_its_time() -> None:
    wait = Wait(10, 20, 5)
    assert as_known_at([wait], 9) == []
    assert as_known_at([wait], 19) == [Wait(10, None, 5)]
    assert as_known_at([wait], 20) == [wait]
