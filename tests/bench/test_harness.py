"""The benchmark harness counts what it says it counts; times are not judged here."""

from __future__ import annotations

import json

import pytest

from bench import api, page, remote
from bench.__main__ import LONG, QUESTIONS, SMOKE
from bench.answer import Answer, Figure, Goal, at, spread
from bench.processes import together
from bench.queue import costs_ms, fill
from shared.job import Status
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, JobFilter
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


def test_a_life_over_the_network_is_four_requests(tmp_path):
    """Create, finish with the next claim, heartbeat, look: the proxy sees one request each."""
    with Sqld(tmp_path / "sqld") as server:
        remote.prepared(server.url).close()
        rate, requests = remote.run("Spool", server.url, 0, 3)
    assert requests == 4
    assert rate > 0


def test_every_life_of_the_smoke_is_counted():
    """The question about networks, asked in its smallest form, counts the same requests and says so."""
    found = remote.smoke(1)
    counted = [goal for goal in found.goals if goal.counted]
    assert [goal.met for goal in counted] == [True]
    assert counted[0].measured == 2


def test_queues_that_take_turns_are_all_worked_on():
    """Each depth has a cost of its own."""
    costs = costs_ms(((10, 0), (20, 30)))
    assert set(costs) == {(10, 0), (20, 30)}
    assert all(cost > 0 for cost in costs.values())


def test_requests_to_a_real_server_are_counted_by_kind():
    """Polls, polls that find nothing new, lists and creations: each has a rate, and each was answered as it should."""
    found = api.measured(0.05, (3, 3))
    assert set(found.runs) == {"poll", "poll with an ETag, unchanged", "list of 25", "create"}
    assert all(rate > 0 for each in found.runs.values() for rate in each["rates"])


def test_shares_of_a_sample():
    """The median of ten is one of the two in the middle, and the last share is the greatest."""
    sample = [float(number) for number in range(10)]
    assert (at(sample, 0.5), at(sample, 1.0), at([7.0], 0.95)) == (4.0, 9.0, 7.0)
    assert spread(sample) == ("10", "4", "9", "9", "9")


def test_figures_go_between_the_marks_of_a_page(tmp_path):
    """The newest answer to each question counts; the README takes the first of each of five; twice is as once."""
    for name, measured in (("queue-20260101T000000", "old"), ("queue-20260102T000000", "new")):
        answer = Answer("Title", ("",), figures=[Figure("speed", measured, "peers"), Figure("depth", "flat", "")])
        (tmp_path / f"{name}.json").write_text(json.dumps(answer.as_json() | {"cores": 2, "machine": "x86_64"}))
    short = page.table(short=True, folder=tmp_path)
    assert "| speed | new | peers |" in short
    assert "depth" not in short
    assert "depth" in page.table(folder=tmp_path)
    text = page.filled("Before\n<!-- figures -->\nwas\n<!-- end of figures -->\nafter", short)
    assert "was" not in text
    assert page.filled(text, short) == text
    assert [text.splitlines()[0], text.splitlines()[-1]] == ["Before", "after"]


def test_the_pages_that_show_figures_have_a_place_for_them():
    """`make bench-tables` finds its marks in every page that it fills."""
    for name in page.PAGES:
        assert page.filled((page.ROOT / name).read_text(), "| new |").count("| new |") == 1
    with pytest.raises(SystemExit, match="no <!-- figures -->"):
        page.filled("nothing", "")


def test_an_answer_says_which_goals_are_missed():
    """A table for people, and the same as JSON for a file."""
    answer = Answer("Title", ("", "a"), [("x", "1")], [Goal("good", 1, 2), Goal("bad", 3, 2)])
    assert answer.text().splitlines()[-2:] == ["met    good: 1.00x (at most 2x)", "MISSED bad: 3.00x (at most 2x)"]
    assert json.loads(json.dumps(answer.as_json()))["goals"][1]["measured"] == 3
    assert {"ingest", "latency", "queue", "remote"} <= set(QUESTIONS)
    assert set(SMOKE) <= set(QUESTIONS) >= set(LONG)
    assert set(page.ORDER) <= set(QUESTIONS)
