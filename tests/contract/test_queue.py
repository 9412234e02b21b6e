"""The queue as its clients see it: order, position, lists, idempotency, history, statistics, retention."""

from collections import Counter

import pytest

from shared.errors import Conflict, NotFound
from shared.job import Line, Status, new_id
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from shared.store.values import Asset, Beat, JobFilter, Sources
from tests.contract.conftest import EVERY_ADAPTER
from tests.contract.factory import (
    DONE,
    OTHER,
    PERMANENT,
    TRANSIENT,
    WORKER,
    claim,
    create,
    due,
    family,
    in_state,
    job,
    running,
    status,
)


@pytest.fixture(params=EVERY_ADAPTER)
def store(request, databases):
    """A migrated, empty queue on each database, and on a server that wants TLS and a token."""
    with databases.open(request.param) as store:
        yield store


def _age(store, days: int) -> None:
    """Let all rows be some days older."""
    shift = {"ms": days * 86_400_000}
    store._run(
        [
            Statement("UPDATE job SET created_at = created_at - :ms, completed_at = completed_at - :ms", shift),
            Statement("UPDATE asset SET created_at = created_at - :ms", shift),
        ]
    )


def test_jobs_are_claimed_in_the_order_of_their_creation(store):
    """First in, first out."""
    made = [create(store).id for _ in range(5)]
    assert [claim(store).id for _ in range(5)] == made


def test_a_higher_priority_goes_first_and_stays_in_order(store):
    """Within a priority the order is that of creation, over all types."""
    low, high, high2 = create(store), create(store, job(priority=5)), create(store, job(priority=5))
    assert [claim(store).id for _ in range(3)] == [high.id, high2.id, low.id]


def test_position_counts_the_jobs_that_go_first(store):
    """The next job has nobody ahead; priorities count; a job that is not pending has no position."""
    first, second, urgent = create(store), create(store), create(store, job(priority=1))
    assert [store.get(item.id).ahead for item in (first, second, urgent)] == [1, 2, 0]
    owned = claim(store)
    assert (owned.id, store.get(owned.id).ahead) == (urgent.id, None)
    assert store.get(first.id).ahead == 0


def test_position_is_counted_to_a_hundred(store):
    """Beyond that the answer is a bound, so that its cost does not grow with the queue."""
    made = [create(store).id for _ in range(103)]
    assert [store.get(made[n]).ahead for n in (0, 99, 100, 101, 102)] == [0, 99, 100, 101, 101]


def test_a_list_knows_the_positions_of_its_jobs(store):
    """The same places as job by job, for a page and for a family's children."""
    root = create(store, *family("core", "core", "post"))
    urgent = create(store, job(priority=1))
    owned = claim(store)
    for item in (*store.list(JobFilter(), limit=10).items, *store.children(root.id)):
        assert item.ahead == store.get(item.id).ahead
    assert (owned.id, [child.ahead for child in store.children(root.id)]) == (urgent.id, [0, 1, None])


def test_a_worker_that_leaves_is_no_longer_counted(store):
    """A clean end needs no timeout to be seen."""
    store.heartbeat(WORKER, [], lease_s=90)
    store.leave(WORKER.id)
    assert store.stats().workers == ()


def test_a_line_has_the_time_at_which_it_was_written(store):
    """Not that of the heartbeat that carried it."""
    owned = running(store)
    store.heartbeat(WORKER, [Beat(owned.claim, lines=(Line(1, "info", "log", "x", age_ms=5000),))], lease_s=90)
    written = store.events(owned.id)[-1]
    assert -6000 < written.at - store.check() <= -5000


def test_a_waiting_job_has_an_estimate_from_what_finished_before(store):
    """Mean run time of the type, times the rounds it waits, over the slots that are alive."""
    owned = running(store)
    store.heartbeat(WORKER, [Beat(owned.claim)], lease_s=90)
    store._run([Statement("UPDATE job SET started_at = started_at - 10000 WHERE id = :id", {"id": owned.id})])
    store.finish(owned.claim, DONE)
    waiting = [create(store).id for _ in range(5)]
    assert store.get(waiting[0]).eta_s == pytest.approx(10, abs=1)
    assert store.get(waiting[4]).eta_s == pytest.approx(20, abs=2), "four slots: the fifth job goes in a second round"


def test_the_same_key_and_request_give_the_same_job(store):
    """A client may repeat a request whose answer it did not get, even with another id."""
    first, fresh = store.create([job(idempotency_key="k", request_hash="h")])
    again, again_fresh = store.create([job(idempotency_key="k", request_hash="h")])
    assert (first.id, fresh, again_fresh) == (again.id, True, False)
    other, other_fresh = store.create([job(idempotency_key="k", request_hash="h", caller="someone else")])
    assert (other.id != first.id, other_fresh) == (True, True)


def test_the_same_key_for_another_request_is_refused(store):
    """Nothing is created, and the sentence names the job that has the key."""
    first, _ = store.create([job(idempotency_key="k", request_hash="h")])
    with pytest.raises(Conflict, match=first.id):
        store.create([job(idempotency_key="k", request_hash="other")])
    assert len(store.list(JobFilter(), limit=10).items) == 1


def test_a_family_under_a_used_key_leaves_nothing_behind(store):
    """The children of a repeated request are not inserted beside the first family."""
    first, _ = store.create(family("core", idempotency_key="k", request_hash="h"))
    again, fresh = store.create(family("core", idempotency_key="k", request_hash="h"))
    assert (again.id, fresh) == (first.id, False)
    assert len(store.list(JobFilter(), limit=10).items) == 2


def test_a_scheduled_job_waits_for_its_time(store):
    """It is claimed by the first claim after it."""
    later = create(store, job(run_at=2**50))
    assert (later.status, claim(store)) == (Status.SCHEDULED, None)
    due(store, later.id)
    assert claim(store).id == later.id


def test_a_failed_attempt_waits_with_jitter_and_doubles(store):
    """The delay is random between nothing and two seconds, doubled per failure, at most five minutes."""
    delays = Counter()
    for failures, ceiling in ((0, 2000), (3, 16_000), (20, 300_000)):
        for _ in range(20):
            owned = running(store, max_failures=99)
            store._run([Statement("UPDATE job SET failures = :n WHERE id = :id", {"id": owned.id, "n": failures})])
            retrying = store.finish(owned.claim, TRANSIENT).job
            assert retrying.status is Status.RETRYING
            delay = retrying.run_at - retrying.updated_at
            assert 0 <= delay <= ceiling
            delays[ceiling] = max(delays[ceiling], delay)
            store.cancel(owned.id)
    assert delays[2000] > 500
    assert delays[300_000] > 60_000


def test_lists_are_newest_first_and_pages_join_without_gap_or_repeat(store):
    """A cursor is the last row's number, so that new jobs do not shift the pages."""
    made = [create(store).id for _ in range(7)]
    seen, cursor = [], None
    while True:
        page = store.list(JobFilter(), limit=3, before_seq=cursor)
        seen += [item.id for item in page.items]
        cursor = page.next_seq
        create(store)
        if cursor is None:
            break
    assert seen == made[::-1]


def test_lists_filter_by_state_type_parent_and_tag(store):
    """Filters combine; `none` means top level only."""
    failed, _ = in_state(store, Status.FAILED)
    owned = running(store)
    tagged = create(store, job(tags=("show", "draft")))
    root = create(store, *family("core"))

    def ids(**where):
        return {item.id for item in store.list(JobFilter(**where), limit=50).items}

    child = store.children(root.id)[0].id
    assert ids(tag="show") == {tagged.id}
    assert ids(tag="sho") == set()
    assert ids(parent_id=root.id) == {child}
    assert ids(parent_id="none") == {tagged.id, root.id, failed, owned.id}
    assert ids(status=Status.FAILED) == {failed}
    assert ids(status=Status.RUNNING, type="ingest") == {owned.id}
    assert ids(type="flow", status=Status.WAITING_CHILDREN) == {root.id}
    assert ids(type="flow", tag="show") == set()


def test_a_job_that_has_not_started_can_be_changed(store):
    """Priority, time and tags; afterwards the sentence says why not."""
    waiting = create(store)
    changed = store.patch(waiting.id, priority=3, tags=["x"])
    assert (changed.priority, changed.tags, changed.status) == (3, ("x",), Status.PENDING)
    assert store.patch(waiting.id, run_at=2**50).status is Status.SCHEDULED
    owned = running(store)
    with pytest.raises(Conflict, match="is running"):
        store.patch(owned.id, priority=1)
    with pytest.raises(NotFound, match="no job"):
        store.patch("nothing", priority=1)


@pytest.mark.parametrize("end", [Status.FAILED, Status.DEAD_LETTER, Status.CANCELLED])
def test_a_job_that_ended_badly_can_be_run_again_as_a_new_one(store, end):
    """The old row stays as it was; the new one names it."""
    old, _ = in_state(store, end)
    again = store.retry(old)[0]
    assert (again.retry_of, again.status, again.attempt, again.failures) == (old, Status.PENDING, 0, 0)
    assert status(store, old) is end


@pytest.mark.parametrize("state", [Status.RUNNING, Status.PENDING, Status.COMPLETED, Status.RETRYING])
def test_other_jobs_cannot_be_run_again(store, state):
    """The sentence names the state."""
    job_id, _ = in_state(store, state)
    with pytest.raises(Conflict, match=f"is {state}"):
        store.retry(job_id)


@pytest.mark.parametrize("verb", ["cancel", "retry", "purge"])
def test_a_job_that_does_not_exist_is_not_found(store, verb):
    """Every verb by id says so."""
    with pytest.raises(NotFound, match="no job"):
        getattr(store, verb)("nothing")


def test_history_is_in_order_and_can_be_tailed(store):
    """Events have rising ids over all jobs; a reader continues after the last it saw."""
    owned = running(store)
    lines = tuple(Line(n, "debug" if n == 1 else "info", "log", f"line {n}", {"n": n}) for n in (1, 2, 3))
    store.heartbeat(WORKER, [Beat(owned.claim, lines=lines)], lease_s=90)
    everything = store.events(owned.id)
    assert [event.message for event in everything] == ["pending", "running", "line 1", "line 2", "line 3"]
    assert everything[3].data == {"n": 2}
    assert store.events(None, after=everything[2].id, limit=1) == everything[3:4]
    assert [event.message for event in store.events(owned.id, level="info")][2:] == ["line 2", "line 3"]
    assert store.last_event_id() == everything[-1].id


def test_text_of_any_kind_survives(store):
    """Quotes, line separators, other scripts and emoji come back as they went in."""
    text = "'\"\\ \u2028\u2029\u0085 שלום 🎧 \t\n%s"
    owned = running(store, params={"source": text}, tags=(text[:40],))
    store.heartbeat(WORKER, [Beat(owned.claim, lines=(Line(1, "info", "log", text, {"t": text}),))], lease_s=90)
    seen = store.get(owned.id)
    assert (seen.params["source"], seen.tags) == (text, (text[:40],))
    assert (store.events(owned.id)[-1].message, store.events(owned.id)[-1].data) == (text, {"t": text})


def test_the_tally_counts_each_finished_job_once(store):
    """One row per hour, type and end, with sums and histograms by powers of two."""
    for outcome in (DONE, DONE, PERMANENT):
        store.finish(running(store).claim, outcome)
    tallies = {item.status: item for item in store.stats().tallies}
    done = tallies[Status.COMPLETED]
    assert (done.jobs, done.media_ms, sum(done.wait_log2.values()), sum(done.run_log2.values())) == (2, 2000, 2, 2)
    assert tallies[Status.FAILED].jobs == 1


def test_statistics_count_what_is_unfinished_and_who_works(store):
    """States, the oldest waiting job and the workers that were heard of."""
    oldest = create(store)
    create(store)
    store.heartbeat(WORKER, [], lease_s=90)
    stats = store.stats()
    assert stats.unfinished == {("ingest", Status.PENDING): 2}
    assert stats.oldest_pending_at == oldest.created_at
    assert [(seen.worker, seen.running) for seen in stats.workers] == [(WORKER, 0)]
    assert stats.at >= oldest.created_at


def test_pruning_takes_old_ended_jobs_and_their_history_only(store):
    """Live jobs, young jobs and children of a young parent stay; the walk goes on where it stopped."""
    old_done, _ = in_state(store, Status.COMPLETED)
    live = create(store)
    _age(store, 40)
    young, _ = in_state(store, Status.FAILED)
    found = store.prunable(older_than_s=30 * 86_400)
    assert found.job_ids == (old_done,)
    assert store.prune(found) == 1
    assert store.get(old_done) is None
    assert store.events(old_done) == []
    assert store.get(live.id) is not None
    assert store.get(young) is not None
    assert store.prunable(older_than_s=30 * 86_400).job_ids == ()


def test_the_prune_walk_passes_rows_in_steps_and_starts_again(store):
    """Each step looks at a bounded number of rows."""
    made = [in_state(store, Status.COMPLETED)[0] for _ in range(5)]
    live = create(store)
    _age(store, 40)
    gone = []
    for _ in range(4):
        found = store.prunable(older_than_s=86_400, limit=2)
        gone += found.job_ids
        store.prune(found)
    assert gone == made
    assert store.get(live.id) is not None


def test_files_that_a_retry_carries_over_are_not_pruned_or_purged(store):
    """An old family goes only after the retry that uses its files."""
    root = create(store, *family("core", "core"))
    store.finish(claim(store).claim, DONE)
    store.finish(claim(store).claim, PERMANENT)
    again = store.retry(root.id)[0]
    with pytest.raises(Conflict, match="used by a retry"):
        store.purge(root.id)
    store.cancel(again.id)
    _age(store, 40)
    first = store.prunable(older_than_s=86_400).job_ids
    assert root.id not in first
    assert again.id in first
    store.purge(again.id)
    store.purge(root.id)
    assert store.get(root.id) is None


def test_purge_deletes_an_ended_job_with_its_children(store):
    """And refuses while anything of it is unfinished."""
    root = create(store, *family("core"))
    with pytest.raises(Conflict, match="has not ended"):
        store.purge(root.id)
    store.finish(claim(store).claim, DONE)
    child = store.children(root.id)[0].id
    store.purge(root.id)
    assert (store.get(root.id), store.get(child), store.events(child)) == (None, None, [])


def test_many_uploads_are_read_at_once(store):
    """Those that there are, each once, however often it is asked for."""
    there = [
        store.add_asset(
            Asset(
                id=new_id(),
                owner="local",
                filename=f"{n}.wav",
                content_type="audio/wav",
                size_bytes=n,
                state="uploading",
            )
        )
        for n in range(3)
    ]
    ids = [asset.id for asset in there]
    found = store.sources([*ids[:2], new_id(), ids[0], "no such id"])
    assert found.assets == {asset.id: asset for asset in there[:2]}
    assert store.sources() == Sources()


def test_uploads_are_remembered_made_ready_and_forgotten(store):
    """An upload that an unfinished job needs cannot be deleted."""
    asset = Asset(
        id=new_id(), owner="local", filename="a b.wav", content_type="audio/wav", size_bytes=5, state="uploading"
    )
    assert store.add_asset(asset).state == "uploading"
    assert store.add_asset(asset).created_at == store.asset(asset.id).created_at
    assert store.asset_ready(asset.id, sha256="00").state == "ready"
    needs = create(store, job(params={"source": asset.id}))
    with pytest.raises(Conflict, match="unfinished job"):
        store.give_up_asset(asset.id)
    _age(store, 40)
    assert store.prunable(older_than_s=86_400).asset_ids == ()
    store.cancel(needs.id)
    assert store.prunable(older_than_s=86_400).asset_ids == (asset.id,)
    store.forget_asset(asset.id)
    assert store.asset(asset.id).state == "ready", "its file is still there"
    store.give_up_asset(asset.id)
    store.give_up_asset(asset.id)
    with pytest.raises(NotFound, match="no upload"):
        store.asset_ready(asset.id, sha256=None)
    store.forget_asset(asset.id)
    store.forget_asset(asset.id)
    assert store.asset(asset.id) is None
    with pytest.raises(NotFound, match="no upload"):
        store.asset_ready(asset.id, sha256=None)


def test_a_watch_sees_a_change_of_another_connection(store):
    """It returns at once when something happened since the last look."""
    if not isinstance(store, LocalJobStore):
        pytest.skip("a remote database does not tell when it changes: its watch is a poll")
    watch = store.watch()
    assert not watch.wait(0)
    create(store)
    assert watch.wait(5)
    assert not watch.wait(0)
    watch.close()


def test_migrations_are_applied_once(store):
    """A second start finds nothing to do."""
    assert store.migrate() == []
    assert store.pending_migrations() == []


def test_a_worker_that_never_took_its_leave_is_forgotten(store):
    """Pruning deletes workers that were not heard of for a day, and no others."""
    for worker in (WORKER, OTHER):
        store.heartbeat(worker, [], lease_s=90)
    store._run([Statement("UPDATE worker SET seen_at = seen_at - 86500000 WHERE id = :id", {"id": OTHER.id})])
    store.prune(store.prunable(older_than_s=86_400))
    assert [row["id"] for row in store._read([Statement("SELECT id FROM worker")])[0]] == [WORKER.id]
