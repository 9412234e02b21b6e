"""What every worker does for all: takes jobs from the dead, moves what is due, deletes what nobody needs."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from shared.schedules import job_of, next_after
from worker.upkeep import prune_batch

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.storage.protocol import StorageAdapter
    from shared.store.protocol import JobStore
    from worker.errands import Errand

_log = structlog.get_logger("spool.worker")
_DAY_S = 86_400.0
_PRUNE_EVERY_S, _PRUNE_ON_AFTER_S = 600.0, 20.0
_SCHEDULES_EVERY_S = 20.0
#: Longer than an owner may wait for an answer that is lost (8 s) before it asks again.
_QUIET_S = 12.0


@dataclass(slots=True)
class Duty:
    """Something to do about every `every_s`; `due_at` is on the worker's clock."""

    work: Callable[[], None]
    every_s: float
    due_at: float


class Janitor:
    """The duties of one worker, one per turn, each of guarded statements, at times that differ between workers.

    They are done in the thread that keeps the claims alive, so whatever asks the storage goes to `errand`, which has it
    done elsewhere, or refuses.
    """

    def __init__(
        self,
        store: JobStore,
        storage: StorageAdapter,
        settings: Settings,
        clock: Callable[[], float],
        chance: random.Random,
        *,
        errand: Callable[[Errand], bool],
        reaped: Callable[[int], None] = lambda _jobs: None,
        host_clock: Callable[[], float] = time.time,
    ) -> None:
        self._errand, self._reaped = errand, reaped
        self._pruning = False
        self._store, self._storage, self._settings = store, storage, settings
        self._clock, self._chance, self._host_clock = clock, chance, host_clock
        self._quiet_until = 0.0
        self._quiet_s = max(2 * settings.heartbeat_s, min(_QUIET_S, settings.lease_s / 3))
        now = clock()
        often = settings.lease_s / 6
        self._reached_at = -math.inf
        #: How far the database's clock is ahead of ours, at least and at most; None before it was asked.
        self._ahead_s: tuple[float, float] | None = None
        self._prune_duty = Duty(self._begin_pruning, _PRUNE_EVERY_S, now + chance.uniform(0.05, 0.7) * settings.lease_s)
        self._schedule_duty = Duty(self._run_schedule, min(often, _SCHEDULES_EVERY_S), now + chance.uniform(0, often))
        self._duties = (
            Duty(self._tend_and_reap, often, now + chance.uniform(0, often)),
            self._prune_duty,
            self._schedule_duty,
        )

    def turn(self) -> None:
        """Do the duty that has been due for longest. Call it only while the worker's own heartbeats succeed."""
        now = self._clock()
        duty = min(self._duties, key=lambda duty: duty.due_at)
        if now >= duty.due_at:
            duty.due_at = now + duty.every_s * self._chance.uniform(0.8, 1.2)
            duty.work()

    def be_quiet(self) -> None:
        """The queue could not be reached: when it can be, owners first get time to save their jobs."""
        self._quiet_until = max(self._quiet_until, self._clock() + self._quiet_s)

    def _tend_and_reap(self) -> None:
        self._store.tend()
        now, reached_before = self._clock(), self._reached_at
        self._reached_at = now
        if now - reached_before > self._settings.lease_s / 3:
            self.be_quiet()  # an outage long enough to end leases is over just now, or this worker has just begun
        if self._clock_jumped():
            # Leases that ended by the database's clock have not ended by the clocks of those who must keep them: the
            # launchers of a worker that is frozen end its programs only then.
            self._quiet_until = self._clock() + self._settings.lease_s
            _log.warning("the database's clock jumped; nothing is taken from anyone for the time of a lease")
        if now < self._quiet_until:
            return
        taken = self._store.reap()
        self._reaped(len(taken))
        for job in taken:
            _log.warning(
                "job taken from a lost worker", job=job.id, attempt=job.attempt, type=job.type, status=job.status.value
            )
            if job.terminal:  # no attempt will come to delete what this one has stored
                self._errand(partial(self._drop_outputs, job.id))

    def _drop_outputs(self, job_id: str) -> None:
        """Of a job that has ended badly; what is left of them now goes with the job."""
        self._storage.delete_prefix(f"outputs/{job_id}/")

    def _run_schedule(self) -> None:
        """Make the job of one schedule whose time has come, and look for another next; missed times count as one."""
        known = self._settings.job_types
        for schedule in self._store.schedules():
            if schedule.paused_at is not None or schedule.due_at > schedule.now or schedule.type not in known:
                continue  # a type that only another worker knows, a newer one or one with that program, is left to it
            following = next_after(schedule.cron, schedule.now)
            job = self._store.run_schedule(schedule, job_of(schedule, self._settings), next_due_at=following)
            if job is not None:
                _log.info("schedule made a job", schedule=schedule.name, job=job.id, type=job.type)
            self._schedule_duty.due_at = self._clock()
            return

    def _clock_jumped(self) -> bool:
        """Whether the database's clock got ahead of ours since it was last asked, so that leases seem to have ended.

        A worker that has just begun has not asked before: it compares with what the other workers' hosts saw. Late
        answers blur when a clock was read, so a jump counts only as far as it is certain.
        """
        room_s = self._settings.lease_margin_s / 2
        asked_at = self._clock()
        if self._ahead_s is None:
            clocks, host_s = self._store.clocks(), self._host_clock()
            now_s, jumped = clocks.now / 1000, False
            if clocks.ahead is not None:
                jumped = now_s - host_s > clocks.ahead / 1000 + room_s
        else:
            now_s = self._store.check() / 1000
            jumped = now_s - self._clock() > self._ahead_s[1] + room_s
        self._ahead_s = (now_s - self._clock(), now_s - asked_at)
        return jumped

    def _begin_pruning(self) -> None:
        if self._pruning:
            return
        self._pruning = True  # first: it may be over before the errand is known to be taken
        if not self._errand(self._prune):
            self._pruning = False

    def _prune(self) -> None:
        try:
            self._prune_some()
        finally:
            self._pruning = False

    def _prune_some(self) -> None:
        older_than_s = self._settings.retention_days * _DAY_S
        pruned, jobs = prune_batch(self._store, self._storage, older_than_s=older_than_s)
        if pruned.walked_to:
            self._prune_duty.due_at = self._clock() + _PRUNE_ON_AFTER_S
        if jobs or pruned.asset_ids:
            _log.info("pruned", jobs=jobs, assets=len(pruned.asset_ids))
