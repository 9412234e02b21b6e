"""What a still picture says of itself in its first bytes: its kind, its size and how it was held.

Read here, in a language without wild pointers, before any decoder sees the file: a few kilobytes can claim a picture of
many gigabytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Enough for the metadata that comes before a JPEG's size.
_HEAD_BYTES = 1 << 20
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Picture:
    """A still picture; `demuxer` is ffmpeg's, width and height are as stored, `orientation` is EXIF's (1 to 8).

    `alpha` says that parts of it may be transparent.
    """

    demuxer: str
    width: int
    height: int
    orientation: int = 1
    alpha: bool = False

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as a viewer shows it."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_picture(path: Path) -> Picture | None:
    """The picture that a file holds by its own words; None where it is none of these kinds, or cut off."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        return next((read(head) for signature, read in _KINDS if signature.match(head)), None)
    except struct.error:
        return None


def _jpeg(head: bytes) -> Picture | None:
    at, orientation = 2, 1
    while at + 4 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", head, at + 2)
        if marker in _SOF:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return Picture("jpeg_pipe", width, height, orientation)
        if marker == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(head[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _png(head: bytes) -> Picture:
    width, height = struct.unpack_from(">II", head, 16)
    orientation, alpha = 1, head[25:26] in (b"\4", b"\6")
    for kind, body in _chunks(head[8:], ">"):
        if kind == b"eXIf":
            orientation = _orientation(body)
        alpha |= kind == b"tRNS"
    return Picture("png_pipe", width, height, orientation, alpha)


def _gif(head: bytes) -> Picture:
    width, height = struct.unpack_from("<HH", head, 6)
    return Picture("gif", width, height, alpha=True)


def _bmp(head: bytes) -> Picture | None:
    if struct.unpack_from("<I", head, 14)[0] < 40:
        return None
    width, height = struct.unpack_from("<ii", head, 18)
    return Picture("bmp_pipe", abs(width), abs(height))


def _webp(head: bytes) -> Picture | None:
    size, orientation, alpha = None, 1, False
    for kind, body in _chunks(head[12:], "<"):
        if kind == b"VP8X":
            size = (1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
            alpha = bool(body[0] & 0x10)
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", body, 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", body, 1)
            size, alpha = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), bool(bits >> 28 & 1)
        elif kind == b"EXIF":
            orientation = _orientation(body.removeprefix(b"Exif\0\0"))
    return Picture("webp_pipe", *size, orientation, alpha) if size else None


def _chunks(data: bytes, order: str) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of PNG (length first, checksum behind) and RIFF (name first, even lengths)."""
    at = 0
    while at + 8 <= len(data):
        if order == ">":
            length, kind = struct.unpack_from(">I4s", data, at)
            after = length + 12
        else:
            kind, length = struct.unpack_from("<4sI", data, at)
            after = 8 + length + length % 2
        yield kind, data[at + 8 : at + 8 + length]
        at += after


def _orientation(exif: bytes) -> int:
    """EXIF's orientation; 1 where it has none that exists."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * min(count, 200), 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind == 3:
                (value,) = struct.unpack_from(f"{order}H", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


_KINDS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Picture | None]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"BM"), _bmp),
)
