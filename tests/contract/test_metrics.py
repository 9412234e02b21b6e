"""What a worker counts, kept with its row; and what a process asks of its database, counted on the way."""

from shared.store.local import LocalJobStore
from tests.contract.factory import OTHER, WORKER, create


def test_what_a_worker_counts_is_kept_with_it(store):
    """The last heartbeat's numbers, each worker's its own; one that tells nothing has none."""
    told = {"stages": {"ingest/encoding": [2, 1.5]}, "retries": 3}
    for metrics in ({"retries": 1}, told):
        store.heartbeat(WORKER, [], lease_s=90, metrics=metrics)
    store.heartbeat(OTHER, [], lease_s=90)
    assert {seen.worker.id: dict(seen.metrics) for seen in store.stats().workers} == {WORKER.id: told, OTHER.id: {}}


def test_round_trips_and_rows_are_counted(store, counting):
    """As many trips as there were; rows as the server counts them, none for a file."""
    before, written = store.usage.round_trips, store.usage.rows_written
    counting.trips = 0
    found = create(store)
    store.get(found.id)
    store.cancel(found.id)
    assert store.usage.round_trips - before == counting.trips == 3
    assert (store.usage.rows_written - written > 5) == (not isinstance(store, LocalJobStore))
    assert (store.usage.rows_read > 0) == (not isinstance(store, LocalJobStore))
