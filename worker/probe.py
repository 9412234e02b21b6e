"""What is in a file: asked of a short-lived, limited child, because the file may be hostile."""

from __future__ import annotations

import json
import re
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.text import cleaned
from worker.containers import certain_demuxer
from worker.failures import (
    BOMB,
    CODEC,
    CORRUPT,
    DRM,
    EMPTY,
    INCOMPLETE,
    NO_AUDIO,
    NOT_MEDIA,
    SOURCE,
    UNKNOWN,
    UNREADABLE,
    Meaning,
    last_words,
    meaning,
)
from worker.ffmpeg import ANALYZE_US, INPUT_FORMATS, MAX_STREAMS, PROBE_BYTES
from worker.process import Ended, Limits
from worker.wav import promised_s

if TYPE_CHECKING:
    from worker.run import Run

#: The program that looks, what it may use, and how long its answer may be.
PROBER = Path(__file__).with_name("prober.py")
LIMITS = Limits(address_space_bytes=1 << 30, file_size_bytes=0, cpu_s=20, open_files=32)
ANSWER_BYTES = 1 << 20
#: The tags worth keeping; the others describe encoders.
TAGS = frozenset({"title", "artist", "album", "album_artist", "comment", "date", "genre", "track"})
#: What ffmpeg calls the scripts that point to other files.
PLAYLISTS = frozenset({"hls", "dash", "concat", "imf", "sdp", "rtsp", "avisynth", "vapoursynth", "webm_dash_manifest"})
#: And what it calls files of words.
TEXTS = frozenset(
    {"srt", "ass", "webvtt", "microdvd", "lrc", "ttml", "ffmetadata", "tty", "subviewer", "sami", "jacosub"}
)
PLAYLIST = Meaning(
    "unsupported.format",
    "{what} is a playlist that only points to other files; upload the recording itself.",
)
TANGLED = Meaning(
    "bad_input.too_large",
    "{what} takes longer to look into than one job may; export it again with ordinary settings and fewer tags.",
)
PICTURE = Meaning("unsupported.format", "{what} is a picture, which has no sound; upload a sound or video file.")
TOO_MANY_TRACKS = Meaning(
    "unsupported.format",
    f"{{what}} has more than {MAX_STREAMS} tracks; export it with fewer and upload that.",
)


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One sound track; `index` is its number in the file, `bit_rate` in bits per second."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    layout: str
    duration_s: float | None
    bit_rate: int | None


@dataclass(frozen=True, slots=True)
class VideoStream:
    """One picture track; `rotation` is in degrees clockwise, `attached_picture` marks a cover, `pixel_aspect` is the
    width of a pixel divided by its height."""

    index: int
    codec: str
    profile: str | None
    width: int
    height: int
    fps: float
    pix_fmt: str
    rotation: int
    attached_picture: bool
    duration_s: float | None
    pixel_aspect: float = 1.0

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as a viewer shows it: turned upright, with square pixels."""
        width = max(1, round(self.width * self.pixel_aspect))
        return (self.height, width) if self.rotation in (90, 270) else (width, self.height)


@dataclass(frozen=True, slots=True)
class Track:
    """Any track, as the file names it; `kind` is `audio`, `video`, `subtitle`, `data` or `attachment`."""

    index: int
    kind: str
    codec: str | None
    decodes: bool
    language: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter mark of a file."""

    start_s: float
    end_s: float
    title: str


@dataclass(frozen=True, slots=True)
class Media:
    """What a file holds. `duration_s` is None where the file does not tell, `duration_estimated` where it was
    guessed from the bit rate; `promised_s` is what a WAV file says it has, missing or not."""

    format_name: str
    duration_s: float | None
    size_bytes: int
    bit_rate: int | None
    audio: tuple[AudioStream, ...]
    video: tuple[VideoStream, ...]
    tags: dict[str, str]
    duration_estimated: bool = False
    tracks: tuple[Track, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    promised_s: float | None = None

    @property
    def picture(self) -> VideoStream | None:
        """The first picture track that is not a cover."""
        return next((track for track in self.video if not track.attached_picture), None)


def probe(run: Run, path: Path) -> Media:
    """Look into a file. Raises `JobFailure` (`bad_input.*`, `unsupported.*`) when it is no media Spool can read.

    Tracks that cannot be decoded are left out as long as another one can.
    """
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise EMPTY.failure(SOURCE)
    limits = [INPUT_FORMATS, str(MAX_STREAMS), str(PROBE_BYTES), str(ANALYZE_US)]
    argv = [sys.executable, "-I", str(PROBER), str(path.absolute()), certain_demuxer(path) or "", *limits]
    with run.processes.start(argv, cwd=path.parent, limits=LIMITS, stdout=True) as child:
        assert child.stdout is not None
        answer = child.stdout.read(ANSWER_BYTES)
        child.stdout.close()
        ended = child.wait()
    if ended.returncode != 0:
        run.report.log("error", "The look into the file ended early", lines=last_words(ended))
        raise _early_end(ended).failure(SOURCE)
    try:
        media = read_answer(json.loads(answer), size_bytes)
    except (ValueError, KeyError, TypeError, AttributeError):
        # The child may have been taken over by the file it read: what it says is no more than a claim.
        run.report.log("error", "The look into the file gave no usable answer")
        raise CORRUPT.failure(SOURCE) from None
    if isinstance(media, Media):
        return replace(media, promised_s=promised_s(path)) if media.format_name == "wav" else media
    said = [f"{name}: {words.strip()}" for name, words in json.loads(answer).get("said", [])]
    run.report.log("error", "The file could not be read", lines=[line[:300] for line in said[-20:]])
    raise media.failure(SOURCE)


def _early_end(ended: Ended) -> Meaning:
    """What it means that the look did not finish: its limits are generous, so a file that breaks them is at fault.

    Not so where it was killed before it had spent its time: by the kernel, for memory that others use, or with its
    launcher.
    """
    spent = LIMITS.cpu_s is not None and ended.cpu_s >= LIMITS.cpu_s
    if ended.returncode == -signal.SIGXCPU or (ended.returncode == -signal.SIGKILL and spent):
        return TANGLED
    if "MemoryError" in ended.stderr_tail:
        return BOMB
    return meaning(ended.returncode, ended.stderr_tail) if ended.returncode < 0 else UNKNOWN


def read_answer(found: dict[str, Any], size_bytes: int) -> Media | Meaning:
    """The prober's answer as `Media`, or why the file cannot be used."""
    if found["protected"]:
        return DRM
    said = [(str(name), str(words)) for name, words in found["said"]]
    if found["error"] is not None:
        return _unopened(str(found["error"]), said)
    tracks = [track for track in found["tracks"] if track["kind"] in ("audio", "video")]
    decoding = [track for track in tracks if track["decodes"]]
    audio = tuple(_audio(track) for track in decoding if track["kind"] == "audio")
    video = tuple(_video(track) for track in decoding if track["kind"] == "video")
    if not audio and not any(not stream.attached_picture for stream in video):
        return _unplayable(tracks, said)
    guessed = any("Estimating duration from bitrate" in words for _, words in said)
    return Media(
        format_name=str(found["format"]),
        duration_s=_number(found.get("duration_s")),
        size_bytes=size_bytes,
        bit_rate=_whole(found.get("bit_rate")),
        audio=audio,
        video=video,
        tags={key: _clean(value) for key, value in found["tags"].items() if key in TAGS and _clean(value)},
        duration_estimated=guessed and not all(stream.codec.startswith("pcm_") for stream in audio),
        tracks=tuple(_track(track) for track in found["tracks"]),
        chapters=tuple(_chapter(chapter) for chapter in found["chapters"]),
    )


def _unopened(error: str, said: list[tuple[str, str]]) -> Meaning:
    words = " ".join(text for _, text in said)
    if error == "MemoryError" and "Number of streams" not in words:
        return BOMB
    refused = next((name for name, text in said if "Format not on whitelist" in text), None)
    if "Not detecting m3u8/hls" in words:  # what it says of one whose name does not end in .m3u8
        refused = "hls"
    if refused is not None:
        if refused in TEXTS:
            return NOT_MEDIA
        return PLAYLIST if refused in PLAYLISTS else PICTURE if refused.endswith("_pipe") else UNREADABLE
    if "Number of streams" in words:
        return TOO_MANY_TRACKS
    if "detected only with low score" in words or not said:
        return NOT_MEDIA
    return INCOMPLETE if "moov atom not found" in words else CORRUPT


def _unplayable(tracks: list[dict[str, Any]], said: list[tuple[str, str]]) -> Meaning:
    words = " ".join(text for _, text in said)
    if "detected only with low score" in words:
        return NOT_MEDIA
    if any("codec" not in track for track in tracks):
        return CODEC
    if any(track.get("error") == "MemoryError" for track in tracks):
        return BOMB
    return CORRUPT if tracks else NO_AUDIO


def _track(track: dict[str, Any]) -> Track:
    language = _clean(track["language"])[:40]
    return Track(
        index=int(track["index"]),
        kind=_word(track["kind"]),
        codec=_word(track["codec"]) if "codec" in track else None,
        decodes=bool(track["decodes"]),
        language=None if language in ("", "und") else language,
        title=_clean(track["title"])[:100] or None,
    )


def _chapter(chapter: dict[str, Any]) -> Chapter:
    return Chapter(
        start_s=_number(chapter["start_s"]) or 0.0,
        end_s=_number(chapter["end_s"]) or 0.0,
        title=_clean(chapter["title"]),
    )


def _audio(track: dict[str, Any]) -> AudioStream:
    channels, layout = int(track["channels"]), str(track["layout"])
    if layout.endswith(" channels"):
        layout = {1: "mono", 2: "stereo"}.get(channels, layout)
    return AudioStream(
        index=int(track["index"]),
        codec=_word(track["codec"]),
        sample_rate=int(track["sample_rate"]),
        channels=channels,
        layout=layout[:40],
        duration_s=_number(track.get("duration_s")),
        bit_rate=_whole(track.get("bit_rate")),
    )


def _video(track: dict[str, Any]) -> VideoStream:
    return VideoStream(
        index=int(track["index"]),
        codec=_word(track["codec"]),
        profile=None if track["profile"] is None else _clean(track["profile"])[:40],
        width=int(track["width"]),
        height=int(track["height"]),
        fps=_number(track["fps"]) or 0.0,
        pix_fmt=_word(track["pix_fmt"]),
        rotation=int(track["rotation"]),
        attached_picture=bool(track["attached_picture"]),
        duration_s=_number(track.get("duration_s")),
        pixel_aspect=min(10.0, max(0.1, _number(track["pixel_aspect"]) or 1.0)),
    )


def _number(value: object) -> float | None:
    """A finite number that is not negative, or None."""
    return float(value) if isinstance(value, int | float) and 0 <= value < float("inf") else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 2**53 else None


def _word(value: object) -> str:
    """A codec's or pixel format's name; anything else is no answer of the prober."""
    if not isinstance(value, str) or re.fullmatch(r"[a-z0-9_.-]{1,40}", value) is None:
        raise ValueError(f"{value!r} is no name")
    return value


def _clean(value: object) -> str:
    """A tag without control characters, 500 characters at most."""
    return cleaned(str(value)[:2000])[:500].strip()
