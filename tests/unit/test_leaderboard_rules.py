"""Rule sets as files, windows as numbers, and what speaks against an entry."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from services.leaderboard import rules
from services.leaderboard.rewriting import RulesError, read_rules
from services.leaderboard.rules import Appointments, RuleBook, entry_id, verdict
from services.leaderboard.windows import Window, period
from tests.oracle.ledger import window_of

FOLDER = Path(rules.__file__).parent
CLASSIC = FOLDER / "rulesets" / "classic.v1.yaml"


def test_the_file_of_the_first_rules_says_what_the_first_migration_sets() -> None:
    classic = read_rules(CLASSIC)
    migration = (FOLDER / "migrations" / "0001_leaderboard.sql").read_text("utf-8")
    stored = migration.partition("'classic', '-infinity', '")[2].partition("')")[0]
    assert json.loads(stored) == json.loads(classic.rules.model_dump_json(by_alias=True))
    assert (classic.rule_set, classic.version, classic.since) == ("classic", 1, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("points: -1", "greater than or equal to 0"),
        ("points: 1.5", "integer"),
        ("points: true", "integer"),
        ("point: 1", "Extra inputs"),
        ("points: [", "while parsing"),
        ("points: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_a_rule_set_that_is_not_one_is_refused_in_plain_words(tmp_path: Path, change: str, says: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(CLASSIC.read_text("utf-8").replace("points: 10", change))
    with pytest.raises(RulesError, match=says):
        read_rules(file)


@pytest.mark.parametrize("since", ["2026-01-01", "2026-01-01T00:00:00Z", "'2026-01-01T02:00:00+02:00'"])
def test_a_date_is_its_utc_midnight(tmp_path: Path, since: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(CLASSIC.read_text("utf-8").replace("from: null", f"from: {since}"))
    assert read_rules(file).since == datetime(2026, 1, 1, tzinfo=UTC)


def test_of_versions_the_highest_that_has_begun_holds() -> None:
    first = read_rules(CLASSIC)
    second = first.model_copy(update={"version": 2, "since": datetime(2026, 1, 1, tzinfo=UTC)})
    third = first.model_copy(update={"version": 3, "since": datetime(2025, 1, 1, tzinfo=UTC)})
    book = RuleBook([second, third, first])
    assert book.at(datetime(2024, 12, 31, tzinfo=UTC)) is first.rules
    assert book.at(datetime(2025, 1, 1, tzinfo=UTC)) is third.rules
    assert book.at(datetime(2026, 6, 1, tzinfo=UTC)) is third.rules


def test_of_several_reasons_the_first_in_the_contracts_order_stands() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    reply = {"author_kind": "bot", "visibility": "internal", "deleted_at": now, "restored_at": None}
    everything = {
        "topic_deleted": True,
        "own_topic": True,
        "own_kudos": True,
        "late": True,
        "not_a_question": True,
        "taken_back": True,
        "unaccepted": True,
        "moved": True,
        "superseded": "kudos-repeated",
        "capped": True,
    }
    expected = [
        ("void", "bot"),
        ("void", "internal"),
        ("void", "own-topic"),
        ("void", "own-kudos"),
        ("void", "late"),
        ("void", "not-a-question"),
        ("revoked", "deleted"),
        ("revoked", "topic-deleted"),
        ("revoked", "taken-back"),
        ("revoked", "unaccepted"),
        ("revoked", "moved"),
        ("superseded", "kudos-repeated"),
        ("capped", None),
        ("effective", None),
    ]
    changes = [
        ("author_kind", "member"),
        ("visibility", "public"),
        *((name, False) for name in ("own_topic", "own_kudos", "late", "not_a_question")),
        ("deleted_at", None),
        *((name, False) for name in ("topic_deleted", "taken_back", "unaccepted", "moved")),
        ("superseded", None),
        ("capped", False),
    ]
    found = [verdict(reply, **everything)]
    for name, value in changes:
        (reply if name in reply else everything)[name] = value
        found.append(verdict(reply, **everything))
    assert found == expected


def test_entry_ids_are_distinct_and_never_too_long() -> None:
    assert entry_id("reply", "r1") == "reply/r1"
    pairs = [("a", "bc"), ("ab", "c"), ("1:a", "b"), ("", "abc"), ("a", "b" * 255)]
    assert len({entry_id("solution", *pair) for pair in pairs}) == len(pairs)
    assert max(len(entry_id("solution", *pair)) for pair in pairs) <= 255
    assert len(entry_id("kudos", "😀" * 255)) <= 255


def test_a_retirement_at_the_instant_of_an_appointment_holds() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    was_star = Appointments([(noon, True), (noon + hour, False), (noon + hour, True), (noon + 2 * hour, True)])
    instants = [noon - hour, noon, noon + hour, noon + 1.5 * hour, noon + 2 * hour]
    assert [was_star(at) for at in instants] == [False, True, False, False, True]


@pytest.mark.parametrize(
    "day", [date(2024, 2, 29), date(2024, 12, 31), date(2026, 1, 1), date(1970, 1, 1), date(2, 1, 1)]
)
def test_windows_are_those_of_the_calendar(day: date) -> None:
    for window in Window:
        if window is Window.season:
            continue
        found = period(window, day)
        expected = window_of(window, day) or (None, None)
        assert (found.start, found.end) == expected
    assert len({period(window, day).number for window in Window if window is not Window.season}) == 6


def test_no_window_reaches_beyond_the_calendar() -> None:
    for window in (Window.day, Window.week, Window.month, Window.quarter, Window.year):
        with pytest.raises(OverflowError):
            period(window, date.max)
        with pytest.raises(OverflowError):
            period(window, date.min)  # which PostgreSQL's driver takes for minus infinity
