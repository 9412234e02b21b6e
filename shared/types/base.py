"""What the parameters of all job types are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.errors import FieldError
from shared.job import Phase
from shared.presets import own_preset

Format = Literal["mp3", "m4a", "opus", "flac", "wav", "mp4"]
LOSSY: frozenset[str] = frozenset({"mp3", "m4a", "opus", "mp4"})
#: What a job reads; shared/references.py reads the last two kinds.
Source = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="An asset id from /api/uploads, an http(s) URL, `job:<job id>/<output>` for a file of a completed "
        "job, or `child:<child key>/<output>` for one of a sibling of an earlier phase.",
    ),
]


class Params(BaseModel):
    """Parameters of a job: unknown fields are errors, numbers carry their unit in the name."""

    #: Built when the first job of a type comes: a function that starts cold builds one of them, not twenty.
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, str_strip_whitespace=True)

    @model_validator(mode="after")
    def _keeps_its_presets(self) -> Self:
        """A job keeps the presets it was made with, also where a deployment's own stands behind a default."""
        for name in type(self).model_fields.keys() - self.model_fields_set:
            value = getattr(self, name)
            if own_preset(value) or (isinstance(value, Params) and value.model_fields_set):
                self.model_fields_set.add(name)
        return self


class Misplaced(ValueError):
    """Raised by a model that sees as a whole what is wrong with some of its fields, whose paths it tells."""

    def __init__(self, problems: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Member:
    """One of the children that a job is made of; `weight` is its part in the parent's percentage."""

    phase: Phase
    key: str
    type: str
    params: dict[str, Any]
    weight: float
    name: str | None = None


class JobParams(Params):
    """What one job type takes: `sources` tells what of it has to be there before a worker can begin."""

    @property
    def called(self) -> str | None:
        """What a person calls the job; when it is None, the first of its sources says."""
        return None

    @property
    def members(self) -> tuple[Member, ...]:
        """The children that the job is made of; they read what it names, and each other's files."""
        return ()

    @property
    def sources(self) -> dict[str, str]:
        """What the job reads, asset ids and links, by the field that names it, such as `tracks.0.source`."""
        return {}

    def oversized(self, sizes: Mapping[str, int]) -> Sequence[FieldError]:
        """Which files are too large, alone or together; `sizes` are bytes by source, as far as they are known."""
        return ()


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


def is_url(source: str) -> bool:
    """Whether a source is a link rather than an asset id."""
    return source.startswith(("http://", "https://"))
