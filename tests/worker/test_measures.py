"""What a worker counts about its work, as it arrives with its heartbeat."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.job import new_id
from shared.store.values import ClaimRequest
from tests.worker.stand import PATIENCE_S, Program, submit, until
from tests.worker.test_loop import OTHER, ended, stand, store  # noqa: F401 - fixtures
from worker import heartbeat


@pytest.fixture(autouse=True)
def _an_idle_worker_tells_at_once(monkeypatch) -> None:
    """Without work it is heard of every 30 s, which is long to wait for a count."""
    monkeypatch.setattr(heartbeat, "IDLE_S", 0.2)


def heard(store, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:  # noqa: F811 - a fixture
    """Wait until the worker's heartbeat tells what is wanted."""
    give_up = time.monotonic() + PATIENCE_S
    watch = store.watch()
    try:
        while True:
            seen = store.stats().workers
            if seen and seen[0].metrics and wanted(dict(seen[0].metrics)):
                return dict(seen[0].metrics)
            assert time.monotonic() < give_up, f"the worker told {seen}"
            watch.wait(0.5)
    finally:
        watch.close()


def test_stages_programs_failures_and_retries_are_counted(store, stand) -> None:  # noqa: F811 - fixtures
    """Two stages of a good job with a hungry program, and both attempts of one that fails."""
    hungry = "x = bytearray(64_000_000)\nsum(range(3_000_000))"
    jobs = [submit(store, code=hungry), submit(store, error="transient"), submit(store, error="bad input")]
    stand()
    for job in jobs:
        until(store, job, ended)
    found = heard(store, lambda told: told["failures"] == {"transient": 2, "permanent": 1} and bool(told["stages"]))
    assert found["retries"] == 1
    assert {name: times for name, (times, _) in found["stages"].items()} == {
        "ingest/preparing": 1,
        "ingest/executing": 1,
    }
    assert found["stages"]["ingest/executing"][1] > 0
    assert found["child_rss_peak_bytes"] > 64_000_000
    assert found["child_cpu_s"] >= found["child_cpu_peak_s"] > 0
    assert found["round_trips"] > 5
    assert (found["lost_claims"], found["reaped"]) == (0, 0)


def test_a_lost_claim_is_counted_once(store, stand, tmp_path) -> None:  # noqa: F811 - fixtures
    """By the worker that lost it."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    stand(lease_s=600.0)
    program.await_start()
    with sqlite3.connect(tmp_path / "spool.db") as database:
        database.execute("UPDATE job SET attempt = attempt + 1, worker_id = 'other' WHERE id = ?", [job.id])
    database.close()
    until(store, submit(store), ended)
    assert heard(store, lambda told: told["lost_claims"] > 0)["lost_claims"] == 1


def test_a_job_of_a_lost_worker_is_counted_by_who_takes_it(store, stand) -> None:  # noqa: F811 - fixtures
    """Nobody else can tell of it."""
    job = submit(store)
    assert store.claim(ClaimRequest(OTHER, new_id(), 0.05)) is not None
    stand(lease_s=3.0)
    until(store, job, ended)
    assert heard(store, lambda told: told["reaped"] > 0)["reaped"] == 1
