"""The report's parameters: what they mean, and what is refused."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.e2e.site import Json, Site, ago, asked, eventually, fresh, instant, problem, replied

FIGURES = {
    "topics",
    "answered",
    "met",
    "missed",
    "pending",
    "attainment",
    "p50_seconds",
    "p80_seconds",
    "p90_seconds",
    "answered_median_seconds",
}
EMPTY = dict.fromkeys(FIGURES) | dict.fromkeys(("topics", "answered", "met", "missed", "pending"), 0)


@pytest.fixture(scope="module")
def space(site: Site) -> str:
    """A space with a question at noon of 1 to 10 March 2024, answered after 1, 2, … 9 hours and never."""
    name = fresh("space")
    for day in range(1, 11):
        at = datetime(2024, 3, day, 12, tzinfo=UTC)
        topic = fresh("topic")
        site.publish(asked(topic, at, space=name, language="de" if day % 2 else "en") | {"backfill": True})
        if day < 10:
            site.publish(replied(topic, fresh("r"), at=at + timedelta(hours=day)))
    eventually(lambda: site.ask("sla", space=name), lambda sla: (sla["topics"], sla["answered"]) == (10, 9))
    return name


def _topics(site: Site, space: str, **parameters: str) -> int:
    count: int = site.ask("sla", space=space, **parameters)["topics"]
    return count


def test_the_figures_are_those_of_the_questions_in_the_range(site: Site, space: str) -> None:
    found = site.ask("sla", space=space)
    assert found.keys() == FIGURES | {"series"}
    assert found["series"] == []
    assert (found["met"], found["missed"], found["pending"], found["attainment"]) == (9, 1, 0, 0.9)
    assert [found[f"p{n}_seconds"] for n in (50, 80, 90)] == [5 * 3600, 8 * 3600, 9 * 3600]
    assert found["answered_median_seconds"] == 5 * 3600
    found = site.ask("sla", space=fresh("nowhere"))
    assert found == EMPTY | {"series": []}


@pytest.mark.parametrize(
    ("since", "until", "topics"),
    [
        ("2024-03-02", "2024-03-04", 2),
        ("2024-03-02T12:00:00Z", "2024-03-04T12:00:00Z", 2),
        ("2024-03-02T12:00:00.000001Z", "2024-03-04T12:00:00.000001Z", 2),
        ("2024-03-02t12:00:00z", "2024-03-03", 1),
        ("2024-03-02T14:00:00+02:00", "2024-03-02T07:00:01-05:00", 1),
        ("2024-03-02T14:00:00.001+02:00", "2024-03-02T12:00:01Z", 0),
        ("", "2024-03-04", 3),
        ("2024-03-04", "", 7),
        ("", "", 10),
        ("2024-03-04", "2024-03-02", 0),
        ("2024-03-04", "2024-03-04", 0),
        ("0001-01-01", "9999-12-31", 10),
        ("1960-01-01", "9999-12-31T23:59:59.999999Z", 10),
        ("9999-12-31", "0001-01-01", 0),
    ],
)
def test_from_is_in_and_to_is_out(site: Site, space: str, since: str, until: str, topics: int) -> None:
    assert _topics(site, space, from_=since, to=until) == topics


def test_a_plus_that_arrives_as_a_space_is_still_an_offset(site: Site, space: str) -> None:
    query = f"space={space}&from=2024-03-02T14:00:00+02:00&to=2024-03-02T14:00:00.1+02:00"
    answer = site.client.get(f"/topics/api/sla?{query}")
    assert (answer.status_code, answer.json()["topics"]) == (200, 1)


def test_as_of_hides_what_came_later(site: Site, space: str) -> None:
    def figures(as_of: str) -> tuple[int, ...]:
        found = site.ask("sla", space=space, as_of=as_of)
        return tuple(found[name] for name in ("topics", "met", "missed", "pending"))

    assert figures("2024-03-03T12:30:00Z") == (3, 2, 0, 1)
    assert figures("2024-03-03") == (2, 2, 0, 0)
    assert figures("2024-03-02") == (1, 1, 0, 0)
    assert figures("2024-03-12T12:00:00Z") == (10, 9, 0, 1)
    assert figures("2024-03-12T12:00:00.000001Z") == (10, 9, 1, 0)
    assert figures("0001-01-01") == figures("1969-12-31") == (0, 0, 0, 0)
    assert figures("9999-12-31T23:59:59.999999Z") == figures("") == (10, 9, 1, 0)


@pytest.mark.parametrize(
    ("every", "starts"),
    [
        ("day", [f"2024-03-{day:02}" for day in range(1, 11)]),
        ("week", ["2024-02-26", "2024-03-04"]),
        ("month", ["2024-03-01"]),
        ("year", ["2024-01-01"]),
    ],
)
def test_a_series_has_a_bucket_for_all_that_it_touches(site: Site, space: str, every: str, starts: list[str]) -> None:
    for parameters in ({}, {"from_": "2024-03-01", "to": "2024-03-11"}):
        found = site.ask("sla", space=space, every=every, **parameters)
        assert [bucket["start"] for bucket in found["series"]] == [f"{start}T00:00:00Z" for start in starts]
        assert all(bucket.keys() == FIGURES | {"start"} for bucket in found["series"])
        for name in ("topics", "answered", "met", "missed", "pending"):
            assert sum(bucket[name] for bucket in found["series"]) == found[name]


def test_empty_buckets_are_told_and_cut_ones_hold_what_is_inside(site: Site, space: str) -> None:
    found = site.ask("sla", space=space, from_="2024-02-28T13:00:00Z", to="2024-03-02T12:00:00Z", every="day")
    told = [(bucket["start"][:10], bucket["topics"]) for bucket in found["series"]]
    assert told == [("2024-02-28", 0), ("2024-02-29", 0), ("2024-03-01", 1), ("2024-03-02", 0)]
    assert {name: found["series"][0][name] for name in FIGURES} == EMPTY
    found = site.ask("sla", space=space, from_="2024-03-05", to="2099-01-01", as_of="2024-03-06T01:00:00Z", every="day")
    assert [bucket["start"][:10] for bucket in found["series"]] == ["2024-03-05", "2024-03-06"]
    found = site.ask("sla", space=space, from_="2023-12-31", to="2024-01-02", every="year")
    assert [bucket["start"][:10] for bucket in found["series"]] == ["2023-01-01", "2024-01-01"]
    assert site.ask("sla", space=space, every="")["series"] == []


@pytest.mark.parametrize("every", ["day", "week", "month", "year"])
@pytest.mark.parametrize(
    ("since", "until", "as_of"),
    [
        ("2024-03-04", "2024-03-02", ""),
        ("2024-03-04", "2024-03-04", ""),
        ("0001-01-01", "0001-01-01", ""),
        ("9999-12-31", "0001-01-01", ""),
        ("2098-01-01", "2099-01-01", ""),
        ("2024-01-01", "2025-01-01", "2023-12-31"),
        ("", "0001-01-01", "0001-01-01"),
        ("", "2024-03-01", ""),
        ("2024-03-11", "", ""),
    ],
)
def test_where_nothing_can_be_the_series_is_empty(
    site: Site, space: str, every: str, since: str, until: str, as_of: str
) -> None:
    found = site.ask("sla", space=space, from_=since, to=until, as_of=as_of, every=every)
    assert found == EMPTY | {"series": []}


@pytest.mark.parametrize(
    ("every", "since", "until", "count"),
    [
        ("year", "0001-01-01", "9999-12-31T23:59:59.999999Z", 9999),
        ("month", "9990-06-15", "9999-12-31T23:59:59.999999Z", 115),
        ("week", "9999-01-01", "9999-12-31T23:59:59.999999Z", 53),
        ("day", "9999-12-01", "9999-12-31T23:59:59.999999Z", 31),
        ("day", "0001-01-01", "0001-02-01", 31),
        ("week", "0001-01-01", "0001-01-15", 2),
        ("year", "1960-01-01", "1971-01-01", 11),
        ("day", "1969-12-31", "1970-01-02", 2),
    ],
)
def test_a_series_reaches_to_the_ends_of_the_calendar(
    site: Site, space: str, every: str, since: str, until: str, count: int
) -> None:
    found = site.ask("sla", space=space, every=every, from_=since, to=until, as_of="9999-12-31T23:59:59.999999Z")
    assert len(found["series"]) == count
    assert found["series"][0]["start"].endswith("T00:00:00Z")
    assert len(found["series"][0]["start"]) == 20
    starts = [instant(bucket["start"]) for bucket in found["series"]]
    assert all(one < other for one, other in pairwise(starts))


@pytest.mark.parametrize("every", ["day", "week", "month"])
def test_a_huge_series_is_refused_plainly(site: Site, space: str, every: str) -> None:
    answer = site.get("sla", space=space, every=every, from_="0001-01-01", to="9999-12-31", as_of="9999-12-31")
    found = problem(answer, 400, "too-many-buckets")
    assert "shorter range" in found["detail"]


@pytest.mark.parametrize("name", ["from", "to", "as_of"])
@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "now",
        "NaN",
        "1709290800",
        "2024-13-01",
        "2024-02-30",
        "2023-02-29",
        "0000-01-01",
        "10000-01-01",
        "-0001-01-01",
        "2024-03-01T25:00:00Z",
        "2024-03-01T10:00:00+25:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        " ",
        "2024-03-01\x01",
        "２０２４-03-01",
        "2024-03-01'; DROP TABLE topic; --",
        "<script>",
        "x" * 9000,
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_a_time_that_is_none_is_refused(site: Site, name: str, value: str) -> None:
    found = problem(site.get("sla", **{f"{name}_" if name == "from" else name: value}), 400, "invalid-request")
    assert [error["location"] for error in found["errors"]] == [f"query.{name}"]
    assert len(str(found)) < 2000


@pytest.mark.parametrize("value", ["hour", "Day", "quarter", "1", "day,week", "\x01"])
def test_a_step_that_is_none_is_refused(site: Site, value: str) -> None:
    found = problem(site.get("sla", every=value), 400, "invalid-request")
    assert found["errors"][0]["location"] == "query.every"


def test_blank_parameters_are_absent_ones(site: Site, space: str) -> None:
    def without_clock(found: Json) -> Json:
        return {name: value for name, value in found.items() if name != "series"}

    blank = dict.fromkeys(("from_", "to", "as_of", "language", "every"), "")
    assert without_clock(site.ask("sla", space=space, **blank)) == without_clock(site.ask("sla", space=space))
    assert site.ask("sla", space="")["topics"] >= 10
    assert _topics(site, space, language="de") == 5
    assert _topics(site, space, language="DE") == 0


def test_two_figures_of_one_instant_are_the_same_figures(site: Site, space: str) -> None:
    as_of = ago(seconds=1).isoformat()
    assert site.ask("sla", space=space, as_of=as_of) == site.ask("sla", space=space, as_of=as_of)
