"""Finished files come to this machine, under names that say what they are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from cli.client import Client
from cli.live import View
from cli.views import JobView, OutputView, ended_badly

_EXTENSIONS = {
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".opus",
    "audio/opus": ".opus",
    "audio/flac": ".flac",
    "audio/wav": ".wav",
    "video/mp4": ".mp4",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "application/json": ".json",
    "text/html": ".html",
}


@dataclass(frozen=True, slots=True)
class Saved:
    """A finished file on this machine."""

    output: OutputView
    path: Path


def save(client: Client, name: str, job: JobView, folder: Path, view: View, *, replace: bool = False) -> list[Saved]:
    """Download the outputs of a completed job into `folder`. A file that is there already is kept, unless `replace`."""
    if ended_badly(job):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for output in client.outputs(job["id"]):
        path = folder / file_name(name, output)
        if not replace:
            path = _free(path)
        client.download(output, path, partial(view.moving, name, f"saving {output['name']}"))
        saved.append(Saved(output, path.absolute()))
    view.job(name, job)
    return saved


def file_name(source_name: str, output: OutputView) -> str:
    """`talk.wav` and output `mp3` give `talk.mp3`; other names stay visible: `talk.poster.jpg`. Never a path."""
    stem, name = PurePosixPath(source_name).stem, output["name"]
    extension = _EXTENSIONS.get(output["content_type"], "")
    if f".{name}" != extension and not name.lower().endswith(extension):
        name += extension
    return re.sub(r"[^\w. ()-]", "_", f"{stem}.{name}").lstrip(".")


def _free(path: Path) -> Path:
    """The path, numbered when something is there: what a person has is never overwritten."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free
