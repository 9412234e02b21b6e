"""Jobs move as MOVES says, and in no other way."""

import re
from pathlib import Path

import pytest

from shared.errors import Refused
from shared.job import MOVES, TERMINAL, Status
from shared.store.sql import Statement
from shared.store.values import JobFilter
from tests.contract.factory import (
    CANCELLED,
    DONE,
    PERMANENT,
    TRANSIENT,
    claim,
    create,
    due,
    expire,
    family,
    in_state,
    job,
    running,
    status,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("old", Status)
def test_the_database_refuses_every_move_that_is_not_in_the_table(store, old):
    """Even a statement without any guard cannot make an illegal move."""
    job_id, _ = in_state(store, old)
    illegal = set(Status) - MOVES[old] - {old}
    for new in sorted(illegal):
        with pytest.raises(Refused, match="illegal move"):
            store._run([Statement("UPDATE job SET status = :new WHERE id = :id", {"id": job_id, "new": new})])
    assert status(store, job_id) is old


def test_the_database_refuses_to_create_a_job_in_another_state(store):
    """Creation is a move like any other."""
    for new in sorted(set(Status) - MOVES[None]):
        with pytest.raises(Refused, match="illegal move"):
            create(store, job(status=new))
    assert store.list(JobFilter(), limit=1).items == ()


def test_the_trigger_lists_exactly_the_moves():
    """The database's list and MOVES are the same, so that neither can drift."""
    script = (ROOT / "shared/store/migrations/0008_lists.sql").read_text()
    table = re.search(r"NOT CASE OLD.status(.*?)ELSE false END", script, re.DOTALL).group(1)
    cases = re.findall(r"WHEN '(\w+)' THEN(.*?)(?=WHEN|$)", table, re.DOTALL)
    listed = {(old, new) for old, moves in cases for new in re.findall(r"'(\w+)'", moves)}
    assert listed == {(old, new) for old in Status for new in MOVES[old]}


def _promote(store, job_id):
    due(store, job_id)
    store.tend()


def _open_phase(store, job_id):
    store.finish(claim(store).claim, DONE)


def _patch_later(store, job_id):
    store.patch(job_id, run_at=2**50)


def _claim(store, job_id):
    assert claim(store).id == job_id


def _cancel(store, job_id):
    store.cancel(job_id)


def _finish(outcome):
    def move(store, job_id):
        store.finish(store.get(job_id).claim, outcome)

    return move


def _finish_last_failure(store, job_id):
    store._run([Statement("UPDATE job SET failures = max_failures - 1 WHERE id = :id", {"id": job_id})])
    _finish(TRANSIENT)(store, job_id)


def _finish_cancelled(store, job_id):
    store.cancel(job_id)
    _finish(CANCELLED)(store, job_id)


def _finish_with_children(store, job_id):
    store.add_children(store.get(job_id).claim, [job(parent_id=job_id, phase="core", child_key="a")])
    _finish(DONE)(store, job_id)


def _release(store, job_id):
    store.release(store.get(job_id).claim)


def _end_child(outcome):
    def move(store, job_id):
        store.finish(claim(store).claim, outcome)

    return move


LEGAL = {
    (Status.SCHEDULED, Status.PENDING): _promote,
    (Status.SCHEDULED, Status.CANCELLED): _cancel,
    (Status.WAITING, Status.PENDING): _open_phase,
    (Status.WAITING, Status.CANCELLED): _cancel,
    (Status.PENDING, Status.RUNNING): _claim,
    (Status.PENDING, Status.SCHEDULED): _patch_later,
    (Status.PENDING, Status.CANCELLED): _cancel,
    (Status.RUNNING, Status.COMPLETED): _finish(DONE),
    (Status.RUNNING, Status.FAILED): _finish(PERMANENT),
    (Status.RUNNING, Status.DEAD_LETTER): _finish_last_failure,
    (Status.RUNNING, Status.CANCELLED): _finish_cancelled,
    (Status.RUNNING, Status.RETRYING): _finish(TRANSIENT),
    (Status.RUNNING, Status.WAITING_CHILDREN): _finish_with_children,
    (Status.RUNNING, Status.PENDING): _release,
    (Status.WAITING_CHILDREN, Status.COMPLETED): _end_child(DONE),
    (Status.WAITING_CHILDREN, Status.FAILED): _end_child(PERMANENT),
    (Status.WAITING_CHILDREN, Status.CANCELLED): _cancel,
    (Status.RETRYING, Status.PENDING): _promote,
    (Status.RETRYING, Status.SCHEDULED): _patch_later,
    (Status.RETRYING, Status.CANCELLED): _cancel,
}


@pytest.mark.parametrize(("old", "new"), LEGAL, ids=[f"{old}-{new}" for old, new in LEGAL])
def test_each_move_of_the_table_happens_and_leaves_one_event(store, old, new):
    """Every move has a verb that makes it, and its event is in the history exactly once."""
    job_id, _ = in_state(store, old)
    before = [event.message for event in store.events(job_id) if event.kind == "state"]
    LEGAL[old, new](store, job_id)
    after = [event.message for event in store.events(job_id) if event.kind == "state"]
    assert status(store, job_id) is new
    assert after == [*before, new]


def test_a_nested_parent_opens_with_its_phase(store):
    """A parent without work in a later phase moves from waiting to waiting_children, and its own children start."""
    root, first, inner = job(type="flow", own_work=False), job(), job(type="flow", own_work=False)
    rows = [
        root,
        job(id=first.id, parent_id=root.id, phase="pre", child_key="first"),
        job(id=inner.id, type="flow", own_work=False, parent_id=root.id, phase="core", child_key="inner"),
        leaf := job(parent_id=inner.id, phase="core", child_key="leaf"),
    ]
    create(store, *rows)
    assert (status(store, inner.id), status(store, leaf.id)) == (Status.WAITING, Status.WAITING)
    store.finish(claim(store).claim, DONE)
    assert (status(store, inner.id), status(store, leaf.id)) == (Status.WAITING_CHILDREN, Status.PENDING)


def test_every_move_of_the_table_is_tried():
    """LEGAL and the nested parent's move cover MOVES."""
    tried = {*LEGAL, (Status.WAITING, Status.WAITING_CHILDREN)}
    assert tried == {(old, new) for old in Status for new in MOVES[old]}


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_an_ended_job_stays_as_it_is(store, end):
    """No verb moves a job that has ended, not even its last owner's."""
    job_id, last = in_state(store, end)
    before = store.get(job_id)
    store.cancel(job_id)
    store.reap()
    store.tend()
    assert claim(store) is None
    assert store.control(last.worker_id) == []
    assert store.get(job_id) == before


def test_a_cancel_request_outlives_every_other_way_on(store):
    """Fail, retry, release and reap of a job that is to be cancelled all end in cancelled; completing first wins."""
    ends = {}
    for name, move in {
        "fail": _finish(PERMANENT),
        "retry": _finish(TRANSIENT),
        "release": _release,
        "reap": lambda store, job_id: (expire(store, job_id), store.reap()),
        "cancel again after the lease": lambda store, job_id: (expire(store, job_id), store.cancel(job_id)),
        "complete": _finish(DONE),
    }.items():
        owned = running(store)
        assert store.cancel(owned.id).cancelling
        move(store, owned.id)
        ends[name] = status(store, owned.id)
    assert ends.pop("complete") is Status.COMPLETED
    assert set(ends.values()) == {Status.CANCELLED}


def test_a_parent_of_nothing_is_completed_at_birth(store):
    """A parent without work of its own and without children has nothing left to do."""
    assert create(store, *family()).status is Status.COMPLETED
