"""Files looked at before other jobs read them: what is right is described, what is wrong is refused at once."""

from __future__ import annotations

import pytest

from shared.errors import JobFailure

pytestmark = pytest.mark.media


def test_a_recording_is_described(perform, recordings):
    """Its format, length and channels, by one short decode; nothing is stored."""
    done = perform("check", recordings.speech, shortest_s=29.9)
    assert done.outputs == {}
    assert done.result["duration_s"] == pytest.approx(30, abs=0.1)
    assert (done.result["codec"], done.result["sample_rate"], done.result["channels"]) == ("pcm_s16le", 16_000, 1)
    assert len(done.decodes) == 1
    assert "10.000000" in done.decodes[0]


def test_a_film_counts_by_its_sound(perform, recordings):
    """A recording with a picture is a recording."""
    assert perform("check", recordings.video).result["channels"] == 6


def test_a_picture_is_described_upright(perform, make):
    """By the size that a viewer shows."""
    made = make("cover.png", "-f", "lavfi", "-i", "color=c=red:s=64x48", "-frames:v", "1")
    done = perform("check", made, expects="picture")
    assert (done.result["width"], done.result["height"]) == (64, 48)


def _silent_film(recordings, make):
    return recordings.silent_video


def _too_short(recordings, make):
    return recordings.video


def _text(recordings, make):
    path = make("a.wav", "-f", "lavfi", "-i", "sine=d=1")
    path.write_text("I am no recording. " * 100)
    return path


def _half_a_picture(recordings, make):
    path = make("cover.jpg", "-f", "lavfi", "-i", "testsrc=s=640x480", "-frames:v", "1")
    path.write_bytes(path.read_bytes()[:100])
    return path


@pytest.mark.parametrize(
    "case",
    [
        (_silent_film, {}, "bad_input.no_audio"),
        (_too_short, {"shortest_s": 60}, "bad_input.too_short"),
        (_text, {}, "bad_input.not_media"),
        (_text, {"expects": "picture"}, "bad_input.not_media"),
        (_too_short, {"expects": "picture"}, "bad_input.not_media"),
        (_half_a_picture, {"expects": "picture"}, "bad_input.not_media"),
    ],
    ids=["no sound", "too short", "text", "text as a cover", "a film as a cover", "half a picture"],
)
def test_what_is_not_as_expected_is_refused_for_good(perform, recordings, make, case):
    """With the sentence that the job which needs it would have ended with, an hour later."""
    file, params, code = case
    with pytest.raises(JobFailure) as failed:
        perform("check", file(recordings, make), **params)
    assert (failed.value.failure_code, failed.value.kind) == (code, "permanent")
