"""What the style page shows: samples of everything that a page can say, in every state."""

from datetime import datetime, timedelta
from typing import Any


def samples(now: datetime) -> dict[str, Any]:
    """Data for the style page, the same at every look but for the instants."""
    weeks = [now - timedelta(weeks=25 - n) for n in range(26)]
    kept: list[float | None] = [0.71 + 0.008 * n + (0.03 if n % 5 == 0 else 0) for n in range(26)]
    return {
        "times": [
            ("calm", now + timedelta(hours=31, minutes=12), 0.35, ""),
            ("soon", now + timedelta(hours=3, minutes=12), 0.93, "soon"),
            ("late", now - timedelta(hours=5), 1.0, "late"),
        ],
        "chart": {
            "x": [int(week.timestamp()) for week in weeks],
            "unit": "share",
            "min": 0,
            "max": 1,
            "goal": 0.9,
            "series": [{"label": "answered in time", "values": kept, "colour": "accent", "style": "line"}],
        },
        "hostile": '<script>alert("x")</script> & a very long word: ' + "Donaudampfschifffahrtsgesellschaft" * 3,
    }
