"""One filter graph: its inputs, each opened once, and its lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Graph:
    """Collects what ffmpeg is to do; a label is the name of a stream between two filters."""

    inputs: list[Path] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _labels: int = 0

    def read(self, path: Path, stream: int) -> str:
        """ffmpeg's name of a track of a file; a file is opened once, however often it is read."""
        if path not in self.inputs:
            self.inputs.append(path)
        return f"[{self.inputs.index(path)}:{stream}]"

    def add(self, into: str, filters: str, outputs: int = 1) -> tuple[str, ...]:
        """Put filters behind the labels `into`; returns the labels of what comes out."""
        made = tuple(f"[n{self._labels + number}]" for number in range(outputs))
        self._labels += outputs
        self.lines.append(f"{into}{filters}{''.join(made)}")
        return made

    def end(self, label: str, name: str, *, picture: bool = False) -> None:
        """Give the last stream the name by which it is asked for."""
        self.lines.append(f"{label}{'null' if picture else 'anull'}[{name}]")

    @property
    def text(self) -> str:
        """The whole graph."""
        return ";".join(self.lines)
