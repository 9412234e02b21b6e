"""The queue in plain Python: what every verb of `JobStore` does by DESIGN.md 3 and 4, one job after the other.

Nothing here is derived from the SQL. Counters are counted, families follow three rules that are applied until nothing
moves, and time is a number that only the machine changes. A claim and a heartbeat end nothing, so they leave families
as they are: a parent that a claim takes from `scheduled` opens its first phase with the next verb that looks at them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from shared.errors import ClaimLost, Conflict, Invalid, NotFound
from shared.job import (
    ENDED_BADLY,
    MAX_DEPTH,
    PHASES,
    RETRIED,
    TERMINAL,
    Claim,
    Line,
    NewJob,
    Outcome,
    Output,
    Progress,
    Status,
)
from shared.store.protocol import Beat, ClaimRequest, Worker

#: A job that its own worker does not know is given back when its lease is older than this.
#: The real backoff is random, so the machine moves every retry to this distance.
BACKOFF_MS = 20_000
_BETWEEN_OWNERS = {Status.SCHEDULED, Status.RETRYING}
_NOT_STARTED = {Status.SCHEDULED, Status.WAITING, Status.PENDING, Status.RETRYING}


@dataclass(frozen=True)
class Entry:
    """One line of a job's history: a state it entered, or what its worker said."""

    attempt: int
    line: int | None
    message: str


@dataclass(eq=False)
class Known:
    """One job as the oracle knows it. `asked` is a cancel request; `stopping` means that its children must stop.

    `place` counts creations; `seq` is the number that the database chose, which only pruning goes by.
    """

    new: NewJob
    place: int
    depth: int
    created_at: int
    status: Status = Status.PENDING
    priority: int = 0
    tags: tuple[str, ...] = ()
    run_at: int | None = None
    attempt: int = 0
    failures: int = 0
    worker: str | None = None
    token: str | None = None
    lease_until: int = 0
    ended_by: Claim | None = None
    asked: bool = False
    stopping: bool = False
    open_phase: int = -1
    error: str | None = None
    family_error: str | None = None
    result: dict | None = None
    outputs: tuple[Output, ...] = ()
    stage: str | None = None
    percent: float | None = None
    last_line: int = 0
    started: bool = False
    completed_at: int | None = None
    seq: int = 0
    deleted: bool = False
    history: list[Entry] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.new.id

    @property
    def ended(self) -> bool:
        """Whether the job has ended, for good."""
        return self.status in TERMINAL

    @property
    def phase(self) -> int:
        """Which phase of its parent the job belongs to."""
        return PHASES.index(self.new.phase)


def _families(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb whose batch also moves whatever families owe, accepted or not."""

    @wraps(verb)
    def moving(oracle: Oracle, *args: Any, **named: Any) -> Any:
        try:
            return verb(oracle, *args, **named)
        finally:
            oracle.settle()

    return moving


class Oracle:
    """The whole queue: jobs in the order of their creation, deleted ones included."""

    def __init__(self) -> None:
        self.now = 0
        self.jobs: dict[str, Known] = {}
        self.families: defaultdict[str | None, list[Known]] = defaultdict(list)
        self.workers: dict[str, int] = {}
        self.tally: Counter[tuple[str, Status]] = Counter()
        self.media_ms = 0
        self.walked_to = 0

    # --- questions -----------------------------------------------------------------------------------------
    def present(self) -> list[Known]:
        """Every job that was not deleted."""
        return [job for job in self.jobs.values() if not job.deleted]

    def children(self, job: Known) -> list[Known]:
        """Every child a job ever had: deleted ones still count."""
        return self.families[job.id]

    def left(self, job: Known, phase: int | None = None) -> int:
        """How many children have not ended, in all phases or in one."""
        return sum(not child.ended and phase in {None, child.phase} for child in self.children(job))

    def owns(self, claim: Claim) -> bool:
        """Whether this very attempt is the one that runs."""
        job = self._find(claim.job_id)
        return job is not None and job.status is Status.RUNNING and _claim(job) == claim

    def place(self, job_id: str, types: Iterable[str]) -> int | None:
        """How many waiting jobs go first, or None for a job that does not wait in the queue."""
        job = self._there(job_id)
        if job.status is not Status.PENDING:
            return None
        waiting = [other for other in self.present() if other.status is Status.PENDING and other.new.type in types]
        return sum(_turn(other) < _turn(job) for other in waiting)

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
        if job.status not in _NOT_STARTED or (run_at is not None and job.status is Status.WAITING):
            raise Conflict("it has started, or waits for its phase")
        job.priority = job.priority if priority is None else priority
        job.tags = job.tags if tags is None else tuple(tags)
        if run_at is not None:
            job.run_at = run_at
            self._move(job, Status.SCHEDULED)
        return job

    @_families
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
            self._move(min(due, key=_turn), Status.PENDING)
        waiting = [job for job in mine if job.status is Status.PENDING]
        if not waiting:
            return None
        job = min(waiting, key=_turn)
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
        return [(_claim(job), job.asked) for job in running]

    @_families
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

    @_families
    def release(self, claim: Claim, *, lines: Sequence[Line] = ()) -> Known:
        """Back to the queue at no cost, or cancelled when that was asked for."""
        job = self._owned(claim, lines)
        if job is not None:
            self._let_go(job)
        return self.jobs[claim.job_id]

    @_families
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
    @_families
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

    @_families
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
        return [job.id for job in window if _old(job, edge) and not self._needed(job, edge)]

    def prune(self, job_ids: Sequence[str], *, older_than_s: float, limit: int) -> int:
        """Delete them and keep the place; a walk that is at the young ones begins again."""
        window = self._window(limit)
        at_the_end = len(window) < limit or window[-1].created_at >= self.now - int(older_than_s * 1000)
        self.walked_to = 0 if at_the_end else window[-1].seq
        gone = [self.jobs[job_id] for job_id in job_ids if not self.jobs[job_id].deleted]
        for job in gone:
            job.deleted = True
        return len(gone)

    # --- families: three rules, applied until nothing moves ------------------------------------------------
    def settle(self) -> None:
        """Until all families are as they should be; each time a rule reaches one level further."""
        while any([self._stop_children(), self._open_phases(), self._end_parents()]):
            pass

    def _stop_children(self) -> bool:
        """The children of families that stop are asked to; those that nobody works on end at once."""
        asked = False
        for job in [job for job in self.present() if job.stopping]:
            for child in self.children(job):
                if not child.ended and not child.asked:
                    self._ask(child)
                    asked = True
        return asked

    def _open_phases(self) -> bool:
        """The first phase with something left to do is open, once the parent's own time has come."""
        opening = [job for job in self.present() if self._opens(job)]
        for job in opening:
            job.open_phase = next(phase for phase in range(len(PHASES)) if self.left(job, phase))
            if not job.new.own_work:
                job.stage = PHASES[job.open_phase]
            for child in self.children(job):
                if child.status is Status.WAITING and child.phase <= job.open_phase:
                    self._move(child, Status.PENDING if child.new.own_work else Status.WAITING_CHILDREN)
        return bool(opening)

    def _opens(self, job: Known) -> bool:
        begun = job.status not in {Status.WAITING, Status.SCHEDULED}
        return begun and not job.stopping and self.left(job) > 0 and not self.left(job, job.open_phase)

    def _end_parents(self) -> bool:
        """A parent that only waits ends with its last child."""
        ending = [job for job in self.present() if job.status is Status.WAITING_CHILDREN and not self.left(job)]
        for job in ending:
            if not job.new.own_work:
                there = [child for child in self.children(job) if not child.deleted]
                done = sum(child.status is Status.COMPLETED for child in there)
                job.percent = 100.0 * done / len(there) if there else None
            if job.asked:
                self._end(job, Status.CANCELLED, "cancelled")
            elif error := job.error or job.family_error:
                self._end(job, Status.FAILED, error)
            else:
                job.percent = 100.0
                self._end(job, Status.COMPLETED)
                if not job.new.own_work:
                    self._show_what_was_made(job)
        return bool(ending)

    def _show_what_was_made(self, job: Known) -> None:
        """A parent without work of its own shows the files of its last phase, and the result of an only child there."""
        last = [child for child in self.children(job) if child.phase == len(PHASES) - 1 and not child.deleted]
        last.sort(key=lambda child: child.new.child_key or "")
        shared = Counter(name for child in last for name in {output.name for output in child.outputs})
        job.outputs = tuple(
            replace(output, name=f"{child.new.child_key}.{output.name}") if shared[output.name] > 1 else output
            for child in last
            for output in child.outputs
        )
        job.result = last[0].result if len(last) == 1 else None

    # --- moves ---------------------------------------------------------------------------------------------
    def _done(self, job: Known) -> None:
        if self.left(job):
            self._move(job, Status.WAITING_CHILDREN)
        elif job.family_error is None:
            self._end(job, Status.COMPLETED)
        elif job.asked:
            self._end(job, Status.CANCELLED, "cancelled")
        else:
            self._end(job, Status.FAILED, job.family_error)

    def _ended_badly(self, job: Known, end: Status) -> None:
        """The end of its own work, which stops its children; its own end waits for theirs."""
        if job.asked:
            job.error = "cancelled"
        if self.left(job):
            job.stopping = True
            self._move(job, Status.WAITING_CHILDREN)
        else:
            self._end(job, Status.CANCELLED if job.asked else end, job.error)

    def _let_go(self, job: Known) -> None:
        """Without an owner a job goes back to the queue, or to the end that was asked for."""
        if job.asked:
            self._ended_badly(job, Status.CANCELLED)
        else:
            job.error = None
            self._move(job, Status.PENDING)

    def _ask(self, job: Known) -> None:
        job.asked = True
        job.stopping = job.stopping or self.left(job) > 0
        if job.status not in {Status.RUNNING, Status.WAITING_CHILDREN}:
            self._end(job, Status.CANCELLED, "cancelled")

    def _end(self, job: Known, status: Status, error: str | None = None) -> None:
        job.error = error
        job.completed_at = self.now
        self._move(job, status)
        self.tally[job.new.type, status] += 1
        self.media_ms += (job.result or {}).get("media_ms", 0)
        parent = self._find(job.new.parent_id)
        if parent is None or parent.ended or parent.stopping or parent.new.on_child_failure == "continue":
            return
        if status is not Status.COMPLETED:
            parent.stopping, parent.family_error = True, "child"

    def _move(self, job: Known, status: Status) -> None:
        if job.status is not status:
            job.status = status
            job.history.append(Entry(job.attempt, None, status))

    def _add(self, new: NewJob, *, has_children: bool) -> None:
        parent = self._find(new.parent_id)
        depth = parent.depth + 1 if parent else 0
        job = Known(new, len(self.jobs), depth, self.now, priority=new.priority, tags=new.tags, run_at=new.run_at)
        job.result, job.outputs = new.result, new.outputs
        if new.status is Status.COMPLETED or not (new.own_work or has_children):
            job.status, job.completed_at = Status.COMPLETED, self.now
        elif parent and parent.open_phase < job.phase:
            job.status = Status.WAITING
        elif not new.own_work:
            job.status = Status.WAITING_CHILDREN
        elif new.run_at is not None and new.run_at > self.now:
            job.status = Status.SCHEDULED
        job.history.append(Entry(0, None, job.status))
        self.jobs[new.id] = job
        self.families[new.parent_id].append(job)

    def _insert(self, jobs: Sequence[NewJob]) -> Known:
        root = jobs[0]
        if found := self._find(root.id):
            return found
        if found := self._by_key(root):
            if found.new.request_hash != root.request_hash:
                raise Conflict("the key belongs to another request")
            return found
        if root.parent_id is not None:
            self._may_join(root)
        parents = {job.parent_id for job in jobs}
        for job in jobs:
            self._add(job, has_children=job.id in parents)
        return self.jobs[root.id]

    _insert_family = _families(_insert)

    def _hear(self, job: Known, lines: Sequence[Line]) -> None:
        fresh = [line for line in lines if line.n > job.last_line]
        job.history += [Entry(job.attempt, line.n, line.message) for line in fresh]
        job.last_line = max([job.last_line, *(line.n for line in fresh)])

    def _owned(
        self, claim: Claim, lines: Sequence[Line], allowed: Callable[[Known], bool] = lambda _: True
    ) -> Known | None:
        """The owner's job with its last lines written; None when this claim has ended it before."""
        job = self._find(claim.job_id)
        if job is not None and job.ended_by == claim:
            return None
        if job is None or not self.owns(claim) or not allowed(job):
            raise ClaimLost("not the owner")
        self._hear(job, lines)
        job.ended_by = claim
        return job

    # --- looking up ----------------------------------------------------------------------------------------
    def _find(self, job_id: str | None) -> Known | None:
        job = self.jobs.get(job_id) if job_id else None
        return None if job is None or job.deleted else job

    def _there(self, job_id: str) -> Known:
        job = self._find(job_id)
        if job is None:
            raise NotFound("no such job")
        return job

    def _by_key(self, new: NewJob) -> Known | None:
        same = (new.caller, new.idempotency_key)
        found = (job for job in self.present() if (job.new.caller, job.new.idempotency_key) == same)
        return next(found, None) if new.idempotency_key is not None else None

    def _by_child_key(self, new: NewJob) -> Known | None:
        same = (new.parent_id, new.child_key)
        return next((job for job in self.present() if (job.new.parent_id, job.new.child_key) == same), None)

    def _may_join(self, new: NewJob) -> None:
        """Raises unless the parent takes another child of that phase and key."""
        parent = self._there(new.parent_id)
        if parent.ended or parent.stopping or parent.asked:
            raise Conflict("the parent has ended or is stopping")
        if PHASES.index(new.phase) < parent.open_phase or parent.depth + 1 >= MAX_DEPTH or self._by_child_key(new):
            raise Conflict("the phase has passed, the family is too deep, or the key is taken")

    def _levels(self, jobs: Sequence[NewJob]) -> Mapping[str, int]:
        levels: dict[str, int] = {}
        for job in jobs:
            levels[job.id] = levels.get(job.parent_id, -1) + 1
        deepest = max(levels.values())
        if deepest >= MAX_DEPTH or (deepest > 0 and jobs[0].parent_id is not None):
            raise Invalid("too deep, or a child that brings children")
        return levels

    def _family(self, root: Known) -> list[Known]:
        family = [root]
        for job in family:
            family += [child for child in self.children(job) if not child.deleted]
        return sorted(family, key=lambda job: job.place)

    def _due(self, job: Known) -> bool:
        return job.status in _BETWEEN_OWNERS and job.run_at is not None and job.run_at <= self.now

    def _carried(self, job: Known) -> bool:
        """Whether a retry shows this job's files as those of a child it need not run again."""
        return any(
            other.new.retry_of == job.id and other.new.status is Status.COMPLETED and other.new.own_work
            for other in self.present()
        )

    def _window(self, limit: int) -> list[Known]:
        return [job for job in self.present() if job.seq > self.walked_to][:limit]

    def _needed(self, job: Known, edge: int) -> bool:
        parent = self._find(job.new.parent_id)
        children = [child for child in self.children(job) if not child.deleted]
        family = [*([parent] if parent else []), *children]
        retried = any(other.new.retry_of == job.id for other in self.present())
        return retried or not all(_old(other, edge) for other in family)


def _claim(job: Known) -> Claim:
    return Claim(job.id, job.attempt, job.worker or "")


def _old(job: Known, edge: int) -> bool:
    return job.completed_at is not None and job.completed_at < edge


def _turn(job: Known) -> tuple[int, int]:
    """Higher priority first, then in the order of creation."""
    return -job.priority, job.place
