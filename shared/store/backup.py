"""Copies of the queue: one SQLite file, whichever database the queue is in.

A copy is checked before it gets its name, and again before anything is restored from it. What is restored is a queue
that nobody works on: its workers are forgotten, and its running jobs go back to the queue at no cost.
"""

from __future__ import annotations

import json
import os
import sqlite3  # noqa: TID251 - a copy is an SQLite file, also that of a remote database
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Conflict, Invalid, NotFound
from shared.job import Status
from shared.storage.protocol import StorageAdapter, TransferProgress
from shared.store.hrana import Stream
from shared.store.migrations import migrations
from shared.store.protocol import JobStore
from shared.store.rows import Row
from shared.store.sql import SqlJobStore, Statement
from shared.store.statements.overview import WORKERS

#: What the keys of copies in the storage begin with; ids follow, which sort by their time.
BACKUPS = "backups/"
#: Rows of one request: a job's row is about 2 kB, and servers refuse answers of more than some megabytes.
PAGE_ROWS = 500
_OURS = "sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'libsql_%'"
_SCHEMA = f"SELECT type, name, sql FROM sqlite_master WHERE {_OURS} ORDER BY rowid"
_ANY_JOB = "SELECT 1 FROM job LIMIT 1"


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds: rows by table."""

    path: Path
    size_bytes: int
    rows: dict[str, int]


def examine(path: Path) -> Copied:
    """Prove that a file is a whole copy of a queue that this Spool understands. Raises `Invalid`."""
    if not path.is_file():
        raise Invalid(f"There is no file {path}; name a file that `spool backup` made.")
    try:
        with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro&immutable=1", uri=True)) as copy:
            damage = [text for (text,) in copy.execute("PRAGMA integrity_check(5)") if text != "ok"]
            damage += [f"{table}: a row without its parent" for table, *_ in copy.execute("PRAGMA foreign_key_check")]
            applied = {name for (name,) in copy.execute("SELECT name FROM migration")}
            tables = _tables(copy)
            rows = {table: copy.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}
    except sqlite3.Error as error:
        raise Invalid(f"{path} is no backup of Spool ({error}); name a file that `spool backup` made.") from None
    if damage:
        raise Invalid(f"{path} is damaged ({damage[0]}); use another backup.")
    if unknown := sorted(applied - migrations().keys()):
        raise Invalid(f"{path} was made by a newer Spool ({unknown[0]}); update this one, then restore it.")
    if missing := sorted(migrations().keys() - applied):
        raise Invalid(f"{path} was made by an older Spool ({missing[0]} is missing); restore it with that one.")
    return Copied(path, path.stat().st_size, rows)


def back_up(store: JobStore, path: Path) -> Copied:
    """Copy the queue as it is at one moment, while it is in use; prove the copy, and only then give it its name.

    Raises `Conflict` when the name is taken: a backup is never overwritten.
    """
    if missing := store.pending_migrations():
        raise Conflict(f"The database is not up to date ({missing[0]} is missing); run `spool migrate` first.")
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        store.copy_to(part)
        examine(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            raise Conflict(f"{path} is there already; choose another name.") from None
    finally:
        part.unlink(missing_ok=True)
    return examine(path)


def backups(storage: StorageAdapter) -> list[str]:
    """The keys of the copies that maintenance has put into the storage, oldest first."""
    return sorted(storage.keys(BACKUPS))


def fetch_backup(storage: StorageAdapter, path: Path, progress: TransferProgress) -> str:
    """Bring the newest of them to `path`; returns its key. Raises `NotFound`."""
    kept = backups(storage)
    if not kept:
        raise NotFound("The storage holds no backup of the queue; make one: spool maintain backup.")
    storage.fetch(kept[-1], path, progress)
    return kept[-1]


def copy_from(stream: Stream, part: Path) -> None:
    """Copy a remote queue, as it is at one moment, row by row: reads every row once."""
    with closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # it is put on the disk at the end, whole
        stream.run("BEGIN DEFERRED")
        schema = stream.run(_SCHEMA).rows
        copy.execute("BEGIN")
        for entry in schema:
            if entry["type"] == "table":
                copy.execute(str(entry["sql"]))
        for table in _tables(copy):
            for page in _pages(stream, copy, table):
                copy.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(page[0]))})", page)
        # Last: a trigger would write the events of jobs a second time.
        for entry in schema:
            if entry["type"] != "table":
                copy.execute(str(entry["sql"]))
        copy.execute("COMMIT")
        stream.run("ROLLBACK")


def restore(store: SqlJobStore, path: Path) -> Copied:
    """Fill an empty database with a copy. Raises `Invalid` for the copy, `Conflict` for a database that is in use.

    Until it is whole the database counts as not migrated, so that neither an API nor a worker starts on it.
    """
    copied = examine(path)
    store.migrate()
    jobs, workers = store._read([Statement(_ANY_JOB), Statement(WORKERS)])
    if jobs:
        raise Conflict("The database holds jobs already; set SPOOL_DATABASE_URL to a new, empty one and restore there.")
    if workers:
        raise Conflict("A worker has used this database within ten minutes; end it, or restore into a new database.")
    made = _triggers()
    store._run([*(Statement(f"DROP TRIGGER {name}") for name in made), Statement("DELETE FROM migration")])
    last = [Statement(text) for text in made.values()]
    for table, page in _contents(path):
        insertion = _insertion(table, page)
        if table == "migration":
            last.append(insertion)
        elif table != "worker":
            store._run([insertion])
    store._run(last)
    for job in store.running():
        if job.status is Status.RUNNING:
            store.release(job.claim)
    return copied


def _insertion(table: str, page: Sequence[Row]) -> Statement:
    names = ", ".join(page[0])
    values = ", ".join(f"value ->> '{name}'" for name in page[0])
    return Statement(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM json_each(:rows) WHERE true ON CONFLICT DO NOTHING",
        {"rows": json.dumps(page)},
    )


def _contents(path: Path) -> Iterator[tuple[str, Sequence[Row]]]:
    """The rows of a copy, table by table, in pages."""
    with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro&immutable=1", uri=True)) as copy:
        copy.row_factory = sqlite3.Row
        for table in _tables(copy):
            found = copy.execute(f"SELECT * FROM {table}")
            while page := found.fetchmany(PAGE_ROWS):
                yield table, [dict(row) for row in page]


def _triggers() -> dict[str, str]:
    """The statement that makes each trigger, by its name, in the order in which they must be made."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        for statements in migrations().values():
            for statement in statements:
                scratch.execute(statement)
        return dict(scratch.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid"))


def _tables(copy: sqlite3.Connection) -> list[str]:
    return [row[1] for row in copy.execute(_SCHEMA) if row[0] == "table"]


def _pages(stream: Stream, copy: sqlite3.Connection, table: str) -> Iterator[Sequence[Sequence[object]]]:
    """A table by its primary key, each page from where the last one ended."""
    columns = copy.execute(f"PRAGMA table_info({table})").fetchall()
    key = [column[1] for column in sorted(columns, key=lambda column: column[5]) if column[5]]
    places = [next(column[0] for column in columns if column[1] == name) for name in key]
    names, after = ", ".join(key), ", ".join("?" * len(key))
    page = stream.run(f"SELECT * FROM {table} ORDER BY {names} LIMIT {PAGE_ROWS}").values
    while page:
        yield page
        last = [page[-1][place] for place in places]
        page = stream.run(
            f"SELECT * FROM {table} WHERE ({names}) > ({after}) ORDER BY {names} LIMIT {PAGE_ROWS}", last
        ).values
