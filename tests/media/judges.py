"""Two independent judges of a finished file: libebur128, and ffmpeg's own meter. Both hear what a listener's player
decodes, with no arguments of the product's."""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyebur128
from numpy.typing import NDArray

_MODES = pyebur128.MeasurementMode


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge heard; loudness in LUFS and peak in dBTP are -inf for silence."""

    lufs: float
    true_peak_dbtp: float
    duration_s: float
    channels: int
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """The sound of a file as 32-bit floats, (frames, channels), not clipped."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def decode(ffmpeg: Path, path: Path, track: int = 0) -> Decoded:
    """Decode a file strictly: any error in it fails the test."""
    wav = _run(ffmpeg, "-xerror", "-i", str(path), "-map", f"0:a:{track}", "-c:a", "pcm_f32le", "-f", "wav", "-").stdout
    at, channels, rate = 12, 0, 0
    while wav[at : at + 4] != b"data":
        if wav[at : at + 4] == b"fmt ":
            channels = int.from_bytes(wav[at + 10 : at + 12], "little")
            rate = int.from_bytes(wav[at + 12 : at + 16], "little")
        at += 8 + int.from_bytes(wav[at + 4 : at + 8], "little")
    body = wav[at + 8 :]
    samples = np.frombuffer(body[: len(body) // (4 * channels) * 4 * channels], "<f4")
    return Decoded(samples.reshape(-1, channels), rate)


def libebur128(ffmpeg: Path, path: Path) -> Verdict:
    """The judge that counts: libebur128 on the decoded samples."""
    sound = decode(ffmpeg, path)
    return libebur128_of(sound.samples, sound.sample_rate)


def libebur128_of(samples: NDArray[np.floating], sample_rate: int) -> Verdict:
    """libebur128 on samples, (frames, channels)."""
    channels = samples.shape[1]
    state = pyebur128.R128State(channels, sample_rate, _MODES.MODE_I | _MODES.MODE_TRUE_PEAK)
    state.add_frames(np.ascontiguousarray(samples, np.float32).reshape(-1), len(samples))
    peak = max(pyebur128.get_true_peak(state, channel) for channel in range(channels))
    return Verdict(
        lufs=pyebur128.get_loudness_global(state),
        true_peak_dbtp=20 * math.log10(peak) if peak > 0 else -math.inf,
        duration_s=len(samples) / sample_rate,
        channels=channels,
        sample_rate=sample_rate,
    )


def ffmpeg_meter(ffmpeg: Path, path: Path) -> Verdict:
    """The second judge."""
    lufs, true_peak_dbtp = ffmpeg_reading(ffmpeg, path)
    sound = decode(ffmpeg, path)
    return Verdict(
        lufs=lufs,
        true_peak_dbtp=true_peak_dbtp,
        duration_s=sound.duration_s,
        channels=sound.samples.shape[1],
        sample_rate=sound.sample_rate,
    )


def ffmpeg_reading(ffmpeg: Path, path: Path) -> tuple[float, float]:
    """What the second judge reads of loudness (LUFS) and true peak (dBTP), however long the file: it holds no sound.

    Its summary is rounded to 0.1 LU, so the last of its running values is read instead.
    """
    chain = "ebur128=metadata=1:peak=true:framelog=verbose,ametadata=mode=print:file=-"
    ended = _run(ffmpeg, "-loglevel", "info", "-i", str(path), "-map", "0:a:0", "-af", chain, "-f", "null", "/dev/null")
    said, log = ended.stdout.decode(), ended.stderr.decode(errors="replace")
    running = re.findall(r"lavfi\.r128\.I=(\S+)", said)
    lufs = _gated([float(value) for value in re.findall(r"lavfi\.r128\.M=(\S+)", said)])
    assert not running or math.isinf(lufs) or abs(float(running[-1]) - lufs) < 0.06, (running[-1], lufs)
    peak = re.findall(r"True peak:\s+Peak:\s+(\S+) dBFS", log)
    return lufs, float(peak[-1]) if peak else -math.inf


def _gated(momentary: list[float]) -> float:
    """BS.1770 gating of 400 ms windows, 100 ms apart; the first three are not full."""
    windows = np.array(momentary[3:])
    windows = windows[windows > -70]
    if not windows.size:
        return -math.inf
    power = 10 ** (windows / 10)
    return float(10 * np.log10(power[power > power.mean() / 10].mean()))


def _run(ffmpeg: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    argv = [str(ffmpeg), "-nostdin", "-hide_banner", "-nostats", "-v", "error", *args]
    ended = subprocess.run(argv, capture_output=True, check=False)
    assert ended.returncode == 0, f"{' '.join(argv)}: {ended.stderr.decode(errors='replace')[-2000:]}"
    return ended
