"""Fixtures for everything that touches media: a real engine, real recordings, and one attempt of a real job."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from shared.job import Job, Level, NewJob, new_id
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker
from tests.media import signals
from tests.media.recordings import FOLDER, Recordings, locked
from tests.real.queue import new_queue
from worker.children import Children
from worker.ffmpeg import Engine, find_engine
from worker.process import Processes
from worker.run import Run
from worker.stop import Stop
from worker.upkeep import Upkeep


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The ffmpeg this machine's worker would use."""
    return find_engine(load_settings())


@pytest.fixture(scope="session")
def recordings() -> Recordings:
    """Real recordings; each is downloaded when it is first asked for."""
    return Recordings()


@pytest.fixture(scope="session")
def three_minutes() -> Path:
    """Three minutes of a stereo podcast, 48 kHz 16 bit; made once and kept.

    Long enough for all that is done to long recordings: they are measured in two halves, and made in up to six parts.
    """
    path = FOLDER / "podcast-3-minutes-1.wav"
    with locked():
        if not path.exists():
            signals.write(path.with_suffix(".part"), signals.podcast(180)).replace(path)
    return path


@dataclass
class Notes:
    """Keeps what a stage reports: (current, total) and (level, message, data)."""

    steps: list[tuple[float, float | None]] = field(default_factory=list)
    lines: list[tuple[Level, str, dict[str, Any]]] = field(default_factory=list)

    def progress(self, current: float, total: float | None) -> None:
        """Keep it."""
        self.steps.append((current, total))

    def log(self, level: Level, message: str, **data: Any) -> None:
        """Keep it."""
        self.lines.append((level, message, data))


@pytest.fixture
def notes() -> Notes:
    """What `run` reported."""
    return Notes()


@pytest.fixture
def run(engine, notes, tmp_path) -> Iterator[Run]:
    """An attempt of an ingest job, claimed from a real queue, with a work folder of its own."""
    work = tmp_path / "work"
    work.mkdir()
    stop = Stop()
    processes = Processes(stop, grace_s=1.0)
    store = new_queue(tmp_path / "spool.db")
    job = _claimed(store)
    yield Run(
        job=job,
        work=work,
        storage=LocalStorage(tmp_path / "storage", b"secret of the tests"),
        engine=engine,
        processes=processes,
        report=notes,
        stop=stop,
        children=Children(store, job, load_settings(), stop),
        upkeep=Upkeep(store, load_settings()),
    )
    store.close()
    assert processes.close() == 0


def _claimed(store: LocalJobStore) -> Job:
    store.create([NewJob(id=new_id(), type="ingest", params={"source": "asset"})])
    worker = Worker(id="worker-a", host="here", version="0", types=("ingest",), slots=1)
    job = store.claim(ClaimRequest(worker, new_id(), 90))
    assert job is not None
    return job


@pytest.fixture
def make(tmp_path) -> Callable[..., Path]:
    """Makes a file with the embedded ffmpeg, whichever engine is tested: `make("name.mp3", *arguments)`."""

    def made(name: str, *args: str | Path) -> Path:
        path = tmp_path / name
        argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, args), str(path)]
        subprocess.run(argv, check=True, capture_output=True)
        return path

    return made
