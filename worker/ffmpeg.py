"""Running ffmpeg: which one, with which safe arguments, how far it is, and what its end means.

Every command line is built from the pieces here, so that a hostile file can neither read another file nor reach
the network (DESIGN.md 7.7). The file that is read lies alone in its folder under a name of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.containers import certain_demuxer
from worker.engine import Engine, find_engine
from worker.failures import SOURCE, explain, last_words
from worker.process import Ended, Limits

if TYPE_CHECKING:
    from worker.run import Run

__all__ = [
    "BITEXACT",
    "OUTPUTS",
    "SAME_BYTES",
    "SOURCE_NAME",
    "Engine",
    "OutputFormat",
    "base_args",
    "damaged_frames",
    "encoded_samples",
    "find_engine",
    "graph_args",
    "input_args",
    "tags",
    "transcode",
]

#: Demuxers a source may be read with. None of them opens a second file or a connection.
INPUT_FORMATS = (
    "wav,w64,aiff,au,caf,mp3,aac,ac3,eac3,amr,flac,ogg,wv,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,asf,flv"
)
#: What limits a demuxer while it looks at a file: streams, bytes and microseconds.
MAX_STREAMS, PROBE_BYTES, ANALYZE_US = 16, 50_000_000, 20_000_000
#: The name a source has in its own folder; no extension, so that only its content decides what it is.
SOURCE_NAME = "source"
#: Makes two encodings of the same sound the same bytes (an Ogg serial, a date and a version would differ).
SAME_BYTES = ("-fflags", "+bitexact", "-flags:a", "+bitexact", "-flags:v", "+bitexact")
#: The same, and no word of any input comes along, nor a chapter, which would come without its title.
BITEXACT = (*SAME_BYTES, "-map_metadata", "-1", "-map_chapters", "-1")


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How one kind of file is made. `rates` are the sample rates its encoder takes (all when empty)."""

    muxer: str
    encoder: str
    extension: str
    content_type: str
    default_kbps: int | None
    muxer_args: tuple[str, ...] = ()
    rates: tuple[int, ...] = ()
    max_channels: int = 8


#: Its last word about each track, at the beginning of a line: elsewhere it is quoted out of the file.
_DECODE_ERRORS = re.compile(r"^\[in#[^\]]+\] \[verbose\]   Input stream .*; (\d+) decode errors", re.MULTILINE)
_ENCODED = re.compile(r"frames encoded \((\d+) samples\)")
#: Linux takes 128 kB for one argument.
_LONGEST_ARGUMENT = 100_000
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OUTPUTS: dict[str, OutputFormat] = {
    "mp3": OutputFormat("mp3", "libmp3lame", ".mp3", "audio/mpeg", 128, ("-id3v2_version", "3"), _MP3_RATES, 2),
    "m4a": OutputFormat("ipod", "aac", ".m4a", "audio/mp4", 128, ("-movflags", "+faststart")),
    "opus": OutputFormat("opus", "libopus", ".opus", "audio/ogg", 96, (), (8000, 12000, 16000, 24000, 48000)),
    "flac": OutputFormat("flac", "flac", ".flac", "audio/flac", None),
    "wav": OutputFormat("wav", "pcm_s16le", ".wav", "audio/wav", None, ("-rf64", "auto")),
    "mp4": OutputFormat("mp4", "aac", ".mp4", "video/mp4", 160, ("-movflags", "+faststart")),
}


def base_args(engine: Engine, *, loglevel: str = "level+warning") -> list[str]:
    """The start of every command: quiet, deaf to the keyboard, and free to overwrite a half-made file of ours."""
    return [str(engine.ffmpeg), "-nostdin", "-hide_banner", "-nostats", "-loglevel", loglevel, "-y"]


def input_args(path: Path, *, start_s: float | None = None, duration_s: float | None = None) -> list[str]:
    """Open one file that a stranger made, from `start_s` for `duration_s`, without trusting it."""
    args = [
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", INPUT_FORMATS),
        *("-max_streams", str(MAX_STREAMS), "-probesize", str(PROBE_BYTES), "-analyzeduration", str(ANALYZE_US)),
    ]
    if start_s is not None:
        args += ["-ss", f"{start_s:.6f}"]
    if duration_s is not None:
        args += ["-t", f"{duration_s:.6f}"]
    if (demuxer := certain_demuxer(path)) is not None:
        args += ["-f", demuxer]
    return [*args, "-i", str(path.absolute())]


def graph_args(engine: Engine, graph: str, path: Path) -> list[str]:
    """Give ffmpeg a filter graph: a long one, which no command line takes, lies in a file at `path`."""
    if len(graph) < _LONGEST_ARGUMENT:
        return ["-filter_complex", graph]
    path.write_text(graph, encoding="ascii")
    number = re.match(r"n?(\d+)", engine.version)
    # ffmpeg 7 has a way to read any option from a file, and 8 no other one.
    old = number is not None and int(number[1]) < 7
    return ["-filter_complex_script" if old else "-/filter_complex", str(path.absolute())]


def tags(title: str | None, artist: str | None) -> list[str]:
    """The arguments that write these into a file."""
    given = {"title": title, "artist": artist}
    return [arg for name, value in given.items() if value for arg in ("-metadata", f"{name}={value}")]


def transcode(
    run: Run,
    args: Sequence[str],
    *,
    expected_s: float | None = None,
    on_time: Callable[[float], None] | None = None,
    what: str = SOURCE,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    pass_fds: Sequence[int] = (),
) -> Ended:
    """Run one ffmpeg with these inputs, filters and outputs, and tell `on_time` how many seconds of media are done.

    The seconds never fall and never pass `expected_s`. Raises `JobFailure` when it failed, `Stopped` when it was
    asked to stop. Exit code 0 proves nothing about the file: whoever made it decodes it again.
    """
    # The level is verbose because only there ffmpeg counts decode errors; stdout is free for the progress.
    argv = [*base_args(run.engine, loglevel="level+verbose"), "-stats_period", "0.25", "-progress", "pipe:1", *args]
    run.report.log("debug", "ffmpeg starts", version=run.engine.version, argv=shown(argv, run.work))
    with run.processes.start(argv, cwd=run.work, limits=limits, stdout=True, pass_fds=pass_fds) as child:
        assert child.stdout is not None
        for seconds in media_times(child.stdout, expected_s):
            if on_time is not None:
                on_time(seconds)
        ended = child.wait()
    if ended.returncode != 0:
        run.report.log("error", f"ffmpeg failed (exit code {ended.returncode})", lines=last_words(ended))
        raise explain(ended, what=what)
    return ended


def media_times(lines: Iterable[bytes], expected_s: float | None) -> Iterator[float]:
    """Seconds of media done, rising, from the blocks that `-progress` writes; the first ones may know none."""
    done = 0.0
    for line in lines:
        name, _, value = line.partition(b"=")
        try:
            seconds = int(value) / 1e6 if name == b"out_time_us" else 0.0
        except ValueError:
            continue
        if expected_s is not None:
            seconds = min(seconds, expected_s)
        if seconds > done:
            done = seconds
            yield done


def damaged_frames(ended: Ended) -> int:
    """How many frames or packets of the source were damaged and left out."""
    words = ended.stderr_tail
    packets = len(re.findall(r"corrupt input packet in stream", words))
    counts = _DECODE_ERRORS.findall(words)
    if counts:
        return packets + sum(map(int, counts))
    # ffmpeg before 7 keeps no count: its last words hold the last errors, one line each.
    return packets + len(re.findall(r"Error while decoding stream|Error submitting packet to decoder", words))


def encoded_samples(ended: Ended) -> list[int]:
    """How many samples went into each sound track that was encoded, in the order of the outputs."""
    return [int(count) for count in _ENCODED.findall(ended.stderr_tail)]


def shown(argv: Sequence[str], work: Path) -> list[str]:
    """A command line as the job's log may show it: without the paths of this machine."""
    return [Path(argv[0]).name, *(arg.replace(f"{work.absolute()}/", "") for arg in argv[1:])]
