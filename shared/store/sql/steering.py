"""People change, stop and hold jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.errors import Conflict
from shared.job import Job, Status
from shared.store.rows import names_json
from shared.store.sql.batches import Batches, Bound, Statement
from shared.store.sql.reading import matching, no_job
from shared.store.statements import reading, steering
from shared.store.values import Cancelled, JobFilter, Steering


class SteeringVerbs(Batches):
    """Changes of jobs that have not started, cancels, and job types that rest or are limited."""

    def patch(
        self, job_id: str, *, priority: int | None = None, run_at: int | None = None, tags: Sequence[str] | None = None
    ) -> Job:
        """Change a job that has not started."""
        params = {
            "id": job_id,
            "priority": priority,
            "run_at": run_at,
            "tags": None if tags is None else json.dumps(list(tags)),
        }
        before, _, after = self._run(
            [
                Statement(reading.ROW, {"id": job_id}),
                Statement(steering.PATCH, params),
                Statement(reading.ROW, {"id": job_id}),
            ]
        )
        if not before:
            raise no_job(job_id)
        job = Job.from_row(after[0])
        if job.status not in {Status.SCHEDULED, Status.WAITING, Status.PENDING, Status.RETRYING}:
            raise Conflict(f"Job {job_id} is {job.status}; only a job that has not started can be changed.")
        if run_at is not None and job.status is not Status.SCHEDULED:
            raise Conflict(
                f"Job {job_id} waits for its phase to open; run_at can be set for a job that waits in the queue."
            )
        return job

    def cancel(self, job_id: str) -> Job:
        """Cancel, or ask the owner to; an ended job is returned as it is."""
        target = {"id": job_id}
        rows = self._run_families([Statement(steering.CANCEL, target)], [Statement(reading.ROW, target)])[-1]
        if not rows:
            raise no_job(job_id)
        return Job.from_row(rows[0])

    def cancel_matching(self, where: JobFilter, *, limit: int) -> Cancelled:
        """Cancel, or ask the owners of, at most `limit` unfinished jobs."""
        types = self.types if where.type is None else (where.type,)
        params = {**matching(where), "types": names_json(types), "limit": limit}
        rows = self._run_families([Statement(steering.CANCEL_MATCHING, params)])[0]
        ended = sum(row["status"] == Status.CANCELLED for row in rows)
        return Cancelled(ended, len(rows) - ended, more=len(rows) == limit)

    def steer(self, job_type: str, *, paused: bool | None, max_running: int | None, limiting: bool) -> Steering:
        """Pause, resume or limit a job type."""
        params: Bound = {
            "type": job_type,
            "paused": None if paused is None else int(paused),
            "max_running": max_running if limiting else None,
            "limiting": int(limiting),
        }
        rows = self._run([Statement(text, params) for text in (steering.STEER, steering.LET_GO, steering.STEERED)])[-1]
        return Steering(**rows[0]) if rows else Steering(job_type)
