"""A real queue and the oracle side by side: a verb is done to both, and they are compared after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from shared.errors import ClaimLost
from shared.job import (
    Claim,
    Job,
    Line,
    NewJob,
    Progress,
    Status,
)
from shared.store.sql import SqlJobStore, Statement
from shared.store.values import ClaimRequest
from tests.contract.conftest import TABLES
from tests.model.agreement import answer, brief, found_in, row_of
from tests.model.draws import (
    OUTCOMES,
)
from tests.model.known import Known
from tests.model.laws import Laws, Row, Snapshot
from tests.model.oracle import Oracle

_DRIFT_MS = 3000
_CLOSE_MS = 10_000
_MOST_JOBS = 40
_MOMENTS = ("lease_until", "run_at", "created_at", "started_at", "updated_at", "completed_at", "cancel_requested_at")


class Sides(RuleBasedStateMachine):
    """Both of them, how far time has moved, and what was sent, for rules to work with."""

    def __init__(self, store: SqlJobStore) -> None:
        super().__init__()
        store._run([Statement(f"DELETE FROM {table}") for table in TABLES])
        self.store, self.oracle, self.laws = store, Oracle(), Laws()
        self.requests: list[list[NewJob]] = []
        self.claimed: list[tuple[ClaimRequest, Claim]] = []
        self.accepted: list[list[Statement]] = []
        self.lines: set[tuple[str, int, int, str]] = set()
        self.oracle.now = store.check()
        self.rows: dict[str, tuple[Row, dict[str, Any]]] = {}
        self.shifted_ms = 0
        self.postponed: dict[str, tuple[int, int | None]] = {}
        self.named = 0
        self.send, self.times, self.batch, self.batches = store._run, 1, [], 0
        store._run = self._send  # type: ignore[method-assign]  # seen from outside

    def teardown(self) -> None:
        """The whole history at the end; the store is given back as it was."""
        self.store._run = self.send  # type: ignore[method-assign]  # seen from outside
        self.laws.history(self.store)

    # --- both at once --------------------------------------------------------------------------------------
    def _create(self, jobs: list[NewJob], twice: bool) -> None:
        real = [replace(job, run_at=self._real(job.run_at)) for job in jobs]
        if self._same(twice, lambda: self.store.create(real)[0], lambda: self.oracle.create(jobs), keep=True):
            self.requests.append(jobs)

    def _claim(self, request: ClaimRequest, twice: bool) -> Job | None:
        wanted = self.oracle.claim(request)
        job = self._sent(twice, lambda: self.store.claim(request))
        self._claimed(request, wanted, job)
        self._check()
        return job

    def _claimed(self, request: ClaimRequest, wanted: Known | None, job: Job | None) -> None:
        assert (job and job.id) == (wanted and wanted.id), f"{job and job.id} was claimed, not {wanted and wanted.id}"
        if job is not None:
            assert (job.status, job.attempt, job.worker_id) == (Status.RUNNING, wanted.attempt, wanted.worker)
            if (request, job.claim) not in self.claimed:
                self.claimed.append((request, job.claim))

    def _finish(
        self,
        claim: Claim,
        end: str,
        lines: Sequence[int],
        progress: Progress,
        *,
        twice: bool,
        request: ClaimRequest | None = None,
    ) -> None:
        outcome = OUTCOMES[end]
        about = {"lines": self._lines(claim, lines), "progress": progress}
        made = answer(lambda: self._sent(twice, lambda: self.store.finish(claim, outcome, **about, next=request)))
        wanted = answer(lambda: self.oracle.finish(claim, outcome, **about, at_once=self._moved_on(claim.job_id)))
        if isinstance(made, type):
            following = self.oracle.claim(request) if request else None
            if following:  # taken in the same batch, but the worker never hears of it
                self.claimed.append((request, Claim(following.id, following.attempt, request.worker.id)))
                if twice and following.id == claim.job_id:  # the next owner has wiped the trace of the first finish
                    wanted = ClaimLost
            self._after_claim(request)
            self._agree(wanted, made)
            return
        if request:
            self._claimed(request, self.oracle.claim(request), made.next)
            self._after_claim(request)
            if self.batches > 1 and not isinstance(wanted, type):
                wanted = brief(self.oracle.jobs[claim.job_id])
        else:
            self.accepted.append(self.batch)
        self._agree(wanted, brief(made.job))

    def _after_claim(self, request: ClaimRequest | None) -> None:
        """A batch that ends one job and claims another looks after families again when it is sent again."""
        if request and self.batches > 1:
            self.oracle.settle()

    def _same(self, twice: bool, real: Callable[[], Any], model: Callable[[], Any], *, keep: bool = False) -> bool:
        """Do it to both and compare; whether it was accepted."""
        wanted, made = answer(model), answer(lambda: self._sent(twice, real))
        accepted = not isinstance(made, type)
        if keep and accepted:
            self.accepted.append(self.batch)
        self._agree(wanted, made)
        return accepted

    def _agree(self, wanted: Any, made: Any) -> None:
        assert wanted == made, f"the answer: wanted {wanted}, got {made}"
        self._check()

    def _check(self) -> None:
        """The laws hold, and the database's rows are the oracle's."""
        seen = Snapshot.read(self.store, self.laws.last_event)
        self.laws.check(seen)
        present = {job.id: job for job in self.oracle.present()}
        assert list(seen.jobs) == list(present), f"the jobs: wanted {list(present)}, found {list(seen.jobs)}"
        for job_id, job in present.items():
            row, wanted = seen.jobs[job_id], row_of(job, self.oracle)
            if self.rows.get(job_id, (None,))[0] != row:
                self.rows[job_id] = row, found_in(row)
            found = self.rows[job_id][1]
            wrong = {name: (value, found[name]) for name, value in wanted.items() if value != found[name]}
            assert not wrong, f"{job_id}: (wanted, found) {wrong}"
            entered = [entry.message for entry in job.history if entry.line is None]
            assert entered == self.laws.states[job_id], f"{job_id}: went {self.laws.states[job_id]}, not {entered}"
            job.seq = row["seq"]
            if job.status is Status.RUNNING:
                assert abs(row["lease_until"] - self._real(job.lease_until)) < _CLOSE_MS, f"{job_id}: its lease"
            if job.status is Status.SCHEDULED:
                assert abs(row["run_at"] - self._real(job.run_at)) < _CLOSE_MS, f"{job_id}: its time"
        self.lines |= {
            (event["job_id"], event["attempt"], event["line"], event["message"])
            for event in seen.events
            if event["line"] is not None
        }
        said = {
            (job.id, entry.attempt, entry.line, entry.message)
            for job in self.oracle.jobs.values()
            for entry in job.history
            if entry.line is not None
        }
        assert self.lines == said, f"lines too few {said - self.lines}, or too many {self.lines - said}"
        assert seen.workers == self.oracle.workers
        assert +self.laws.ends == self.oracle.tally
        assert sum(row["media_ms"] for row in seen.tally) == self.oracle.media_ms
        self._hold_time(seen)

    # --- the real queue ------------------------------------------------------------------------------------
    def _send(self, batch: Sequence[Statement]) -> list[list[Any]]:
        """A batch, as often as it arrives; the last answer is the one that is heard."""
        self.batch = batch
        self.batches += self.times
        return [self.send(batch) for _ in range(self.times)][-1]

    def _sent(self, twice: bool, verb: Callable[[], Any]) -> Any:
        self.times, self.batches = 2 if twice else 1, 0
        try:
            return verb()
        finally:
            self.times = 1

    def _real(self, moment: int | None) -> int | None:
        """A moment of the oracle on the database's clock."""
        return None if moment is None else moment - self.shifted_ms

    def _pass(self, seconds: int) -> None:
        """Time moves: every moment that the database knows is longer ago."""
        if seconds:
            self.oracle.now += seconds * 1000
            self._shift(seconds * 1000)

    def _shift(self, ms: int) -> None:
        moved = ", ".join(f"{name} = {name} - :ms" for name in _MOMENTS)
        self.send([Statement(f"UPDATE job SET {moved}", {"ms": ms})])
        self.shifted_ms += ms

    def _hold_time(self, seen: Snapshot) -> None:
        """Retries wait as long as the oracle says, and the seconds that the test takes are taken back."""
        retrying = {
            job.id: (job.failures, job.run_at) for job in self.oracle.present() if job.status is Status.RETRYING
        }
        fresh = {job_id: one for job_id, one in retrying.items() if self.postponed.get(job_id) != one}
        self.postponed |= fresh
        if fresh:
            postpone = "UPDATE job SET run_at = :at WHERE id = :id"
            moments = ((job_id, self._real(at)) for job_id, (_, at) in fresh.items())
            self.send([Statement(postpone, {"id": job_id, "at": at}) for job_id, at in moments])
        drift = seen.now - self._real(self.oracle.now)
        if drift > _DRIFT_MS:
            self._shift(-drift)

    def _moved_on(self, job_id: str) -> bool:
        """Whether a job is no longer where its last failure left it, because its random backoff was next to nothing."""
        last = "SELECT message FROM event WHERE job_id = :id AND kind = 'state' ORDER BY id DESC LIMIT 1"
        rows = self.store._read([Statement(last, {"id": job_id})])[0]
        return bool(rows) and rows[0]["message"] != Status.RETRYING

    # --- drawing -------------------------------------------------------------------------------------------
    def _name(self, what: str) -> str:
        self.named += 1
        return f"{what}{self.named}"

    def _room(self) -> bool:
        return len(self.oracle.present()) < _MOST_JOBS

    def _running(self) -> list[Known]:
        return [job for job in self.oracle.present() if job.status is Status.RUNNING]

    def _job(self, data: st.DataObject, among: Sequence[Known] | None = None) -> Known:
        """Any job, mostly one of those that still matter."""
        jobs = self.oracle.present() if among is None else among
        lively = [job for job in jobs if not job.ended] or jobs
        return self.oracle.jobs[data.draw(st.sampled_from([job.id for job in (*lively, *lively, *jobs)]))]

    def _claim_of(self, data: st.DataObject) -> Claim:
        """Mostly one that holds, at times one that was lost, best of a job that somebody has again."""
        every = [claim for _, claim in self.claimed]
        held = [claim for claim in every if self.oracle.owns(claim)]
        again = [claim for claim in every if claim not in held and claim.job_id in {one.job_id for one in held}]
        among = (held, held, held, again, every)[data.draw(st.integers(0, 4))]
        return data.draw(st.sampled_from(among or every))

    def _lines(self, claim: Claim, numbers: Sequence[int]) -> tuple[Line, ...]:
        return tuple(Line(n, "info", "log", f"{claim.worker_id} says {n}") for n in numbers)
