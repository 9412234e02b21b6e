"""Sound on its way through an edit list: what it is, how long to the sample, and how ffmpeg makes it.

A cut is a crossfade of the two sides into what was cut away between them, so that no click is heard and not one sample
more or less comes out. Where there is nothing beyond, at the ends and between two files, the edge is a short ramp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from worker.editing import foretold
from worker.editing.foretold import Score, Stretch
from worker.editing.graph import Graph

#: Sample numbers start again at the beginning of what was cut.
_FROM_ZERO = "asetpts=N/SR/TB"
#: A decoder's frames are small, and each goes through every filter: twenty cuts in an MP3 took six times as long.
_LARGE = "asetnsamples=n=4096:p=0"
_LAYOUTS = {1: "mono", 2: "stereo"}
#: Blends and ramps up to this long are left out of a score: nobody hears them, and no meter does.
_UNHEARD_S = 0.02


class Node(Protocol):
    """A step of the way; `emit` writes it into a graph and returns the label of what comes out."""

    def emit(self, graph: Graph) -> str:
        """Write it down."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a sound, in samples from `begin` up to `end`, and what else is done to it."""

    begin: int
    end: int
    gain_db: float = 0.0

    @property
    def samples(self) -> int:
        """Its length."""
        return self.end - self.begin

    @property
    def filters(self) -> str:
        """What makes it so loud."""
        return _volume(self.gain_db) if self.gain_db else ""


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound that ffmpeg can make: so many samples per channel at this rate, of one or two channels.

    `score` tells which samples of which files they are, while nothing but that and their level was changed.
    """

    node: Node
    rate: int
    channels: int
    samples: int
    score: Score | None = None

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.rate

    def through(self, filters: str, *, channels: int | None = None, score: Score | None = None) -> Sound:
        """Behind filters that take and give the same number of samples; `score` is what they make of it."""
        return replace(self, node=_Through(self.node, filters), channels=channels or self.channels, score=score)

    def louder(self, db: float) -> Sound:
        """All of it, by so many dB."""
        return self.through(_volume(db), score=self.score and foretold.louder(self.score, 10 ** (db / 20)))

    def faded(self, begin: int, end: int, curve: str) -> Sound:
        """With a fade in over `begin` samples and a fade out over `end`, by ffmpeg's name of a curve."""
        filters = [
            *([f"afade=t=in:ns={begin}:curve={curve}"] if begin else []),
            *([f"afade=t=out:ss={self.samples - end}:ns={end}:curve={curve}"] if end else []),
        ]
        if not filters:
            return self
        score = self.score and foretold.faded(self.score, begin, end, smooth=curve != "tri")
        return self.through(",".join(filters), score=score)

    def padded(self, begin: int, end: int) -> Sound:
        """With silence around it, in samples."""
        delay = f"adelay={begin}S:all=1" if begin else "anull"
        score = self.score and (*foretold.silence(begin), *self.score, *foretold.silence(end))
        return self.exactly(begin + self.samples + end, delay, score=score)

    def exactly(self, samples: int, filters: str = "", *, score: Score | None = None) -> Sound:
        """Behind filters after which it has `samples`, whatever they give: silence is added or the end left out."""
        if not filters and self.score:
            score = foretold.part_of(self.score, 0, samples)
        chain = f"{filters or 'anull'},apad,atrim=end_sample={samples},{_FROM_ZERO}"
        return replace(self.through(chain, score=score), samples=samples)

    def pieces(self, parts: Sequence[Piece], ramp: int) -> Sound:
        """Only these stretches, in rising order; every joint is a crossfade of about `ramp` samples."""
        samples = sum(part.samples for part in parts)
        score: Score | None = None
        if self.score and ramp <= _UNHEARD_S * self.rate:
            score = foretold.in_a_row(
                foretold.louder(foretold.part_of(self.score, part.begin, part.end), 10 ** (part.gain_db / 20))
                for part in parts
            )
        return replace(self, node=_Pieces(self.node, self.samples, tuple(parts), ramp), samples=samples, score=score)

    def as_one_of(self, rate: int, channels: int) -> Sound:
        """With another rate and number of channels, for a place beside others."""
        sound = self
        if channels != self.channels:
            sound = sound.through(to_stereo() if channels == 2 else to_mono(), channels=channels)
        if rate == self.rate:
            return sound
        samples = round(self.samples * rate / self.rate)
        return replace(sound.exactly(samples, f"aresample={rate}"), rate=rate)


def read(path: Path, stream: int, *, rate: int, channels: int, samples: int, timed: bool = False) -> Sound:
    """The sound track of a file, folded to two channels where it has more; `timed` begins when its picture does."""
    fold = "aformat=sample_fmts=fltp" + (",aformat=channel_layouts=stereo" if channels > 2 else "")
    if timed:
        fold += ",aresample=async=1:first_pts=0"
    score = (Stretch(path, 0, samples),) if samples else None
    return Sound(_Read(path, stream, f"{fold},{_LARGE},{_FROM_ZERO}"), rate, min(channels, 2), samples, score)


def silent(samples: int, *, rate: int, channels: int) -> Sound:
    """Digital silence."""
    return Sound(_Silence(samples, rate, channels), rate, channels, samples, foretold.silence(samples))


def joined(sounds: Sequence[Sound], *, crossfade: int, ramp: int) -> Sound:
    """One after the other, all of one rate and number of channels; `crossfade` and `ramp` are in samples."""
    samples = sum(sound.samples for sound in sounds) - (len(sounds) - 1) * crossfade
    first = sounds[0]
    if crossfade:
        blended = _Blended(tuple(sound.node for sound in sounds), crossfade)
        return replace(first, node=blended, samples=samples, score=None)
    edged = [
        _edged(sound, ramp if number else 0, ramp if number < len(sounds) - 1 else 0)
        for number, sound in enumerate(sounds)
    ]
    score = foretold.in_a_row(sound.score for sound in sounds) if ramp <= _UNHEARD_S * first.rate else None
    return replace(first, node=_Row(tuple(sound.node for sound in edged)), samples=samples, score=score)


def to_mono() -> str:
    """Both channels as one, at half their level each, so that it cannot clip."""
    return "pan=mono|c0=0.5*c0+0.5*c1"


def to_stereo() -> str:
    """One channel on both sides."""
    return "pan=stereo|c0=c0|c1=c0"


def _edged(sound: Sound, begin: int, end: int) -> Sound:
    """With a ramp from silence and one into it, in samples."""
    begin, end = min(begin, sound.samples // 2), min(end, sound.samples // 2)
    filters = [
        *([f"afade=t=in:ns={begin}"] if begin else []),
        *([f"afade=t=out:ss={sound.samples - end}:ns={end}"] if end else []),
    ]
    return sound.through(",".join(filters)) if filters else sound


@dataclass(frozen=True, slots=True)
class _Read:
    path: Path
    stream: int
    filters: str

    def emit(self, graph: Graph) -> str:
        return graph.add(graph.read(self.path, self.stream), self.filters)[0]


@dataclass(frozen=True, slots=True)
class _Silence:
    samples: int
    rate: int
    channels: int

    def emit(self, graph: Graph) -> str:
        source = f"anullsrc=r={self.rate}:cl={_LAYOUTS[self.channels]},aformat=sample_fmts=fltp"
        return graph.add("", f"{source},atrim=end_sample={self.samples},{_FROM_ZERO}")[0]


@dataclass(frozen=True, slots=True)
class _Through:
    of: Node
    filters: str

    def emit(self, graph: Graph) -> str:
        return graph.add(self.of.emit(graph), self.filters)[0]


@dataclass(frozen=True, slots=True)
class _Row:
    of: tuple[Node, ...]

    def emit(self, graph: Graph) -> str:
        labels = "".join(node.emit(graph) for node in self.of)
        return graph.add(labels, f"concat=n={len(self.of)}:v=0:a=1,{_FROM_ZERO}")[0]


@dataclass(frozen=True, slots=True)
class _Blended:
    of: tuple[Node, ...]
    samples: int

    def emit(self, graph: Graph) -> str:
        label = self.of[0].emit(graph)
        for node in self.of[1:]:
            label = graph.add(label + node.emit(graph), f"{_crossfade(self.samples)},{_FROM_ZERO}")[0]
        return label


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Split and met again in pairs, so that a sample passes few filters, however many pieces there are."""

    of: Node
    samples: int
    parts: tuple[Piece, ...]
    ramp: int

    def emit(self, graph: Graph) -> str:
        first, last = self.parts[0], self.parts[-1]
        # At the outer edges there is nothing to blend into.
        begin = min(self.ramp // 2, first.samples // 2) if first.begin else 0
        end = min(self.ramp // 2, last.samples // 2) if last.end < self.samples else 0
        label = self._met(graph, self.of.emit(graph), (0, len(self.parts)), 0)
        samples = sum(part.samples for part in self.parts)
        edges = [
            *([f"afade=t=in:ns={begin}"] if begin else []),
            *([f"afade=t=out:ss={samples - end}:ns={end}"] if end else []),
        ]
        return graph.add(label, ",".join(edges))[0] if edges else label

    def _reach(self, joint: int) -> int:
        """How far the pieces reach into what lies between them, in front of piece number `joint`."""
        if joint in (0, len(self.parts)):
            return 0
        return min(self.ramp // 2, self.parts[joint - 1].samples // 2, self.parts[joint].samples // 2)

    def _met(self, graph: Graph, label: str, numbers: tuple[int, int], offset: int) -> str:
        """The pieces with these numbers of the stream `label`, whose first sample has number `offset`."""
        begin, end = numbers
        start = self.parts[begin].begin - self._reach(begin)
        stop = self.parts[end - 1].end + self._reach(end)
        span = f"atrim=start_sample={start - offset}:end_sample={stop - offset},{_FROM_ZERO}"
        if end - begin == 1:
            more = f",{self.parts[begin].filters}" if self.parts[begin].filters else ""
            return graph.add(label, span + more)[0]
        if begin or end < len(self.parts):
            label = graph.add(label, span)[0]
        else:
            start = 0
        middle = (begin + end) // 2
        halves = graph.add(label, "asplit", 2)
        left = self._met(graph, halves[0], (begin, middle), start)
        right = self._met(graph, halves[1], (middle, end), start)
        met = _crossfade(2 * self._reach(middle)) if self._reach(middle) else "concat=n=2:v=0:a=1"
        return graph.add(left + right, f"{met},{_FROM_ZERO}")[0]


def _volume(db: float) -> str:
    return f"volume={db:g}dB:precision=float"


def _crossfade(samples: int) -> str:
    return f"acrossfade=ns={samples}:c1=tri:c2=tri"
