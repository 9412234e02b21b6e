"""Where everything lies in the finished programme, to the sample.

The show begins where the intro gives over to it: at the intro's end, or as much earlier as the two blend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from shared.errors import FieldError, JobFailure
from shared.types.render import Bed, Clip, RenderParams, Sting, Track, beyond
from worker.examine import LONGEST_S
from worker.meter import Floats

#: What is cut off inside a recording begins and ends with a ramp, so that no click is heard.
RAMP_S = 0.005
#: Positions are told in milliseconds at best, and a source may be shorter by what was rounded.
_SLACK_S = 0.0005


@dataclass(frozen=True, slots=True)
class Ramp:
    """From nothing to all (`rises`) or back, from sample `begin` of the programme up to `end`.

    A linear one fades; two of equal power, one up and one down, blend two sounds that have nothing in common.
    """

    begin: int
    end: int
    rises: bool
    equal_power: bool = False

    def gains(self, first: int, count: int) -> Floats | None:
        """The gain of each of `count` samples from `first` on; None where that is 1."""
        if (first >= self.end) if self.rises else (first + count <= self.begin):
            return None
        share = (np.arange(first, first + count) + 0.5 - self.begin) / (self.end - self.begin)
        share = np.clip(share if self.rises else 1 - share, 0.0, 1.0)
        return np.sin(share * np.pi / 2) if self.equal_power else share


@dataclass(frozen=True, slots=True)
class Part:
    """One clip in the programme: `samples` from `place` on.

    They are the `span` samples of its source from `begin` on, which begin again when they end.
    """

    at: str
    clip: Clip
    begin: int
    span: int
    place: int
    samples: int
    ramps: tuple[Ramp, ...] = ()

    @property
    def end(self) -> int:
        """One behind its last sample."""
        return self.place + self.samples

    def with_ramp(self, begin: int, end: int, *, rises: bool, equal_power: bool = False) -> Part:
        """With one more; one without a length is none."""
        if end <= begin:
            return self
        return replace(self, ramps=(*self.ramps, Ramp(begin, end, rises, equal_power)))


@dataclass(frozen=True, slots=True)
class Timeline:
    """The programme: its parts, and where in it the show lies."""

    rate: int
    parts: tuple[Part, ...]
    show_begins: int
    show_ends: int
    samples: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / self.rate


def heard(params: RenderParams) -> dict[str, Clip]:
    """Everything that is not muted, by its path."""
    return {at: clip for at, clip in params.clips.items() if not (isinstance(clip, Track) and clip.mute)}


def lay_out(params: RenderParams, lengths: Mapping[str, int], rate: int) -> Timeline:
    """Everything at its place; `lengths` are the samples that each source has at this rate.

    Raises `JobFailure` that names the field which asks for what is not there.
    """
    cut = {at: _cut(clip, at, lengths[clip.source], rate) for at, clip in heard(params).items()}
    tracks = [
        replace(part, place=round(part.clip.offset_s * rate)) for part in cut.values() if isinstance(part.clip, Track)
    ]
    length = max(part.end for part in tracks)
    intro, outro = cut.get("intro"), cut.get("outro")
    into = _crossfade(intro, length, rate)
    out_of = _crossfade(outro, length, rate)
    begins = intro.samples - into if intro else 0
    ends = begins + length
    parts = [replace(part, place=begins + part.place) for part in tracks]
    if "music" in cut:
        parts.append(_under(cut["music"], begins, ends, rate))
    parts = [
        _edged(part, rate)
        .with_ramp(begins, begins + into, rises=True, equal_power=True)
        .with_ramp(ends - out_of, ends, rises=False, equal_power=True)
        for part in parts
    ]
    if intro:
        parts.append(_edged(intro, rate).with_ramp(begins, intro.end, rises=False, equal_power=True))
    if outro:
        outro = replace(outro, place=ends - out_of)
        parts.append(_edged(outro, rate).with_ramp(outro.place, ends, rises=True, equal_power=True))
    samples = max(ends, outro.end if outro else 0, intro.end if intro else 0)
    if samples > LONGEST_S * rate:
        raise JobFailure(
            "bad_input.too_long",
            f"The mix would be {samples / rate / 3600:.1f} hours long, and may be {LONGEST_S // 3600}; "
            "make it in parts.",
        )
    return Timeline(rate, tuple(parts), begins, ends, samples)


def _cut(clip: Clip, at: str, length: int, rate: int) -> Part:
    """What a clip takes of its source, as yet at the beginning. Raises `JobFailure`."""
    seconds = length / rate
    begin, end = round(clip.start_s * rate), length
    if begin >= length:
        raise wrong(FieldError(f"{at}.start_s", f"is {clip.start_s:g}, and the source has only {seconds:.3f} s"))
    if clip.end_s is not None:
        if clip.end_s > seconds + _SLACK_S:
            raise wrong(FieldError(f"{at}.end_s", f"is {clip.end_s:g}, and the source has only {seconds:.3f} s"))
        end = min(length, round(clip.end_s * rate))
    if end <= begin:
        raise wrong(FieldError(f"{at}.end_s", "is too near to start_s: no sample lies between them"))
    if not isinstance(clip, Bed):
        for problem in beyond(clip, at, (end - begin) / rate, slack_s=_SLACK_S):
            raise wrong(problem)
    return Part(at, clip, begin, end - begin, 0, end - begin)


def _crossfade(sting: Part | None, show: int, rate: int) -> int:
    """How many samples of it and of the show blend. Raises `JobFailure` where the show has fewer."""
    if sting is None:
        return 0
    assert isinstance(sting.clip, Sting)
    count = min(round(sting.clip.crossfade_s * rate), sting.samples)
    if count > show:
        raise wrong(
            FieldError(
                f"{sting.at}.crossfade_s", f"is {sting.clip.crossfade_s:g}, and the show has only {show / rate:.3f} s"
            )
        )
    return count


def _under(bed: Part, begins: int, ends: int, rate: int) -> Part:
    """The bed, from its place in the show up to the show's end. Raises `JobFailure` where it begins behind that."""
    assert isinstance(bed.clip, Bed)
    place = begins + round(bed.clip.offset_s * rate)
    if place >= ends:
        seconds = (ends - begins) / rate
        raise wrong(
            FieldError(f"{bed.at}.offset_s", f"is {bed.clip.offset_s:g}, and the show has only {seconds:.3f} s")
        )
    return replace(bed, place=place, samples=ends - place if bed.clip.loop else min(bed.span, ends - place))


def _edged(part: Part, rate: int) -> Part:
    """With its own fades; where it has none, and is cut off inside its source, with short ramps."""
    clip = part.clip
    into, out_of = round(clip.fade_in_s * rate), round(clip.fade_out_s * rate)
    shortest = min(round(RAMP_S * rate), part.samples // 2)
    into = into or (shortest if part.begin else 0)
    out_of = out_of or (shortest if clip.end_s is not None else 0)
    if into + out_of > part.samples:  # a bed in a short show
        into = into * part.samples // (into + out_of)
        out_of = part.samples - into
    return part.with_ramp(part.place, part.place + into, rises=True).with_ramp(part.end - out_of, part.end, rises=False)


def wrong(problem: FieldError) -> JobFailure:
    """A position that the sources turn out not to have."""
    return JobFailure("bad_input.beyond_end", f"{problem.field} {problem.message}; correct the mix.")
