"""What clients read of jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from shared.errors import NotFound
from shared.job import LEVELS, PHASES, Event, Job, Level, Status
from shared.store.rows import Row, names_json, to_tally, to_worker_seen
from shared.store.sql.batches import NEWEST, Batches, Statement
from shared.store.statements import overview, reading, steering
from shared.store.values import JobFilter, JobPage, Stats, Steering

#: Unfinished jobs that are neither in the queue nor running have an index of their own.
_HELD = {Status.SCHEDULED, Status.RETRYING, Status.WAITING, Status.WAITING_CHILDREN}


class ReadingVerbs(Batches):
    """Jobs, lists of them, their history, and the queue at a glance."""

    def get(self, job_id: str) -> Job | None:
        """A job with its place in the queue and, while it waits, its estimated time to the end."""
        rows = self._read([Statement(reading.GET, {"id": job_id, "types": names_json(self.types)})])[0]
        if not rows:
            return None
        row = rows[0]
        job = _seen(row)
        if job.ahead is None or row["queue_run_ms"] is None or not row["queue_slots"] or job.ahead > 100:
            return job
        rounds = job.ahead // row["queue_slots"] + 1
        return replace(job, eta_s=round(rounds * row["queue_run_ms"] / 1000, 1))

    def list(self, where: JobFilter, *, limit: int, before_seq: int | None = None) -> JobPage:
        """Jobs newest first. Examines at most 2,000 rows."""
        top = where.parent_id == "none"
        window = _window(where, top)
        params = {
            "before": NEWEST if before_seq is None else before_seq,
            **matching(where),
            "limit": limit + 1,
        }
        filtered = where != JobFilter()
        page, head, *end = self._read(
            [
                Statement(reading.LIST[window], params),
                Statement(reading.HEAD, {"types": names_json(self.types)}),
                *([Statement(reading.LIST_END[window], params)] if filtered else []),
            ]
        )
        jobs = _placed(page, head)
        if len(jobs) > limit:
            return JobPage(jobs[:limit], jobs[limit - 1].seq)
        return JobPage(jobs, end[0][0]["seq"] if filtered and end[0] else None)

    def children(self, job_id: str) -> Sequence[Job]:
        """The children of a job by phase, then in order of creation."""
        family, head = self._read(
            [Statement(reading.CHILDREN, {"id": job_id}), Statement(reading.HEAD, {"types": names_json(self.types)})]
        )
        jobs = _placed(family, head)
        return sorted(jobs, key=lambda job: (PHASES.index(job.phase or "core"), job.seq))

    def events(
        self, job_id: str | None, *, after: int = 0, limit: int = 500, level: Level = "debug"
    ) -> Sequence[Event]:
        """History with id > after, oldest first, of one job or of all."""
        levels = json.dumps(LEVELS[LEVELS.index(level) :])
        params = {"id": job_id, "after": after, "limit": limit, "levels": levels}
        rows = self._read([Statement(reading.EVENTS if job_id is None else reading.EVENTS_OF_JOB, params)])[0]
        return [Event(**{**row, "data": None if row["data"] is None else json.loads(row["data"])}) for row in rows]

    def last_event_id(self) -> int:
        """The id of the newest event, 0 when there is none."""
        return int(self._read([Statement(reading.LAST_EVENT)])[0][0]["id"])

    def running(self) -> Sequence[Job]:
        """Every running job, and the parents that wait for one."""
        jobs, parents = self._read([Statement(reading.RUNNING), Statement(reading.RUNNING_PARENTS)])
        return [_seen(row) for row in (*jobs, *parents)]

    def stats(self, *, hours: int = 24, count_to: int = 2000) -> Stats:
        """Counts, ages and the tally of the last hours; of jobs that wait, at most `count_to` are read."""
        counts, oldest, tallies, workers, steered = self._read(
            [
                Statement(overview.UNFINISHED, {"most": count_to}),
                Statement(overview.OLDEST_PENDING, {"types": names_json(self.types)}),
                Statement(overview.TALLIES, {"hours": hours}),
                Statement(overview.WORKERS),
                Statement(steering.STEERED, {"type": None}),
            ]
        )
        return Stats(
            at=oldest[0]["now"],
            unfinished={(row["type"], Status(row["status"])): row["jobs"] for row in counts},
            oldest_pending_at=oldest[0]["at"],
            tallies=tuple(to_tally(row) for row in tallies),
            workers=tuple(to_worker_seen(row) for row in workers),
            steering=tuple(Steering(**row) for row in steered),
        )


def matching(where: JobFilter) -> dict[str, str | int | float | None]:
    """The parameters of a statement that asks which jobs match."""
    top = where.parent_id == "none"
    return {
        "parent_id": None if top else where.parent_id,
        "top": int(top),
        "status": where.status,
        "type": where.type,
        "tag": where.tag,
        "text": where.text,
        "since": where.since,
        "error": where.error,
    }


def no_job(job_id: str) -> NotFound:
    """What is raised for an id that no job has."""
    return NotFound(f"There is no job {job_id}; it may have been deleted after its retention time.")


def _window(where: JobFilter, top: bool) -> str | None:
    if where.parent_id is not None and not top:
        return "parent"
    if where.status is Status.RUNNING:
        return "running"
    if where.status in {Status.FAILED, Status.DEAD_LETTER}:
        return "bad"
    return "held" if where.status in _HELD else None


def _placed(page: Sequence[Row], head: Sequence[Row]) -> tuple[Job, ...]:
    """Jobs with their place in the queue, counted to a hundred."""
    queue = sorted(tuple(one) for row in head for one in json.loads(row["first"]))[:101]
    places = {seq: place for place, (_, seq) in enumerate(queue)}
    # Told with the row: a job that is copied to change one field costs more than to make it.
    waiting = Status.PENDING.value
    return tuple(
        _seen({**row, "ahead": places.get(row["seq"], 101)} if row["status"] == waiting else row) for row in page
    )


def _seen(row: Row) -> Job:
    """A job as a client sees it: a parent's percentage is its children's."""
    percent = row.get("family_percent")
    return Job.from_row(row if percent is None else {**row, "progress": percent})
