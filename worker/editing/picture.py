"""The picture on its way through an edit list, in whole frames of a constant rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from worker.editing.graph import Graph
from worker.editing.sound import Node


@dataclass(frozen=True, slots=True)
class Span:
    """Frames of a file that has `total`, of which `keys` can be begun with, from `begin` up to `end`."""

    path: Path
    stream: int
    total: int
    keys: frozenset[int]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A moving picture that ffmpeg can make: so many frames, of this size, at this rate.

    `uncut` is set while it is one stretch of a file that could be copied.
    """

    node: Node
    fps: Fraction
    width: int
    height: int
    frames: int
    uncut: Span | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.frames / self.fps)

    def through(self, filters: str, *, frames: int | None = None, size: tuple[int, int] | None = None) -> Picture:
        """Behind filters; `frames` and `size` tell what comes out where that changes."""
        width, height = size or self.size
        frames = self.frames if frames is None else frames
        return replace(self, node=_Through(self.node, filters), frames=frames, width=width, height=height, uncut=None)

    def pieces(self, parts: Sequence[tuple[int, int]]) -> Picture:
        """Only these stretches, each from its first frame up to, and without, its last."""
        chosen = "+".join(f"between(n,{begin},{end - 1})" for begin, end in parts)
        clock = f"setpts=N/({self.fps.numerator}/{self.fps.denominator}*TB)"
        made = self.through(f"select='{chosen}',{clock}", frames=sum(end - begin for begin, end in parts))
        if self.uncut is None or len(parts) > 1:
            return made
        (begin, end), first = parts[0], self.uncut.begin
        return replace(made, uncut=replace(self.uncut, begin=first + begin, end=first + end))

    def exactly(self, frames: int, filters: str) -> Picture:
        """Behind filters after which it has `frames`: the last one stays, or the end is left out."""
        return self.through(f"{filters},{_constant(self.fps)},{_exactly(frames)}", frames=frames)

    def as_one_of(self, other: Picture) -> Picture:
        """With another's size, black at the sides where the shape differs, and its rate."""
        size = f"{other.width}:{other.height}"
        fitted = f"scale={size}:force_original_aspect_ratio=decrease,pad={size}:-1:-1,setsar=1,format=yuv420p"
        if self.fps == other.fps:
            return self.through(fitted, size=other.size)
        moved = replace(self, fps=other.fps, width=other.width, height=other.height)
        return moved.exactly(round(self.frames * other.fps / self.fps), fitted)


def read(
    path: Path, stream: int, *, fps: Fraction, size: tuple[int, int], frames: int, keys: frozenset[int] = frozenset()
) -> Picture:
    """The picture track of a file, at a constant rate from its first moment on, with an even size.

    Where it could be copied, `keys` are the frames with which a copy may begin.
    """
    width, height = size
    even = f"scale={width // 2 * 2}:{height // 2 * 2},setsar=1,format=yuv420p"
    node = _Read(path, stream, f"{_constant(fps)},{_exactly(frames)},{even}")
    uncut = Span(path, stream, frames, keys, 0, frames) if keys else None
    return Picture(node, fps, width // 2 * 2, height // 2 * 2, frames, uncut)


def black(like: Picture, frames: int) -> Picture:
    """A black picture."""
    return replace(like, node=_Black(like.width, like.height, like.fps, frames), frames=frames, uncut=None)


def joined(pictures: Sequence[Picture], crossfade: int) -> Picture:
    """One after the other, all of one size and rate; `crossfade` is in frames."""
    frames = sum(picture.frames for picture in pictures) - (len(pictures) - 1) * crossfade
    return replace(pictures[0], node=_Row(tuple(pictures), crossfade), frames=frames, uncut=None)


def _constant(fps: Fraction) -> str:
    return f"fps={fps.numerator}/{fps.denominator}:start_time=0"


def _exactly(frames: int) -> str:
    return f"tpad=stop=-1:stop_mode=clone,trim=end_frame={frames}"


@dataclass(frozen=True, slots=True)
class _Read:
    path: Path
    stream: int
    filters: str

    def emit(self, graph: Graph) -> str:
        return graph.add(graph.read(self.path, self.stream), self.filters)[0]


@dataclass(frozen=True, slots=True)
class _Black:
    width: int
    height: int
    fps: Fraction
    frames: int

    def emit(self, graph: Graph) -> str:
        source = f"color=black:s={self.width}x{self.height}:r={self.fps.numerator}/{self.fps.denominator}"
        return graph.add("", f"{source},trim=end_frame={self.frames},setsar=1,format=yuv420p")[0]


@dataclass(frozen=True, slots=True)
class _Through:
    of: Node
    filters: str

    def emit(self, graph: Graph) -> str:
        return graph.add(self.of.emit(graph), self.filters)[0]


@dataclass(frozen=True, slots=True)
class _Row:
    of: tuple[Picture, ...]
    crossfade: int

    def emit(self, graph: Graph) -> str:
        first = self.of[0]
        labels = [picture.node.emit(graph) for picture in self.of]
        if not self.crossfade:
            return graph.add("".join(labels), f"concat=n={len(labels)}:v=1:a=0,{_constant(first.fps)}")[0]
        label, frames = labels[0], first.frames
        for picture, other in zip(self.of[1:], labels[1:], strict=True):
            offset_s = float((frames - self.crossfade) / first.fps)
            duration_s = float(self.crossfade / first.fps)
            blend = f"xfade=transition=fade:duration={duration_s:.6f}:offset={offset_s:.6f}"
            frames += picture.frames - self.crossfade
            label = graph.add(label + other, blend)[0]
        return label
