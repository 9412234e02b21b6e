"""Walks an edit list over files whose exact lengths are known, and says each entry in samples and frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shared.errors import FieldError, JobFailure
from shared.types import edits
from shared.types.edit import EditParams, beyond
from shared.types.framing import outside
from worker.editing import picture as pictures
from worker.editing import sound as sounds
from worker.editing.framing import framed
from worker.editing.picture import Picture
from worker.editing.sound import Piece, Sound
from worker.loudness import silences
from worker.meter import Points

#: Threshold in dBFS and ratio of the compressor.
_COMPRESSORS = {"light": (-18, 2), "medium": (-21, 3), "strong": (-24, 4)}
_NO_PAUSE: Points = np.zeros((0, 2), np.int16)
_CURVES = {"linear": "tri", "smooth": "hsin"}
#: Of more pauses only the longest are shortened: every cut costs the rendering time, more cuts more than their share.
MOST_PAUSES = 1500
#: What a build of ffmpeg may lack.
_OPTIONAL = {edits.Denoise: "afftdn", edits.Deess: "deesser", edits.Compress: "acompressor"}


@dataclass(frozen=True, slots=True)
class Take:
    """One file on its way, or the whole of them: its sound, and its picture when one is to come out."""

    name: str
    sound: Sound
    picture: Picture | None = None
    #: The lowest and highest sample of every 10 ms of the sound as it is now, where that is known.
    points: Points | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.picture.seconds if self.picture else self.sound.seconds

    @property
    def moment_s(self) -> float:
        """The shortest stretch of it: a frame of its picture, or a sample."""
        return float(1 / self.picture.fps) if self.picture else 1 / self.sound.rate

    def frame(self, seconds: float) -> int:
        """The frame that begins nearest to a position."""
        assert self.picture is not None
        return round(seconds * self.picture.fps)

    def sample(self, seconds: float) -> int:
        """The sample nearest to a position; beside a picture, the one with which the nearest frame begins."""
        if self.picture is None:
            return round(seconds * self.sound.rate)
        return round(self.frame(seconds) * self.sound.rate / self.picture.fps)


#: Makes the sound of a take known: the same take, with its points.
Listen = Callable[[Take], Take]


@dataclass(slots=True)
class Steps:
    """An edit list at work; `record` is what the result tells of each entry."""

    params: EditParams
    takes: dict[str, Take]
    listen: Listen
    filters: frozenset[str]
    record: list[dict[str, Any]] = field(default_factory=list)

    def walk(self) -> Take:
        """Apply every entry. Raises `JobFailure` that names the entry which asks for what is not there."""
        whole: Take | None = None
        for number, entry in enumerate(self.params.edits):
            at = f"edits.{number}"
            if isinstance(entry, edits.Join):
                take = whole = self._join(entry, at)
                cut: list[tuple[float, float]] | None = None
            else:
                name = entry.on or next(iter(self.takes))
                take, cut = self._apply(entry, at, whole or self.takes[name])
                if whole is not None:
                    whole = take
                else:
                    self.takes[name] = take
            said: dict[str, Any] = {"op": entry.op, "duration_s": round(take.seconds, 6)}
            if isinstance(entry, edits.Framing) and take.picture is not None:
                said |= {"width": take.picture.width, "height": take.picture.height}
            if type(entry) in _OPTIONAL:
                said["filter"] = _OPTIONAL[type(entry)]
            self.record.append(said if cut is None else said | {"cut": cut})
        return whole or next(iter(self.takes.values()))

    # --- one entry -------------------------------------------------------------------------------------------
    def _apply(self, entry: edits.Entry, at: str, take: Take) -> tuple[Take, list[tuple[float, float]] | None]:
        """What an entry makes of a take, and what it cut where that was not known before."""
        self._check(entry, at, take)
        if isinstance(entry, edits.RemoveSilence):
            return self._without_silence(entry, at, take)
        made = self._changed(entry, at, take)
        return replace(made, points=None), None

    def _check(self, entry: edits.Entry, at: str, take: Take) -> None:
        what = f"the file {take.name!r}" if len(self.params.files) > 1 and take.name else "the recording"
        wrong = next(beyond(entry, at, take.seconds, f"{what} at this point", slack_s=take.moment_s / 2), None)
        if isinstance(entry, edits.Framing):
            if take.picture is None:
                raise JobFailure("bad_input.no_video", f"{at} changes a picture, and {what} has none; leave it out.")
            wrong = next(outside(entry, at, take.picture.size), None)
        if wrong is not None:
            raise _beyond(wrong)
        needed = _OPTIONAL.get(type(entry))
        if needed is not None and needed not in self.filters:
            raise JobFailure(
                "unsupported.filter",
                f"{at} needs ffmpeg's filter {needed}, which this worker's build lacks; use a full build of ffmpeg.",
            )

    def _changed(self, entry: edits.Entry, at: str, take: Take) -> Take:
        match entry:
            case edits.Trim():
                made = self._kept(take, [(entry.from_s, entry.to_s)], at)
            case edits.Keep():
                made = self._kept(take, [(part.from_s, part.to_s) for part in entry.ranges], at)
            case edits.Cut():
                made = self._kept(take, _around([(part.from_s, part.to_s) for part in entry.ranges]), at)
            case edits.Gain():
                made = replace(take, sound=self._louder(entry, at, take))
            case edits.Fade():
                made = _faded(entry, take)
            case edits.Speed():
                made = _faster(entry, take)
            case edits.Pad():
                made = _padded(entry, take)
            case edits.Crop() | edits.Scale() | edits.Rotate():
                assert take.picture is not None
                made = replace(take, picture=framed(entry, take.picture))
            case _:
                made = replace(take, sound=_filtered(entry, take.sound))
        return made

    def _kept(self, take: Take, spans: Sequence[tuple[float, float | None]], at: str) -> Take:
        """Only these stretches of a take, in seconds; None is its end, and empty ones at its ends are left out."""
        times = [(start, take.seconds if end is None else min(end, take.seconds)) for start, end in spans]
        parts = [Piece(take.sample(start), min(take.sample(end), take.sound.samples)) for start, end in times]
        if not [part for part in parts if part.samples > 0]:
            raise JobFailure("bad_input.nothing_left", f"{at} leaves nothing of the recording; keep at least a part.")
        ramp = round(self.params.ramp_s * take.sound.rate)
        made = replace(take, sound=take.sound.pieces([part for part in parts if part.samples > 0], ramp))
        if take.picture is None:
            return made
        frames = [(take.frame(start), min(take.frame(end), take.picture.frames)) for start, end in times]
        return replace(made, picture=take.picture.pieces([(start, end) for start, end in frames if end > start]))

    def _louder(self, entry: edits.Gain, at: str, take: Take) -> Sound:
        if not entry.from_s and entry.to_s is None:
            return take.sound.louder(entry.db)
        begin = take.sample(entry.from_s)
        end = take.sound.samples if entry.to_s is None else min(take.sample(entry.to_s), take.sound.samples)
        if begin >= end:
            raise _beyond(FieldError(f"{at}.to_s", "is too near to from_s: no moment lies between them"))
        parts = (Piece(0, begin), Piece(begin, end, entry.db), Piece(end, take.sound.samples))
        ramp = round(self.params.ramp_s * take.sound.rate)
        return take.sound.pieces([part for part in parts if part.samples], ramp)

    def _without_silence(
        self, entry: edits.RemoveSilence, at: str, take: Take
    ) -> tuple[Take, list[tuple[float, float]]]:
        take = take if take.points is not None else self.listen(take)
        assert take.points is not None
        found = silences(take.points, take.sound.rate, below_dbfs=entry.below_dbfs, at_least_s=entry.at_least_s)
        if found and found[0][0] == 0 and found[0][1] >= take.seconds - 0.01:
            raise JobFailure(
                "bad_input.silent", f"{at} finds nothing louder than {entry.below_dbfs:g} dBFS; lower below_dbfs."
            )
        cut = []
        for start, end in found:
            # What is left of a pause lies beside the sound, on both of its sides where there is sound on both.
            last = end >= take.seconds - 0.01
            before = 0.0 if start == 0 else entry.leave_s if last else entry.leave_s / 2
            span = start + before, take.seconds if last else end - (entry.leave_s - before)
            if span[1] - span[0] >= 2 * take.moment_s:
                cut.append((round(span[0], 6), round(span[1], 6)))
        if not cut:
            return take, []
        if len(cut) > MOST_PAUSES:
            cut = sorted(sorted(cut, key=lambda span: span[0] - span[1])[:MOST_PAUSES])
        return replace(self._kept(take, _around(cut), at), points=None), cut

    # --- several files ---------------------------------------------------------------------------------------
    def _join(self, entry: edits.Join, at: str) -> Take:
        takes = [self.takes[name] for name in entry.order or tuple(self.takes)]
        for take in takes:
            if len(takes) > 1 and take.seconds < entry.crossfade_s:
                raise _beyond(
                    FieldError(f"{at}.crossfade_s", f"is longer than {take.name!r}, which has {take.seconds:.3f} s")
                )
        rate = max(take.sound.rate for take in takes)
        channels = max(take.sound.channels for take in takes)
        seen = next((take.picture for take in takes if take.picture is not None), None)
        if seen is not None:
            takes = [_beside(take, seen) for take in takes]
        one = Take("", takes[0].sound.as_one_of(rate, channels), seen)
        crossfade = one.sample(entry.crossfade_s)
        joined = sounds.joined(
            [take.sound.as_one_of(rate, channels) for take in takes],
            crossfade=crossfade if len(takes) > 1 else 0,
            ramp=round(self.params.ramp_s * rate) // 2,
        )
        if seen is None:
            return Take("", joined)
        row = pictures.joined(
            [take.picture for take in takes if take.picture is not None], one.frame(entry.crossfade_s)
        )
        return Take("", joined, row)


def _beyond(wrong: FieldError) -> JobFailure:
    return JobFailure("bad_input.beyond_end", f"{wrong.field} {wrong.message}; correct the edit list.")


def _around(cut: Sequence[tuple[float, float]]) -> list[tuple[float, float | None]]:
    """What is left when stretches are taken out."""
    starts = [0.0, *(end for _, end in cut)]
    ends: list[float | None] = [*(start for start, _ in cut), None]
    return list(zip(starts, ends, strict=True))


def _beside(take: Take, seen: Picture) -> Take:
    """A take as one of several with pictures: black where it has none, its sound exactly as long as its picture."""
    if take.picture is None:
        picture = pictures.black(seen, max(1, round(take.seconds * seen.fps)))
    else:
        picture = take.picture.as_one_of(seen)
    return replace(take, picture=picture, sound=take.sound.exactly(round(picture.frames * take.sound.rate / seen.fps)))


def _faded(entry: edits.Fade, take: Take) -> Take:
    sound = take.sound.faded(take.sample(entry.in_s), take.sample(entry.out_s), _CURVES[entry.curve])
    made = replace(take, sound=sound)
    if take.picture is None:
        return made
    begin, end = take.frame(entry.in_s), take.frame(entry.out_s)
    shown = [f"fade=t=in:s=0:n={begin}"] if begin else []
    shown += [f"fade=t=out:s={take.picture.frames - end}:n={end}"] if end else []
    return replace(made, picture=take.picture.through(",".join(shown))) if shown else made


def _faster(entry: edits.Speed, take: Take) -> Take:
    # One atempo keeps its quality between half and double.
    times = 1 if 0.5 <= entry.factor <= 2 else 2
    tempo = ",".join([f"atempo={entry.factor ** (1 / times):.9f}"] * times)
    if take.picture is None:
        return replace(take, sound=take.sound.exactly(max(1, round(take.sound.samples / entry.factor)), tempo))
    frames = max(1, round(take.picture.frames / entry.factor))
    samples = round(frames * take.sound.rate / take.picture.fps)
    return replace(
        take,
        sound=take.sound.exactly(samples, tempo),
        picture=take.picture.exactly(frames, f"setpts=PTS/{entry.factor:.9f}"),
    )


def _padded(entry: edits.Pad, take: Take) -> Take:
    begin, end = take.sample(entry.before_s), take.sample(entry.after_s)
    made = replace(take, sound=take.sound.padded(begin, end))
    if take.picture is None:
        return made
    begin, end = take.frame(entry.before_s), take.frame(entry.after_s)
    black = f"tpad=start={begin}:start_mode=add:stop={end}:stop_mode=add:color=black"
    return replace(made, picture=take.picture.through(black, frames=begin + take.picture.frames + end))


def _filtered(entry: edits.Entry, sound: Sound) -> Sound:
    """Behind what changes the sound, and none of its positions."""
    match entry:
        case edits.Channels():
            made = _chosen(entry.to, sound)
        case edits.Highpass():
            made = sound.through(f"highpass=f={entry.hertz:g}")
        case edits.Deess():
            made = sound.through(f"deesser=i={entry.amount:g}")
        case edits.Compress():
            threshold_dbfs, ratio = _COMPRESSORS[entry.amount]
            settings = f"threshold={10 ** (threshold_dbfs / 20):.6f}:ratio={ratio}:attack=10:release=150"
            made = sound.through(f"acompressor={settings}")
        case edits.Denoise():
            made = _denoised(entry, sound)
        case _:
            raise AssertionError(f"nobody knows how to {entry!r}")
    return made


def _chosen(to: str, sound: Sound) -> Sound:
    if sound.channels == 1:
        return sound.through(sounds.to_stereo(), channels=2) if to == "stereo" else sound
    match to:
        case "mono":
            return sound.through(sounds.to_mono(), channels=1)
        case "left" | "right":
            return sound.through(f"pan=mono|c0=c{0 if to == 'left' else 1}", channels=1)
        case "swap":
            return sound.through("pan=stereo|c0=c1|c1=c0")
        case _:
            return sound


def _denoised(entry: edits.Denoise, sound: Sound) -> Sound:
    # The filter gives every sample two of its steps later, and keeps the last ones for itself.
    late = 2 * (sound.rate // 80)
    filters = f"afftdn=nr={entry.reduction_db:g}:nf={entry.floor_dbfs:g}"
    return sound.exactly(sound.samples, f"apad=pad_len={2 * late},{filters},atrim=start_sample={late}")


def predicted_s(params: EditParams, takes: Mapping[str, Take]) -> float | None:
    """About how long the edit will be, when the takes are about right; None where that cannot be told."""

    def nothing_cut(take: Take) -> Take:
        return replace(take, points=_NO_PAUSE)

    try:
        return Steps(params, dict(takes), nothing_cut, frozenset(_OPTIONAL.values())).walk().seconds
    except JobFailure:
        return None
