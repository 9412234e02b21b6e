"""A question's answer: a table for people, and numbers to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Goal:
    """One promise about cost: what was measured, and the most that was promised."""

    what: str
    measured: float
    most: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the promise holds."""
        return self.measured <= self.most

    def __str__(self) -> str:
        word = "met   " if self.met else "MISSED"
        return f"{word} {self.what}: {self.measured:.2f}{self.unit} (at most {self.most:g}{self.unit})"


@dataclass
class Answer:
    """Rows of a table under a title, and the goals they are held to."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)

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
