"""Where a job's sources come from when it runs: uploads, and files that other jobs have made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import JobFailure
from shared.job import NewJob, Outcome, Output, new_id
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker
from tests.contract.conftest import Counting
from worker.transfer import fetch_source, fetch_sources

WORKER = Worker(id="worker-b", host="here", version="0", types=("ingest",), slots=1)


@pytest.fixture
def store(run, tmp_path):
    """The queue that the attempt was claimed from."""
    store = LocalJobStore(tmp_path / "spool.db")
    yield store
    store.close()


@pytest.fixture
def made(run, store, tmp_path):
    """The id of a completed job with a file `flac`, which holds `sound`."""
    store.create([NewJob(id=new_id(), type="ingest", params={})])
    owned = store.claim(ClaimRequest(WORKER, new_id(), 90))
    (tmp_path / "made").write_bytes(b"sound")
    key = f"outputs/{owned.id}/1/flac"
    stored = run.storage.put(tmp_path / "made", key, content_type="audio/flac", progress=lambda *_: None)
    output = Output("flac", key, "audio/flac", stored.size_bytes, stored.sha256)
    store.finish(owned.claim, Outcome("completed", result={}, outputs=(output,)))
    return owned.id


def test_files_of_other_jobs_are_fetched_with_one_look(run, store, made, tmp_path):
    """Twelve sources or one: the store is asked once, and of an upload it is asked nothing."""
    run.storage.put(tmp_path / "made", "uploads/asset", content_type="audio/wav", progress=lambda *_: None)
    counting = Counting(run.children._store)
    paths = {f"job:{made}/flac": tmp_path / "a", "asset": tmp_path / "b"}
    found = fetch_sources(run, paths)
    assert counting.trips == 1
    assert {path.read_bytes() for path in paths.values()} == {b"sound"}
    assert len(set(found.values())) == 1
    fetch_source(run, "asset", tmp_path / "c")
    assert counting.trips == 1


def test_a_file_that_is_gone_fails_for_good_with_a_sentence(run, store, made, tmp_path):
    """The job that made it was deleted, its file alone was, or there never was such a file: no retry would help."""
    for source, says in (
        (f"job:{made}/mp3", "has no output 'mp3'; it has flac"),
        ("job:no-such-job/mp3", "there is no job no-such-job"),
        (f"job:{run.job.id}/mp3", "is running, and only a completed job has files"),
        ("child:a/mp3", "there is no child 'a'"),
        ("job:what", "names no file of a job"),
    ):
        with pytest.raises(JobFailure, match=says) as failed:
            fetch_source(run, source, tmp_path / "a")
        assert (failed.value.kind, failed.value.failure_code) == ("permanent", "bad_input.missing")
    run.storage.delete_prefix(f"outputs/{made}/")
    with pytest.raises(JobFailure, match="is no longer there") as failed:
        fetch_source(run, f"job:{made}/flac", tmp_path / "a")
    assert failed.value.kind == "permanent"


def test_a_job_that_was_lost_meanwhile_fetches_nothing(run, store, made, tmp_path):
    """The look is fenced like every request of an owner."""
    lost = replace(run.children._job, attempt=9)
    run.children._job = lost
    with pytest.raises(BaseException, match="lost"):
        fetch_source(run, f"job:{made}/flac", tmp_path / "a")
