"""Parents and children: phases open in order, failures and cancels cascade, counters agree."""

import pytest

from shared.errors import Conflict, Invalid
from shared.job import MAX_DEPTH, Status
from shared.store.sql import Statement
from tests.contract.factory import (
    CANCELLED,
    DONE,
    OTHER,
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


def states(store, parent_id):
    """The children's states by key."""
    return {child.child_key: child.status.value for child in store.children(parent_id)}


def counters(store, parent_id):
    """What the parent says about its children."""
    parent = store.get(parent_id)
    return parent.children_total, parent.children_done, parent.children_failed


def test_phases_open_in_order_and_the_parent_completes_with_the_last_child(store):
    """A phase opens when no unfinished child is in an earlier one; an empty phase is skipped."""
    root = create(store, *family("pre", "pre", "post"))
    assert states(store, root.id) == {"a": "pending", "b": "pending", "c": "waiting"}
    store.finish(claim(store).claim, DONE)
    assert states(store, root.id) == {"a": "completed", "b": "pending", "c": "waiting"}
    store.finish(claim(store).claim, DONE)
    assert states(store, root.id) == {"a": "completed", "b": "completed", "c": "pending"}
    assert status(store, root.id) is Status.WAITING_CHILDREN
    store.finish(claim(store).claim, DONE)
    assert status(store, root.id) is Status.COMPLETED
    assert counters(store, root.id) == (3, 3, 0)


def test_the_first_bad_end_stops_the_family(store):
    """In one transaction unstarted siblings are cancelled and running ones asked to stop; the parent fails last."""
    root = create(store, *family("core", "core", "core", "post"))
    first, second = claim(store), claim(store)
    store.finish(first.claim, PERMANENT)
    assert states(store, root.id) == {"a": "failed", "b": "running", "c": "cancelled", "d": "cancelled"}
    assert store.get(second.id).cancelling
    assert status(store, root.id) is Status.WAITING_CHILDREN
    store.finish(second.claim, CANCELLED)
    parent = store.get(root.id)
    assert parent.status is Status.FAILED
    assert parent.error["code"] == "child_failed"
    assert "The file is empty." in parent.error["message"]
    assert counters(store, root.id) == (4, 0, 4)


def test_continue_lets_the_siblings_finish(store):
    """With on_child_failure continue a bad child is counted and the parent completes."""
    root = create(store, *family("core", "core", on_child_failure="continue"))
    store.finish(claim(store).claim, PERMANENT)
    store.finish(claim(store).claim, DONE)
    assert status(store, root.id) is Status.COMPLETED
    assert counters(store, root.id) == (2, 1, 1)


def test_a_child_that_retries_does_not_stop_the_family(store):
    """Only an end is an end."""
    root = create(store, *family("core", "post"))
    store.finish(claim(store).claim, TRANSIENT)
    assert states(store, root.id) == {"a": "retrying", "b": "waiting"}
    assert status(store, root.id) is Status.WAITING_CHILDREN


def test_cancelling_a_parent_cascades(store):
    """Unstarted children are cancelled at once, a running one is asked, and the parent ends with the last."""
    root = create(store, *family("core", "core", "post"))
    owned = claim(store)
    assert store.cancel(root.id).cancelling
    assert states(store, root.id) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    store.finish(owned.claim, CANCELLED)
    assert status(store, root.id) is Status.CANCELLED


def test_cancelling_a_parent_of_unstarted_children_ends_all_at_once(store):
    """Nothing runs, so nothing need be waited for."""
    root = create(store, *family("core", "post"))
    assert store.cancel(root.id).status is Status.CANCELLED
    assert set(states(store, root.id).values()) == {"cancelled"}


def _tower(levels: int) -> list:
    jobs = [job(type="flow", own_work=False)]
    for level in range(1, levels):
        leaf = level == levels - 1
        jobs.append(
            job(
                type="ingest" if leaf else "flow",
                own_work=leaf,
                parent_id=jobs[-1].id,
                phase="core",
                child_key=f"level{level}",
            )
        )
    return jobs


@pytest.mark.parametrize(("outcome", "end"), [(DONE, Status.COMPLETED), (PERMANENT, Status.FAILED)])
def test_the_end_of_a_leaf_ends_a_tower_in_one_transaction(store, outcome, end):
    """Each level settles in the transaction of the finish below it, to the full depth."""
    tower = _tower(MAX_DEPTH)
    create(store, *tower)
    store.finish(claim(store).claim, outcome)
    assert [status(store, level.id) for level in tower] == [end] * MAX_DEPTH


def test_cancel_reaches_the_bottom_of_a_tower(store):
    """A cancel of the top cancels an unstarted leaf four levels down."""
    tower = _tower(MAX_DEPTH)
    create(store, *tower)
    store.cancel(tower[0].id)
    store.tend()
    assert [status(store, level.id) for level in tower] == [Status.CANCELLED] * MAX_DEPTH


def test_a_family_deeper_than_the_limit_is_refused_whole(store):
    """Nothing of it is stored."""
    tower = _tower(MAX_DEPTH + 1)
    with pytest.raises(Invalid, match="levels deep"):
        store.create(tower)
    assert store.get(tower[0].id) is None


def test_no_child_joins_an_ended_parent_or_a_phase_that_passed(store):
    """Each refusal says why."""
    ended, _ = in_state(store, Status.COMPLETED)
    with pytest.raises(Conflict, match="has ended"):
        create(store, job(parent_id=ended, phase="core", child_key="x"))
    root = create(store, *family("pre", "core"))
    store.finish(claim(store).claim, DONE)
    with pytest.raises(Conflict, match="Phase pre"):
        create(store, job(parent_id=root.id, phase="pre", child_key="x"))
    late = create(store, job(parent_id=root.id, phase="core", child_key="x"))
    assert late.status is Status.PENDING
    store.cancel(root.id)
    assert store.get(root.id).children_total == 3


def test_a_parent_with_work_of_its_own_waits_for_its_children(store):
    """Its own end is only half of it; a child that failed meanwhile makes it fail."""
    owned = running(store)
    store.add_children(owned.claim, [job(parent_id=owned.id, phase="core", child_key=key) for key in "ab"])
    child = claim(store, OTHER)
    store.finish(owned.claim, DONE)
    assert status(store, owned.id) is Status.WAITING_CHILDREN
    store.finish(child.claim, DONE)
    store.finish(claim(store, OTHER).claim, DONE)
    ended = store.get(owned.id)
    assert (ended.status, ended.result, ended.progress) == (Status.COMPLETED, {"media_ms": 1000}, 100.0)


@pytest.mark.parametrize("how", ["own failure", "reaped", "child failure"])
def test_a_parent_whose_work_or_child_fails_stops_its_children(store, how):
    """The parent's end is written only when the last child has ended, with the cause that came first."""
    owned = running(store, max_failures=1)
    store.add_children(owned.claim, [job(parent_id=owned.id, phase="core", child_key=key) for key in "ab"])
    child = claim(store, OTHER)
    if how == "own failure":
        store.finish(owned.claim, PERMANENT)
    elif how == "reaped":
        expire(store, owned.id)
        store.reap()
    else:
        store.finish(child.claim, PERMANENT)
        store.finish(owned.claim, DONE)
    if how != "child failure":
        assert store.get(child.id).cancelling
        assert status(store, owned.id) is Status.WAITING_CHILDREN
        store.finish(child.claim, CANCELLED)
    ended = store.get(owned.id)
    codes = {"own failure": "bad_input.empty", "reaped": "worker_lost", "child failure": "child_failed"}
    assert (ended.status, ended.error["code"]) == (Status.FAILED, codes[how])
    assert states(store, owned.id)["b"] == "cancelled"


def test_a_family_that_takes_too_long_is_stopped(store):
    """The parent's timeout runs from its creation."""
    root = create(store, *family("core", "core", timeout_s=60))
    owned = claim(store)
    store._run([Statement("UPDATE job SET created_at = created_at - 61000 WHERE id = :id", {"id": root.id})])
    store.tend()
    assert store.get(owned.id).cancelling
    store.finish(owned.claim, CANCELLED)
    ended = store.get(root.id)
    assert (ended.status, ended.error["code"]) == (Status.FAILED, "timeout")


def test_retrying_a_family_keeps_what_completed(store):
    """A new parent: completed children come along with their results, the others run again."""
    root = create(store, *family("core", "core"))
    store.finish(claim(store).claim, DONE)
    bad = claim(store)
    store.finish(bad.claim, PERMANENT)
    again = store.retry(bad.id)[0]
    assert (again.retry_of, again.status) == (root.id, Status.WAITING_CHILDREN)
    children = {child.child_key: child for child in store.children(again.id)}
    assert (children["a"].status, children["a"].result) == (Status.COMPLETED, {"media_ms": 1000})
    assert (children["b"].status, children["b"].retry_of) == (Status.PENDING, bad.id)
    store.finish(claim(store).claim, DONE)
    assert status(store, again.id) is Status.COMPLETED
    assert counters(store, again.id) == (2, 2, 0)


def test_a_child_of_an_unfinished_parent_cannot_be_retried(store):
    """Its family must have ended first."""
    create(store, *family("core", "core", on_child_failure="continue"))
    bad = claim(store)
    store.finish(bad.claim, PERMANENT)
    with pytest.raises(Conflict, match="belongs to job"):
        store.retry(bad.id)


def test_a_reaped_child_fails_its_family_when_its_retries_are_used_up(store):
    """The reaper settles families too."""
    root = create(store, *family("core"))
    store._run([Statement("UPDATE job SET max_failures = 1 WHERE parent_id = :id", {"id": root.id})])
    expire(store, claim(store).id)
    store.reap()
    assert status(store, root.id) is Status.FAILED


def test_a_scheduled_parent_holds_its_children(store):
    """Children start when their parent's time has come."""
    rows = family("core", type="ingest", own_work=True, run_at=2**50)
    root = create(store, *rows)
    assert states(store, root.id) == {"a": "waiting"}
    due(store, root.id)
    store.tend()
    assert (status(store, root.id), states(store, root.id)) == (Status.PENDING, {"a": "pending"})
