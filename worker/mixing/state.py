"""What the stages of a render hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.job import Output
from shared.types import RenderParams
from worker.delivery import Master
from worker.id3 import Chapter
from worker.loudness import Measured
from worker.mixing.covers import Cover
from worker.mixing.takes import Found
from worker.mixing.timeline import Timeline
from worker.transfer import Finished


@dataclass(slots=True)
class RenderState:
    """What the stages hand on to each other; `timeline` and `before` are there once the mix was made."""

    params: RenderParams
    target_lufs: float
    ceiling_dbtp: float
    paths: dict[str, Path]
    mix: Path
    engine: str
    sha256: dict[str, str | None] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)
    timeline: Timeline | None = None
    told: list[dict[str, Any]] = field(default_factory=list)
    spoken_s: float = 0.0
    before: Measured | None = None
    cover: Cover | None = None
    chapters: tuple[Chapter, ...] = ()
    master: Master | None = None
    files: list[Finished] = field(default_factory=list)
    extras: list[Finished] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
