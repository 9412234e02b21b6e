"""A drawing of our own as a PNG: the outline of a sound."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.meter import Points

Pixels = NDArray[np.uint8]


def write_png(path: Path, pixels: Pixels) -> Path:
    """Write 8-bit pixels, (height, width, 4) as red, green, blue and opacity; returns `path`."""
    height, width, _ = pixels.shape
    # Each row begins with the number of its filter; 0 is none.
    rows = np.zeros((height, 1 + 4 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + _sum(kind + data) for kind, data in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def waveform(points: Points, size: tuple[int, int], colours: tuple[str, str | None]) -> Pixels:
    """The highest and lowest sample of each column, full scale being the whole height.

    `size` is width and height; `colours` are those of the outline and behind it, as `#rrggbb`.
    """
    (width, height), (colour, background) = size, colours
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[:] = (0, 0, 0, 0) if background is None else (*_rgb(background), 255)
    if not len(points):
        points = np.zeros((1, 2), np.int16)
    starts = np.arange(width) * len(points) // width
    low = np.minimum.reduceat(points[:, 0], starts).astype(np.float64)
    high = np.maximum.reduceat(points[:, 1], starts).astype(np.float64)
    # Rows whose middle lies between the two, and one at least.
    top = np.floor((1 - high / 32768) / 2 * (height - 1) + 0.5)
    bottom = np.floor((1 - low / 32768) / 2 * (height - 1) + 0.5)
    rows = np.arange(height)[:, None]
    pixels[(rows >= top) & (rows <= bottom)] = (*_rgb(colour), 255)
    return pixels


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _sum(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))
