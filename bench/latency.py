"""How soon does an idle worker pick a job up, and how soon is a running encode proven dead after a cancel?

Both are read off the queue's own clock: from `created_at` to the event `running`, and from `cancel_requested_at` to
`completed_at` of the cancelled job, which is written only after the proof. One real worker process, real ffmpeg; first
on a SQLite file, then on a libSQL server that is 20 ms away from the worker.
"""

from __future__ import annotations

import subprocess  # noqa: TID251 - the worker is the thing measured
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.answer import SHARES, Answer, Figure, Goal, at, spread
from shared.job import TERMINAL, Job, NewJob, new_id
from shared.settings import environment_with
from shared.storage.local import LocalStorage
from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.store.turso import TursoJobStore
from shared.store.values import Asset
from tests.media import signals
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

PICK_UPS, CANCELS = 100, 16
#: The worker on a server looks for work every two seconds at the most, so that each of its pick-ups takes about one.
REMOTE_PICK_UPS, REMOTE_CANCELS = 20, 12
DISTANCE_MS = 20
_RECORDING_S = 500.0


def answer(rounds: int) -> Answer:
    """Sample all four, a third of them per round; every sample counts."""
    return measured(
        PICK_UPS * rounds // 3, CANCELS * rounds // 3, REMOTE_PICK_UPS * rounds // 3, REMOTE_CANCELS * rounds // 3
    )


def measured(picks: int, cancels: int, remote_picks: int, remote_cancels: int) -> Answer:
    """The answer from so many samples."""
    found = Answer(
        title="An idle worker picks a job up; a cancelled encode is proven dead (milliseconds)",
        columns=("what", "samples", *SHARES),
    )
    with tempfile.TemporaryDirectory() as name:
        recording = Path(name) / "recording.wav"
        signals.write(recording, signals.podcast(_RECORDING_S))
        for where, pick_ups, ends in (("local", picks, cancels), ("remote", remote_picks, remote_cancels)):
            with _queue(Path(name) / where, recording, remote=where == "remote") as (store, source):
                picked = [_pick_up_ms(store) for _ in range(pick_ups)]
                dead = [_cancel_ms(store, source) for _ in range(ends)]
            found.runs[where] = {"pick_up_ms": picked, "cancel_ms": dead}
            place = f"libSQL at {DISTANCE_MS} ms" if where == "remote" else "SQLite on disk"
            found.rows.append((f"created to running, {place}", *spread(picked)))
            found.rows.append((f"cancel asked to cancelled, {place}", *spread(dead)))
            if where == "local":
                found.goals.append(Goal("pick-up p95, local", at(picked, 0.95), 30, " ms"))
            most = 700 if where == "local" else 1700
            found.goals.append(Goal(f"cancel to proven death p95, {where}", at(dead, 0.95), most, " ms"))
            found.figures += [
                Figure(f"cancel to proven death, p95, {place}", f"{at(dead, 0.95):.0f} ms", f"{most} ms at most"),
                Figure(f"created to running, p95, {place}", f"{at(picked, 0.95):.0f} ms", _pick_up_beside(where)),
            ]
    return found


def _pick_up_beside(where: str) -> str:
    return "30 ms at most" if where == "local" else "an idle worker looks every 2 s"


@contextmanager
def _queue(folder: Path, recording: Path, *, remote: bool) -> Iterator[tuple[SqlJobStore, str]]:
    """A queue with one worker process and a recording of eight minutes in its storage."""
    folder.mkdir()
    with ExitStack() as ended:
        store, url = ended.enter_context(_database(folder, remote=remote))
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
        ended.enter_context(worker_on(folder, url))
        watch = store.watch()
        while not store.stats().workers:
            watch.wait(1.0)
        watch.close()
        yield store, asset.id


@contextmanager
def _database(folder: Path, *, remote: bool) -> Iterator[tuple[SqlJobStore, str]]:
    """A store that is near, and the address at which the worker is to find the same queue."""
    with ExitStack() as ended:
        if remote:
            server = ended.enter_context(Sqld(folder / "sqld"))
            url = ended.enter_context(Proxy(server.url, delay_s=DISTANCE_MS / 1000)).url
            store: SqlJobStore = TursoJobStore(Hrana(server.url))
        else:
            url = f"sqlite:///{folder}/spool.db"
            store = LocalJobStore(folder / "spool.db")
        ended.callback(store.close)
        store.migrate()
        yield store, url


@contextmanager
def worker_on(folder: Path, database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; it is asked to end, and waited for."""
    environment = environment_with(
        database_url=database_url,
        storage_url=f"file:{folder}/storage",
        work_dir=f"{folder}/work",
        log_level="warning",
    )
    worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait()


def _pick_up_ms(store: SqlJobStore) -> float:
    """A job that ends at once, since its upload does not exist."""
    job, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()}, max_failures=1)])
    _until(store, job.id, lambda job: job.status in TERMINAL)
    started = next(event for event in store.events(job.id) if event.message == "running")
    return started.at - job.created_at


def _cancel_ms(store: SqlJobStore, source: str) -> float:
    job, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": source})])
    _until(store, job.id, lambda job: job.stage == "encoding")
    store.cancel(job.id)
    ended = _until(store, job.id, lambda job: job.status in TERMINAL)
    assert ended.status == "cancelled", ended.status
    assert ended.completed_at is not None
    assert ended.cancel_requested_at is not None
    return ended.completed_at - ended.cancel_requested_at


def _until(store: SqlJobStore, job_id: str, condition: Callable[[Job], bool]) -> Job:
    watch = store.watch()
    try:
        while True:
            job = store.get(job_id)
            if job is not None and condition(job):
                return job
            watch.found()
            watch.wait(1.0)
    finally:
        watch.close()
