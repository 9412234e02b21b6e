"""One MP3 from parts that were encoded at the same time, joined frame by frame: LAME uses one core, a machine has more.

The parts overlap, and all of them begin at a frame of the whole, so that each frame of the overlap exists twice, made
from the same samples. The later part takes over where both encoders kept their usual window, and where its frame
borrows no more bytes from the frames before it (the bit reservoir) than the earlier part left unused there: the
borrowed bytes move into that room. So comes a stream as one encoder could have made it, and nothing is encoded twice.

Format: ISO/IEC 11172-3, Layer III; its header frame as http://gabriel.mp3-tech.org/mp3infotag.html describes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Samples per frame, and the lowest sample rate that has such frames.
SAMPLES, LOWEST_RATE = 1152, 32_000
#: At 44.1 kHz the frames' lengths repeat after so many. Parts that begin there come to the very bytes of one encoder.
_CYCLE = 49
#: A later part begins so many frames before it may take over: its encoder has settled by then. And so many frames the
#: earlier part goes on from there.
LEAD, WINDOW = 64, 40
#: The last frames of a part that ends early know nothing of what comes, and its encoder needed to.
_FLUSHED = 6
#: A frame may borrow from 511 bytes before it; at 32 kbit/s that is nine frames.
_REACH = 12
_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES = (44_100, 48_000, 32_000)
#: Where a frame's room for sound begins, behind its header and what describes the sound.
MONO_ROOM, STEREO_ROOM = 4 + 17, 4 + 32
#: Bits of a channel in a granule, and how many of them come before the one that says that its window is not the usual.
_GRANULE_BITS, _BEFORE_SWITCH = 59, 33


class Unjoinable(ValueError):
    """These parts cannot be joined."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its bytes, and where in them the room for sound begins."""

    data: bytes
    room: int

    @property
    def borrowed(self) -> int:
        """How many bytes before its own room its sound begins."""
        return self.data[4] << 1 | self.data[5] >> 7

    @property
    def usual(self) -> bool:
        """Whether its first granule has the usual window, in every channel: it fits behind any other such frame."""
        channels = 1 if self.room == MONO_ROOM else 2
        granules = 9 + (5 if channels == 1 else 3) + 4 * channels
        switches = [granules + _GRANULE_BITS * channel + _BEFORE_SWITCH for channel in range(channels)]
        return not any(self.data[4 + bit // 8] >> (7 - bit % 8) & 1 for bit in switches)


@dataclass(frozen=True, slots=True)
class Part:
    """One part's file, in pieces as it grows, and which frame of the whole is its first."""

    pieces: Iterable[bytes]
    first: int


def spans(samples: int, parts: int) -> list[tuple[int, int | None]]:
    """(begin, end) of each part of so many samples, in samples of the whole; the last one has no end."""
    firsts = [samples // SAMPLES * number // parts // _CYCLE * _CYCLE for number in range(1, parts)]
    ends = [SAMPLES * (first + LEAD + WINDOW) for first in firsts]
    return list(zip([0, *(SAMPLES * first for first in firsts)], [*ends, None], strict=True))


class _Frames(Iterator[Frame]):
    """The frames in a stream of them: one by one where parts meet, and as many as there are elsewhere, because to look
    at each of the 25,000 in ten minutes takes longer than all the rest. Raises `Unjoinable` where something else comes.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""

    def __next__(self) -> Frame:
        for _, data in self.runs(1):
            return Frame(data, _measures(data[:4])[1])
        raise StopIteration

    def runs(self, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Whole frames as they come, `most` in all: how many, and their bytes."""
        left = -1 if most is None else most
        while left:
            held, count, end = self._held, 0, 0
            while count != left and end + 4 <= len(held):
                length, _ = _measures(held[end : end + 4])
                if end + length > len(held):
                    break
                end += length
                count += 1
            self._held = held[end:]
            if count:
                left -= count
                yield count, held[:end]
            elif piece := next(self._pieces, b""):
                self._held += piece
            elif held:
                raise Unjoinable("a part ends within a frame")
            else:
                return

    def take_back(self, frames: Sequence[Frame]) -> None:
        """These come again, before all others."""
        self._held = b"".join(frame.data for frame in frames) + self._held


class Joined:
    """The whole file: first all its `pieces`; they begin with a header frame that `header` replaces at the end."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._tags = 0
        self._frames = 0
        self._music = 0
        self._sum = Crc16()

    def pieces(self) -> Iterator[bytes]:
        """All bytes of it, as early as they are certain. Raises `Unjoinable`."""
        tags, frames = _opened(self._parts[0].pieces)
        self._tags = len(tags)
        yield tags + next(frames).data
        for later in self._parts[1:]:
            _, coming = _opened(later.pieces)
            next(coming)
            yield from self._told(frames.runs(max(0, later.first + LEAD - _REACH - self._frames)))
            # From here on every frame was made twice: what is left of the earlier part, and what the later one has.
            ending = list(frames)
            settled = list(itertools.islice(coming, max(0, self._frames - later.first)))
            other = list(itertools.islice(coming, len(ending)))
            candidates = range(_REACH, min(len(other), len(ending) - _FLUSHED))
            place = next((number for number in candidates if _fits(ending[number], other[number])), None)
            if place is None or later.first + len(settled) != self._frames:
                raise Unjoinable("there is no frame at which the later part could take over")
            lending = _lending(ending[:place], _before(other[:place], other[place].borrowed))
            yield from self._told((1, frame.data) for frame in lending)
            coming.take_back(other[place:])
            frames = coming
        yield from self._told(frames.runs())

    def header(self, last: Path) -> tuple[int, bytes]:
        """(place, bytes) of the true header frame, made of the one in the last part's finished file."""
        with last.open("rb") as file:
            _, frames = _opened([file.read(1 << 16)])
        frame = next(frames).data
        info, size = bytearray(frame), (len(frame) + self._music).to_bytes(4, "big")
        start = max(frame.find(b"Info"), frame.find(b"Xing"))
        if start < 0:
            raise Unjoinable("a part has no header frame")
        lame = start + 120
        info[start + 8 : start + 16] = self._frames.to_bytes(4, "big") + size
        info[lame + 28 : lame + 34] = size + self._sum.value.to_bytes(2, "big")
        check = Crc16()
        check.add(bytes(info[: lame + 34]))
        info[lame + 34 : lame + 36] = check.value.to_bytes(2, "big")
        return self._tags, bytes(info)

    def _told(self, runs: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """The bytes of these frames, counted."""
        for count, data in runs:
            self._frames += count
            self._music += len(data)
            self._sum.add(data)
            yield data


def _fits(own: Frame, other: Frame) -> bool:
    """Whether `other` may stand in the place of `own`, which was made from the same samples."""
    return own.usual and other.usual and other.borrowed <= own.borrowed


def _before(frames: Sequence[Frame], count: int) -> bytes:
    """The last bytes in the rooms of these frames."""
    rooms = b"".join(frame.data[frame.room :] for frame in frames)
    return rooms[len(rooms) - count :]


def _lending(frames: Sequence[Frame], lent: bytes) -> list[Frame]:
    """The same frames with `lent` at the end of their rooms."""
    changed = list[Frame]()
    for frame in reversed(frames):
        count = min(len(lent), len(frame.data) - frame.room)
        keep = len(lent) - count
        changed.append(Frame(frame.data[: len(frame.data) - count] + lent[keep:], frame.room))
        lent = lent[:keep]
    return changed[::-1]


def _opened(pieces: Iterable[bytes]) -> tuple[bytes, _Frames]:
    """The ID3 tag that begins a file (or nothing), and its frames, the header frame first. Raises `Unjoinable`."""
    coming, held = iter(pieces), bytearray()
    while len(held) < 10 or len(held) < _tag_bytes(held):
        piece = next(coming, b"")
        if not piece:
            raise Unjoinable("a part ended before its sound began")
        held += piece
    size = _tag_bytes(held)
    tag = bytes(held[:size])
    return tag, _Frames(itertools.chain([bytes(held[size:])], coming))


def _tag_bytes(head: bytearray) -> int:
    """Bytes of the ID3 tag that begins with these."""
    if not head.startswith(b"ID3"):
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


@cache
def _measures(head: bytes) -> tuple[int, int]:
    """Bytes of the frame that begins so, and where its room begins: MPEG-1 Layer III, without a checksum per frame."""
    kbps, rate, padded, mono = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1, head[3] >> 6 == 3
    if head[:2] != b"\xff\xfb" or kbps in (0, 15) or rate == 3:
        raise Unjoinable("a part is something else than MPEG-1 Layer III")
    return 144_000 * _KBPS[kbps] // _RATES[rate] + padded, MONO_ROOM if mono else STEREO_ROOM


class Crc16:
    """The checksum of a header frame: CRC-16 with the polynomial 0x8005, bits reversed, begun with 0.

    A megabyte at a time, in lanes side by side, each of which is then moved to its place: hundreds of times as fast
    as byte by byte.
    """

    _LANES, _LENGTH = 12, 8  # as powers of two

    def __init__(self) -> None:
        self._value = 0
        self._held = bytearray()

    def add(self, data: bytes) -> None:
        """Take these bytes."""
        self._held += data
        size = 1 << (self._LANES + self._LENGTH)
        while len(self._held) >= size:
            self._value = self._with(bytes(self._held[:size]))
            del self._held[:size]

    @property
    def value(self) -> int:
        """The checksum of all bytes so far."""
        return self._with(bytes(self._held))

    def _with(self, data: bytes) -> int:
        # Zeros in front change nothing, as long as nothing but zeros came before.
        lanes = np.frombuffer(data.rjust(1 << (self._LANES + self._LENGTH), b"\0"), np.uint8)
        sums = np.zeros(1 << self._LANES, np.uint16)
        for column in np.ascontiguousarray(lanes.reshape(sums.size, -1).T):
            sums = _zeros(0)[sums ^ column]
        for power in range(self._LENGTH, self._LENGTH + self._LANES):
            sums = _zeros(power)[sums[0::2]] ^ sums[1::2]
        moved = self._value
        for power in range(len(data).bit_length()):
            if len(data) >> power & 1:
                moved = int(_zeros(power)[moved])
        return moved ^ int(sums[0])


@cache
def _zeros(power: int) -> NDArray[np.uint16]:
    """What 2**power bytes of zeros make of every checksum."""
    if power:
        half = _zeros(power - 1)
        return half[half]
    sums = np.arange(1 << 16, dtype=np.uint16)
    for _ in range(8):
        sums = np.where(sums & 1, sums >> 1 ^ 0xA001, sums >> 1).astype(np.uint16)
    return sums
