"""What tests of the job types have in common: a file goes in, the stages run, and the outputs are on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.job import Output
from tests.flow.editor import Editor
from tests.flow.studio import Studio
from worker.pipelines import PIPELINES
from worker.process import Child
from worker.run import Run


@dataclasses.dataclass
class Done:
    """What a job made: its result, its outputs, where they were saved, and the programs that were started."""

    result: dict[str, Any]
    outputs: dict[str, Output]
    files: dict[str, Path]
    programs: list[tuple[str, ...]]

    @property
    def decodes(self) -> list[tuple[str, ...]]:
        """The ffmpeg processes that read something."""
        return [argv for argv in self.programs if "ffmpeg" in Path(argv[0]).name and "-i" in argv]


@pytest.fixture
def perform(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Uploads a file, runs the stages of a job type on it, and saves the outputs: `perform("report", path, …)`."""
    programs: list[tuple[str, ...]] = []
    begun = Child.__init__

    def counted(child, argv, **more):
        programs.append(tuple(argv))
        begun(child, argv, **more)

    monkeypatch.setattr(Child, "__init__", counted)

    def done(kind: str, source: Path, *, name: str | None = None, **params: Any) -> Done:
        asset = f"asset-{source.name.partition('.')[0]}"
        run.storage.put(source, f"uploads/{asset}", content_type="audio/wav", progress=lambda _done, _total: None)
        job = dataclasses.replace(run.job, type=kind, params={"source": asset} | params, name=name or source.name)
        attempt, pipeline = dataclasses.replace(run, job=job), PIPELINES[kind]
        programs.clear()
        state = pipeline.begin(attempt)
        for stage in pipeline.stages:
            stage.work(attempt, state)
        result, outputs = pipeline.result(state)
        files = {}
        for output in outputs:
            files[output.name] = tmp_path / "saved" / output.name
            files[output.name].parent.mkdir(exist_ok=True)
            run.storage.fetch(output.key, files[output.name], lambda _done, _total: None)
        return Done(json.loads(json.dumps(result)), {one.name: one for one in outputs}, files, list(programs))

    return done


@pytest.fixture
def edited(run, tmp_path, monkeypatch) -> Editor:
    """Applies edit lists to files: `edited(path, *entries, **params)`."""
    saved = tmp_path / "saved"
    saved.mkdir()
    editor = Editor(run, saved, [])
    real = run.processes.start

    def start(argv, **more):
        editor.started.append(list(argv))
        return real(argv, **more)

    monkeypatch.setattr(run.processes, "start", start)
    return editor


@pytest.fixture
def rendered(run, tmp_path, monkeypatch) -> Studio:
    """Renders shows of files: `rendered(path, {"source": path, "offset_s": 3}, music={...}, **params)`."""
    saved = tmp_path / "saved"
    saved.mkdir()
    studio = Studio(run, saved, [])
    real = run.processes.start

    def start(argv, **more):
        studio.started.append(list(argv))
        return real(argv, **more)

    monkeypatch.setattr(run.processes, "start", start)
    return studio
