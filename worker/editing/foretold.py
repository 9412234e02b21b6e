"""What an edit will measure, told from what its sources measured, so that it can be made at its loudness at once.

A score says which samples of which files a sound is made of, and how loud. A ledger knows, for every 1.4 ms of a file,
the highest peak and about the K-weighted energy, and the exact loudness of every 0.4 s, which corrects the energy. Put
together by the score they are the ledger of the edit. The blends at its cuts, of some milliseconds, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.loudness import M_LEAD, S_LEAD, SILENCE_LUFS, Measured
from worker.meter import Floats, Points, Profile, Samples, block_samples

#: A fade is this many straight lines.
_FADE_STEPS = 24
#: How often the energy is corrected: windows overlap, and each correction leaves less to the next.
_CORRECTIONS = 3
#: What BS.1770 takes from the logarithm of the energy.
_OFFSET_LU = 0.691


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples of a decoded file from `begin` up to `end`; None is silence. `gain` is a ratio, at its begin and end."""

    of: Path | None
    begin: int
    end: int
    gain: tuple[float, float] = (1.0, 1.0)

    @property
    def samples(self) -> int:
        """Its length."""
        return self.end - self.begin

    def part(self, begin: int, end: int) -> Stretch:
        """From its sample `begin` up to its sample `end`."""
        first, last = (self.gain[0] + (self.gain[1] - self.gain[0]) * at / self.samples for at in (begin, end))
        return replace(self, begin=self.begin + begin, end=self.begin + end, gain=(first, last))

    def louder(self, begin: float, end: float) -> Stretch:
        """With another gain on top of its own."""
        return replace(self, gain=(self.gain[0] * begin, self.gain[1] * end))


Score = tuple[Stretch, ...]


def silence(samples: int) -> Score:
    """Nothing, for so long."""
    return (Stretch(None, 0, samples),) if samples > 0 else ()


def part_of(score: Score, begin: int, end: int) -> Score:
    """The samples of a score from `begin` up to `end`, with silence behind its end."""
    found, at = list[Stretch](), 0
    for one in score:
        first, last = max(begin - at, 0), min(end - at, one.samples)
        if first < last:
            found.append(one.part(first, last))
        at += one.samples
    return (*found, *silence(end - max(begin, at)))


def louder(score: Score, ratio: float) -> Score:
    """All of it, by a ratio."""
    return tuple(one.louder(ratio, ratio) for one in score)


def faded(score: Score, begin: int, end: int, *, smooth: bool) -> Score:
    """With a fade in over the first `begin` samples and a fade out over the last `end`."""
    samples = sum(one.samples for one in score)
    steps = np.linspace(0, 1, _FADE_STEPS + 1)
    curve = (1 - np.cos(np.pi * steps)) / 2 if smooth else steps
    parts = list[Score]()
    for length, first, rising in ((begin, 0, True), (end, samples - end, False)):
        if not rising:
            parts.append(part_of(score, begin, samples - end))
        if not length:
            continue
        edges = [first + round(length * step) for step in steps]
        gains = curve if rising else curve[::-1]
        for (left, right), (low, high) in zip(pairwise(edges), pairwise(gains.tolist()), strict=True):
            parts.append(tuple(_on_a_line(part_of(score, left, right), low, high)))
    return tuple(one for part in parts for one in part)


def _on_a_line(score: Score, first: float, last: float) -> Iterator[Stretch]:
    samples, at = sum(one.samples for one in score), 0
    for one in score:
        left, right = (first + (last - first) * (at + done) / samples for done in (0, one.samples))
        yield one.louder(left, right)
        at += one.samples


@dataclass(frozen=True, slots=True)
class _Grid:
    """The samples of the files, and of the edit when it comes out at another rate."""

    rate: int
    to: int

    def units(self, score: Score, unit: int) -> Iterator[tuple[Stretch, NDArray[np.int64], Floats, Floats]]:
        """Every stretch, cut where units of the edit begin: it, the units, the cuts in its file, the gains there."""
        at, length = 0, unit * self.rate / self.to
        for one in score:
            first, last = int(at / length), math.ceil((at + one.samples) / length)
            cuts = np.clip(np.arange(first, last + 1) * length, at, at + one.samples)
            gains = np.interp(cuts, (at, at + one.samples), one.gain)
            yield one, np.arange(first, last, dtype=np.int64), cuts - at + one.begin, gains
            at += one.samples


def foretell(
    score: Score | None, ledgers: Mapping[Path, Measured], *, rate: int, channels: int, to_rate: int | None = None
) -> Measured | None:
    """What the sound of a score will measure, also at another rate; None where a ledger is missing, or it is too short
    to have a loudness."""
    if score is None:
        return None
    grid = _Grid(rate, to_rate or rate)
    used = {one.of: ledgers.get(one.of) for one in score if one.of is not None}
    samples, hop = round(sum(one.samples for one in score) * grid.to / rate), grid.to // 10
    if samples <= M_LEAD * hop or not all(_fits(one, rate, channels) for one in used.values()):
        return None
    known = {path: found for path, found in used.items() if found is not None}
    profile = _profile(score, known, samples, grid)
    steps = _in_steps(profile.energy, profile.block, samples // hop, hop)
    points = _points(score, known, samples, grid)
    true_peak = float(10 ** (profile.peaks.max(initial=-140.0) / 20))
    highest = float(np.abs(points.astype(np.int32)).max(initial=0)) / 32767
    return Measured(
        sample_rate=grid.to,
        channels=channels,
        samples=samples,
        momentary=_windows(steps, M_LEAD + 1, hop),
        short_term=_windows(steps, S_LEAD + 1, hop),
        points=points,
        true_peak=true_peak,
        sample_peak=min(true_peak, highest) if highest < 1 else true_peak,
        clipped_samples=None,
        damaged_frames=sum(found.damaged_frames for found in known.values()),
        profile=profile,
    )


def _fits(ledger: Measured | None, rate: int, channels: int) -> bool:
    return (
        ledger is not None and ledger.profile is not None and (ledger.sample_rate, ledger.channels) == (rate, channels)
    )


def _profile(score: Score, ledgers: Mapping[Path, Measured], samples: int, grid: _Grid) -> Profile:
    block, of_files = block_samples(grid.to), block_samples(grid.rate)
    peaks = np.full(-(-samples // block), -140.0, np.float32)
    energy = np.zeros(peaks.size)
    summed = {path: np.append(0.0, np.cumsum(_corrected(found))) for path, found in ledgers.items()}
    for one, units, cuts, gains in grid.units(score, block):
        if one.of is None:
            continue
        known = ledgers[one.of].profile
        assert known is not None
        total = summed[one.of]
        through = np.interp(cuts / of_files, np.arange(total.size), total)
        energy[units] += np.diff(through) * ((gains[1:] + gains[:-1]) / 2) ** 2 * grid.to / grid.rate
        loudest = 20 * np.log10(np.maximum(np.maximum(gains[1:], gains[:-1]), 1e-7))
        found = _highest_between(known.peaks, cuts, of_files) + loudest
        peaks[units] = np.maximum(peaks[units], found)
    return Profile(block, peaks, energy.astype(np.float32))


def _highest_between(values: Samples, cuts: Floats, unit: int) -> Samples:
    """The highest of the values, one for each unit, that lie between every cut and the next, which is no further."""
    left = np.clip(cuts[:-1] / unit, 0, values.size - 1).astype(np.int64)
    right = np.clip(np.ceil(cuts[1:] / unit) - 1, left, values.size - 1).astype(np.int64)
    highest: Samples = np.maximum(values[left], values[right])
    return highest


def _corrected(ledger: Measured) -> Floats:
    """The energy of every block, so that every window of 0.4 s has the loudness that was measured in it."""
    assert ledger.profile is not None
    energy: Floats = ledger.profile.energy.astype(np.float64)
    block, hop, windows = ledger.profile.block, ledger.sample_rate // 10, np.ones(M_LEAD + 1)
    steps = ledger.momentary.size
    if steps <= M_LEAD:
        return energy
    place = np.minimum((np.arange(energy.size) * block + block // 2) // hop, steps - 1)
    wanted = 10 ** ((ledger.momentary[M_LEAD:] + _OFFSET_LU) / 10) * (M_LEAD + 1) * hop
    for _ in range(_CORRECTIONS):
        there = np.convolve(_in_steps(energy, block, steps, hop), windows, mode="valid")
        ratio = np.clip(wanted / np.maximum(there, 1e-30), 0.25, 4.0)
        # A step belongs to four windows, fewer at the ends.
        counts = np.convolve(np.ones(ratio.size), windows)
        energy = energy * (np.convolve(ratio, windows) / counts)[place]
    return energy


def _in_steps(energy: NDArray[np.floating[Any]], block: int, steps: int, hop: int) -> Floats:
    """The energy of every 0.1 s, from that of every block."""
    through = np.append(0.0, np.cumsum(energy, dtype=np.float64))
    edges = np.arange(steps + 1) * hop / block
    return np.diff(np.interp(edges, np.arange(through.size), through))


def _windows(steps: Floats, width: int, hop: int) -> Floats:
    """The loudness of every window of `width` steps; those that are not yet full are silent."""
    loudness = np.full(steps.size, SILENCE_LUFS)
    if steps.size >= width:
        power = np.convolve(steps, np.ones(width), mode="valid") / (width * hop)
        loudness[width - 1 :] = np.maximum(10 * np.log10(np.maximum(power, 1e-30)) - _OFFSET_LU, SILENCE_LUFS)
    return loudness


def _points(score: Score, ledgers: Mapping[Path, Measured], samples: int, grid: _Grid) -> Points:
    """The waveform of the edit, as fine as that of its sources."""
    step, of_files = grid.to // 100, grid.rate // 100
    low, high = np.zeros((2, -(-samples // step)))
    for one, units, cuts, gains in grid.units(score, step):
        if one.of is None:
            continue
        known, ratio = ledgers[one.of].points.astype(np.float32), np.maximum(gains[1:], gains[:-1])
        low[units] = np.minimum(low[units], -_highest_between(-known[:, 0], cuts, of_files) * ratio)
        high[units] = np.maximum(high[units], _highest_between(known[:, 1], cuts, of_files) * ratio)
    return np.clip(np.rint(np.stack((low, high), axis=1)), -32768, 32767).astype(np.int16)


def in_a_row(scores: Iterable[Score | None]) -> Score | None:
    """One after the other; None when one of them is not known."""
    found: Sequence[Score | None] = tuple(scores)
    return tuple(one for score in found for one in score or ()) if all(one is not None for one in found) else None
