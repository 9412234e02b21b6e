"""One owner: what a worker may write, and what it may not once the job is no longer its own."""

from dataclasses import replace

import pytest

from shared.errors import ClaimLost
from shared.job import Claim, Line, Outcome, Output, Progress, Status
from shared.store.sql import Statement
from shared.store.values import Beat, ClaimRequest
from tests.contract.factory import (
    DONE,
    OTHER,
    TRANSIENT,
    WORKER,
    claim,
    create,
    due,
    expire,
    job,
    running,
    status,
)

LINE = Line(1, "info", "log", "hello")


def _taken_over(store) -> tuple[Claim, Claim]:
    """A claim that was reaped and taken by another worker, and that worker's claim."""
    owned = running(store)
    expire(store, owned.id)
    assert [reaped.id for reaped in store.reap()] == [owned.id]
    due(store, owned.id)
    return owned.claim, claim(store, OTHER).claim


LATE = {
    "finish": lambda store, stale: store.finish(stale, DONE),
    "fail": lambda store, stale: store.finish(stale, TRANSIENT),
    "release": lambda store, stale: store.release(stale),
    "add_children": lambda store, stale: store.add_children(
        stale, [job(parent_id=stale.job_id, phase="core", child_key="a")]
    ),
}


@pytest.mark.parametrize("verb", LATE)
def test_a_worker_that_lost_its_job_can_write_nothing(store, verb):
    """The old owner's verb is refused, and neither row nor history of the new owner changes."""
    stale, _ = _taken_over(store)
    before = store.get(stale.job_id), store.events(stale.job_id)
    with pytest.raises(ClaimLost, match="no longer owned"):
        LATE[verb](store, stale)
    assert (store.get(stale.job_id), store.events(stale.job_id)) == before


def test_a_late_heartbeat_writes_nothing_and_says_that_the_job_is_lost(store):
    """Progress and lines of the old owner vanish; the new owner's lease is untouched."""
    stale, fresh = _taken_over(store)
    before = store.get(stale.job_id), store.events(stale.job_id)
    beat = Beat(stale, Progress("encoding", 3, 5, 99.0, 99, 100), (LINE,))
    assert store.heartbeat(WORKER, [beat], lease_s=90) == []
    assert (store.get(stale.job_id), store.events(stale.job_id)) == before
    assert [owned.claim for owned in store.control(OTHER.id)] == [fresh]


def test_the_same_worker_is_fenced_by_the_attempt_number(store):
    """A worker that claims its own lost job again cannot finish it by its old claim."""
    old = running(store)
    store.release(old.claim)
    new = claim(store)
    assert (new.id, new.attempt) == (old.id, old.attempt + 1)
    with pytest.raises(ClaimLost):
        store.finish(old.claim, TRANSIENT)
    assert store.finish(new.claim, DONE).job.status is Status.COMPLETED


def test_a_heartbeat_never_renews_a_lease_that_ran_out(store):
    """A worker that was away too long must not steal its job back from the reaper."""
    owned = running(store)
    expire(store, owned.id)
    assert store.heartbeat(WORKER, [Beat(owned.claim)], lease_s=90) == []
    assert [reaped.status for reaped in store.reap()] == [Status.RETRYING]


def test_a_heartbeat_renews_progress_and_lines_of_all_jobs_at_once(store, counting):
    """Four running jobs cost one round trip."""
    owned = [running(store) for _ in range(4)]
    counting.trips = 0
    beats = [Beat(o.claim, Progress("encoding", 3, 5, 10.0 * n, n, 10, 5.0), (LINE,)) for n, o in enumerate(owned)]
    assert [seen.claim for seen in store.heartbeat(WORKER, beats, lease_s=90)] == [o.claim for o in owned]
    assert counting.trips == 1
    for n, o in enumerate(owned):
        seen = store.get(o.id)
        assert (seen.stage, seen.progress, seen.progress_current, seen.eta_s) == ("encoding", 10.0 * n, n, 5.0)
        assert [event.message for event in store.events(o.id) if event.kind == "log"] == ["hello"]


def test_an_outage_costs_no_failure(store):
    """A lease that ran out and that nobody has reaped can still be released by its owner."""
    owned = running(store)
    expire(store, owned.id)
    released = store.release(owned.claim)
    assert (released.status, released.failures, released.attempt) == (Status.PENDING, 0, 1)


def test_a_job_that_kills_its_workers_ends_in_dead_letter(store):
    """Each reaping counts one failure, in SQL, so that no worker need survive to count it."""
    owned = running(store)
    for expected in (Status.RETRYING, Status.DEAD_LETTER):
        expire(store, owned.id)
        store.reap()
        assert status(store, owned.id) is expected
        if expected is Status.RETRYING:
            due(store, owned.id)
            assert claim(store).attempt == 2
    error = store.get(owned.id).error
    assert (error["code"], error["kind"], error["attempt"]) == ("worker_lost", "worker_lost", 2)


def test_a_claim_repeated_with_its_token_is_the_same_claim(store):
    """A claim whose reply was lost is found again, costs no second attempt and takes no second job."""
    create(store)
    create(store)
    request = ClaimRequest(WORKER, "token", 90)
    first, again = store.claim(request), store.claim(request)
    assert (first.id, first.attempt) == (again.id, again.attempt)
    assert len(store.control(WORKER.id)) == 1


@pytest.mark.parametrize("how", ["release", "finish"])
def test_a_late_repeat_of_a_claim_takes_nothing(store, how):
    """Once its job was released or finished, the same token neither takes it back nor takes another."""
    first = create(store)
    second = create(store)
    request = ClaimRequest(WORKER, "token", 90)
    owned = store.claim(request)
    store.release(owned.claim) if how == "release" else store.finish(owned.claim, DONE)
    assert store.claim(request) is None
    assert status(store, first.id) is (Status.PENDING if how == "release" else Status.COMPLETED)
    assert status(store, second.id) is Status.PENDING


def test_a_repeated_finish_is_recognised(store):
    """The owner learns that its first finish arrived, however it describes the end the second time."""
    owned = running(store)
    output = Output("a.mp3", "outputs/x/1/a.mp3", "audio/mpeg", 3, "00", {})
    store.finish(owned.claim, Outcome("completed", {"media_ms": 1}, (output,)))
    again = store.finish(owned.claim, TRANSIENT).job
    assert (again.status, again.outputs) == (Status.COMPLETED, (output,))
    assert store.release(owned.claim).status is Status.COMPLETED


def test_a_claim_that_was_given_up_goes_back_to_the_queue(store):
    """A heartbeat gives back what its worker claimed and does not work on, and no other job; no other worker can."""
    owned, other = running(store), running(store)
    given_up = [owned.claim_token, "a claim that never arrived"]
    store.heartbeat(replace(WORKER, id="another"), [], lease_s=90, given_up=given_up)
    assert status(store, owned.id) is Status.RUNNING
    assert store.heartbeat(WORKER, [], lease_s=90, given_up=given_up) == []
    assert status(store, owned.id) is Status.PENDING
    assert (store.get(owned.id).failures, status(store, other.id)) == (0, Status.RUNNING)


def test_a_claim_on_its_way_is_left_alone_however_old_it_looks(store):
    """While the reply to a claim is on its way the database's clock may jump: a heartbeat gives back nothing by age."""
    owned = running(store)
    store._run([Statement("UPDATE job SET lease_until = lease_until - 89000 WHERE id = :id", {"id": owned.id})])
    store.heartbeat(WORKER, [], lease_s=90)
    store.heartbeat(WORKER, [], lease_s=90, given_up=["a claim that never arrived"])
    assert status(store, owned.id) is Status.RUNNING


def test_a_claim_that_was_given_up_and_is_to_be_cancelled_is_left_to_the_reaper(store):
    """It loses its lease and is no longer run by anybody; the reaper ends it with its family."""
    owned = running(store)
    store.cancel(owned.id)
    store.heartbeat(WORKER, [], lease_s=90, given_up=[owned.claim_token])
    assert status(store, owned.id) is Status.RUNNING
    store.reap()
    assert status(store, owned.id) is Status.CANCELLED


def test_finish_claims_the_next_job_in_the_same_round_trip(store, counting):
    """Between two jobs a worker makes one round trip."""
    create(store)
    second = create(store)
    owned = claim(store)
    counting.trips = 0
    done = store.finish(owned.claim, DONE, next=ClaimRequest(WORKER, "next", 90))
    assert (done.job.status, done.next.id, done.next.status) == (Status.COMPLETED, second.id, Status.RUNNING)
    assert counting.trips == 1


def test_a_worker_is_offered_only_types_it_can_run(store):
    """During a deploy an old worker leaves jobs of new types alone."""
    create(store, job(type="brand-new"))
    known = create(store)
    assert claim(store).id == known.id
    assert claim(store) is None


def test_cancelled_is_refused_unless_someone_asked_for_it(store):
    """A worker cannot end a job as cancelled by itself."""
    owned = running(store)
    with pytest.raises(ClaimLost):
        store.finish(owned.claim, Outcome("cancelled"))
    assert status(store, owned.id) is Status.RUNNING


def test_a_fresh_claim_starts_clean(store):
    """Stage, progress, error and line counter of the attempt before are gone; the first start stays."""
    owned = running(store)
    beat = Beat(owned.claim, Progress("encoding", 3, 5, 50.0, 5, 10, 1.0), (Line(7, "info", "log", "x"),))
    store.heartbeat(WORKER, [beat], lease_s=90)
    store.finish(owned.claim, TRANSIENT)
    due(store, owned.id)
    again = claim(store)
    assert (again.attempt, again.failures, again.started_at) == (2, 1, owned.started_at)
    assert (again.stage, again.progress, again.progress_current, again.error, again.last_line) == (
        None,
        None,
        None,
        None,
        0,
    )


def test_children_are_added_under_the_claim_once_per_key(store):
    """A pipeline that is run again adds only the children that are missing."""
    owned = running(store)
    first = store.add_children(owned.claim, [job(parent_id=owned.id, phase="core", child_key="a")])
    again = store.add_children(
        owned.claim, [job(parent_id=owned.id, phase="core", child_key=key) for key in ("a", "b")]
    )
    assert [child.child_key for child in again] == ["a", "b"]
    assert again[0].id == first[0].id
    assert store.get(owned.id).children_total == 2
    assert {child.status for child in again} == {Status.PENDING}
