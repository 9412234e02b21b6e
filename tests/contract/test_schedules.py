"""Schedules: each time makes one job, however many workers see it, and missed times are not made up for."""

from datetime import UTC, datetime

import pytest

from shared.errors import NotFound
from shared.job import Status
from shared.schedules import job_of, next_after
from shared.settings import load_settings
from shared.store.values import Schedule, Worker
from tests.contract.factory import DONE, WORKER, claim, create, job, status

SETTINGS = load_settings(_env_file=None)
LINK = {"source": "https://example.org/feed.xml"}


def _schedule(store, **fields) -> Schedule:
    made = {"name": "feed", "cron": "0 * * * *", "type": "ingest", "params": LINK, "caller": "key:a", "due_at": 1}
    return store.put_schedule(Schedule(**(made | fields)), paused=False)


def _run(store, seen):
    return store.run_schedule(seen, job_of(seen, SETTINGS), next_due_at=next_after(seen.cron, seen.now))


def test_a_time_that_two_workers_see_makes_one_job(store):
    """Both have read that it is due; the second one is refused in SQL, and neither sees it due again."""
    _schedule(store)
    first, second = store.schedules()[0], store.schedules()[0]
    made = _run(store, first)
    assert _run(store, second) is None
    assert (made.tags, made.caller, made.params) == (("schedule:feed",), "key:a", LINK)
    after = store.schedules()[0]
    assert (after.last_job_id, after.due_at > after.now, after.skipped) == (made.id, True, 0)


def test_a_time_comes_and_goes_while_the_job_before_is_unfinished(store):
    """It is skipped and counted; when that job has ended, the next time makes one."""
    first = _run(store, _schedule(store))
    assert _run(store, _schedule(store)) is None
    assert store.schedules()[0].skipped == 1
    store.finish(claim(store, WORKER).claim, DONE)
    assert status(store, first.id) is Status.COMPLETED
    assert _run(store, _schedule(store)) is not None


def test_a_paused_or_removed_schedule_makes_no_job(store):
    """Also for a worker that had read it before."""
    seen = _schedule(store)
    store.put_schedule(seen, paused=True)
    assert _run(store, seen) is None
    store.remove_schedule("feed")
    assert _run(store, seen) is None
    assert store.run_schedule(seen, job_of(seen, SETTINGS), next_due_at=None) is None
    with pytest.raises(NotFound, match="no schedule feed"):
        store.remove_schedule("feed")


def test_a_job_made_by_hand_leaves_the_times_as_they_are(store):
    """Run now works while it is paused, too, and while a job of it runs."""
    seen = store.put_schedule(_schedule(store, due_at=2**50), paused=True)
    made = [store.run_schedule(seen, job_of(seen, SETTINGS), next_due_at=None) for _ in range(2)]
    after = store.schedules()[0]
    assert (after.due_at, after.paused_at is not None, after.last_job_id) == (2**50, True, made[1].id)


def test_a_change_keeps_what_the_schedule_has_done(store):
    """Its last job and its birth stay; the rest is as given."""
    made = _run(store, _schedule(store))
    born = store.schedules()[0].created_at
    changed = _schedule(store, cron="5 * * * *", params={})
    assert (changed.cron, changed.params, changed.last_job_id, changed.created_at) == ("5 * * * *", {}, made.id, born)


def test_what_maintenance_did_outlives_its_job(store):
    """The last of each duty, from the very transaction of its end."""
    worker = Worker(id="w", host="here", version="0", types=("maintenance",), slots=1)
    for _ in range(2):
        made = create(store, job(type="maintenance", params={"duty": "backup"}))
        store.finish(claim(store, worker).claim, DONE)
    store.purge(made.id)
    assert [(one.duty, one.job_id, one.result) for one in store.upkeep()] == [("backup", made.id, DONE.result)]


CRONS = {
    "0 3 * * *": "2026-11-23T03:00:00",
    "*/15 * * * *": "2026-11-22T10:15:00",
    "0 4 * * 0": "2026-11-29T04:00:00",
    "0 0 29 2 *": "2028-02-29T00:00:00",
}


@pytest.mark.parametrize("cron", CRONS)
def test_the_next_time_of_a_schedule(cron):
    """In UTC, always after the moment itself."""
    at = round(datetime(2026, 11, 22, 10, 0, tzinfo=UTC).timestamp() * 1000)
    assert datetime.fromtimestamp(next_after(cron, at) / 1000, UTC).isoformat() == f"{CRONS[cron]}+00:00"


@pytest.mark.parametrize("cron", ["", "0 3 * *", "* * * * * *", "61 * * * *", "0 0 31 2 *", "@daily"])
def test_what_is_no_time_is_refused(cron):
    """With the rest of a sentence."""
    with pytest.raises(ValueError, match=r"five fields|cannot be read|never comes"):
        next_after(cron, 0)
