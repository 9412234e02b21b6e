"""Drives a real queue and the oracle side by side, and compares them after every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from shared.errors import ClaimLost, SpoolError
from shared.job import (
    ENDED_BADLY,
    MAX_DEPTH,
    PHASES,
    Claim,
    Failure,
    Job,
    Line,
    NewJob,
    Outcome,
    Output,
    Progress,
    Status,
)
from shared.store import statements as sql
from shared.store.protocol import Beat, ClaimRequest, Worker
from shared.store.sql import SqlJobStore, Statement
from shared.types import JOB_TYPES
from tests.contract.conftest import TABLES
from tests.model.laws import Laws, Row, Snapshot
from tests.model.oracle import Known, Oracle

#: Time moves in steps of 40 s, and everything that ends after a while ends 20 s from a multiple of that, so that the
#: real seconds that a run takes decide nothing.
STEPS_S = (40, 80, 200, 4000)
LEASE_S = 100.0
SOON_MS = 60_000
#: Of the root alone: what comes first when several levels run out of time at one moment is not promised.
TIMEOUTS_S = (1020.0, 1e6)
RETENTION_S = 3620.0
_DRIFT_MS = 3000
_CLOSE_MS = 10_000
_MOST_JOBS = 40
_MOMENTS = ("lease_until", "run_at", "created_at", "started_at", "updated_at", "completed_at", "cancel_requested_at")

WORKERS = {
    worker.id: worker
    for worker in (
        Worker("w1", "here", "0", ("ingest",), 2),
        Worker("w2", "there", "0", ("ingest", "render"), 4),
        Worker("w3", "there", "1", ("render",), 1),
    )
}
OUTCOMES = {
    "done": Outcome("completed", {"media_ms": 7}, (Output("a.mp3", "outputs/a", "audio/mpeg", 3, "00"),)),
    "bare": Outcome("completed"),
    "full": Outcome("failed", failure=Failure("out_of_disk", "transient", "The disk is full.", "encoding")),
    "late": Outcome("failed", failure=Failure("timeout", "timeout", "It took too long.", "encoding")),
    "bad": Outcome("failed", failure=Failure("bad_input", "permanent", "The file is empty.", "analyzing")),
    "stopped": Outcome("cancelled"),
}

types = st.sampled_from(("ingest", "ingest", "render"))
priorities = st.sampled_from((0, 0, 0, 5, -5))
phases = st.sampled_from(PHASES)
workers = st.sampled_from(sorted(WORKERS))
failures = st.sampled_from((1, 2, 3))
twice = st.booleans()
progresses = st.sampled_from(
    (Progress(), Progress("encoding", 3, 5, 12.5, 1, 8), Progress("uploading", 4, 5, 75.0, 6, 8))
)
#: Line numbers of one report: the last numbers are sent again, as after a lost reply.
numbers = st.sampled_from(((), (1,), (1, 2), (2, 3), (1, 2, 3, 4), (7,)))
#: A family as (parent, phase, own work) per child: the parent is the root, the child before, or any of those before.
shapes = st.lists(st.tuples(st.sampled_from((0, 0, -1, -1, 1, 2)), phases, st.booleans()), min_size=1, max_size=6)
#: How long nothing happens before a janitor comes by.
pauses = st.sampled_from((0, 0, *STEPS_S))


class QueueMachine(RuleBasedStateMachine):
    """Every rule is one verb of the protocol, done to both; `twice` sends its batch again, as after a lost reply."""

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

    # --- creation ------------------------------------------------------------------------------------------
    @precondition(lambda self: self._room())
    @rule(
        type=types,
        priority=priorities,
        later=st.booleans(),
        most=failures,
        key=st.sampled_from((None, None, "k1", "k2")),
        hash=st.sampled_from(("h1", "h2")),
        twice=twice,
    )
    def create(self, *, type, priority, later, most, key, hash, twice):
        """A single job, now or later, perhaps under a key."""
        self._create(
            [
                NewJob(
                    id=self._name("job"),
                    type=type,
                    params={},
                    priority=priority,
                    run_at=self.oracle.now + SOON_MS if later else None,
                    max_failures=most,
                    idempotency_key=key,
                    request_hash=hash if key else None,
                )
            ],
            twice,
        )

    @precondition(lambda self: self._room())
    @rule(
        shape=shapes,
        own_work=st.booleans(),
        later=st.booleans(),
        lenient=st.booleans(),
        most=failures,
        timeout_s=st.sampled_from(TIMEOUTS_S),
        twice=twice,
    )
    def create_family(self, *, shape, own_work, later, lenient, most, timeout_s, twice):
        """A parent, children, children of those."""
        about = {"max_failures": most, "timeout_s": TIMEOUTS_S[-1], "params": {}}
        about["on_child_failure"] = "continue" if lenient else "fail"
        at = self.oracle.now + SOON_MS if later and own_work else None
        kind = "ingest" if own_work else "flow"
        family = [
            NewJob(id=self._name("root"), type=kind, own_work=own_work, run_at=at, **about | {"timeout_s": timeout_s})
        ]
        levels = [0]
        parents = []
        for place, _, _ in shape:
            parent = range(len(levels))[place % len(levels)]
            parents.append(parent if levels[parent] + 1 < MAX_DEPTH else 0)
            levels.append(levels[parents[-1]] + 1)
        for number, (parent, (_, phase, works)) in enumerate(zip(parents, shape, strict=True), start=1):
            alone = works or number not in parents
            family.append(
                NewJob(
                    id=self._name("child"),
                    type="ingest" if alone else "flow",
                    own_work=alone,
                    parent_id=family[parent].id,
                    phase=phase,
                    child_key=f"k{number}",
                    **about,
                )
            )
        self._create(family, twice)

    @precondition(lambda self: self._room() and self.oracle.present())
    @rule(data=st.data(), phase=phases, key=st.sampled_from(("k1", "k2", "x", "y")), twice=twice)
    def join(self, data, phase, key, twice):
        """A child that joins later."""
        parent = self._job(data)
        child = NewJob(id=self._name("late"), type="ingest", params={}, parent_id=parent.id, phase=phase, child_key=key)
        self._create([child], twice)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), fresh_id=st.booleans(), other=st.booleans())
    def create_again(self, data, fresh_id, other):
        """A request that arrives again: the same, under another id, or another request under the same key."""
        jobs = self.requests[data.draw(st.integers(0, len(self.requests) - 1))]
        if any(self.oracle.jobs[job.id].deleted for job in jobs if job.id in self.oracle.jobs):
            return
        if jobs[0].idempotency_key and fresh_id:
            changes = {"id": self._name("again")} | ({"request_hash": "other"} if other else {})
            jobs = [replace(jobs[0], **changes)]
        self._create(jobs, twice=False)

    # --- clients -------------------------------------------------------------------------------------------
    @precondition(lambda self: self.oracle.present())
    @rule(data=st.data(), twice=twice)
    def cancel(self, data, twice):
        """Any job, in any state."""
        job = self._job(data)
        self._same(twice, lambda: self.store.cancel(job.id), lambda: self.oracle.cancel(job.id))

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def cancel_running(self, data):
        """A job that somebody works on."""
        job = self._job(data, self._running())
        self._same(False, lambda: self.store.cancel(job.id), lambda: self.oracle.cancel(job.id))

    @precondition(lambda self: self._room() and any(job.ended for job in self.oracle.present()))
    @rule(data=st.data(), twice=twice)
    def retry(self, data, twice):
        """A person's retry of anything that has ended."""
        ended = [job for job in self.oracle.present() if job.ended]
        badly = [job for job in ended if job.status in ENDED_BADLY] or ended
        job = self._job(data, [*badly, *badly, *ended])
        before = set(self.laws.before)
        made = _answer(lambda: self._sent(twice, lambda: self.store.retry(job.id)[0]))
        rows = self.store._read([Statement("SELECT id, retry_of FROM job")])[0]
        names = {row["retry_of"]: row["id"] for row in rows if row["id"] not in before}
        wanted = _answer(lambda: self.oracle.retry(job.id, lambda old: names.get(old, f"a retry of {old}")))
        self._agree(wanted, made)

    @precondition(lambda self: self.oracle.present())
    @rule(data=st.data(), priority=st.sampled_from((None, 5, -5)), later=st.booleans(), twice=twice)
    def patch(self, data, priority, later, twice):
        """Another priority, another time."""
        job = self._job(data)
        at = self.oracle.now + SOON_MS if later else None
        self._same(
            twice,
            lambda: self.store.patch(job.id, priority=priority, run_at=self._real(at), tags=["t"]),
            lambda: self.oracle.patch(job.id, priority=priority, run_at=at, tags=["t"]),
        )

    @precondition(lambda self: self.oracle.present())
    @rule(data=st.data())
    def purge(self, data):
        """Delete a family that has ended."""
        job = self._job(data)
        self._same(False, lambda: self.store.purge(job.id), lambda: self.oracle.purge(job.id))

    @precondition(lambda self: self.oracle.present())
    @rule(data=st.data(), worker=workers)
    def look(self, data, worker):
        """The place of a job in the queue; what a worker owns, and what of it is to stop."""
        job = self._job(data)
        assert self.store.get(job.id).ahead == self.oracle.place(job.id, JOB_TYPES)
        owned = self.store.control(worker)
        assert {(one.claim, one.cancel_requested) for one in owned} == set(self.oracle.control(worker))

    # --- owners --------------------------------------------------------------------------------------------
    @rule(worker=workers, twice=twice)
    def claim(self, worker, twice):
        """A worker asks for its next job."""
        self._claim(ClaimRequest(WORKERS[worker], self._name("token"), LEASE_S), twice)

    @precondition(lambda self: self.oracle.present())
    @rule(
        worker=workers,
        ends=st.lists(st.sampled_from((None, None, "done", "done", "done", "full", "bad")), min_size=1, max_size=6),
    )
    def work(self, worker, ends):
        """A worker goes on from job to job; some of them it only begins."""
        for end in ends:
            job = self._claim(ClaimRequest(WORKERS[worker], self._name("token"), LEASE_S), twice=False)
            if job is None:
                break
            if end:
                self._finish(job.claim, end, (1,), Progress("encoding"), twice=False)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def claim_late(self, data):
        """A claim that arrives again, however late."""
        request, _ = self.claimed[data.draw(st.integers(0, len(self.claimed) - 1))]
        self._claim(request, twice=False)

    @precondition(lambda self: self.claimed)
    @rule(
        worker=workers,
        data=st.data(),
        lines=numbers,
        progress=progresses,
        forgets=st.booleans(),
        gives_up=st.booleans(),
        twice=twice,
    )
    def heartbeat(self, *, worker, data, lines, progress, forgets, gives_up, twice):
        """All that the worker believes to own, or all but one, perhaps what it lost, and a claim that it gave up."""
        mine = [claim for _, claim in self.claimed if claim.worker_id == worker]
        told = [claim for claim in mine if self.oracle.owns(claim)][int(forgets) :]
        requests = [request for request, claim in self.claimed if claim not in told]
        given_up = [data.draw(st.sampled_from(requests)).token] if gives_up and requests else []
        lost = [claim for claim in mine if not self.oracle.owns(claim)]
        lost = [claim for claim in lost if claim.job_id not in {one.job_id for one in told}]
        if lost and data.draw(st.booleans()):
            told.append(data.draw(st.sampled_from(lost)))
        beats = [Beat(claim, progress, self._lines(claim, lines)) for claim in told]
        named = {"lease_s": LEASE_S, "given_up": given_up}
        wanted = self.oracle.heartbeat(WORKERS[worker], beats, **named)
        owned = self._sent(twice, lambda: self.store.heartbeat(WORKERS[worker], beats, **named))
        assert {(one.claim, one.cancel_requested) for one in owned} == set(wanted)
        self._check()

    @rule(worker=workers)
    def leave(self, worker):
        """A worker ends."""
        self._same(False, lambda: self.store.leave(worker), lambda: self.oracle.leave(worker))

    @precondition(lambda self: self.claimed)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(("done", "done", "bare")),
        lines=numbers,
        progress=progresses,
        twice=twice,
    )
    def complete(self, data, outcome, lines, progress, twice):
        """An owner, or one that was, says that it is done."""
        self._finish(self._claim_of(data), outcome, lines, progress, twice=twice)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), outcome=st.sampled_from(("full", "late")), lines=numbers, twice=twice)
    def fail_for_now(self, data, outcome, lines, twice):
        """A failure that may pass."""
        self._finish(self._claim_of(data), outcome, lines, Progress(), twice=twice)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), lines=numbers, twice=twice)
    def fail_for_good(self, data, lines, twice):
        """A failure that will not."""
        self._finish(self._claim_of(data), "bad", lines, Progress("analyzing"), twice=twice)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), lines=numbers, twice=twice)
    def stop(self, data, lines, twice):
        """An owner says that it stopped as it was asked to, or was not."""
        self._finish(self._claim_of(data), "stopped", lines, Progress(), twice=twice)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), outcome=st.sampled_from(("done", "full", "bad")), worker=workers, twice=twice)
    def finish_and_claim(self, data, outcome, worker, twice):
        """The end of one job and the next one in the same batch."""
        request = ClaimRequest(WORKERS[worker], self._name("token"), LEASE_S)
        self._finish(self._claim_of(data), outcome, (), Progress(), twice=twice, request=request)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), lines=numbers, twice=twice)
    def release(self, data, lines, twice):
        """A job is given back."""
        claim = self._claim_of(data)
        written = self._lines(claim, lines)
        self._same(
            twice,
            lambda: self.store.release(claim, lines=written),
            lambda: self.oracle.release(claim, lines=written),
            keep=True,
        )

    @precondition(lambda self: self._room() and self.claimed)
    @rule(
        data=st.data(),
        wanted=st.lists(
            st.tuples(st.sampled_from("abc"), phases), min_size=1, max_size=3, unique_by=lambda pair: pair[0]
        ),
        twice=twice,
    )
    def add_children(self, data, wanted, twice):
        """A running job makes children."""
        claim = self._claim_of(data)
        children = [
            NewJob(id=self._name("added"), type="ingest", params={}, parent_id=claim.job_id, phase=phase, child_key=key)
            for key, phase in wanted
        ]
        self._same(
            twice,
            lambda: self.store.add_children(claim, children),
            lambda: self.oracle.add_children(claim, children),
            keep=True,
        )

    @precondition(lambda self: self.accepted and not any(job.deleted for job in self.oracle.jobs.values()))
    @rule(data=st.data())
    def send_late(self, data):
        """A creation, a finish or a release that arrives again, however late, does nothing of its own."""
        batch = self.accepted[data.draw(st.integers(0, len(self.accepted) - 1))]
        self.send(batch)
        if any(statement.text == sql.ADVANCE for statement in batch):
            self.oracle.settle()
        self._check()

    # --- janitor -------------------------------------------------------------------------------------------
    @rule(seconds=pauses, twice=twice)
    def reap(self, seconds, twice):
        """Whose lease has run out loses its job."""
        self._pass(seconds)
        wanted = self.oracle.reap()
        reaped = self._sent(twice, self.store.reap)
        assert twice or {job.id for job in reaped} == {job.id for job in wanted}
        self._check()

    @rule(seconds=pauses, twice=twice)
    def tend(self, seconds, twice):
        """What is due goes to the queue. A second time may find that what the first one opened is over its time."""
        self._pass(seconds)
        for _ in range(1 + twice):
            self._same(False, self.store.tend, self.oracle.tend)

    @rule(seconds=pauses, limit=st.sampled_from((2, 100)), twice=twice)
    def prune(self, seconds, limit, twice):
        """A step of the walk over old jobs."""
        self._pass(seconds)
        found = self.store.prunable(older_than_s=RETENTION_S, limit=limit)
        assert list(found.job_ids) == self.oracle.prunable(older_than_s=RETENTION_S, limit=limit)
        gone = self._sent(twice, lambda: self.store.prune(found))
        wanted = self.oracle.prune(found.job_ids, older_than_s=RETENTION_S, limit=limit)
        assert twice or gone == wanted
        self._check()

    @rule(seconds=st.sampled_from(STEPS_S))
    def pass_time(self, seconds):
        """Nothing happens for a while."""
        self._pass(seconds)
        self._check()

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
        made = _answer(lambda: self._sent(twice, lambda: self.store.finish(claim, outcome, **about, next=request)))
        wanted = _answer(lambda: self.oracle.finish(claim, outcome, **about, at_once=self._moved_on(claim.job_id)))
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
                wanted = _brief(self.oracle.jobs[claim.job_id])
        else:
            self.accepted.append(self.batch)
        self._agree(wanted, _brief(made.job))

    def _after_claim(self, request: ClaimRequest | None) -> None:
        """A batch that ends one job and claims another looks after families again when it is sent again."""
        if request and self.batches > 1:
            self.oracle.settle()

    def _same(self, twice: bool, real: Callable[[], Any], model: Callable[[], Any], *, keep: bool = False) -> bool:
        """Do it to both and compare; whether it was accepted."""
        wanted, made = _answer(model), _answer(lambda: self._sent(twice, real))
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
            row, wanted = seen.jobs[job_id], _row(job, self.oracle)
            if self.rows.get(job_id, (None,))[0] != row:
                self.rows[job_id] = row, _found(row)
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


def _answer(verb: Callable[[], Any]) -> Any:
    """What a verb answers: the state of a job or of several, or the class of the error that it raises."""
    try:
        return _brief(verb())
    except SpoolError as error:
        return type(error)


def _brief(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_brief(item) for item in answer]
    return (answer.id, answer.status) if isinstance(answer, Job | Known) else answer


def _row(job: Known, oracle: Oracle) -> dict[str, Any]:
    """What the database should say about a job."""
    children = oracle.children(job)
    return {
        "status": job.status,
        "type": job.new.type,
        "priority": job.priority,
        "tags": job.tags,
        "depth": job.depth,
        "retry_of": job.new.retry_of,
        "attempt": job.attempt,
        "failures": job.failures,
        "worker_id": job.worker,
        "claim_token": job.token,
        "asked": job.asked,
        "error": job.error if job.status is not Status.WAITING_CHILDREN else None,
        "result": job.result,
        "outputs": job.outputs,
        "stage": job.stage,
        "progress": job.percent,
        "last_line": job.last_line if job.status is Status.RUNNING else None,
        "ended": job.ended,
        "children": len(children),
        "done": sum(child.status is Status.COMPLETED for child in children),
        "left": [oracle.left(job, phase) for phase in range(len(PHASES))],
    }


def _found(row: Row) -> dict[str, Any]:
    """The same, as the database says it. A family's error names a child's end, which the oracle leaves open,
    and the error of a job that still waits for its children is not its last word."""
    job = Job.from_row(row)
    code = job.error["code"] if job.error and job.status is not Status.WAITING_CHILDREN else None
    return {name: getattr(job, name) for name in ("status", "type", "priority", "tags", "depth", "retry_of")} | {
        "attempt": job.attempt,
        "failures": job.failures,
        "worker_id": job.worker_id,
        "claim_token": job.claim_token,
        "asked": job.cancel_requested_at is not None,
        "error": "child" if code and code.startswith("child_") else code,
        "result": job.result,
        "outputs": job.outputs,
        "stage": job.stage,
        "progress": job.progress,
        "last_line": job.last_line if job.status is Status.RUNNING else None,
        "ended": job.completed_at is not None,
        "children": job.children_total,
        "done": job.children_done,
        "left": [job.pre_left, job.core_left, job.post_left],
    }
