"""Jobs by the state a test needs them in, made through the store's own verbs."""

from __future__ import annotations

from typing import Any

from shared.job import Claim, Failure, Job, NewJob, Outcome, Status, new_id
from shared.store.sql import SqlJobStore, Statement
from shared.store.values import ClaimRequest, Worker

WORKER = Worker(id="worker-a", host="here", version="0", types=("ingest",), slots=4)
OTHER = Worker(id="worker-b", host="there", version="0", types=("ingest",), slots=4)
DONE = Outcome("completed", result={"media_ms": 1000})
TRANSIENT = Outcome("failed", failure=Failure("out_of_disk", "transient", "The disk is full; free some.", "encoding"))
PERMANENT = Outcome("failed", failure=Failure("bad_input.empty", "permanent", "The file is empty.", "analyzing"))
CANCELLED = Outcome("cancelled")


def job(**fields: Any) -> NewJob:
    """A new ingest job."""
    return NewJob(**{"id": new_id(), "type": "ingest", "params": {"source": "asset"}} | fields)


def family(*phases: str, **parent: Any) -> list[NewJob]:
    """A parent without work of its own and one child per named phase, keyed a, b, c, …"""
    root = job(**{"type": "flow", "params": {}, "own_work": False} | parent)
    children = [
        job(parent_id=root.id, phase=phase, child_key=key) for key, phase in zip("abcdefgh", phases, strict=False)
    ]
    return [root, *children]


def create(store: SqlJobStore, *jobs: NewJob) -> Job:
    """The created job, as the queue knows it."""
    return store.create(jobs or (job(),))[0]


def claim(store: SqlJobStore, worker: Worker = WORKER, *, lease_s: float = 90, token: str | None = None) -> Job | None:
    """Claim the next job for a worker."""
    return store.claim(ClaimRequest(worker, token or new_id(), lease_s))


def running(store: SqlJobStore, worker: Worker = WORKER, **fields: Any) -> Job:
    """A job that a worker owns."""
    create(store, job(**fields))
    owned = claim(store, worker)
    assert owned is not None
    return owned


def expire(store: SqlJobStore, job_id: str) -> None:
    """Let the lease of a job run out, as if its time had passed."""
    store._run([Statement("UPDATE job SET lease_until = 1 WHERE id = :id", {"id": job_id})])


def due(store: SqlJobStore, job_id: str) -> None:
    """Let the time come at which a job may run."""
    store._run([Statement("UPDATE job SET run_at = 1 WHERE id = :id", {"id": job_id})])


def status(store: SqlJobStore, job_id: str) -> Status:
    """The state of a job."""
    found = store.get(job_id)
    assert found is not None
    return found.status


def in_state(store: SqlJobStore, wanted: Status) -> tuple[str, Claim | None]:
    """A job in the wanted state, and the last claim on it where there was one."""
    if wanted is Status.SCHEDULED:
        return create(store, job(run_at=2**50)).id, None
    if wanted is Status.WAITING:
        root = create(store, *family("pre", "core"))
        return store.children(root.id)[1].id, None
    if wanted is Status.PENDING:
        return create(store).id, None
    if wanted is Status.WAITING_CHILDREN:
        return create(store, *family("core")).id, None
    owned = running(store)
    if wanted is Status.COMPLETED:
        store.finish(owned.claim, DONE)
    elif wanted is Status.FAILED:
        store.finish(owned.claim, PERMANENT)
    elif wanted is Status.RETRYING:
        store.finish(owned.claim, TRANSIENT)
        store._run([Statement("UPDATE job SET run_at = :far WHERE id = :id", {"id": owned.id, "far": 2**50})])
    elif wanted is Status.DEAD_LETTER:
        store._run([Statement("UPDATE job SET max_failures = 1 WHERE id = :id", {"id": owned.id})])
        store.finish(owned.claim, TRANSIENT)
    elif wanted is Status.CANCELLED:
        store.cancel(owned.id)
        store.finish(owned.claim, CANCELLED)
    assert status(store, owned.id) is wanted
    return owned.id, owned.claim
