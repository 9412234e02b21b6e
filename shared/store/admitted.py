"""The queue as one request uses it: the request's own batches carry its key, its rate limit and its waiting jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from shared.errors import Quota, RateLimited, Refused, TooManyWaiting
from shared.job import Job, NewJob
from shared.session import NewSession, Session
from shared.store.protocol import Watch
from shared.store.rows import Row, to_key
from shared.store.sql import Bound, SqlJobStore, Statement
from shared.store.statements import access
from shared.store.values import Admission

WINDOW_S = 60
_MICROS = 1_000_000
#: A queue that is full of one caller's jobs is not asked again sooner.
_FULL_S = 5
#: More jobs than any database holds: no limit.
_ANY = 2**53


class Admitted(SqlJobStore):
    """Another store, with `admission` riding on its batches. A write is charged once, however many batches it takes.

    The rate limit is a bucket that fills evenly: a caller may use the whole minute at once, then one more write for
    each sixtieth (at 60 a minute) that has passed.
    """

    def __init__(self, inner: SqlJobStore, admission: Admission) -> None:
        self._inner, self._admission, self.usage = inner, admission, inner.usage
        self.types = inner.types
        self._step = _step(admission.writes_per_minute)
        self._new_jobs = 0
        self._root: str | None = None

    def create(self, jobs: Sequence[NewJob]) -> tuple[Job, bool]:
        """Insert a job, or a family, when there is room for so many."""
        self._new_jobs, self._root = len(jobs) if self._admission.max_waiting else 0, jobs[0].id
        return super().create(jobs)

    def _create_again(self, families: Sequence[Sequence[NewJob]]) -> int:
        """Run families again when there is room for all of their jobs."""
        self._new_jobs = sum(map(len, families)) if self._admission.max_waiting else 0
        self._root = families[0][0].id
        return super()._create_again(families)

    def create_session(self, session: NewSession, turn: NewJob | None = None) -> tuple[Session, bool]:
        """Begin a session, when there is room for its first turn."""
        if turn is not None:
            self._new_jobs, self._root = int(self._admission.max_waiting > 0), turn.id
        return super().create_session(session, turn)

    def migrate(self) -> Sequence[str]:
        """As the store within."""
        return self._inner.migrate()

    def pending_migrations(self) -> Sequence[str]:
        """As the store within."""
        return self._inner.pending_migrations()

    def copy_to(self, path: Path) -> None:
        """As the store within."""
        self._inner.copy_to(path)

    def watch(self) -> Watch:
        """As the store within."""
        return self._inner.watch()

    def close(self) -> None:
        """Nothing: the store within outlives the request."""

    def _read(self, batch: Sequence[Statement]) -> list[list[Row]]:
        # Noting that the key was used writes, once a minute; then this batch takes the write lock, too.
        run = self._inner._run if self._admission.key_id else self._inner._read
        return self._carried(run, self._about_the_key(), batch)

    def _run(self, batch: Sequence[Statement]) -> list[list[Row]]:
        riders = self._about_the_key()
        if not (self._step or self._new_jobs):
            return self._carried(self._inner._run, riders, batch)
        admission = self._admission
        costs: Bound = {
            "caller": admission.caller,
            "step": self._step,
            "window": WINDOW_S * _MICROS,
            "jobs": self._new_jobs,
            "job": self._root,
            "most": admission.max_waiting or _ANY,
        }
        if self._new_jobs:
            riders = [*riders, Statement(access.RECOUNT, costs)]
        try:
            results = self._carried(self._inner._run, [*riders, Statement(access.CHARGE, costs)], batch)
        except Refused as error:
            raise self._over(error) from None
        self._step = self._new_jobs = 0
        return results

    def _carried(
        self,
        run: Callable[[Sequence[Statement]], list[list[Row]]],
        riders: Sequence[Statement],
        batch: Sequence[Statement],
    ) -> list[list[Row]]:
        results = run([*riders, *batch])
        for rider, rows in zip(riders, results, strict=False):
            if rider.text == access.KEYS:
                self._admission.keys = tuple(to_key(row) for row in rows)
            elif rider.text == access.KEY_USED:
                self._admission.key_noted = True
            elif rider.text == access.CHARGE and self._step:
                self._admission.quota = _quota(self._admission.writes_per_minute, rows[0])
        return results[len(riders) :]

    def _about_the_key(self) -> list[Statement]:
        admission = self._admission
        riders = [Statement(access.KEY_USED, {"id": admission.key_id})] if admission.key_id else []
        if admission.wants_keys:
            riders.append(Statement(access.KEYS))
        admission.key_id, admission.wants_keys = None, False
        return riders

    def _over(self, error: Refused) -> Exception:
        """Why nothing was done; when to come back is asked of the queue, since what it refuses it does not answer."""
        admission = self._admission
        if "over the limit: waiting" in error.message:
            return TooManyWaiting(
                f"{admission.max_waiting} jobs of one caller may wait (SPOOL_MAX_WAITING), and it would be more; "
                "send the rest when some of yours have started.",
                retry_after_s=_FULL_S,
            )
        if "over the limit: rate" not in error.message:
            return error
        rows = self._inner._read([Statement(access.BUDGET, {"caller": admission.caller})])[0]
        admission.quota = _quota(admission.writes_per_minute, rows[0])
        over = rows[0]["spent_until"] - rows[0]["now"] + self._step - WINDOW_S * _MICROS
        return RateLimited(
            f"You may write {admission.writes_per_minute} times a minute (SPOOL_RATE_LIMIT); wait as Retry-After says.",
            retry_after_s=max(1, math.ceil(over / _MICROS)),
            quota=admission.quota,
        )


def _step(writes_per_minute: int) -> int:
    """Microseconds of the minute that one write takes."""
    return WINDOW_S * _MICROS // writes_per_minute if writes_per_minute else 0


def _quota(limit: int, row: Row) -> Quota:
    full_in = max(0, row["spent_until"] - row["now"])
    left = max(0, (WINDOW_S * _MICROS - full_in) // _step(limit))
    return Quota(limit, left, full_in / _MICROS)
