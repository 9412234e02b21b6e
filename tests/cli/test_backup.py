"""`spool backup` beside a working `spool dev`, and `spool restore` into a new database on which the work goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from tests.cli.conftest import Spool, running_dev, state_of, until


def freeze(worker: int, database: Path) -> None:
    """Stop a worker in the middle of whatever it does, but not of a write, which would keep all others from theirs."""
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as asking:
        while True:
            os.kill(worker, signal.SIGSTOP)
            until(lambda: state_of(worker) == "T", "the stop of the worker")
            with suppress(sqlite3.OperationalError):
                asking.execute("BEGIN IMMEDIATE")
                asking.execute("ROLLBACK")
                return
            os.kill(worker, signal.SIGCONT)


def test_a_queue_moves_to_a_new_database_with_its_running_job(tmp_path: Path, tone: Path):
    """What ended stays ended, what waited or ran is done there, and each file is where it was."""
    with running_dev(tmp_path) as dev:
        spool = Spool(tmp_path, {"SPOOL_API_URL": dev.url})
        done = spool("submit", "ingest", str(tone), "--watch", "--json").json()
        assert done["status"] == "completed"
        worker = next(pid for pid in dev.family() if "worker" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
        freeze(worker, tmp_path / ".spool/spool.db")
        try:
            waiting = spool("submit", "ingest", str(tone), "--json").json()["id"]
            made = spool("backup", "queue.db", "--json").json()
            assert made["rows"]["job"] == 2
            assert spool("backup", "queue.db").code == 2
        finally:
            os.kill(worker, signal.SIGCONT)
    elsewhere = {"SPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/new/spool.db"}
    ran = Spool(tmp_path, elsewhere)("restore", "queue.db")
    assert (ran.code, ran.out.splitlines()[0][:15]) == (0, "Restored 2 jobs"), ran.err
    assert "holds jobs already" in Spool(tmp_path, elsewhere)("restore", "queue.db").err
    with running_dev(tmp_path, **elsewhere) as again:
        spool = Spool(tmp_path, {"SPOOL_API_URL": again.url})
        assert spool("watch", waiting, "--json").json()["status"] == "completed"
        assert spool("show", done["id"], "--json").json()["result"] == done["result"]


def test_what_is_no_backup_is_a_sentence(lone_spool: Spool, tmp_path: Path):
    """Exit code 2, nothing written."""
    (tmp_path / "notes.txt").write_text("not a database")
    ran = lone_spool("restore", "notes.txt")
    assert ran.code == 2
    assert "is no backup of Spool" in ran.err


def test_where_no_queue_is_there_is_nothing_to_copy(lone_spool: Spool, tmp_path: Path):
    """The usual slip is the wrong folder: the sentence says so, and no empty queue is left behind."""
    ran = lone_spool("backup", "queue.db")
    assert ran.code == 2
    assert "There is no queue at .spool/spool.db" in ran.err
    assert list(tmp_path.iterdir()) == []
