"""Parameters of `edit`: the files, the edit list, and what is to come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from shared.errors import FieldError
from shared.presets import ChosenPreset
from shared.text import plain
from shared.types.base import JobParams, Misplaced, OutputSpec, Params, Source
from shared.types.edits import (
    LONGEST_S,
    MOST_RANGES,
    Cut,
    Edit,
    Entry,
    Fade,
    Framing,
    Gain,
    Join,
    Keep,
    Name,
    Pad,
    RemoveSilence,
    Speed,
    Trim,
)
from shared.types.framing import Size, outside, size_after

MOST_ENTRIES, MOST_FILES = 200, 16
#: What the waveform is called among the outputs.
PEAKS = "peaks.json"


class NamedSource(Params):
    """One of several files."""

    name: Name = Field(description="What the edit list calls it.")
    source: Source


class EditParams(JobParams):
    """One or several recordings, an edit list, and the files to make of what it leaves."""

    source: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="The one recording: an asset id from /api/uploads, or an http(s) URL.",
    )
    files: tuple[NamedSource, ...] = Field(
        default=(), max_length=MOST_FILES, description="Several recordings, instead of `source`."
    )
    edits: tuple[Edit, ...] = Field(
        default=(),
        max_length=MOST_ENTRIES,
        description="What to do, in this order; each entry works on what those before it left.",
    )
    ramp_s: float = Field(
        default=0.005,
        ge=0,
        le=0.1,
        description="How long the two sides of a cut blend into each other, so that none is heard; 0 cuts hard.",
    )
    outputs: tuple[OutputSpec, ...] = Field(
        default=(), max_length=8, description="Files to make; an MP3 for sound, an MP4 for video when left out."
    )
    preset: ChosenPreset | None = Field(
        default=None, description="Loudness target by name; the loudness stays as the edits leave it when left out."
    )
    target_lufs: Annotated[float, Field(ge=-40, le=-5)] | None = Field(
        default=None, description="Integrated loudness in LUFS, instead of the preset's."
    )
    ceiling_dbtp: Annotated[float, Field(ge=-12, le=0)] | None = Field(
        default=None, description="Highest true peak in dBTP, instead of the preset's; -1 when neither is given."
    )
    title: Annotated[str, Field(max_length=200), AfterValidator(plain)] | None = Field(
        default=None, description="Title written into the files."
    )
    artist: Annotated[str, Field(max_length=200), AfterValidator(plain)] | None = Field(
        default=None, description="Artist or show written into the files."
    )

    @model_validator(mode="after")
    def _whole_list_makes_sense(self) -> Self:
        if problems := [*self._of_the_files(), *self._of_the_outputs(), *_Walk(self).problems()]:
            raise Misplaced(problems)
        return self

    @property
    def sources(self) -> dict[str, str]:
        """Every file, by the field that names it."""
        if self.source is not None:
            return {"source": self.source}
        return {f"files.{number}.source": file.source for number, file in enumerate(self.files)}

    @property
    def named(self) -> dict[str, str]:
        """Every file, by the name the edit list knows it by."""
        return {file.name: file.source for file in self.files} or {"source": self.source or ""}

    @property
    def loudness(self) -> tuple[float, float] | None:
        """The loudness (LUFS) and the ceiling (dBTP) asked for; None leaves the loudness as it is."""
        preset = self.preset
        target_lufs = preset.target_lufs if preset and self.target_lufs is None else self.target_lufs
        if target_lufs is None:
            return None
        usual_dbtp = preset.ceiling_dbtp if preset else -1.0
        return target_lufs, usual_dbtp if self.ceiling_dbtp is None else self.ceiling_dbtp

    def _of_the_files(self) -> Iterator[FieldError]:
        if (self.source is None) == (not self.files):
            yield FieldError("source", "is required, or files for several recordings, and never both")
        seen: set[str] = set()
        for number, file in enumerate(self.files):
            if file.name in seen:
                yield FieldError(f"files.{number}.name", f"{file.name!r} is another file's; give each its own")
            seen.add(file.name)

    def _of_the_outputs(self) -> Iterator[FieldError]:
        names = [spec.name or spec.format for spec in self.outputs]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield FieldError(f"outputs.{number}.name", "two outputs share a name; give each its own name")
            if name == PEAKS:
                yield FieldError(f"outputs.{number}.name", "is the waveform's name; choose another")
        if self.ceiling_dbtp is not None and self.preset is None and self.target_lufs is None:
            yield FieldError("ceiling_dbtp", "needs a preset or target_lufs; leave it out to keep the loudness")


@dataclass(slots=True)
class _Walk:
    """Goes through an edit list with what the parameters alone can tell: names, and the longest each file can be."""

    params: EditParams
    longest_s: dict[str, float] = field(default_factory=dict)
    #: What is known of a picture's size once an entry said it; of the whole under the empty name.
    sizes: dict[str, Size] = field(default_factory=dict)
    joined_at: int | None = None
    whole_s: float = LONGEST_S

    def problems(self) -> Iterator[FieldError]:
        """Everything in the list that cannot be, by the path of its field."""
        self.longest_s = dict.fromkeys(self.params.named, LONGEST_S)
        for number, entry in enumerate(self.params.edits):
            at = f"edits.{number}"
            if isinstance(entry, Join):
                yield from self._join(entry, number)
            elif wrong := self._misnamed(entry):
                yield FieldError(f"{at}.on", wrong)
            else:
                name = entry.on or next(iter(self.longest_s), "")
                length_s = self.whole_s if self.joined_at is not None else self.longest_s.get(name, LONGEST_S)
                yield from beyond(entry, at, length_s, "what is left")
                if isinstance(entry, Framing):
                    yield from self._framed(entry, at, "" if self.joined_at is not None else name)
                left_s = _left_s(entry, length_s)
                if left_s <= 0:
                    yield FieldError(at, "leaves nothing; keep at least a part")
                if self.joined_at is not None:
                    self.whole_s = left_s
                else:
                    self.longest_s[name] = left_s
        if len(self.longest_s) > 1 and self.joined_at is None:
            yield FieldError("edits", "several files need an entry that joins them, such as {op: join}")
        if sum(len(entry.ranges) for entry in self.params.edits if isinstance(entry, Cut | Keep)) > 2 * MOST_RANGES:
            yield FieldError("edits", f"hold more than {2 * MOST_RANGES} ranges; make two jobs of them")
        if sum(isinstance(entry, RemoveSilence) for entry in self.params.edits) > MOST_FILES:
            yield FieldError("edits", f"remove silence more than {MOST_FILES} times; once per file is enough")

    def _framed(self, entry: Framing, at: str, name: str) -> Iterator[FieldError]:
        if self.params.outputs and not any(spec.format == "mp4" for spec in self.params.outputs):
            yield FieldError(at, "changes the picture, and no output shows one; ask for an mp4, or leave it out")
        size = self.sizes.get(name)
        if size is not None:
            yield from outside(entry, at, size)
        made = size_after(entry, size)
        if made is not None:
            self.sizes[name] = made

    def _misnamed(self, entry: Entry) -> str | None:
        if self.joined_at is not None:
            return entry.on and f"the files were joined by edits.{self.joined_at}; leave it out, or put it before that"
        if entry.on is None:
            many = len(self.longest_s) > 1
            return f"is required before the files are joined; name one of {self._names()}" if many else None
        return None if entry.on in self.longest_s else f"there is no file {entry.on!r}; name one of {self._names()}"

    def _join(self, entry: Join, number: int) -> Iterator[FieldError]:
        if entry.on is not None:
            yield FieldError(f"edits.{number}.on", "a join is of all files; leave it out")
        if self.joined_at is not None:
            yield FieldError(f"edits.{number}.op", f"the files were joined by edits.{self.joined_at}; one join is all")
            return
        self.joined_at = number
        order = entry.order or tuple(self.longest_s)
        for place, name in enumerate(order):
            if name not in self.longest_s:
                yield FieldError(
                    f"edits.{number}.order.{place}", f"there is no file {name!r}; name one of {self._names()}"
                )
            elif entry.crossfade_s > self.longest_s[name]:
                yield FieldError(
                    f"edits.{number}.crossfade_s", f"is longer than {name!r}, which has {self.longest_s[name]:g} s"
                )
        for place, file in enumerate(self.params.files):
            if file.name not in order:
                yield FieldError(f"files.{place}.name", f"{file.name!r} is not in the order of edits.{number}")
        if order[0] in self.sizes:
            self.sizes[""] = self.sizes[order[0]]  # the first picture's size is the whole's
        self.whole_s = sum(self.longest_s.get(name, 0.0) for name in order) - (len(order) - 1) * entry.crossfade_s

    def _names(self) -> str:
        return ", ".join(self.longest_s)


def beyond(entry: Entry, at: str, length_s: float, what: str, *, slack_s: float = 1e-6) -> Iterator[FieldError]:
    """The fields of an entry at path `at` that ask for more than the `length_s` seconds of `what`."""
    match entry:
        case Trim() | Gain():
            if entry.from_s >= length_s - slack_s:
                yield FieldError(f"{at}.from_s", f"is {entry.from_s:g}, and {what} has only {length_s:.3f} s")
            if entry.to_s is not None and entry.to_s > length_s + slack_s:
                yield FieldError(f"{at}.to_s", f"is {entry.to_s:g}, and {what} has only {length_s:.3f} s")
        case Cut() | Keep():
            for number, part in enumerate(entry.ranges):
                if part.to_s > length_s + slack_s:
                    yield FieldError(
                        f"{at}.ranges.{number}.to_s", f"is {part.to_s:g}, and {what} has only {length_s:.3f} s"
                    )
        case Fade():
            if entry.in_s + entry.out_s > length_s + slack_s:
                name = "out_s" if entry.out_s else "in_s"
                yield FieldError(f"{at}.{name}", f"makes fades longer than {what}, which has only {length_s:.3f} s")
        case _:
            pass


def _left_s(entry: Entry, length_s: float) -> float:
    """How long what an entry leaves can be at most."""
    match entry:
        case Trim():
            return min(length_s, length_s if entry.to_s is None else entry.to_s) - entry.from_s
        case Cut():
            return length_s - sum(part.to_s - part.from_s for part in entry.ranges)
        case Keep():
            return sum(part.to_s - part.from_s for part in entry.ranges)
        case Speed():
            return length_s / entry.factor
        case Pad():
            return length_s + entry.before_s + entry.after_s
        case _:
            return length_s
