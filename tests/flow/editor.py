"""Runs the stages of an `edit` on real files, and hears what came out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.job import Output
from tests.media import judges
from worker.pipelines import PIPELINES
from worker.run import Run

WAV = ({"format": "wav"},)
RATE = 48_000


@dataclass
class Edited:
    """What a job made: its result, its outputs, and where they were saved."""

    run: Run
    result: dict[str, Any]
    outputs: dict[str, Output]
    files: dict[str, Path]

    def sound(self, name: str = "wav") -> NDArray[np.float32]:
        """The samples of a finished file, (frames, channels)."""
        return judges.decode(self.run.engine.ffmpeg, self.files[name]).samples


@dataclass
class Editor:
    """Uploads files and applies an edit list to them; `started` keeps the command line of every program."""

    run: Run
    folder: Path
    started: list[list[str]]

    def __call__(self, files: Path | Mapping[str, Path], *edits: dict[str, Any], **params: Any) -> Edited:
        """One file, or several by name, and the entries of the list."""
        if isinstance(files, Path):
            params["source"] = self.upload(files)
        else:
            params["files"] = [{"name": name, "source": self.upload(path)} for name, path in files.items()]
        params = {"outputs": WAV, "edits": edits} | params
        attempt = dataclasses.replace(
            self.run, job=dataclasses.replace(self.run.job, type="edit", params=json.loads(json.dumps(params)))
        )
        pipeline = PIPELINES["edit"]
        state = pipeline.begin(attempt)
        for stage in pipeline.stages:
            stage.work(attempt, state)
        result, outputs = pipeline.result(state)
        saved = {}
        for output in outputs:
            saved[output.name] = self.folder / output.name
            self.run.storage.fetch(output.key, saved[output.name], lambda _done, _total: None)
        return Edited(self.run, json.loads(json.dumps(result)), {one.name: one for one in outputs}, saved)

    def upload(self, path: Path) -> str:
        """Returns the asset id."""
        asset = f"asset-{path.name.replace('.', '-')}"
        self.run.storage.put(path, f"uploads/{asset}", content_type="audio/wav", progress=lambda _done, _total: None)
        return asset

    def opened(self, part: str) -> int:
        """How often ffmpeg was given an input with `part` in its path."""
        return sum(
            argument == "-i" and part in argv[place + 1]
            for argv in self.started
            for place, argument in enumerate(argv[:-1])
        )


def numbered(seconds: float, rate: int = RATE, channels: int = 1) -> NDArray[np.float64]:
    """A sound whose every sample tells its own place: see `places`."""
    count = round(seconds * rate)
    value = (np.arange(count) % 20_000 - 10_000) / 32_768
    return np.repeat(value[:, None], channels, axis=1)


def places(sound: NDArray[np.floating]) -> NDArray[np.int64]:
    """The place, modulo 20,000, that the samples of a `numbered` sound tell."""
    return np.rint(sound[:, 0] * 32_768).astype(np.int64) + 10_000
