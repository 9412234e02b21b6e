"""What of a file can go into the finished one as it is, without being decoded and encoded again."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from shared.types import OutputSpec
from worker.containers import certain_demuxer
from worker.editing.picture import Picture
from worker.ffmpeg import ANALYZE_US, INPUT_FORMATS, MAX_STREAMS, PROBE_BYTES, input_args
from worker.probe import ANSWER_BYTES, LIMITS, AudioStream

if TYPE_CHECKING:
    from worker.run import Run

_PROGRAM = Path(__file__).parents[1] / "packets.py"
#: The codecs that each format carries.
_CARRIED = {"mp3": "mp3", "m4a": "aac", "opus": "opus", "flac": "flac", "mp4": "aac"}


@dataclass(frozen=True, slots=True)
class Frames:
    """The packets of a picture track: how many, whether each is one frame of a constant rate, and the keyframes.

    `end_s` is when the last one ends.
    """

    count: int
    steady: bool
    keys: frozenset[int]
    end_s: float


def frames_of(run: Run, path: Path, stream: int, fps: Fraction) -> Frames | None:
    """Count the frames of a picture track; None where that does not work, which is no reason to fail."""
    limits = [INPUT_FORMATS, str(MAX_STREAMS), str(PROBE_BYTES), str(ANALYZE_US)]
    demuxer = certain_demuxer(path) or ""
    argv = [sys.executable, "-I", str(_PROGRAM), str(path.absolute()), str(stream), str(fps), demuxer, *limits]
    with run.processes.start(argv, cwd=path.parent, limits=LIMITS, stdout=True) as child:
        assert child.stdout is not None
        answer = child.stdout.read(ANSWER_BYTES)
        child.stdout.close()
        ended = child.wait()
    try:
        found = json.loads(answer)
        frames = Frames(
            int(found["frames"]), found["steady"] is True, frozenset(map(int, found["keys"])), float(found["end_s"])
        )
    except (ValueError, KeyError, TypeError):
        return None
    return frames if ended.returncode == 0 else None


def copied_picture(picture: Picture) -> list[str] | None:
    """The input arguments that give exactly these frames undecoded; None where the edit asks for more than that.

    It begins with a keyframe, and ends before one or at the end: then every packet belongs to it or does not.
    """
    span = picture.uncut
    if span is None or span.begin not in span.keys or (span.end != span.total and span.end not in span.keys):
        return None
    # Rounded up, so that it is not the keyframe before that is found.
    start_s = -(-span.begin * 1_000_000 // picture.fps) / 1_000_000
    return input_args(span.path, start_s=start_s if span.begin else None)


def copies_sound(spec: OutputSpec, audio: AudioStream) -> bool:
    """Whether a format carries the sound track as it is, and nothing else is asked of it."""
    plain = spec.bitrate_kbps is None and spec.channels == "source"
    return plain and audio.channels <= 2 and _CARRIED.get(spec.format) == audio.codec
