"""What a plain WAV file says of itself in its first bytes.

`read_header` is no more than a guess that lets the measurement begin while the file is still being looked into: whoever
uses it compares it with what `probe` finds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 1 << 16
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
#: ffmpeg's names of what is in the samples, by format and bits per sample.
_CODECS = {
    (_PCM, 8): "pcm_u8",
    (_PCM, 16): "pcm_s16le",
    (_PCM, 24): "pcm_s24le",
    (_PCM, 32): "pcm_s32le",
    (_FLOAT, 32): "pcm_f32le",
    (_FLOAT, 64): "pcm_f64le",
}


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The sound in a WAV file, as its header has it."""

    codec: str
    sample_rate: int
    channels: int
    duration_s: float


def read_header(path: Path) -> WavHeader | None:
    """The header of a WAV file, or None where the file is something else or less usual."""
    described, length, there = _chunks(path)
    return _header(described, length) if 0 < length <= there else None


def promised_s(path: Path) -> float | None:
    """Seconds of sound that a WAV file says it has, also where it ends before; None where it does not say.

    What writes to a pipe, or is stopped before it ends a recording, leaves a length that stands for none.
    """
    described, length, _ = _chunks(path)
    if not length or length >= 0xFFFF_0000 or 0x7FFF_0000 <= length <= 0x8000_FFFF:
        return None
    header = _header(described, length)
    return None if header is None else header.duration_s


def _chunks(path: Path) -> tuple[bytes, int, int]:
    """How the sound is described, how many bytes of it are said to be there, and how many are; 0 where it has none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return b"", 0, 0
    at, described = 12, b""
    while at + 8 <= len(head):
        name, length = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"data":
            return described, length, size - at - 8
        if name == b"fmt ":
            described = head[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return described, 0, 0


def _header(described: bytes, length: int) -> WavHeader | None:
    if len(described) < 16:
        return None
    kind, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", described)
    if kind == _EXTENSIBLE and len(described) >= 26:
        kind = int.from_bytes(described[24:26], "little")
    codec = _CODECS.get((kind, bits))
    if codec is None or not rate or frame != channels * bits // 8 or not frame:
        return None
    return WavHeader(codec, rate, channels, length // frame / rate)
