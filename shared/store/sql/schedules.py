"""Jobs that are made again and again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.errors import NotFound
from shared.job import Job, NewJob
from shared.store.rows import to_schedule
from shared.store.sql.batches import Batches, Bound, Statement
from shared.store.sql.insertions import insertions
from shared.store.statements import reading, schedules
from shared.store.values import Schedule


class ScheduleVerbs(Batches):
    """Schedules, and the jobs that are made of them."""

    def schedules(self) -> Sequence[Schedule]:
        """Every schedule, by name."""
        return [to_schedule(row) for row in self._read([Statement(schedules.SCHEDULES)])[0]]

    def put_schedule(self, schedule: Schedule, *, paused: bool) -> Schedule:
        """Make a schedule, or change the one of that name."""
        params: Bound = {
            "name": schedule.name,
            "cron": schedule.cron,
            "type": schedule.type,
            "params": json.dumps(schedule.params),
            "caller": schedule.caller,
            "due_at": schedule.due_at,
            "paused": int(paused),
        }
        return to_schedule(self._run([Statement(schedules.PUT, params), Statement(schedules.SCHEDULE, params)])[1][0])

    def remove_schedule(self, name: str) -> None:
        """Make no more jobs of it."""
        if not self._run([Statement(schedules.REMOVE, {"name": name})])[0]:
            raise NotFound(f"There is no schedule {name}; `spool schedules list` shows them.")

    def run_schedule(self, schedule: Schedule, job: NewJob, *, next_due_at: int | None) -> Job | None:
        """Make its job, once for each of its times."""
        params: Bound = {"name": schedule.name, "due": schedule.due_at, "next": next_due_at, "id": job.id}
        take = Statement(schedules.RUN_NOW if next_due_at is None else schedules.TAKE, params)
        rows = self._run([take, *insertions([job]), Statement(reading.ROW, {"id": job.id})])[-1]
        return Job.from_row(rows[0]) if rows else None
