"""How many requests a second does `spool api` answer on one core, and what does a poll cost with and without an ETag?

A real server process on a SQLite file with as many jobs as `FILL` says; clients of another process keep it busy, one
and then eight at a time, each request on a connection that stays open.
"""

from __future__ import annotations

import socket
import subprocess  # noqa: TID251 - the server is the thing measured
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import urllib3

from bench.answer import Answer, Figure, at
from bench.idle import memory_mb
from bench.queue import fill
from cli.dev import listener
from shared.job import NewJob, new_id
from shared.settings import environment_with
from shared.store.local import LocalJobStore

FILL = (1_000, 10_000)
SECONDS = 3.0
CLIENTS = (1, 8)
_PARAMS = {"source": "https://example.org/talk.mp3"}
_JOB = {"type": "ingest", "params": _PARAMS}
Ask = Callable[[], int]


def answer(rounds: int) -> Answer:
    """Each kind of request for so many seconds in all."""
    return measured(SECONDS * rounds / 3, FILL)


def smoke(rounds: int) -> Answer:
    """Each kind for a moment."""
    return measured(0.2 * rounds, (10, 10))


def measured(seconds: float, jobs: tuple[int, int]) -> Answer:
    """The answer from so many seconds of each kind."""
    title = "Requests a second at one `spool api`, on a SQLite file"
    found = Answer(title, ("", *(f"{clients} at a time" for clients in CLIENTS), "p50 ms", "p95 ms"))
    with tempfile.TemporaryDirectory(prefix="spool-bench-") as name:
        store = LocalJobStore(Path(name) / "spool.db")
        store.migrate()
        fill(store, *jobs)
        job, _ = store.create([NewJob(id=new_id(), type="ingest", params=_PARAMS)])
        store.close()
        with _served(Path(name)) as (url, server):
            kinds = _kinds(url, job.id)
            for what, (ask, expected) in kinds.items():
                rates, samples = zip(*(_rate(ask, expected, clients, seconds) for clients in CLIENTS), strict=True)
                spread = (f"{at(samples[0], share):.1f}" for share in (0.5, 0.95))
                found.rows.append((what, *(f"{rate:,.0f}" for rate in rates), *spread))
                found.runs[what] = {"rates": rates, "p50_ms": [at(sample, 0.5) for sample in samples]}
                beside = f"p50 {at(samples[0], 0.5):.1f} ms with one client"
                found.figures.append(Figure(f"API requests a second: {what}", f"{max(rates):,.0f}", beside))
            found.rows.append(("memory of the server", f"{memory_mb(server.pid):.0f} MB", "", "", ""))
    return found


def _kinds(url: str, job_id: str) -> dict[str, tuple[Ask, int]]:
    pool = urllib3.PoolManager(maxsize=max(CLIENTS), retries=False)

    def get(path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return pool.request("GET", f"{url}{path}", headers=headers)

    etag = get(f"/api/jobs/{job_id}").headers["etag"]
    unchanged = {"If-None-Match": etag}
    return {
        "poll": (lambda: get(f"/api/jobs/{job_id}").status, 200),
        "poll with an ETag, unchanged": (lambda: get(f"/api/jobs/{job_id}", **unchanged).status, 304),
        "list of 25": (lambda: get("/api/jobs?limit=25").status, 200),
        "create": (lambda: pool.request("POST", f"{url}/api/jobs", json=_JOB).status, 201),
    }


def _rate(ask: Ask, expected: int, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Answers a second, and the milliseconds of each; another status than the expected one ends the comparison."""

    def busy(until: float) -> list[float]:
        took: list[float] = []
        while (began := time.perf_counter()) < until or not took:  # on a busy machine the time may be over by now
            if (status := ask()) != expected:
                raise RuntimeError(f"the API answered {status} instead of {expected}")
            took.append(1000 * (time.perf_counter() - began))
        return took

    ask()
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        samples = [one for each in pool.map(busy, [began + seconds] * clients) for one in each]
    return len(samples) / (time.perf_counter() - began), samples


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    bound: socket.socket = listener("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    environment = environment_with(
        database_url=f"sqlite:///{folder}/spool.db",
        storage_url=f"file:{folder}/storage",
        api_url=url,
        rate_limit=0,
        max_waiting=0,
        log_format="json",
    )
    command = [str(Path(sys.executable).with_name("spool")), "api", "--fd", str(bound.fileno())]
    with (folder / "api.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, pass_fds=[bound.fileno()], stderr=log)
    bound.close()  # the server's own copy listens on
    try:
        until = urllib3.Retry(30, backoff_factor=0.1)
        urllib3.request("GET", f"{url}/healthz", retries=until, timeout=30)
        yield url, server
    finally:
        server.terminate()
        server.wait()
