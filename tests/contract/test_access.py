"""Keys and limits on every database: what rides on a request's own batch, and what is refused with it."""

import copy

import pytest

from shared.errors import Conflict, NotFound, RateLimited, TooManyWaiting
from shared.job import Status
from shared.keys import new_key
from shared.store.sql import Statement
from shared.store.values import Admission, JobFilter
from tests.contract.factory import DONE, claim, create, family, job


def key(store, name="studio", scopes=("read", "write")):
    """A live key, and its text."""
    made, text = new_key(name, scopes)
    return store.add_key(made), text


def jobs(store) -> int:
    """How many jobs there are."""
    return len(store.list(JobFilter(), limit=200).items)


def later(store, seconds: int) -> None:
    """Let time pass for every caller's budget and every key's last use."""
    store._run([Statement("UPDATE budget SET spent_until = spent_until - :s * 1000000", {"s": seconds})])
    store._run([Statement("UPDATE api_key SET last_used_at = last_used_at - :s * 1000", {"s": seconds})])


# --- keys -----------------------------------------------------------------------------------------------------------
def test_a_key_is_kept_as_its_hash(store):
    """Nothing in its row is the key, and only the key itself opens."""
    made, text = key(store, "studio", ("admin",))
    (kept,) = store.api_keys()
    assert (kept, kept.name, kept.scopes, kept.live, kept.last_used_at) == (made, "studio", ("admin",), True, None)
    row = store._read([Statement("SELECT * FROM api_key")])[0][0]
    secret = text.rpartition("_")[2]
    assert len(secret) == 64
    assert not any(secret in str(value) for value in row.values())
    assert kept.opens_with(text)
    assert not kept.opens_with(text[:-1] + ("0" if text[-1] != "0" else "1"))


def test_a_name_has_two_live_keys_at_most(store):
    """Enough to replace one by the other; a third has to wait for a revocation."""
    first, _ = key(store)
    key(store)
    with pytest.raises(Conflict, match="studio has 2 live keys"):
        key(store)
    key(store, "another")
    store.revoke_key(first.id)
    key(store)
    # Keys of one millisecond have no order.
    assert sorted(one.live for one in store.api_keys() if one.name == "studio") == [False, True, True]


def test_the_same_key_added_twice_is_one(store):
    """A repeat after a lost answer changes nothing, also when it was the second of its name."""
    key(store)
    made, _ = new_key("studio", ("read",))
    assert store.add_key(made) == store.add_key(made)
    assert len(store.api_keys()) == 2


def test_a_revoked_key_is_shut_out_for_good(store):
    """It stays in the list with the time of its first revocation."""
    made, text = key(store)
    revoked = store.revoke_key(made.id)
    assert not revoked.opens_with(text)
    assert store.revoke_key(made.id).revoked_at == revoked.revoked_at is not None
    with pytest.raises(NotFound, match="spool keys list"):
        store.revoke_key("000000000000")


def test_the_use_of_a_key_is_noted_once_a_minute_in_a_batch_that_goes_anyway(store, counting):
    """No round trip of its own, with reads and with writes, and no row written in between."""
    made, _ = key(store)
    owned = create(store)

    def used() -> int:
        return store.api_keys()[0].last_used_at

    for number, verb in enumerate((lambda one: one.get(owned.id), lambda one: one.create([job()]))):
        later(store, 61)
        before, admission = used(), Admission("key:studio", key_id=made.id)
        counting.trips = 0
        assert verb(store.admitting(admission)) is not None
        assert counting.trips == 1
        assert admission.key_noted
        noted = used()
        assert noted > (before or 0)
        store.admitting(Admission("key:studio", key_id=made.id)).get(owned.id)
        assert used() == noted, number


def test_keys_come_along_with_any_batch(store, counting):
    """One round trip brings the answer and every key."""
    made, _ = key(store)
    owned = create(store)
    for verb in (lambda one: one.get(owned.id), lambda one: one.cancel(owned.id), lambda one: one.children(owned.id)):
        admission = Admission("key:studio", wants_keys=True)
        counting.trips = 0
        verb(store.admitting(admission))
        assert (counting.trips, admission.keys) == (1, (made,))


# --- limits ---------------------------------------------------------------------------------------------------------
def test_a_rate_limit_is_counted_in_the_batch_of_the_job(store, counting):
    """Each write is one round trip; what is left goes down; the first one over the limit leaves nothing."""
    left = []
    for _ in range(3):
        admission = Admission("a", writes_per_minute=3)
        counting.trips = 0
        store.admitting(admission).create([job()])
        assert counting.trips == 1
        left.append(admission.quota.left)
    assert left == [2, 1, 0]
    with pytest.raises(RateLimited, match="3 times a minute") as refused:
        store.admitting(Admission("a", writes_per_minute=3)).create([job()])
    assert 1 <= refused.value.retry_after_s <= 20
    assert jobs(store) == 3


def test_what_has_passed_of_the_minute_is_there_again(store):
    """At three a minute one more write after twenty seconds; all three, and no more, however long nothing was asked."""
    for _ in range(3):
        store.admitting(Admission("a", writes_per_minute=3)).create([job()])
    later(store, 20)
    store.admitting(Admission("a", writes_per_minute=3)).create([job()])
    with pytest.raises(RateLimited):
        store.admitting(Admission("a", writes_per_minute=3)).create([job()])
    later(store, 3600)
    for _ in range(3):
        store.admitting(Admission("a", writes_per_minute=3)).create([job()])
    with pytest.raises(RateLimited):
        store.admitting(Admission("a", writes_per_minute=3)).create([job()])


def test_each_caller_has_a_limit_of_its_own(store):
    """One that is over it is nobody else's trouble."""
    store.admitting(Admission("a", writes_per_minute=1)).create([job()])
    with pytest.raises(RateLimited):
        store.admitting(Admission("a", writes_per_minute=1)).create([job()])
    store.admitting(Admission("b", writes_per_minute=1)).create([job()])


def test_a_request_is_charged_once_however_many_batches_it_takes(store):
    """An upload that a job needs is finished before the job is made, say."""
    owned = create(store)
    request = store.admitting(Admission("a", writes_per_minute=2))
    request.patch(owned.id, priority=1)
    request.patch(owned.id, priority=2)
    request.cancel(owned.id)
    last = Admission("a", writes_per_minute=2)
    store.admitting(last).create([job()])
    assert last.quota.left == 0


def test_no_more_jobs_wait_than_a_caller_may_have(store):
    """Waiting in the queue or for a time; families count all their jobs; what started makes room."""
    may = Admission("a", max_waiting=3)
    store.admitting(may).create([job(caller="a", run_at=2**50)])
    store.admitting(may).create([job(caller="a")])
    with pytest.raises(TooManyWaiting, match="3 jobs of one caller"):
        store.admitting(may).create(family("core", caller="a"))
    assert jobs(store) == 2
    store.admitting(may).create([job(caller="a")])
    with pytest.raises(TooManyWaiting) as refused:
        store.admitting(may).create([job(caller="a")])
    assert refused.value.retry_after_s > 0
    store.admitting(Admission("b", max_waiting=3)).create([job(caller="b")])
    owned = claim(store)
    store.admitting(may).create([job(caller="a")])
    store.finish(owned.claim, DONE)
    assert jobs(store) == 5


def test_a_single_request_over_the_limit_is_refused_at_once(store):
    """Also a caller's very first."""
    with pytest.raises(TooManyWaiting):
        store.admitting(Admission("a", max_waiting=2)).create(family("core", "core", caller="a"))
    assert jobs(store) == 0


def test_two_processes_share_a_limit(store):
    """The count is the database's, not a process's: another store on it is bound by the same."""
    other = copy.copy(store)
    for one in (store, other):
        one.admitting(Admission("a", writes_per_minute=2)).create([job()])
    for one in (store, other):
        with pytest.raises(RateLimited):
            one.admitting(Admission("a", writes_per_minute=2)).create([job()])


def test_an_admitted_queue_answers_as_the_queue_does(store):
    """What rides on a batch is taken off its results again, for every verb."""
    made, _ = key(store)
    owned = create(store, *family("core", "post"))
    full = store.admitting(Admission("a", 1000, 1000, key_id=made.id, wants_keys=True))
    assert full.get(owned.id) == store.get(owned.id)
    assert full.children(owned.id) == store.children(owned.id)
    assert [event.id for event in full.events(owned.id)] == [event.id for event in store.events(owned.id)]
    assert full.list(JobFilter(), limit=10) == store.list(JobFilter(), limit=10)
    assert full.patch(full.children(owned.id)[0].id, priority=3).priority == 3
    assert full.cancel(owned.id).status is Status.CANCELLED
    assert full.retry(owned.id)[0].status is Status.WAITING_CHILDREN
