"""The duties of maintenance on every database, as a worker does them."""

from __future__ import annotations

import dataclasses
import sqlite3
import uuid

import pytest

from shared.errors import Conflict, JobFailure
from shared.job import Output, Status, new_id
from shared.settings import load_settings
from shared.store.backup import backups
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.values import Asset
from tests.contract.factory import DONE, create, family, in_state, job, running
from worker.pipelines import PIPELINES
from worker.upkeep import Upkeep

LONG_AGO = "019a0000-0000-7000-8000-000000000001"


@pytest.fixture(params=("sqlite", "libsql"))
def store(request, databases):
    """A migrated, empty queue on a file and on a server."""
    with databases.open(request.param) as store:
        yield store


@pytest.fixture
def maintain(run, store):
    """Does one duty on the queue: `maintain("backup", keep=2)`; returns the result of the job."""

    def done(duty: str, **params):
        work = run.work / new_id()
        work.mkdir()
        upkeep = Upkeep(store, load_settings(_env_file=None))
        about = dataclasses.replace(run.job, id=new_id(), type="maintenance", params={"duty": duty} | params)
        attempt = dataclasses.replace(run, job=about, work=work, upkeep=upkeep)
        pipeline = PIPELINES["maintenance"]
        state = pipeline.begin(attempt)
        for stage in pipeline.stages:
            stage.work(attempt, state)
        return pipeline.result(state)[0]

    return done


def _put(run, *keys: str) -> None:
    path = run.work / "made"
    path.write_text("x")
    for key in keys:
        run.storage.put(path, key, content_type="text/plain", progress=lambda *_: None)


def test_a_backup_is_kept_proven_and_restored_and_old_ones_go(run, store, maintain):
    """With jobs in every state and one that runs; the newest are kept, and nobody reads them as a job's files."""
    for state in (Status.COMPLETED, Status.FAILED, Status.SCHEDULED):
        in_state(store, state)
    create(store, *family("pre", "core"))
    running(store)
    first = maintain("backup", keep=2)
    for _ in range(2):
        last = maintain("backup", keep=2)
    assert (first["rows"]["job"], first["deleted"], last["deleted"]) == (7, 0, 1)
    assert backups(run.storage)[-1] == last["key"]
    assert first["key"] not in backups(run.storage)
    checked = maintain("restore-check")
    assert (checked["key"], checked["rows"]) == (last["key"], last["rows"])


def test_a_backup_that_cannot_be_restored_is_a_failed_job(run, maintain):
    """So that whoever watches failures hears of it, the absence of any included."""
    with pytest.raises(JobFailure, match=r"no backup of the queue; make one: spool maintain backup\."):
        maintain("restore-check")
    _put(run, "backups/broken.db")
    with pytest.raises(JobFailure, match="is no backup of Spool"):
        maintain("restore-check")


DAMAGE = {
    "a child without its parent": ("DELETE FROM job WHERE type = 'flow'", "belongs to a job that is not there"),
    "a job that runs by itself": ("UPDATE job SET worker_id = NULL WHERE status = 'running'", "has no owner"),
    "a wrong count of running jobs": ("UPDATE steering SET running = 7", "counts 7 running jobs"),
    "a parent of nothing": (
        "UPDATE job SET core_left = core_left + 1 WHERE type = 'flow'",
        "waits for children that have ended",
    ),
    "a history that lies": (
        "UPDATE event SET message = 'completed' WHERE message = 'failed'",
        "does not end as it did",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_said(store, maintain, damage):
    """An untouched queue has none; a hand in its tables is seen, and the job fails with what it saw."""
    in_state(store, Status.FAILED)
    create(store, *family("core"))
    running(store)
    store.steer("ingest", paused=None, max_running=2, limiting=True)
    assert maintain("integrity") == {"duty": "integrity", "damage": 0}
    statement, said = DAMAGE[damage]
    store._run([Statement(statement)])
    with pytest.raises(JobFailure, match=said):
        maintain("integrity")


def test_what_is_past_its_time_goes_at_once(run, store, maintain):
    """All of it in one job, with its files."""
    for _ in range(3):
        old = in_state(store, Status.COMPLETED)[0]
        _put(run, f"outputs/{old}/1/mp3")
    store._run([Statement("UPDATE job SET created_at = 1, completed_at = 1")])
    young = in_state(store, Status.COMPLETED)[0]
    assert maintain("prune") == {"duty": "prune", "jobs": 3, "uploads": 0}
    assert list(run.storage.keys("outputs/")) == []
    assert store.get(young) is not None


def test_files_that_nobody_knows_are_found_and_only_then_deleted(run, store, maintain):
    """Of jobs and uploads that are gone, and of attempts that lost; not what is young, at work, or not ours."""
    kept = running(store)
    store._run([Statement("UPDATE job SET attempt = 2 WHERE id = :id", {"id": kept.id})])
    kept = dataclasses.replace(kept, attempt=2)
    output = Output("mp3", f"outputs/{kept.id}/2/mp3", "audio/mpeg", 1, "0")
    store.finish(kept.claim, dataclasses.replace(DONE, outputs=(output,)))
    _age(store, kept.id)
    at_work = running(store, id=str(uuid.UUID(int=uuid.UUID(LONG_AGO).int + 3)))
    asset = Asset(id=LONG_AGO, owner="a", filename="a", content_type="audio/wav", size_bytes=1, state="ready")
    store.add_asset(asset)
    gone = str(uuid.UUID(int=uuid.UUID(LONG_AGO).int + 1))
    known = [output.key, f"outputs/{at_work.id}/1/mp3", f"uploads/{LONG_AGO}", f"uploads/{new_id()}"]
    known.append(f"uploads/{LONG_AGO}.ledger")
    lost = [f"uploads/{gone}", f"uploads/{gone}.ledger", f"outputs/{gone}/1/mp3"]
    strange = ["outputs/of-another/1/mp3", "uploads/of-another"]
    _put(run, *known, *lost, *strange)
    assert maintain("orphans") == {"duty": "orphans", "found": 3, "deleted": 0}
    assert maintain("orphans", delete=True) == {"duty": "orphans", "found": 3, "deleted": 3}
    left = {*run.storage.keys("outputs/"), *run.storage.keys("uploads/")}
    assert left == {*known, *strange}


def test_an_attempt_that_lost_leaves_an_orphan(run, store, maintain):
    """Whole attempts go, and never the one that won."""
    job_id = str(uuid.UUID(int=uuid.UUID(LONG_AGO).int + 2))
    create(store, job(id=job_id))
    store.cancel(job_id)
    store._run([Statement("UPDATE job SET completed_at = 1")])
    _put(run, f"outputs/{job_id}/1/mp3", f"outputs/{job_id}/1/peaks.json")
    assert maintain("orphans", delete=True)["deleted"] == 1
    assert list(run.storage.keys("outputs/")) == []


def test_unused_pages_go_back_to_the_disk(store, maintain):
    """A file is as small as what is in it; a server keeps its own disk."""
    if not isinstance(store, LocalJobStore):
        assert maintain("vacuum") == {"duty": "vacuum", "pages_freed": None}
        return
    store.create([job(params={"x": "y" * 900_000})])
    store._run([Statement("DELETE FROM job")])
    assert maintain("vacuum")["pages_freed"] > 200
    with sqlite3.connect(store._path) as database:
        assert database.execute("PRAGMA freelist_count").fetchone() == (0,)
    database.close()


def test_a_file_that_cannot_shrink_says_what_to_do(tmp_path):
    """One that was made before it could."""
    database = sqlite3.connect(tmp_path / "old.db")
    database.execute("CREATE TABLE a (b)")
    database.close()
    old = LocalJobStore(tmp_path / "old.db")
    old.migrate()
    with pytest.raises(Conflict, match="copy it once with `spool backup`"):
        old.vacuum(0)
    old.close()


def _age(store, job_id: str) -> None:
    store._run([Statement("UPDATE job SET completed_at = 1 WHERE id = :id AND completed_at > 1", {"id": job_id})])
