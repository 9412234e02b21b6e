"""What the stages of an edit hand on to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.job import Output
from shared.types import EditParams
from worker.deliverable import Making
from worker.delivery import Master
from worker.editing.copies import Frames
from worker.encoders import Encoding
from worker.examine import sound_track
from worker.loudness import Measured
from worker.probe import AudioStream, Media
from worker.transfer import Finished


@dataclass(slots=True)
class EditState:
    """What the stages hand on to each other; `whole` and `before` are there once the edit was rendered."""

    params: EditParams
    paths: dict[str, Path]
    engine: str
    sha256: dict[str, str | None] = field(default_factory=dict)
    media: dict[str, Media] = field(default_factory=dict)
    frames: dict[str, Frames | None] = field(default_factory=dict)
    decoded_samples: dict[str, int] = field(default_factory=dict)
    decoded_s: float = 0.0
    total_s: float | None = None
    record: list[dict[str, Any]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    before: Measured | None = None
    master: Master | None = None
    extras: list[Finished] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    picture_copied: bool = False
    #: What is known of the files that the edit is made of, and which of it earlier jobs have left.
    ledgers: dict[Path, Measured] = field(default_factory=dict)
    believed: list[str] = field(default_factory=list)
    making: Making | None = None
    copies: dict[str, Copy] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)

    def audio(self, source: str) -> AudioStream | None:
        """The sound track of a source that is worked on: the first."""
        return sound_track(self.media[source]) if self.media[source].audio else None


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished file whose tracks are the source's own, and what was measured in it."""

    made: Encoding
    path: Path
    after: Measured
    tracks: tuple[str, ...]
