"""An ID3 tag of our own: ffmpeg writes no table of contents, without which players do not know of an MP3's chapters.

Format: ID3v2.3 as https://id3.org/id3v2.3.0 has it, the version that every player reads, with chapters as
https://id3.org/id3v2-chapters-1.0 adds them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FRONT_COVER = 3
_UTF16 = b"\x01"
#: Says of a chapter that only its times count, and not its bytes.
_NO_BYTES = b"\xff" * 8
_TOP_AND_ORDERED = 3
_TEXTS = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "genre": "TCON",
    "track": "TRCK",
    "copyright": "TCOP",
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter, in milliseconds."""

    start_ms: int
    end_ms: int
    title: str
    url: str | None = None


def tag(words: Mapping[str, str], chapters: Sequence[Chapter] = (), cover_jpeg: bytes | None = None) -> bytes:
    """The bytes in front of an MP3's frames; none where there is nothing to say.

    `words` are called as ffmpeg calls them: title, artist, album, genre, track, date (2026 or 2026-11-22), comment,
    copyright.
    """
    frames = [_text(_TEXTS[name], value) for name, value in words.items() if name in _TEXTS]
    if date := words.get("date"):
        frames.append(_text("TYER", date[:4]))
        if len(date) == 10:
            frames.append(_text("TDAT", date[8:10] + date[5:7]))
    if comment := words.get("comment"):
        frames.append(_frame("COMM", _UTF16 + b"und" + _utf16("") + b"\0\0" + _utf16(comment)))
    if chapters:
        names = [f"ch{number}".encode() + b"\0" for number in range(len(chapters))]
        frames.append(_frame("CTOC", b"toc\0" + bytes([_TOP_AND_ORDERED, len(chapters)]) + b"".join(names)))
        frames += [_chapter(name, chapter) for name, chapter in zip(names, chapters, strict=True)]
    if cover_jpeg is not None:
        frames.append(_frame("APIC", b"\0image/jpeg\0" + bytes([_FRONT_COVER]) + b"\0" + cover_jpeg))
    body = b"".join(frames)
    if not body:
        return b""
    # Its length is told in four times seven bits, so that it cannot look like the beginning of a frame.
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + body


def _frame(name: str, body: bytes) -> bytes:
    return name.encode() + struct.pack(">IH", len(body), 0) + body


def _text(name: str, value: str) -> bytes:
    return _frame(name, _UTF16 + _utf16(value))


def _utf16(value: str) -> bytes:
    return b"\xff\xfe" + value.encode("utf-16-le")


def _chapter(name: bytes, chapter: Chapter) -> bytes:
    times = struct.pack(">II", chapter.start_ms, chapter.end_ms) + _NO_BYTES
    link = (
        _frame("WXXX", _UTF16 + _utf16("") + b"\0\0" + chapter.url.encode("latin-1", "replace")) if chapter.url else b""
    )
    return _frame("CHAP", name + times + _text("TIT2", chapter.title) + link)
