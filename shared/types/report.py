"""Parameters of `report`, and the document that it makes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.presets import ChosenPreset
from shared.text import plain
from shared.types.base import JobParams, Source


class ReportParams(JobParams):
    """A recording to look at, and what it is meant for."""

    source: Source
    preset: ChosenPreset = Field(
        default="podcast", validate_default=True, description="What the recording is judged against."
    )
    track: int = Field(default=1, ge=1, le=16, description="Which of the sound tracks is measured; 1 is the first.")
    title: Annotated[str, Field(max_length=200), AfterValidator(plain)] | None = Field(
        default=None, description="What the page is headed with; the file's name when left out."
    )

    @property
    def sources(self) -> dict[str, str]:
        """The one recording."""
        return {"source": self.source}


class Facts(BaseModel):
    """A part of the document. A number that cannot be told is null: silence has no loudness."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


Span = Annotated[tuple[float, float], Field(description="Where it begins and ends, in seconds.")]


class TrackFacts(Facts):
    """One track of the file; what does not apply to its kind is null."""

    index: int = Field(description="Its number in the file, from 0.")
    kind: str = Field(description="audio, video, subtitle, data or attachment.")
    codec: str | None
    readable: bool = Field(description="Whether Spool can decode it.")
    language: str | None
    title: str | None
    measured: bool = Field(description="Whether this is the track that the numbers are of.")
    duration_s: float | None = None
    bit_rate_bps: int | None = None
    sample_rate: int | None = None
    bit_depth: int | None = Field(default=None, description="Of uncompressed sound.")
    channels: int | None = None
    layout: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    pixel_format: str | None = None
    rotation_deg: int | None = None
    cover: bool | None = Field(default=None, description="Whether the picture is a cover, not a film.")


class ChapterFacts(Facts):
    """A chapter mark of the file."""

    start_s: float
    end_s: float
    title: str


class SourceFacts(Facts):
    """The file that was looked at."""

    name: str
    format: str = Field(description="ffmpeg's name of the container.")
    size_bytes: int
    sha256: str | None
    bit_rate_bps: int | None
    duration_s: float = Field(description="Of the sound, as decoded.")
    damaged_frames: int = Field(description="Pieces of the sound that could not be decoded.")
    missing_s: float = Field(description="Sound at the end that the file promises and does not have.")
    tags: dict[str, str]
    chapters: list[ChapterFacts]
    tracks: list[TrackFacts]


class PresetFacts(Facts):
    """What the recording was judged against."""

    name: str
    title: str
    target_lufs: float
    ceiling_dbtp: float
    rms_dbfs: tuple[float, float] | None = Field(description="Lowest and highest plain level, where one is asked for.")
    floor_dbfs: float | None = Field(description="Highest noise floor, where one is asked for.")


class LoudnessFacts(Facts):
    """ITU-R BS.1770 and EBU R 128."""

    integrated_lufs: float | None
    to_target_lu: float | None = Field(description="Integrated loudness minus target: positive is too loud.")
    range_lu: float | None = Field(description="EBU Tech 3342.")
    max_momentary_lufs: float | None = Field(description="Loudest 0.4 s.")
    max_short_term_lufs: float | None = Field(description="Loudest 3 s.")


class ChannelFacts(Facts):
    """One channel."""

    name: str
    rms_dbfs: float | None
    peak_dbfs: float | None
    dc_offset: float = Field(description="Mean of the samples; 1 is full scale.")


class LevelFacts(Facts):
    """Peaks and plain levels. RMS of a full-scale sine is -3.01 dBFS."""

    true_peak_dbtp: float | None
    sample_peak_dbfs: float | None
    rms_dbfs: float | None
    channels: list[ChannelFacts]


class ClippedSpan(Facts):
    """A place where the sound is cut off; runs less than 0.1 s apart are one place."""

    start_s: float
    end_s: float
    samples: int


class ClippingFacts(Facts):
    """Runs of three or more samples at or over full scale on one channel."""

    samples: int
    runs: int
    longest_run_samples: int
    places: int
    first_places: list[ClippedSpan] = Field(max_length=200)


class SilenceFacts(Facts):
    """Stretches of a second or more in which no sample reaches the threshold; head and tail from any length."""

    below_dbfs: float
    head_s: float
    tail_s: float
    total_s: float
    spans: list[Span] = Field(max_length=500)


class NoiseFacts(Facts):
    """What is heard when nobody speaks."""

    floor_dbfs: float | None = Field(description="RMS of the quietest half second that is not digital silence.")
    hum_hz: Literal[50, 60] | None = Field(description="Mains hum, when it stands out through the whole recording.")
    hum_dbfs: float | None = Field(description="RMS of the hum and its first two harmonics.")


class StereoFacts(Facts):
    """The first two channels against each other."""

    correlation: float | None = Field(description="1 is the same on both sides, -1 the same inverted.")
    lowest_correlation: float | None = Field(description="Of any 3 s that are not silent.")
    mono_change_db: float | None = Field(description="What folding to mono does to the level: 0 for equal channels.")
    balance_db: float | None = Field(description="Level of the right minus the left.")
    dual_mono: bool = Field(description="Whether both carry the same samples.")
    out_of_phase_s: float = Field(description="Seconds in which the correlation over 3 s is below -0.3.")
    out_of_phase: list[Span] = Field(max_length=200)


class SeriesFacts(Facts):
    """The recording over time. Each value is the highest (of the correlation, the lowest) within its step."""

    step_s: float
    momentary_lufs: list[float | None]
    short_term_lufs: list[float | None]
    correlation: list[float | None] | None = Field(description="Over 3 s; null for mono.")


class DistributionFacts(Facts):
    """For how many seconds the momentary loudness lay in each bin; the first and the last take what is beyond."""

    from_lufs: float
    bin_lu: float
    seconds: list[float]


class Finding(Facts):
    """Something to know before the recording is published: what it is, and what to do."""

    code: str = Field(description="A stable word, such as `too_loud`.")
    weight: Literal["problem", "advice"] = Field(description="A problem breaks a rule or is heard; advice is neither.")
    message: str
    at_s: float | None = Field(default=None, description="Where it first shows.")


class QualityReport(Facts):
    """`report.json`: everything that one decode told of a recording."""

    version: Literal[1] = 1
    title: str
    source: SourceFacts
    preset: PresetFacts
    passed: bool = Field(description="Whether there is no problem.")
    findings: list[Finding] = Field(description="Problems first.")
    loudness: LoudnessFacts
    levels: LevelFacts
    clipping: ClippingFacts
    silence: SilenceFacts
    noise: NoiseFacts
    stereo: StereoFacts | None = Field(description="Null for mono.")
    series: SeriesFacts
    distribution: DistributionFacts
    engine: str = Field(description="Version of ffmpeg.")
