"""What a producer asks of the samples beyond loudness: level and offset per channel, clipping, stereo, noise and hum.

`Quality` is shown the samples of the one decode, a second at a time, and keeps a few numbers per 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from worker.loudness import spans
from worker.meter import Floats, Mix, Samples

_FULL_SCALE = 32767 / 32768
#: Fewer samples in a row at full scale are a loud moment, not damage.
_SHORTEST_RUN = 3
_SAME_PLACE_S = 0.1
MOST_PLACES = 200
#: Energies (mean squares): what counts as digital silence, and as sound that has a phase.
_DIGITAL_SILENCE, _HEARD = 1e-10, 1e-7
#: Steps of 0.1 s in the windows of the noise floor and of the correlation.
_FLOOR_STEPS, _PHASE_STEPS = 5, 30
OUT_OF_PHASE = -0.3
#: The mains of the world, and how far above its neighbourhood a hum stands in nearly every second.
_MAINS, _HARMONICS, _STANDS_OUT = (50, 60), 3, 10.0


@dataclass(slots=True)
class Clipping:
    """Runs of samples at or over full scale, and the places where they are: (start, end, samples) in samples."""

    samples: int = 0
    runs: int = 0
    longest: int = 0
    places: int = 0
    first: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], gap: int) -> None:
        """Take more runs, sorted by where they begin; those nearer than `gap` samples are one place."""
        if not starts.size:
            return
        self.samples += int(lengths.sum())
        self.runs += starts.size
        self.longest = max(self.longest, int(lengths.max()))
        ends = np.maximum.accumulate(starts + lengths)
        breaks = np.flatnonzero(starts[1:] - ends[:-1] > gap) + 1
        for part in np.split(np.arange(starts.size), breaks):
            begin, end, count = int(starts[part[0]]), int(ends[part[-1]]), int(lengths[part].sum())
            if self._last is not None and begin - self._last[1] <= gap:
                begin, end, count = self._last[0], max(end, self._last[1]), count + self._last[2]
                if self.places <= len(self.first):
                    self.first[-1] = (begin, end, count)
            else:
                self.places += 1
                if len(self.first) < MOST_PLACES:
                    self.first.append((begin, end, count))
            self._last = (begin, end, count)

    _last: tuple[int, int, int] | None = None


class Quality:
    """Takes the samples of one mix, (frames, channels), a second at a time."""

    def __init__(self, mix: Mix) -> None:
        self.sample_rate, self.channels = mix.sample_rate, mix.channels
        self._step = 10 * max(1, mix.sample_rate // 100)
        self._sums: Floats = np.zeros(mix.channels)
        self._peaks: Floats = np.zeros(mix.channels)
        self._counts: list[NDArray[np.int64]] = []
        #: Per step: each channel's energy, then that of left times right, and of left minus right.
        self._energies: list[Floats] = []
        self._open = [(0, 0)] * mix.channels
        self._samples = 0
        self._hum = [_Hum(mix.sample_rate, mains) for mains in _MAINS]
        self.clipping = Clipping()

    def take(self, sound: Samples) -> None:
        """A second, or what is left at the end."""
        # numpy is several times as fast along contiguous samples.
        channels = np.ascontiguousarray(sound.T)
        self._sums += channels.sum(axis=1, dtype=np.float64)
        peaks = np.maximum(channels.max(axis=1), -channels.min(axis=1))
        self._peaks = np.maximum(self._peaks, peaks)
        if peaks.max() >= _FULL_SCALE or any(length for _, length in self._open):
            self._clipped(sound)
        whole = len(sound) - len(sound) % self._step
        self._steps(sound[:whole].reshape(-1, self._step, self.channels))
        if whole < len(sound):
            self._steps(sound[whole:][None])
        if len(sound) == 10 * self._step:
            self._hear_hum(channels.sum(axis=0) / self.channels)
        self._samples += len(sound)

    def finish(self) -> None:
        """All samples were shown: what was still open is closed."""
        self._keep(sorted(self._open))
        self._open = [(0, 0)] * self.channels

    # --- what was found --------------------------------------------------------------------------------------
    @property
    def step_s(self) -> float:
        """Seconds between two values over time: 0.1, or a little less where the rate is no multiple of 100."""
        return self._step / self.sample_rate

    @property
    def offsets(self) -> Floats:
        """The mean of each channel's samples."""
        return self._sums / max(1, self._samples)

    @property
    def peaks(self) -> Floats:
        """The highest sample of each channel."""
        return self._peaks

    @property
    def energies(self) -> Floats:
        """The mean square of each channel."""
        totals = self._over_time()[:, : self.channels] * self._counted()[:, None]
        mean: Floats = totals.sum(axis=0) / max(1, self._samples)
        return mean

    def floor(self) -> float:
        """The energy of the quietest half second that neither holds nor touches digital silence; 0 without one."""
        steps = self._over_time()[:, : self.channels].mean(axis=1)
        if steps.size < _FLOOR_STEPS:
            return 0.0
        windows = np.lib.stride_tricks.sliding_window_view
        heard = windows(np.pad(steps, 1, constant_values=np.inf), _FLOOR_STEPS + 2).min(axis=1) > _DIGITAL_SILENCE
        means = windows(steps, _FLOOR_STEPS).mean(axis=1)[heard]
        return float(means.min(initial=np.inf)) if means.size else 0.0

    def hum(self) -> tuple[int, float] | None:
        """The frequency of the mains that is heard all the time, and the energy of its hum."""
        found = [(hum.mains, energy) for hum in self._hum if (energy := hum.energy()) > 0]
        return max(found, key=lambda one: one[1], default=None)

    def correlation(self) -> float | None:
        """Of the first two channels over all; None where one of them is silent."""
        left, right, both, _ = self._pair().T @ self._counted()
        return _ratio(left, right, both) if min(left, right) > _DIGITAL_SILENCE * self._samples else None

    def mono_change(self) -> float:
        """How the energy of the first two channels changes when they are folded to mono: 1 where they are equal."""
        left, right, both, _ = self._pair().T @ self._counted()
        return float(max(0.0, left + right + 2 * both) / (2 * (left + right))) if left + right else 1.0

    def dual_mono(self) -> bool:
        """Whether the first two channels carry the same samples."""
        pair = self._pair()
        return bool(pair[:, 3].max(initial=0.0) == 0.0 and pair[:, 0].max(initial=0.0) > 0)

    def phase(self) -> Floats:
        """The correlation over the 3 s around each step; NaN where there is too little sound on either side."""
        pair = self._pair()
        width = min(_PHASE_STEPS, len(pair))
        if not width:
            return np.zeros(0)
        left, right, both = (np.convolve(pair[:, n], np.full(width, 1 / width), mode="valid") for n in range(3))
        found = np.full(len(pair), np.nan)
        heard = np.minimum(left, right) > _HEARD
        middle = found[(width - 1) // 2 :][: left.size]
        middle[heard] = np.clip(both[heard] / np.sqrt(left[heard] * right[heard]), -1, 1)
        return found

    def out_of_phase(self) -> list[tuple[float, float]]:
        """Where the two channels work against each other, in seconds."""
        return [
            (round(a * self.step_s, 2), round(b * self.step_s, 2))
            for a, b in spans(np.nan_to_num(self.phase(), nan=1.0) < OUT_OF_PHASE)
        ]

    # --- how -------------------------------------------------------------------------------------------------
    def _steps(self, blocks: NDArray[np.float32]) -> None:
        """(steps, frames, channels)."""
        if not blocks.size:
            return
        left, right = blocks[:, :, 0], blocks[:, :, min(1, self.channels - 1)]
        apart = left - right
        squares = np.einsum("ijk,ijk->ik", blocks, blocks)
        more = (np.einsum("ij,ij->i", one, other)[:, None] for one, other in ((left, right), (apart, apart)))
        frames = blocks.shape[1]
        self._energies.append(np.hstack((squares, *more)).astype(np.float64) / frames)
        self._counts.append(np.full(len(blocks), frames))

    def _over_time(self) -> Floats:
        return np.concatenate(self._energies) if self._energies else np.zeros((0, self.channels + 2))

    def _counted(self) -> NDArray[np.int64]:
        return np.concatenate(self._counts) if self._counts else np.zeros(0, np.int64)

    def _pair(self) -> Floats:
        """Energy of left, right, left times right, left minus right, per step."""
        return self._over_time()[:, [0, min(1, self.channels - 1), -2, -1]]

    def _clipped(self, sound: Samples) -> None:
        full = np.abs(sound) >= _FULL_SCALE
        runs = sorted(run for channel in range(self.channels) for run in self._runs(channel, full[:, channel]))
        self._keep(runs)

    def _runs(self, channel: int, full: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """The runs (start, length) of one channel that ended in this second; the one at its end stays open."""
        carried, found, base = self._open[channel], spans(full), self._samples
        if found and found[0][0] == 0 and carried[1]:
            runs = [(carried[0], carried[1] + found[0][1]), *((base + a, b - a) for a, b in found[1:])]
        else:
            runs = [carried, *((base + a, b - a) for a, b in found)]
        self._open[channel] = runs.pop() if found and found[-1][1] == full.size else (0, 0)
        return runs

    def _keep(self, runs: Sequence[tuple[int, int]]) -> None:
        kept = np.array([run for run in runs if run[1] >= _SHORTEST_RUN], np.int64).reshape(-1, 2)
        self.clipping.add(kept[:, 0], kept[:, 1], round(_SAME_PLACE_S * self.sample_rate))

    def _hear_hum(self, mono: Samples) -> None:
        if not np.dot(mono, mono) > _DIGITAL_SILENCE * mono.size:
            return
        window = _window(mono.size)
        spectrum = np.abs(np.fft.rfft(mono * window)[: 8 * max(_MAINS)]) ** 2 * (2 / mono.size / np.dot(window, window))
        for hum in self._hum:
            hum.take(spectrum)


class _Hum:
    """Hum of one mains frequency: its lines in the spectrum of every second, and what lies around them."""

    def __init__(self, sample_rate: int, mains: int) -> None:
        self.mains = mains
        # A second of samples is a little less than a second where the rate is no multiple of 100.
        frames = 100 * max(1, sample_rate // 100)
        self._at = [round(mains * n * frames / sample_rate) for n in range(1, _HARMONICS + 1)]
        self._lines: list[list[float]] = []
        self._around: list[list[float]] = []

    def take(self, spectrum: Samples) -> None:
        """The energy per hertz of one second."""
        self._lines.append([float(spectrum[at - 2 : at + 3].sum()) for at in self._at])
        around = ((spectrum[at - 7 : at - 3].sum() + spectrum[at + 4 : at + 8].sum()) * 5 / 8 for at in self._at)
        self._around.append([float(one) for one in around])

    def energy(self) -> float:
        """Of the lines that stand out in nine seconds of ten; 0 where none does, or where there is too little sound."""
        if len(self._lines) < 5:
            return 0.0
        lines, around = np.array(self._lines), np.maximum(np.array(self._around), 1e-14)
        out = np.percentile(lines / around, 10, axis=0) > _STANDS_OUT
        return float((np.percentile(lines, 10, axis=0) * out).sum()) if out[:2].any() else 0.0


@cache
def _window(size: int) -> Samples:
    return np.hanning(size + 1)[:-1].astype(np.float32)


def _ratio(left: float, right: float, both: float) -> float:
    return float(np.clip(both / np.sqrt(left * right), -1.0, 1.0))


def thinned(values: Floats, most: int, *, highest: bool = True) -> tuple[int, Floats]:
    """At most `most` values, each the extreme of as many as it stands for (the first result); NaN counts as nothing."""
    together = max(1, -(-values.size // most))
    extreme = np.fmax if highest else np.fmin
    return together, extreme.reduceat(values, np.arange(0, values.size, together)) if values.size else values


def rounded(values: Iterable[float], digits: int = 1) -> Iterator[float | None]:
    """Values as JSON holds them: None for what is no number."""
    for value in values:
        yield round(float(value), digits) if np.isfinite(value) else None
