"""Commands by which operators steer, against a real API."""

from __future__ import annotations

from pathlib import Path

from cli.client import Client
from shared.store.local import LocalJobStore
from tests.cli.conftest import Dev, Spool, start_dev


def test_a_type_is_paused_resumed_and_limited(idle_spool: Spool):
    """Each answer says how to go on, the statistics tell of it, and a wrong limit is a matter of usage."""
    paused = idle_spool("pause", "edit")
    assert paused.code == 0, paused.err
    assert "edit: paused since " in paused.out
    assert "spool resume edit" in paused.out
    assert "edit: paused since " in idle_spool("stats").out
    assert idle_spool("resume", "edit", "--json").json()["paused_at"] is None
    assert "0 of at most 2 run" in idle_spool("limit", "edit", "2").out
    wrong = idle_spool("limit", "edit", "many")
    assert (wrong.code, wrong.err) == (2, "'many' is no limit; give a number from 1 to 10,000, or none.\n")


def test_many_jobs_are_cancelled_and_retried_by_a_tag(idle: Dev, idle_spool: Spool):
    """The number is told; ids and filters together are refused."""
    client = Client(idle.url)
    for _ in range(2):
        client.create({"type": "ingest", "params": {"source": "https://example.org/a.mp3"}, "tags": ["many"]})
    assert "2 cancelled." in idle_spool("cancel", "--tag", "many").out
    assert idle_spool("retry", "--tag", "many", "--json").json() == {"retried": 0, "skipped": 0}
    assert idle_spool("cancel", "an-id", "--all").code == 2


def test_dev_says_what_is_still_paused(tmp_path: Path):
    """A pause outlives its process, so the next start tells of it."""
    store = LocalJobStore(tmp_path / ".spool/spool.db")
    store.migrate()
    store.steer("ingest", paused=True, max_running=None, limiting=False)
    store.close()
    dev = start_dev(tmp_path, "--workers", "0")
    assert "Go on: spool resume ingest" in dev.line("ingest: paused since ")
    assert dev.end() == 0
