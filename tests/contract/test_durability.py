"""What was acknowledged stays; what failed leaves nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import Refused
from shared.job import Status
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from tests.contract.factory import create, status

ROOT = Path(__file__).parents[2]
CREATOR = """
import sys
from pathlib import Path
from shared.job import NewJob, new_id
from shared.store.local import LocalJobStore

store = LocalJobStore(Path(sys.argv[1]))
while True:
    job, _ = store.create([NewJob(id=new_id(), type="ingest", params={})])
    print(job.id, flush=True)
"""


def test_every_commit_is_on_disk_before_it_is_acknowledged(tmp_path):
    """SQLite is told to sync each commit: 2 is FULL. A power cut cannot be had in a test, the setting can."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    with store._connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == {"synchronous": 2}
        assert connection.execute("PRAGMA journal_mode").fetchone() == {"journal_mode": "wal"}
    store.close()


def test_the_log_that_a_long_reader_made_large_is_cut(tmp_path):
    """While somebody reads an old state all writes are kept beside the file; afterwards their room is given back."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    log = tmp_path / "spool.db-wal"
    large = Statement("INSERT INTO migration VALUES (hex(randomblob(3000000)), 0)")
    with store._connection() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM job").fetchall()
        for _ in range(3):
            store._run([large])
        assert log.stat().st_size > 15_000_000
        reader.execute("COMMIT")
    for _ in range(3):
        create(store)
    assert log.stat().st_size < 5_000_000
    store.close()


def test_a_batch_that_fails_half_way_leaves_nothing(store):
    """The second statement is refused, and the first is undone."""
    job = create(store)
    with pytest.raises(Refused):
        store._run(
            [
                Statement("UPDATE job SET status = 'running' WHERE id = :id", {"id": job.id}),
                Statement("UPDATE job SET status = 'waiting' WHERE id = :id", {"id": job.id}),
            ]
        )
    assert status(store, job.id) is Status.PENDING
    assert [event.message for event in store.events(job.id)] == ["pending"]


def test_a_creator_killed_at_any_moment_loses_nothing_it_reported(tmp_path):
    """Every id that was printed before SIGKILL is in the queue, and the file is whole."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    creator = subprocess.Popen(
        [sys.executable, "-c", CREATOR, str(tmp_path / "spool.db")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    reported = [creator.stdout.readline().strip() for _ in range(50)]
    os.kill(creator.pid, signal.SIGKILL)
    reported += [line for line in creator.communicate()[0].splitlines() if len(line) == len(reported[0])]
    assert [job_id for job_id in reported if store.get(job_id) is None] == []
    with store._connection() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == {"integrity_check": "ok"}
    store.close()
