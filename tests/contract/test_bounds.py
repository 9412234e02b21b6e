"""What each verb costs, by count: round trips, query plans, and work that does not grow with the queue."""

import pkgutil
import re
import sqlite3
from importlib import import_module

import pytest

from shared.job import Status, new_id
from shared.store import statements
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.statements import creation, families, integrity, owners, reading
from shared.store.values import Beat, ClaimRequest, JobFilter
from tests.contract.factory import DONE, WORKER, claim, create, job, running

TRIPS = {
    "create": lambda store, owned: store.create([job(idempotency_key="k", request_hash="h")]),
    "get": lambda store, owned: store.get(owned.id),
    "list": lambda store, owned: store.list(JobFilter(status=Status.FAILED), limit=50),
    "cancel": lambda store, owned: store.cancel(owned.id),
    "events": lambda store, owned: store.events(owned.id),
    "stats": lambda store, owned: store.stats(),
    "heartbeat": lambda store, owned: store.heartbeat(WORKER, [Beat(owned.claim)], lease_s=90),
    "control": lambda store, owned: store.control(WORKER.id),
    "finish and claim": lambda store, owned: store.finish(owned.claim, DONE, next=ClaimRequest(WORKER, "n", 90)),
    "release": lambda store, owned: store.release(owned.claim),
    "sources": lambda store, owned: store.sources([new_id()] * 16, [new_id()] * 16, child_keys=["a"]),
    "inputs": lambda store, owned: store.inputs(owned.claim, [new_id()], ["a", "b"]),
    "reap": lambda store, owned: store.reap(),
}


@pytest.mark.parametrize("verb", TRIPS)
def test_each_verb_is_one_round_trip(store, counting, verb):
    """Batches, not conversations."""
    owned = running(store)
    create(store)
    counting.trips = 0
    TRIPS[verb](store, owned)
    assert counting.trips == 1


def test_a_claim_is_one_round_trip_and_a_local_look(store, counting):
    """The local adapter looks before it takes the write lock; an idle look writes nothing."""
    create(store)
    counting.trips = 0
    assert claim(store) is not None
    assert counting.trips == (2 if isinstance(store, LocalJobStore) else 1)
    counting.trips = 0
    assert claim(store) is None
    assert counting.trips == 1


FILL = """
INSERT INTO job (id, type, status, priority, depth, params, outputs, attempt, failures, max_failures, timeout_s,
  last_line, created_at, updated_at, completed_at, caller, tags, on_child_failure, own_work, open_phase, stopping,
  children_total, children_done, children_failed, pre_left, core_left, post_left)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
SELECT :status || i, 'ingest', :status, 0, 0, '{}', '[]', 0, 0, 2, 60, 0, i, i,
  CASE WHEN :status = 'completed' THEN i END, 'local', '[]', 'fail', 1, -1, 0, 0, 0, 0, 0, 0, 0 FROM n
"""


def _filled(path, finished: int, waiting: int) -> LocalJobStore:
    store = LocalJobStore(path)
    store.migrate()
    store._run([Statement(FILL, {"count": finished, "status": "completed"})])
    store._run([Statement(FILL, {"count": waiting, "status": "pending"})])
    return store


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """100,000 finished and 10,000 waiting jobs."""
    store = _filled(tmp_path_factory.mktemp("deep") / "spool.db", 100_000, 10_000)
    yield store
    store.close()


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """2,100 finished and 2,100 waiting jobs: enough to fill every page and window of the answers."""
    store = _filled(tmp_path_factory.mktemp("shallow") / "spool.db", 2_100, 2_100)
    yield store
    store.close()


PLANS = {
    f"{module.name} {name}": text
    for module in pkgutil.iter_modules(statements.__path__)
    for name, text in vars(import_module(f"{statements.__name__}.{module.name}")).items()
    if isinstance(text, str) and not name.startswith("_") and re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT|WITH)\b", text)
}
PLANS |= {f"integrity {number}": text for number, text in enumerate(integrity.CHECKS)}
PLANS |= {f"reading LIST {window}": text for window, text in reading.LIST.items()}


@pytest.mark.parametrize("name", sorted(PLANS))
def test_no_statement_scans_jobs_or_events(deep, name):
    """With 100,000 finished and 10,000 waiting jobs, every plan searches, or scans a small partial index."""
    with deep._connection() as connection:
        parameters = dict.fromkeys(re.findall(r":([a-z0-9_]+)", PLANS[name]))
        plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {PLANS[name]}", parameters)]
    scans = [step for step in plan if re.match(r"SCAN (job|event|[jqprc])\b(?!.*USING (COVERING )?INDEX)", step)]
    assert scans == []
    unnamed = [
        step
        for step in plan
        if step.startswith("USE TEMP B-TREE") and "ORDER BY" not in step and "GROUP BY" not in step
    ]
    assert unnamed == []


def _steps(store: LocalJobStore, verb) -> int:
    """How many instructions of SQLite's virtual machine a verb takes, to the hundred."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection = store._idle[-1]
    connection.set_progress_handler(step, 100)
    try:
        verb(store)
    finally:
        connection.set_progress_handler(None, 0)
    return taken


def _lifecycle(store):
    owned = store.claim(ClaimRequest(WORKER, new_id(), 90))
    store.heartbeat(WORKER, [Beat(owned.claim)], lease_s=90)
    store.control(WORKER.id)
    store.finish(owned.claim, DONE)


WORK = {
    "create": lambda store: store.create([job()]),
    "get a waiting job": lambda store: store.get("pending110"),
    "get a finished job": lambda store: store.get("completed50"),
    "list": lambda store: store.list(JobFilter(), limit=50),
    "list waiting": lambda store: store.list(JobFilter(status=Status.PENDING), limit=50),
    "list running": lambda store: store.list(JobFilter(status=Status.RUNNING), limit=50),
    "list failed": lambda store: store.list(JobFilter(status=Status.FAILED), limit=50),
    "claim, beat, control, finish": _lifecycle,
    "sources": lambda store: store.sources([new_id() for _ in range(16)], [new_id() for _ in range(16)]),
    "reap": lambda store: store.reap(),
    "tend": lambda store: store.tend(),
    "prunable": lambda store: store.prunable(older_than_s=10**12, limit=50),
}


@pytest.mark.parametrize("verb", WORK)
def test_work_does_not_grow_with_the_queue(deep, shallow, verb):
    """The same verb takes about the same number of SQLite's instructions in a queue fifty times as deep."""
    few, many = _steps(shallow, WORK[verb]), _steps(deep, WORK[verb])
    assert many <= 1.3 * few + 5


def test_a_job_without_a_family_pays_one_look_for_families(tmp_path):
    """Finish and claim ask once whether a family owes something, and run none of the twelve statements then."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    owned = running(store)
    create(store)
    said: list[str] = []
    store._idle[-1].set_trace_callback(said.append)
    store.finish(owned.claim, DONE, next=ClaimRequest(WORKER, new_id(), 90))
    store._idle[-1].set_trace_callback(None)
    store.close()
    assert said.count(families.OWED) == 1
    assert [text for text in said if text.startswith((families.CASCADE, families.ADVANCE, families.SETTLE))] == []


HOT = {"create": creation.INSERT, "claim": owners.CLAIM, "finish": owners.FINISH, "promote": owners.PROMOTE_NEXT}
#: What fires with every creation and every move; the other triggers look at a column of the job first.
ALWAYS = ("job_created", "job_create_refused", "job_moved", "job_ended", "job_move_refused", "job_running_counted")


@pytest.mark.parametrize("verb", HOT)
def test_what_fires_with_every_move_builds_no_table(shallow, verb):
    """For a list of more than two values SQLite builds a table each time that a trigger comes to it."""
    with shallow._connection() as connection:
        parameters = dict.fromkeys(re.findall(r":([a-z0-9_]+)", HOT[verb]))
        steps = [(row["opcode"], row["p4"]) for row in connection.execute(f"EXPLAIN {HOT[verb]}", parameters)]
    built: list[str] = []
    seen: set[str] = set()
    trigger = ""
    for opcode, about in steps:
        if opcode == "Init":
            trigger = (about or "").removeprefix("-- TRIGGER ")
            seen.add(trigger)
        elif opcode == "OpenEphemeral":
            built.append(trigger)
    assert seen & set(ALWAYS)
    assert not set(built) & set(ALWAYS)


def test_a_column_that_comes_while_a_process_runs_is_read_as_itself(tmp_path):
    """A newer release may migrate the database under a process that has read a job before."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    made = create(store)
    assert store.cancel(made.id).status == "cancelled"
    store._run([Statement("ALTER TABLE job ADD COLUMN newer TEXT DEFAULT 'new'")])
    assert store.cancel(made.id) == store.get(made.id)
    assert store._read([Statement(reading.ROW, {"id": made.id})])[0][0]["newer"] == "new"
    store.close()


def test_the_step_counter_sees_a_scan(deep, shallow):
    """The measure itself: a query that scans takes many times the steps."""

    def scan(store):
        return store._read([Statement("SELECT COUNT(*) FROM job WHERE params = 'x'")])

    assert _steps(deep, scan) > 20 * _steps(shallow, scan)


def test_a_finished_job_has_left_every_partial_index_but_its_own(tmp_path):
    """Indexes stay small: a completed row is in none of the queue's."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    store.finish(running(store).claim, DONE)
    store.close()
    connection = sqlite3.connect(tmp_path / "spool.db")
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name LIKE 'job_%'")
    sizes = {}
    for name, text in indexes.fetchall():
        where = text.partition(" WHERE ")[2]
        sizes[name] = connection.execute(f"SELECT COUNT(*) FROM job INDEXED BY {name} WHERE {where}").fetchone()[0]
    connection.close()
    assert {name for name, rows in sizes.items() if rows} == {"job_claim"}
