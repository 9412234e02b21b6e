"""The meter against numbers that are known: the EBU's signals, and libebur128 on real recordings."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shared.errors import JobFailure
from tests.media import judges, signals
from worker.ffmpeg import input_args
from worker.loudness import gated, halves, join, loudness_range, measure, silences
from worker.meter import Meter, Mix, Oversampler
from worker.stop import Reason, Stopped

pytestmark = pytest.mark.media


@pytest.fixture
def measured(run, tmp_path):
    """Writes a sound and measures the file."""

    def made(sound, *, rate=signals.RATE, encoding="f32", **more):
        path = signals.write(tmp_path / "sound.wav", sound, rate=rate, encoding=encoding)
        mix = Mix(sound.shape[1], rate, sixteen_bit=encoding == "s16")
        return measure(run, input_args(path), mix, folder=run.work, **more)

    return made


@pytest.mark.parametrize("name", signals.EBU_INTEGRATED)
def test_integrated_loudness_reads_what_the_ebu_asks(measured, name):
    """EBU Tech 3341, cases 1 to 6."""
    sound, expected = signals.EBU_INTEGRATED[name]
    assert expected.holds(measured(sound()).integrated_lufs)


@pytest.mark.parametrize("name", signals.EBU_TRUE_PEAK)
@pytest.mark.parametrize("profiled", [False, True])
def test_true_peak_reads_what_the_ebu_asks(measured, name, profiled):
    """EBU Tech 3341, cases 15 to 19, also where the peak lies between the samples."""
    sound, expected = signals.EBU_TRUE_PEAK[name]
    assert expected.holds(measured(sound(), profiled=profiled).true_peak_dbtp)


@pytest.mark.parametrize("name", signals.EBU_RANGE)
def test_loudness_range_reads_what_the_ebu_asks(measured, name):
    """EBU Tech 3342, cases 1 to 4."""
    sound, expected = signals.EBU_RANGE[name]
    assert expected.holds(measured(sound()).facts()["loudness_range_lu"])


@pytest.mark.parametrize("name", [*signals.EBU_SHORT_TERM, *signals.EBU_MOMENTARY])
def test_the_loudest_moments_read_what_the_ebu_asks(measured, name):
    """EBU Tech 3341, cases 9 and 12."""
    facts = measured((signals.EBU_SHORT_TERM | signals.EBU_MOMENTARY)[name][0]()).facts()
    if name in signals.EBU_SHORT_TERM:
        assert signals.EBU_SHORT_TERM[name][1].holds(facts["max_short_term_lufs"])
    else:
        assert signals.EBU_MOMENTARY[name][1].holds(facts["max_momentary_lufs"])


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 96_000])
def test_every_sample_rate_reads_as_libebur128_does(measured, rate):
    """The K-weighting and the windows follow the rate."""
    sound = signals.podcast(5, rate=rate)
    judge = judges.libebur128_of(sound, rate)
    found = measured(sound, rate=rate, profiled=True)
    assert found.integrated_lufs == pytest.approx(judge.lufs, abs=0.02)
    assert found.true_peak_dbtp == pytest.approx(judge.true_peak_dbtp, abs=0.1)
    assert found.samples == len(sound)


def test_a_recording_in_halves_measures_as_in_one_piece(run, tmp_path):
    """Two cores measure a long WAV at once; nothing is lost or counted twice at the seam."""
    rate = 44_100
    path = signals.write(tmp_path / "long.wav", signals.podcast(21.37, rate=rate), rate=rate)
    mix = Mix(2, rate, sixteen_bit=True)
    whole = measure(run, input_args(path), mix, folder=run.work, profiled=True)
    cut, again = halves(21.37, rate)
    spans = [{"duration_s": cut}, {"start_s": again}]
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(
            lambda item: measure(
                run, input_args(path, **item[1]), mix, folder=run.work, name=f"half{item[0]}", profiled=True
            ),
            enumerate(spans),
        )
    both = join(*parts)
    assert both.samples == whole.samples
    assert both.integrated_lufs == pytest.approx(whole.integrated_lufs, abs=0.001)
    assert both.facts() == pytest.approx(whole.facts(), abs=0.002)
    assert np.array_equal(both.points, whole.points)
    assert whole.profile is not None
    assert both.profile is not None
    # At the seam the loudest block so far is another one, so a few quiet blocks get a coarser energy.
    assert np.mean(np.abs(both.profile.peaks - whole.profile.peaks) > 0.01) < 0.1
    assert both.profile.peaks.shape == whole.profile.peaks.shape


def test_the_pruned_true_peak_is_the_exact_one():
    """Blocks that are skipped cannot have held a higher peak, wherever it lies."""
    random = np.random.default_rng(7)
    for place in (0, 1, 479, 480, 48_000 - 3, 48_000, 71_990):
        sound = (random.normal(0, 0.05, (72_000, 2))).astype(np.float32)
        burst = np.sin(np.pi / 2 * np.arange(10) + np.pi / 4) * 0.6
        end = min(len(sound), place + 10)
        sound[place:end, 1] += burst[: end - place]
        meter = Meter(Mix(2, 48_000), profiled=False)
        _feed(meter, sound)
        over = Oversampler(48_000)
        padded = np.pad(sound, ((32, 48), (0, 0))).T.copy()
        exact = max(over.peaks(padded, np.arange(16, padded.shape[1] - 48, 16)).max(), np.abs(sound).max())
        assert meter.true_peak == pytest.approx(exact, rel=1e-6)


def test_clipped_samples_are_counted(measured):
    """Every sample at full scale counts, and nothing below it."""
    sound = signals.tone(1, -6, -6)
    sound[1000:1010, 0] = 1.0
    sound[2000:2003, 1] = -1.0
    assert measured(sound, encoding="s16").clipped_samples == 13
    assert measured(sound).clipped_samples == 13


def test_silence_is_minus_infinity_and_named_none(measured):
    """A report of silence has no numbers where there are none."""
    found = measured(signals.silence(2))
    assert found.integrated_lufs == -math.inf
    assert found.facts()["integrated_lufs"] is None
    assert found.facts()["true_peak_dbtp"] is None


def test_values_that_are_no_numbers_end_the_job_with_a_sentence(measured):
    """NaN would poison every filter behind it."""
    with pytest.raises(JobFailure, match="no numbers") as caught:
        measured(signals.with_nan(3))
    assert caught.value.failure_code == "bad_input.corrupt"


def test_silences_are_found_to_the_hundredth(measured):
    """Only spans of a second and more count."""
    sound = signals.tone(10, -20, -20)
    sound[2 * 48_000 : 4 * 48_000] = 0
    sound[6 * 48_000 : int(6.5 * 48_000)] = 0
    assert silences(measured(sound).points, 48_000) == [(2.0, 4.0)]


def test_silence_is_at_its_place_where_ten_milliseconds_are_no_whole_samples():
    """At 22,050 Hz a point is 220 samples: after a minute of 10 ms each it would be 136 ms late."""
    points = np.full((6014, 2), 9000, np.int16)
    points[6013 - 200 : 6013] = 0
    (begin, end) = silences(points, 22_050)[0]
    assert (begin, end) == (pytest.approx(5813 * 220 / 22_050, abs=1e-6), pytest.approx(6013 * 220 / 22_050, abs=1e-6))


def test_a_stop_ends_the_measurement_and_its_ffmpeg(run, three_minutes):
    """The stop is noticed while sound comes in; the fixture proves that nothing is left."""

    def stop(_seconds):
        run.stop.request(Reason.CANCEL)

    mix = Mix(2, 48_000, sixteen_bit=True)
    with pytest.raises(Stopped):
        measure(run, input_args(three_minutes), mix, folder=run.work, on_time=stop)


def test_progress_counts_decoded_seconds(run, tmp_path):
    """Seconds rise by what was decoded, to the end and never past it."""
    path = signals.write(tmp_path / "sound.wav", signals.tone(6.5, -20))
    seen: list[float] = []
    measure(run, input_args(path), Mix(1, 48_000, sixteen_bit=True), folder=run.work, on_time=seen.append)
    assert seen == [2.0, 4.0, 6.0, 6.5]


def test_gating_ignores_what_is_quiet():
    """Ten seconds at -20 LUFS with as much at -40 LUFS read -20 LUFS."""
    assert gated(np.array([-20.0] * 100 + [-40.0] * 100 + [-80.0] * 50)) == pytest.approx(-20.0)
    assert gated(np.array([-75.0] * 10)) == -math.inf
    assert loudness_range(np.array([-75.0] * 10)) == 0.0


def _feed(meter, sound):
    data = memoryview(np.ascontiguousarray(sound).tobytes())

    class Pipe:
        at = 0

        def readinto(self, room):
            count = min(len(room), len(data) - self.at, 100_000)
            room[:count] = data[self.at : self.at + count]
            self.at += count
            return count

    pipe = Pipe()
    while meter.read(pipe):
        pass
