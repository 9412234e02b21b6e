"""A client that is not ours, on the same database at the same time."""

import json
import subprocess
from pathlib import Path

import pytest

from shared.job import Status
from shared.store.hrana import Hrana
from shared.store.turso import TursoJobStore
from tests.contract.factory import DONE, claim, create, job, status
from tests.real.sqld import Sqld

ROOT = Path(__file__).parents[2]
PEER = ROOT / ".venv-interop" / "bin" / "python"
READ_AND_CREATE = """
import json, sys
import libsql_client

url, known, new = sys.argv[1:]
with libsql_client.create_client_sync(url) as client:
    row = client.execute("SELECT name, status, priority, params, created_at FROM job WHERE id = ?", [known]).rows[0]
    print(json.dumps(list(row.asdict().values())))
    client.execute(
        "INSERT INTO job (id, type, status, priority, depth, params, outputs, attempt, failures, max_failures, "
        "timeout_s, last_line, created_at, updated_at, caller, tags, on_child_failure, own_work, open_phase, stopping, "
        "children_total, children_done, children_failed, pre_left, core_left, post_left) "
        "VALUES (:id, 'ingest', 'pending', 9, 0, :params, '[]', 0, 0, 2, 60.0, 0, :now, :now, 'peer', '[]', 'fail', "
        "1, -1, 0, 0, 0, 0, 0, 0, 0)",
        {"id": new, "params": '{"source": "here"}', "now": row["created_at"]},
    )
"""
READ_EVENTS = """
import json, sys
import libsql_client

with libsql_client.create_client_sync(sys.argv[1]) as client:
    result = client.execute("SELECT message FROM event WHERE job_id = ? ORDER BY id", [sys.argv[2]])
    print(json.dumps([row["message"] for row in result.rows]))
"""


def peer(script: str, *arguments: str):
    """What the other client's process printed."""
    run = subprocess.run([PEER, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.skipif(not PEER.exists(), reason="`make interop` installs the other client; `make test` does so by itself")
def test_another_client_reads_our_jobs_and_we_run_its_own(tmp_path):
    """libsql-client reads a job that Spool made, and makes one that Spool claims and completes."""
    with Sqld(tmp_path) as server:
        store = TursoJobStore(Hrana(server.url))
        store.migrate()
        ours = create(store, job(name="Épisode 🎙 1", priority=3, params={"source": "there"}))
        read = peer(READ_AND_CREATE, server.url, ours.id, "from-the-peer")
        assert read == ["Épisode 🎙 1", "pending", 3, '{"source": "there"}', ours.created_at]
        owned = claim(store)
        assert (owned.id, owned.params) == ("from-the-peer", {"source": "here"})
        store.finish(owned.claim, DONE)
        assert status(store, owned.id) is Status.COMPLETED
        assert peer(READ_EVENTS, server.url, owned.id) == ["pending", "running", "completed"]
        store.close()
