"""Drives a real queue and the oracle by the verbs of the protocol, in any order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.job import (
    ENDED_BADLY,
    MAX_DEPTH,
    NewJob,
    Progress,
)
from shared.store.sql import Statement
from shared.store.statements.families import ADVANCE
from shared.store.values import Beat, ClaimRequest
from shared.types import JOB_TYPES
from tests.model.agreement import answer
from tests.model.draws import (
    LEASE_S,
    RETENTION_S,
    SOON_MS,
    STEPS_S,
    TIMEOUTS_S,
    WORKERS,
    failures,
    numbers,
    pauses,
    phases,
    priorities,
    progresses,
    shapes,
    twice,
    types,
    workers,
)
from tests.model.sides import Sides


class QueueMachine(Sides):
    """Every rule is one verb of the protocol, done to both; `twice` sends its batch again, as after a lost reply."""

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
        made = answer(lambda: self._sent(twice, lambda: self.store.retry(job.id)[0]))
        rows = self.store._read([Statement("SELECT id, retry_of FROM job")])[0]
        names = {row["retry_of"]: row["id"] for row in rows if row["id"] not in before}
        wanted = answer(lambda: self.oracle.retry(job.id, lambda old: names.get(old, f"a retry of {old}")))
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
        if any(statement.text == ADVANCE for statement in batch):
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
