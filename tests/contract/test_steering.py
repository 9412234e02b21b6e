"""Operators pause and limit job types, over all workers, and cancel or retry many jobs at once."""

import threading

import pytest

from shared.errors import TooManyWaiting
from shared.job import Progress, Status, new_id
from shared.store.backup import back_up, restore
from shared.store.local import LocalJobStore
from shared.store.values import Admission, Beat, ClaimRequest, JobFilter, Worker
from shared.types import JOB_TYPES
from tests.contract.factory import (
    CANCELLED,
    DONE,
    OTHER,
    PERMANENT,
    TRANSIENT,
    WORKER,
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

BOTH = Worker(id="worker-b", host="here", version="0", types=("ingest", "edit"), slots=4)


def _pause(store, *, paused=True):
    return store.steer("ingest", paused=paused, max_running=None, limiting=False)


def _limit(store, at_once):
    return store.steer("ingest", paused=None, max_running=at_once, limiting=True)


def test_no_worker_claims_a_paused_type(store):
    """What runs goes on, what waits stays, other types are claimed, and resuming lets the first one go first."""
    owned = running(store)
    first, second = create(store), create(store)
    other = create(store, job(type="edit"))
    assert _pause(store).paused_at is not None
    assert claim(store, WORKER) is None
    assert claim(store, BOTH).id == other.id
    assert claim(store, BOTH) is None
    assert store.finish(owned.claim, DONE, next=ClaimRequest(WORKER, new_id(), 90)).next is None
    assert _pause(store, paused=False).paused_at is None
    assert [claim(store).id for _ in range(2)] == [first.id, second.id]


def test_pausing_twice_keeps_the_first_time_and_resuming_forgets_all(store):
    """Repeats change nothing; a type that is neither paused nor limited has no row to be read."""
    since = _pause(store).paused_at
    assert _pause(store).paused_at == since
    assert [one.paused_at for one in store.stats().steering] == [since]
    _pause(store, paused=False)
    assert store.stats().steering == ()


def test_a_due_job_of_a_paused_type_holds_up_no_other(store):
    """A claim moves the due job that it may take, not the one before it that it may not."""
    paused, other = create(store, job(run_at=2**50)), create(store, job(type="edit", run_at=2**50))
    _pause(store)
    due(store, paused.id)
    due(store, other.id)
    assert claim(store, BOTH).id == other.id
    assert status(store, paused.id) is Status.SCHEDULED


def test_a_paused_job_has_a_place_but_no_time(store):
    """Nobody knows when it will be done."""
    store.finish(running(store).claim, DONE)
    store.heartbeat(WORKER, [], lease_s=90)
    waiting = create(store)
    assert store.get(waiting.id).eta_s is not None
    _pause(store)
    assert (store.get(waiting.id).ahead, store.get(waiting.id).eta_s) == (0, None)


ENDS = {
    "completed": lambda store, owned: store.finish(owned.claim, DONE),
    "failed": lambda store, owned: store.finish(owned.claim, PERMANENT),
    "retrying": lambda store, owned: store.finish(owned.claim, TRANSIENT),
    "cancelled": lambda store, owned: (store.cancel(owned.id), store.finish(owned.claim, CANCELLED)),
    "cancelled without a lease": lambda store, owned: (expire(store, owned.id), store.cancel(owned.id)),
    "released": lambda store, owned: store.release(owned.claim),
    "reaped": lambda store, owned: (expire(store, owned.id), store.reap()),
    "given up by its worker": lambda store, owned: store.heartbeat(
        WORKER, [], lease_s=90, given_up=[owned.claim_token]
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_limit_holds_over_all_workers_and_every_end_makes_room(store, end):
    """At most so many of the type run at once; the count is right after every way out of running."""
    _limit(store, 1)
    owned = running(store)
    create(store)
    assert claim(store, OTHER) is None
    assert store.stats().steering[0].running == 1
    ENDS[end](store, owned)
    assert store.stats().steering[0].running == 0
    assert claim(store, OTHER) is not None
    assert claim(store, WORKER) is None


def test_a_limit_counts_what_runs_already_and_can_be_lifted(store):
    """Set below what runs it ends nothing; lifted, everybody claims again."""
    running(store), running(store)
    create(store)
    assert _limit(store, 1).running == 2
    assert claim(store) is None
    assert _limit(store, None).max_running is None
    assert claim(store) is not None


def test_a_claim_repeated_after_a_lost_reply_finds_its_job_at_the_limit(store):
    """The job that fills the limit is this worker's own."""
    _limit(store, 1)
    first = create(store)
    assert claim(store, token="t").id == first.id
    assert claim(store, token="t").id == first.id
    assert store.stats().steering[0].running == 1


def test_workers_that_race_never_pass_the_limit(store):
    """Three at once, over and over: in the moment after a claim never more than two run."""
    _limit(store, 2)
    for _ in range(12):
        create(store)
    seen, errors = [], []

    def work(name):
        worker = Worker(id=name, host="here", version="0", types=("ingest",), slots=1)
        try:
            for _ in range(8):
                owned = claim(store, worker)
                seen.append(len(store.running()))
                if owned is not None:
                    store.finish(owned.claim, DONE)
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert max(seen) <= 2
    assert store.stats().steering[0].running == 0


UNFINISHED = (Status.RETRYING, Status.SCHEDULED, Status.PENDING, Status.WAITING_CHILDREN)


def test_all_jobs_are_those_of_registered_programs_too(store):
    """Their types are no built-in ones."""
    store.types = (*JOB_TYPES, "workflow:i2v")
    create(store, job(type="workflow:i2v"))
    assert store.cancel_matching(JobFilter(), limit=10).cancelled == 1


def test_unfinished_jobs_are_cancelled_in_batches_and_counted_once(store):
    """Those without an owner end, the others are asked to stop; a second time there is nothing to do."""
    store.finish(running(store).claim, DONE)
    owned = running(store)
    left = {state: in_state(store, state)[0] for state in UNFINISHED}
    found = [store.cancel_matching(JobFilter(), limit=3) for _ in range(3)]
    assert [(one.cancelled, one.stopping, one.more) for one in found] == [(2, 1, True), (1, 1, False), (0, 0, False)]
    assert store.get(owned.id).cancelling
    assert {status(store, one) for one in left.values()} == {Status.CANCELLED}


def test_what_is_stopping_already_is_not_asked_again(store):
    """A parent that waits for the end of its running child, and that child, are counted by the first request."""
    create(store, *family("core"))
    assert claim(store) is not None
    first, second = (store.cancel_matching(JobFilter(), limit=10) for _ in range(2))
    assert (first.cancelled, first.stopping) == (0, 2)
    assert (second.cancelled, second.stopping) == (0, 0)


FILTERS = {
    "type": JobFilter(type="edit"),
    "tag": JobFilter(tag="wrong"),
    "text": JobFilter(text="WRONG"),
    "status": JobFilter(status=Status.SCHEDULED),
}


@pytest.mark.parametrize("by", FILTERS)
def test_only_what_matches_is_cancelled(store, by):
    """Each filter finds its job and leaves the other."""
    wrong = create(store, job(type="edit", tags=("wrong",), name="Wrong.wav", run_at=2**50))
    right = create(store, job(name="right.wav"))
    assert store.cancel_matching(FILTERS[by], limit=10).cancelled == 1
    assert (status(store, wrong.id), status(store, right.id)) == (Status.CANCELLED, Status.PENDING)


def test_failed_jobs_run_again_once_each(store):
    """New jobs of the same parameters; a second time there is nothing left, until the new one fails too."""
    failed = [in_state(store, state)[0] for state in (Status.FAILED, Status.DEAD_LETTER)]
    in_state(store, Status.CANCELLED)
    first = store.retry_matching(JobFilter(), limit=10)
    assert (first.retried, first.skipped, first.next_seq) == (2, 0, None)
    again = [claim(store) for _ in failed]
    assert sorted(one.retry_of for one in again) == sorted(failed)
    assert store.retry_matching(JobFilter(), limit=10).retried == 0
    store.finish(again[0].claim, PERMANENT)
    assert store.retry_matching(JobFilter(), limit=10).retried == 1


def test_jobs_of_one_error_run_again_and_the_others_stay(store):
    """The filter goes by the code of the failure; what was run again says as what, and is listed so."""
    broken, lost = in_state(store, Status.FAILED)[0], in_state(store, Status.DEAD_LETTER)[0]
    code = store.get(broken).error["code"]
    assert store.get(lost).error["code"] != code
    assert [one.id for one in store.list(JobFilter(error=code), limit=9).items] == [broken]
    assert store.retry_matching(JobFilter(error=code), limit=10).retried == 1
    again = claim(store)
    assert (again.retry_of, store.get(broken).retried_as, store.get(lost).retried_as) == (broken, again.id, None)
    listed = {one.id: one.retried_as for one in store.list(JobFilter(), limit=9).items}
    assert listed == {broken: again.id, lost: None, again.id: None}


def test_the_statistics_name_what_each_worker_is_at(store):
    """By the owner in the queue's own rows, with the title, the name or the key a person knows the job by."""
    create(store, job(name="talk.wav"), job(name="raw.wav", params={"source": "x", "title": "Two people"}))
    mine, other = claim(store), claim(store, OTHER)
    store.heartbeat(OTHER, [Beat(other.claim)], lease_s=90)
    store.heartbeat(WORKER, [Beat(mine.claim, Progress("encoding", 3, 5))], lease_s=90)
    at = {seen.worker.id: [(one.id, one.title, one.stage) for one in seen.jobs] for seen in store.stats().workers}
    assert at == {WORKER.id: [(mine.id, "talk.wav", "encoding")], OTHER.id: [(other.id, "Two people", None)]}
    store.finish(mine.claim, PERMANENT)
    assert {seen.worker.id: len(seen.jobs) for seen in store.stats().workers} == {WORKER.id: 0, OTHER.id: 1}


def test_batches_of_retries_follow_one_another(store):
    """Each begins where the last one ended, and all failed jobs are run again."""
    for _ in range(5):
        in_state(store, Status.FAILED)
    after, made = None, []
    while True:
        found = store.retry_matching(JobFilter(type="ingest"), limit=2, before_seq=after)
        made.append(found.retried)
        after = found.next_seq
        if after is None:
            break
    assert made == [2, 2, 1]


def test_a_family_runs_again_as_a_whole_and_once(store):
    """However many of it failed: one new parent, with what completed carried over."""
    root = create(store, *family("core", "core", "core"))
    first, second, third = (claim(store) for _ in range(3))
    store.finish(first.claim, DONE)
    store.finish(second.claim, PERMANENT)
    store.finish(third.claim, PERMANENT)
    assert status(store, root.id) is Status.FAILED
    found = store.retry_matching(JobFilter(), limit=10)
    assert found.retried == 1
    again = store.list(JobFilter(parent_id="none"), limit=1).items[0]
    assert again.retry_of == root.id
    assert [child.status for child in store.children(again.id)].count(Status.COMPLETED) == 1


def test_two_retries_at_the_same_moment_make_one_job(store):
    """The second one's jobs are refused by their key, whatever it had read before."""
    in_state(store, Status.FAILED)
    read = store._read
    stale = {}

    def read_once(batch):
        text = batch[0].text
        if len(batch) == 3:
            stale.setdefault(text, read(batch))
            return stale[text]
        return read(batch)

    store._read = read_once
    assert [store.retry_matching(JobFilter(), limit=10).retried for _ in range(2)] == [1, 0]


def test_retries_of_a_caller_count_against_its_limit(store):
    """Where one may wait, a batch of two is refused and leaves nothing."""
    for _ in range(2):
        in_state(store, Status.FAILED)
    with pytest.raises(TooManyWaiting):
        store.admitting(Admission("key:a", max_waiting=1)).retry_matching(JobFilter(), limit=10)
    assert store.list(JobFilter(status=Status.PENDING), limit=1).items == ()


def test_a_backup_restored_counts_what_runs_anew(tmp_path, store):
    """Running jobs go back to the queue of the new database, and make room there."""
    _limit(store, 1)
    running(store)
    back_up(store, tmp_path / "copy.db")
    new = LocalJobStore(tmp_path / "new.db")
    restore(new, tmp_path / "copy.db")
    assert (new.stats().steering[0].max_running, new.stats().steering[0].running) == (1, 0)
    new.close()
