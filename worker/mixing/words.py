"""What a show says of itself: title and chapters, in the form that each kind of file has for them.

No word goes onto a command line. They lie in files of ours, in which every sign that means something is escaped.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from shared.errors import FieldError
from shared.types import RenderParams
from worker.id3 import Chapter
from worker.mixing.timeline import Timeline, wrong

#: What means something in a file of ffmpeg's metadata.
_SPECIAL = re.compile(r"([=;#\\\n])")
_FRONT_COVER = 3


def chapters_of(params: RenderParams, timeline: Timeline) -> tuple[Chapter, ...]:
    """The chapters on the programme's clock. Raises `JobFailure` for one that begins where there is nothing left."""
    begins_s = timeline.show_begins / timeline.rate if params.chapters_from == "show" else 0.0
    starts_ms = [round(1000 * (begins_s + chapter.start_s)) for chapter in params.chapters]
    ends_ms = round(1000 * timeline.seconds)
    for number, (chapter, start_ms) in enumerate(zip(params.chapters, starts_ms, strict=True)):
        if start_ms >= ends_ms:
            raise wrong(
                FieldError(
                    f"chapters.{number}.start_s",
                    f"is {chapter.start_s:g}, and the programme ends {timeline.seconds - begins_s:.3f} s after "
                    f"the beginning of the {params.chapters_from}"
                    if begins_s
                    else f"is {chapter.start_s:g}, and the programme has only {timeline.seconds:.3f} s",
                )
            )
    return tuple(
        Chapter(start_ms, end_ms, chapter.title, chapter.url)
        for chapter, (start_ms, end_ms) in zip(params.chapters, pairwise([*starts_ms, ends_ms]), strict=True)
    )


def words_of(params: RenderParams) -> dict[str, str]:
    """The words, under the names that ffmpeg knows them by."""
    number = None if params.number is None else str(params.number)
    found = {
        "title": params.title,
        "artist": params.artist,
        "album": params.album,
        "genre": params.genre,
        "date": params.date,
        "track": number,
        "comment": params.comment,
        "copyright": params.copyright,
    }
    return {name: value for name, value in found.items() if value}


def write_words(path: Path, words: Iterable[tuple[str, str]], chapters: Sequence[Chapter] = ()) -> Path:
    """Words and chapters as a file of ffmpeg's metadata; returns `path`."""
    lines = [";FFMETADATA1", *(_line(name, value) for name, value in words)]
    for chapter in chapters:
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={chapter.start_ms}", f"END={chapter.end_ms}"]
        lines.append(_line("title", chapter.title))
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def comments(chapters: Sequence[Chapter]) -> list[tuple[str, str]]:
    """Chapters as comments of an Ogg or FLAC file: https://wiki.xiph.org/Chapter_Extension."""
    found = []
    for number, chapter in enumerate(chapters, start=1):
        name = f"CHAPTER{number:03d}"
        seconds, ms = divmod(chapter.start_ms, 1000)
        found.append((name, f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"))
        found.append((f"{name}NAME", chapter.title))
        if chapter.url is not None:
            found.append((f"{name}URL", chapter.url))
    return found


def picture_comment(jpeg: bytes, size: tuple[int, int]) -> tuple[str, str]:
    """A cover as a comment of an Ogg file: FLAC's picture block, in base64."""
    kind = b"image/jpeg"
    block = struct.pack(">II", _FRONT_COVER, len(kind)) + kind + struct.pack(">IIIIII", 0, *size, 24, 0, len(jpeg))
    return "METADATA_BLOCK_PICTURE", base64.b64encode(block + jpeg).decode("ascii")


def write_chapters(path: Path, params: RenderParams, chapters: Sequence[Chapter]) -> Path:
    """The chapters as podcast apps read them beside a feed; returns `path`.

    Format: https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/examples/chapters/jsonChapters.md
    """
    told = {"title": params.title, "author": params.artist, "podcastName": params.album}
    listed = [
        {"startTime": chapter.start_ms / 1000, "title": chapter.title} | ({"url": chapter.url} if chapter.url else {})
        for chapter in chapters
    ]
    document = {"version": "1.2.0"} | {name: value for name, value in told.items() if value} | {"chapters": listed}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _line(name: str, value: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", value)
    # ffmpeg takes a backslash in front of a line's end for one that escapes it, even where that one is itself escaped:
    # the next line would become a part of this one. A zero in between ends the word, and means nothing else.
    return f"{name}={escaped}" + ("\0" if escaped.endswith("\\") else "")
