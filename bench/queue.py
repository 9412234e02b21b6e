"""How many jobs a second go through the queue, and does a job cost the same whatever else is in it?

One process, then four, take turns with the peers on fresh files, each with every commit on disk (FULL) and with the
last ones at risk in a power cut (NORMAL). Then Spool alone: queues that are deep, and queues with a long past.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.answer import Answer, Goal
from bench.processes import Done, together
from bench.sides import SIDES, Synchronous
from shared.job import NewJob, Outcome, Status, new_id
from shared.store.local import LocalJobStore
from shared.store.protocol import ClaimRequest, Worker
from shared.store.sql import Statement

PROCESSES = 4
#: Jobs per run: enough for seconds, few enough for slow disks.
JOBS: dict[Synchronous, int] = {"FULL": 1_000, "NORMAL": 4_000}
#: What lies in a queue beside the jobs that are timed: waiting, and finished.
FILLS = ((10, 0), (1_000, 0), (100_000, 0), (10, 100_000))
LONG_FILLS = (*FILLS, (1_000_000, 0), (10, 1_000_000))
_SAMPLE, _AT_ONCE = 400, 50


@dataclass(frozen=True)
class Rates:
    """Jobs a second of one side."""

    put: float
    drain: float
    #: By all processes together, and by each.
    shared: Done | None


def answer(rounds: int) -> Answer:
    """Compare; the best run of each side counts."""
    return _answer(rounds, JOBS, FILLS)


def long_answer(rounds: int) -> Answer:
    """The same with a million jobs waiting, and with a million done."""
    return _answer(rounds, JOBS, LONG_FILLS)


def _answer(rounds: int, jobs: dict[Synchronous, int], fills: tuple[tuple[int, int], ...]) -> Answer:
    found = Answer(
        f"Jobs a second through a queue in one SQLite file, by one process and by {PROCESSES}",
        ("", "put", "take and finish", "x by hand", f"by {PROCESSES}", "max/min", "what a job gets"),
    )
    for synchronous, count in jobs.items():
        runs: dict[str, list[Rates]] = {name: [] for name in SIDES}
        for _ in range(rounds):
            for name in SIDES:
                runs[name].append(_rates(name, synchronous, count))
        best = {name: max(each, key=lambda rates: rates.drain) for name, each in runs.items()}
        found.rows.append((f"synchronous = {synchronous}", *[""] * (len(found.columns) - 1)))
        found.rows += [_row(name, best) for name in SIDES]
        found.goals += _goals(synchronous, best)
        found.runs[synchronous] = {
            name: [{"put": each.put, "drain": each.drain, "shared": each.shared and each.shared.jobs} for each in rates]
            for name, rates in runs.items()
        }
    found.rows.append(("Spool alone, NORMAL", *[""] * (len(found.columns) - 1)))
    costs = [_cost_ms(waiting, done) for waiting, done in fills]
    for (waiting, done), cost in zip(fills, costs, strict=True):
        cells = ("", f"{1000 / cost:,.0f}", "", "", "", f"{cost:.3f} ms a job")
        found.rows.append((f"  {waiting:,} waiting, {done:,} done", *cells))
    found.runs["cost_ms"] = dict(zip(map(str, fills), costs, strict=True))
    found.goals.append(Goal("the dearest job, of one in a queue of ten", max(costs) / costs[0], 1.1))
    return found


def _rates(side: str, synchronous: Synchronous, count: int) -> Rates:
    shared = None
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
        path = Path(folder) / "queue.db"
        put = together(side, "put", path, synchronous=synchronous, count=count)
        drain = together(side, "drain", path, synchronous=synchronous, count=count)
        if drain.jobs != (count,):
            raise RuntimeError(f"{side} was given {count} jobs and did {drain.jobs[0]}")
    if SIDES[side].processes:
        with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
            path = Path(folder) / "queue.db"
            together(side, "put", path, synchronous=synchronous, count=count)
            shared = together(side, "drain", path, synchronous=synchronous, count=count, processes=PROCESSES)
            if sum(shared.jobs) != count:
                raise RuntimeError(f"{side} was given {count} jobs and {PROCESSES} processes did {shared.jobs}")
    return Rates(put.rate, drain.rate, shared)


def _row(name: str, best: dict[str, Rates]) -> tuple[str, ...]:
    rates, shared = best[name], best[name].shared
    return (
        f"  {name}",
        *(f"{rates.put:,.0f}", f"{rates.drain:,.0f}", f"{rates.drain / next(iter(best.values())).drain:.2f}"),
        *((f"{shared.rate:,.0f}", _fairness(shared)) if shared else ("", "")),
        SIDES[name].gives,
    )


def _fairness(shared: Done) -> str:
    return f"{max(shared.jobs) / min(shared.jobs):.1f}" if min(shared.jobs) else f"{max(shared.jobs)}/0"


def _goals(synchronous: Synchronous, best: dict[str, Rates]) -> list[Goal]:
    ours, ceiling = best["Spool"], best["sqlite3 by hand"]
    peers = max(rates.drain for name, rates in best.items() if SIDES[name].package)
    assert ours.shared is not None
    unfair = max(ours.shared.jobs) / max(1, min(ours.shared.jobs))
    return [
        Goal(f"{synchronous}: SQLite by hand, of Spool's rate", ceiling.drain / ours.drain, 2.0),
        Goal(f"{synchronous}: the fastest peer, of Spool's rate", peers / ours.drain, 1 / 1.5),
        Goal(f"{synchronous}: the busiest process, of the idlest one's jobs", unfair, 2.0),
    ]


def _cost_ms(waiting: int, done: int) -> float:
    """Milliseconds to take and finish one job, as the median of groups, in a queue that holds so many others."""
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
        store = LocalJobStore(Path(folder) / "queue.db")
        store.migrate()
        fill(store, waiting + _SAMPLE, done)
        worker = Worker(new_id(), "bench", "0", ("ingest",), 1)
        with store._connection() as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
        costs = [_timed(lambda: _work(store, worker, _AT_ONCE)) / _AT_ONCE for _ in range(_SAMPLE // _AT_ONCE)]
        store.close()
    return 1000 * statistics.median(costs)


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _work(store: LocalJobStore, worker: Worker, jobs: int) -> None:
    outcome = Outcome("completed", result={})
    for _ in range(jobs):
        job = store.claim(ClaimRequest(worker, new_id(), 90))
        assert job is not None
        store.finish(job.claim, outcome)


def fill(store: LocalJobStore, waiting: int, done: int) -> None:
    """Copies of one job that waits, and of one that is done; the jobs only, without their history."""
    for status, count in ((Status.COMPLETED, done), (Status.PENDING, waiting)):
        if not count:
            continue
        job, _ = store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
        if status is Status.COMPLETED:
            _work(store, Worker(new_id(), "bench", "0", ("ingest",), 1), 1)
        columns = [row["name"] for row in store._read([Statement("PRAGMA table_info(job)")])[0]]
        copied = ", ".join(name for name in columns if name not in {"seq", "id", "claim_token"})
        text = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) "  # noqa: S608 - the schema's names
            f"INSERT INTO job (id, {copied}) SELECT :id || '-' || i, {copied} FROM n, job WHERE id = :id"
        )
        store._run([Statement(text, {"id": job.id, "count": count - 1})])
