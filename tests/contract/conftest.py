"""The databases that the contract runs on. An adapter joins by adding its name and how to open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from shared.store.local import LocalJobStore
from shared.store.rows import Row
from shared.store.sql import SqlJobStore, Statement

OPEN: dict[str, Callable[[Path], SqlJobStore]] = {"sqlite": lambda folder: LocalJobStore(folder / "spool.db")}


@pytest.fixture(params=OPEN)
def store(request, tmp_path) -> Iterator[SqlJobStore]:
    """A migrated, empty queue on each database."""
    store = OPEN[request.param](tmp_path)
    store.migrate()
    yield store
    store.close()


class Counting:
    """Counts the round trips of a store."""

    def __init__(self, store: SqlJobStore) -> None:
        self.trips = 0
        self._run, self._read = store._run, store._read
        store._run, store._read = self._count(self._run), self._count(self._read)  # type: ignore[method-assign]

    def _count(self, run: Callable[[Sequence[Statement]], list[list[Row]]]):
        def counted(batch: Sequence[Statement]) -> list[list[Row]]:
            self.trips += 1
            return run(batch)

        return counted


@pytest.fixture
def counting(store) -> Counting:
    """Round trips of the store, from zero."""
    return Counting(store)
