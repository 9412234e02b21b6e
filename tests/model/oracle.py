"""The queue in plain Python: what every verb of `JobStore` does by DESIGN.md 3 and 4, one job after the other.

Nothing here is derived from the SQL. Counters are counted, families follow three rules that are applied until nothing
moves, and time is a number that only the machine changes. A claim and a heartbeat end nothing, so they leave families
as they are: a parent that a claim takes from `scheduled` opens its first phase with the next verb that looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from shared.errors import ClaimLost, Conflict
from shared.job import (
    ENDED_BADLY,
    RETRIED,
    Claim,
    Line,
    NewJob,
    Outcome,
    Progress,
    Status,
)
from shared.store.values import Beat, ClaimRequest, Worker
from tests.model.kin import BACKOFF_MS, NOT_STARTED, Kin, claim_of, is_old, settling, turn_of
from tests.model.known import Known


class Oracle(Kin):
    """The whole queue: every verb of the protocol."""

    # --- clients -------------------------------------------------------------------------------------------
    def create(self, jobs: Sequence[NewJob]) -> Known:
        """All or none; the same id or key again is the same job, unless the request was another."""
        root = jobs[0]
        levels = self._levels(jobs)
        alone = len(jobs) == 1 and root.parent_id is None
        ordered = sorted(jobs, key=lambda job: levels[job.id])
        return self._insert(ordered) if alone else self._insert_family(ordered)

    def patch(
        self, job_id: str, *, priority: int | None = None, run_at: int | None = None, tags: Sequence[str] | None = None
    ) -> Known:
        """Only before the start; a time only for a job that waits in the queue."""
        job = self._there(job_id)
        if job.status not in NOT_STARTED or (run_at is not None and job.status is Status.WAITING):
            raise Conflict("it has started, or waits for its phase")
        job.priority = job.priority if priority is None else priority
        job.tags = job.tags if tags is None else tuple(tags)
        if run_at is not None:
            job.run_at = run_at
            self._move(job, Status.SCHEDULED)
        return job

    @settling
    def cancel(self, job_id: str) -> Known:
        """At once without a live owner, else a request; children are told the same."""
        job = self._there(job_id)
        if job.ended:
            return job
        self._ask(job)
        if job.status is Status.RUNNING and job.lease_until <= self.now:
            self._let_go(job)
        return job

    def retry(self, job_id: str, named: Callable[[str], str]) -> Known:
        """The whole family again under new names; what completed below the root comes along as it is."""
        asked = self._there(job_id)
        root = asked
        while root.new.parent_id is not None:
            root = self._there(root.new.parent_id)
        if asked.status not in ENDED_BADLY or root.status not in ENDED_BADLY:
            raise Conflict("it did not end badly, or its family has not")
        kept = {job.id for job in self._family(root) if job is not root and job.status is Status.COMPLETED}
        again: dict[str, NewJob] = {}
        for job in self._family(root):
            parent = job.new.parent_id
            if job is not root and (parent not in again or (parent in kept and job.id not in kept)):
                continue  # it lies below a child that completed without it
            again[job.id] = replace(
                job.new,
                id=named(job.id),
                priority=job.priority,
                tags=job.tags,
                run_at=None,
                idempotency_key=None,
                request_hash=None,
                retry_of=job.id,
                parent_id=None if job is root else named(parent),
                status=Status.COMPLETED if job.id in kept else None,
                result=job.result if job.id in kept else None,
                outputs=job.outputs if job.id in kept else (),
            )
        return self.create(list(again.values()))

    def purge(self, job_id: str) -> None:
        """An ended family only, and only when no retry lives on its files."""
        family = self._family(self._there(job_id))
        if not all(job.ended for job in family) or any(self._carried(job) for job in family):
            raise Conflict("something runs, or a retry needs the files")
        for job in family:
            job.deleted = True

    # --- owners --------------------------------------------------------------------------------------------
    def claim(self, request: ClaimRequest) -> Known | None:
        """The token's own job while it is owned; else the first in turn, of those that wait and those that are due."""
        if held := next((job for job in self.present() if job.token == request.token), None):
            return held if held.status is Status.RUNNING and held.lease_until > self.now else None
        mine = [job for job in self.present() if job.new.type in request.worker.types]
        if due := [job for job in mine if self._due(job)]:
            self._move(min(due, key=turn_of), Status.PENDING)
        waiting = [job for job in mine if job.status is Status.PENDING]
        if not waiting:
            return None
        job = min(waiting, key=turn_of)
        job.attempt += 1
        job.worker, job.token, job.started = request.worker.id, request.token, True
        job.lease_until = self.now + int(request.lease_s * 1000)
        job.ended_by = job.error = job.result = job.stage = job.percent = job.run_at = None
        job.last_line = 0
        self._move(job, Status.RUNNING)
        return job

    def heartbeat(
        self, worker: Worker, beats: Sequence[Beat], *, lease_s: float, given_up: Collection[str] = ()
    ) -> list[tuple[Claim, bool]]:
        """Renews what is owned under a live lease, and gives back what the worker claimed and does not work on.

        Of that, what is to be cancelled loses its lease, so that the reaper ends it.
        """
        confirmed = []
        for beat in beats:
            job = self._find(beat.claim.job_id)
            if job and self.owns(beat.claim) and beat.claim.worker_id == worker.id and job.lease_until > self.now:
                self._hear(job, beat.lines)
                job.lease_until = self.now + int(lease_s * 1000)
                job.stage, job.percent = beat.progress.stage, beat.progress.percent
                confirmed.append((beat.claim, job.asked))
        for job in self.present():
            if job.status is Status.RUNNING and job.worker == worker.id and job.token in given_up:
                job.lease_until = min(job.lease_until, self.now)
                if not job.asked:
                    self._let_go(job)
        self.workers[worker.id] = len(beats)
        return confirmed

    def leave(self, worker_id: str) -> None:
        """The worker is no longer counted."""
        self.workers.pop(worker_id, None)

    def control(self, worker_id: str) -> list[tuple[Claim, bool]]:
        """What the worker owns, and whether it is to stop."""
        running = [job for job in self.present() if job.status is Status.RUNNING and job.worker == worker_id]
        return [(claim_of(job), job.asked) for job in running]

    @settling
    def finish(
        self, claim: Claim, outcome: Outcome, *, lines: Sequence[Line] = (), progress: Progress, at_once: bool = False
    ) -> Known:
        """The owner's word, then a cancel, then the children decide. `at_once`: the random backoff was nothing."""
        job = self._owned(claim, lines, allowed=lambda job: outcome.word != "cancelled" or job.asked)
        if job is None:
            return self.jobs[claim.job_id]
        failure = outcome.failure
        again = failure is not None and failure.kind in RETRIED and not job.asked
        job.failures += again
        job.result, job.outputs = outcome.result, outcome.outputs
        job.stage = progress.stage or job.stage
        job.percent = job.percent if progress.percent is None else progress.percent
        job.percent = 100.0 if outcome.word == "completed" else job.percent
        job.error = None if failure is None else failure.code
        if outcome.word == "completed":
            self._done(job)
        elif again and job.failures < job.new.max_failures:
            job.run_at = self.now + (0 if at_once else BACKOFF_MS)
            self._move(job, Status.RETRYING)
        else:
            self._ended_badly(job, Status.DEAD_LETTER if again else Status.FAILED)
        return job

    @settling
    def release(self, claim: Claim, *, lines: Sequence[Line] = ()) -> Known:
        """Back to the queue at no cost, or cancelled when that was asked for."""
        job = self._owned(claim, lines)
        if job is not None:
            self._let_go(job)
        return self.jobs[claim.job_id]

    @settling
    def add_children(self, claim: Claim, children: Sequence[NewJob]) -> list[Known]:
        """Each key once; those that fit join, and the first that does not is what the error is about."""
        if not self.owns(claim):
            raise ClaimLost("not the owner")
        refused: Exception | None = None
        for child in children:
            if self._by_child_key(child):
                continue
            try:
                self._may_join(child)
            except Conflict as error:
                refused = refused or error
            else:
                self._add(child, has_children=False)
        if refused:
            raise refused
        return [self._by_child_key(child) for child in children]

    # --- janitor -------------------------------------------------------------------------------------------
    @settling
    def reap(self) -> list[Known]:
        """Every lease that ran out costs its job a failure, unless a cancel was asked for."""
        reaped = [job for job in self.present() if job.status is Status.RUNNING and job.lease_until <= self.now]
        for job in reaped:
            again = not job.asked
            job.failures += again
            job.error = "worker_lost"
            if again and job.failures < job.new.max_failures:
                job.run_at = self.now + BACKOFF_MS
                self._move(job, Status.RETRYING)
            else:
                self._ended_badly(job, Status.DEAD_LETTER)
        return reaped

    @settling
    def tend(self) -> None:
        """What is due goes to the queue; a family over its time is stopped."""
        for job in self.present():
            if self._due(job):
                self._move(job, Status.PENDING)
            late = job.created_at + int(job.new.timeout_s * 1000) <= self.now
            if job.status is Status.WAITING_CHILDREN and not job.stopping and late:
                job.stopping, job.family_error = True, "timeout"

    def prunable(self, *, older_than_s: float, limit: int) -> list[str]:
        """Old ends from where the last walk stopped, unless a parent, a child or a retry still needs them."""
        edge = self.now - int(older_than_s * 1000)
        window = self._window(limit)
        return [job.id for job in window if is_old(job, edge) and not self._needed(job, edge)]

    def prune(self, job_ids: Sequence[str], *, older_than_s: float, limit: int) -> int:
        """Delete them and keep the place; a walk that is at the young ones begins again."""
        window = self._window(limit)
        at_the_end = len(window) < limit or window[-1].created_at >= self.now - int(older_than_s * 1000)
        self.walked_to = 0 if at_the_end else window[-1].seq
        gone = [self.jobs[job_id] for job_id in job_ids if not self.jobs[job_id].deleted]
        for job in gone:
            job.deleted = True
        return len(gone)
