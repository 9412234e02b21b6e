"""What a libSQL provider bills: rows read and written per verb by the server's own count, at any depth of the queue."""

import re

import pytest
import urllib3

from shared.job import new_id
from shared.store.hrana import Hrana, Result
from shared.store.sql import Statement
from shared.store.turso import TursoJobStore
from shared.store.values import Admission, Beat, ClaimRequest, JobFilter, Worker
from shared.types import JOB_TYPES
from tests.contract.factory import DONE, OTHER, WORKER, claim, create, job
from tests.contract.test_bounds import FILL, PLANS
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

FINISHED = 100_000
DEPTHS = (0, 10, 1_000, 100_000)
#: It takes all that a worker does; parents without work of their own are never claimed.
EVERY = Worker(
    id="worker-c",
    host="here",
    version="0",
    types=tuple(name for name, kind in JOB_TYPES.items() if kind.stages),
    slots=4,
)


class Counted:
    """A queue on a real server that counts requests, rows read and rows written since the last `count`."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._results: list[Result] = []
        self.store = TursoJobStore(
            Hrana(proxy.url, timeout=urllib3.Timeout(connect=3, read=120)), on_result=self._results.append
        )
        self.waiting = 0

    def fill(self, waiting: int) -> None:
        """Let at least this many jobs wait, made by one statement."""
        missing = waiting - self.waiting
        if missing > 0:
            text = re.sub(r":status \|\| i", f"'waiting-{waiting}-' || i", FILL)
            self.store._run([Statement(text, {"count": missing, "status": "pending"})])
        self.waiting = max(waiting, self.waiting)

    def count(self, verb) -> tuple[int, int, int]:
        """What a verb costs: requests, rows read, rows written."""
        self._results.clear()
        before = self._proxy.requests
        verb()
        read, written = (sum(getattr(r, name) for r in self._results) for name in ("rows_read", "rows_written"))
        return self._proxy.requests - before, read, written


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """100,000 finished jobs, none that waits."""
    with Sqld(tmp_path_factory.mktemp("rows")) as server, Proxy(server.url) as proxy:
        counted = Counted(proxy)
        counted.store.migrate()
        counted.store._run([Statement(FILL, {"count": FINISHED, "status": "completed"})])
        yield counted
        counted.store.close()


@pytest.mark.parametrize("depth", DEPTHS)
def test_rows_and_requests_stay_within_their_bounds(counted, depth, record_property):
    """Every verb of a job's life is one request, and costs the same with 100,000 jobs before it as with none."""
    store = counted.store
    counted.fill(depth)
    costs = {}
    beat = [create(store, job(priority=1)) for _ in range(4)]
    first = []
    costs["create"] = counted.count(lambda: first.append(create(store, job(priority=2))))
    costs["poll, in line"] = counted.count(lambda: store.get(first[0].id))
    owned = []
    costs["claim, 1 type"] = counted.count(lambda: owned.append(claim(store)))
    costs["claim, all types"] = counted.count(lambda: owned.append(claim(store, EVERY)))
    owned += [claim(store) for _ in beat[1:]]
    mine = [job for job in owned if job.worker_id == WORKER.id]
    costs["poll"] = counted.count(lambda: store.get(mine[0].id))
    costs["heartbeat, 4 jobs"] = counted.count(
        lambda: store.heartbeat(WORKER, [Beat(one.claim) for one in mine], lease_s=90)
    )
    costs["control, 4 jobs"] = counted.count(lambda: store.control(WORKER.id))
    following = ClaimRequest(OTHER, new_id(), 90)
    finish = mine.pop().claim
    costs["finish and claim"] = counted.count(lambda: store.finish(finish, DONE, next=following))
    costs["finish"] = counted.count(lambda: store.finish(mine[-1].claim, DONE))
    costs["reap"] = counted.count(store.reap)
    costs["tend"] = counted.count(store.tend)
    for verb, (requests, read, written) in costs.items():
        record_property(
            "figure", f"{depth:>7,} waiting | {verb:17} | {requests} request | {read:2} read | {written} written"
        )
    assert {requests for requests, _, _ in costs.values()} == {1}
    read, written = ({verb: cost[place] for verb, cost in costs.items()} for place in (1, 2))
    assert read["claim, 1 type"] <= 3 * 1 + 3
    assert read["claim, all types"] <= 3 * len(EVERY.types) + 3
    assert read["poll"] <= 3
    assert read["poll, in line"] <= 4 * len(JOB_TYPES) + 5  # nothing is ahead of it
    assert read["control, 4 jobs"] <= 4 + 1
    assert written["heartbeat, 4 jobs"] <= 4 + 1
    assert read["heartbeat, 4 jobs"] <= 8 * 4 + 2
    assert read["finish"] <= 10
    assert read["reap"] <= 10
    assert read["tend"] <= 10
    limits = Admission("a caller", writes_per_minute=100_000, max_waiting=1_000_000)
    made = []
    charged = counted.count(lambda: made.append(store.admitting(limits).create([job(priority=-1)])[0]))
    record_property("figure", f"{depth:>7,} waiting | create, charged   | {charged} requests, read, written")
    assert charged[0] == 1
    assert charged[1] <= costs["create"][1] + 3
    assert charged[2] <= costs["create"][2] + 1
    store._run([Statement("DELETE FROM job WHERE id = :id", {"id": made[0].id})])
    for one in mine[:-1]:
        store.finish(one.claim, DONE)
    store._run([Statement("DELETE FROM job WHERE status = 'running'")])


def test_a_claim_of_steered_types_stays_within_the_same_bounds(counted, record_property):
    """With every type limited, and with all but one paused, a claim reads no more per type than it may."""
    store = counted.store
    counted.fill(1_000)
    for name in EVERY.types:
        store.steer(name, paused=False, max_running=100, limiting=True)
    owned = []
    costs = {"limited": counted.count(lambda: owned.append(claim(store, EVERY)))}
    for name in set(EVERY.types) - {"ingest"}:
        store.steer(name, paused=True, max_running=None, limiting=False)
    costs["paused"] = counted.count(lambda: owned.append(claim(store, EVERY)))
    for name in EVERY.types:
        store.steer(name, paused=False, max_running=None, limiting=True)
    for one in owned:
        store.finish(one.claim, DONE)
    for what, (requests, read, written) in costs.items():
        record_property("figure", f"claim, all types {what}: {requests} request, {read} read, {written} written")
        assert (requests, read <= 3 * len(EVERY.types) + 3) == (1, True)


def test_the_dashboards_first_view_reads_fewer_than_500_rows(counted, record_property):
    """Its two requests, as functions/dashboard/main.js makes them, with 1,000 waiting and 100,000 finished jobs."""
    store = counted.store
    counted.fill(1_000)
    costs = {
        "counts": counted.count(lambda: store.stats(count_to=100)),
        "list": counted.count(lambda: store.list(JobFilter(parent_id="none"), limit=25)),
    }
    for part, (requests, read, written) in costs.items():
        record_property("figure", f"first view, {part:6} | {requests} request | {read:3} read | {written} written")
        assert (requests, written) == (1, 0)
    assert sum(read for _, read, _ in costs.values()) < 500


@pytest.mark.parametrize("worker", [WORKER, EVERY], ids=["1 type", "all types"])
@pytest.mark.parametrize("scheduled", [0, 100])
def test_an_idle_poll_reads_one_row_per_type_and_two(tmp_path, worker, scheduled, record_property):
    """A worker that polls an empty queue once a second reads less than eight million rows a month."""
    with Sqld(tmp_path) as server, Proxy(server.url) as proxy:
        idle = Counted(proxy)
        idle.store.migrate()
        idle.store._run([Statement(FILL, {"count": 1_000, "status": "completed"})])
        for _ in range(scheduled):
            create(idle.store, job(run_at=2**50))
        requests, read, written = idle.count(lambda: claim(idle.store, worker))
        idle.store.close()
    types = len(worker.types)
    record_property("figure", f"idle poll, {types} type, {scheduled} scheduled: {read} read, {written} written")
    assert (requests, written) == (1, 0)
    assert read <= types + 2


def test_a_whole_life_writes_sixteen_rows(counted, record_property):
    """Created, claimed, one heartbeat, completed: the first job of a worker in the first hour of a type."""
    store = counted.store
    store._run([Statement("DELETE FROM tally"), Statement("DELETE FROM worker")])
    owned = []

    def life() -> None:
        create(store, job(priority=5))
        owned.append(claim(store))
        store.heartbeat(WORKER, [Beat(owned[0].claim)], lease_s=90)
        store.finish(owned[0].claim, DONE)

    requests, read, written = counted.count(life)
    record_property("figure", f"a whole life: {requests} requests, {read} rows read, {written} rows written")
    assert requests == 4
    assert written <= 16


@pytest.mark.parametrize("name", sorted(PLANS))
def test_no_statement_scans_jobs_or_events_on_the_server_either(counted, name):
    """The plans of test_bounds.py, as the server's own SQLite makes them."""
    parameters = dict.fromkeys(re.findall(r":([a-z0-9_]+)", PLANS[name]))
    plan = [
        row["detail"] for row in counted.store._read([Statement(f"EXPLAIN QUERY PLAN {PLANS[name]}", parameters)])[0]
    ]
    assert [step for step in plan if re.match(r"SCAN (job|event|[jqprc])\b(?!.*USING (COVERING )?INDEX)", step)] == []
