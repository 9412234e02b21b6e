"""Runs the stages of a `render` on real files, and hears what came out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.job import Output
from tests.media import judges
from worker.pipelines import PIPELINES
from worker.run import Run

RATE = 48_000
FLAC = ({"format": "flac"},)


@dataclass
class Rendered:
    """What a job made: its result, its outputs, and where they were saved."""

    run: Run
    result: dict[str, Any]
    outputs: dict[str, Output]
    files: dict[str, Path]

    def sound(self, name: str) -> NDArray[np.float32]:
        """The samples of a finished file, (frames, channels)."""
        return judges.decode(self.run.engine.ffmpeg, self.files[name]).samples


@dataclass
class Mixed:
    """The mix before it is mastered, (frames, channels), where every entry lies in it, and the warnings."""

    samples: NDArray[np.float32]
    told: dict[str, dict[str, Any]]
    warnings: list[str]


@dataclass
class Studio:
    """Uploads the files that parameters name by their paths, and renders; `started` keeps every command line."""

    run: Run
    folder: Path
    started: list[list[str]]

    def __call__(self, *tracks: Path | dict[str, Any], **params: Any) -> Rendered:
        """A track is a path, or a table with a path as its `source`."""
        attempt, state = self._worked(5, tracks, params)
        result, outputs = PIPELINES["render"].result(state)
        saved = {}
        for output in outputs:
            saved[output.name] = self.folder / output.name
            attempt.storage.fetch(output.key, saved[output.name], lambda _done, _total: None)
        return Rendered(attempt, json.loads(json.dumps(result)), {one.name: one for one in outputs}, saved)

    def mixed(self, *tracks: Path | dict[str, Any], **params: Any) -> Mixed:
        """The same, up to the mix."""
        attempt, state = self._worked(2, tracks, params)
        samples = judges.decode(attempt.engine.ffmpeg, attempt.work / "mix.wav").samples
        return Mixed(samples, {one["entry"]: one for one in state.told}, state.warnings)

    def _worked(self, stages: int, tracks: Sequence[Path | dict[str, Any]], params: dict[str, Any]) -> tuple[Run, Any]:
        listed = [{"source": track} if isinstance(track, Path) else track for track in tracks]
        params = self._uploaded({"tracks": listed, "outputs": FLAC} | params)
        job = dataclasses.replace(self.run.job, type="render", params=json.loads(json.dumps(params)))
        attempt, pipeline = dataclasses.replace(self.run, job=job), PIPELINES["render"]
        state = pipeline.begin(attempt)
        for stage in pipeline.stages[:stages]:
            stage.work(attempt, state)
        return attempt, state

    def opened(self, folder: str) -> int:
        """How often ffmpeg was given an input that lies in this folder."""
        return sum(
            argument == "-i" and f"/{folder}/source" in argv[place + 1]
            for argv in self.started
            for place, argument in enumerate(argv[:-1])
        )

    def _uploaded(self, value: Any) -> Any:
        """The same with asset ids where paths were."""
        if isinstance(value, Path):
            asset = f"asset-{value.name.replace('.', '-')}"
            self.run.storage.put(value, f"uploads/{asset}", content_type="audio/wav", progress=lambda _d, _t: None)
            return asset
        if isinstance(value, dict):
            return {name: self._uploaded(one) for name, one in value.items()}
        return [self._uploaded(one) for one in value] if isinstance(value, list | tuple) else value
