"""How long does the dashboard's first view take the server, and how soon does a live view hear of a change?

100,000 finished jobs and 1,000 that wait, in a SQLite file, behind a real server. The first view is what
functions/dashboard/main.js asks for, each answer found out anew; a change is timed from before it is written until the
line has come through the stream.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import httpx2

from bench.answer import Answer, Goal
from shared.job import NewJob, new_id
from shared.log import configure_log
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from tests.contract.test_bounds import FILL
from tests.functions.api import Api
from tests.functions.test_events import Server, state_of

FINISHED, WAITING = 100_000, 1_000
FIRST_VIEW = ("/api/me", "/api/job-types", "/api/stats?count_to=100", "/api/jobs?limit=25&parent_id=none")
VIEWS, CHANGES = 50, 50


def answer(rounds: int) -> Answer:
    """Sample both, `rounds` times over; every sample counts."""
    with tempfile.TemporaryDirectory() as folder:
        configure_log(load_settings(_env_file=None, log_level="warning"))  # this process is the server, too
        api = _filled(Path(folder))
        with Server(api) as server, httpx2.Client(base_url=server.url, timeout=60) as client:
            parts: dict[str, list[float]] = {path: [] for path in FIRST_VIEW}
            for _ in range(rounds * VIEWS // 3):
                for path, sample in parts.items():
                    sample.append(_request_ms(client, path))
            heard = []
            with server.stream() as stream:
                stream.next()
                for _ in range(rounds * CHANGES // 3):
                    job, began = new_id(), time.perf_counter()
                    api.store.create([NewJob(id=job, type="ingest", params={"source": "asset"})])
                    stream.until(state_of(job, "pending"))
                    heard.append(1000 * (time.perf_counter() - began))
        api.store.close()
    views = [sum(each) for each in zip(*parts.values(), strict=True)]
    found = Answer(
        title=f"The dashboard with {FINISHED:,} finished and {WAITING:,} waiting jobs (milliseconds, SQLite on disk)",
        columns=("what", "samples", "p50", "p95", "max"),
        runs={"first_view_ms": views, "heard_ms": heard},
    )
    for name, sample in {**parts, "the first view, one after the other": views, "a change is heard": heard}.items():
        found.rows.append((name, str(len(sample)), *(f"{_at(sample, share):.0f}" for share in (0.5, 0.95, 1.0))))
    found.goals = [
        Goal("first view p95", _at(views, 0.95), 150, " ms"),
        Goal("a change is heard p95", _at(heard, 0.95), 1000, " ms"),
    ]
    return found


def _filled(folder: Path) -> Api:
    store = LocalJobStore(folder / "spool.db")
    store.migrate()
    store._run([Statement(FILL, {"count": FINISHED, "status": "completed"})])
    waiting = re.sub(r":status \|\| i", "'waiting-' || i", FILL)
    store._run([Statement(waiting, {"count": WAITING, "status": "pending"})])
    settings = load_settings(
        _env_file=None, database_url=f"sqlite:///{folder}/spool.db", storage_url=f"file:{folder}/storage"
    )
    return Api(settings, store, LocalStorage(folder / "storage", b"a secret of the benchmark"))


def _request_ms(client: httpx2.Client, path: str) -> float:
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _at(sample: list[float], share: float) -> float:
    """The value that `share` of the sample do not exceed."""
    ranked = sorted(sample)
    return ranked[max(0, round(share * len(ranked)) - 1)]
