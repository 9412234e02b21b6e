"""What a family shows as its own: phase, percentage, files; and files of other jobs that a job reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import ClaimLost, Conflict
from shared.job import Outcome, Output, Progress, Status
from shared.store.sql import Statement
from shared.store.values import Beat, JobFilter
from tests.contract.factory import OTHER, PERMANENT, TRANSIENT, WORKER, claim, create, due, family, job, running

_TOP = JobFilter(parent_id="none")


def made(owned, *names):
    """A good end with files."""
    outputs = (Output(name, f"outputs/{owned.id}/{owned.attempt}/{name}", "audio/flac", 1, "0" * 64) for name in names)
    return Outcome("completed", result={"media_ms": 1000, "of": owned.child_key}, outputs=tuple(outputs))


def finished(store, *names, **fields):
    """A completed job with files, some days old."""
    owned = running(store, **fields)
    store.finish(owned.claim, made(owned, *names))
    store._run([Statement("UPDATE job SET created_at = 1, completed_at = 1 WHERE id = :id", {"id": owned.id})])
    return store.get(owned.id)


def weighed(*weights, phases=None):
    """A family whose children have these weights."""
    root, *children = family(*(phases or ["core"] * len(weights)))
    return [root, *(replace(child, weight=weight) for child, weight in zip(children, weights, strict=True))]


def test_a_parents_percentage_is_its_childrens_by_their_weights(store):
    """Half of a child of weight 1 beside one of weight 3 is an eighth of the whole; the list says the same."""
    root = create(store, *weighed(1, 3))
    assert root.progress in {None, 0.0}
    assert store.get(root.id).progress == 0.0
    light, heavy = claim(store), claim(store)
    store.heartbeat(WORKER, [Beat(light.claim, Progress("encoding", overall=50.0)), Beat(heavy.claim)], lease_s=90)
    assert store.get(root.id).progress == 12.5
    assert [one.progress for one in store.list(_TOP, limit=5).items] == [12.5]
    assert {one.id: one.progress for one in store.running()}[root.id] == 12.5
    store.finish(heavy.claim, made(heavy))
    assert store.get(root.id).progress == 87.5
    store.finish(light.claim, made(light))
    assert store.get(root.id).progress == 100.0


def test_a_parents_percentage_never_goes_back(store):
    """Not when a child begins anew, not when one fails, not when the family has ended, not by a child that joins."""
    root = create(store, *weighed(1, 1))
    first, second = claim(store), claim(store)
    store.heartbeat(WORKER, [Beat(first.claim, Progress("encoding", overall=80.0)), Beat(second.claim)], lease_s=90)
    store.finish(first.claim, TRANSIENT)
    assert store.get(root.id).progress == 40.0
    due(store, first.id)
    again = claim(store, OTHER)
    assert again.id == first.id
    store.heartbeat(OTHER, [Beat(again.claim, Progress("downloading", overall=1.0))], lease_s=90)
    assert store.get(root.id).progress == 40.0
    create(store, job(parent_id=root.id, phase="core", child_key="late", weight=0.0))
    assert store.get(root.id).progress == 40.0
    store.finish(second.claim, PERMANENT)
    assert store.get(root.id).progress == 40.0
    store.finish(again.claim, made(again))
    ended = store.get(root.id)
    assert (ended.status, ended.progress) == (Status.FAILED, 50.0)


def test_a_retry_begins_with_what_was_done(store):
    """What a completed child brings along counts at once."""
    root = create(store, *weighed(3, 1))
    first, second = claim(store), claim(store)
    store.finish(first.claim, made(first, "flac"))
    store.finish(second.claim, PERMANENT)
    again, _ = store.retry(root.id)
    assert store.get(again.id).progress == 75.0


@pytest.mark.parametrize("phases", [("pre", "post"), ("pre", "core"), ("core", "post"), ("pre", "core", "post")])
def test_a_parents_stage_is_its_phase(store, phases):
    """Counted over the phases it has children in, in their order, and told in its history."""
    root = create(store, *family(*phases))
    for index, phase in enumerate(phases):
        parent = store.get(root.id)
        assert (parent.stage, parent.stage_index, parent.stage_count) == (phase, index, len(phases))
        owned = claim(store)
        store.finish(owned.claim, made(owned))
    told = [(event.message, event.data) for event in store.events(root.id) if event.kind == "stage"]
    assert told == [(phase, {"index": index, "count": len(phases)}) for index, phase in enumerate(phases)]


def test_a_parent_shows_the_files_of_its_last_phase(store):
    """And the result of an only child there; two children that share a name are told apart by their keys."""
    root = create(store, *family("core", "post"))
    for names in (("flac",), ("mp3", "peaks.json")):
        owned = claim(store)
        store.finish(owned.claim, made(owned, *names))
    ended = store.get(root.id)
    assert [output.name for output in ended.outputs] == ["mp3", "peaks.json"]
    assert ended.outputs == store.children(root.id)[1].outputs
    assert ended.result == {"media_ms": 1000, "of": "b"}
    both = create(store, *family("post", "post"))
    for names in (("mp3", "only"), ("mp3",)):
        owned = claim(store)
        store.finish(owned.claim, made(owned, *names))
    ended = store.get(both.id)
    assert [output.name for output in ended.outputs] == ["a.mp3", "only", "b.mp3"]
    assert ended.result is None
    hours = [tally for tally in store.stats().tallies if tally.type == "flow"]
    assert sum(tally.media_ms for tally in hours) == 0


def test_an_owner_finds_files_of_other_jobs_and_of_its_siblings(store):
    """By the store, under its claim; a worker that lost the job is told nothing."""
    other = finished(store, "mp3")
    root = create(store, *family("core", "post"))
    first = claim(store)
    store.finish(first.claim, made(first, "flac"))
    owned = claim(store)
    found = store.inputs(owned.claim, [other.id, "no-such-job"], ["a", "b", "z"])
    assert set(found.jobs) == {other.id}
    assert set(found.children) == {"a", "b"}
    assert (found.children["a"].status, found.children["a"].phase) == (Status.COMPLETED, "core")
    assert [output.key for output in found.children["a"].outputs] == [f"outputs/{first.id}/1/flac"]
    assert store.sources(job_ids=[other.id], parent_id=root.id, child_keys=["a"]).children == {"a": found.children["a"]}
    with pytest.raises(ClaimLost):
        store.inputs(replace(owned.claim, attempt=7), [other.id], [])


def test_a_retry_finds_what_was_carried_over_by_the_same_keys(store):
    """A sibling that completed in the family before is a sibling in the new one, with its files where they are."""
    root = create(store, *family("core", "post"))
    first = claim(store)
    store.finish(first.claim, made(first, "flac"))
    store.finish(claim(store).claim, PERMANENT)
    store.retry(root.id)
    owned = claim(store)
    assert owned.child_key == "b"
    outputs = store.inputs(owned.claim, [], ["a"]).children["a"].outputs
    assert [output.key for output in outputs] == [f"outputs/{first.id}/1/flac"]


def test_files_that_an_unfinished_job_reads_are_not_deleted(store):
    """Neither by a purge nor by time, until the reader has ended."""
    read, unread = finished(store, "mp3"), finished(store, "mp3")
    reader = create(store, job(params={"source": f"job:{read.id}/mp3"}))
    with pytest.raises(Conflict, match="used by another job"):
        store.purge(read.id)
    assert store.prunable(older_than_s=60).job_ids == (unread.id,)
    store.cancel(reader.id)
    assert read.id in store.prunable(older_than_s=60).job_ids
    store.purge(read.id)


def test_files_that_a_family_still_needs_are_not_purged(store):
    """A sibling waits for them, or the parent shows them; with the whole family they go."""
    root, first, last = family("core", "post")
    create(store, root, first, replace(last, params={"source": "child:a/flac"}))
    owned = claim(store)
    store.finish(owned.claim, made(owned, "flac"))
    with pytest.raises(Conflict, match="used by another job"):
        store.purge(owned.id)
    mix = claim(store)
    store.finish(mix.claim, made(mix, "mp3"))
    with pytest.raises(Conflict, match="shown by"):
        store.purge(mix.id)
    store.purge(owned.id)
    store.purge(root.id)
    assert store.get(mix.id) is None
