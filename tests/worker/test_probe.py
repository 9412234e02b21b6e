"""What a file is, whatever it says it is."""

from __future__ import annotations

import json
import shutil

import pytest

from shared.errors import JobFailure
from tests.media import signals
from worker import probe as probing
from worker.failures import CORRUPT
from worker.probe import Media, probe

pytestmark = pytest.mark.media


def test_a_speech_recording_is_read_whole(run, recordings) -> None:
    """Format, length, size and the one mono track."""
    media = probe(run, recordings.speech)
    assert (media.format_name, media.duration_s, media.size_bytes) == ("wav", 30.0, 960_104)
    assert not media.duration_estimated
    (track,) = media.audio
    assert (track.codec, track.sample_rate, track.channels, track.layout) == ("pcm_s16le", 16_000, 1, "mono")
    assert media.video == ()


def test_a_film_has_picture_and_surround_sound(run, recordings) -> None:
    """Both tracks with what they really decode to."""
    media = probe(run, recordings.video)
    (picture,), (sound,) = media.video, media.audio
    assert (picture.codec, picture.profile, picture.width, picture.height) == ("h264", "Main", 1280, 720)
    assert (picture.fps, picture.pix_fmt, picture.rotation, picture.attached_picture) == (25.0, "yuv420p", 0, False)
    assert (sound.codec, sound.sample_rate, sound.channels, sound.layout) == ("aac", 48_000, 6, "5.1")
    assert media.duration_s == pytest.approx(5.312)


def test_a_film_without_sound_is_media_too(run, recordings) -> None:
    """Whether that is enough is the job's business."""
    media = probe(run, recordings.silent_video)
    assert media.audio == ()
    assert len(media.video) == 1


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("lena.mp3", "mp3"),
        ("lena.m4a", "aac"),
        ("lena.aac", "aac"),
        ("lena.flac", "flac"),
        ("lena.ogg", "vorbis"),
        ("lena.opus", "opus"),
        ("lena.webm", "opus"),
        ("lena.wav", "pcm_s16le"),
        ("lena.aiff", "pcm_s16be"),
        ("lena-24.aiff", "pcm_s24be"),
        ("lena-32.aiff", "pcm_s32be"),
        ("lena-alaw.aiff", "pcm_alaw"),
        ("lena-f32.caf", "pcm_f32le"),
    ],
)
def test_a_recording_is_known_in_any_format_by_its_content_alone(run, recordings, name, codec) -> None:
    """The file has no extension in its work folder."""
    source = shutil.copy(recordings.lena(name), run.work / "source")
    media = probe(run, source)
    assert media.audio[0].codec == codec
    assert media.duration_s == pytest.approx(12.27, abs=0.5)


def test_a_cover_is_a_picture_and_not_a_film(run, recordings, make) -> None:
    """An MP3 with a cover has an attached picture."""
    cover = make(
        "cover.mp3",
        *("-f", "lavfi", "-i", "testsrc=s=320x240", "-i", recordings.speech, "-map", "1:a", "-map", "0:v"),
        *("-c:v", "png", "-frames:v", "1", "-disposition:v", "attached_pic"),
    )
    media = probe(run, cover)
    assert [stream.attached_picture for stream in media.video] == [True]
    assert len(media.audio) == 1


def test_a_turned_phone_video_tells_its_rotation(run, recordings, make) -> None:
    """Rotation is clockwise: stored 90 degrees counterclockwise means 270."""
    turned = make("turned.mp4", "-display_rotation", "90", "-i", recordings.silent_video, "-t", "1", "-c", "copy")
    assert probe(run, turned).video[0].rotation == 270


def test_tags_are_kept_clean_and_few(run, recordings, make) -> None:
    """Title and artist stay, control characters and encoder names go."""
    tagged = make("tagged.mp3", "-i", recordings.speech, "-metadata", "title=A\u0007 talk", "-metadata", "artist=Two",
                  "-metadata", "encoded_by=x")  # fmt: skip
    assert probe(run, tagged).tags == {"title": "A talk", "artist": "Two", "comment": "Processed by SoX"}


def test_tags_in_an_older_encoding_are_no_reason_to_refuse(run, tmp_path) -> None:
    """Latin-1, as many a recorder writes it into a WAV file: its letters are lost, the recording is not."""
    path = signals.write(tmp_path / "latin.wav", signals.tone(1, -12, -12))
    content = path.read_bytes()
    title = "Café".encode("latin-1")
    info = b"LIST" + (4 + 8 + len(title)).to_bytes(4, "little") + b"INFOINAM" + len(title).to_bytes(4, "little") + title
    path.write_bytes(
        b"RIFF" + (len(content) - 8 + len(info)).to_bytes(4, "little") + content[8:12] + info + content[12:]
    )
    media = probe(run, path)
    assert media.audio[0].codec == "pcm_s16le"
    assert media.tags["title"].startswith("Caf")


def test_a_length_guessed_from_the_bit_rate_is_called_a_guess(run, recordings) -> None:
    """Raw AAC carries no length."""
    assert probe(run, recordings.lena("lena.aac")).duration_estimated


def test_a_track_that_cannot_be_decoded_is_left_out_while_another_can(run, recordings, make) -> None:
    """As with a phone's spatial track beside plain AAC."""
    two = make("two.mkv", "-i", recordings.speech, "-map", "0:a", "-map", "0:a", "-c:a:0", "aac", "-c:a:1", "flac")
    content = two.read_bytes()
    assert content.count(b"A_FLAC") == 1
    two.write_bytes(content.replace(b"A_FLAC", b"A_ODDS"))
    assert [stream.codec for stream in probe(run, two).audio] == ["aac"]


def test_an_answer_that_is_no_answer_is_not_believed(run, recordings, tmp_path, monkeypatch) -> None:
    """A file that took the prober over may print anything."""
    for printed in ('"no"', "{}", "[1]", '{"protected": false, "error": null}', "x" * 100):
        wicked = tmp_path / "wicked.py"
        wicked.write_text(f"print({printed!r})")
        monkeypatch.setattr(probing, "PROBER", wicked)
        with pytest.raises(JobFailure) as failed:
            probe(run, recordings.speech)
        assert failed.value.failure_code == CORRUPT.code


def test_an_endless_answer_is_cut_off(run, recordings, tmp_path, monkeypatch) -> None:
    """The prober may not fill the worker's memory: nobody reads its 64 MB to the end."""
    read_to_the_end = tmp_path / "read to the end"
    wicked = tmp_path / "wicked.py"
    wicked.write_text(f"for _ in range(1024): print('x' * 65536, flush=True)\nopen({str(read_to_the_end)!r}, 'w')")
    monkeypatch.setattr(probing, "PROBER", wicked)
    with pytest.raises(JobFailure):
        probe(run, recordings.speech)
    assert not read_to_the_end.exists()


def test_the_prober_has_neither_the_workers_environment_nor_endless_memory(
    run, recordings, tmp_path, monkeypatch
) -> None:
    """It gets a gigabyte, may write no file, and sees none of the worker's keys."""
    monkeypatch.setenv("SPOOL_SECRET", "canary-of-the-environment")
    wicked = tmp_path / "wicked.py"
    wicked.write_text("import os, sys; sys.exit('leaked' if 'canary' in str(os.environ) else len(bytes(2 << 30)))")
    monkeypatch.setattr(probing, "PROBER", wicked)
    with pytest.raises(JobFailure) as failed:
        probe(run, recordings.speech)
    assert failed.value.failure_code == "bad_input.too_large"


def test_a_killed_prober_is_no_fault_of_the_file(run, recordings, tmp_path, monkeypatch) -> None:
    """The kernel may kill it for the memory of others, and its launcher may die: that is tried again."""
    killed = tmp_path / "killed.py"
    killed.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(probing, "PROBER", killed)
    with pytest.raises(JobFailure) as failed:
        probe(run, recordings.speech)
    assert (failed.value.failure_code, failed.value.kind) == ("out_of_memory", "transient")


@pytest.mark.parametrize("field", ["sample_rate", "channels", "codec"])
def test_facts_of_a_wrong_kind_are_refused(field) -> None:
    """Numbers are numbers and names are names."""
    track = {"index": 0, "kind": "audio", "decodes": True, "codec": "aac", "sample_rate": 48_000, "channels": 2,
             "layout": "stereo", "bit_rate": None, "language": "", "title": ""}  # fmt: skip
    found = {"protected": False, "error": None, "said": [], "format": "mp3", "tags": {}, "tracks": [track]}
    found["chapters"] = []
    assert isinstance(probing.read_answer(json.loads(json.dumps(found)), 1), Media)
    track[field] = "../../etc/passwd"
    with pytest.raises(ValueError, match=r"passwd"):
        probing.read_answer(found, 1)


def test_float_recordings_with_values_that_are_no_numbers_are_still_media(run, tmp_path) -> None:
    """What to do with them is the analysis' business."""
    path = signals.write(tmp_path / "nan.wav", signals.with_nan(3), encoding="f32")
    assert probe(run, path).audio[0].codec == "pcm_f32le"
