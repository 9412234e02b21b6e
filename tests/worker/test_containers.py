"""What a file is read with, where its sound looks like another kind of file."""

from __future__ import annotations

import os
import shutil

import pytest

from worker.containers import certain_demuxer
from worker.ffmpeg import input_args, transcode
from worker.probe import probe

pytestmark = pytest.mark.media
#: A tone whose samples ffmpeg takes for packets of MPEG-TS: 192 bytes a period, one of them always the sync byte.
TONE = ("-f", "lavfi", "-i", "sine=f=1000:r=48000:d=3,volume=6.4", "-ac", "2")


@pytest.mark.parametrize(
    ("extension", "demuxer", "codec"),
    [
        ("wav", "wav", "pcm_s16le"),
        ("w64", "w64", "pcm_s16le"),
        ("aiff", "aiff", "pcm_s16be"),
        ("caf", "caf", "pcm_s16be"),
        ("au", "au", "pcm_s16be"),
        ("mov", "mov", "pcm_s16le"),
    ],
)
def test_a_steady_tone_is_read_as_what_its_header_says(run, make, *, extension, demuxer, codec) -> None:
    """By the prober and by ffmpeg, in every container of bare samples."""
    source = run.work / "source"
    shutil.copy(make(f"tone.{extension}", *TONE, "-c:a", codec), source)
    assert certain_demuxer(source) == demuxer
    media = probe(run, source)
    assert demuxer in media.format_name.split(",")
    assert (media.audio[0].codec, media.audio[0].channels) == (codec, 2)
    seconds: list[float] = []
    transcode(run, [*input_args(source), "-f", "null", os.devnull], on_time=seconds.append)
    assert seconds[-1] == pytest.approx(3.0, abs=0.05)


def test_a_large_wav_is_known_too(run, make) -> None:
    """Beyond 4 GB a WAV calls itself RF64."""
    source = make("large.wav", *TONE, "-rf64", "always")
    assert source.read_bytes()[:4] == b"RF64"
    assert certain_demuxer(source) == "wav"
    assert probe(run, source).audio[0].codec == "pcm_s16le"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"RIFF",
        b"RIFF\x00\x00\x00\x00CDXA",
        b"FORM\x00\x00\x00\x00ILBM",
        b"caff\x00\x02\x00\x00",
        b"ID3\x04",
        b"#EXTM3U",
    ],
)
def test_anything_else_is_left_to_ffmpeg(tmp_path, head) -> None:
    """A beginning that says less than which demuxer it is."""
    (tmp_path / "source").write_bytes(head + bytes(40) * bool(head))
    assert certain_demuxer(tmp_path / "source") is None


def test_what_is_no_file_is_not_opened(tmp_path) -> None:
    """A pipe would keep whoever opens it waiting."""
    os.mkfifo(tmp_path / "pipe")
    assert certain_demuxer(tmp_path / "pipe") is None
    assert certain_demuxer(tmp_path / "nothing") is None
