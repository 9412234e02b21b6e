"""The databases that the contract runs on. An adapter joins by adding its name and how to open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.rows import Row
from shared.store.sql import SqlJobStore, Statement
from shared.store.turso import TursoJobStore
from tests.real.sqld import Sqld

TABLES = ("job", "event", "tally", "worker", "asset", "walk")


class Databases:
    """Opens empty, migrated queues; a server is started at its first use and wiped between uses."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._server: Sqld | None = None
        self._made = 0

    def sqlite(self) -> LocalJobStore:
        """A new SQLite file."""
        self._made += 1
        return LocalJobStore(self._folder / f"{self._made}.db")

    def libsql(self) -> TursoJobStore:
        """The module's libSQL server, emptied."""
        if self._server is None:
            self._server = self._stack.enter_context(Sqld(self._folder))
            TursoJobStore(Hrana(self._server.url)).migrate()
        store = TursoJobStore(Hrana(self._server.url))
        store._run([Statement(f"DELETE FROM {table}") for table in TABLES])
        return store

    @contextmanager
    def open(self, name: str) -> Iterator[SqlJobStore]:
        """A migrated, empty queue on the named database."""
        store = getattr(self, name)()
        store.migrate()
        yield store
        store.close()


ADAPTERS = ("sqlite", "libsql")


@pytest.fixture(scope="module")
def databases(tmp_path_factory) -> Iterator[Databases]:
    """Every database of this module of tests."""
    with ExitStack() as stack:
        yield Databases(tmp_path_factory.mktemp("databases"), stack)


@pytest.fixture(params=ADAPTERS)
def store(request, databases) -> Iterator[SqlJobStore]:
    """A migrated, empty queue on each database."""
    with databases.open(request.param) as store:
        yield store


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
