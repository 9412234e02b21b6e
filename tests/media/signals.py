"""Sounds made of numbers: the EBU's test signals, and recordings with one known property each.

A sound is a float64 array (frames, channels), 1.0 being full scale; `write` makes a WAV file of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float64]
Encoding = Literal["s16", "s24", "f32"]

RATE = 48_000
#: Speakers of WAVE_FORMAT_EXTENSIBLE by channel count: mono, stereo, 5.0 and 5.1.
_SPEAKERS = {1: 0x4, 2: 0x3, 5: 0x37, 6: 0x3F}


def write(path: Path, sound: Sound, *, rate: int = RATE, encoding: Encoding = "s16") -> Path:
    """Write a WAV file; integers are rounded and clipped, floats are kept as they are. Returns `path`."""
    channels = sound.shape[1]
    match encoding:
        case "s16":
            code, bits = 1, 16
            body = (np.clip(np.round(sound * 32768), -32768, 32767)).astype("<i2").tobytes()
        case "s24":
            code, bits = 1, 24
            whole = np.clip(np.round(sound * 8388608), -8388608, 8388607).astype("<i4")
            body = whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
        case "f32":
            code, bits = 3, 32
            body = sound.astype("<f4").tobytes()
    frame = channels * bits // 8
    head = struct.pack("<HIIHH", channels, rate, rate * frame, frame, bits)
    if channels <= 2:
        form = struct.pack("<H", code) + head
    else:
        guid = struct.pack("<H", code) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", 0xFFFE) + head + struct.pack("<HHI", 22, bits, _SPEAKERS[channels]) + guid
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def db(value: float) -> float:
    """The amplitude ratio of a level in dB."""
    return float(10 ** (value / 20))


# -- the EBU's signals: 1 kHz tones unless said, 48 kHz


def tone(seconds: float, *levels_dbfs: float, hertz: float = 1000.0, rate: int = RATE, phase_deg: float = 0.0) -> Sound:
    """A sine with one channel per level (peak, dBFS); -inf makes a channel silent."""
    at = np.arange(round(seconds * rate))
    wave = np.sin(2 * np.pi * hertz * at / rate + np.radians(phase_deg))
    return wave[:, None] * np.array([[db(level) for level in levels_dbfs]])


def stereo_steps(*steps: tuple[float, float]) -> Sound:
    """Stereo tones of (level dBFS, seconds) one after the other."""
    return np.concatenate([tone(seconds, level, level) for level, seconds in steps])


@dataclass(frozen=True, slots=True)
class Expected:
    """What a meter must read, within `plus` and `minus`."""

    value: float
    plus: float = 0.1
    minus: float = 0.1

    def holds(self, read: float) -> bool:
        """Whether a reading is within the tolerance."""
        return self.value - self.minus <= read <= self.value + self.plus


#: Makers of signals and what a meter must read of each. EBU Tech 3341, integrated loudness (LUFS); 3341-6 is L, R, C,
#: LFE (silent), Ls, Rs.
Signals = Mapping[str, tuple[Callable[[], Sound], Expected]]
_AT_23 = Expected(-23)
EBU_INTEGRATED: Signals = {
    "3341-1": (lambda: stereo_steps((-23, 20)), _AT_23),
    "3341-2": (lambda: stereo_steps((-33, 20)), Expected(-33)),
    "3341-3": (lambda: stereo_steps((-36, 10), (-23, 60), (-36, 10)), _AT_23),
    "3341-4": (lambda: stereo_steps((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)), _AT_23),
    "3341-5": (lambda: stereo_steps((-26, 20), (-20, 20.1), (-26, 20)), _AT_23),
    "3341-6": (lambda: tone(20, -28, -28, -24, float("-inf"), -30, -30), _AT_23),
}
#: The highest short-term and momentary loudness (LUFS).
EBU_SHORT_TERM: Signals = {"3341-9": (lambda: stereo_steps(*[(-20, 1.34), (-30, 1.66)] * 5), _AT_23)}
EBU_MOMENTARY: Signals = {"3341-12": (lambda: stereo_steps(*[(-20, 0.18), (-30, 0.22)] * 25), _AT_23)}
#: True peak (dBTP): write these as f32, the last one is over full scale.
EBU_TRUE_PEAK: Signals = {
    "3341-15": (lambda: _between_samples(4, 0.0, 0.5), Expected(-6.0, plus=0.2, minus=0.4)),
    "3341-16": (lambda: _between_samples(4, 45.0, 0.5), Expected(-6.0, plus=0.2, minus=0.4)),
    "3341-17": (lambda: _between_samples(6, 60.0, 0.5), Expected(-6.0, plus=0.2, minus=0.4)),
    "3341-18": (lambda: _between_samples(8, 67.5, 0.5), Expected(-6.0, plus=0.2, minus=0.4)),
    "3341-19": (lambda: _between_samples(4, 45.0, 1.41), Expected(3.0, plus=0.2, minus=0.4)),
}
#: EBU Tech 3342, loudness range (LU).
EBU_RANGE: Signals = {
    "3342-1": (lambda: stereo_steps((-20, 20), (-30, 20)), Expected(10, 1, 1)),
    "3342-2": (lambda: stereo_steps((-20, 20), (-15, 20)), Expected(5, 1, 1)),
    "3342-3": (lambda: stereo_steps((-40, 20), (-20, 20)), Expected(20, 1, 1)),
    "3342-4": (lambda: stereo_steps((-50, 20), (-35, 20), (-20, 20), (-35, 20), (-50, 20)), Expected(15, 1, 1)),
}


def _between_samples(divisor: int, phase_deg: float, peak: float) -> Sound:
    """Stereo tone at a fraction of the rate whose true peak its samples miss."""
    dbfs = float(20 * np.log10(peak))
    return faded(tone(3, dbfs, dbfs, hertz=RATE / divisor, phase_deg=phase_deg), 0.2)


def faded(sound: Sound, seconds: float, *, rate: int = RATE) -> Sound:
    """The sound with a fade in and out, so that its edges add no peak of their own."""
    count = round(seconds * rate)
    ramp = np.sin(np.linspace(0, np.pi / 2, count))[:, None] ** 2
    shaped = sound.copy()
    shaped[:count] *= ramp
    shaped[-count:] *= ramp[::-1]
    return shaped


# -- recordings with one known property


def podcast(seconds: float, *, rate: int = RATE, channels: int = 2, peak_dbfs: float = -7.5, seed: int = 1) -> Sound:
    """Speech-like sound: voiced syllables with formants, breaths and pauses; two speakers, loud and soft phrases."""
    random = np.random.default_rng(seed)
    frames = round(seconds * rate)
    voice = np.zeros((frames, channels))
    at = 0
    while at < frames:
        speaker = int(random.integers(2))
        pan = np.array([1.0, 0.8]) if speaker else np.array([0.8, 1.0])
        phrase_db = random.uniform(-9, 0)
        for _ in range(int(random.integers(4, 16))):
            syllable = _syllable(random, 110.0 if speaker else 190.0, rate) * db(phrase_db + random.uniform(-4, 0))
            end = min(frames, at + len(syllable))
            if end > at:
                voice[at:end] += syllable[: end - at, None] * (pan[None, :] if channels == 2 else 1.0)
            at += len(syllable) + int(rate * random.uniform(0.0, 0.05))
        at += int(rate * random.uniform(0.15, 0.8))
    voice += random.normal(0, db(-62), voice.shape)
    return voice * (db(peak_dbfs) / np.abs(voice).max())


def _syllable(random: np.random.Generator, pitch: float, rate: int) -> NDArray[np.float64]:
    count = int(rate * random.uniform(0.08, 0.3))
    at = np.arange(count) / rate
    hertz = pitch * random.uniform(0.85, 1.25) * (1 + 0.04 * np.sin(2 * np.pi * 4 * at))
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    formants = random.uniform((300, 900, 2200), (800, 1800, 3000))
    sound = np.zeros(count)
    for harmonic in range(1, 24):
        middle = harmonic * pitch
        if middle > 0.45 * rate:
            break
        gain = sum(1 / (1 + ((middle - formant) / 140) ** 2) for formant in formants) + 0.02
        sound += gain * np.sin(harmonic * phase) / harmonic**0.5
    sound += random.normal(0, 0.15, count) * (random.random() < 0.3)
    return sound * np.sin(np.pi * np.arange(count) / count) ** 0.7


def music(seconds: float, *, rate: int = RATE, peak_dbtp: float = 3.5, seed: int = 2) -> Sound:
    """Dense stereo music with drum hits whose peaks pass full scale: write it as f32."""
    random = np.random.default_rng(seed)
    frames = round(seconds * rate)
    at = np.arange(frames) / rate
    sound = np.zeros((frames, 2))
    for bar in range(int(seconds) + 1):
        window = slice(bar * rate, min(frames, (bar + 1) * rate))
        root = 110 * 2 ** (int(random.integers(12)) / 12)
        for interval in (1, 1.25, 1.5, 2, 3, 4):
            side = random.uniform(0.4, 1, 2)
            sound[window] += 0.12 * np.sin(2 * np.pi * root * interval * at[window])[:, None] * side[None, :]
    for hit in np.arange(0, seconds, 0.5):
        start = round(hit * rate)
        tail = min(frames - start, rate // 5)
        decay = np.exp(-np.arange(tail) / (0.03 * rate))
        drum = decay * (np.sin(2 * np.pi * 70 * np.arange(tail) / rate) + 0.5 * random.normal(0, 1, tail))
        sound[start : start + tail] += drum[:, None]
    return sound * (db(peak_dbtp) / np.abs(sound).max())


def silence(seconds: float, *, channels: int = 2, rate: int = RATE) -> Sound:
    """Digital silence."""
    return np.zeros((round(seconds * rate), channels))


def clipped(seconds: float, *, over_db: float = 6.0) -> Sound:
    """Speech driven over full scale and cut off there."""
    return np.clip(podcast(seconds, peak_dbfs=over_db), -1.0, 32767 / 32768)


def with_nan(seconds: float) -> Sound:
    """Speech with runs of values that are no numbers: write it as f32."""
    sound = podcast(seconds)
    sound[RATE : RATE + 100] = np.nan
    sound[2 * RATE, 0] = np.inf
    return sound


def surround(seconds: float) -> Sound:
    """Speech in 5.1: dialogue in the centre, music at the sides, a little rumble."""
    bed, voice = music(seconds, peak_dbtp=-14), podcast(seconds, channels=1)
    rumble = tone(seconds, -30, hertz=45)
    return np.hstack([bed, voice, rumble, bed * db(-6)])
