"""What does it cost to master ten minutes of WAV into an MP3 of 128 kbit/s?

The sides take turns on the same file: the bare encoder that already knows the gain (nothing can be cheaper with it),
Spool's whole `ingest` from upload to upload, ffmpeg-normalize, which promises the same loudness, and the script that
ffmpeg-python's users write. All use the same ffmpeg. Two cases: a gain is enough, and the limiter must work; for that
one half of the recording, and without the script, which does the same whatever the target. Peers run once: they are
several times slower than what separates two runs of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import peers
from bench.answer import Answer, Goal
from bench.attempt import attempt
from bench.cost import Cost, Side, as_json, best, external, take_turns
from bench.meters import Loudness, heard
from shared.presets import PRESETS, Preset
from shared.settings import load_settings
from tests.media import judges, signals
from worker.encoders import LAME_LOSS_DB
from worker.engine import find_engine

BARE, OURS, THEIRS, SCRIPT = "bare ffmpeg, gain known", "Spool ingest", "ffmpeg-normalize", "ffmpeg-python, loudnorm"
#: The preset, and how much of the recording.
CASES = {"a gain is enough": (PRESETS["ebu-r128"], 1.0), "the limiter works, half as long": (PRESETS["podcast"], 0.5)}
_MADE_S = 600.0
COLUMNS = (
    *("", "wall x bare", "CPU x bare", "LUFS off", "by pyloudnorm", "dBTP"),
    *("wall s", "CPU s", "largest MB", "written MB", "not ffmpeg: wall", "CPU"),
)
#: What the users of ffmpeg-python write when they are told of a loudness.
_SCRIPT = (
    "import ffmpeg, sys; source, made, lufs, peak, program = sys.argv[1:]; "
    "sound = ffmpeg.input(source).audio.filter('loudnorm', I=lufs, TP=peak); "
    "ffmpeg.output(sound, made, acodec='libmp3lame', audio_bitrate='128k', ar=48000)"
    ".run(cmd=program, overwrite_output=True, quiet=True)"
)


def answer(rounds: int, *, seconds: float = 600) -> Answer:
    """Measure both cases, the sides taking turns."""
    ffmpeg = find_engine(load_settings()).ffmpeg
    found = Answer(f"{seconds / 60:g} minutes of WAV to MP3 128k", COLUMNS)
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
        for case, (preset, share) in CASES.items():
            source = speech(ffmpeg, Path(folder) / "source.wav", share * seconds)
            loudness, _ = judges.ffmpeg_reading(ffmpeg, source)
            sides = _sides(ffmpeg, source, preset.target_lufs - loudness, preset, script=share == 1.0)
            costs = take_turns(sides, rounds)
            found.runs[case] = as_json(costs)
            told = {side.name: heard(ffmpeg, side.made) for side in sides}
            found.rows.append((f"{case} ({preset.target_lufs:g} LUFS)", *[""] * (len(found.columns) - 1)))
            found.rows += rows(costs, told, preset.target_lufs)
            found.goals += _goals(case, costs, told, preset)
    return found


def long_answer(rounds: int) -> Answer:
    """The same of two hours."""
    return answer(min(2, rounds), seconds=7200)


def speech(ffmpeg: Path, path: Path, seconds: float) -> Path:
    """A recording of so long; what is longer than ten minutes repeats itself. Returns `path`."""
    if seconds <= _MADE_S:
        return signals.write(path, signals.podcast(seconds))
    made = signals.write(path.with_name("made.wav"), signals.podcast(_MADE_S))
    again = ["-stream_loop", "-1", "-i", made, "-t", f"{seconds:g}", "-c", "copy", path]
    external([ffmpeg, "-nostdin", "-v", "error", "-y", *again])
    made.unlink()
    return path


def rows(
    costs: Mapping[str, Sequence[Cost]], told: Mapping[str, Loudness], target: float | None
) -> list[tuple[str, ...]]:
    """A line for each side; the first one is the bare tool. A side whose loudness was not asked has none."""
    bare = best(next(iter(costs.values())))
    made = []
    for name, each in costs.items():
        cost, loudness = best(each), told.get(name)
        heard_so = ["", "", ""]
        if loudness is not None and target is not None:
            off = loudness.ffmpeg - target, loudness.pyloudnorm - target
            heard_so = [f"{off[0]:+.3f}", f"{off[1]:+.3f}", f"{loudness.true_peak_dbtp:.2f}"]
        others = (cost.other_wall_s / cost.wall_s, cost.other_cpu_s / cost.cpu_s)
        made.append(
            (
                *(f"  {name}", f"{cost.wall_s / bare.wall_s:.2f}", f"{cost.cpu_s / bare.cpu_s:.2f}", *heard_so),
                *(f"{cost.wall_s:.2f}", f"{cost.cpu_s:.2f}", f"{cost.peak_mb:.0f}", f"{cost.written_mb:.0f}"),
                *(f"{100 * share:.1f} %" if share else "" for share in others),
            )
        )
    return made


def _sides(ffmpeg: Path, source: Path, gain: float, preset: Preset, *, script: bool) -> list[Side]:
    folder = source.parent
    bare, theirs, scripted = (folder / f"{name}.mp3" for name in ("bare", "peer", "script"))
    lufs, peak = f"{preset.target_lufs:g}", f"{preset.ceiling_dbtp:g}"
    gain_db = f"{gain + LAME_LOSS_DB[128]:.4f}dB"
    encode = [
        *(ffmpeg, "-nostdin", "-v", "error", "-y", "-i", source),
        *("-af", f"volume={gain_db}:precision=float", "-c:a", "libmp3lame", "-b:a", "128k", bare),
    ]
    normalize = [
        *(peers.python_for(peers.NORMALIZE).with_name("ffmpeg-normalize"), source, "-f", "-q", "-t", lufs, "-tp", peak),
        *("-ar", "48000", "--keep-lra-above-loudness-range-target"),
        *("-c:a", "libmp3lame", "-b:a", "128k", "-o", theirs),
    ]
    written = [peers.python_for(peers.FFMPEG_PYTHON), "-c", _SCRIPT, source, scripted, lufs, peak, ffmpeg]
    environment = os.environ | {"FFMPEG_PATH": str(ffmpeg)}  # noqa: TID251 - the peer's only way to be told
    params = {"source": "source", "preset": preset.name, "outputs": [{"format": "mp3", "bitrate_kbps": 128}]}
    ours = folder / "spool"
    sides = [
        Side(BARE, lambda: external(encode), bare),
        Side(OURS, lambda: attempt("ingest", params, {"source": source}, ours), ours / "mp3"),
        Side(THEIRS, lambda: external(normalize, environment), theirs, rounds=1),
    ]
    return [*sides, Side(SCRIPT, lambda: external(written), scripted, rounds=1)] if script else sides


def _goals(case: str, costs: Mapping[str, Sequence[Cost]], told: Mapping[str, Loudness], preset: Preset) -> list[Goal]:
    bare, ours, theirs = (best(costs[name]) for name in (BARE, OURS, THEIRS))
    errors = [told[name].error(preset.target_lufs) for name in (OURS, THEIRS)]
    return [
        Goal(f"{case}: wall, of the bare encoder's", ours.wall_s / bare.wall_s, 1.15),
        Goal(f"{case}: CPU, of ffmpeg-normalize's", ours.cpu_s / theirs.cpu_s, 0.40),
        Goal(f"{case}: wall without any ffmpeg", 100 * ours.other_wall_s / ours.wall_s, 3.0, " %"),
        Goal(f"{case}: error, of ffmpeg-normalize's, by ffmpeg", errors[0][0] / errors[1][0], 0.25),
        Goal(f"{case}: error, of ffmpeg-normalize's, by pyloudnorm", errors[0][1] / errors[1][1], 0.25),
        Goal(f"{case}: true peak over the ceiling", told[OURS].true_peak_dbtp - preset.ceiling_dbtp, 0.0, " dB"),
    ]
