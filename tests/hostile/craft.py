"""Media files put together by hand, byte by byte, so that any field of them may lie."""

from __future__ import annotations

import math
import struct
import zlib

Chunk = tuple[bytes, bytes]


def sine(seconds: float, rate: int = 48_000, channels: int = 2) -> bytes:
    """A tone at -12 dBFS as 16-bit samples, little-endian: something that can be mastered."""
    period = [round(8192 * math.sin(2 * math.pi * n / 48)) for n in range(48)]
    whole = b"".join(struct.pack("<h", value) * channels for value in period)
    frames = round(seconds * rate)
    return (whole * (frames // 48 + 1))[: frames * 2 * channels]


# --- RIFF: WAV and AVI -----------------------------------------------------------------------------------------
def riff(*chunks: Chunk, kind: bytes = b"WAVE") -> bytes:
    """A RIFF file of these chunks."""
    body = b"".join(_chunk(name, content) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + kind + body


def fmt(code: int = 1, channels: int = 2, rate: int = 48_000, bits: int = 16) -> Chunk:
    """A `fmt ` chunk."""
    frame = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)


def wav(*extra: Chunk, seconds: float = 1.0, rate: int = 48_000) -> bytes:
    """A good WAV file with more chunks in front of its sound."""
    return riff(fmt(rate=rate), *extra, (b"data", sine(seconds)))


def avi(*others: tuple[bytes, bytes, list[bytes]]) -> bytes:
    """An AVI file with a second of sound, and other tracks: (`strh` type, `strf`, packets)."""
    sound = sine(1.0)
    tracks = [(b"auds", fmt()[1], [sound[at : at + 9600] for at in range(0, len(sound), 9600)]), *others]
    heads, packets = b"", b""
    for number, (kind, described, content) in enumerate(tracks):
        scale, rate, sample = (4, 192_000, 4) if kind == b"auds" else (1, 25, 0)
        length = len(sound) // 4 if kind == b"auds" else len(content)
        header = struct.pack("<4s4sIHHIIIIIIiIhhhh", kind, b"\0" * 4, 0, 0, 0, 0, scale, rate, 0, length,
                             1 << 20, -1, sample, 0, 0, 0, 0)  # fmt: skip
        heads += _list(b"strl", _chunk(b"strh", header) + _chunk(b"strf", described))
        name = b"%02d" % number + {b"auds": b"wb", b"vids": b"dc"}.get(kind, b"sb")
        packets += b"".join(_chunk(name, packet) for packet in content)
    main = struct.pack("<10I16x", 40_000, 0, 0, 0x100, 25, 0, len(tracks), 1 << 20, 64, 64)
    body = _list(b"hdrl", _chunk(b"avih", main) + heads) + _list(b"movi", packets)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"AVI " + body


def bitmap_info(codec: bytes, width: int, height: int) -> bytes:
    """The description of an AVI's picture track."""
    return struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, codec, 0, 0, 0, 0, 0)


def gab2(text: str) -> bytes:
    """A packet of an AVI's subtitle track that holds a whole subtitle file, whatever that is."""
    content = text.encode()
    return b"GAB2\0" + struct.pack("<HIHHI", 2, 2, 0, 4, len(content)) + content


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _list(kind: bytes, content: bytes) -> bytes:
    return _chunk(b"LIST", kind + content)


# --- MOV -------------------------------------------------------------------------------------------------------
def atom(kind: bytes, *content: bytes) -> bytes:
    """A box of an MP4 or MOV file."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def reference(kind: bytes, place: str) -> bytes:
    """An entry of a `dref` box that says the media lies elsewhere."""
    if kind != b"alis":
        return atom(kind, bytes(4), place.encode() + b"\0")
    path = place.encode()
    name = path.rpartition(b"/")[2][:63]
    record = bytes(10) + b"\4disk".ljust(28, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    record += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    folder = path.rpartition(b"/")[0].rpartition(b"/")[2]
    for number, text in ((0, folder), (2, path)):
        record += struct.pack(">hH", number, len(text)) + text + b"\0" * (len(text) % 2)
    return atom(b"alis", bytes(4), record + struct.pack(">hH", -1, 0))


#: The entry that every honest file has: the media is in this file.
HERE = atom(b"url ", b"\0\0\0\1")


def mov(*, tracks: int = 1, dref: bytes = HERE, rate: int = 48_000, sizes: bytes | None = None) -> bytes:
    """A MOV file with a second of sound, of which every track tells."""
    sound = sine(1.0)
    head = atom(b"ftyp", b"qt  ", bytes(4), b"qt  ")
    samples = len(sound) // 4
    described = struct.pack(">6xH8xHHHHI", 1, 2, 16, 0, 0, (rate & 0xFFFF) << 16)
    table = atom(
        b"stbl",
        atom(b"stsd", struct.pack(">II", 0, 1), atom(b"sowt", described)),
        atom(b"stts", struct.pack(">IIII", 0, 1, samples, 1)),
        atom(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples, 1)),
        sizes or atom(b"stsz", struct.pack(">III", 0, 4, samples)),
        atom(b"stco", struct.pack(">III", 0, 1, len(head) + 8)),
    )
    information = atom(
        b"minf", atom(b"smhd", bytes(8)), atom(b"dinf", atom(b"dref", struct.pack(">II", 0, 1), dref)), table
    )
    media = atom(
        b"mdia",
        atom(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, rate, samples, 0, 0)),
        atom(b"hdlr", bytes(4), b"mhlrsoun", bytes(13)),
        information,
    )
    one = atom(b"trak", atom(b"tkhd", struct.pack(">IIIII60x", 7, 0, 0, 1, 0)), media)
    return head + atom(b"mdat", sound) + movie(one * tracks)


def movie(*content: bytes) -> bytes:
    """A `moov` box."""
    return atom(b"moov", atom(b"mvhd", struct.pack(">IIIIIII72x", 0, 0, 0, 1000, 1000, 0x10000, 2)), *content)


# --- Ogg, FLAC, MP3 --------------------------------------------------------------------------------------------
def ogg_page(serial: int, number: int, packet: bytes, *, first: bool = False, at: int = 0) -> bytes:
    """One page with one short packet."""
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    page = (
        struct.pack("<4sBBqIII", b"OggS", 0, 2 * first, at, serial, number, 0) + bytes([len(lacing)]) + lacing + packet
    )
    return page[:22] + struct.pack("<I", _crc(page, 0x04C11DB7, 32)) + page[26:]


def opus_head(channels: int, family: int) -> bytes:
    """An Opus identification header."""
    table = bytes([channels, 0]) + bytes(range(channels)) if family else b""
    return b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 312, 48_000, 0, family) + table


def flac_of_silence(seconds: int, *, rate: int, tell: bool) -> bytes:
    """Mono silence in a few bytes a minute; with `tell` the header says how long it is."""
    size = 65_535
    total = seconds * rate if tell else 0
    info = struct.pack(">HH6x", size, size) + (rate << 44 | 15 << 36 | total).to_bytes(8) + bytes(16)
    frames = []
    for number in range(seconds * rate // size + 1):
        head = b"\xff\xf8" + bytes([0x70, 0x08]) + _utf8(number) + struct.pack(">H", size - 1)
        head += bytes([_crc(head, 0x07, 8)])
        body = head + bytes(3)  # one subframe: constant, zero
        frames.append(body + struct.pack(">H", _crc(body, 0x8005, 16)))
    return b"fLaC\x80" + len(info).to_bytes(3) + info + b"".join(frames)


def id3(*frames: tuple[bytes, int, bytes], size: int | None = None) -> bytes:
    """An ID3v2.4 tag of (name, flags, content); `size` is what it claims to be long."""
    body = b"".join(
        name + _syncsafe(len(content)) + struct.pack(">H", flags) + content for name, flags, content in frames
    )
    return b"ID3\4\0\0" + _syncsafe(len(body) if size is None else size) + body


def cover(content: bytes, kind: bytes = b"image/png") -> tuple[bytes, int, bytes]:
    """An ID3 frame with a cover."""
    return b"APIC", 0, b"\0" + kind + b"\0\3\0" + content


def packed_text(length: int) -> tuple[bytes, int, bytes]:
    """An ID3 frame with a compressed text of so many characters."""
    return b"TXXX", 0x0009, _syncsafe(length) + zlib.compress(b"\0x\0" + b"A" * length, 9)


def png(width: int, height: int) -> bytes:
    """A picture that claims a size and holds almost nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """The same as JPEG: headers and no more than a few bytes of picture."""
    quant = b"\xff\xdb\0\x43\0" + b"\1" * 64
    frame = b"\xff\xc0\0\x0b\x08" + struct.pack(">HH", height, width) + b"\1\1\x11\0"
    huffman = b"".join(b"\xff\xc4\0\x14" + bytes([kind]) + b"\1" + bytes(15) + b"\0" for kind in (0x00, 0x10))
    return b"\xff\xd8" + quant + frame + huffman + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\0" * 64 + b"\xff\xd9"


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    """A CRC that begins at 0 and is not turned around, as Ogg and FLAC have them."""
    value, top, mask = 0, 1 << (bits - 1), (1 << bits) - 1
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
    return value


def _utf8(number: int) -> bytes:
    """FLAC writes frame numbers as UTF-8 writes characters."""
    return chr(number).encode("utf-8", "surrogatepass")


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
