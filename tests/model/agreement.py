"""The same words for what the queue and the oracle say, so that they can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.errors import SpoolError
from shared.job import (
    PHASES,
    Job,
    Status,
)
from tests.model.known import Known
from tests.model.laws import Row
from tests.model.oracle import Oracle


def answer(verb: Callable[[], Any]) -> Any:
    """What a verb answers: the state of a job or of several, or the class of the error that it raises."""
    try:
        return brief(verb())
    except SpoolError as error:
        return type(error)


def brief(said: Any) -> Any:
    """The state of a job or of several; anything else as it is."""
    if isinstance(said, list):
        return [brief(item) for item in said]
    return (said.id, said.status) if isinstance(said, Job | Known) else said


def row_of(job: Known, oracle: Oracle) -> dict[str, Any]:
    """What the database should say about a job."""
    children = oracle.children(job)
    return {
        "status": job.status,
        "type": job.new.type,
        "priority": job.priority,
        "tags": job.tags,
        "depth": job.depth,
        "retry_of": job.new.retry_of,
        "attempt": job.attempt,
        "failures": job.failures,
        "worker_id": job.worker,
        "claim_token": job.token,
        "asked": job.asked,
        "error": job.error if job.status is not Status.WAITING_CHILDREN else None,
        "result": job.result,
        "outputs": job.outputs,
        "stage": job.stage,
        "progress": job.percent,
        "last_line": job.last_line if job.status is Status.RUNNING else None,
        "ended": job.ended,
        "children": len(children),
        "done": sum(child.status is Status.COMPLETED for child in children),
        "left": [oracle.left(job, phase) for phase in range(len(PHASES))],
    }


def found_in(row: Row) -> dict[str, Any]:
    """The same, as the database says it. A family's error names a child's end, which the oracle leaves open,
    and the error of a job that still waits for its children is not its last word."""
    job = Job.from_row(row)
    code = job.error["code"] if job.error and job.status is not Status.WAITING_CHILDREN else None
    return {name: getattr(job, name) for name in ("status", "type", "priority", "tags", "depth", "retry_of")} | {
        "attempt": job.attempt,
        "failures": job.failures,
        "worker_id": job.worker_id,
        "claim_token": job.claim_token,
        "asked": job.cancel_requested_at is not None,
        "error": "child" if code and code.startswith("child_") else code,
        "result": job.result,
        "outputs": job.outputs,
        "stage": job.stage,
        "progress": job.progress,
        "last_line": job.last_line if job.status is Status.RUNNING else None,
        "ended": job.completed_at is not None,
        "children": job.children_total,
        "done": job.children_done,
        "left": [job.pre_left, job.core_left, job.post_left],
    }
