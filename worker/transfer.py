"""The first and the last stage of every job: a source comes into the work folder, finished files go to the storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.crash import around
from shared.errors import JobFailure, NotFound, Unavailable
from shared.job import Output
from shared.references import is_reference
from shared.types import is_url
from worker.fetch import fetch_url
from worker.ffmpeg import SOURCE_NAME

if TYPE_CHECKING:
    from worker.run import Run


@dataclass(slots=True)
class Finished:
    """One file that is ready to be stored."""

    path: Path
    name: str
    content_type: str
    facts: dict[str, Any]


def source_path(run: Run, folder: str = "in") -> Path:
    """Where a source will lie: alone in a folder of its own, under a name of ours."""
    place = run.work / folder
    with around("source.folder"):
        place.mkdir(exist_ok=True)
    return place / SOURCE_NAME


def fetch_source(
    run: Run, source: str, path: Path, *, moved: Callable[[int, int | None], None] | None = None
) -> str | None:
    """Bring an upload, a link or another job's file to `path`; returns its SHA-256 where it is known.

    `moved` hears how many bytes of how many are there, or else the job's progress does. Raises `JobFailure`.
    """
    return _fetch(run, source, path, _places(run, [source]), moved or run.report.progress)


def fetch_sources(run: Run, paths: Mapping[str, Path]) -> dict[str, str | None]:
    """Bring several sources to their paths, one after the other; returns the SHA-256 of each where it is known.

    The progress is of all their bytes together, and has no whole while a link has not told its size.
    """
    places = _places(run, list(paths))
    sizes = {source: _size(run, places.get(source)) for source in paths}
    found, done = dict[str, str | None](), 0
    for source, path in paths.items():

        def moved(now: int, size: int | None, source: str = source, before: int = done) -> None:
            sizes[source] = size
            known = [each for each in sizes.values() if each is not None]
            run.report.progress(before + now, sum(known) if len(known) == len(sizes) else None)

        found[source] = _fetch(run, source, path, places, moved)
        done += path.stat().st_size
    return found


def _places(run: Run, sources: Sequence[str]) -> dict[str, str]:
    """Where the storage keeps each source; a link is kept nowhere."""
    made = run.children.outputs([source for source in sources if is_reference(source)])
    return {
        source: made[source].key if source in made else f"uploads/{source}" for source in sources if not is_url(source)
    }


def _fetch(
    run: Run, source: str, path: Path, places: Mapping[str, str], moved: Callable[[int, int | None], None]
) -> str | None:
    def progress(done: int, total: int | None) -> None:
        run.stop.check()
        moved(done, total)

    if source not in places:
        return fetch_url(source, path, stop=run.stop, progress=progress).sha256
    try:
        return run.storage.fetch(places[source], path, progress).sha256
    except NotFound:
        sentence = (
            f"The file {source} is no longer there; run the job that made it again, and name the file it makes."
            if is_reference(source)
            else "The uploaded file is no longer there; upload the recording again and start a new job."
        )
        raise JobFailure("bad_input.missing", sentence) from None


def _size(run: Run, place: str | None) -> int | None:
    """How large a source is; None for a link, and for what is gone."""
    stored = None if place is None else run.storage.stat(place)
    return None if stored is None else stored.size_bytes


def store_files(run: Run, files: Sequence[Finished]) -> list[Output]:
    """Keep the files as this attempt's outputs, all or none; they become the job's when its finish is accepted."""
    try:
        return _store_files(run, files)
    except BaseException:  # raised again: nobody will see what was stored so far
        with suppress(Unavailable):  # the next attempt deletes it then, or the janitor together with the job
            run.storage.delete_prefix(f"outputs/{run.job.id}/{run.job.attempt}/")
        raise


def _store_files(run: Run, files: Sequence[Finished]) -> list[Output]:
    total, done = sum(file.path.stat().st_size for file in files), 0
    outputs = []
    for file in files:

        def progress(moved: int, _: int | None, done: int = done) -> None:
            run.stop.check()
            run.report.progress(done + moved, total)

        key = f"outputs/{run.job.id}/{run.job.attempt}/{file.name}"
        stored = run.storage.put(file.path, key, content_type=file.content_type, progress=progress)
        if stored.sha256 is None:
            raise JobFailure(
                "internal",
                "The storage did not tell what it stored; it is tried again while it has tries left.",
                kind="transient",
            )
        done += stored.size_bytes
        outputs.append(Output(file.name, stored.key, file.content_type, stored.size_bytes, stored.sha256, file.facts))
    return outputs
