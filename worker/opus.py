"""The gain in an Opus file's header, by which every player raises what it decodes.

It makes a file louder or softer without encoding it again. Format: RFC 7845, section 5.1, in a page of RFC 3533.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

#: Offsets of the header packet's name and gain in it, and of the checksum in a page.
_HEAD, _GAIN_AT, _CHECK_AT = b"OpusHead", 16, 22
#: Steps of a decibel, and the most that the 16 bits hold.
_STEPS, _MOST_DB = 256, 127.0
#: The first page holds nothing but the header, 19 bytes of it for up to two channels.
_FIRST_PAGE_BYTES = 4096


def raise_gain(path: Path, gain_db: float) -> float:
    """Have players raise the file by so much more than so far; returns how much it is, in steps of 1/256 dB.

    Raises `ValueError` for a file that does not begin as one of ours does.
    """
    with path.open("r+b") as file:
        page = bytearray(file.read(_FIRST_PAGE_BYTES))
        head = page.find(_HEAD)
        if page[:4] != b"OggS" or head != 27 + page[26]:
            raise ValueError(f"{path.name} does not begin with an Opus header")
        size = head + sum(page[27:head])
        place = slice(head + _GAIN_AT, head + _GAIN_AT + 2)
        before = int.from_bytes(page[place], "little", signed=True)
        after = before + round(max(-_MOST_DB, min(_MOST_DB, gain_db)) * _STEPS)
        page[place] = after.to_bytes(2, "little", signed=True)
        page[_CHECK_AT : _CHECK_AT + 4] = bytes(4)
        page[_CHECK_AT : _CHECK_AT + 4] = _crc(bytes(page[:size])).to_bytes(4, "little")
        file.seek(0)
        file.write(page[:size])
    return (after - before) / _STEPS


def _crc(data: bytes) -> int:
    """The checksum of an Ogg page: CRC-32 with the polynomial 0x04c11db7, begun with 0, bits as they are."""
    value = 0
    for byte in data:
        value = (value << 8) & 0xFFFFFFFF ^ _table()[value >> 24 ^ byte]
    return value


@cache
def _table() -> tuple[int, ...]:
    made = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) & 0xFFFFFFFF ^ (0x04C11DB7 if value >> 31 else 0)
        made.append(value)
    return tuple(made)
