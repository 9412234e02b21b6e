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
from tests.real.authority import Authority, Tokens
from tests.real.proxy import Proxy
from tests.real.queue import new_queue
from tests.real.sqld import Sqld

TABLES = (
    "job", "event", "tally", "worker", "asset", "walk", "feed", "seen", "api_key", "budget", "webhook", "webhook_gone",
    "steering", "schedule", "upkeep", "session",
)  # fmt: skip


class Databases:
    """Opens empty, migrated queues; a server is started at its first use and wiped between uses."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._clients: dict[str, Callable[[], Hrana]] = {}
        self._made = 0

    def sqlite(self) -> LocalJobStore:
        """A new SQLite file."""
        self._made += 1
        return new_queue(self._folder / f"{self._made}.db")

    def libsql(self) -> TursoJobStore:
        """The module's libSQL server, emptied."""
        return self._emptied("libsql", self._plain)

    def guarded(self) -> TursoJobStore:
        """The module's libSQL server that wants a token, behind TLS of a private authority; emptied."""
        return self._emptied("guarded", self._behind_tls)

    @contextmanager
    def open(self, name: str) -> Iterator[SqlJobStore]:
        """A migrated, empty queue on the named database."""
        store = getattr(self, name)()
        store.migrate()
        yield store
        store.close()

    def _emptied(self, name: str, start: Callable[[], Callable[[], Hrana]]) -> TursoJobStore:
        if name not in self._clients:
            self._clients[name] = start()
            TursoJobStore(self._clients[name]()).migrate()
        store = TursoJobStore(self._clients[name]())
        store._run([Statement(f"DELETE FROM {table}") for table in TABLES])
        return store

    def _plain(self) -> Callable[[], Hrana]:
        server = self._stack.enter_context(Sqld(self._folder / "plain"))
        return lambda: Hrana(server.url)

    def _behind_tls(self) -> Callable[[], Hrana]:
        authority, tokens = Authority(self._folder / "tls"), Tokens(self._folder / "tls")
        options = ("--auth-jwt-key-file", str(tokens.key_file))
        server = self._stack.enter_context(Sqld(self._folder / "guarded", *options))
        terminator = self._stack.enter_context(Proxy(server.url, tls=authority.context))
        address = terminator.url.replace("https://", "libsql://")
        return lambda: Hrana(address, tokens.sign(a="rw"), ca_certs=str(authority.ca_file))


ADAPTERS = ("sqlite", "libsql")
#: Only the connection of the guarded server is another, not what is said on it: one file of the contract goes over it.
EVERY_ADAPTER = (*ADAPTERS, "guarded")


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
        store._run, store._read = self._count(self._run), self._count(self._read)  # type: ignore[method-assign]  # seen from outside

    def _count(self, run: Callable[[Sequence[Statement]], list[list[Row]]]):
        def counted(batch: Sequence[Statement]) -> list[list[Row]]:
            self.trips += 1
            return run(batch)

        return counted


@pytest.fixture
def counting(store) -> Counting:
    """Round trips of the store, from zero."""
    return Counting(store)
