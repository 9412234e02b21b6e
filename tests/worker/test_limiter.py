"""The limiter, applied to sound: it lands on the loudness, stays under the ceiling, and is smooth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.media import judges, signals
from worker import limiter
from worker.limiter import MOST_LOSS_LU, Solved, envelope, held, reductions, solve
from worker.loudness import Measured, measure
from worker.meter import Mix, Profile

pytestmark = pytest.mark.media


@pytest.fixture
def measured(run, tmp_path):
    """Writes a sound and measures the file with its profile."""

    def made(sound, rate=signals.RATE):
        path = signals.write(tmp_path / "sound.wav", sound, rate=rate, encoding="f32")
        return measure(run, ["-i", str(path)], Mix(sound.shape[1], rate), folder=run.work, profiled=True)

    return made


def _limited(of, sound, target_lufs, ceiling_dbtp):
    solved = solve(of, target_lufs, ceiling_dbtp, check=lambda: None)
    curve = np.frombuffer(b"".join(envelope(of, solved)), "<f4")[: len(sound)]
    assert len(curve) == len(sound)
    return solved, curve, sound * curve[:, None] * signals.db(solved.gain_db)


CASES = {
    "speech": (lambda: signals.podcast(15), 48_000, -14, 0.02),
    "speech at 44.1 kHz": (lambda: signals.podcast(10, rate=44_100), 44_100, -14, 0.02),
    "speech in mono at 8 kHz": (lambda: signals.podcast(10, rate=8_000, channels=1), 8_000, -16, 0.02),
    "speech at 96 kHz": (lambda: signals.podcast(6, rate=96_000), 96_000, -14, 0.02),
    "music over full scale": (lambda: signals.music(12), 48_000, -14, 0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_limited_sound_has_the_loudness_and_stays_under_the_ceiling(measured, name):
    """Solved from blocks, judged by libebur128 on the sound itself."""
    make, rate, target, tolerance = CASES[name]
    sound = make()
    of = measured(sound, rate)
    solved, _, out = _limited(of, sound, target, -1.5)
    verdict = judges.libebur128_of(out, rate)
    assert solved.landed
    assert solved.deepest_db > 0.5
    assert verdict.lufs == pytest.approx(target, abs=tolerance)
    assert verdict.true_peak_dbtp <= -1.0
    assert measured(out, rate).true_peak_dbtp <= -1.5 + 0.02


def test_only_the_neighbourhood_of_peaks_is_touched(measured):
    """A click in quiet speech is taken down by itself; a second later the sound is as it was."""
    sound = signals.podcast(6, peak_dbfs=-20)
    sound[3 * 48_000 : 3 * 48_000 + 24] += 0.9
    solved, curve, _ = _limited(measured(sound), sound, -18, -1.0)
    assert solved.deepest_db > 10
    assert solved.limited_share < 0.1
    assert np.all(curve[: int(2.9 * 48_000)] == 1.0)
    assert np.all(curve[4 * 48_000 :] == 1.0)


def test_a_moment_that_an_encoder_raises_is_held_down_alone(measured):
    """Without taking its level from all others: the loudness still lands, with hardly more limiting than before."""
    sound = signals.podcast(10)
    of = measured(sound)
    first = solve(of, -14, -1.9, check=lambda: None)
    raised = np.zeros(of.profile.peaks.size, np.float32) - 20
    raised[3000] = 3.0  # 4 dB over the ceiling, as an AAC encoder makes of one hit of a drum
    holds = held(replace(of, profile=replace(of.profile, peaks=raised)), -1.0)
    again = solve(of, -14, -1.9, check=lambda: None, holds=holds)
    assert again.landed
    assert again.gain_db == pytest.approx(first.gain_db, abs=0.05)
    assert again.limited_share == pytest.approx(first.limited_share, abs=0.02)
    curve = np.frombuffer(b"".join(envelope(of, again)), "<f4")
    near = slice(3000 * 64 - 800, 3000 * 64 + 864)
    assert 20 * np.log10(curve[near].max()) <= -4.0
    # What was too high in two tries is down by both.
    twice = held(replace(of, profile=replace(of.profile, peaks=raised)), -1.0, holds)
    assert twice.db.max() == pytest.approx(2 * holds.db.max())
    assert np.count_nonzero(twice.db) == np.count_nonzero(holds.db)


def test_the_gain_moves_smoothly(measured):
    """No step from sample to sample that could be heard as a click, on the way down or up."""
    sound = signals.podcast(10)
    sound[4 * 48_000] = 0.99
    _, curve, _ = _limited(measured(sound), sound, -13, -1.5)
    steps = np.abs(np.diff(20 * np.log10(curve)))
    assert curve.min() < 0.7
    assert steps.max() < 0.1
    # It comes back no faster than the release.
    assert np.diff(20 * np.log10(curve)).max() < 0.1


def test_the_gain_is_down_before_the_peak_comes(measured):
    """The envelope looks ahead: at the peak itself the whole reduction is there."""
    sound = signals.tone(6, -30, -30)
    peak = 3 * 48_000 + 777
    sound[peak] = 1.0
    solved, curve, out = _limited(measured(sound), sound, -26, -6.0)
    assert curve[peak] == pytest.approx(signals.db(-solved.deepest_db), rel=0.01)
    assert 20 * np.log10(np.abs(out).max()) <= -6.0 + 0.01


def test_a_target_that_would_crush_the_sound_is_not_reached_and_said_so(measured):
    """The limiter takes no more loudness than it may, and still holds the ceiling."""
    sound = signals.music(8)
    of = measured(sound)
    solved, _, out = _limited(of, sound, -6, -6)
    verdict = judges.libebur128_of(out, 48_000)
    assert not solved.landed
    assert solved.gain_db == pytest.approx(-6 - of.integrated_lufs + MOST_LOSS_LU)
    assert verdict.lufs == pytest.approx(solved.integrated_lufs, abs=0.3)
    assert verdict.lufs < -7
    # Peaks 9 dB below the highest are known to within a dB; the finished file is measured, and corrected for that.
    assert verdict.true_peak_dbtp <= -5


@pytest.mark.parametrize("chunk", [1 << 16, 1000, 64, 10])
@pytest.mark.parametrize("blocks", [1, 5, 63, 64, 65, 991, 1000, 1009])
def test_chunks_do_not_show(monkeypatch, chunk, blocks):
    """The reduction is the same however the blocks are cut, and never less than any block needs."""
    monkeypatch.setattr(limiter, "_CHUNK", chunk)
    peaks = np.random.default_rng(blocks).uniform(-30, 0, blocks).astype(np.float32)
    of = _of(peaks)
    got = np.full(blocks, np.nan)
    for first, values in reductions(of, 6.0, -1.0):
        got[first : first + values.size] = values
    needed = np.maximum(peaks + 7.0, 0)
    released = [
        max(needed[at] - limiter.RELEASE_DB_PER_S * 64 / 48_000 * (n - at) for at in range(n + 1))
        for n in range(blocks)
    ]
    tail = [released[-1] - limiter.RELEASE_DB_PER_S * 64 / 48_000 * (n + 1) for n in range(9)]
    padded = np.concatenate((np.zeros(9), np.maximum(released, 0), np.maximum(tail, 0)))
    held = [padded[n : n + 11].max() for n in range(blocks + 8)]
    curve = np.hanning(11)[1:-1] / np.hanning(11)[1:-1].sum()
    assert got == pytest.approx(np.convolve(held, curve, mode="valid"), abs=1e-4)
    assert np.all(got >= needed - 1e-4)


def test_the_envelope_has_each_blocks_gain_in_the_middle_of_that_block():
    """Not half a block early or late."""
    of = _of(np.random.default_rng(3).uniform(-12, 0, 2000).astype(np.float32))
    solved = Solved(6.0, -1.0, -16.0, 0.0, 0.0, landed=True)
    curve = np.frombuffer(b"".join(envelope(of, solved)), "<f4")
    gains = np.concatenate([10 ** (-values / 20) for _, values in reductions(of, 6.0, -1.0)])
    assert curve[31 : 64 * len(gains) : 64] == pytest.approx(gains, abs=1e-6)


def test_a_sound_that_needs_no_limiting_is_left_alone():
    """The envelope is 1 throughout."""
    of = _of(np.full(5000, -20, np.float32))
    assert all(not values.any() for _, values in reductions(of, 6.0, -1.0))


def _of(peaks: np.ndarray) -> Measured:
    profile = Profile(64, peaks, np.ones(len(peaks), np.float32))
    empty = np.zeros(0)
    return Measured(48_000, 1, len(peaks) * 64, empty, empty, np.zeros((0, 2), np.int16), 1.0, 1.0, 0, 0, profile)
