"""A true-peak limiter that lands on a loudness.

The measurement kept, for every block of about 1.4 ms, its true peak and its energy. From these two numbers follow the
limiter's gain and the loudness it leads to, without the sound, so that solving for the gain that lands on the target
takes milliseconds. ffmpeg then multiplies the sound with the envelope.

The envelope looks ahead: it is down before a peak comes, by a smooth curve (Hann, 12 ms), holds for the longest half
period of a voice, and comes back at a steady rate in dB. All channels share it, so that the image does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from worker.loudness import M_LEAD, Measured, gated
from worker.meter import Floats, Samples

#: Half the smoothing curve, and half the hold, in blocks: what is smoothed was held for longer than the curve.
_SMOOTH, _HOLD = 4, 5
_CURVE = np.hanning(2 * _SMOOTH + 3)[1:-1] / np.hanning(2 * _SMOOTH + 3)[1:-1].sum()
_REACH = _SMOOTH + _HOLD
RELEASE_DB_PER_S = 60.0
#: The limiter may take this much loudness away; what needs more would be crushed, and is delivered softer instead.
MOST_LOSS_LU = 6.0
_CHUNK = 1 << 16
_Numbers = TypeVar("_Numbers", Floats, Samples)
#: What an encoder makes of a moment it may make of all that it codes together: about 23 ms to both sides.
_FRAME_S = 0.023
#: A moment that came out too high is brought down by what it was too high, and by this.
_MORE_DB = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Holds:
    """By how many dB each block of a profile is held down beside what the ceiling asks for."""

    db: Samples


@dataclass(frozen=True, slots=True)
class Solved:
    """A gain and a ceiling, and what they lead to. `landed` is False when the target lies beyond `MOST_LOSS_LU`."""

    gain_db: float
    ceiling_dbtp: float
    integrated_lufs: float
    deepest_db: float
    limited_share: float
    landed: bool
    holds: Holds | None = None


def held(made: Measured, ceiling_dbtp: float, before: Holds | None = None) -> Holds:
    """Where a finished file passes its ceiling, to hold down these moments alone in the next one.

    Some encoders raise a drum's hit by 4 dB, once in a minute. A ceiling lowered by that much would take it from all
    others, and the loudness with it.
    """
    assert made.profile is not None
    over = made.profile.peaks - np.float32(ceiling_dbtp)
    over = np.where(over > 0, over + np.float32(_MORE_DB), np.float32(0))
    reach = max(1, round(_FRAME_S * made.sample_rate / made.profile.block))
    wide = _highest(np.pad(over, reach), 2 * reach + 1)
    if before is not None:
        known = before.db[: wide.size]
        wide[: known.size] += known
    return Holds(wide.astype(np.float32))


def reductions(
    of: Measured, gain_db: float, ceiling_dbtp: float, holds: Holds | None = None
) -> Iterator[tuple[int, Floats]]:
    """The limiter's reduction in dB (0 or more) per block: (first block, values), chunk by chunk, all of them."""
    assert of.profile is not None
    highest, release = of.profile.peaks, RELEASE_DB_PER_S * of.profile.block / of.sample_rate
    total = len(highest)
    carried, before = 0.0, np.zeros(2 * _REACH)
    for first in range(0, total + _REACH, _CHUNK):
        needed = np.zeros(min(_CHUNK, total + _REACH - first))
        part = highest[first : first + _CHUNK]
        np.maximum(part - np.float32(ceiling_dbtp - gain_db), 0.0, out=needed[: part.size])
        if holds is not None:
            down = holds.db[first : first + part.size]
            needed[: down.size] += down
        if carried > 0 or needed.any():
            # max over all earlier blocks of (what they needed - what has come back since), as one running maximum.
            falling = release * np.arange(1, needed.size + 1)
            needed = np.maximum.accumulate(np.append(carried, needed + falling))[1:] - falling
            needed[needed < 1e-6] = 0.0
            carried = float(needed[-1])
        window = np.concatenate((before, needed))
        before = window[-2 * _REACH :]
        held = _highest(window, 2 * _HOLD + 1) if window.any() else window[2 * _HOLD :]
        smooth = np.convolve(held, _CURVE, mode="valid") if held.any() else held[2 * _SMOOTH :]
        # These are the values of the blocks from `first - _REACH` on.
        begin = max(0, first - _REACH)
        yield begin, smooth[begin - first + _REACH :][: total - begin]


def _highest(values: _Numbers, width: int) -> _Numbers:
    """The running maximum over `width` values, where all of them are there."""
    highest, reached = values, 1
    while reached < width:
        step = min(reached, width - reached)
        highest, reached = np.maximum(highest[:-step], highest[step:]), reached + step
    return highest


def solve(
    of: Measured,
    target_lufs: float,
    ceiling_dbtp: float,
    *,
    check: Callable[[], None],
    holds: Holds | None = None,
) -> Solved:
    """The gain with which the limited sound has the target loudness, to 0.002 LU; `check` is called between tries."""
    gain, slope = target_lufs - of.integrated_lufs, 1.0
    most = gain + MOST_LOSS_LU
    before: tuple[float, float] | None = None
    for _ in range(20):
        check()
        reached, deepest, share = _limited(of, gain, ceiling_dbtp, holds)
        missing = target_lufs - reached
        if abs(missing) <= 0.002 or (missing > 0 and gain >= most):
            break
        if before is not None and gain != before[0]:
            slope = min(1.0, max(0.1, (reached - before[1]) / (gain - before[0])))
        before = (gain, reached)
        gain = min(most, gain + missing / slope)
    return Solved(gain, ceiling_dbtp, reached, deepest, share, abs(missing) <= 0.02, holds)


def _limited(of: Measured, gain_db: float, ceiling_dbtp: float, holds: Holds | None) -> tuple[float, float, float]:
    """Loudness after the limiter, its deepest reduction in dB, and the share of the time in which it works.

    What a window of 0.4 s loses is what its blocks lose, each by its own energy; its loudness was measured.
    """
    assert of.profile is not None
    block, hop = of.profile.block, of.sample_rate // 10
    plain, left = np.zeros((2, of.momentary.size + 2))
    deepest, working = 0.0, 0
    for first, values in reductions(of, gain_db, ceiling_dbtp, holds):
        energy = of.profile.energy[first : first + values.size].astype(np.float64)
        step = (np.arange(first, first + values.size) * block + block // 2) // hop
        step = np.minimum(step, plain.size - 1)
        place = slice(step[0], step[-1] + 1) if step.size else slice(0, 0)
        plain[place] += np.bincount(step - place.start, energy)
        left[place] += np.bincount(step - place.start, energy * 10 ** (-values / 10))
        deepest = max(deepest, float(values.max(initial=0.0)))
        working += int(np.count_nonzero(values > 0.1))
    share = _in_windows(left[:-2]) / np.maximum(_in_windows(plain[:-2]), 1e-30)
    momentary = of.momentary[M_LEAD:] + gain_db + 10 * np.log10(np.maximum(share, 1e-12))
    return gated(momentary), deepest, working / max(1, of.profile.peaks.size)


def _in_windows(steps: Floats) -> Floats:
    """Energy in each full window of 0.4 s, from that in steps of 0.1 s."""
    windows: Floats = np.convolve(steps, np.ones(M_LEAD + 1), mode="valid")
    return windows


def envelope(of: Measured, solved: Solved, begin: int = 0) -> Iterator[bytes]:
    """The gain of every sample from `begin` on (at most 1, without `gain_db`) as 32-bit floats, in pieces of under a
    second.

    Between the middles of blocks it is a straight line. More samples come than the sound has.
    """
    assert of.profile is not None
    block = of.profile.block
    flat = np.ones(512 * block, np.float32).tobytes()
    skip, previous = begin + block // 2, None
    for _, values in reductions(of, solved.gain_db, solved.ceiling_dbtp, solved.holds):
        gains = 10 ** (-values / 20)
        for at in range(0, gains.size, 512):
            # A piece goes from the middle of the block before it to the middle of its last one.
            ends = np.append(gains[at] if previous is None else previous, gains[at : at + 512])
            previous, count = float(ends[-1]), (ends.size - 1) * block
            if skip >= count:
                skip -= count
                continue
            if ends.min() == 1.0:
                piece = flat[: 4 * count]
            else:
                piece = np.interp(np.arange(1, count + 1) / block, np.arange(ends.size), ends).astype("<f4").tobytes()
            yield piece[4 * skip :]
            skip = 0
    yield flat
