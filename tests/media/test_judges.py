"""The judges themselves read the EBU's signals right: what they say of our files counts."""

from __future__ import annotations

import math

import pytest

from tests.media import judges, signals

pytestmark = pytest.mark.media
JUDGES = [judges.libebur128, judges.ffmpeg_meter]


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("name", signals.EBU_INTEGRATED)
def test_both_judges_read_the_integrated_loudness_of_ebu_tech_3341(engine, tmp_path, judge, name) -> None:
    """Within a tenth of a LU; 3341-6 has five channels and a silent sixth."""
    make, expected = signals.EBU_INTEGRATED[name]
    verdict = judge(engine.ffmpeg, signals.write(tmp_path / "signal.wav", make()))
    assert expected.holds(verdict.lufs)
    assert verdict.sample_rate == signals.RATE
    assert verdict.channels == (6 if name == "3341-6" else 2)


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("name", signals.EBU_TRUE_PEAK)
def test_both_judges_find_the_peaks_between_the_samples(engine, tmp_path, judge, name) -> None:
    """Also over full scale."""
    make, expected = signals.EBU_TRUE_PEAK[name]
    verdict = judge(engine.ffmpeg, signals.write(tmp_path / "signal.wav", make(), encoding="f32"))
    assert expected.holds(verdict.true_peak_dbtp)


@pytest.mark.parametrize("encoding", ["s16", "s24", "f32"])
def test_both_judges_agree_on_speech_in_every_encoding(engine, tmp_path, encoding) -> None:
    """Two independent meters, one answer."""
    path = signals.write(tmp_path / "speech.wav", signals.podcast(10), encoding=encoding)
    one, other = (judge(engine.ffmpeg, path) for judge in JUDGES)
    assert one.lufs == pytest.approx(other.lufs, abs=0.01)
    assert one.true_peak_dbtp == pytest.approx(other.true_peak_dbtp, abs=0.1)
    assert one.duration_s == 10.0


def test_silence_has_no_loudness(engine, tmp_path) -> None:
    """And a judge says so instead of failing."""
    path = signals.write(tmp_path / "silence.wav", signals.silence(2))
    assert [judge(engine.ffmpeg, path).lufs for judge in JUDGES] == [-math.inf, -math.inf]


def test_the_recordings_are_what_their_descriptions_say(engine, recordings) -> None:
    """The music really passes full scale, the talk is soft, the telephone has 8 kHz."""
    music, speech, phone = (
        judges.libebur128(engine.ffmpeg, path) for path in (recordings.music, recordings.speech, recordings.phone)
    )
    assert music.true_peak_dbtp > 0.5
    assert speech.lufs == pytest.approx(-32.4, abs=0.1)
    assert (phone.sample_rate, phone.channels) == (8000, 1)


def test_a_judge_refuses_a_file_that_does_not_decode_cleanly(engine, recordings, tmp_path) -> None:
    """What we deliver must be without a flaw."""
    torn = bytearray(recordings.lena("lena.flac").read_bytes())
    torn[len(torn) // 2 : len(torn) // 2 + 2000] = bytes(2000)
    (tmp_path / "torn.flac").write_bytes(torn)
    with pytest.raises(AssertionError):
        judges.decode(engine.ffmpeg, tmp_path / "torn.flac")
