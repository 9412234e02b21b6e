"""Between the values of the domain and the rows of the database."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from shared.job import PHASES, TERMINAL, Job, NewJob, Output, Progress, Status, new_id
from shared.keys import ApiKey
from shared.session import Message, Session, Turn
from shared.store.values import (
    Asset,
    AtWork,
    Beat,
    Made,
    Schedule,
    Sent,
    Sources,
    Tally,
    Upkeep,
    Webhook,
    Worker,
    WorkerSeen,
)

Row = Mapping[str, Any]
_PROGRESS = tuple(field.name for field in fields(Progress))
_ASSET = tuple(field.name for field in fields(Asset))
_SESSION_COLUMNS = ("id", "place", "program", "title", "caller", "created_at", "updated_at", "request_hash")


def new_row(job: NewJob, has_children: bool) -> dict[str, Any]:
    """A new job as the insert reads it; a parent of nothing is completed at birth."""
    status = job.status
    if status is None and not job.own_work and not has_children:
        status = Status.COMPLETED
    return {
        "id": job.id,
        "type": job.type,
        "name": job.name,
        "status": status,
        "priority": job.priority,
        "phase": job.phase,
        "phase_index": PHASES.index(job.phase) if job.phase else None,
        "parent_id": job.parent_id,
        "child_key": job.child_key,
        "retry_of": job.retry_of,
        "session_id": job.session_id,
        "params": json.dumps(job.params),
        "result": None if job.result is None else json.dumps(job.result),
        "outputs": json.dumps([asdict(output) for output in job.outputs]),
        "max_failures": job.max_failures,
        "timeout_s": job.timeout_s,
        "run_at": job.run_at,
        "caller": job.caller,
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash,
        "once": job.once,
        "schedule": job.schedule,
        "webhook_url": job.webhook_url,
        "tags": json.dumps(list(job.tags)),
        "on_child_failure": job.on_child_failure,
        "own_work": int(job.own_work),
        "weight": job.weight,
    }


def again(family: Sequence[Job]) -> list[NewJob]:
    """The same family under new ids; completed children below the root keep their results.

    What did not complete below such a child stays behind: the child completed all the same, and does not run again.
    """
    kept = {job.id for job in family if job.parent_id is not None and job.status is Status.COMPLETED}
    ids: dict[str, str] = {}
    for job in family:
        if job.parent_id is None or (job.parent_id in ids and (job.id in kept or job.parent_id not in kept)):
            ids[job.id] = new_id()
    return [
        NewJob(
            id=ids[job.id],
            type=job.type,
            name=job.name,
            params=job.params,
            own_work=job.own_work,
            priority=job.priority,
            max_failures=job.max_failures,
            timeout_s=job.timeout_s,
            parent_id=ids[job.parent_id] if job.parent_id else None,
            phase=job.phase,
            child_key=job.child_key,
            on_child_failure=job.on_child_failure,
            retry_of=job.id,
            session_id=job.session_id,
            tags=job.tags,
            webhook_url=job.webhook_url,
            caller=job.caller,
            status=Status.COMPLETED if job.id in kept else None,
            result=job.result if job.id in kept else None,
            outputs=job.outputs if job.id in kept else (),
            weight=job.weight,
        )
        for job in family
        if job.id in ids
    ]


def beat_json(beat: Beat) -> dict[str, Any]:
    """A beat as the heartbeat reads it."""
    return {
        "id": beat.claim.job_id,
        "attempt": beat.claim.attempt,
        **progress_row(beat.progress),
        "lines": [asdict(line) for line in beat.lines],
        "last_line": max((line.n for line in beat.lines), default=0),
    }


def progress_row(progress: Progress) -> dict[str, Any]:
    """Where an attempt stands, by column."""
    return {name: getattr(progress, name) for name in _PROGRESS}  # asdict copies deeply, and costs ten times as much


def to_tally(row: Row) -> Tally:
    """A row of the tally with its histograms decoded."""
    values = dict(row) | {"status": Status(row["status"])}
    for name in ("wait_log2", "run_log2"):
        values[name] = {int(bucket[1:]): jobs for bucket, jobs in json.loads(row[name]).items()}
    return Tally(**values)


def to_worker_seen(row: Row) -> WorkerSeen:
    """A row of the worker table."""
    worker = Worker(row["id"], row["host"], row["version"], tuple(json.loads(row["types"])), row["slots"])
    jobs = tuple(AtWork(**one) for one in json.loads(row["jobs"]))
    return WorkerSeen(worker, row["started_at"], row["seen_at"], row["running"], json.loads(row["metrics"]), jobs)


def to_asset(row: Row) -> Asset:
    """A row of the asset table."""
    return Asset(**{name: row[name] for name in _ASSET})


def to_sources(jobs: Sequence[Row], children: Sequence[Row], assets: Sequence[Row] = ()) -> Sources:
    """What there is of what jobs read."""
    return Sources(
        {row["id"]: to_asset(row) for row in assets},
        {row["id"]: _to_made(row) for row in jobs},
        {row["child_key"]: _to_made(row) for row in children},
    )


def _to_made(row: Row) -> Made:
    outputs = tuple(Output(**item) for item in json.loads(row["outputs"]))
    return Made(**{**row, "status": Status(row["status"]), "outputs": outputs})


def to_key(row: Row) -> ApiKey:
    """A row of the key table."""
    return ApiKey(**{**row, "scopes": tuple(json.loads(row["scopes"]))})


def to_webhook(row: Row) -> Webhook:
    """A notification that is due."""
    job = None if row["job"] is None else json.loads(row["job"])
    return Webhook(row["job_id"], row["url"], row["attempts"], bool(row["gone"]), job)


def to_session(row: Row) -> Session:
    """A session with its newest turn."""
    turn = None
    if row["job_id"] is not None:
        error = None if row["job_error"] is None else json.loads(row["job_error"])
        status = Status(row["job_status"])
        cancelling = bool(row["cancelling"]) and status not in TERMINAL
        turn = Turn(
            job_id=row["job_id"],
            status=status,
            cancelling=cancelling,
            error=error,
            needs_input=bool(row["needs_input"]),
            updated_at=row["job_updated_at"],
            parts=row["parts"],
            parts_done=row["parts_done"],
            parts_failed=row["parts_failed"],
        )
    return Session(
        **{name: row[name] for name in _SESSION_COLUMNS},
        params=json.loads(row["params"]),
        turn=turn,
        preview=tuple(Message(role="assistant", **item) for item in reversed(json.loads(row["preview"]))),
    )


def to_message(row: Row) -> Message:
    """Something said in a session."""
    about = json.loads(row["data"])
    assets = tuple(about.get("assets", ()))
    return Message(row["id"], row["job_id"], about["role"], row["text"], row["at"], assets, row["parts"])


def sent_json(sent: Sent) -> dict[str, Any]:
    """What came of a try, as the statements read it."""
    return {
        "job_id": sent.webhook.job_id,
        "attempts": sent.webhook.attempts,
        "level": sent.level,
        "message": sent.message,
        "data": sent.data,
        "after_ms": None if sent.after_s is None else int(sent.after_s * 1000),
        "gone": int(sent.gone),
    }


def to_schedule(row: Row) -> Schedule:
    """A row of the schedule table, with the time at which it was read."""
    return Schedule(**{**row, "params": json.loads(row["params"])})


def to_upkeep(row: Row) -> Upkeep:
    """A row of the table of upkeep, with the time at which it was read."""
    return Upkeep(**{**row, "result": json.loads(row["result"])})


def names_json(types: Collection[str]) -> str:
    """Names as one JSON array."""
    return json.dumps(list(types))
