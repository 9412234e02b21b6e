"""The jobs that the oracle knows, how they move, and what families owe: three rules, applied until nothing moves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

from shared.errors import ClaimLost, Conflict, Invalid, NotFound
from shared.job import (
    MAX_DEPTH,
    PHASES,
    Claim,
    Line,
    NewJob,
    Status,
)
from tests.model.known import Entry, Known

#: The real backoff is random, so the machine moves every retry to this distance.
BACKOFF_MS = 20_000
_BETWEEN_OWNERS = {Status.SCHEDULED, Status.RETRYING}
NOT_STARTED = {Status.SCHEDULED, Status.WAITING, Status.PENDING, Status.RETRYING}


def settling(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb whose batch also moves whatever families owe, accepted or not."""

    @wraps(verb)
    def moving(kin: Kin, *args: Any, **named: Any) -> Any:
        try:
            return verb(kin, *args, **named)
        finally:
            kin.settle()

    return moving


class Kin:
    """All jobs in the order of their creation, deleted ones included."""

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
        return job is not None and job.status is Status.RUNNING and claim_of(job) == claim

    def place(self, job_id: str, types: Iterable[str]) -> int | None:
        """How many waiting jobs go first, or None for a job that does not wait in the queue."""
        job = self._there(job_id)
        if job.status is not Status.PENDING:
            return None
        waiting = [other for other in self.present() if other.status is Status.PENDING and other.new.type in types]
        return sum(turn_of(other) < turn_of(job) for other in waiting)

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

    _insert_family = settling(_insert)

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
        return retried or not all(is_old(other, edge) for other in family)


def claim_of(job: Known) -> Claim:
    """The claim that holds the job, or held it last."""
    return Claim(job.id, job.attempt, job.worker or "")


def is_old(job: Known, edge: int) -> bool:
    """Whether it ended before this moment."""
    return job.completed_at is not None and job.completed_at < edge


def turn_of(job: Known) -> tuple[int, int]:
    """Higher priority first, then in the order of creation."""
    return -job.priority, job.place
