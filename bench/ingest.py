"""What does it cost to master ten minutes of WAV into an MP3 of 128 kbit/s?

Three sides take turns on the same file: the bare encoder that already knows the gain (nothing can be cheaper with it),
Spool's whole `ingest` from upload to upload, and ffmpeg-normalize, which promises the same loudness. All use the same
ffmpeg. Two cases: one where a gain is enough, and one where the limiter must work.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess  # noqa: TID251 - a benchmark starts its peers
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.answer import Answer, Goal
from shared.job import NewJob, new_id
from shared.presets import PRESETS, Preset
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.protocol import ClaimRequest, Worker
from tests.media import judges, signals
from worker.children import Children
from worker.engine import find_engine
from worker.ffmpeg import Engine
from worker.pipelines import PIPELINES
from worker.process import Child, Ended, Processes
from worker.report import AttemptReport
from worker.run import Run
from worker.stop import Stop

PEER_ROUNDS = 2
CASES = {"a gain is enough": PRESETS["ebu-r128"], "the limiter works": PRESETS["podcast"]}


@dataclass(frozen=True)
class Cost:
    """One run: wall and CPU seconds, all processes together, and of the wall and CPU what was not ffmpeg."""

    wall_s: float
    cpu_s: float
    other_wall_s: float = 0.0
    other_cpu_s: float = 0.0


@dataclass(frozen=True)
class Side:
    """One competitor: `run` makes `made`."""

    name: str
    run: Callable[[], Cost]
    made: Path


def answer(rounds: int) -> Answer:
    """Measure both cases, the sides taking turns."""
    engine = find_engine(load_settings())
    peer = peers.python_for(peers.NORMALIZE).with_name("ffmpeg-normalize")
    found = Answer(
        "Ten minutes of WAV to MP3 128k",
        ("", "wall s", "x bare", "CPU s", "x bare", "not ffmpeg: wall", "CPU", "LUFS", "off", "dBTP"),
    )
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
        source = signals.write(Path(folder) / "ten-minutes.wav", signals.podcast(600))
        loudness = judges.libebur128(engine.ffmpeg, source).lufs
        for case, preset in CASES.items():
            sides = _sides(engine, source, preset.target_lufs - loudness, preset, peer)
            best = _take_turns(sides, rounds, found.runs.setdefault(case, {}))
            found.rows.append((f"{case} ({preset.target_lufs:g} LUFS)", *[""] * (len(found.columns) - 1)))
            found.rows += [_row(side, best, preset.target_lufs, engine) for side in sides]
            found.goals += _goals(case, *(best[side.name] for side in sides))
    return found


def _sides(engine: Engine, source: Path, gain: float, preset: Preset, peer: Path) -> list[Side]:
    folder = source.parent
    bare, ours, theirs = (folder / f"{name}.mp3" for name in ("bare", "spool", "peer"))
    encode = [
        *(str(engine.ffmpeg), "-nostdin", "-v", "error", "-y", "-i", str(source)),
        *("-af", f"volume={gain + 0.4455:.4f}dB:precision=float", "-c:a", "libmp3lame", "-b:a", "128k", str(bare)),
    ]
    normalize = [
        *(
            str(peer),
            str(source),
            "-f",
            "-q",
            "-t",
            f"{preset.target_lufs:g}",
            "-tp",
            f"{preset.ceiling_dbtp:g}",
            "-ar",
            "48000",
        ),
        *("--keep-lra-above-loudness-range-target", "-c:a", "libmp3lame", "-b:a", "128k", "-o", str(theirs)),
    ]
    environment = os.environ | {"FFMPEG_PATH": str(engine.ffmpeg)}  # noqa: TID251 - the peer's only way to be told
    return [
        Side("bare ffmpeg, gain known", lambda: _external(encode), bare),
        Side("Spool ingest", lambda: _spool(engine, source, preset.name, ours), ours),
        Side("ffmpeg-normalize", lambda: _external(normalize, environment), theirs),
    ]


def _take_turns(sides: Sequence[Side], rounds: int, runs: dict[str, Any]) -> dict[str, Cost]:
    costs: dict[str, list[Cost]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            if side.name != "ffmpeg-normalize" or number < PEER_ROUNDS:
                costs[side.name].append(side.run())
    runs.update({name: [dataclasses.asdict(cost) for cost in each] for name, each in costs.items()})
    return {
        name: Cost(*(min(getattr(cost, part.name) for cost in each) for part in dataclasses.fields(Cost)))
        for name, each in costs.items()
    }


def _row(side: Side, best: dict[str, Cost], target: float, engine: Engine) -> tuple[str, ...]:
    cost, bare = best[side.name], next(iter(best.values()))
    verdict = judges.libebur128(engine.ffmpeg, side.made)
    others = (cost.other_wall_s / cost.wall_s, cost.other_cpu_s / cost.cpu_s)
    return (
        f"  {side.name}",
        *(f"{cost.wall_s:.2f}", f"{cost.wall_s / bare.wall_s:.2f}"),
        *(f"{cost.cpu_s:.2f}", f"{cost.cpu_s / bare.cpu_s:.2f}"),
        *(f"{100 * share:.1f} %" if share else "" for share in others),
        *(f"{verdict.lufs:.3f}", f"{verdict.lufs - target:+.3f}", f"{verdict.true_peak_dbtp:.2f}"),
    )


def _goals(case: str, bare: Cost, ours: Cost, theirs: Cost) -> list[Goal]:
    return [
        Goal(f"{case}: wall, of the bare encoder's", ours.wall_s / bare.wall_s, 1.15),
        Goal(f"{case}: CPU, of ffmpeg-normalize's", ours.cpu_s / theirs.cpu_s, 0.45),
        Goal(f"{case}: wall without any ffmpeg", 100 * ours.other_wall_s / ours.wall_s, 3.0, " %"),
    ]


def _external(argv: Sequence[str], environment: dict[str, str] | None = None) -> Cost:
    before, begun = _cpu_s(), time.perf_counter()
    subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
    return Cost(time.perf_counter() - begun, _cpu_s() - before)


def _cpu_s() -> float:
    """CPU seconds of this process and of all its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


class _Watched(Processes):
    """Remembers when each program ran, and what it used."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.spans: list[tuple[float, float, Ended]] = []

    def start(self, argv: Sequence[str], **more: Any) -> Child:  # noqa: ANN401 - handed on as they are
        """Start a program and watch its end."""
        begun = time.perf_counter()
        child = super().start(argv, **more)
        wait = child.wait

        def waited() -> Ended:
            ended = wait()
            self.spans.append((begun, time.perf_counter(), ended))
            return ended

        child.wait = waited  # type: ignore[method-assign]  # watched from outside, so that the product need not be
        return child


def _spool(engine: Engine, source: Path, preset: str, made: Path) -> Cost:
    """One whole attempt on a real queue and storage; the upload before it and the queue are not counted."""
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as name:
        folder = Path(name)
        (folder / "work").mkdir()
        storage = LocalStorage(folder / "storage", b"secret of a benchmark")
        storage.put(source, "uploads/source", content_type="audio/wav", progress=lambda _done, _total: None)
        params = {"source": "source", "preset": preset, "outputs": [{"format": "mp3", "bitrate_kbps": 128}]}
        store = LocalJobStore(folder / "spool.db")
        store.migrate()
        store.create([NewJob(id=new_id(), type="ingest", params=params)])
        job = store.claim(ClaimRequest(Worker("bench", "here", "0", ("ingest",), 1), new_id(), 600))
        assert job is not None
        pipeline, stop = PIPELINES["ingest"], Stop()
        processes = _Watched(stop)
        report = AttemptReport([(stage.name, stage.weight) for stage in pipeline.stages], time.monotonic)
        children = Children(store, job, load_settings(), stop)
        run = Run(job, folder / "work", storage, engine, processes, report, stop, children)
        before, begun = _cpu_s(), time.perf_counter()
        state = pipeline.begin(run)
        for index, stage in enumerate(pipeline.stages):
            report.begin_stage(index)
            stage.work(run, state)
        _, outputs = pipeline.result(state)
        processes.close()
        store.close()
        wall, cpu = time.perf_counter() - begun, _cpu_s() - before
        storage.fetch(outputs[0].key, made, lambda _done, _total: None)
        spans = [span for span in processes.spans if span[2].argv[0] == str(engine.ffmpeg)]
        return Cost(wall, cpu, wall - _covered(spans), cpu - sum(ended.cpu_s for *_, ended in spans))


def _covered(spans: Sequence[tuple[float, float, Ended]]) -> float:
    """Seconds in which at least one of them ran."""
    covered, until = 0.0, 0.0
    for begun, ended, _ in sorted(spans, key=lambda span: span[0]):
        covered += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return covered
