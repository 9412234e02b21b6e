"""The job types: what each takes, which stages it runs, and its limits. `GET /api/job-types` publishes this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.presets import PRESETS

Format = Literal["mp3", "m4a", "opus", "flac", "wav", "mp4"]
LOSSY: frozenset[str] = frozenset({"mp3", "m4a", "opus", "mp4"})


class Params(BaseModel):
    """Parameters of a job: unknown fields are errors, numbers carry their unit in the name."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class OutputSpec(Params):
    """One file to make."""

    format: Format = Field(description="Container and codec of the file.")
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="File name in the result; the format's own name when left out.",
    )
    bitrate_kbps: int | None = Field(
        default=None, ge=32, le=320, description="Bit rate of a lossy format; its usual one when left out."
    )
    channels: Literal["source", "mono", "stereo"] = Field(
        default="source", description="`source` keeps mono and stereo and folds more channels to stereo."
    )

    @model_validator(mode="after")
    def _bitrate_needs_a_lossy_format(self) -> Self:
        if self.bitrate_kbps is not None and self.format not in LOSSY:
            raise ValueError(f"{self.format} is lossless and takes no bitrate_kbps; leave it out")
        return self


class IngestParams(Params):
    """A source recording, and the finished files to make of it."""

    source: str = Field(min_length=1, max_length=2048, description="An asset id from /api/uploads, or an http(s) URL.")
    preset: str = Field(
        default="podcast",
        description="Loudness target by name.",
        json_schema_extra={
            "oneOf": [
                {"const": one.name, "title": f"{one.title}, {one.target_lufs:g} LUFS"} for one in PRESETS.values()
            ]
        },
    )
    target_lufs: Annotated[float, Field(ge=-40, le=-5)] | None = Field(
        default=None, description="Integrated loudness in LUFS, instead of the preset's."
    )
    ceiling_dbtp: Annotated[float, Field(ge=-12, le=0)] | None = Field(
        default=None, description="Highest true peak in dBTP, instead of the preset's."
    )
    outputs: tuple[OutputSpec, ...] = Field(
        default=(), max_length=8, description="Files to make; an MP3 for sound, an MP4 for video when left out."
    )
    title: str | None = Field(default=None, max_length=200, description="Title written into the files.")
    artist: str | None = Field(default=None, max_length=200, description="Artist or show written into the files.")
    poster_at_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="Where in a video the poster is taken, in seconds; a tenth in when left out.",
    )

    @field_validator("preset")
    @classmethod
    def _preset_exists(cls, value: str) -> str:
        if value not in PRESETS:
            raise ValueError(f"there is no preset {value!r}; choose one of {', '.join(PRESETS)}")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [spec.name or spec.format for spec in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError("two outputs share a name; give each its own name")
        return self

    @property
    def assets(self) -> tuple[str, ...]:
        """Ids of the uploads this job reads."""
        return () if is_url(self.source) else (self.source,)


class FlowParams(Params):
    """A parent without work of its own takes no parameters."""

    @property
    def assets(self) -> tuple[str, ...]:
        """Ids of the uploads this job reads: none."""
        return ()


AnyParams = IngestParams | FlowParams


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job. Without stages it is a parent: it only waits for its children."""

    name: str
    title: str
    params: type[IngestParams] | type[FlowParams]
    stages: tuple[str, ...]
    timeout_s: float
    stall_s: float
    max_failures: int = 2


JOB_TYPES: dict[str, JobType] = {
    kind.name: kind
    for kind in (
        JobType(
            name="ingest",
            title="Master a recording to an exact loudness",
            params=IngestParams,
            stages=("downloading", "analyzing", "normalizing", "encoding", "uploading"),
            timeout_s=3600,
            stall_s=120,
        ),
        JobType(
            name="flow",
            title="Run several jobs as one",
            params=FlowParams,
            stages=(),
            timeout_s=86_400,
            stall_s=86_400,
        ),
    )
}


def is_url(source: str) -> bool:
    """Whether a source is a link rather than an asset id."""
    return source.startswith(("http://", "https://"))
