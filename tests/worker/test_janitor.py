"""What a worker does for all is done in time, and never in haste after an outage."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.job import Job, Status, new_id
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.values import Asset, Beat, ClaimRequest, Worker
from tests.real.queue import new_queue
from tests.worker.stand import settings_for, submit
from worker.errands import Errand
from worker.janitor import Janitor

LOST = Worker(id="lost", host="there", version="0", types=("ingest",), slots=1)


def at_once(errand: Errand) -> bool:
    """Does what the janitor wants done elsewhere here and now."""
    errand()
    return True


@dataclass
class Place:
    """A queue, a storage, and a janitor whose clock the test moves."""

    store: LocalJobStore
    storage: LocalStorage
    folder: Path

    lease_s: float = 30.0

    def __post_init__(self) -> None:
        self.now = 1000.0
        settings = settings_for(self.folder, heartbeat_s=5.0, lease_s=self.lease_s)
        self.settings = settings
        self.janitor = self.hire()

    def hire(self) -> Janitor:
        """A janitor who has just begun."""
        return Janitor(self.store, self.storage, self.settings, lambda: self.now, random.Random(1), errand=at_once)

    def spend(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass with a turn at every step."""
        for _ in range(int(seconds / step_s)):
            self.now += step_s
            self.janitor.turn()

    def lose_a_job(self) -> Job:
        """A job whose owner's lease has run out."""
        submit(self.store)
        job = self.store.claim(ClaimRequest(LOST, new_id(), 90.0))
        assert job is not None
        self.change("UPDATE job SET lease_until = 1")
        return job

    def step_clock(self, seconds: float) -> None:
        """Set the database's clock ahead; the worker's own goes on as before."""

        def julianday(_: str) -> float:
            return (time.time() + seconds) / 86400 + 2440587.5

        self.store.close()
        connection = self.store._connect()
        connection.create_function("julianday", 1, julianday)
        self.store._idle.append(connection)

    def change(self, statement: str) -> None:
        """Change the database behind everyone's back, as only time can."""
        database = sqlite3.connect(self.folder / "spool.db", isolation_level=None)
        database.execute(statement)
        database.close()


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """A migrated, empty queue with its janitor."""
    store = new_queue(tmp_path / "spool.db")
    yield Place(store, LocalStorage(tmp_path / "storage", b"secret"), tmp_path)
    store.close()


def status(place: Place, job: Job) -> Status:
    """The job's state."""
    found = place.store.get(job.id)
    assert found is not None
    return found.status


def reaped(place: Place, job: Job) -> bool:
    """Whether it was taken from its owner; a short backoff may be over already."""
    found = place.store.get(job.id)
    assert found is not None
    return found.failures == 1


def test_a_lost_job_is_reaped_within_a_third_of_a_lease(place) -> None:
    """A janitor in its stride takes a job from a silent worker soon after its lease ended."""
    place.spend(60)
    job = place.lose_a_job()
    place.spend(10)
    assert reaped(place, job)


def test_nothing_is_reaped_right_after_an_outage(place) -> None:
    """When the queue is back after long, owners get two heartbeats to save their jobs before anyone takes them."""
    place.spend(60)
    job = place.lose_a_job()
    place.now += 60
    place.spend(9, step_s=0.5)
    assert status(place, job) is Status.RUNNING
    place.spend(20)
    assert reaped(place, job)


def test_a_short_lease_is_reaped_all_the_same(place) -> None:
    """The quiet after an outage, or after its own start, is no outage: it ends, however short the lease is."""
    hasty = Place(place.store, place.storage, place.folder, lease_s=18.0)
    job = hasty.lose_a_job()
    hasty.spend(60)
    assert reaped(hasty, job)


def test_a_janitor_told_to_be_quiet_is(place) -> None:
    """While the worker's own heartbeats fail, and two heartbeats longer, nothing is reaped."""
    place.spend(60)
    job = place.lose_a_job()
    for _ in range(30):
        place.janitor.be_quiet()
        place.spend(1)
    assert status(place, job) is Status.RUNNING


def test_nothing_is_reaped_for_a_lease_after_the_clock_jumped(place) -> None:
    """When the database's clock jumps ahead all leases seem to have ended, those of frozen owners as well, whose
    launchers end their programs when a lease has really passed."""
    place.spend(60)
    submit(place.store)
    job = place.store.claim(ClaimRequest(LOST, new_id(), 90.0))
    place.step_clock(100.0)
    place.spend(place.lease_s, step_s=0.5)
    assert status(place, job) is Status.RUNNING
    place.spend(20)
    assert reaped(place, job)


@pytest.mark.parametrize("jumped", [True, False])
def test_a_janitor_who_has_just_begun_hears_of_a_jump_from_the_owners(place, jumped) -> None:
    """It has not seen the clock before; what the owner's host saw at its last heartbeat tells."""
    submit(place.store)
    job = place.store.claim(ClaimRequest(LOST, new_id(), 30.0))
    place.store.heartbeat(LOST, [Beat(job.claim)], lease_s=30.0, metrics={"host_ms": round(time.time() * 1000)})
    place.janitor = place.hire()
    if jumped:
        place.step_clock(100.0)
    else:
        place.change("UPDATE job SET lease_until = 1")
    place.spend(20, step_s=0.5)
    assert reaped(place, job) != jumped
    place.spend(30)
    assert reaped(place, job)


def test_old_jobs_are_pruned_with_their_files(place, tmp_path) -> None:
    """After the retention time rows and files of an ended job are deleted; a young one stays."""
    old = submit(place.store)
    place.store.cancel(old.id)
    place.change("UPDATE job SET created_at = 1, completed_at = 1")
    young = submit(place.store)
    place.store.cancel(young.id)
    (tmp_path / "made").write_text("x")
    for job in (old, young):
        key = f"outputs/{job.id}/1/a.txt"
        place.storage.put(tmp_path / "made", key, content_type="text/plain", progress=lambda *_: None)
    place.spend(700)
    assert place.store.get(old.id) is None
    assert place.storage.stat(f"outputs/{old.id}/1/a.txt") is None
    assert place.store.get(young.id) is not None
    assert place.storage.stat(f"outputs/{young.id}/1/a.txt") is not None
    place.change("UPDATE job SET created_at = 1, completed_at = 1")
    place.spend(1500)
    assert place.store.get(young.id) is None, "it is not done once only"


def test_an_upload_that_a_job_came_to_need_stays(place, tmp_path, monkeypatch) -> None:
    """Between the look for old uploads and the deletion of their files somebody may have sent a job."""
    (tmp_path / "made").write_text("x")
    for asset_id in ("wanted", "old"):
        about = {"owner": "someone", "filename": "talk.wav", "content_type": "audio/wav", "size_bytes": 1}
        place.store.add_asset(Asset(id=asset_id, state="uploading", **about))
        key = f"uploads/{asset_id}"
        place.storage.put(tmp_path / "made", key, content_type="audio/wav", progress=lambda *_: None)
    place.change("UPDATE asset SET created_at = 1")
    prunable = place.store.prunable

    def found(**about: Any) -> Any:
        pruned = prunable(**about)
        submit(place.store, source="wanted")
        return pruned

    monkeypatch.setattr(place.store, "prunable", found)
    place.spend(700)
    assert place.storage.stat("uploads/wanted") is not None
    assert place.store.asset("wanted").state == "uploading"
    assert place.storage.stat("uploads/old") is None
