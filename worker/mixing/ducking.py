"""Music goes down under speech: one gain for all of it, computed from where speech was measured.

Since the whole programme is known, the music is down before a word begins, and not a moment after it. The curve has
no corner in it, and between its points, 10 ms apart, the gain is a straight line: nothing clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.types.render import Ducking
from worker.loudness import spans
from worker.meter import Floats, Points
from worker.mixing.timeline import Part

Flags = NDArray[np.bool_]

#: Of a voice, every 10 ms of speech reach this far below its own loudness; what is softer is breath and room.
_BELOW_LU = 14.0
#: Shorter is a click or a bump, and no word.
_SHORTEST = 3
#: Words begin and end softer than they are: so many points before and behind them belong to them.
_AROUND = 4


@dataclass(frozen=True, slots=True)
class Envelope:
    """The gain of ducked music, point by point, `step` samples apart, from the programme's first sample on."""

    step: int
    points: Floats

    def gains(self, first: int, count: int) -> Floats | None:
        """The gain of each of `count` samples from `first` on; None where it is 1."""
        begin, end = first // self.step, (first + count) // self.step + 2
        if self.points[begin:end].min(initial=1.0) == 1.0:
            return None
        at = np.arange(first, first + count) / self.step - begin
        near = self.points[begin:end]
        return np.interp(at, np.arange(near.size), near)


def speech(part: Part, points: Points, lufs: float, step: int, samples: int) -> Flags:
    """Where in the programme of so many samples this part speaks, in steps of 10 ms.

    `points` and `lufs` are what its source measures.
    """
    spoken = np.zeros(samples // step + 2, np.bool_)
    first, last = part.begin // step, -(-(part.begin + part.span) // step)
    levels = np.abs(points[first:last].astype(np.float64)).max(axis=1, initial=0.0) / 32768
    for begin, end in spans(levels > 10 ** ((lufs - _BELOW_LU) / 20)):
        if end - begin >= _SHORTEST:
            place = part.place + (first + begin) * step - part.begin
            spoken[max(0, place // step - _AROUND) : (place + (end - begin) * step) // step + 1 + _AROUND] = True
    return spoken


def ducked(spoken: Flags, step: int, rate: int, how: Ducking) -> Envelope:
    """The gain that these words ask of the music."""
    place = np.arange(spoken.size)
    last = np.maximum.accumulate(np.where(spoken, place, -spoken.size * 10))
    coming = np.minimum.accumulate(np.where(spoken, place, spoken.size * 11)[::-1])[::-1]
    since_s, until_s = ((place - last) * step / rate, (coming - place) * step / rate)
    down = np.maximum(1 - until_s / how.attack_s, 1 - np.maximum(since_s - how.hold_s, 0) / how.release_s)
    # A cosine has no corners, neither where it begins nor where it ends.
    share = (1 - np.cos(np.pi * np.clip(down, 0.0, 1.0))) / 2
    return Envelope(step, 10 ** (-how.by_db * share / 20))


def together(spoken: Sequence[Flags]) -> Flags | None:
    """Where any of them speaks; None where there are none."""
    return np.logical_or.reduce(spoken) if spoken else None
