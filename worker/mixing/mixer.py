"""The mix itself: every sample of the programme is the sum of the parts that sound there, in floats.

Nothing is clipped on the way: what adds up to more than full scale is brought down with the whole mix, when it is
mastered. One part alone, at no gain and in the middle, comes out bit by bit as it went in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from shared.types.render import Bed, Track
from worker.meter import Floats, Samples, read_frames
from worker.mixing.ducking import Envelope
from worker.mixing.takes import Take
from worker.mixing.timeline import RAMP_S, Part, Timeline

#: Samples at a time: about a second, and well within a processor's cache.
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class Mixer:
    """Everything that decides what the programme sounds like. `gains_db` is each part's, by its path."""

    timeline: Timeline
    takes: Mapping[str, Take]
    channels: int
    gains_db: Mapping[str, float]
    envelope: Envelope | None

    def blocks(self) -> Iterator[Samples]:
        """The programme, (frames, channels), from its first sample to its last."""
        with ExitStack() as stack:
            files: dict[str, BinaryIO] = {
                source: stack.enter_context(take.path.open("rb")) for source, take in self.takes.items()
            }
            for first in range(0, self.timeline.samples, _BLOCK):
                yield self._block(first, min(_BLOCK, self.timeline.samples - first), files)

    def _block(self, first: int, count: int, files: Mapping[str, BinaryIO]) -> Samples:
        mixed = np.zeros((count, self.channels), np.float32)
        under = None if self.envelope is None else self.envelope.gains(first, count)
        for part in self.timeline.parts:
            begin, end = max(first, part.place), min(first + count, part.end)
            if begin >= end:
                continue
            take = self.takes[part.clip.source]
            sound = self._read(part, take, begin, end - begin, files[part.clip.source])
            gains = _product([ramp.gains(begin, end - begin) for ramp in part.ramps])
            if under is not None and is_ducked(part):
                gains = _product([gains, under[begin - first : end - first]])
            if gains is not None:
                sound = sound * gains.astype(np.float32)[:, None]
            mixed[begin - first : end - first] += sound * self._sides(part)
        return mixed

    def _sides(self, part: Part) -> Samples:
        """The part's gain in each channel. Of equal power, and 1 in the middle."""
        gain = 10 ** (self.gains_db[part.at] / 20)
        pan = part.clip.pan if isinstance(part.clip, Track) else 0.0
        if self.channels == 1 or not pan:
            return np.full(self.channels, gain, np.float32)
        angle = (pan + 1) * np.pi / 4
        return np.array([np.cos(angle), np.sin(angle)], np.float32) * np.float32(np.sqrt(2) * gain)

    def _read(self, part: Part, take: Take, begin: int, count: int, file: BinaryIO) -> Samples:
        """`count` samples of a part from sample `begin` of the programme on."""
        sound = np.empty((count, take.channels), np.float32)
        done = 0
        while done < count:
            turn, within = divmod(begin + done - part.place, part.span)
            piece = sound[done : done + min(count - done, part.span - within)]
            file.seek(4 * take.channels * (part.begin + within))
            if read_frames(file, piece) < len(piece):
                raise EOFError(f"{take.path.name} ends before its last sample")
            if part.samples > part.span:
                piece *= self._seam(part, turn, within, len(piece)).astype(np.float32)[:, None]
            done += len(piece)
        return sound

    def _seam(self, part: Part, turn: int, within: int, count: int) -> Floats:
        """What keeps a loop from clicking where its end meets its beginning; its very beginning is left alone."""
        length = min(RAMP_S * self.timeline.rate / 2, part.span / 2)
        at = np.arange(within, within + count) + 0.5
        from_start = at if turn else np.full(count, length)
        seam: Floats = np.clip(np.minimum(from_start, part.span - at) / length, 0.0, 1.0)
        return seam


def is_ducked(part: Part) -> bool:
    """Whether a part goes down under speech."""
    return isinstance(part.clip, Bed) or (isinstance(part.clip, Track) and part.clip.role == "music")


def is_speech(part: Part) -> bool:
    """Whether music goes down under a part."""
    return isinstance(part.clip, Track) and part.clip.role == "speech"


def _product(gains: list[Floats | None]) -> Floats | None:
    """All of these gains together; None is 1."""
    product: Floats | None = None
    for one in gains:
        if one is not None:
            product = one if product is None else product * one
    return product
