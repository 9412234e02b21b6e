"""One attempt of one job, as a worker runs it, on a real queue and a real storage: what it costs, and its files.

`python -m bench.attempt` reads `{"type", "params", "sources": {asset: path}, "out": folder}` from stdin and prints a
`Cost` as JSON; the upload before the job, the queue and the start of the worker are not counted.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cost import Cost, Meter, told
from shared.job import NewJob, Output, new_id
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker
from worker.children import Children
from worker.engine import Engine, find_engine
from worker.pipelines import PIPELINES
from worker.process import Child, Ended, Processes
from worker.report import AttemptReport
from worker.run import Run
from worker.stop import Stop
from worker.upkeep import Upkeep

#: A program that ran, from when to when, and how it ended.
Span = tuple[float, float, Ended]


def attempt(type_: str, params: Mapping[str, Any], sources: Mapping[str, Path], out: Path) -> Cost:
    """Run it in a process of its own; the job's files are then in `out`. Raises `CalledProcessError`."""
    asked = {
        "type": type_,
        "params": params,
        "sources": {name: str(path) for name, path in sources.items()},
        "out": str(out),
    }
    return Cost(**told([sys.executable, "-m", "bench.attempt"], asked=asked))


class Watched(Processes):
    """Remembers when each program ran, and what it used."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.spans: list[Span] = []

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


def run_stages(run: Run) -> Sequence[Output]:
    """All stages of the run's job, in order; returns the files it stored."""
    pipeline = PIPELINES[run.job.type]
    state = pipeline.begin(run)
    for index, stage in enumerate(pipeline.stages):
        if isinstance(run.report, AttemptReport):
            run.report.begin_stage(index)
        stage.work(run, state)
    return pipeline.result(state)[1]


def run_job(engine: Engine, type_: str, params: Mapping[str, Any], sources: Mapping[str, Path], out: Path) -> Cost:
    """Run the attempt in this process."""
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as name:
        folder = Path(name)
        (folder / "work").mkdir()
        storage = LocalStorage(folder / "storage", b"secret of a benchmark")
        for asset, path in sources.items():
            storage.put(path, f"uploads/{asset}", content_type="audio/wav", progress=lambda _done, _total: None)
        store = LocalJobStore(folder / "spool.db")
        store.migrate()
        store.create([NewJob(id=new_id(), type=type_, params=dict(params))])
        job = store.claim(ClaimRequest(Worker("bench", "here", "0", (type_,), 1), new_id(), 600))
        assert job is not None
        stop, settings = Stop(), load_settings()
        processes = Watched(stop)
        stages = [(stage.name, stage.weight) for stage in PIPELINES[type_].stages]
        report = AttemptReport(stages, time.monotonic)
        upkeep = Upkeep(store, settings)
        children = Children(store, job, settings, stop)
        meter = Meter()
        outputs = run_stages(Run(job, folder / "work", storage, engine, processes, report, stop, children, upkeep))
        processes.close()
        cost = meter.cost()
        store.close()
        out.mkdir(exist_ok=True)
        for output in outputs:
            storage.fetch(output.key, out / output.name, lambda _done, _total: None)
        spans = [span for span in processes.spans if span[2].argv[0] == str(engine.ffmpeg)]
        return dataclasses.replace(
            cost,
            other_wall_s=cost.wall_s - covered(spans),
            other_cpu_s=cost.cpu_s - sum(ended.cpu_s for *_, ended in spans),
            programs=len(processes.spans),
            decodes=len(spans),
        )


def covered(spans: Sequence[Span]) -> float:
    """Seconds in which at least one of them ran."""
    seconds, until = 0.0, 0.0
    for begun, ended, _ in sorted(spans, key=lambda span: span[0]):
        seconds += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return seconds


def main() -> None:
    """Do what was asked for, and tell what it cost."""
    asked = json.load(sys.stdin)
    sources = {name: Path(path) for name, path in asked["sources"].items()}
    engine = find_engine(load_settings())
    cost = run_job(engine, asked["type"], asked["params"], sources, Path(asked["out"]))
    print(json.dumps(dataclasses.asdict(cost)))


if __name__ == "__main__":
    main()
