"""The notifier's rules: by example, and what holds for every zone, hour and window."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.rules import (
    CATEGORIES,
    CHANNELS,
    Quiet,
    Recipient,
    TopicNow,
    backoff,
    decide,
    gone,
    instant,
    is_zone,
    local_day,
    mutes,
    next_attempt,
    next_local,
    quiet_until,
    zone_of,
)

STOCKHOLM = ZoneInfo("Europe/Stockholm")
NIGHT = Quiet(time(22), time(7))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)

ZONES = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"})).map(ZoneInfo)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31)).map(lambda naive: naive.replace(tzinfo=UTC))
TIMES = st.times().map(lambda at: at.replace(second=0, microsecond=0))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- Both days on which clocks are changed, and zones at the ends of the world --------------------------------------


@pytest.mark.parametrize(
    ("day", "at", "zone", "expected"),
    [
        (date(2026, 3, 29), time(2, 30), "Europe/Stockholm", "2026-03-29T01:00"),  # does not exist: 3 o'clock
        (date(2026, 3, 29), time(3), "Europe/Stockholm", "2026-03-29T01:00"),
        (date(2026, 10, 25), time(2, 30), "Europe/Stockholm", "2026-10-25T00:30"),  # comes twice: the first
        (date(2026, 11, 24), time(9), "Pacific/Kiritimati", "2026-11-23T19:00"),  # UTC+14
        (date(2026, 11, 24), time(9), "Pacific/Pago_Pago", "2026-11-24T20:00"),  # UTC-11
        (date(2011, 12, 30), time(9), "Pacific/Apia", "2011-12-30T10:00"),  # a day that was left out
        (date(2026, 10, 4), time(2, 15), "Australia/Lord_Howe", "2026-10-03T15:30"),  # half an hour
        (date(2026, 11, 24), time(9), "Asia/Kathmandu", "2026-11-24T03:15"),
    ],
)
def test_a_local_time_is_one_instant(day: date, at: time, zone: str, expected: str) -> None:
    assert instant(day, at, ZoneInfo(zone)) == utc(expected)


@given(st.dates(date(2000, 1, 2), date(2037, 12, 30)), TIMES, ZONES)
def test_an_instant_shows_the_time_that_was_asked_for_or_is_the_first_after_a_gap(
    day: date, at: time, zone: ZoneInfo
) -> None:
    found = instant(day, at, zone)
    local = found.astimezone(zone)
    wanted = datetime.combine(day, at)
    shown = local.replace(tzinfo=None)
    if shown == wanted:
        # Not the second of two.
        assert local.fold == 0
    else:
        # In a gap: the clocks jumped at this very instant, and from before to after what was wanted.
        before = (found - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
        assert before < wanted < shown


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-11-24T20:59:59", None),
        ("2026-11-24T21:00", "2026-11-25T06:00"),  # half-open: it begins at 22 o'clock
        ("2026-11-25T05:59:59", "2026-11-25T06:00"),
        ("2026-11-25T06:00", None),  # and is over at 7
        ("2026-03-29T00:30", "2026-03-29T05:00"),  # the night that is an hour shorter
        ("2026-10-25T00:30", "2026-10-25T06:00"),  # and the one that is longer
    ],
)
def test_quiet_hours_are_a_half_open_window_over_midnight(now: str, until: str | None) -> None:
    assert quiet_until(utc(now), NIGHT, STOCKHOLM) == (utc(until) if until else None)


def test_a_window_that_ends_at_a_time_that_comes_twice_ends_once() -> None:
    window = Quiet(time(1), time(2, 30))
    assert quiet_until(utc("2026-10-25T00:10"), window, STOCKHOLM) == utc("2026-10-25T00:30")
    # The second 02:10 of that night: the window is over.
    assert quiet_until(utc("2026-10-25T01:10"), window, STOCKHOLM) is None


def test_a_window_inside_the_hour_that_is_left_out_is_empty() -> None:
    window = Quiet(time(2, 10), time(2, 50))
    for minutes in range(0, 240, 5):
        assert quiet_until(utc("2026-03-28T23:30") + timedelta(minutes=minutes), window, STOCKHOLM) is None


@settings(max_examples=300)
@given(INSTANTS, TIMES, TIMES, ZONES)
def test_putting_off_always_ends_and_never_begins_anew(now: datetime, start: time, end: time, zone: ZoneInfo) -> None:
    until = quiet_until(now, Quiet(start, end), zone)
    if until is None:
        return
    assert now < until <= now + timedelta(hours=50)
    # Over when it says so: unless the next window begins at that very instant, as where a day was left out.
    again = quiet_until(until, Quiet(start, end), zone)
    assert again is None or again > until
    # The same answer all through the window.
    assert quiet_until(now + (until - now) / 2, Quiet(start, end), zone) == until


@given(INSTANTS, TIMES, TIMES, ZONES, ZONES)
def test_a_zone_that_changes_in_mid_window_is_decided_anew(
    now: datetime, start: time, end: time, before: ZoneInfo, after: ZoneInfo
) -> None:
    # The rule is kept, not the instant: whatever was put off before, only the new zone says whether it is quiet now.
    quiet_until(now, Quiet(start, end), before)
    until = quiet_until(now, Quiet(start, end), after)
    local = now.astimezone(after)
    shown = local.time()
    inside = start <= shown < end if start <= end else (shown >= start or shown < end)
    transitions = any(
        (now + timedelta(hours=h)).astimezone(after).utcoffset() != local.utcoffset() for h in range(-50, 50, 1)
    )
    if not transitions:
        assert (until is not None) == (inside and start != end)


@pytest.mark.parametrize(
    ("now", "at", "weekday", "expected"),
    [
        ("2026-11-24T07:59", time(9), None, "2026-11-24T08:00"),
        ("2026-11-24T08:00", time(9), None, "2026-11-25T08:00"),  # strictly after
        ("2026-11-24T08:00", time(9), 1, "2026-11-30T08:00"),
        ("2026-03-28T12:00", time(2, 30), None, "2026-03-29T01:00"),  # once, at the first valid instant
        ("2026-10-24T12:00", time(2, 30), None, "2026-10-25T00:30"),
        ("2026-10-25T00:30", time(2, 30), None, "2026-10-26T01:30"),  # not again an hour later
    ],
)
def test_a_digest_is_told_at_the_next_local_time(now: str, at: time, weekday: int | None, expected: str) -> None:
    assert next_local(utc(now), at, STOCKHOLM, weekday) == utc(expected)


@settings(max_examples=200)
@given(INSTANTS, TIMES, ZONES, st.one_of(st.none(), st.integers(1, 7)))
def test_a_daily_time_comes_within_two_days_and_a_weekly_one_within_nine(
    now: datetime, at: time, zone: ZoneInfo, weekday: int | None
) -> None:
    found = next_local(now, at, zone, weekday)
    assert now < found <= now + timedelta(days=2 if weekday is None else 9, hours=2)


@given(st.text(max_size=40))
def test_any_text_may_stand_where_a_zone_is_expected(text: str) -> None:
    assert zone_of(text) is not None
    assert is_zone(text) == (zone_of(text).key == text)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/localtime", "Mars/Olympus", "\x00", "", "europe/../UTC"])
def test_what_is_no_zone_is_utc(name: str) -> None:
    assert zone_of(name).key == "UTC"


def test_budgets_count_by_the_members_own_calendar() -> None:
    assert local_day(utc("2026-11-24T12:00"), ZoneInfo("Pacific/Kiritimati")) == date(2026, 11, 25)


# --- The decision ----------------------------------------------------------------------------------------------------


def told(category: str = "answer-needed", channel: str = "email", **more: object) -> str:
    known = {name: more.pop(name) for name in ("gone", "muted", "spent", "forced") if name in more}
    defaults: dict[str, object] = {"member_id": "ada", "zone": STOCKHOLM, "email": "ada@mail.example"}
    recipient = Recipient(**(defaults | more))  # type: ignore[arg-type]
    decision = decide(CATEGORIES[category], channel, recipient, NOW, LATER, **known)  # type: ignore[arg-type]
    return decision.action if decision.reason is None else f"{decision.action} {decision.reason}"


OFF = {"answer-needed": {"email": False}, "application": {"email": False}}
QUIET = Quiet(time(0), time(23, 59))


@pytest.mark.parametrize(
    ("expected", "situation"),
    [
        ("send", {}),
        ("suppress 550 5.1.1", {"suppressed": "550 5.1.1"}),
        ("skip preference", {"channels": OFF}),
        ("skip member-suspended", {"suspended": True}),
        ("skip muted-space", {"muted": "muted-space"}),
        ("skip paused", {"paused_until": LATER}),
        ("skip answered", {"gone": "answered"}),
        ("wait no-address-yet", {"email": None}),
        ("defer quiet-hours", {"quiet": QUIET}),
        ("digest in-daily-digest", {"digest": "daily"}),
        ("digest over-budget", {"spent": 5}),
        ("send", {"spent": 5, "daily_budget": None}),
        ("digest over-budget", {"daily_budget": 0}),
        ("skip over-budget", {"channel": "push", "spent": 5}),
        ("send", {"channel": "inbox", "spent": 9, "quiet": QUIET, "paused_until": LATER}),
        ("send", {"spent": 9, "quiet": QUIET, "paused_until": LATER, "forced": True}),
        # What is critical passes the pause, the hours and the budget, and obeys the member's own wish.
        (
            "send",
            {"category": "application", "spent": 9, "quiet": QUIET, "paused_until": LATER, "digest": "daily"},
        ),
        ("skip preference", {"category": "application", "channels": OFF}),
        ("suppress 550", {"category": "application", "suppressed": "550"}),
        # What was asked for a moment ago passes everything but a dead address.
        ("send", {"category": "verification", "suspended": True, "quiet": QUIET, "spent": 9}),
        ("suppress 550", {"category": "verification", "suppressed": "550"}),
        ("skip preference", {"category": "breach", "channels": {"breach": {"email": True}}}),
        ("send", {"category": "breach", "channels": {"breach": {"email": True}}, "staff": True}),
        ("send", {"category": "digest", "digest": "daily", "spent": 9}),
        ("defer quiet-hours", {"category": "digest", "quiet": QUIET}),
    ],
)
def test_a_decision(expected: str, situation: dict[str, object]) -> None:
    assert told(**situation) == expected  # type: ignore[arg-type]


ORDER = {
    "suppress x": {"suppressed": "x"},
    "skip preference": {"channels": OFF},
    "skip answered": {"gone": "answered"},
    "defer quiet-hours": {"quiet": QUIET},
    "digest over-budget": {"spent": 5},
}


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_of_several_reasons_the_first_in_order_is_said(first: int) -> None:
    situation: dict[str, object] = {}
    for reason in list(ORDER.values())[first:]:
        situation |= reason
    assert told(**situation) == list(ORDER)[first]  # type: ignore[arg-type]


def test_what_is_too_old_is_skipped_whatever_it_is() -> None:
    recipient = Recipient("ada", STOCKHOLM, email="ada@mail.example")
    for category in CATEGORIES.values():
        for channel in CHANNELS:
            assert decide(category, channel, recipient, LATER, LATER).reason == "too-old"


def test_a_mute_covers_the_topic_and_what_it_is_about() -> None:
    recipient = Recipient("ada", STOCKHOLM, muted=frozenset({("tag", "ios"), ("space", "lounge"), ("topic", "t9")}))
    assert mutes(recipient, "t1", {"space": "help", "tags": ["web"]}) is None
    assert mutes(recipient, "t1", {"space": "help", "tags": ["web", "ios"]}) == "muted-tag"
    assert mutes(recipient, "t1", {"space": "lounge"}) == "muted-space"
    assert mutes(recipient, "t9", {}) == "muted-topic"


def test_a_claim_of_another_stops_the_asking_until_it_runs_out() -> None:
    topic = TopicNow(claimed_by="eve", claimed_until=LATER)
    assert gone("answer-needed", "ada", topic, None, NOW) == "claimed-by-another"
    assert gone("answer-needed", "eve", topic, None, NOW) == "claimed-by-them"
    assert gone("answer-needed", "ada", topic, None, LATER) is None
    assert gone("claimed", "ada", topic, "eve", NOW) is None
    assert gone("claimed", "ada", topic, "ben", NOW) == "claim-ended"
    assert gone("breach", "sue", topic, None, NOW) is None
    assert gone("breach", "sue", TopicNow(answered=True), None, NOW) == "answered"
    assert gone("milestone", "ada", TopicNow(deleted=True), None, NOW) is None


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_retries_are_spread_and_never_further_apart_than_an_hour_and_a_half(attempts: int, luck: float) -> None:
    wait = backoff(attempts, luck)
    assert timedelta(seconds=2.5) <= wait <= timedelta(minutes=90)
    at = next_attempt(NOW, attempts, luck, LATER)
    assert at is None or NOW < at < LATER
    assert next_attempt(NOW, attempts, luck, NOW + timedelta(seconds=1)) is None
