"""The watch on a SQLite file: what it costs while nothing happens, and what it does where the kernel tells nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.store.local import LocalJobStore
from shared.store.written import Written
from tests.contract.factory import create
from tests.real.queue import new_queue

PATIENCE_S = 60.0
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc, and only Linux tells of writes")


@pytest.fixture
def store(tmp_path) -> Iterator[LocalJobStore]:
    """A migrated, empty queue."""
    store = new_queue(tmp_path / "spool.db")
    yield store
    store.close()


def wakes() -> int:
    """How often this thread has slept and been woken."""
    status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@LINUX
def test_a_watch_sleeps_until_there_is_something_to_see(store):
    """A third of a second without a change is one sleep, and not a look every ten milliseconds."""
    watch = store.watch()
    before = wakes()
    assert not watch.wait(0.3)
    assert wakes() - before < 10
    watch.close()


@LINUX
def test_a_watch_is_woken_by_a_commit(store):
    """Whoever waits for a minute hears of a change when it is made, though a commit is seen later than written."""
    watch = store.watch()
    for _ in range(5):
        heard = threading.Event()
        waiting = threading.Thread(target=lambda heard=heard: watch.wait(PATIENCE_S) and heard.set())
        waiting.start()
        create(store)
        assert heard.wait(PATIENCE_S / 2)
        waiting.join()
    watch.close()


@LINUX
def test_a_watch_that_is_told_of_no_writes_looks_by_itself(store, tmp_path):
    """One commit that the kernel did not tell of is enough: from then on it is not relied upon."""
    watch = store.watch()
    (tmp_path / "another file").touch()
    watch._written = Written.to(tmp_path / "another file")
    create(store)
    assert watch.wait(5)
    assert watch._written is None
    create(store)
    assert watch.wait(5)
    watch.close()
