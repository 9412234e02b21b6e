"""Which frequencies sound when: a picture of exact size, made while the samples pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.meter import Floats, Mix, Samples

_WINDOW = 2048
#: What is this far below a full-scale sine is black, and what is this near to it is the brightest.
_DARK_DB, _BRIGHT_DB = -105.0, -20.0
#: From black over violet and orange to pale yellow: even steps look even, in print and to the colour-blind too.
_COLOURS = ((0, 0, 4), (40, 17, 89), (114, 31, 129), (183, 55, 121), (241, 96, 93), (254, 175, 119), (252, 253, 191))


class Spectrogram:
    """Takes the samples of one mix, (frames, channels), a second at a time; `seconds` is how long it will be."""

    def __init__(self, mix: Mix, seconds: float, *, width: int, height: int) -> None:
        self._rate, self._seconds, self._size = mix.sample_rate, seconds, (width, height)
        self._window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
        self._held = np.zeros(0, np.float32)
        self._begun = 0
        self._power = np.zeros((width, _WINDOW // 2))
        self._count = np.zeros(width, np.int64)

    def take(self, sound: Samples) -> None:
        """A second, or what is left at the end."""
        held = np.concatenate((self._held, sound.mean(axis=1)))
        hop = _WINDOW // 2
        count = max(0, (held.size - _WINDOW) // hop + 1)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(held, _WINDOW)[::hop][:count]
            power = np.abs(np.fft.rfft(windows * self._window)[:, 1:]) ** 2 * (2 / self._window.sum()) ** 2
            middles = (self._begun + np.arange(count) * hop + hop) / self._rate
            columns = np.minimum((middles / self._seconds * self._size[0]).astype(np.int64), self._size[0] - 1)
            np.add.at(self._power, columns, power)
            np.add.at(self._count, columns, 1)
        self._held, self._begun = held[count * hop :], self._begun + count * hop

    def pixels(self) -> NDArray[np.uint8]:
        """The picture: time to the right, frequency upwards, from nothing to half of the sample rate."""
        width, height = self._size
        # A column in which no window has its middle shows the one before it.
        known = np.maximum.accumulate(np.where(self._count > 0, np.arange(width), 0))
        level = 10 * np.log10(self._power[known] / np.maximum(self._count[known], 1)[:, None] + 1e-20)
        bins = level.shape[1]
        rows: Floats = np.maximum.reduceat(level, np.arange(height) * bins // height, axis=1)
        share = np.clip((rows.T[::-1] - _DARK_DB) / (_BRIGHT_DB - _DARK_DB), 0, 1)
        at = np.linspace(0, 1, len(_COLOURS))
        image = np.full((height, width, 4), 255, np.uint8)
        for channel in range(3):
            image[:, :, channel] = np.interp(share, at, [colour[channel] for colour in _COLOURS]).round()
        return image
