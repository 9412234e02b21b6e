"""One heartbeat speaks for all slots, soon after a stage began, and outlives a queue that does not answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.errors import Unavailable
from shared.job import Job, Status, new_id
from shared.storage.protocol import StorageAdapter
from shared.storage.s3 import S3Place, S3Storage
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker
from tests.real.queue import new_queue
from tests.real.s3 import KEYS
from tests.worker.stand import PATIENCE_S, Program, Stand, settings_for, submit, until


@pytest.fixture
def store(tmp_path) -> Iterator[LocalJobStore]:
    """A migrated, empty queue."""
    store = new_queue(tmp_path / "spool.db")
    yield store
    store.close()


@pytest.fixture
def stand(store, tmp_path) -> Iterator[Callable[..., Stand]]:
    """Starts a worker on the queue and ends it after the test."""
    stands: list[Stand] = []

    def start(*, storage: StorageAdapter | None = None, **changed: Any) -> Stand:
        stands.append(Stand(store, settings_for(tmp_path, **changed), storage=storage))
        stands[-1].start()
        return stands[-1]

    yield start
    for one in stands:
        one.drop()


def renewed(job: Job) -> Callable[[Job], bool]:
    """Whether the lease of the job ends later than it did."""
    return lambda found: (found.lease_until or 0) > (job.lease_until or 0)


def test_one_beat_speaks_for_all_jobs(store, stand, tmp_path, monkeypatch) -> None:
    """Three running jobs, one round trip, three leases renewed."""
    sizes: list[int] = []
    heartbeat = store.heartbeat

    def counted(worker: Any, beats: Any, **rest: Any) -> Any:
        sizes.append(len(beats))
        return heartbeat(worker, beats, **rest)

    monkeypatch.setattr(store, "heartbeat", counted)
    programs = [Program(tmp_path) for _ in range(3)]
    jobs = [submit(store, code=program.code) for program in programs]
    stand(slots=3)
    for program in programs:
        program.await_start()
    sizes.clear()
    for job in [until(store, job, Status.RUNNING) for job in jobs]:
        until(store, job, renewed(job))
    assert set(sizes) == {3}


def test_a_stage_shows_before_the_next_heartbeat_is_due(store, stand, tmp_path) -> None:
    """Heartbeats an hour apart: the stage and the lines so far are in the queue all the same."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    stand(heartbeat_s=300.0, lease_s=3000.0)
    program.await_start()
    found = until(store, job, lambda found: found.stage == "executing")
    assert (found.stage_index, found.stage_count) == (1, 2)
    assert "half of it" in [event.message for event in store.events(job.id)]


@pytest.mark.parametrize("error", [Unavailable("Nobody is there."), RuntimeError("a bug")], ids=["outage", "bug"])
def test_a_beat_that_fails_is_tried_again(store, stand, tmp_path, monkeypatch, error) -> None:
    """Two beats fail and the third renews the lease; the job runs on as if nothing had happened."""
    failures = [error, error]
    heartbeat = store.heartbeat

    def fail_twice(worker: Any, beats: Any, **rest: Any) -> Any:
        if beats and failures:
            raise failures.pop()
        return heartbeat(worker, beats, **rest)

    program = Program(tmp_path)
    job = submit(store, code=program.code)
    stand()
    program.await_start()
    monkeypatch.setattr(store, "heartbeat", fail_twice)
    until(store, job, lambda _: not failures)
    running = until(store, job, Status.RUNNING)
    until(store, job, renewed(running))
    assert not program.dead()
    assert running.attempt == 1


def test_a_lost_reply_repeats_no_line(store, stand, tmp_path, monkeypatch) -> None:
    """A heartbeat whose reply was lost sends its lines again; the history has each once."""
    lost: list[int] = []
    heartbeat = store.heartbeat

    def lose_the_first_reply(worker: Any, beats: Any, **rest: Any) -> Any:
        owned = heartbeat(worker, beats, **rest)
        if not lost and any(beat.lines for beat in beats):
            lost.append(1)
            raise Unavailable("The reply was lost.")
        return owned

    monkeypatch.setattr(store, "heartbeat", lose_the_first_reply)
    program = Program(tmp_path, "pass")
    job = submit(store, code=program.code)
    stand()
    until(store, job, lambda found: found.terminal)
    assert [event.line for event in store.events(job.id) if event.line] == [1, 2, 3]


def test_a_job_outlives_its_first_lease(store, stand, tmp_path) -> None:
    """A job may take many leases: heartbeats renew it, and its program's launcher hears of that."""
    job = submit(store, code="import time; time.sleep(5)")
    stand(lease_s=3.0)
    done = until(store, job, lambda found: found.terminal)
    assert (done.status, done.attempt) == (Status.COMPLETED, 1)


def test_a_storage_that_does_not_answer_holds_up_no_heartbeat(store, stand, tmp_path, monkeypatch) -> None:
    """A dead worker's last attempt has files to be deleted, the bucket is silent, and other jobs keep their leases."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    lost = submit(store, max_failures=1)
    gone = Worker(id="gone", host="there", version="0", types=("ingest",), slots=1)
    assert store.claim(ClaimRequest(gone, new_id(), 0.05)) is not None
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        bucket = S3Place("studio", "", f"http://127.0.0.1:{silent.getsockname()[1]}", "us-east-1")
        worker = stand(storage=S3Storage(bucket), lease_s=4.0)
        program.await_start()
        asked, _ = silent.accept()
        with asked:
            assert until(store, lost, Status.DEAD_LETTER).attempt == 1
            for _ in range(3):
                now = store.get(job.id)
                assert now is not None
                until(store, job, renewed(now))
        store.cancel(job.id)
        until(store, job, Status.CANCELLED)
    worker.drop()
