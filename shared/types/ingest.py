"""Parameters of `ingest`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from shared.presets import ChosenPreset
from shared.text import plain
from shared.types.base import JobParams, OutputSpec, Params, Source


class Mastering(Params):
    """What finished files to make of a recording."""

    preset: ChosenPreset = Field(default="podcast", validate_default=True, description="Loudness target by name.")
    target_lufs: Annotated[float, Field(ge=-40, le=-5)] | None = Field(
        default=None, description="Integrated loudness in LUFS, instead of the preset's."
    )
    ceiling_dbtp: Annotated[float, Field(ge=-12, le=0)] | None = Field(
        default=None, description="Highest true peak in dBTP, instead of the preset's."
    )
    outputs: tuple[OutputSpec, ...] = Field(
        default=(), max_length=8, description="Files to make; an MP3 for sound, an MP4 for video when left out."
    )
    title: Annotated[str, Field(max_length=200), AfterValidator(plain)] | None = Field(
        default=None, description="Title written into the files."
    )
    artist: Annotated[str, Field(max_length=200), AfterValidator(plain)] | None = Field(
        default=None, description="Artist or show written into the files."
    )
    poster_at_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="Where in a video the poster is taken, in seconds; a tenth in when left out.",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [spec.name or spec.format for spec in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError("two outputs share a name; give each its own name")
        return self


class _Recording(JobParams):
    """What is read; a base of its own, so that it comes first in the schema."""

    source: Source


class IngestParams(Mastering, _Recording):
    """A source recording, and the finished files to make of it."""

    speed: Literal["normal", "fast"] = Field(
        default="normal",
        description="`fast` makes MP3 and M4A in about half the time, with less care for fine detail: for drafts. "
        "Loudness and peaks are as exact.",
    )

    @property
    def sources(self) -> dict[str, str]:
        """The one recording."""
        return {"source": self.source}
