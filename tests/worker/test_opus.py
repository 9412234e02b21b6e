"""The gain in an Opus file's header."""

from __future__ import annotations

import numpy as np
import pytest

from shared.types import OutputSpec
from tests.media import judges, signals
from worker.deliverable import Delivery, Source
from worker.delivery import GUARD_DB, LINEAR_LU, Master
from worker.encoders import encoding
from worker.growing import heard
from worker.meter import Mix
from worker.opus import raise_gain

pytestmark = pytest.mark.media


@pytest.fixture
def opus(make, tmp_path):
    """Three seconds of speech, in Opus."""
    talk = signals.write(tmp_path / "talk.wav", signals.podcast(3))
    return make("talk.opus", "-i", talk, "-c:a", "libopus", "-b:a", "96k")


def test_every_sample_is_raised_and_none_is_encoded_again(opus, run):
    """A player hears each sample louder by the gain, twice raised by the sum, and the sound's packets are untouched."""
    plain, before = judges.decode(run.engine.ffmpeg, opus).samples, opus.read_bytes()
    assert raise_gain(opus, 4.5) == 4.5
    assert raise_gain(opus, -10.251) == pytest.approx(-10.25, abs=1 / 512)
    heard = judges.decode(run.engine.ffmpeg, opus).samples
    assert heard == pytest.approx(plain * 10 ** (-5.75 / 20), abs=2e-5)
    assert np.abs(plain).max() > 0.1
    after = opus.read_bytes()
    assert [at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b][-1] < 60


def test_the_checksum_is_that_of_an_ogg_page(opus):
    """Raised by nothing, the page that is written again is the one that ffmpeg wrote, checksum and all."""
    before = opus.read_bytes()
    assert raise_gain(opus, 0.0) == 0.0
    assert opus.read_bytes() == before


def test_what_is_no_opus_file_is_left_alone(make, tmp_path):
    """A file that begins with something else is refused, and not one byte of it changes."""
    talk = signals.write(tmp_path / "talk.wav", signals.podcast(1))
    before = talk.read_bytes()
    with pytest.raises(ValueError, match="does not begin with an Opus header"):
        raise_gain(talk, 3.0)
    assert talk.read_bytes() == before


@pytest.mark.parametrize(
    ("peak_over_db", "miss_lu", "left_lu"), [(-1.0, 0.3, 0.0), (0.02, 0.0, 0.02), (0.5, 0.0, 0.9 * LINEAR_LU)]
)
def test_the_header_lowers_a_peak_as_far_as_the_loudness_allows(opus, run, peak_over_db, miss_lu, left_lu):
    """With room the loudness is met; a peak a hair too high costs no second encode; one too high by far does."""
    made = encoding(OutputSpec(format="opus"), channels=2, sample_rate=48_000, deep=False)
    after = heard(run, made, opus, None)
    ceiling = after.true_peak_dbtp - peak_over_db + GUARD_DB
    item = Delivery(made, Mix(2, 48_000), after, opus.with_suffix(""), after.integrated_lufs + miss_lu, after=after)
    opus.rename(item.part)
    Master(run, Source(opus, "0:0"), ceiling, [item])._level(item)
    verdict = judges.libebur128(run.engine.ffmpeg, item.part)
    assert item.target_lufs - verdict.lufs == pytest.approx(left_lu, abs=0.01)
    assert item.after.integrated_lufs == pytest.approx(verdict.lufs, abs=0.02)
    assert item.after.true_peak_dbtp == pytest.approx(verdict.true_peak_dbtp, abs=0.1)
    assert (item.after.true_peak_dbtp <= ceiling - GUARD_DB) == (peak_over_db < LINEAR_LU)
