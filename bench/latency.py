"""How soon does an idle worker pick a job up, and how soon is a running encode proven dead after a cancel?

Both are read off the queue's own clock: from `created_at` to the event `running`, and from `cancel_requested_at` to
`completed_at` of the cancelled job, which is written only after the proof. One real worker process, real ffmpeg.
"""

from __future__ import annotations

import subprocess  # noqa: TID251 - the worker is the thing measured
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.answer import Answer, Goal
from shared.job import TERMINAL, Job, NewJob, new_id
from shared.settings import environment_with
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.protocol import Asset
from tests.media import signals

PICK_UPS, CANCELS = 60, 15


def answer(rounds: int) -> Answer:
    """Sample both, `rounds` times over; every sample counts."""
    with tempfile.TemporaryDirectory() as folder, _queue(Path(folder)) as (store, source):
        picked = [_pick_up_ms(store) for _ in range(rounds * PICK_UPS // 3)]
        dead = [_cancel_ms(store, source) for _ in range(rounds * CANCELS // 3)]
    found = Answer(
        title="An idle worker picks a job up; a cancelled encode is proven dead (milliseconds, SQLite on disk)",
        columns=("what", "samples", "p50", "p95", "max"),
        runs={"pick_up_ms": picked, "cancel_ms": dead},
    )
    for name, sample in (("created to running", picked), ("cancel asked to cancelled", dead)):
        found.rows.append((name, str(len(sample)), *(f"{_at(sample, share):.0f}" for share in (0.5, 0.95, 1.0))))
    found.goals = [
        Goal("pick-up p95", _at(picked, 0.95), 50, " ms"),
        Goal("cancel to proven death p95", _at(dead, 0.95), 1000, " ms"),
    ]
    return found


@contextmanager
def _queue(folder: Path) -> Iterator[tuple[LocalJobStore, str]]:
    """A queue with one worker process and a ten-minute recording in its storage."""
    store = LocalJobStore(folder / "spool.db")
    store.migrate()
    recording = folder / "recording.wav"
    signals.write(recording, signals.podcast(600.0))
    asset = Asset(
        id=new_id(),
        owner="local",
        filename="recording.wav",
        content_type="audio/wav",
        size_bytes=recording.stat().st_size,
        state="uploading",
    )
    store.add_asset(asset)
    stored = LocalStorage(folder / "storage", b"bench").put(
        recording, asset.key, content_type="audio/wav", progress=lambda done, total: None
    )
    store.asset_ready(asset.id, sha256=stored.sha256)
    environment = environment_with(
        database_url=f"sqlite:///{folder}/spool.db",
        storage_url=f"file:{folder}/storage",
        work_dir=f"{folder}/work",
        log_level="warning",
    )
    worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment)
    try:
        watch = store.watch()
        while not store.stats().workers:
            watch.wait(1.0)
        watch.close()
        yield store, asset.id
    finally:
        worker.terminate()
        worker.wait()
        store.close()


def _pick_up_ms(store: LocalJobStore) -> float:
    """A job that ends at once, since its upload does not exist."""
    job, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()}, max_failures=1)])
    _until(store, job.id, lambda job: job.status in TERMINAL)
    started = next(event for event in store.events(job.id) if event.message == "running")
    return started.at - job.created_at


def _cancel_ms(store: LocalJobStore, source: str) -> float:
    job, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": source})])
    _until(store, job.id, lambda job: job.stage == "encoding" and bool(job.progress))
    store.cancel(job.id)
    ended = _until(store, job.id, lambda job: job.status in TERMINAL)
    assert ended.status == "cancelled"
    assert ended.completed_at is not None
    assert ended.cancel_requested_at is not None
    return ended.completed_at - ended.cancel_requested_at


def _until(store: LocalJobStore, job_id: str, condition: Callable[[Job], bool]) -> Job:
    watch = store.watch()
    try:
        while True:
            job = store.get(job_id)
            if job is not None and condition(job):
                return job
            watch.wait(1.0)
    finally:
        watch.close()


def _at(sample: list[float], share: float) -> float:
    ordered = sorted(sample)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
