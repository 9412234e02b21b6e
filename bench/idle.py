"""What does a worker cost that has nothing to do: memory, CPU, and what it asks of its database?

A real worker process on an empty queue in a SQLite file, then on a libSQL server: it starts, rests until it has said
that it is there, and is watched from outside.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.answer import Answer, Figure, Goal
from bench.latency import worker_on
from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.store.turso import TursoJobStore
from tests.real.proxy import Proxy
from tests.real.sqld import Sqld

WATCHED_S = 18.0
MOST_MB, MOST_CPU = 80.0, 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Rest:
    """Resident megabytes, percent of one core, and requests to the database a minute."""

    megabytes: float
    cpu: float
    requests: float | None


def answer(rounds: int) -> Answer:
    """Watch each for a third of a minute, whatever the rounds."""
    return measured(WATCHED_S)


def smoke(rounds: int) -> Answer:
    """Watch for a moment."""
    return measured(float(rounds))


def measured(seconds: float) -> Answer:
    """The answer from so long a look at each."""
    found = Answer("A worker that has nothing to do", ("", "MB", "% of a core", "requests a minute"))
    for place in ("a SQLite file", "a libSQL server"):
        with tempfile.TemporaryDirectory() as folder, _database(Path(folder), place) as (store, url, proxy):
            rest = _watched(Path(folder), store, url, proxy, seconds)
        requests = "" if rest.requests is None else f"{rest.requests:.0f}"
        found.rows.append((f"on {place}", f"{rest.megabytes:.0f}", f"{rest.cpu:.2f}", requests))
        found.goals += [
            Goal(f"memory on {place}", rest.megabytes, MOST_MB, " MB"),
            Goal(f"CPU on {place}", rest.cpu, MOST_CPU, " %"),
        ]
        measured = f"{rest.megabytes:.0f} MB, {rest.cpu:.1f} % of a core"
        found.figures.append(Figure(f"an idle worker on {place}", measured, "80 MB and 1 % at most"))
        found.runs[place] = {"megabytes": rest.megabytes, "cpu": rest.cpu, "requests": rest.requests}
    return found


@contextmanager
def _database(folder: Path, place: str) -> Iterator[tuple[SqlJobStore, str, Proxy | None]]:
    if place == "a SQLite file":
        store: SqlJobStore = LocalJobStore(folder / "spool.db")
        store.migrate()
        yield store, f"sqlite:///{folder}/spool.db", None
        store.close()
        return
    with Sqld(folder / "sqld") as server, Proxy(server.url) as proxy:
        store = TursoJobStore(Hrana(server.url))
        store.migrate()
        yield store, proxy.url, proxy
        store.close()


def _watched(folder: Path, store: SqlJobStore, url: str, proxy: Proxy | None, seconds: float) -> Rest:
    with worker_on(folder, url) as worker:
        while not store.stats().workers:
            time.sleep(0.1)
        used, asked, began = _cpu_s(worker.pid), proxy.requests if proxy else 0, time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        cpu = 100 * (_cpu_s(worker.pid) - used) / took
        requests = 60 * (proxy.requests - asked) / took if proxy else None
        return Rest(memory_mb(worker.pid), cpu, requests)


def memory_mb(pid: int) -> float:
    """What the process holds in memory now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _cpu_s(pid: int) -> float:
    """CPU seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
