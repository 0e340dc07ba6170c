"""What is told, and when: pure functions and tables, without I/O, clock or randomness of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

Channel = Literal["email", "push", "inbox"]
CHANNELS: tuple[Channel, ...] = ("email", "push", "inbox")


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of news: how urgent it is, for how long it is worth telling, and what happens where nobody can know
    whether it was sent."""

    name: str
    priority: int
    """0 goes first. What has 0 or 1 has connections of its own, which nothing else can hold up."""
    age_limit: timedelta
    unknown: Literal["resend", "drop"]
    defaults: frozenset[str]
    """The channels that are on unless the member says otherwise."""
    mandatory: bool = False
    """Asked for by the member a moment ago: only an address that is dead stops it."""
    critical: bool = False
    """Passes a pause, quiet hours, the budget and the digest."""
    staff: bool = False
    """Only staff may have it."""


_DAY = timedelta(days=1)
_ALL = frozenset(CHANNELS)
URGENT = (0, 1)
ORDINARY = (2, 3, 4)

CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category("verification", 0, _DAY, "resend", frozenset({"email"}), mandatory=True, critical=True),
        Category("application", 1, 7 * _DAY, "resend", _ALL, critical=True),
        Category("appointment", 1, 7 * _DAY, "resend", _ALL, critical=True),
        Category("answer-needed", 2, _DAY, "drop", _ALL),
        Category("claimed", 2, timedelta(hours=4), "drop", frozenset({"inbox"})),
        Category("breach", 2, _DAY, "drop", frozenset(), staff=True),
        Category("milestone", 3, 2 * _DAY, "drop", _ALL),
        Category("season", 3, 7 * _DAY, "drop", _ALL),
        Category("perk", 3, 7 * _DAY, "resend", _ALL),
        Category("jam", 3, 14 * _DAY, "resend", _ALL),
        Category("announcement", 3, 7 * _DAY, "drop", frozenset({"email", "inbox"})),
        Category("promise", 3, 3 * _DAY, "drop", frozenset(), staff=True),
        Category("digest", 4, 2 * _DAY, "drop", frozenset({"email"})),
    )
}
CHOOSABLE = tuple(name for name in CATEGORIES if name not in ("verification", "digest"))
"""The categories that a member switches on and off; the digest has a setting of its own."""

DEFAULT_BUDGET = 5


# --- Local time ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def zone_of(name: str | None) -> ZoneInfo:
    """The IANA zone of a name; UTC for what is none, since members' records may hold anything."""
    try:
        return ZoneInfo(name or "UTC")
    except (ValueError, OSError, KeyError):
        return ZoneInfo("UTC")


def is_zone(name: str) -> bool:
    """Whether this is the name of an IANA zone."""
    return zone_of(name).key == name


def instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The instant of a local time: of one that does not exist the first valid instant after it, of one that comes twice
    the first."""
    local = datetime.combine(day, at.replace(tzinfo=None))
    before = local.replace(tzinfo=zone, fold=0).utcoffset() or timedelta()
    after = local.replace(tzinfo=zone, fold=1).utcoffset() or timedelta()
    if after <= before:
        return (local - before).replace(tzinfo=UTC)
    # Clocks jump over it: the instant of the jump lies between what the two offsets make of it.
    low, high = (local - after).replace(tzinfo=UTC), (local - before).replace(tzinfo=UTC)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if (middle.astimezone(zone).utcoffset() or timedelta()) < after:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Quiet:
    """A half-open window of local time, which may span midnight. Where both ends are the same it is empty."""

    start: time
    end: time


def quiet_until(now: datetime, quiet: Quiet | None, zone: ZoneInfo) -> datetime | None:
    """When the quiet hours that ``now`` falls into are over; None outside them. Always later than ``now``."""
    if quiet is None or quiet.start == quiet.end:
        return None
    today = now.astimezone(zone).date()
    over_midnight = quiet.end < quiet.start
    for days in (-2, -1, 0, 1):
        first = _shifted(today, days)
        begins = instant(first, quiet.start, zone)
        ends = instant(_shifted(first, 1) if over_midnight else first, quiet.end, zone)
        if begins <= now < ends:
            return ends
    return None


def next_local(now: datetime, at: time, zone: ZoneInfo, weekday: int | None = None) -> datetime:
    """The next instant after ``now`` at which local clocks show ``at`` (on this ISO weekday, 1 is Monday)."""
    today = now.astimezone(zone).date()
    for days in range(-1, 10):
        day = _shifted(today, days)
        if weekday is not None and day.isoweekday() != weekday:
            continue
        found = instant(day, at, zone)
        if found > now:
            return found
    raise AssertionError("a week has every weekday")


def _shifted(day: date, days: int) -> date:
    return day + timedelta(days=days)


def local_day(now: datetime, zone: ZoneInfo) -> date:
    """The date on the member's calendar, by which budgets are counted."""
    return now.astimezone(zone).date()


# --- What a member wants -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recipient:
    """A member, as far as telling them something depends on it."""

    member_id: str
    zone: ZoneInfo
    locale: str | None = None
    name: str | None = None
    suspended: bool = False
    channels: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    quiet: Quiet | None = None
    daily_budget: int | None = DEFAULT_BUDGET
    digest: Literal["off", "daily", "weekly"] = "off"
    digest_at: time = time(9)
    digest_day: int = 1
    paused_until: datetime | None = None
    staff: bool = False
    muted: frozenset[tuple[str, str]] = frozenset()
    email: str | None = None
    suppressed: str | None = None
    """Why nothing is sent to ``email``."""
    push: tuple[int, ...] = ()
    """Push subscriptions."""

    def chose(self, category: str, channel: str) -> bool | None:
        """What the member said themselves; None where they never did."""
        said = self.channels.get(category, {}).get(channel)
        return said if isinstance(said, bool) else None

    def wants(self, category: Category, channel: str) -> bool:
        """What they said, else the category's default. What is for staff alone nobody else has."""
        if category.mandatory:
            return channel in category.defaults
        if category.staff and not self.staff:
            return False
        said = self.chose(category.name, channel)
        return channel in category.defaults if said is None else said

    def digest_closes(self, first: datetime) -> datetime:
        """When a digest whose first item came at ``first`` is told."""
        return next_local(first, self.digest_at, self.zone, self.digest_day if self.digest == "weekly" else None)


def mutes(recipient: Recipient, topic_id: str | None, data: Mapping[str, Any]) -> str | None:
    """Which of their mutes the news falls under, as a reason."""
    if not recipient.muted:
        return None
    about = [("topic", topic_id), ("space", data.get("space")), ("language", data.get("language"))]
    about += [("tag", tag) for tag in data.get("tags") or ()]
    return next((f"muted-{what}" for what, value in about if (what, value) in recipient.muted), None)


# --- Whether its reason still stands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopicNow:
    """What is known of a topic at the moment."""

    answered: bool = False
    closed: bool = False
    deleted: bool = False
    merged: bool = False
    claimed_by: str | None = None
    claimed_until: datetime | None = None


def gone(category: str, recipient: str, topic: TopicNow, actor_id: str | None, now: datetime) -> str | None:
    """Why a notification about a topic has lost its reason; None while it stands."""
    if category not in ("answer-needed", "claimed", "breach"):
        return None
    if topic.deleted:
        return "topic-deleted"
    if topic.merged:
        return "topic-merged"
    claimed_by = topic.claimed_by if topic.claimed_until is None or topic.claimed_until > now else None
    if category == "claimed":
        return None if claimed_by is not None and claimed_by == actor_id else "claim-ended"
    if topic.closed:
        return "topic-closed"
    if topic.answered:
        return "answered"
    if category == "answer-needed" and claimed_by is not None:
        return "claimed-by-them" if claimed_by == recipient else "claimed-by-another"
    return None


# --- The decision --------------------------------------------------------------------------------------------------

Action = Literal["send", "skip", "suppress", "wait", "defer", "digest"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a delivery now. ``until``: of what waits or is put off, when to look again."""

    action: Action
    reason: str | None = None
    until: datetime | None = None


SEND = Decision("send")
LOOK_AGAIN = timedelta(hours=1)
"""How soon a delivery whose address nobody has told us is looked at again, if the address does not come before: then
it is looked at at once."""


def decide(
    category: Category,
    channel: str,
    recipient: Recipient,
    now: datetime,
    expires_at: datetime,
    *,
    muted: str | None = None,
    gone: str | None = None,
    spent: int = 0,
    forced: bool = False,
) -> Decision:
    """What becomes of a delivery: mandatory, suppression, preference, source still valid, quiet hours, budget, send,
    in this order. ``spent`` counts what was told today; ``forced``: staff asked to send it again, whatever the hour."""
    if now >= expires_at:
        return Decision("skip", "too-old")
    outward = channel != "inbox"
    if channel == "email" and recipient.suppressed is not None:
        return Decision("suppress", recipient.suppressed)
    if not category.mandatory:
        if recipient.suspended:
            return Decision("skip", "member-suspended")
        if not recipient.wants(category, channel):
            return Decision("skip", "preference")
        if muted is not None:
            return Decision("skip", muted)
        paused = recipient.paused_until is not None and recipient.paused_until > now
        if outward and paused and not category.critical and not forced:
            return Decision("skip", "paused")
    if gone is not None:
        return Decision("skip", gone)
    if not outward:
        return SEND
    if channel == "email" and recipient.email is None:
        return Decision("wait", "no-address-yet", min(now + LOOK_AGAIN, expires_at))
    if category.critical or category.mandatory or forced:
        return SEND
    if (until := quiet_until(now, recipient.quiet, recipient.zone)) is not None:
        return Decision("defer", "quiet-hours", until)
    if category.name == "digest":
        return SEND
    if channel == "email" and recipient.digest != "off":
        return Decision("digest", f"in-{recipient.digest}-digest")
    if recipient.daily_budget is not None and spent >= recipient.daily_budget:
        return Decision("digest", "over-budget") if channel == "email" else Decision("skip", "over-budget")
    return SEND


# --- Trying again --------------------------------------------------------------------------------------------------

RETRY_BASE, RETRY_CAP = timedelta(seconds=5), timedelta(hours=1)


def backoff(attempts: int, luck: float) -> timedelta:
    """How long to wait after that many failed attempts; ``luck`` in [0, 1) spreads those that failed together."""
    whole: timedelta = min(RETRY_CAP, RETRY_BASE * 2 ** min(attempts, 16))
    return whole * (0.5 + luck)


def next_attempt(now: datetime, attempts: int, luck: float, expires_at: datetime) -> datetime | None:
    """When to try again; None where that would be after its age limit."""
    at = now + backoff(attempts, luck)
    return at if at < expires_at else None
