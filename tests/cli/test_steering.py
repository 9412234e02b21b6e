"""Commands by which operators steer, against a real API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from cli.client import Client
from cli.main import app
from shared.store.local import LocalJobStore
from tests.cli.conftest import Dev, Spool, running_dev


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


def test_a_schedule_is_removed(idle_spool: Spool):
    """The answer names it, and it is listed no more."""
    assert idle_spool("schedules", "add", "feed", "0 3 * * *", "maintenance", "--param", "duty=prune").code == 0
    assert idle_spool("schedules", "remove", "feed", "--json").json() == {"name": "feed", "removed": True}
    assert idle_spool("schedules", "list", "--json").json() == {"items": []}


def test_every_command_that_answers_can_answer_a_program():
    """All take --json but those that start a part of Spool, which have no answer to give."""
    without = {name for name, command in _commands(get_command(app)) if "--json" not in _options(command)}
    assert without == {"dev", "demo", "api", "worker"}


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} ")
        else:
            yield before + name, command


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_dev_says_what_is_still_paused(tmp_path: Path):
    """A pause outlives its process, so the next start tells of it."""
    store = LocalJobStore(tmp_path / ".spool/spool.db")
    store.migrate()
    store.steer("ingest", paused=True, max_running=None, limiting=False)
    store.close()
    with running_dev(tmp_path, "--workers", "0") as dev:
        assert "Go on: spool resume ingest" in dev.line("ingest: paused since ")
