"""Medians with their spread, and tables that line up."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """What several repetitions gave."""

    middle: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The median of some figures, and how far they lie apart."""
        return cls(median(values), min(values), max(values), len(values))

    def __format__(self, spec: str) -> str:
        return f"{self.middle:{spec}} ({self.least:{spec}}–{self.most:{spec}})"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest figure that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    print(f"\n{title}\n")
    for row in (head, ["-" * width for width in widths], *rows):
        cells = (
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())
    print(flush=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the README's table."""

    what: str
    measured: str
    goal: str = ""
    kept: bool | None = None


def markdown(lines: Sequence[Line], command: str) -> None:
    """Print the README's table, with the command that made it."""
    print(f"`{command}`\n\n| what | measured | goal |\n| --- | --- | --- |")
    for line in lines:
        verdict = "" if line.kept is None else ", kept" if line.kept else ", **missed**"
        print(f"| {line.what} | {line.measured} | {line.goal}{verdict} |")
