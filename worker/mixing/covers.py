"""Pictures of a show: the cover that its files carry, and what an MP4 shows while it plays."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import JobFailure
from shared.types.thumbnail import ImageSpec
from worker import frames, png
from worker.ffmpeg import BITEXACT, transcode
from worker.loudness import Measured
from worker.pictures import Picture, read_picture

if TYPE_CHECKING:
    from worker.run import Run

WHAT = "The cover"
#: Longest side and quality of the cover in the files, best first: the first that is small enough is taken.
_SIZES = ((1400, 88), (1400, 70), (600, 60))
MOST_BYTES = 1_000_000
#: What an MP4 shows: its size, its colours, and how many pictures a second, which is plenty for one that stands still.
_SHOWN, _BEHIND, _OUTLINE = (1280, 720), "#111827", "#2dd4bf"
_FPS, _KEY_FRAME_S = 2, 10
#: What a decoder says of a picture that it could only read in part.
_DAMAGE = re.compile(r"^\[\w+ @ 0x[0-9a-f]+\] \[error\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cover:
    """A cover as the files carry it: a JPEG of this size."""

    path: Path
    size: tuple[int, int]


def make_cover(run: Run, source: Path, warn: Callable[[str], None]) -> Cover:
    """A JPEG of a picture that a stranger made, upright, small enough, and without a word of where it comes from."""
    picture = read_picture(source)
    if picture is None:
        raise JobFailure(
            "bad_input.no_picture", "cover is no picture that Spool reads; use a JPEG, PNG, WebP, GIF or BMP."
        )
    if not _decodable(picture):
        raise JobFailure(
            "bad_input.too_large",
            f"cover has {picture.width} × {picture.height} pixels; up to {frames.MOST_PIXELS // 1_000_000} million are "
            f"taken, and {frames.LONGEST_SIDE} on a side. Export it smaller.",
        )
    path = run.work / "cover.jpg"
    for side, quality in _SIZES:
        spec = ImageSpec(format="jpeg", width=side, height=side, quality=quality)
        chain = ",".join([*frames.upright(picture), "null"])
        graph = frames.image_graph(spec, picture.shown, "[up]", "[made]", alpha=picture.alpha)
        args = [*frames.picture_input(source, picture), "-filter_complex", f"[0:v:0]{chain}[up];{graph}"]
        args += ["-map", "[made]", *frames.encoder("jpeg", quality), str(path)]
        ended = transcode(run, args, what=WHAT)
        if not path.exists() or not path.stat().st_size:
            raise JobFailure("bad_input.corrupt", f"{WHAT} could not be decoded; export it again and upload that.")
        if path.stat().st_size <= MOST_BYTES:
            break
    if _DAMAGE.search(ended.stderr_tail):
        warn("The cover is damaged: a part of it may be missing.")
    return Cover(path, frames.size_of(spec, picture.shown))


def draw_waveform(path: Path, measured: Measured) -> Path:
    """The outline of a whole programme, as high as it may be; returns `path`."""
    highest = max(1, int(np.abs(measured.points.astype(np.int32)).max(initial=0)))
    points = (measured.points.astype(np.float64) * (0.9 * 32767 / highest)).astype(np.int16)
    return png.write_png(path, png.waveform(points, _SHOWN, (_OUTLINE, _BEHIND)))


def make_film(run: Run, picture: Path, path: Path, seconds: float, on_time: Callable[[float], None]) -> Path:
    """A film in which nothing moves, of a picture of ours; returns `path`."""
    width, height = _SHOWN
    chain = ",".join(
        [
            f"scale={width}:{height}:force_original_aspect_ratio=decrease:flags=lanczos:out_range=tv",
            f"pad={width}:{height}:-1:-1:color=0x{_BEHIND[1:]}",
            "setsar=1",
            "format=yuv420p",
        ]
    )
    kind = "png_pipe" if picture.suffix == ".png" else "jpeg_pipe"
    args = ["-protocol_whitelist", "file,pipe", "-f", kind, "-i", str(picture.absolute())]
    # Decoded and scaled once: the filter behind repeats what comes out.
    args += ["-filter_complex", f"[0:v:0]{chain},loop=loop=-1:size=1,setpts=N/({_FPS}*TB),fps={_FPS}[shown]"]
    args += ["-map", "[shown]", "-frames:v", str(max(1, math.floor(seconds * _FPS)))]
    args += ["-c:v", "libx264", "-preset", "veryfast", "-tune", "stillimage", "-crf", "22"]
    args += ["-g", str(_FPS * _KEY_FRAME_S), *BITEXACT, "-f", "mp4", str(path)]
    transcode(run, args, expected_s=seconds, on_time=on_time, what="The picture of the video")
    return path


def _decodable(picture: Picture) -> bool:
    width, height = picture.width, picture.height
    return 0 < width * height <= frames.MOST_PIXELS and max(width, height) <= frames.LONGEST_SIDE
