"""What does a job cost over a network: round trips, rows, and jobs a second at three distances?

A real libSQL server behind a proxy that makes every request wait. Spool's client and two published ones see jobs
through their lives; requests are counted by the proxy, rows by the server. The bill is counted as well: what so many
jobs read and write in a month, and what a worker reads that only waits.
"""

from __future__ import annotations

import json
import subprocess  # noqa: TID251 - the clients are processes
import sys
import tempfile
from pathlib import Path

from bench import peers
from bench.answer import Answer, Goal
from bench.processes import ROOT
from shared.job import NewJob, Outcome, new_id
from shared.store.hrana import Hrana
from shared.store.protocol import Beat, ClaimRequest, Worker
from shared.store.turso import TursoJobStore
from shared.types import JOB_TYPES
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

CLIENTS = {"Spool": "", "libsql-client": peers.LIBSQL_CLIENT, "sqlalchemy-libsql": peers.SQLALCHEMY_LIBSQL}
#: Round-trip times in milliseconds: the same data centre, a near one, another continent.
DISTANCES_MS = (0, 20, 80)
JOBS = 30
#: A ten-minute recording takes a worker about so long.
RUNNING_S, HEARTBEAT_S, CONTROL_S, IDLE_POLL_S = 12.0, 5.0, 1.0, 2.0
MONTHS_JOBS = (1_000, 100_000, 1_000_000)
_MONTH_S = 30 * 86_400


def answer(rounds: int) -> Answer:
    """Count and time; the best run of each client counts."""
    return measured(rounds, JOBS)


def measured(rounds: int, jobs: int) -> Answer:
    """The answer from so many jobs per run."""
    found = Answer(
        "A job's whole life over a network: create, claim, one heartbeat, one look for cancels, finish",
        ("", "requests", *(f"jobs/s at {distance} ms" for distance in DISTANCES_MS)),
    )
    rates: dict[str, list[float]] = {}
    requests: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder, Sqld(Path(folder)) as server:
        store = prepared(server.url)
        for distance in DISTANCES_MS:
            best = dict.fromkeys(CLIENTS, 0.0)
            for _ in range(rounds):
                for name in CLIENTS:
                    rate, requests[name] = run(name, server.url, distance, jobs)
                    best[name] = max(best[name], rate)
            for name, rate in best.items():
                rates.setdefault(name, []).append(rate)
        rows = _rows(store)
        idle = _idle(store)
        store.close()
    for name, each in rates.items():
        found.rows.append((name, f"{requests[name]:.1f}", *(f"{rate:,.1f}" for rate in each)))
    found.rows.append(("rows of a life", f"{rows[0]:.0f} read, {rows[1]:.0f} written", *[""] * len(DISTANCES_MS)))
    found.rows.append(("a worker that waits", f"{idle:,.0f} rows a month", *[""] * len(DISTANCES_MS)))
    for count in MONTHS_JOBS:
        read, written = (count * each / 1e6 for each in rows)
        cells = (f"{read:,.2f} M rows read", f"{written:,.2f} M written")
        found.rows.append((f"{count:,} jobs a month", *cells, *[""] * (len(DISTANCES_MS) - 1)))
    found.runs = {"rates": rates, "requests": requests, "rows": rows, "idle_rows_a_month": idle}
    near = DISTANCES_MS.index(20)
    found.goals = [
        Goal("requests of a life beside its heartbeat and its look", requests["Spool"] - 2, 3, ""),
        Goal(
            "sqlalchemy-libsql at 20 ms, of Spool's rate", rates["sqlalchemy-libsql"][near] / rates["Spool"][near], 0.25
        ),
    ]
    return found


def prepared(url: str) -> TursoJobStore:
    """The queue on a new server."""
    store = TursoJobStore(Hrana(url))
    store.migrate()
    return store


def run(name: str, url: str, distance_ms: float, jobs: int) -> tuple[float, float]:
    """Jobs a second, and requests per job."""
    python = peers.python_for(CLIENTS[name]) if CLIENTS[name] else Path(sys.executable)
    with Proxy(url, delay_s=distance_ms / 1000) as proxy:
        client = subprocess.Popen(
            [str(python), "-m", "bench.errand", name, proxy.url, str(jobs)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdout.readline()
        before = proxy.requests
        client.stdin.write("go\n")
        client.stdin.flush()
        said = client.stdout.readline()
        asked = proxy.requests - before
        client.communicate("\n")
    if client.returncode:
        raise RuntimeError(f"{name} ended with {client.returncode}")
    return jobs / json.loads(said)["seconds"], asked / jobs


def _rows(store: TursoJobStore) -> tuple[float, float]:
    """Rows read and written by one job that runs for a while, as a running worker's heartbeats and looks add to it."""
    worker = Worker(new_id(), "bench", "0", tuple(JOB_TYPES), 1)

    def cost(work: object) -> tuple[int, int]:
        read, written = store.usage.rows_read, store.usage.rows_written
        assert callable(work)
        work()
        return store.usage.rows_read - read, store.usage.rows_written - written

    store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
    before = store.usage.rows_read, store.usage.rows_written
    store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
    job = store.claim(ClaimRequest(worker, new_id(), 90))
    assert job is not None
    beats = [cost(lambda: store.heartbeat(worker, [Beat(job.claim)], lease_s=90)) for _ in range(2)][-1]
    looks = cost(lambda: store.control(worker.id))
    store.finish(job.claim, Outcome("completed", result={}))
    once = store.usage.rows_read - before[0], store.usage.rows_written - before[1]
    more_beats, more_looks = RUNNING_S / HEARTBEAT_S - 2, RUNNING_S / CONTROL_S - 1
    read, written = (once[at] + more_beats * beats[at] + more_looks * looks[at] for at in (0, 1))
    return read, written


def _idle(store: TursoJobStore) -> float:
    """Rows that a worker reads in a month in which nothing comes."""
    worker = Worker(new_id(), "bench", "0", tuple(JOB_TYPES), 1)
    while store.claim(ClaimRequest(worker, new_id(), 90)) is not None:
        pass
    before = store.usage.rows_read
    store.claim(ClaimRequest(worker, new_id(), 90))
    return (store.usage.rows_read - before) * _MONTH_S / IDLE_POLL_S
