"""The queue in one SQLite file: the same statements, run by the standard library's driver."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this is the file that knows the database driver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from shared.errors import Busy, Conflict, Refused, Unavailable
from shared.job import Job
from shared.store.contact import Contact
from shared.store.migrations import migrations
from shared.store.rows import Row, names_json
from shared.store.sql import SqlJobStore, Statement
from shared.store.statements.migrations import MIGRATED, MIGRATION_TABLE, MIGRATIONS
from shared.store.statements.owners import CLAIMABLE
from shared.store.usage import Usage
from shared.store.values import ClaimRequest
from shared.store.written import Written

#: How long a write waits for other writers before it gives up with `Busy`.
_PATIENCE_S = 10.0
_POLL_S = 0.01
#: How long after a write its commit may become visible: a disk takes milliseconds, a busy one more.
_SETTLE_S = 1.0
_INCREMENTAL = 2
#: What the write-ahead log keeps on disk once it was copied into the database. It is copied at about this size, unless
#: a reader stands in the way for long (a backup, say): then it grows, and would stay so for good.
_LOG_BYTES = 1 << 22
#: The names of a statement's columns, kept so that they are not made anew for each row.
_columns: dict[str, tuple[str, ...]] = {}


class LocalJobStore(SqlJobStore):
    """A job store in an SQLite file: write-ahead log, every commit on disk before it is acknowledged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Lists are safe between threads as long as nothing but append and pop is asked of them.
        self._idle: list[sqlite3.Connection] = []
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._contact = Contact()
        self.usage = Usage()

    def claim(self, request: ClaimRequest) -> Job | None:
        """Own the next job, or None; an empty queue is seen without taking the write lock."""
        if not self._read([Statement(CLAIMABLE, {"types": names_json(request.worker.types), "token": request.token})])[
            0
        ]:
            return None
        return super().claim(request)

    def watch(self) -> _DataVersionWatch:
        """A watch on the file: SQLite counts the commits of other connections."""
        return _DataVersionWatch(self._connect(), self._path.with_name(f"{self._path.name}-wal"))

    def migrate(self) -> Sequence[str]:
        """Apply the migrations that are missing, under the write lock."""
        with self._connection() as connection, self._transaction(connection, "EXCLUSIVE"):
            connection.execute(MIGRATION_TABLE)
            applied = {row["name"] for row in connection.execute(MIGRATIONS)}
            missing = {name: statements for name, statements in migrations().items() if name not in applied}
            for name, statements in missing.items():
                for statement in statements:
                    connection.execute(statement)
                connection.execute(MIGRATED, {"name": name})
        return list(missing)

    def pending_migrations(self) -> Sequence[str]:
        """The migrations that this database lacks."""
        with self._connection() as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone()
            applied = {row["name"] for row in connection.execute(MIGRATIONS)} if known else set()
        return [name for name in migrations() if name not in applied]

    def vacuum(self, pages: int) -> int | None:
        """Give up to so many unused pages back to the disk; returns how many are left."""
        with self._connection() as connection:
            if connection.execute("PRAGMA auto_vacuum").fetchone()["auto_vacuum"] != _INCREMENTAL:
                raise Conflict(
                    f"The database {self._path} was made before it could shrink while it is in use; copy it once with "
                    "`spool backup`, and restore that into a new file."
                )
            if pages:  # a script, because the driver stops a statement without columns after its first step
                _patiently(connection.executescript, f"PRAGMA incremental_vacuum({int(pages)})")
            return int(connection.execute("PRAGMA freelist_count").fetchone()["freelist_count"])

    def integrity(self) -> Sequence[str]:
        """What is wrong with the file, and with the rows in it."""
        damage = self._read([Statement("PRAGMA quick_check(5)")])[0]
        said = [row["quick_check"] for row in damage]
        return said if said != ["ok"] else super().integrity()

    def copy_to(self, path: Path) -> None:
        """Write the queue, as it is at one moment, to a new SQLite file; writers go on meanwhile."""
        with self._connection() as connection, closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
            self._idle = []

    def _run(self, batch: Sequence[Statement]) -> list[list[Row]]:
        self.usage.count()
        with self._contact.watched(), self._connection() as connection, self._transaction(connection, "IMMEDIATE"):
            return _execute_all(connection, batch)

    def _read(self, batch: Sequence[Statement]) -> list[list[Row]]:
        self.usage.count()
        with self._contact.watched(), self._connection() as connection:
            if len(batch) == 1:
                return [_execute(connection, batch[0])]
            with self._transaction(connection, "DEFERRED"):
                return [_execute(connection, statement) for statement in batch]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
            with self._lock:
                self._all.append(connection)
        idle = self._idle
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise Refused(str(error)) from error
            if isinstance(error, sqlite3.ProgrammingError):
                raise
            raise _unavailable(error, self._path) from error
        finally:
            idle.append(connection)

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection, mode: str) -> Iterator[None]:
        _patiently(connection.execute, f"BEGIN {mode}")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:  # raised again: no transaction stays open
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connect(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = not self._path.exists() or self._path.stat().st_size == 0
            connection = sqlite3.connect(self._path, timeout=0.05, isolation_level=None, check_same_thread=False)
            # It can be chosen for a new file only, and asking for it waits for whoever holds an old one.
            shrinks = (f"auto_vacuum = {_INCREMENTAL}",) if new else ()
            kept = f"journal_size_limit = {_LOG_BYTES}"
            for pragma in (*shrinks, "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", kept):
                _patiently(connection.execute, f"PRAGMA {pragma}")
        except (sqlite3.Error, OSError) as error:
            raise _unavailable(error, self._path) from error
        connection.row_factory = _as_dict
        return connection


class _DataVersionWatch:
    """Sees commits of other connections within tens of milliseconds: SQLite counts them, the kernel tells when to look.

    A commit is written first and counted when the disk has it, so it is looked for again and again for a while after a
    write. `written` is None where the kernel tells nothing: then it is looked for all the time.
    """

    look_s = 0.0

    def __init__(self, connection: sqlite3.Connection, log: Path) -> None:
        connection.row_factory = None  # a hundred looks a second are all that a worker with little to do does
        self._connection = connection
        self._version = self._look()  # makes the write-ahead log, where there is none
        self._written = Written.to(log)
        self._look_until = float("-inf")

    def wait(self, timeout_s: float) -> bool:
        """Return True when something changed, False when the time was up."""
        deadline = time.monotonic() + timeout_s
        while True:
            version = self._look()
            if version != self._version:
                self._version = version
                self._doubt()
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._rest(left)

    def found(self) -> None:
        """It looks as often as it can, anyway."""

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
        if self._written is not None:
            self._written.close()

    def _rest(self, at_most_s: float) -> None:
        if self._written is None or time.monotonic() < self._look_until:
            time.sleep(min(at_most_s, _POLL_S))
        elif self._written.wait(at_most_s):
            self._look_until = time.monotonic() + _SETTLE_S

    def _doubt(self) -> None:
        """A commit that the kernel told nothing of is not the last one: some file systems report no writes."""
        if self._written is None or time.monotonic() < self._look_until:
            return
        if self._written.wait(0):
            self._look_until = time.monotonic() + _SETTLE_S
        else:
            self._written.close()
            self._written = None

    def _look(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def _patiently(execute: Callable[[str], object], statement: str) -> None:
    # SQLite's own busy handler lets the same process win again and again; random waits share the lock fairly.
    try:
        execute(statement)
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
    else:
        return
    for attempt in Retrying(
        retry=retry_if_exception(_is_busy),
        wait=wait_random(0.0005, 0.01),
        stop=stop_after_delay(_PATIENCE_S),
        reraise=True,
    ):
        with attempt:
            execute(statement)


def _execute_all(connection: sqlite3.Connection, batch: Sequence[Statement]) -> list[list[Row]]:
    """Each one's rows; those that are not needed once, are not until one that is always needed has run."""
    results: list[list[Row]] = []
    nothing_to_do = False
    for statement in batch:
        if statement.only_if is None:
            nothing_to_do = False
        elif not nothing_to_do:
            nothing_to_do = not connection.execute(statement.only_if).fetchall()
        results.append([] if nothing_to_do else _execute(connection, statement))
    return results


def _execute(connection: sqlite3.Connection, statement: Statement) -> list[Row]:
    cursor = connection.cursor()
    cursor.row_factory = None
    rows: list[tuple[Any, ...]] = cursor.execute(statement.text, statement.params).fetchall()
    if not rows:
        return []
    names = _columns.get(statement.text, ())
    if len(names) != len(rows[0]):  # a migration may add a column to what is read whole
        names = _columns[statement.text] = tuple(sys.intern(column[0]) for column in cursor.description)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _unavailable(error: Exception, path: Path) -> Exception:
    if _is_busy(error):
        return Busy(f"The database {path} is held by another process for more than {_PATIENCE_S:g} s; try again.")
    return Unavailable(
        f"The database {path} cannot be used ({error}); check that its folder exists and can be written."
    )


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
