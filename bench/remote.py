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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import peers
from bench.answer import Answer, Figure, Goal
from bench.processes import ROOT
from shared.job import NewJob, Outcome, new_id
from shared.store.hrana import Hrana
from shared.store.turso import TursoJobStore
from shared.store.values import Beat, ClaimRequest, Worker
from shared.types import JOB_TYPES
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

CLIENTS = {
    "Spool": "",
    "libsql-client": peers.LIBSQL_CLIENT,
    "sqlalchemy-libsql": peers.SQLALCHEMY_LIBSQL,
    "sqlalchemy-libsql, autocommit": peers.SQLALCHEMY_LIBSQL,
}
#: Round-trip times in milliseconds: the same data centre, a near one, another continent.
DISTANCES_MS = (0, 20, 80)
NEAR_MS = 20
#: Lives in a run. What is far takes long and varies little, so it is done for few, and in one round.
JOBS = {0: 20, NEAR_MS: 10, 80: 4}
#: Of each client of the crowd, which is fast.
CROWD_JOBS = 30
#: A ten-minute recording takes a worker about so long.
RUNNING_S, HEARTBEAT_S, CONTROL_S, IDLE_POLL_S = 12.0, 5.0, 1.0, 2.0
#: What all workers do for all, each so often: look after leases, schedules and webhooks.
LEASE_S, DUTIES_S = 90.0, 15.0
#: What is asked for such a job in a second: its creation, its finish with the next claim, heartbeats, looks.
_LIFE_REQUESTS = 4
_REQUESTS_A_SECOND = 2 / RUNNING_S + 1 / HEARTBEAT_S + 1 / CONTROL_S
#: More writers at once, and sqld 0.24 can stop for good.
CROWD = 3
#: What a worker takes: all types but parents without work of their own, which nobody claims.
TAKEN = tuple(name for name, kind in JOB_TYPES.items() if kind.stages)
MONTHS_JOBS = (1_000, 100_000, 1_000_000)
_MONTH_S = 30 * 86_400


def answer(rounds: int) -> Answer:
    """Count and time; the best run of each client counts."""
    return measured(rounds, JOBS)


def smoke(rounds: int) -> Answer:
    """Spool's client alone, near and with few jobs."""
    return measured(rounds, {0: 3}, {"Spool": ""}, crowd=1)


def measured(rounds: int, jobs: Mapping[int, int], clients: Mapping[str, str] = CLIENTS, crowd: int = CROWD) -> Answer:
    """The answer from so many lives per run at each distance."""
    distances = tuple(jobs)
    found = Answer(
        "A job's whole life over a network: create, finish with the next claim, one heartbeat, one look for cancels",
        ("", "requests", *(f"jobs/s at {distance} ms" for distance in distances)),
    )
    rates: dict[str, list[float]] = {}
    requests: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as folder, Sqld(Path(folder)) as server:
        store = prepared(server.url)
        for distance in distances:
            best = dict.fromkeys(clients, 0.0)
            for _ in range(rounds if distance <= NEAR_MS else 1):
                for name in clients:
                    rate, requests[name] = run(name, server.url, distance, jobs[distance])
                    best[name] = max(best[name], rate)
            for name, rate in best.items():
                rates.setdefault(name, []).append(rate)
        rows = _rows(store)
        idle = _idle(store)
        together = crowded(server.url, crowd, CROWD_JOBS if clients is CLIENTS else min(jobs.values()))
        store.close()
    for name, each in rates.items():
        found.rows.append((name, f"{requests[name]:.1f}", *(f"{rate:,.1f}" for rate in each)))
    found.rows.append(
        (f"rows of a life of {RUNNING_S:.0f} s", f"{rows[0]:.0f} read, {rows[1]:.0f} written", *[""] * len(distances))
    )
    found.rows.append(("a worker that waits", f"{idle:,.0f} rows a month", *[""] * len(distances)))
    carried = together * _LIFE_REQUESTS / _REQUESTS_A_SECOND
    cells = (f"{together:,.0f} jobs/s", f"{carried:,.0f} workers")
    found.rows.append((f"{crowd} clients at one server", *cells, *[""] * (len(distances) - 1)))
    for count in MONTHS_JOBS:
        read, written = (count * each / 1e6 for each in rows)
        cells = (f"{read:,.2f} M rows read", f"{written:,.2f} M written")
        found.rows.append((f"{count:,} jobs a month", *cells, *[""] * (len(distances) - 1)))
    found.runs = {"rates": rates, "requests": requests, "rows": rows, "idle_rows_a_month": idle, "crowd": together}
    beside_looks = "requests of a life beside its heartbeat and its look"
    found.goals = [Goal(beside_looks, requests["Spool"] - 2, 3, "", counted=True)]
    if NEAR_MS in distances and "sqlalchemy-libsql" in rates:
        near = {name: each[distances.index(NEAR_MS)] for name, each in rates.items()}
        found.goals += [
            Goal(f"{name} at {NEAR_MS} ms, of Spool's rate", rate / near["Spool"], 0.25)
            for name, rate in near.items()
            if name.startswith("sqlalchemy-libsql")
        ]
        beside = "; ".join(f"{name} {rate:.1f}" for name, rate in near.items() if name != "Spool")
        found.figures.append(
            Figure(f"whole lives of jobs over {NEAR_MS} ms of network", f"{near['Spool']:.1f} jobs/s", beside)
        )
    found.figures.append(
        Figure(
            f"one job's life of {RUNNING_S:.0f} s on Turso",
            f"{rows[0]:.0f} rows read, {rows[1]:.0f} written",
            f"{RUNNING_S / HEARTBEAT_S:g} heartbeats and {RUNNING_S / CONTROL_S:g} looks for a cancel among them",
        )
    )
    found.figures += [
        Figure(
            f"one libSQL server, {crowd} clients at once",
            f"{together:,.0f} whole lives of jobs a second",
            f"carries about {carried:,.0f} workers with jobs of {RUNNING_S:.0f} s",
        ),
        Figure("an idle worker on Turso", f"{idle / 1e6:.1f} million rows read a month", "looks every 2 s"),
    ]
    return found


def prepared(url: str) -> TursoJobStore:
    """The queue on a new server."""
    store = TursoJobStore(Hrana(url))
    store.migrate()
    return store


def run(name: str, url: str, distance_ms: float, jobs: int) -> tuple[float, float]:
    """Jobs a second, and requests per job."""
    with Proxy(url, delay_s=distance_ms / 1000) as proxy, _errand(name, proxy.url, jobs) as errand:
        errand.ready()
        before = proxy.requests
        errand.begin()
        seconds = errand.seconds()
        return jobs / seconds, (proxy.requests - before) / jobs


def crowded(url: str, clients: int, jobs: int) -> float:
    """Jobs a second of so many clients of Spool's at once, each with as many jobs, straight at the server."""
    with ExitStack() as ended:
        errands = [ended.enter_context(_errand("Spool", url, jobs)) for _ in range(clients)]
        for errand in errands:
            errand.ready()
        for errand in errands:
            errand.begin()
        return clients * jobs / max(errand.seconds() for errand in errands)


class _Errand:
    """One client's process, which ends when it is left."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name, self._process = name, process

    def ready(self) -> None:
        """Wait until it has lived through its first life, which opens connections."""
        self._line()

    def begin(self) -> None:
        """Let it live through its lives."""
        self._say("go\n")

    def seconds(self) -> float:
        """How long they took."""
        seconds: float = json.loads(self._line())["seconds"]
        self._say("\n")
        if self._process.wait():
            raise RuntimeError(f"{self._name} ended with {self._process.returncode}")
        return seconds

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word)
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        return line


@contextmanager
def _errand(name: str, url: str, jobs: int) -> Iterator[_Errand]:
    python = peers.python_for(CLIENTS[name]) if CLIENTS[name] else Path(sys.executable)
    argv = [str(python), "-m", "bench.errand", name, url, str(jobs)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield _Errand(name, process)
        finally:
            process.kill()


def _rows(store: TursoJobStore) -> tuple[float, float]:
    """Rows read and written by one job that runs for a while, as a running worker's heartbeats and looks add to it."""
    worker = Worker(new_id(), "bench", "0", TAKEN, 1)

    def cost(work: object) -> tuple[int, int]:
        read, written = store.usage.rows_read, store.usage.rows_written
        assert callable(work)
        work()
        return store.usage.rows_read - read, store.usage.rows_written - written

    store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
    done, earlier = Outcome("completed", result={}), store.claim(ClaimRequest(worker, new_id(), LEASE_S))
    assert earlier is not None
    before = store.usage.rows_read, store.usage.rows_written
    store.create([NewJob(id=new_id(), type="ingest", params={"source": new_id()})])
    job = store.finish(earlier.claim, done, next=ClaimRequest(worker, new_id(), LEASE_S)).next
    assert job is not None
    beats = [cost(lambda: store.heartbeat(worker, [Beat(job.claim)], lease_s=LEASE_S)) for _ in range(2)][-1]
    looks = cost(lambda: store.control(worker.id))
    once = store.usage.rows_read - before[0], store.usage.rows_written - before[1]
    store.finish(job.claim, done)
    more_beats, more_looks = RUNNING_S / HEARTBEAT_S - 2, RUNNING_S / CONTROL_S - 1
    read, written = (once[at] + more_beats * beats[at] + more_looks * looks[at] for at in (0, 1))
    return read, written


def _idle(store: TursoJobStore) -> float:
    """Rows that a worker reads in a month in which nothing comes."""
    worker = Worker(new_id(), "bench", "0", TAKEN, 1)
    while store.claim(ClaimRequest(worker, new_id(), LEASE_S)) is not None:
        pass
    before = store.usage.rows_read
    store.claim(ClaimRequest(worker, new_id(), LEASE_S))
    look = store.usage.rows_read - before
    store.tend()
    store.reap()
    store.schedules()
    store.claim_webhooks(limit=1, lease_s=60)
    duties = store.usage.rows_read - before - look
    return (look / IDLE_POLL_S + duties / DUTIES_S) * _MONTH_S
