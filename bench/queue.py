"""How many jobs a second go through the queue, and does a job cost the same whatever else is in it?

One process, then four, take turns with the peers on fresh files, each with every commit on disk (FULL) and with the
last ones at risk in a power cut (NORMAL). Then Spool alone: queues that are deep, and queues with a long past.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.answer import Answer, Figure, Goal
from bench.peers import node_home
from bench.processes import Done, together
from bench.sides import SIDES, Side, Synchronous
from shared.job import NewJob, Outcome, Status, new_id
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.values import ClaimRequest, Worker

PROCESSES = 4
#: Jobs per run: enough for seconds, few enough for slow disks.
JOBS: dict[Synchronous, int] = {"FULL": 500, "NORMAL": 2_000}
#: What lies in a queue beside the jobs that are timed: waiting, and finished.
FILLS = ((10, 0), (1_000, 0), (100_000, 0), (10, 100_000))
LONG_FILLS = (*FILLS, (1_000_000, 0), (10, 1_000_000))
_SAMPLE, _AT_ONCE = 500, 25


@dataclass(frozen=True)
class Rates:
    """Jobs a second of one side."""

    put: float
    drain: float
    #: By all processes together, and by each.
    shared: Done | None


def answer(rounds: int) -> Answer:
    """Compare; the best run of each side counts. Several processes of a peer run once, of Spool in each round."""
    return _answer(rounds, JOBS, FILLS)


def long_answer(rounds: int) -> Answer:
    """The same with a million jobs waiting, and with a million done."""
    return _answer(rounds, JOBS, LONG_FILLS)


def smoke(rounds: int) -> Answer:
    """Without the peers, and with few jobs: does every process do what it says?"""
    return _answer(rounds, {"NORMAL": 60}, ((10, 0), (100, 100)), [name for name, side in SIDES.items() if _ours(side)])


def _ours(side: Side) -> bool:
    return not (side.package or side.script)


def _answer(
    rounds: int, jobs: dict[Synchronous, int], fills: tuple[tuple[int, int], ...], sides: Sequence[str] = ()
) -> Answer:
    sides = sides or [name for name, side in SIDES.items() if not side.script or node_home()]
    found = Answer(
        f"Jobs a second through a queue in one SQLite file, by one process and by {PROCESSES}",
        ("", "put", "take and finish", "x by hand", f"by {PROCESSES}", "max/min", "what a job gets"),
    )
    for synchronous, count in jobs.items():
        runs: dict[str, list[Rates]] = {name: [] for name in sides}
        for number in range(rounds):
            for name in sides:
                runs[name].append(_rates(name, synchronous, count, crowd=number == 0 or name == "Spool"))
        best = {name: _best(each) for name, each in runs.items()}
        found.rows.append((f"synchronous = {synchronous}", *[""] * (len(found.columns) - 1)))
        found.rows += [_row(name, best) for name in sides]
        found.goals += _goals(synchronous, best)
        found.figures.append(_figure(synchronous, best))
        found.runs[synchronous] = {
            name: [{"put": each.put, "drain": each.drain, "shared": each.shared and each.shared.jobs} for each in rates]
            for name, rates in runs.items()
        }
    found.rows.append(("Spool alone, NORMAL", *[""] * (len(found.columns) - 1)))
    costs = costs_ms(fills)
    for (waiting, done), cost in costs.items():
        cells = (f"{1000 / cost:,.0f}", "", "", "", f"{cost:.3f} ms of CPU a job")
        found.rows.append((f"  {waiting:,} waiting, {done:,} done", "", *cells))
    found.runs["cost_ms"] = {str(fill): cost for fill, cost in costs.items()}
    dearest = max(costs.values()) / costs[fills[0]]
    found.goals.append(Goal("the dearest job, of one in a queue of ten", dearest, 1.1))
    deepest, longest = (max(fill[place] for fill in fills) for place in (0, 1))
    found.figures.append(
        Figure(
            f"a job in a queue of {deepest:,}, or with {longest:,} done, beside one in a queue of {fills[0][0]}",
            f"{dearest:.2f}x the CPU",
            "1.1x at most",
        )
    )
    return found


def _best(runs: Sequence[Rates]) -> Rates:
    """What each verb reached at its best."""
    shared = [rates.shared for rates in runs if rates.shared]
    most = max(shared, key=lambda done: done.rate) if shared else None
    return Rates(max(rates.put for rates in runs), max(rates.drain for rates in runs), most)


def _rates(side: str, synchronous: Synchronous, count: int, *, crowd: bool) -> Rates:
    """One run; with a `crowd`, of several processes as well, whose starts take most of a comparison's time."""
    shared = None
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
        path = Path(folder) / "queue.db"
        put = together(side, "put", path, synchronous=synchronous, count=count)
        drain = together(side, "drain", path, synchronous=synchronous, count=count)
        if drain.jobs != (count,):
            raise RuntimeError(f"{side} was given {count} jobs and did {drain.jobs[0]}")
    if crowd and SIDES[side].processes:
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


def _figure(synchronous: Synchronous, best: dict[str, Rates]) -> Figure:
    beside = [name for name in best if name != "Spool"]
    return Figure(
        f"claim and finish, SQLite with synchronous = {synchronous}",
        f"{best['Spool'].drain:,.0f} jobs/s",
        "; ".join(f"{name} {best[name].drain:,.0f}" for name in beside),
    )


def _goals(synchronous: Synchronous, best: dict[str, Rates]) -> list[Goal]:
    ours = best["Spool"]
    assert ours.shared is not None
    rivals = {
        "SQLite by hand": ([best["sqlite3 by hand"].drain], 2.0),
        "the fastest Python peer that keeps what it takes": (_python(best, keeps=True), 1 / 1.5),
        "the fastest that deletes what it takes": (_python(best, keeps=False), 1 / 1.5),
    }
    unfair = max(ours.shared.jobs) / max(1, min(ours.shared.jobs))
    return [
        *(
            Goal(f"{synchronous}: {who}, of Spool's rate", max(rates) / ours.drain, most)
            for who, (rates, most) in rivals.items()
            if rates
        ),
        Goal(f"{synchronous}: the busiest process, of the idlest one's jobs", unfair, 2.0),
    ]


def _python(best: dict[str, Rates], *, keeps: bool) -> list[float]:
    return [rates.drain for name, rates in best.items() if SIDES[name].package and SIDES[name].keeps is keeps]


def costs_ms(fills: Sequence[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """Milliseconds of CPU to take and finish one job beside so many others; the queues take turns, medians count."""
    worker = Worker(new_id(), "bench", "0", ("ingest",), 1)
    spent: dict[tuple[int, int], list[float]] = {each: [] for each in fills}
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder:
        stores = {each: LocalJobStore(Path(folder) / f"{each[0]}-{each[1]}.db") for each in fills}
        for (waiting, done), store in stores.items():
            store.migrate()
            fill(store, waiting + _SAMPLE, done)
            with store._connection() as connection:
                connection.execute("PRAGMA synchronous = NORMAL")
        for _ in range(_SAMPLE // _AT_ONCE):
            for each, store in stores.items():
                began = time.process_time()
                _work(store, worker, _AT_ONCE)
                spent[each].append(1000 * (time.process_time() - began) / _AT_ONCE)
        for store in stores.values():
            store.close()
    return {each: statistics.median(sample) for each, sample in spent.items()}


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
