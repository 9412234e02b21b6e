"""An MP3 joined from parts is the file that one encoder would have made."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.media import judges, signals
from worker.mp3 import LEAD, SAMPLES, WINDOW, Crc16, Frame, Joined, Part, Unjoinable, _fits, spans

pytestmark = pytest.mark.media
SECONDS = 14.1
#: Bytes of the ID3 tag that holds the title.
_TAG = 41


@pytest.fixture
def encoded(run, make, tmp_path) -> Callable[..., Path]:
    """Encodes samples of the sound, from `begin` to `end`."""
    sources: dict[tuple[int, int], Path] = {}

    def made(rate: int, channels: int, kbps: int, begin: int = 0, end: int | None = None) -> Path:
        if (rate, channels) not in sources:
            sound = signals.podcast(SECONDS, rate=rate, channels=channels) + _music(rate, channels)
            sources[rate, channels] = signals.write(tmp_path / f"{rate}-{channels}.wav", sound, rate=rate)
        cut = f"atrim=start_sample={begin}" + ("" if end is None else f":end_sample={end}")
        return make(
            f"{rate}-{channels}-{kbps}-{begin}-{end}.mp3",
            *("-i", sources[rate, channels], "-af", f"{cut},asetpts=N/SR/TB", "-c:a", "libmp3lame", "-b:a", f"{kbps}k"),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1", "-metadata", "title=A title"),
        )

    return made


def _music(rate: int, channels: int) -> np.ndarray:
    """Chords under the speech, so that a 128 kbit/s encoder has something to save up for."""
    sound = signals.music(SECONDS, rate=rate, peak_dbtp=-12)
    return sound if channels == 2 else sound.mean(axis=1, keepdims=True)


def _pieces(data: bytes, seed: int = 0) -> Iterator[bytes]:
    """The bytes in pieces of any length, as a file grows."""
    dice, at = random.Random(seed), 0
    while at < len(data):
        length = dice.choice((1, 3, 100, 417, 5_000, 60_000))
        yield data[at : at + length]
        at += length


def _joined(files: list[Path], begins: list[int]) -> bytes:
    parts = [Part(_pieces(file.read_bytes()), begin // SAMPLES) for file, begin in zip(files, begins, strict=True)]
    joined = Joined(parts)
    whole = bytearray(b"".join(joined.pieces()))
    at, header = joined.header(files[-1])
    whole[at : at + len(header)] = header
    return bytes(whole)


#: Every bit rate, each at one of the rates of samples; 128 kbit/s, the usual, at all.
KINDS = [
    *((rate, (128, 2)) for rate in (32_000, 44_100, 48_000)),
    *((44_100, (32, 1)), (48_000, (64, 2)), (32_000, (128, 1)), (44_100, (192, 2)), (48_000, (320, 2))),
]


@pytest.mark.parametrize(("rate", "kind"), KINDS, ids=str)
def test_the_joined_file_is_the_whole_one(encoded, run, tmp_path, rate, kind):
    """It sounds the same to the last bit; where low bit rates keep the encoders apart, it is as near to the sound."""
    kbps, channels = kind
    whole = encoded(rate, channels, kbps)
    wanted = spans(round(SECONDS * rate), 2)
    files = [encoded(rate, channels, kbps, begin, end) for begin, end in wanted]
    joined = _joined(files, [begin for begin, _ in wanted])
    path = tmp_path / "joined.mp3"
    path.write_bytes(joined)
    made_whole, made_joined = (judges.decode(run.engine.ffmpeg, file).samples for file in (whole, path))
    assert len(joined) == pytest.approx(whole.stat().st_size, abs=2)
    assert len(made_whole) == len(made_joined)
    sound = judges.decode(run.engine.ffmpeg, tmp_path / f"{rate}-{channels}.wav").samples
    assert (_wrong(sound, made_joined, rate) < 1.25 * _wrong(sound, made_whole, rate) + 1e-6).all()
    if kbps / channels >= 64:
        assert np.array_equal(made_joined, made_whole)


def _wrong(sound: np.ndarray, made: np.ndarray, rate: int) -> np.ndarray:
    """How far a decoded file is from the sound, per 50 ms."""
    step = rate // 20
    apart = (made - sound)[: len(sound) // step * step].reshape(-1, step * sound.shape[1])
    return np.sqrt((apart**2).mean(axis=1))


def test_three_parts_are_joined_as_two(encoded, run, tmp_path):
    """A later part takes over from one that took over itself."""
    whole, wanted = encoded(48_000, 2, 128), spans(round(SECONDS * 48_000), 3)
    files = [encoded(48_000, 2, 128, begin, end) for begin, end in wanted]
    path = tmp_path / "joined.mp3"
    path.write_bytes(_joined(files, [begin for begin, _ in wanted]))
    one, other = (judges.decode(run.engine.ffmpeg, file).samples for file in (whole, path))
    assert np.array_equal(one, other)


def test_the_header_frame_is_the_one_ffmpeg_writes(encoded):
    """Counts, padding and both checksums: joining one part alone changes no byte of the file."""
    whole = encoded(44_100, 2, 128)
    assert _joined([whole], [0]) == whole.read_bytes()


def test_what_cannot_be_joined_says_so(encoded):
    """Something else than MP3, a part that ends within a frame, and parts that never meet."""
    (_, end), (begin, _) = spans(round(SECONDS * 48_000), 2)
    one, other = encoded(48_000, 2, 128, 0, end), encoded(48_000, 2, 128, begin)
    head = one.read_bytes()
    for pieces, why in (
        ([], "before its sound"),
        ([head[:5]], "before its sound"),
        ([head[:-7]], "within a frame"),
        ([head[:_TAG], b"RIFF" * 200], "something else"),
    ):
        with pytest.raises(Unjoinable, match=why):
            b"".join(Joined([Part(pieces, 0)]).pieces())
    apart = Part([other.read_bytes()], begin // SAMPLES + 2 * (LEAD + WINDOW))
    with pytest.raises(Unjoinable, match="no frame"):
        b"".join(Joined([Part([head], 0), apart]).pieces())


def test_a_frame_with_another_window_is_passed_over():
    """The bit is the 34th of each channel's first granule, behind 9 + 3 + 8 bits (stereo) or 9 + 5 + 4 (mono)."""
    for room, granules, channels in ((36, 20, 2), (21, 18, 1)):
        for channel in range(channels):
            bit = granules + 59 * channel + 33
            side = bytearray(room)
            usual = Frame(bytes(side), room)
            assert usual.usual
            assert _fits(usual, usual)
            side[4 + bit // 8] |= 0x80 >> bit % 8
            other = Frame(bytes(side), room)
            assert not other.usual
            assert not _fits(usual, other)
            assert not _fits(other, usual)


def test_the_checksum_is_crc_16():
    """The published check value, and long inputs in uneven pieces against the definition."""
    known = Crc16()
    known.add(b"123456789")
    assert known.value == 0xBB3D
    data = random.Random(5).randbytes(1_200_000)
    fast = Crc16()
    for piece in _pieces(data):
        fast.add(piece)
    slow = 0
    for byte in data:
        slow ^= byte
        for _ in range(8):
            slow = slow >> 1 ^ (0xA001 if slow & 1 else 0)
    assert fast.value == slow
