"""A lost reply makes its sender repeat the batch: every batch sent twice leaves the same rows as once."""

import re
from collections.abc import Callable

import pytest

from shared.job import Claim, Line, Progress
from shared.keys import ApiKey
from shared.store.sql import SqlJobStore, Statement
from shared.store.values import Admission, Asset, Beat, ClaimRequest, JobFilter, Schedule, Sent, Webhook
from tests.contract.conftest import ADAPTERS, TABLES
from tests.contract.factory import CANCELLED, DONE, OTHER, PERMANENT, TRANSIENT, WORKER, due, expire, job

_LINE = Line(1, "info", "log", "hello")


def _claim(store, token, worker=WORKER) -> Claim:
    return store.claim(ClaimRequest(worker, token, 90)).claim


def _beat(store):
    store.create([job(id="j")])
    claim = _claim(store, "t")
    store.heartbeat(WORKER, [Beat(claim, Progress("encoding", 3, 5, 1.0, 1, 100), (_LINE,))], lease_s=90)


def _finish(outcome):
    def scenario(store):
        store.create([job(id="j")])
        store.create([job(id="k")])
        claim = _claim(store, "t")
        if outcome is CANCELLED:
            store.cancel("j")
        store.finish(claim, outcome, lines=(_LINE,), next=ClaimRequest(WORKER, "t2", 90))

    return scenario


def _family(outcome):
    def scenario(store):
        store.create(
            [
                job(id="root", type="flow", own_work=False),
                *(job(id=f"c{n}", parent_id="root", phase="core", child_key=f"c{n}") for n in range(3)),
                job(id="post", parent_id="root", phase="post", child_key="post"),
            ]
        )
        first, second = _claim(store, "t1"), _claim(store, "t2", OTHER)
        store.finish(first, outcome)
        store.finish(second, DONE if outcome is DONE else CANCELLED)

    return scenario


def _add_children(store):
    store.create([job(id="j")])
    store.add_children(_claim(store, "t"), [job(id="c", parent_id="j", phase="core", child_key="a")])


def _webhooks(store):
    for one in ("i", "j", "k"):
        store.create([job(id=one, webhook_url=f"https://example.org/{one}")])
        store.cancel(one)
    store.claim_webhooks(limit=3, lease_s=60)  # a repeat finds nothing: they are due again when the lease is over
    outcomes = {"i": {}, "j": {"after_s": 60.0}, "k": {"gone": True}}
    due = {one: Webhook(one, f"https://example.org/{one}", 1, False, None) for one in outcomes}
    sent = [Sent(due[one], "info", "Told.", {}, **rest) for one, rest in outcomes.items()]
    store.settle_webhooks(sent, disabled_s=60)


def _access(store):
    made = ApiKey(id="k", name="studio", hash="h", scopes=("read",))
    store.add_key(made)
    for one in ("i", "j"):
        store.admitting(Admission("key:studio", 2, 2, key_id="k", wants_keys=True)).create(
            [job(id=one, caller="key:studio")]
        )
    store.revoke_key("k")


def _release(store):
    store.create([job(id="j")])
    store.release(_claim(store, "t"), lines=(_LINE,))


def _reap(store):
    store.create([job(id="j")])
    _claim(store, "t")
    expire(store, "j")
    store.reap()


def _promote(store):
    store.create([job(id="j", run_at=2**50)])
    due(store, "j")
    store.tend()


def _steer(store):
    store.create([job(id="j")])
    store.patch("j", priority=2, run_at=2**50, tags=["a"])
    store.cancel("j")


def _steer_many(store):
    store.steer("ingest", paused=True, max_running=2, limiting=True)
    store.create([job(id="j")])
    store.steer("ingest", paused=False, max_running=None, limiting=False)
    store.finish(_claim(store, "t"), PERMANENT)
    store.retry_matching(JobFilter(), limit=10)
    store.create([job(id="k")])
    store.cancel_matching(JobFilter(text="k"), limit=10)
    # The id of the retry is made afresh in each run.
    store._run([Statement("UPDATE job SET id = 'again' WHERE retry_of = 'j'"), Statement("DELETE FROM event")])


def _schedule(store):
    made = Schedule(name="n", cron="0 * * * *", type="ingest", params={}, caller="a", due_at=1)
    seen = store.put_schedule(made, paused=False)
    store.run_schedule(seen, job(id="i", schedule="n"), next_due_at=2**50)
    store.run_schedule(store.schedules()[0], job(id="j", schedule="n"), next_due_at=2**51)
    store.run_schedule(seen, job(id="k", schedule="n"), next_due_at=None)
    assert [store.get(one) is not None for one in "ijk"] == [True, False, True]


def _cancel_running(store):
    store.create([job(id="j")])
    _claim(store, "t")
    store.cancel("j")


def _prune(store):
    store.create([job(id="j")])
    store.cancel("j")
    store._run([Statement("UPDATE job SET completed_at = 1, created_at = 1")])
    store.prune(store.prunable(older_than_s=1))


def _purge(store):
    store.create([job(id="j")])
    store.cancel("j")
    store.purge("j")


def _assets(store):
    store.add_asset(
        Asset(id="a", owner="local", filename="a", content_type="audio/wav", size_bytes=1, state="uploading")
    )
    store.asset_ready("a", sha256="0")


SCENARIOS: dict[str, Callable[[SqlJobStore], None]] = {
    "heartbeat": _beat,
    "finish completed": _finish(DONE),
    "finish failed": _finish(PERMANENT),
    "finish retrying": _finish(TRANSIENT),
    "finish cancelled": _finish(CANCELLED),
    "family completed": _family(DONE),
    "family failed": _family(PERMANENT),
    "add children": _add_children,
    "release": _release,
    "reap": _reap,
    "promote": _promote,
    "patch and cancel": _steer,
    "cancel running": _cancel_running,
    "steer many": _steer_many,
    "schedule": _schedule,
    "prune": _prune,
    "purge": _purge,
    "leave": lambda store: (store.heartbeat(WORKER, [], lease_s=90), store.leave(WORKER.id)),
    "assets": _assets,
    "keys and limits": _access,
    "webhooks settled": _webhooks,
}


def _double(store: SqlJobStore) -> None:
    """Send every batch twice and give only the second answer, as after a lost reply."""
    run = store._run
    store._run = lambda batch: (run(batch), run(batch))[1]  # type: ignore[method-assign]  # seen from outside


def _rows(store: SqlJobStore) -> dict[str, list[dict]]:
    """All rows in order; moments become True, since they differ by run. A repeat may leave a gap in `seq`."""
    moment = re.compile(r"(_at|_until|hour|^at)$|_ms$|_log2$")
    return {
        table: [
            {
                name: value is not None if moment.search(name) else value
                for name, value in row.items()
                if name not in {"data", "seq"}
            }
            for row in store._read([Statement(f"SELECT * FROM {table} ORDER BY 1, 2")])[0]
        ]
        for table in TABLES
    }


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_batch_sent_twice_leaves_the_same_rows_as_once(adapter, scenario, databases):
    """Rows, events, lines, tally and counters are equal, whatever the verb."""
    results = []
    for times in (1, 2):
        with databases.open(adapter) as store:
            if times == 2:
                _double(store)
            SCENARIOS[scenario](store)
            results.append(_rows(store))
    assert results[0] == results[1]
    assert any(results[0].values()) == (scenario != "leave")
