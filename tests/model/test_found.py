"""What the model test found, in the fewest steps."""

import pytest

from shared.errors import ClaimLost
from shared.job import MAX_DEPTH, Line, Progress, Status, new_id
from shared.store.values import Beat, ClaimRequest
from tests.contract.factory import (
    CANCELLED,
    DONE,
    PERMANENT,
    WORKER,
    claim,
    create,
    expire,
    job,
    running,
    status,
)

LINES = (Line(1, "info", "log", "one"), Line(2, "info", "log", "two"))


@pytest.fixture(params=("sqlite", "libsql"))
def store(request, databases):
    """An empty queue on each kind of database."""
    with databases.open(request.param) as store:
        yield store


def _said(store, job_id):
    return [event.message for event in store.events(job_id) if event.kind == "log"]


def test_a_heartbeat_after_the_lease_leaves_its_lines_to_the_release(store):
    """Lines that are not confirmed are sent again, so they must not have been written."""
    owned = running(store)
    expire(store, owned.id)
    assert store.heartbeat(WORKER, [Beat(owned.claim, lines=LINES)], lease_s=90) == []
    store.release(owned.claim, lines=LINES)
    assert _said(store, owned.id) == ["one", "two"]


def test_a_refused_finish_writes_no_lines(store):
    """Nobody asked for a cancel: the finish is refused whole."""
    owned = running(store)
    with pytest.raises(ClaimLost):
        store.finish(owned.claim, CANCELLED, lines=LINES)
    assert _said(store, owned.id) == []


def test_a_claim_that_arrives_late_leaves_the_progress_alone(store):
    """Its job is well on its way by then."""
    create(store)
    request = ClaimRequest(WORKER, new_id(), 90)
    owned = store.claim(request)
    store.heartbeat(WORKER, [Beat(owned.claim, Progress("encoding", 3, 5, 40.0, 4, 10), LINES)], lease_s=90)
    again = store.claim(request)
    assert (again.stage, again.progress, again.last_line) == ("encoding", 40.0, 2)


def test_the_cancel_of_a_deep_family_is_complete_when_it_is_answered(store):
    """Down to the last child and up again to the root takes more than one pass over the family."""
    tower = [job(type="flow", own_work=False)]
    for level in range(1, MAX_DEPTH):
        leaf = level == MAX_DEPTH - 1
        kind = "ingest" if leaf else "flow"
        tower.append(job(type=kind, own_work=leaf, parent_id=tower[-1].id, phase="core", child_key="k"))
    create(store, *tower)
    assert store.cancel(tower[0].id).status is Status.CANCELLED
    assert {status(store, one.id) for one in tower} == {Status.CANCELLED}


def test_a_lost_claim_on_a_job_to_be_cancelled_ends_its_family_too(store):
    """The heartbeat names it, and the reaper ends it together with its parent."""
    root = job(type="flow", own_work=False)
    create(store, root, job(parent_id=root.id, phase="core", child_key="k"))
    owned = claim(store)
    store.cancel(root.id)
    store.heartbeat(WORKER, [], lease_s=90, given_up=[owned.claim_token])
    assert [reaped.status for reaped in store.reap()] == [Status.CANCELLED]
    assert status(store, root.id) is Status.CANCELLED


def _nested(store):
    """A family that failed in its last phase, when a child had completed with a child of its own."""
    root, inner = job(type="flow", own_work=False), job(type="flow", own_work=False)
    create(
        store,
        root,
        job(id=inner.id, type="flow", own_work=False, parent_id=root.id, phase="pre", child_key="inner"),
        job(parent_id=inner.id, phase="core", child_key="leaf"),
        job(parent_id=root.id, phase="core", child_key="last"),
    )
    store.finish(claim(store).claim, DONE)
    store.finish(claim(store).claim, PERMANENT)
    return root.id


def test_a_retry_carries_over_what_completed_below_a_completed_child(store):
    """The results of the grandchildren come along."""
    again = store.retry(_nested(store))[0]
    inner, last = store.children(again.id)
    (leaf,) = store.children(inner.id)
    assert (inner.status, leaf.status, last.status) == (Status.COMPLETED, Status.COMPLETED, Status.PENDING)
    assert (leaf.result, inner.children_done) == ({"media_ms": 1000}, 1)


def test_a_parent_of_nothing_keeps_no_files_from_being_deleted(store):
    """It is completed at birth, in a retry too, and has no files."""
    root = job(type="flow", own_work=False)
    create(
        store,
        root,
        job(type="flow", own_work=False, parent_id=root.id, phase="core", child_key="empty"),
        job(parent_id=root.id, phase="core", child_key="work"),
    )
    store.cancel(root.id)
    store.retry(root.id)
    store.purge(root.id)
    assert store.get(root.id) is None
