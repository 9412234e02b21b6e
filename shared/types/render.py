"""Parameters of `render`: the final mix of a show.

There are two clocks. The programme is the finished file, and begins with the first moment of the intro. The show is
what lies between intro and outro, and begins where the intro gives over: tracks and music count from there, so that
another intro moves none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from shared.errors import FieldError
from shared.presets import ChosenPreset
from shared.text import plain
from shared.types.base import JobParams, Misplaced, OutputSpec, Params, Source
from shared.types.edits import LONGEST_S, Name, Position

MOST_TRACKS, MOST_OUTPUTS = 32, 8
#: An MP3's table of contents counts its chapters in one byte, and an MP4's titles are as long as one byte can tell.
MOST_CHAPTERS, MOST_TITLE_BYTES = 255, 255
#: What Spool calls its own outputs.
PEAKS, CHAPTERS = "peaks.json", "chapters.json"

Gain = Annotated[float, Field(ge=-60, le=40)]
Fade = Annotated[float, Field(ge=0, le=600)]
Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(plain)]


class Clip(Params):
    """A recording, or a part of one, and how it sounds."""

    source: Source
    start_s: Position = Field(default=0.0, description="Where in the source it begins, in seconds.")
    end_s: Position | None = Field(
        default=None, description="Where in the source it ends, in seconds; the source's end when left out."
    )
    gain_db: Gain = Field(default=0.0, description="How much louder or softer, in dB; on top of everything else.")
    fade_in_s: Fade = Field(default=0.0, description="How long it comes out of silence, in seconds.")
    fade_out_s: Fade = Field(default=0.0, description="How long it goes into silence, in seconds.")

    @field_validator("end_s")
    @classmethod
    def _runs_forward(cls, end_s: float | None, info: ValidationInfo) -> float | None:
        start_s = info.data.get("start_s")
        if end_s is not None and start_s is not None and end_s <= start_s:
            raise ValueError(f"must be later than start_s, which is {start_s:g}")
        return end_s

    @property
    def longest_s(self) -> float:
        """How long it can be at most, in seconds."""
        return (LONGEST_S if self.end_s is None else self.end_s) - self.start_s


class Levelled(Clip):
    """A clip that can be brought to a loudness before it is mixed."""

    loudness_lufs: Annotated[float, Field(ge=-50, le=-5)] | None = Field(
        default=None, description="Bring it to this loudness first; as it is recorded when left out."
    )


class Track(Levelled):
    """One track of the show: a voice, a piece of music, an effect."""

    name: Name | None = Field(default=None, description="What the result calls it.")
    role: Literal["speech", "music", "effect"] = Field(
        default="speech", description="Music goes down under speech; effects stay as they are."
    )
    offset_s: Position = Field(default=0.0, description="Where in the show it begins, in seconds.")
    pan: float = Field(
        default=0.0, ge=-1, le=1, description="From -1, left, to 1, right; equally loud wherever it is put."
    )
    mute: bool = Field(default=False, description="Leave it out of the mix, as if it were not there.")


class Bed(Clip):
    """Music under the whole show; it goes down under speech, and ends with the show."""

    offset_s: Position = Field(default=0.0, description="Where in the show it begins, in seconds.")
    below_speech_lu: Annotated[float, Field(ge=-20, le=40)] | None = Field(
        default=10.0,
        description="How much softer than the speech it is while nobody speaks; as it is recorded when null.",
    )
    loop: bool = Field(default=True, description="Begin again when it ends before the show does.")
    fade_in_s: Fade = Field(default=0.5, description="How long it comes out of silence, in seconds.")
    fade_out_s: Fade = Field(default=3.0, description="How long it goes into silence at the show's end, in seconds.")


class Ducking(Params):
    """How music goes down under speech. It is down before a word begins, and stays down in short pauses."""

    by_db: float = Field(default=12.0, ge=0, le=60, description="How much softer music is under speech; 0 for not.")
    attack_s: float = Field(default=0.3, ge=0.02, le=5, description="How long it takes to go down, before the speech.")
    hold_s: float = Field(default=0.6, ge=0, le=10, description="How long it stays down after the speech.")
    release_s: float = Field(default=1.2, ge=0.02, le=10, description="How long it takes to come back.")


class Sting(Levelled):
    """What begins or ends the programme."""

    crossfade_s: float = Field(
        default=0.0, ge=0, le=60, description="How long it and the show blend into each other, at equal power."
    )


class Chapter(Params):
    """One chapter; it lasts until the next one begins."""

    start_s: Position = Field(description="Where it begins, in seconds.")
    title: Word = Field(description="What a player shows.")
    url: str | None = Field(
        default=None, max_length=1000, pattern=r"^https?://[^\s]+$", description="A page about it; not in all formats."
    )

    @field_validator("title")
    @classmethod
    def _fits_an_mp4(cls, title: str) -> str:
        if len(title.encode()) > MOST_TITLE_BYTES:
            raise ValueError(f"may have {MOST_TITLE_BYTES} bytes of UTF-8, and has {len(title.encode())}")
        return title

    @field_validator("url")
    @classmethod
    def _is_a_link(cls, url: str | None) -> str | None:
        return None if url is None else plain(url)


class RenderOutput(OutputSpec):
    """One file to make of the mix."""

    picture: Literal["cover", "waveform"] | None = Field(
        default=None,
        description="What an MP4 shows: the cover, or the programme's waveform. The cover if there is one.",
    )


class RenderParams(JobParams):
    """The tracks of a show, what goes around and under them, and the files to make of the mix."""

    tracks: tuple[Track, ...] = Field(min_length=1, max_length=MOST_TRACKS, description="What is mixed.")
    music: Bed | None = Field(default=None, description="Music under the whole show.")
    ducking: Ducking = Field(default_factory=Ducking, description="How music goes down under speech.")
    intro: Sting | None = Field(default=None, description="What the programme begins with.")
    outro: Sting | None = Field(default=None, description="What the programme ends with.")
    preset: ChosenPreset = Field(default="podcast", validate_default=True, description="Loudness target by name.")
    target_lufs: Annotated[float, Field(ge=-40, le=-5)] | None = Field(
        default=None, description="Integrated loudness of the mix in LUFS, instead of the preset's."
    )
    ceiling_dbtp: Annotated[float, Field(ge=-12, le=0)] | None = Field(
        default=None, description="Highest true peak in dBTP, instead of the preset's."
    )
    outputs: tuple[RenderOutput, ...] = Field(
        default=(), max_length=MOST_OUTPUTS, description="Files to make of the mix; an MP3 when left out."
    )
    chapters: tuple[Chapter, ...] = Field(
        default=(), max_length=MOST_CHAPTERS, description="Chapters, one after the other."
    )
    chapters_from: Literal["programme", "show"] = Field(
        default="programme",
        description="Whether chapters count from the first moment of the finished file, or from where the show begins.",
    )
    cover: Source | None = Field(
        default=None, description="A picture for the files (JPEG, PNG, WebP, GIF, BMP): an asset id or an http(s) URL."
    )
    title: Word | None = Field(default=None, description="Title of the episode.")
    artist: Word | None = Field(default=None, description="Who made it.")
    album: Word | None = Field(default=None, description="The show it belongs to.")
    genre: Word | None = Field(default=None, description="Such as Podcast.")
    date: str | None = Field(
        default=None, pattern=r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$", description="2026 or 2026-11-22."
    )
    number: int | None = Field(default=None, ge=1, le=65_535, description="Number of the episode.")
    comment: Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(plain)] | None = Field(
        default=None, description="What it is about."
    )
    copyright: Word | None = Field(default=None, description="Whose it is.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := [*self._of_the_tracks(), *self._of_the_clips(), *self._of_the_outputs(), *self._of_the_words()]:
            raise Misplaced(problems)
        return self

    @property
    def sources(self) -> dict[str, str]:
        """Every file it reads, by the field that names it."""
        found = {f"{at}.source": clip.source for at, clip in self.clips.items()}
        return found | ({} if self.cover is None else {"cover": self.cover})

    @property
    def clips(self) -> dict[str, Clip]:
        """Everything that can be heard, and the muted tracks, by its path."""
        around = {"intro": self.intro, "music": self.music, "outro": self.outro}
        tracks = {f"tracks.{number}": track for number, track in enumerate(self.tracks)}
        return tracks | {at: clip for at, clip in around.items() if clip is not None}

    @property
    def files(self) -> tuple[RenderOutput, ...]:
        """The files to make."""
        return self.outputs or (RenderOutput(format="mp3"),)

    def _of_the_tracks(self) -> Iterator[FieldError]:
        if all(track.mute for track in self.tracks):
            yield FieldError("tracks", "are all muted, and there is nothing to mix; unmute one")
        seen: set[str] = set()
        for number, track in enumerate(self.tracks):
            if track.name in seen:
                yield FieldError(f"tracks.{number}.name", f"{track.name!r} is another track's; give each its own")
            seen |= {track.name} if track.name else set()
            if track.end_s is not None and track.offset_s + track.longest_s > LONGEST_S:
                yield FieldError(f"tracks.{number}.offset_s", f"makes the show longer than {LONGEST_S // 3600} hours")

    def _of_the_clips(self) -> Iterator[FieldError]:
        for at, clip in self.clips.items():
            # How long a bed is, and where it fades out, the show decides.
            if not isinstance(clip, Bed):
                yield from beyond(clip, at, clip.longest_s)

    def _of_the_outputs(self) -> Iterator[FieldError]:
        names = [spec.name or spec.format for spec in self.outputs]
        for number, (name, spec) in enumerate(zip(names, self.outputs, strict=True)):
            if name in names[:number]:
                yield FieldError(f"outputs.{number}.name", "two outputs share a name; give each its own name")
            if name in (PEAKS, CHAPTERS):
                yield FieldError(f"outputs.{number}.name", "is the name of another output; choose another")
            if spec.picture is not None and spec.format != "mp4":
                yield FieldError(f"outputs.{number}.picture", "is for mp4; leave it out")
            if spec.picture == "cover" and self.cover is None:
                yield FieldError(f"outputs.{number}.picture", "needs a cover, and there is none; name one in cover")

    def _of_the_words(self) -> Iterator[FieldError]:
        for number, (before, after) in enumerate(pairwise(self.chapters), start=1):
            if after.start_s <= before.start_s:
                yield FieldError(
                    f"chapters.{number}.start_s",
                    f"is {after.start_s:g}, and the chapter before it begins at {before.start_s:g}; put them in order",
                )


def beyond(clip: Clip, at: str, length_s: float, *, slack_s: float = 1e-6) -> Iterator[FieldError]:
    """The fields of a clip at path `at` that ask for more than the `length_s` seconds that it has."""
    if clip.fade_in_s + clip.fade_out_s > length_s + slack_s:
        name = "fade_out_s" if clip.fade_out_s else "fade_in_s"
        yield FieldError(f"{at}.{name}", f"makes fades longer than what they fade, which has only {length_s:.3f} s")
    if isinstance(clip, Sting) and clip.crossfade_s > length_s + slack_s:
        yield FieldError(f"{at}.crossfade_s", f"is {clip.crossfade_s:g}, and it has only {length_s:.3f} s")
