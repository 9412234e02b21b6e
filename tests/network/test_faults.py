"""The queue over a network that loses, delays, breaks and repeats: no job lost, none run twice, none stuck."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import urllib3

from shared.errors import ClaimLost, Unavailable
from shared.job import Claim, Job, Line, Outcome, Progress, new_id
from shared.store.hrana import Hrana
from shared.store.sql import Statement
from shared.store.turso import TursoJobStore
from shared.store.values import Beat, ClaimRequest, Finished, Worker
from tests.contract.factory import job
from tests.real.proxy import FAULTS, Faults, Proxy
from tests.real.sqld import Sqld

JOBS = 200
SPOILED = 0.15
QUICK = urllib3.Timeout(connect=1.0, read=0.8)
DEADLINE_S = 90.0


class Rig:
    """A creator, two workers, and what they saw; each repeats what gets no answer, as API clients and workers do."""

    def __init__(self, url: str, jobs: int) -> None:
        self._url = url
        self._wanted = jobs
        self._ends_at = time.monotonic() + DEADLINE_S
        self._lock = threading.Lock()
        self._owners: dict[str, str] = {}
        self.acknowledged: list[str] = []
        self.finished: Counter[str] = Counter()
        self.claimed: Counter[str] = Counter()
        self.two_owners = 0
        self.unanswered = 0
        self.lost_claims = 0
        self.errors: list[BaseException] = []

    def run(self, *meanwhile: Callable[[], None]) -> None:
        """Create and finish every job; `meanwhile` runs beside it."""
        work = [self._create, lambda: self._work("worker-1"), lambda: self._work("worker-2"), *meanwhile]
        threads = [threading.Thread(target=self._guarded, args=(one,)) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.errors == []

    def wait_for(self, finished: int) -> None:
        """Return once so many jobs are finished."""
        while len(self.finished) < finished and time.monotonic() < self._ends_at:
            time.sleep(0.01)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a thread's failure must become the test's
            self.errors.append(error)

    @contextmanager
    def _store(self) -> Iterator[TursoJobStore]:
        store = TursoJobStore(Hrana(self._url, timeout=QUICK), patience_s=2.0)
        try:
            yield store
        finally:
            store.close()

    def _until_answered(self, ask):
        while True:
            try:
                return ask()
            except Unavailable:
                self.unanswered += 1
                if time.monotonic() > self._ends_at:
                    raise

    def _create(self) -> None:
        with self._store() as store:
            for _ in range(self._wanted):
                new = job()
                self._until_answered(lambda new=new: store.create([new]))
                self.acknowledged.append(new.id)

    def _work(self, name: str) -> None:
        worker = Worker(id=name, host="here", version="0", types=("ingest",), slots=1)
        with self._store() as store:
            while len(self.finished) < self._wanted:
                assert time.monotonic() < self._ends_at, "the jobs were not done in time"
                request = ClaimRequest(worker, new_id(), 90)
                owned = self._until_answered(lambda request=request: store.claim(request))
                while owned is not None:
                    owned = self._attempt(store, worker, owned)

    def _attempt(self, store: TursoJobStore, worker: Worker, owned: Job) -> Job | None:
        claim = owned.claim
        self._own(claim)
        if hash(owned.id) % 4 == 0:
            beat = Beat(claim, Progress("encoding", 1, 5, 1.0, 1, 2), (Line(1, "info", "log", "half way"),))
            self._until_answered(lambda: store.heartbeat(worker, [beat], lease_s=90))
        following = ClaimRequest(worker, new_id(), 90)
        self._disown(claim)
        try:
            done: Finished = self._until_answered(
                lambda: store.finish(claim, Outcome("completed", result={"media_ms": 10}), next=following)
            )
        except ClaimLost:
            self.lost_claims += 1
            return None
        with self._lock:
            self.finished[claim.job_id] += 1
        return done.next

    def _own(self, claim: Claim) -> None:
        with self._lock:
            self.claimed[claim.job_id] += 1
            self.two_owners += claim.job_id in self._owners
            self._owners[claim.job_id] = claim.worker_id

    def _disown(self, claim: Claim) -> None:
        with self._lock:
            self._owners.pop(claim.job_id, None)


@pytest.fixture
def server(tmp_path):
    """A server with an empty queue."""
    with Sqld(tmp_path / "sqld") as server:
        store = TursoJobStore(Hrana(server.url))
        store.migrate()
        store.close()
        yield server


def truth(server: Sqld) -> dict[str, int]:
    """What the database itself says, asked past the proxy."""
    store = TursoJobStore(Hrana(server.url))

    def number(text: str) -> int:
        return int(next(iter(store._read([Statement(text)])[0][0].values())))

    found = {
        "jobs": number("SELECT COUNT(*) FROM job"),
        "completed": number("SELECT COUNT(*) FROM job WHERE status = 'completed'"),
        "orphans": number("SELECT COUNT(*) FROM job WHERE completed_at IS NULL"),
        "failures": number("SELECT SUM(failures) FROM job"),
        "second attempts": number("SELECT SUM(attempt - 1) FROM job"),
        "completed twice": number(
            "SELECT COUNT(*) FROM (SELECT 1 FROM event WHERE kind = 'state' AND message = 'completed' "
            "GROUP BY job_id HAVING COUNT(*) > 1)"
        ),
        "lines twice": number(
            "SELECT COUNT(*) FROM (SELECT 1 FROM event WHERE line IS NOT NULL GROUP BY job_id HAVING COUNT(*) > 1)"
        ),
        "counted in the tally": number("SELECT SUM(jobs) FROM tally"),
    }
    store.close()
    return found


def nothing_lost(rig: Rig, server: Sqld, jobs: int) -> dict[str, int]:
    """The promises, checked against what the database says; returns it."""
    found = truth(server)
    assert len(rig.acknowledged) == jobs
    assert (rig.two_owners, rig.lost_claims) == (0, 0)
    assert set(rig.finished) == set(rig.acknowledged)
    assert set(rig.finished.values()) == {1}
    assert found == {
        "jobs": jobs,
        "completed": jobs,
        "orphans": 0,
        "failures": 0,
        "second attempts": 0,
        "completed twice": 0,
        "lines twice": 0,
        "counted in the tally": jobs,
    }
    return found


def test_random_faults_lose_and_double_nothing(server, record_property):
    """200 jobs through a proxy that spoils every seventh exchange, with a creator and two workers."""
    with Proxy(server.url, fault=Faults(SPOILED, seed=2026, often=4)) as proxy:
        rig = Rig(proxy.url, JOBS)
        began = time.monotonic()
        rig.run()
        took = time.monotonic() - began
    found = nothing_lost(rig, server, JOBS)
    kinds = ", ".join(f"{name} {times}" for name, times in sorted(proxy.faults.items()))
    record_property("figure", f"{JOBS} jobs, {proxy.requests} requests, {took:.0f} s; spoiled: {kinds}")
    record_property("figure", f"lost {JOBS - found['completed']}, two owners at once {rig.two_owners}, "
                    f"completed twice {found['completed twice']}, orphans {found['orphans']}")  # fmt: skip
    assert set(proxy.faults) == set(FAULTS), "every kind of fault came up"


def test_a_server_that_goes_and_comes_back_costs_no_job_a_failure(server, record_property):
    """Killed and restarted in the middle, then away for longer than one call's patience."""
    jobs = 200
    rig = Rig(server.url, jobs)

    def shake() -> None:
        rig.wait_for(jobs // 4)
        server.stop(signal.SIGKILL)
        server.start()
        rig.wait_for(jobs // 2)
        server.stop()
        already = rig.unanswered
        while rig.unanswered < already + 3 and not rig.errors:
            time.sleep(0.01)
        server.start()

    rig.run(shake)
    nothing_lost(rig, server, jobs)
    record_property("figure", f"{jobs} jobs, one restart, one outage: {rig.unanswered} calls unanswered, nothing lost")
