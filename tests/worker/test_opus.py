"""The gain in an Opus file's header."""

from __future__ import annotations

import numpy as np
import pytest

from tests.media import judges, signals
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
