"""Numbers and times in the words of the pages. Pure functions; every one of them answers None with a dash."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

NOTHING = "–"

_YEAR = 31_557_600
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None) -> str:
    """A span in its two largest units: "2 d 5 h", "3 h 12 min", "41 s"; from two years on in years."""
    if seconds is None:
        return NOTHING
    rest = int(abs(seconds))
    if rest < 60:
        return f"{rest} s"
    if rest >= 2 * _YEAR:
        return f"{rest // _YEAR} years"
    for n, (size, unit) in enumerate(_UNITS):
        if rest >= size:
            whole, rest = divmod(rest, size)
            below, small = _UNITS[n + 1]
            fine = rest // below
            # Ten days say enough without hours, a minute without seconds.
            return f"{whole} {unit}" if not fine or unit == "min" or whole >= 10 else f"{whole} {unit} {fine} {small}"
    raise AssertionError


def target(seconds: float) -> str:
    """A promise's duration as people say it: "48 hours", "1 hour", "30 minutes"."""
    size, unit = next(
        ((size, unit) for size, unit in ((3600, "hour"), (60, "minute")) if seconds >= size), (1, "second")
    )
    count = seconds / size
    return f"{count:g} {unit}{'' if count == 1 else 's'}"


def objective(value: float) -> str:
    """An objective as it was set: "90%", "99.5%"."""
    return f"{value * 100:.6g}%"


def left(due: datetime, now: datetime) -> str:
    """How long there is until an instant: "3 h 12 min left", or "2 d late"."""
    span = (due - now).total_seconds()
    return f"{duration(span)} left" if span >= 0 else f"{duration(span)} late"


def ago(instant: datetime | None, now: datetime) -> str:
    """How long ago something was: "just now", "4 min ago"; "in 3 h" for what is yet to come."""
    if instant is None:
        return NOTHING
    span = (now - instant).total_seconds()
    if abs(span) < 45:
        return "just now"
    return f"{duration(span)} ago" if span > 0 else f"in {duration(span)}"


def share(value: float | None, digits: int = 1) -> str:
    """A share in per cent, never rounded up to a whole it is not: 0.9996 is 99.9%."""
    if value is None:
        return NOTHING
    scale = 10 ** (digits + 2)
    return f"{int(value * scale + 1e-9) / 10**digits:.{digits}f}%"


def number(value: float | None) -> str:
    """A count with its thousands parted: 12,345."""
    return NOTHING if value is None else f"{value:,.0f}"


def instant(value: datetime | None) -> str:
    """An instant in UTC, to the minute: "24 Nov 2026, 10:05 UTC"."""
    if value is None:
        return NOTHING
    return f"{value.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def day(value: datetime | None) -> str:
    """A date in UTC: "24 Nov 2026"."""
    return NOTHING if value is None else f"{value.astimezone(UTC):%-d %b %Y}"


def initials(name: str) -> str:
    """One or two letters that stand for a face."""
    words = [word for word in name.split() if word[:1].isalnum()]
    if not words:
        return name[:1].upper() or "?"
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()


def web_address(url: str | None) -> str | None:
    """The address if a browser may follow it: the forum chose it, so nothing but http and https becomes a link."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


def spreadsheet_cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula stays a text (CWE-1236)."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@") else value
