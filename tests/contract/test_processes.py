"""Several worker processes on one queue."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from shared.job import NewJob, Status, new_id
from shared.store.local import LocalJobStore
from shared.store.sql import Statement

ROOT = Path(__file__).parents[2]
JOBS = 5_000
WORKER = """
import sys
from pathlib import Path
from shared.job import Outcome, new_id
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker

store = LocalJobStore(Path(sys.argv[1]))
worker = Worker(sys.argv[2], "here", "0", ("ingest",), 1)
sys.stdin.readline()
job = store.claim(ClaimRequest(worker, new_id(), 90))
while job is not None:
    print(job.id)
    done = store.finish(job.claim, Outcome("completed"), next=ClaimRequest(worker, new_id(), 90))
    job = done.next
"""


def test_four_processes_do_five_thousand_jobs_once_each_in_order(tmp_path):
    """No job is done twice or left out, and over all workers the start order is that of creation."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    root = NewJob(id=new_id(), type="flow", params={}, own_work=False)
    made = [
        NewJob(id=new_id(), type="ingest", params={}, parent_id=root.id, phase="core", child_key=str(n))
        for n in range(JOBS)
    ]
    store.create([root, *made])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "spool.db"), f"worker-{n}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = [worker.communicate()[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert Counter(job_id for ids in done for job_id in ids) == Counter(job.id for job in made)
    started = store._read(
        [Statement("SELECT j.seq FROM event e JOIN job j ON j.id = e.job_id WHERE e.message = 'running' ORDER BY e.id")]
    )[0]
    assert [row["seq"] for row in started] == sorted(row["seq"] for row in started)
    parent = store.get(root.id)
    assert (parent.status, parent.children_done, parent.children_failed) == (Status.COMPLETED, JOBS, 0)
    assert all(len(ids) > 0 for ids in done), "every worker gets its share"
    store.close()
