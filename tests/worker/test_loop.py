"""A worker takes jobs through their lives on the real queue, and every way out leaves the job where it belongs."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.errors import Unavailable
from shared.job import Claim, Job, Status, new_id
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker
from tests.real.queue import new_queue
from tests.worker.stand import PATIENCE_S, Program, Stand, settings_for, submit, until

OTHER = Worker(id="other", host="there", version="0", types=("ingest",), slots=1)


@pytest.fixture
def store(tmp_path) -> Iterator[LocalJobStore]:
    """A migrated, empty queue."""
    store = new_queue(tmp_path / "spool.db")
    yield store
    store.close()


@pytest.fixture
def stand(store, tmp_path) -> Iterator[Callable[..., Stand]]:
    """Starts workers on the queue and ends them after the test."""
    stands: list[Stand] = []

    def start(on: LocalJobStore = store, *, stall_s: float = 600.0, **changed: Any) -> Stand:
        stands.append(Stand(on, settings_for(tmp_path, **changed), stall_s=stall_s))
        stands[-1].start()
        return stands[-1]

    yield start
    for one in stands:
        one.drop()


def ended(job: Job) -> bool:
    """Whether the job is over."""
    return job.terminal


def messages(store: LocalJobStore, job: Job, kind: str) -> list[str]:
    """The job's history lines of one kind."""
    return [event.message for event in store.events(job.id) if event.kind == kind]


def lease_left_ms(store: LocalJobStore, job: Job) -> int:
    """Milliseconds until the job's lease ends, by the database's clock."""
    found = store.get(job.id)
    assert found is not None
    assert found.lease_until is not None
    return found.lease_until - store.check()


def test_a_job_runs_through_its_stages(store, stand, tmp_path) -> None:
    """Claim, stages in order, result, history, and a private folder that is gone afterwards."""
    job = submit(store, code="open('made', 'w').write('x')")
    worker = stand()
    done = until(store, job, ended)
    assert done.status is Status.COMPLETED
    assert done.result == {"unwritable": False, "mode": 0o700, "returncode": 0}
    assert (done.progress, done.attempt, done.failures) == (100.0, 1, 0)
    assert messages(store, job, "state") == ["pending", "running", "completed"]
    assert messages(store, job, "stage") == ["preparing", "executing"]
    assert messages(store, job, "log") == ["half of it"]
    worker.drop()
    assert list((tmp_path / "work").iterdir()) == []


def test_jobs_run_once_each_and_in_order(store, stand) -> None:
    """Two workers with two slots each: every job has one attempt, and they start first in, first out."""
    jobs = [submit(store) for _ in range(60)]
    stand(slots=2)
    stand(slots=2)
    for job in jobs:
        assert until(store, job, ended).status is Status.COMPLETED
    starts = [event.job_id for event in store.events(None, limit=10_000) if event.message == "running"]
    assert starts == [job.id for job in jobs]


def test_a_finish_brings_the_next_job(store, stand, monkeypatch) -> None:
    """A queue of jobs costs one claim and then one finish each."""
    claims, finishes = [], []
    claim, finish = store.claim, store.finish
    monkeypatch.setattr(store, "claim", lambda request: claims.append(job := claim(request)) or job)
    monkeypatch.setattr(store, "finish", lambda *a, **k: finishes.append(done := finish(*a, **k)) or done)
    jobs = [submit(store) for _ in range(5)]
    stand()
    until(store, jobs[-1], ended)
    assert [job.id for job in claims if job] == [jobs[0].id]
    assert [done.next.id for done in finishes if done.next] == [job.id for job in jobs[1:]]


def test_a_new_job_wakes_an_idle_worker(store, stand) -> None:
    """A worker that has nothing to do starts a job that comes later."""
    worker = stand()
    first = submit(store)
    until(store, first, ended)
    second = submit(store)
    assert until(store, second, ended).worker_id == worker.worker.identity.id


def test_parents_are_never_offered(store, stand) -> None:
    """A type without stages is not among the worker's types, even when a pipeline carries its name."""
    worker = stand()
    assert worker.worker.identity.types == ("ingest",)
    until(store, submit(store), lambda _job: bool(store.stats().workers))  # a job may end before the first heartbeat
    assert [seen.worker.types for seen in store.stats().workers] == [("ingest",)]


@pytest.mark.parametrize("deaf", [False, True], ids=["polite", "deaf"])
def test_a_cancel_is_written_after_the_proof(store, stand, tmp_path, deaf) -> None:
    """When a job is cancelled its program is dead already, deaf to SIGTERM or not."""
    program = Program(tmp_path, "signal.signal(15, signal.SIG_IGN); " * deaf + "time.sleep(600)")
    job = submit(store, code=program.code)
    stand()
    program.await_start()
    assert store.cancel(job.id).cancelling
    done = until(store, job, ended)
    assert program.dead()
    assert done.status is Status.CANCELLED
    assert done.error is not None
    assert (done.error["kind"], done.failures) == ("cancelled", 0)


def test_a_cancel_is_noticed_without_a_watch(store, stand, tmp_path, monkeypatch) -> None:
    """Where the database cannot tell of changes, the control read finds the cancel."""
    watch = type(store.watch())
    never = threading.Event()
    monkeypatch.setattr(watch, "wait", lambda self, timeout_s: never.wait(timeout_s))
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    stand(heartbeat_s=60.0, lease_s=600.0)
    program.await_start()
    store.cancel(job.id)
    assert program.dead(PATIENCE_S)
    monkeypatch.undo()
    assert until(store, job, ended).status is Status.CANCELLED


def test_a_job_over_its_time_is_stopped(store, stand, tmp_path) -> None:
    """The job's own limit ends its program; that is a failure of kind timeout, which is tried again."""
    program = Program(tmp_path)
    job = submit(store, code=program.code, timeout_s=1.0, max_failures=1)
    stand()
    program.await_start()
    done = until(store, job, ended)
    assert program.dead()
    assert done.status is Status.DEAD_LETTER
    assert done.error is not None
    assert (done.error["code"], done.error["kind"], done.error["stage"]) == ("timeout", "timeout", "executing")


def test_a_job_that_stands_still_is_stopped(store, stand, tmp_path) -> None:
    """Neither progress nor CPU time: stalled."""
    program = Program(tmp_path)
    job = submit(store, code=program.code, max_failures=1)
    stand(stall_s=1.0)
    program.await_start()
    done = until(store, job, ended)
    assert program.dead()
    assert done.error is not None
    assert (done.error["code"], done.error["kind"]) == ("stalled", "transient")


def test_a_busy_job_does_not_stand_still(store, stand, tmp_path) -> None:
    """CPU time counts as movement, although nothing is reported."""
    job = submit(store, code="import time\nwhile time.process_time() < 2: pass", max_failures=1)
    stand(stall_s=1.0)
    assert until(store, job, ended).status is Status.COMPLETED


@pytest.mark.parametrize(
    ("error", "code", "kind", "status"),
    [
        ("bad input", "bad_input.empty", "permanent", Status.FAILED),
        ("transient", "network.dns", "transient", Status.DEAD_LETTER),
        ("disk full", "out_of_disk", "transient", Status.DEAD_LETTER),
        ("memory", "out_of_memory", "transient", Status.DEAD_LETTER),
        ("storage", "unavailable", "transient", Status.DEAD_LETTER),
        ("bug", "internal", "transient", Status.DEAD_LETTER),
        ("exit", "internal", "transient", Status.DEAD_LETTER),
    ],
)
def test_every_error_is_explained(store, stand, *, error, code, kind, status) -> None:
    """Whatever a stage raises becomes a code, a kind, a stage and a sentence, and the slot lives on."""
    job, after = submit(store, error=error, max_failures=1), submit(store)
    stand()
    done = until(store, job, ended)
    assert done.status is status
    assert done.error is not None
    assert (done.error["code"], done.error["kind"], done.error["stage"]) == (code, kind, "preparing")
    assert done.error["message"].endswith(".")
    assert until(store, after, ended).status is Status.COMPLETED


def test_a_transient_failure_is_tried_again(store, stand) -> None:
    """The first transient failure leads to a second attempt, the second to the dead letters."""
    job = submit(store, error="transient")
    stand()
    done = until(store, job, ended)
    assert (done.status, done.attempt, done.failures) == (Status.DEAD_LETTER, 2, 2)


def test_a_result_that_is_no_json_still_ends_the_job(store, stand) -> None:
    """A pipeline's mistake in its result is a failure of the job and not of the worker."""
    job, after = submit(store, unwritable=True), submit(store)
    stand()
    done = until(store, job, ended)
    assert done.status is Status.FAILED
    assert done.error is not None
    assert done.error["code"] == "internal"
    assert until(store, after, ended).status is Status.COMPLETED


def test_a_folder_that_cannot_be_made_is_a_failure_of_the_job(store, stand, tmp_path) -> None:
    """When an attempt cannot make its folder the job fails, with the worker alive."""
    worker = stand()
    until(store, submit(store), ended)
    job_id = new_id()
    (tmp_path / "work" / worker.worker.identity.id / job_id).write_text("in the way")
    done = until(store, submit(store, id=job_id, max_failures=1), ended)
    assert done.error is not None
    assert done.error["code"] == "internal"


def test_a_worker_without_a_disk_takes_no_jobs(store, stand, tmp_path) -> None:
    """While the work folder cannot be used jobs wait, unharmed; when it can they run."""
    worker = stand()
    until(store, submit(store), ended)
    place = tmp_path / "work" / worker.worker.identity.id
    with capture_logs() as said:
        place.rename(tmp_path / "aside")  # the first job's own folder may still be in it
        place.write_text("in the way")
        give_up = time.monotonic() + PATIENCE_S
        while not any("cannot be used" in entry["event"] for entry in said):
            assert time.monotonic() < give_up, "the worker did not notice"
            time.sleep(0.01)
    waiting = [submit(store) for _ in range(3)]
    assert worker.worker._claim() is None
    place.unlink()
    (tmp_path / "aside").rename(place)
    done = [until(store, job, ended) for job in waiting]
    assert [(job.status, job.attempt, job.failures) for job in done] == [(Status.COMPLETED, 1, 0)] * 3


@pytest.mark.parametrize(
    "then",
    [
        "[open(f'big-{n}', 'wb').write(bytes(1 << 20)) for n in range(20)]",
        "[open(f'empty-{n}', 'wb').close() for n in range(400)]",
        "os.mkdir('in'); [open(f'in/{n}', 'wb').write(bytes(1 << 20)) for n in range(20)]; os.chmod('in', 0)",
    ],
    ids=["large files", "many files", "a locked folder"],
)
def test_a_job_that_fills_its_folder_is_stopped(store, stand, tmp_path, then) -> None:
    """Whatever its program fills the work folder with: it is killed, the folder goes, and the next job runs."""
    program = Program(tmp_path, f"signal.signal(15, signal.SIG_IGN)\n{then}\ntime.sleep(120)")
    job, after = submit(store, code=program.code), submit(store)
    worker = stand(work_quota_gb=0.01)
    program.await_start()
    done = until(store, job, ended)
    assert program.dead()
    assert done.error is not None
    assert (done.error["code"], done.error["kind"]) == ("bad_input.too_large", "permanent")
    assert "0.01 GB" in done.error["message"]
    assert until(store, after, ended).status is Status.COMPLETED
    worker.drop()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_lost_claim_ends_the_work_and_writes_nothing(store, stand, tmp_path) -> None:
    """When another worker has the job, this one kills its program and leaves the job alone."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    stand(lease_s=600.0)  # long: it must hear of the loss, not wait for the end of its lease
    program.await_start()
    with sqlite3.connect(tmp_path / "spool.db") as database:
        database.execute("UPDATE job SET attempt = attempt + 1, worker_id = 'other' WHERE id = ?", [job.id])
    database.close()
    assert program.dead(PATIENCE_S)
    until(store, submit(store), ended)
    found = store.get(job.id)
    assert found is not None
    assert (found.status, found.worker_id, found.attempt, found.failures) == (Status.RUNNING, "other", 2, 0)
    assert messages(store, job, "state") == ["pending", "running"]


def test_an_outage_costs_no_failure(store, stand, tmp_path) -> None:
    """Cut off from the queue, a worker stops its program before the lease ends and gives the job back afterwards."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    stand(lease_s=5.0)
    program.await_start()
    database = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    assert program.dead(PATIENCE_S)
    assert lease_left_ms(store, job) > 0
    watch = store.watch()
    while lease_left_ms(store, job) > 0:
        watch.wait(0.05)
    watch.close()
    database.execute("ROLLBACK")
    database.close()
    again = until(store, job, lambda found: found.attempt == 2)
    assert again.failures == 0
    assert program.await_start()


def test_a_lost_reply_to_a_finish_does_no_harm(store, stand, monkeypatch) -> None:
    """A finish whose reply was lost is sent again: the job ends once, and the job claimed with it is not forgotten."""
    finish, lost = store.finish, []

    def lose_the_first_reply(*arguments: Any, **named: Any) -> Any:
        finished = finish(*arguments, **named)
        if not lost:
            lost.append(finished)
            raise Unavailable("The reply was lost.")
        return finished

    monkeypatch.setattr(store, "finish", lose_the_first_reply)
    first, second = submit(store), submit(store)
    stand()
    assert until(store, second, ended).attempt == 1
    assert messages(store, first, "state") == ["pending", "running", "completed"]
    assert len(lost) == 1


def test_a_lost_reply_to_a_claim_does_no_harm(store, stand, monkeypatch) -> None:
    """A claim whose reply was lost is sent again with its token and finds its job."""
    claim, lost = store.claim, []

    def lose_the_first_reply(request: ClaimRequest) -> Job | None:
        job = claim(request)
        if job is not None and not lost:
            lost.append(job)
            raise Unavailable("The reply was lost.")
        return job

    monkeypatch.setattr(store, "claim", lose_the_first_reply)
    job = submit(store)
    stand()
    assert until(store, job, ended).attempt == 1


def test_a_claim_that_was_never_answered_goes_back_at_no_cost(store, stand, monkeypatch) -> None:
    """The worker stops asking, says so with its next heartbeat, and may claim the job anew."""
    claim, lost = store.claim, []

    def lose_each_reply(request: ClaimRequest) -> Job | None:
        job = claim(request)
        if job is not None and lost in ([], [request.token]):
            lost[:] = [request.token]
            raise Unavailable("The reply was lost.")
        return job

    monkeypatch.setattr(store, "claim", lose_each_reply)
    job = submit(store)
    stand(lease_s=6.0, heartbeat_s=0.5)
    done = until(store, job, ended)
    assert (done.status, done.attempt, done.failures) == (Status.COMPLETED, 2, 0)


def test_what_came_with_a_refused_finish_goes_back_at_no_cost(store, stand, monkeypatch) -> None:
    """A worker that lost its job claims the next one with the finish that is refused: that one is not forgotten."""
    finish = store.finish

    def refuse_the_first(owned: Claim, *arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(store, "finish", finish)
        return finish(replace(owned, attempt=owned.attempt + 1), *arguments, **named)

    monkeypatch.setattr(store, "finish", refuse_the_first)
    submit(store)
    second = submit(store)
    stand(heartbeat_s=0.5)
    done = until(store, second, ended)
    assert (done.status, done.attempt, done.failures) == (Status.COMPLETED, 2, 0)


def test_a_drain_lets_the_running_job_finish(store, stand, tmp_path) -> None:
    """Asked to end, a worker finishes what it runs, takes nothing new, and exits with 0."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = Program(tmp_path, f"open({str(gate)!r}).read()")
    running, waiting = submit(store, code=program.code), submit(store)
    worker = stand()
    program.await_start()
    worker.worker.drain()
    gate.write_text("go on")
    assert worker.end() == 0
    assert until(store, running, ended).status is Status.COMPLETED
    assert until(store, waiting, Status.PENDING).attempt == 0


def test_a_second_request_releases_at_once(store, stand, tmp_path) -> None:
    """Asked twice, a worker stops its program and gives the job back at no cost."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    worker = stand()
    program.await_start()
    worker.worker.drain()
    worker.worker.drain()
    assert worker.end() == 0
    assert program.dead()
    found = until(store, job, Status.PENDING)
    assert (found.attempt, found.failures) == (1, 0)


def test_the_end_of_the_drain_releases(store, stand, tmp_path) -> None:
    """A job that takes longer than the drain goes back to the queue."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    worker = stand(drain_s=0.2)
    program.await_start()
    worker.worker.drain()
    assert worker.end() == 0
    assert program.dead()
    assert until(store, job, Status.PENDING).failures == 0


def test_a_lost_workers_job_is_taken_over(store, stand) -> None:
    """A job whose worker fell silent is reaped, counted as one failure, and run again."""
    job = submit(store)
    assert store.claim(ClaimRequest(OTHER, new_id(), 0.05)) is not None
    stand(lease_s=3.0)
    done = until(store, job, ended)
    assert (done.status, done.attempt, done.failures) == (Status.COMPLETED, 2, 1)
