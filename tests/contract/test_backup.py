"""A backup is the queue at one moment, whatever happens meanwhile, and a new database made from it goes on."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.errors import Conflict, Invalid
from shared.job import Outcome, Status
from shared.store import backup
from shared.store.backup import back_up, examine, restore
from shared.store.sql import SqlJobStore, Statement
from shared.store.values import Feed, Visit
from tests.contract.factory import DONE, OTHER, TRANSIENT, claim, create, family, job, running

TABLES = ("job", "event", "tally", "asset", "walk", "feed", "seen")


PAGE_ROWS = 20


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    """So that few rows are many pages."""
    monkeypatch.setattr(backup, "PAGE_ROWS", PAGE_ROWS)


@pytest.fixture
def busy(store: SqlJobStore) -> SqlJobStore:
    """A queue with jobs in many states, with history, a family, strange text and more rows than fit into a page."""
    for number in range(2 * PAGE_ROWS + 1):
        create(store, job(priority=number % 3, name=f"no {number} – \U0001f399 'quoted' \"{number}\"\n"))
    for outcome in (DONE, TRANSIENT, Outcome("completed", result={"text": "tab\t\u202e", "n": 2**53 + 1, "x": 0.1})):
        store.finish(claim(store).claim, outcome)
    create(store, *family("pre", "core", "post", timeout_s=0.25))
    parent = running(store, OTHER, priority=9)
    visit = Visit("local", "https://a.example/feed", Feed('"v1"', None), ["passed over"])
    store.add_children(parent.claim, [job(parent_id=parent.id, phase="core", child_key="x", once="item")], visit=visit)
    return store


@pytest.fixture
def new_database(request, databases) -> Iterator[Callable[[], SqlJobStore]]:
    """Opens a database of the same kind that nobody has migrated; the module's server forgets what it had."""
    made = []

    def opened() -> SqlJobStore:
        made.append(getattr(databases, request.node.callspec.params["store"])())
        _drop_all(made[-1])
        return made[-1]

    yield opened
    for store in made:
        _drop_all(store)
        store.migrate()
        store.close()


def contents(store: SqlJobStore) -> dict[str, list]:
    """Every row of every table that a backup must bring back, in order."""
    texts = [f"SELECT * FROM {table} ORDER BY 1, 2" for table in TABLES]
    return dict(zip(TABLES, store._read([Statement(text) for text in texts]), strict=True))


def test_a_backup_holds_every_row_and_proves_it(busy, tmp_path):
    """Counted by table; the file is one file, and its triggers and indexes are there."""
    copied = back_up(busy, tmp_path / "queue.db")
    before = contents(busy)
    assert copied.rows == copied.rows | {table: len(rows) for table, rows in before.items()}
    assert [path.name for path in tmp_path.glob("queue.db*")] == ["queue.db"]
    with closing(sqlite3.connect(tmp_path / "queue.db")) as copy:
        copy.row_factory = sqlite3.Row
        for table, rows in before.items():
            assert [dict(row) for row in copy.execute(f"SELECT * FROM {table} ORDER BY 1, 2")] == rows, table
        kinds = dict(copy.execute("SELECT type, COUNT(*) FROM sqlite_master GROUP BY type").fetchall())
    assert kinds["trigger"] >= 8
    assert kinds["index"] >= 8


def test_a_new_database_from_a_backup_is_the_same_queue(busy, new_database, tmp_path):
    """Row by row, except that what ran goes back to the queue at no cost, and nobody works on it."""
    back_up(busy, tmp_path / "queue.db")
    before = contents(busy)
    ran = {row["id"] for row in before["job"] if row["status"] == "running"}
    fresh = new_database()
    restore(fresh, tmp_path / "queue.db")
    after = contents(fresh)
    assert [row for row in after["job"] if row["id"] not in ran] == [
        row for row in before["job"] if row["id"] not in ran
    ]
    back = [row for row in after["job"] if row["id"] in ran]
    assert [(row["status"], row["failures"], row["attempt"]) for row in back] == [("pending", 0, 1)] * len(ran)
    assert len(ran) == 1
    assert after["event"][: len(before["event"])] == before["event"]
    for table in ("tally", "asset", "walk", "feed", "seen"):
        assert after[table] == before[table], table
    assert fresh.stats().workers == ()
    assert fresh.pending_migrations() == []


def test_a_restored_queue_goes_on(busy, new_database, tmp_path):
    """Triggers are there again: every job is claimed once, counted once, and families end."""
    back_up(busy, tmp_path / "queue.db")
    fresh = new_database()
    restore(fresh, tmp_path / "queue.db")
    ended = []
    while found := claim(fresh, OTHER):
        fresh.finish(found.claim, DONE)
        ended.append(found.id)
    assert len(ended) == len(set(ended)) >= PAGE_ROWS
    counted = sum(row["jobs"] for row in contents(fresh)["tally"])
    terminal = {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.DEAD_LETTER}
    assert counted == sum(row["status"] in terminal for row in contents(fresh)["job"])


def test_a_backup_beside_writers_is_one_moment(store, tmp_path):
    """While jobs come and go: every ended job of the copy is counted in its tally, and every parent agrees."""
    for _ in range(30):
        create(store, *family("pre", "core"))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set() and (found := claim(store)):
            store.finish(found.claim, DONE)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        copies = [back_up(store, tmp_path / f"{number}.db").path for number in range(3)]
    finally:
        stop.set()
        worker.join()
    for path in copies:
        with closing(sqlite3.connect(path)) as copy:
            counted = copy.execute("SELECT COALESCE(SUM(jobs), 0) FROM tally").fetchone()[0]
            ended = copy.execute("SELECT COUNT(*) FROM job WHERE completed_at IS NOT NULL").fetchone()[0]
            wrong = copy.execute(
                "SELECT COUNT(*) FROM job AS p WHERE children_total > 0 AND children_done <> "
                "(SELECT COUNT(*) FROM job WHERE parent_id = p.id AND status = 'completed')"
            ).fetchone()[0]
        assert (counted, wrong) == (ended, 0)


def test_a_backup_is_never_overwritten(busy, tmp_path):
    """The name is taken: a sentence, and what is there stays."""
    (tmp_path / "queue.db").write_text("precious")
    with pytest.raises(Conflict, match="is there already"):
        back_up(busy, tmp_path / "queue.db")
    assert (tmp_path / "queue.db").read_text() == "precious"
    assert not (tmp_path / "queue.db.part").exists()


def test_nothing_is_restored_over_jobs_or_under_a_worker(busy, new_database, tmp_path):
    """A database in use is refused, and stays as it is."""
    back_up(busy, tmp_path / "queue.db")
    before = contents(busy)
    with pytest.raises(Conflict, match="holds jobs already"):
        restore(busy, tmp_path / "queue.db")
    assert contents(busy) == before
    fresh = new_database()
    fresh.migrate()
    fresh.heartbeat(OTHER, [], lease_s=90)
    with pytest.raises(Conflict, match="A worker has used"):
        restore(fresh, tmp_path / "queue.db")


def test_a_restore_that_is_cut_short_leaves_a_database_that_nothing_starts_on(busy, new_database, tmp_path):
    """It counts as not migrated until it is whole."""
    back_up(busy, tmp_path / "queue.db")
    fresh = new_database()
    fresh.migrate()
    run, batches = fresh._run, []

    def dies(batch):
        batches.append(batch)
        if "INTO event" in batch[0].text:
            raise ConnectionError("cut")
        return run(batch)

    fresh._run = dies
    with pytest.raises(ConnectionError):
        restore(fresh, tmp_path / "queue.db")
    fresh._run = run
    assert fresh.pending_migrations() != []


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda path: path.unlink(), "There is no file"),
    "text": (lambda path: path.write_text("a backup"), "is no backup"),
    "another database": (lambda path: _sql(path, "DROP TABLE migration"), "is no backup"),
    "half of it": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "is damaged|is no backup",
    ),
    "a newer Spool's": (lambda path: _sql(path, "INSERT INTO migration VALUES ('9999_later', 1)"), "newer Spool"),
    "an older Spool's": (lambda path: _sql(path, "DELETE FROM migration WHERE name LIKE '0002%'"), "older Spool"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_is_no_whole_backup_is_refused(name, tmp_path, databases):
    """Each with what is wrong with it, before anything is written."""
    with databases.open("sqlite") as store:
        create(store)
        back_up(store, tmp_path / "queue.db")
    damage, sentence = DAMAGE[name]
    damage(tmp_path / "queue.db")
    with pytest.raises(Invalid, match=sentence):
        examine(tmp_path / "queue.db")


def _sql(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as copy:
        copy.execute(text)
        copy.commit()


def _drop_all(store: SqlJobStore) -> None:
    kept = "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'trigger') AND name NOT LIKE 'sqlite_%'"
    names = store._read([Statement(f"{kept} ORDER BY type DESC")])[0]
    store._run([Statement(f"DROP {row['type']} {row['name']}") for row in names])
