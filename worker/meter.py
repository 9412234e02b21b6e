"""What is measured in the samples themselves: true peak, clipping, the waveform, and the limiter's profile.

The samples come through a pipe, a few seconds at a time. Nothing is kept of them but a few numbers per block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shared.errors import JobFailure

Floats = NDArray[np.float64]
Samples = NDArray[np.float32]
Points = NDArray[np.int16]

#: Down to these parts of the highest peak so far, blocks of a profile have exact peaks, and K-weighted energy.
_EXACT, _WEIGHTED = 0.35, 0.1
_FULL_SCALE = 32767 / 32768
#: How much is taken at a time. Second by second the calls alone would take a sixth of the time.
_TAKEN_S = 2


@dataclass(frozen=True, slots=True)
class Mix:
    """The sound as a file will carry it: so many channels at this rate, made from the source by `filters`.

    `sixteen_bit` says that 16 bits hold every sample of it, which halves what must be read.
    """

    channels: int
    sample_rate: int
    filters: str = ""
    sixteen_bit: bool = False

    @property
    def layout(self) -> str:
        """ffmpeg's word for one or two channels."""
        return "mono" if self.channels == 1 else "stereo"


@dataclass(frozen=True, slots=True)
class Profile:
    """A mix in blocks of about 1.4 ms (`block` samples): true peak in dB, and about the K-weighted energy."""

    block: int
    peaks: Samples
    energy: Samples


class Oversampler:
    """Finds what lies between the samples with a windowed sinc: 4 points per sample as BS.1770 asks, up to 192 kHz.

    It works on blocks of 16 samples, and looks at the samples around them.
    """

    TAPS, BLOCK = 24, 16
    #: Samples needed before and after a block.
    BEFORE, AFTER = TAPS // 2 - 1, TAPS // 2

    def __init__(self, sample_rate: int) -> None:
        # Twice as many points for low rates: at 4 per sample of 8 kHz a peak can hide that a 192 kHz meter sees.
        factor = 8 if sample_rate < 40_000 else 4 if sample_rate <= 50_000 else 2
        shifts = np.arange(1, factor) / factor
        at = np.arange(self.TAPS)[None, :] - self.BEFORE - shifts[:, None]
        kernel = np.sinc(at) * np.i0(7.0 * np.sqrt(np.clip(1 - (at / (self.TAPS / 2)) ** 2, 0, 1)))
        kernel /= kernel.sum(axis=1, keepdims=True)
        #: No value between samples exceeds this times the highest sample within reach.
        self.gain = float(np.abs(kernel).sum(axis=1).max())
        shelf = _shelf(sample_rate, self.TAPS)[::-1]
        # Every row makes one value from the samples in and around a block.
        self._between = np.zeros((self.BLOCK * (factor - 1), self.BLOCK + self.TAPS - 1), np.float32)
        self._weighted = np.zeros((self.BLOCK, self.BLOCK + self.TAPS - 1), np.float32)
        for n in range(self.BLOCK):
            self._between[n * (factor - 1) : (n + 1) * (factor - 1), n : n + self.TAPS] = kernel
            self._weighted[n, n : n + self.TAPS] = shelf

    def peaks(self, sound: Samples, starts: NDArray[np.intp]) -> Samples:
        """The highest value between the samples of the blocks that begin at `starts`, over all channels.

        `sound` is (channels, samples) and holds `BEFORE` samples before each block and `AFTER` behind it.
        """
        highest = np.zeros(starts.size, np.float32)
        for part, found in self._look(sound, starts, self._between):
            np.maximum(highest[part], np.maximum(found.max(axis=0), -found.min(axis=0)), out=highest[part])
        return highest

    def energy(self, sound: Samples, starts: NDArray[np.intp]) -> Samples:
        """About the K-weighted energy of these blocks, summed over the channels: without the high-pass at 38 Hz."""
        energy = np.zeros(starts.size, np.float32)
        for part, found in self._look(sound, starts, self._weighted):
            energy[part] += np.einsum("ij,ij->j", found, found)
        return energy

    def _look(self, sound: Samples, starts: NDArray[np.intp], matrix: Samples) -> Iterator[tuple[slice, Samples]]:
        # Larger products would wake the threads of the matrix library, which cost far more than they bring.
        at_once = 480_000 // matrix.size
        for channel in sound:
            # What sliding_window_view makes, ten times as fast.
            reach = channel.size - matrix.shape[1] + 1
            views: Samples = np.ndarray((reach, matrix.shape[1]), np.float32, channel, strides=(channel.itemsize,) * 2)
            for at in range(0, starts.size, at_once):
                yield slice(at, at + at_once), matrix @ views[starts[at : at + at_once] - self.BEFORE].T


def _shelf(sample_rate: float, taps: int) -> Floats:
    """BS.1770's first filter, a shelf of 4 dB over about 1.7 kHz: the beginning of its impulse response."""
    k, q, high = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    forward = (high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k)
    return _impulse(forward, (1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k), taps)


def _below_38_hz(sample_rate: float) -> Floats:
    """What BS.1770's second filter, a high-pass, takes away: the impulse response of 1 minus it."""
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    passed = _impulse((1.0, -2.0, 1.0), (1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k), round(sample_rate / 8))
    passed[0] -= 1.0
    return -passed


def _impulse(forward: Sequence[float], back: Sequence[float], taps: int) -> Floats:
    """The beginning of the impulse response of a filter of second order."""
    response = np.zeros(taps + 2)
    for n in range(taps):
        past = back[1] * response[n + 1] + back[2] * response[n]
        response[n + 2] = ((forward[n] if n < len(forward) else 0.0) - past) / back[0]
    beginning: Floats = response[2:]
    return beginning


@cache
def oversampler(sample_rate: int) -> Oversampler:
    """The oversampler for a rate, made once."""
    return Oversampler(sample_rate)


def read_frames(stream: BinaryIO, room: NDArray[Any]) -> int:
    """Fill `room` (frames, channels) from raw interleaved samples; returns how many frames came before the end."""
    view = room.data.cast("B")
    got = 0
    while got < len(view):
        more = stream.readinto(view[got:])  # type: ignore[attr-defined]  # pipes have it, the protocol lacks it
        if not more:
            break
        got += more
    return got // room.strides[0]


def block_samples(sample_rate: int) -> int:
    """Samples in a block of a `Profile`: about 1.4 ms."""
    return Oversampler.BLOCK * max(1, round(sample_rate / 750 / Oversampler.BLOCK))


class Meter:
    """Takes interleaved samples as they are decoded and keeps peaks: (min, max) per 10 ms, true peak, clipping.

    The true peak is exact, yet computed only where a higher one can hide. With `profiled` a profile is kept too, and
    true peaks are computed down to 9 dB below the highest so far. `also` is shown every second of samples, as floats.
    """

    def __init__(self, mix: Mix, *, profiled: bool, also: Callable[[Samples], None] | None = None) -> None:
        self._over = oversampler(mix.sample_rate)
        self._profiled, self._also = profiled, also
        self._step = max(1, mix.sample_rate // 100)
        self._block = block_samples(mix.sample_rate) if profiled else -(-self._step // 16) * 16
        self._scale = np.float32(1 / 32768 if mix.sixteen_bit else 1)
        # Frames in front of the new ones: left-hand context, and what still waits for its right-hand context.
        self._held = Oversampler.BEFORE + self._block + Oversampler.AFTER
        self._second = 100 * self._step
        self._taken = _TAKEN_S * self._second
        kind = np.int16 if mix.sixteen_bit else np.float32
        self._buffer: NDArray[Any] = np.zeros((self._held + self._taken + self._held, mix.channels), kind)
        self._waiting = 0
        self._points: list[Points] = []
        self._peaks: list[Samples] = []
        self._energy: list[Samples] = []
        self._below = _below_38_hz(mix.sample_rate / self._block)
        self._means = [np.zeros(self._below.size - 1) for _ in range(mix.channels)]
        self.samples = 0
        self.true_peak = 0.0
        self.sample_peak = 0.0
        self.clipped_samples = 0

    def read(self, stream: BinaryIO) -> bool:
        """Take the next seconds from a stream of raw samples; False at its end."""
        frames = read_frames(stream, self._buffer[self._held : self._held + self._taken])
        last = frames < self._taken
        if frames:
            new = self._buffer[self._held : self._held + frames]
            self._rows(new)
            if self._also is not None:
                for at in range(0, frames, self._second):
                    self._also(np.multiply(new[at : at + self._second], self._scale, dtype=np.float32))
        self.samples += frames
        if last:
            self._buffer[self._held + frames :] = 0
        self._blocks(frames, last=last)
        self._buffer[: self._held] = self._buffer[frames : frames + self._held].copy()
        return not last

    def points(self) -> Points:
        """(min, max) of every 10 ms, as 16-bit values."""
        return np.concatenate(self._points) if self._points else np.zeros((0, 2), np.int16)

    def profile(self) -> Profile | None:
        """What was kept per block, when it was asked for."""
        if not self._profiled or not self._peaks:
            return None
        return Profile(self._block, np.concatenate(self._peaks), np.concatenate(self._energy))

    def _rows(self, new: NDArray[Any]) -> None:
        """Keep the points of new frames, their highest sample, and how many are clipped."""
        whole = len(new) - len(new) % self._step
        rows = new[:whole].reshape(-1, self._step * new.shape[1])
        low, high = rows.min(axis=1), rows.max(axis=1)
        if whole < len(new):
            low, high = np.append(low, new[whole:].min()), np.append(high, new[whole:].max())
        peaks = np.maximum(-low.astype(np.float32), high.astype(np.float32)) * self._scale
        if not np.isfinite(peaks).all():
            raise JobFailure(
                "bad_input.corrupt",
                "The recording holds values that are no numbers; export it again from the program that made it.",
            )
        self.sample_peak = max(self.sample_peak, float(peaks.max()))
        for row in np.flatnonzero(peaks >= _FULL_SCALE):
            part = np.abs(new[row * self._step : (row + 1) * self._step].astype(np.float32)) * self._scale
            self.clipped_samples += int(np.count_nonzero(part >= _FULL_SCALE))
        points = np.stack((low, high), axis=1)
        if points.dtype != np.int16:
            points = np.clip(np.rint(points * 32767), -32768, 32767).astype(np.int16)
        self._points.append(points)

    def _blocks(self, frames: int, *, last: bool) -> None:
        """Look at all blocks that have both their contexts now."""
        begin, ready = self._held - self._waiting, self._waiting + frames
        count = -(-ready // self._block) if last else max(0, ready - Oversampler.AFTER) // self._block
        self._waiting = ready - count * self._block
        if not count:
            return
        span = self._buffer[begin : begin + count * self._block].reshape(count, -1)
        peaks = np.maximum(span.max(axis=1), -span.min(axis=1).astype(np.float32)) * self._scale
        self.true_peak = max(self.true_peak, self.sample_peak)
        # What lies at a block's edge belongs to its neighbour too; those of the outermost ones are not at hand.
        near = np.maximum(peaks, np.maximum(np.append(peaks[1:], np.inf), np.append(np.inf, peaks[:-1])))
        hot = np.flatnonzero(near > self.true_peak * (_EXACT if self._profiled else 1 / self._over.gain))
        if not self._profiled and not hot.size:
            return
        sound = np.multiply(self._buffer.T, self._scale, dtype=np.float32, order="C")
        found = self._over.peaks(sound, self._starts(begin, hot))
        peaks[hot] = np.maximum(peaks[hot], found.reshape(hot.size, -1).max(axis=1, initial=0))
        self.true_peak = max(self.true_peak, float(peaks.max()))
        if self._profiled:
            blocks = sound[:, begin : begin + count * self._block].reshape(len(sound), count, -1)
            energy = np.einsum("cij,cij->i", blocks, blocks)
            loud = np.flatnonzero(near > self.true_peak * _WEIGHTED)
            energy[loud] = self._over.energy(sound, self._starts(begin, loud)).reshape(loud.size, -1).sum(axis=1)
            for channel, sums in enumerate(blocks.sum(axis=2)):
                # The second filter of the K-weighting takes away what is below 38 Hz: of each block, a constant.
                means = np.append(self._means[channel], sums / self._block)
                slow = np.convolve(means, self._below, mode="valid")
                self._means[channel] = means[-self._below.size + 1 :]
                energy += self._block * slow**2 - 2 * slow * sums
            self._peaks.append((20 * np.log10(np.maximum(peaks, 1e-7))).astype(np.float32))
            self._energy.append(np.maximum(energy, 0).astype(np.float32))

    def _starts(self, begin: int, blocks: NDArray[np.intp]) -> NDArray[np.intp]:
        within = np.arange(0, self._block, Oversampler.BLOCK)
        starts: NDArray[np.intp] = (begin + blocks[:, None] * self._block + within).ravel()
        return starts
