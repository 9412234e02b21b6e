"""What do the other jobs cost, beside the same decodes and encodes made by hand with everything known beforehand?

Each case is Spool's whole job against the bare ffmpeg that makes the same files; the gain that the bare one is given
is what Spool has to find out. The sides take turns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.answer import Answer, Goal
from bench.attempt import attempt
from bench.cost import Cost, Side, as_json, best, external, take_turns
from bench.ingest import BARE, COLUMNS, OURS, THEIRS, rows, speech
from bench.meters import heard
from shared.settings import load_settings
from tests.media import judges, signals
from worker.encoders import LAME_LOSS_DB
from worker.engine import find_engine

#: Loud enough to need a gain, and soft enough to need no limiter: the bare side could not do its work.
TARGET, PRESET = -23.0, "ebu-r128"
_FILMED_S = 60.0


@dataclass(frozen=True)
class Bench:
    """Where a case is measured: the recordings, and what a bare side needs to know of them."""

    ffmpeg: Path
    folder: Path
    seconds: float
    recording: Path
    gain_db: float
    peers: bool

    def bare(self, *args: str | Path) -> list[str | Path]:
        """The command line of a bare side."""
        return [self.ffmpeg, "-nostdin", "-v", "error", "-y", *args]

    def job(self, type_: str, made: str, *sources: Path, **params: Any) -> Side:  # noqa: ANN401 - as jobs take them
        """Spool's side; `made` is the name of its file. The sources are the job's `source0`, `source1` and so on."""
        out = self.folder / "spool"
        named = {f"source{number}": source for number, source in enumerate(sources)}
        asked = {"preset": PRESET} | params
        return Side(OURS, lambda: attempt(type_, asked, named, out), out / made)


@dataclass(frozen=True)
class Case:
    """One job: its sides, the first of which is the bare one, and the most of its wall that Spool may take."""

    name: str
    sides: Callable[[Bench], list[Side]]
    most: float | None


def _opus(bench: Bench) -> list[Side]:
    made = bench.folder / "bare.opus"
    gain = ("-af", f"volume={bench.gain_db:.4f}dB:precision=float")
    argv = bench.bare("-i", bench.recording, *gain, "-c:a", "libopus", "-b:a", "96k", made)
    return [
        Side(BARE, lambda: external(argv), made),
        bench.job("ingest", "opus", bench.recording, source="source0", outputs=[{"format": "opus"}]),
    ]


def _fast(bench: Bench) -> list[Side]:
    made = bench.folder / "bare.mp3"
    gain = ("-af", f"volume={bench.gain_db + LAME_LOSS_DB[128]:.4f}dB:precision=float")
    argv = bench.bare("-i", bench.recording, *gain, "-c:a", "libmp3lame", "-b:a", "128k", made)
    outputs = [{"format": "mp3", "bitrate_kbps": 128}]
    return [
        Side(BARE, lambda: external(argv), made),
        bench.job("ingest", "mp3", bench.recording, source="source0", speed="fast", outputs=outputs),
    ]


def _three(bench: Bench) -> list[Side]:
    source = bench.folder / "recording.m4a"
    external(bench.bare("-i", bench.recording, "-c:a", "aac", "-b:a", "160k", source))
    encoders = {
        "mp3": ("-c:a", "libmp3lame", "-b:a", "128k"),
        "opus": ("-c:a", "libopus", "-b:a", "96k"),
        "flac": ("-c:a", "flac", "-sample_fmt", "s16"),
    }

    def separately() -> Cost:
        each = []
        for kind, encoder in encoders.items():
            gain = bench.gain_db + (LAME_LOSS_DB[128] if kind == "mp3" else 0.0)
            filters = ("-af", f"volume={gain:.4f}dB:precision=float")
            each.append(external(bench.bare("-i", source, *filters, *encoder, bench.folder / f"bare.{kind}")))
        return Cost(
            sum(one.wall_s for one in each),
            sum(one.cpu_s for one in each),
            max(one.peak_mb for one in each),
            sum(one.written_mb for one in each),
        )

    outputs = [{"format": kind} for kind in encoders]
    return [
        Side(BARE, separately, bench.folder / "bare.mp3"),
        bench.job("ingest", "mp3", source, source="source0", outputs=outputs),
    ]


def _video(bench: Bench) -> list[Side]:
    source, made, theirs = (bench.folder / f"{name}.mp4" for name in ("film", "bare", "peer"))
    seconds = min(_FILMED_S, bench.seconds)
    picture = ("-f", "lavfi", "-i", f"testsrc2=s=1920x1080:r=30:d={seconds}")
    coders = ("-c:v", "libx264", "-preset", "superfast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "192k")
    filmed = source.with_name("filmed.mp4")
    external(bench.bare(*picture, "-t", str(seconds), "-i", bench.recording, *coders, "-shortest", filmed))
    external(bench.bare("-stream_loop", str(_again(bench.seconds) - 1), "-i", filmed, "-c", "copy", source))
    gain = TARGET - judges.ffmpeg_reading(bench.ffmpeg, source)[0]
    sound = ("-af", f"volume={gain:.4f}dB:precision=float", "-c:a", "aac", "-b:a", "160k")
    argv = bench.bare("-i", source, "-c:v", "copy", *sound, "-movflags", "+faststart", made)
    sides = [
        Side(BARE, lambda: external(argv), made),
        bench.job("ingest", "mp4", source, source="source0", outputs=[{"format": "mp4"}]),
    ]
    if not bench.peers:
        return sides
    normalize = [
        *(peers.python_for(peers.NORMALIZE).with_name("ffmpeg-normalize"), source, "-f", "-q", "-t", f"{TARGET:g}"),
        *("-ar", "48000", "--keep-lra-above-loudness-range-target", "-c:a", "aac", "-b:a", "160k", "-o", theirs),
    ]
    environment = os.environ | {"FFMPEG_PATH": str(bench.ffmpeg)}  # noqa: TID251 - the peer's only way to be told
    return [*sides, Side(THEIRS, lambda: external(normalize, environment), theirs, rounds=1)]


def _again(seconds: float) -> int:
    """How many times the film is shown: ten minutes of it, where there are two hours of sound."""
    return 1 if seconds <= 600 else 10


def _edit(bench: Bench) -> list[Side]:
    made = bench.folder / "bare-edit.mp3"
    step = bench.seconds / 12
    cuts = [(number * step + step / 3, number * step + step / 2) for number in range(10)]
    kept = [*zip([0.0, *(end for _, end in cuts)], [begin for begin, _ in cuts], strict=False), (cuts[-1][1], None)]
    length = bench.seconds - sum(end - begin for begin, end in cuts)
    pieces = "".join(f"[p{number}]" for number in range(len(kept)))
    split = f"[0:a]asplit={len(kept)}" + "".join(f"[i{number}]" for number in range(len(kept)))
    trims = [
        f"[i{number}]atrim={begin:.6f}{'' if end is None else f':{end:.6f}'},asetpts=PTS-STARTPTS[p{number}]"
        for number, (begin, end) in enumerate(kept)
    ]
    fades = f"afade=in:d=1,afade=out:st={length - 2:.6f}:d=2"
    gain = f"volume={bench.gain_db + LAME_LOSS_DB[128]:.4f}dB:precision=float"
    graph = ";".join([split, *trims, f"{pieces}concat=n={len(kept)}:v=0:a=1,{fades},{gain}[o]"])
    encoder = ("-map", "[o]", "-c:a", "libmp3lame", "-b:a", "128k")
    argv = bench.bare("-i", bench.recording, "-filter_complex", graph, *encoder, made)
    edits = [
        {"op": "cut", "ranges": [{"from_s": begin, "to_s": end} for begin, end in cuts]},
        {"op": "fade", "in_s": 1.0, "out_s": 2.0},
    ]
    outputs = [{"format": "mp3", "bitrate_kbps": 128}]
    return [
        Side(BARE, lambda: external(argv), made),
        bench.job("edit", "mp3", bench.recording, source="source0", edits=edits, outputs=outputs),
    ]


def _render(bench: Bench) -> list[Side]:
    music, made = bench.folder / "music.wav", (bench.folder / "bare-mix.mp3", bench.folder / "bare-mix.m4a")
    signals.write(music, signals.music(min(600, bench.seconds), peak_dbtp=-6))
    gain = f"volume={bench.gain_db:.4f}dB:precision=float"
    graph = (
        "[0:a]asplit[voice][key];[1:a]volume=-14dB[bed];[bed][key]sidechaincompress=threshold=0.05:ratio=4[under];"
        f"[voice][under]amix=inputs=2:duration=first:normalize=0,{gain},asplit[a][b]"
    )
    argv = bench.bare(
        *("-i", bench.recording, "-stream_loop", "-1", "-i", music, "-filter_complex", graph),
        *("-map", "[a]", "-c:a", "libmp3lame", "-b:a", "128k", made[0]),
        *("-map", "[b]", "-c:a", "aac", "-b:a", "128k", made[1]),
    )
    params = {
        "tracks": [{"name": "host", "source": "source0"}],
        "music": {"source": "source1", "below_speech_lu": 12},
        "outputs": [{"format": "mp3", "bitrate_kbps": 128}, {"format": "m4a"}],
    }
    return [
        Side(BARE, lambda: external(argv), made[0]),
        bench.job("render", "mp3", bench.recording, music, **params),
    ]


CASES = (
    Case("Opus 96k of a WAV", _opus, 1.02),
    Case("a draft: MP3 128k of a WAV, speed=fast, beside a normal MP3", _fast, 0.65),
    Case("MP3, Opus and FLAC of an M4A, beside one after the other", _three, 0.65),
    Case("1080p video, picture copied", _video, 1.05),
    Case("edit: ten cuts and two fades, to MP3", _edit, None),
    Case("render: a voice over music, to MP3 and M4A", _render, None),
)


def answer(rounds: int, *, seconds: float = 300, judged: bool = True) -> Answer:
    """Measure all cases, the sides taking turns; unless they are judged, nobody listens to what they made.

    Cases that are held to nothing run twice at most.
    """
    ffmpeg = find_engine(load_settings()).ffmpeg
    film = min(_FILMED_S, seconds) * _again(seconds)
    found = Answer(f"Media jobs, of {seconds / 60:g} minutes of sound and {film:g} s of video", COLUMNS)
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as name:
        recording = speech(ffmpeg, Path(name) / "recording.wav", seconds)
        gain_db = TARGET - judges.ffmpeg_reading(ffmpeg, recording)[0]
        bench = Bench(ffmpeg, Path(name), seconds, recording, gain_db, judged)
        for case in CASES:
            sides = case.sides(bench)
            costs = take_turns(sides, rounds if case.most is not None else min(2, rounds))
            found.runs[case.name] = as_json(costs)
            told = {side.name: heard(ffmpeg, side.made) for side in sides if judged and side.name != BARE}
            found.rows.append((case.name, *[""] * (len(found.columns) - 1)))
            found.rows += rows(costs, told, TARGET)
            found.goals += _goals(case, best(costs[BARE]), best(costs[OURS]))
    return found


def long_answer(rounds: int) -> Answer:
    """The same of two hours of sound, and of ten minutes of video."""
    return answer(min(2, rounds), seconds=7200)


def smoke(rounds: int) -> Answer:
    """All cases of a few seconds, in which only the programs are worth counting."""
    return answer(rounds, seconds=6, judged=False)


def _goals(case: Case, bare: Cost, ours: Cost) -> list[Goal]:
    wall = [] if case.most is None else [Goal(f"{case.name}: wall, of bare", ours.wall_s / bare.wall_s, case.most)]
    return [*wall, Goal(f"{case.name}: wall without any ffmpeg", 100 * ours.other_wall_s / ours.wall_s, 3.0, " %")]
