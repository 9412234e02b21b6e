"""The benchmark harness counts what it says it counts; times are not judged here."""

from __future__ import annotations

import json

import pytest

from bench import remote
from bench.__main__ import QUESTIONS
from bench.answer import Answer, Goal
from bench.processes import together
from bench.queue import fill
from shared.job import Status
from shared.store.local import LocalJobStore
from shared.store.protocol import ClaimRequest, JobFilter
from tests.contract.factory import WORKER
from tests.real.sqld import Sqld


@pytest.mark.parametrize("side", ["Spool", "sqlite3 by hand"])
def test_processes_share_a_queue_and_every_job_is_done_once(side, tmp_path):
    """What three processes were told to have done adds up to what was put in, and nothing is left."""
    path = tmp_path / "queue.db"
    assert together(side, "put", path, synchronous="NORMAL", count=30).jobs == (30,)
    assert sum(together(side, "drain", path, synchronous="NORMAL", count=30, processes=3).jobs) == 30
    assert together(side, "drain", path, synchronous="NORMAL", count=30).jobs == (0,)


def test_a_side_that_fails_is_no_result(tmp_path):
    """A competitor that cannot work ends the comparison, rather than winning it in no time."""
    with pytest.raises(RuntimeError, match="could not put"):
        together("Spool", "put", tmp_path, synchronous="NORMAL", count=1)


def test_a_filled_queue_holds_what_it_says(tmp_path):
    """Waiting jobs can be claimed, and done ones are done."""
    store = LocalJobStore(tmp_path / "queue.db")
    store.migrate()
    fill(store, 7, 5)
    assert len(store.list(JobFilter(status=Status.COMPLETED), limit=50).items) == 5
    assert [store.claim(ClaimRequest(WORKER, str(number), 90)) is not None for number in range(8)] == [True] * 7 + [
        False
    ]
    store.close()


def test_a_life_over_the_network_is_five_requests(tmp_path):
    """Create, claim, heartbeat, look, finish: the proxy sees one request each."""
    with Sqld(tmp_path / "sqld") as server:
        remote.prepared(server.url).close()
        rate, requests = remote.run("Spool", server.url, 0, 3)
    assert requests == 5
    assert rate > 0


def test_an_answer_says_which_goals_are_missed():
    """A table for people, and the same as JSON for a file."""
    answer = Answer("Title", ("", "a"), [("x", "1")], [Goal("good", 1, 2), Goal("bad", 3, 2)])
    assert answer.text().splitlines()[-2:] == ["met    good: 1.00x (at most 2x)", "MISSED bad: 3.00x (at most 2x)"]
    assert json.loads(json.dumps(answer.as_json()))["goals"][1]["measured"] == 3
    assert {"ingest", "latency", "queue", "remote"} <= set(QUESTIONS)
