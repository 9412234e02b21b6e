"""The guess from a WAV header agrees with the look into the file, or is none."""

from __future__ import annotations

import pytest

from tests.media import signals
from worker.probe import probe
from worker.wav import promised_s, read_header

pytestmark = pytest.mark.media


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 8_000), (2, 44_100), (6, 96_000)])
def test_the_header_says_what_is_found(run, make, codec, channels, rate):
    """Every kind of plain WAV that ffmpeg writes, extensible headers (24 bits, six channels) and chunks included."""
    path = make(
        "sound.wav",
        *("-f", "lavfi", "-i", f"sine=sample_rate={rate}:duration=0.7", "-ac", channels, "-c:a", codec),
        *("-metadata", "title=A title"),
    )
    header, media = read_header(path), probe(run, path)
    found = media.audio[0]
    assert header is not None
    assert (header.codec, header.sample_rate, header.channels) == (found.codec, found.sample_rate, found.channels)
    assert header.duration_s == pytest.approx(media.duration_s, abs=1e-6)


def _put(at: int, data: bytes):
    return lambda good: good[:at] + data + good[at + len(data) :]


#: In the file that `signals.write` makes, the description is at 12 and the sound at 36.
SPOILED = {
    "an empty file": lambda _: b"",
    "something else": lambda _: b"ID3" + bytes(100),
    "another RIFF": _put(8, b"AVI "),
    "cut off before the sound": lambda good: good[:30],
    "sound before its description": _put(12, b"junk"),
    "a description that is too short": lambda good: good[:16] + (4).to_bytes(4, "little") + good[20:24] + good[36:],
    "no sound": _put(40, bytes(4)),
    "a length that is not there": _put(40, b"\xff\xff\xff\xff"),
    "a codec without a name": _put(20, b"\x55\x00"),
    "no rate": _put(24, bytes(4)),
    "no channels": _put(22, bytes(2)),
    "frames of another size": _put(32, b"\x05\x00"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_anything_else_is_left_to_the_look(tmp_path, name):
    """A header that is not plain leads to no guess, and to no error."""
    path = signals.write(tmp_path / "good.wav", signals.tone(0.1, -20, -20))
    assert read_header(path) is not None
    path.write_bytes(SPOILED[name](path.read_bytes()))
    assert read_header(path) is None


@pytest.mark.parametrize("length", [0, 0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000])
def test_a_length_that_stands_for_none_promises_nothing(tmp_path, length):
    """Programs that write to a pipe, or are stopped, leave such lengths; the rest of the file may be whole."""
    path = signals.write(tmp_path / "good.wav", signals.tone(0.1, -20, -20))
    assert promised_s(path) == pytest.approx(0.1)
    path.write_bytes(_put(40, length.to_bytes(4, "little"))(path.read_bytes()))
    assert promised_s(path) is None


def test_what_is_missing_was_promised(tmp_path):
    """The promise outlives the samples, and the guess does not."""
    path = signals.write(tmp_path / "good.wav", signals.tone(1, -20, -20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 1])
    assert read_header(path) is None
    assert promised_s(path) == pytest.approx(1)
