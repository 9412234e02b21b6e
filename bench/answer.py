"""A question's answer: a table for people, and numbers to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Goal:
    """One promise about cost: what was measured, and the most that was promised."""

    what: str
    measured: float
    most: float
    unit: str = "x"
    #: Whether it was counted, so that it is the same on every machine, however busy.
    counted: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise holds."""
        return self.measured <= self.most

    def __str__(self) -> str:
        word = "met   " if self.met else "MISSED"
        return f"{word} {self.what}: {self.measured:.2f}{self.unit} (at most {self.most:g}{self.unit})"


@dataclass(frozen=True)
class Figure:
    """What is worth a line in the README: what was measured, what came out, and what it is to be seen beside."""

    what: str
    measured: str
    beside: str


@dataclass
class Answer:
    """Rows of a table under a title, the goals they are held to, and what the README tells of them."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def text(self) -> str:
        """The table, aligned, and a line per goal."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        table = []
        for first, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            table.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        return "\n".join([self.title, "-" * len(self.title), *table, "", *map(str, self.goals)])

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return asdict(self)


def at(sample: Sequence[float], share: float) -> float:
    """The value of a sample below which such a share of it lies."""
    ordered = sorted(sample)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def spread(sample: Sequence[float], digits: int = 0) -> tuple[str, ...]:
    """How many there are, and the values at `SHARES`."""
    return (str(len(sample)), *(f"{at(sample, share):.{digits}f}" for share in SHARES.values()))
