"""Webhooks in the queue: one for each end, none is lost, and a sender that was overtaken writes nothing."""

import dataclasses

import pytest

from shared.job import Status
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.values import Sent, Webhook
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
    job,
    running,
)

URL = "https://example.org/hook?key=secret"


def owed(store, limit: int = 10, lease_s: float = 60) -> list[Webhook]:
    """What is due now."""
    return list(store.claim_webhooks(limit=limit, lease_s=lease_s))


def overdue(store) -> None:
    """Let the time come for all that waits, leased or not."""
    store._run([Statement("UPDATE webhook SET due_at = 1")])


def told(store, job_id: str) -> list[str]:
    """What the history says about webhooks."""
    return [event.message for event in store.events(job_id) if event.kind == "log"]


def _finished(outcome):
    def end(store) -> str:
        owned = running(store, webhook_url=URL)
        if outcome is CANCELLED:
            store.cancel(owned.id)
        store.finish(owned.claim, outcome)
        return owned.id

    return end


def _dead_by_reaping(store) -> str:
    owned = running(store, webhook_url=URL, max_failures=1)
    expire(store, owned.id)
    store.reap()
    return owned.id


def _cancelled_before_it_began(store) -> str:
    made = create(store, job(webhook_url=URL))
    store.cancel(made.id)
    return made.id


def _settled_by_its_child(store) -> str:
    root = create(store, *family("core", webhook_url=URL))
    store.finish(claim(store).claim, DONE)
    return root.id


def _parent_of_nothing(store) -> str:
    return create(store, job(type="flow", params={}, own_work=False, webhook_url=URL)).id


ENDS = {
    "completed": (_finished(DONE), Status.COMPLETED),
    "failed": (_finished(PERMANENT), Status.FAILED),
    "cancelled while it ran": (_finished(CANCELLED), Status.CANCELLED),
    "cancelled before": (_cancelled_before_it_began, Status.CANCELLED),
    "reaped": (_dead_by_reaping, Status.DEAD_LETTER),
    "a family": (_settled_by_its_child, Status.COMPLETED),
    "a parent of nothing": (_parent_of_nothing, Status.COMPLETED),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_owes_one_webhook(store, end):
    """Written with the end itself, with what the receiver is to be told."""
    way, status = ENDS[end]
    job_id = way(store)
    (webhook,) = owed(store)
    assert (webhook.job_id, webhook.url, webhook.attempts, webhook.gone) == (job_id, URL, 1, False)
    found = store.get(job_id)
    assert webhook.job["status"] == status == found.status
    assert webhook.job["completed_at"] == found.completed_at
    assert webhook.job["result"] == found.result
    assert webhook.job["error"] == found.error
    assert owed(store) == []


def test_what_has_not_ended_or_asked_for_none_owes_none(store):
    """A retry, a job without an address; and a child that a retry carries over was told of before."""
    store.finish(running(store).claim, DONE)
    owned = running(store, webhook_url=URL)
    store.finish(owned.claim, TRANSIENT)
    assert owed(store) == []
    due(store, owned.id)
    root, *children = family("core", "core")
    create(store, root, *(dataclasses.replace(child, webhook_url=URL) for child in children))
    by_key = {}
    for _ in range(3):
        one = claim(store)
        by_key[one.child_key] = one
    store.finish(by_key["a"].claim, DONE)
    store.finish(by_key["b"].claim, PERMANENT)
    assert len(owed(store)) == 2
    store.retry(root.id)
    assert owed(store) == []


def test_a_webhook_of_a_dead_sender_is_sent_by_another(store):
    """Once its time is over; the first one, should it live after all, writes nothing any more."""
    job_id = _finished(DONE)(store)
    (first,) = owed(store)
    assert owed(store) == []
    overdue(store)
    (second,) = owed(store)
    assert (second.job_id, second.attempts) == (job_id, 2)
    store.settle_webhooks([Sent(first, "info", "By the first.", {})], disabled_s=60)
    assert told(store, job_id) == []
    store.settle_webhooks([Sent(second, "info", "By the second.", {"status": 200})], disabled_s=60)
    assert told(store, job_id) == ["By the second."]
    overdue(store)
    assert owed(store) == []


def test_what_failed_is_due_again_after_its_pause(store):
    """Not before, and its history tells of every try."""
    job_id = _finished(DONE)(store)
    for number in (1, 2, 3):
        (webhook,) = owed(store)
        assert webhook.attempts == number
        store.settle_webhooks([Sent(webhook, "warn", f"Try {number}.", {}, after_s=600)], disabled_s=60)
        assert owed(store) == []
        overdue(store)
    assert told(store, job_id) == ["Try 1.", "Try 2.", "Try 3."]


def test_a_receiver_that_is_gone_is_left_alone(store):
    """For all jobs with that address, until the time is over; other addresses are served."""
    _finished(DONE)(store)
    (webhook,) = owed(store)
    store.settle_webhooks([Sent(webhook, "error", "Gone.", {}, gone=True)], disabled_s=60)
    _finished(DONE)(store)
    assert [one.gone for one in owed(store)] == [True]
    store.finish(running(store, webhook_url="https://example.org/other").claim, DONE)
    assert [one.gone for one in owed(store)] == [False]
    store._run([Statement("UPDATE webhook_gone SET gone_until = 1")])
    overdue(store)
    assert {one.gone for one in owed(store)} == {False}


def test_a_deleted_job_takes_its_webhook_along(store):
    """Nobody is told of what is not there."""
    job_id = _finished(DONE)(store)
    store.purge(job_id)
    assert owed(store) == []


def test_the_oldest_are_sent_first_and_no_more_than_asked_for(store):
    """A few at a time, each by one worker only."""
    ids = [_finished(DONE)(store) for _ in range(5)]
    assert sorted(one.job_id for one in owed(store, limit=3)) == sorted(ids[:3])
    assert sorted(one.job_id for one in owed(store, limit=3)) == sorted(ids[3:])


def test_looking_and_settling_are_one_round_trip_each(store, counting):
    """And a look that finds nothing reads next to nothing and writes nothing."""
    counting.trips = 0
    read, written = store.usage.rows_read, store.usage.rows_written
    assert owed(store) == []
    assert counting.trips == 1
    assert store.usage.rows_written == written
    assert store.usage.rows_read - read <= 4
    _finished(DONE)(store)
    counting.trips = 0
    sent = [Sent(one, "info", "Done.", {}) for one in owed(store)]
    store.settle_webhooks(sent, disabled_s=60)
    assert counting.trips == 2


def test_a_webhook_costs_the_end_of_its_job_two_rows(store):
    """The webhook and its place in the queue of webhooks; a job without one pays nothing (test_rows.py)."""
    if isinstance(store, LocalJobStore):
        pytest.skip("a file does not count rows")
    costs = []
    for url in (None, URL):
        owned = running(store, webhook_url=url)
        before = store.usage.rows_written
        store.finish(owned.claim, DONE)
        costs.append(store.usage.rows_written - before)
    assert costs[1] <= costs[0] + 2
