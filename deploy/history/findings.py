"""What reading history found besides events: what was left out, and why, in plain words."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[str, int, int], None]
"""Told (what is being read, bytes done, bytes in all) now and then, from whichever thread reads."""

EXAMPLES = 20


class HistoryError(Exception):
    """History cannot be read or brought in; the message says why, for whoever typed the command."""


@dataclass
class Findings:
    """Counts and the first examples. Give one to a reader and look at it when the reader has ended."""

    events: Counter[str] = field(default_factory=Counter)
    """Event type -> how many were made."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What the specification leaves out, such as an answer without its question -> how many."""
    mended: Counter[str] = field(default_factory=Counter)
    """What was cut to fit -> how many."""
    refused: int = 0
    """What is wrong in itself: a date that is none, a line that is no event."""
    examples: list[str] = field(default_factory=list)
    """Where and why, of the first that were refused."""
    notes: list[str] = field(default_factory=list)
    """What whoever imports should know, such as a file that is absent."""

    def refuse(self, where: str, why: str) -> None:
        """Count something that is wrong in itself."""
        self.refused += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: {why}")

    def lines(self) -> list[str]:
        """All of it but the events, for people."""
        found = list(self.notes)
        found += [f"left out: {count:,} x {what}" for what, count in sorted(self.left_out.items())]
        found += [f"mended: {count:,} x {what}" for what, count in sorted(self.mended.items())]
        found += [f"refused: {example}" for example in self.examples]
        if self.refused > len(self.examples):
            found.append(f"refused: {self.refused:,} in all, the first {len(self.examples)} are above")
        return found
