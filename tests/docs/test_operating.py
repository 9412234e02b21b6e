"""What docs/operating.md tells an operator to type works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.client import Client
from cli.main import app
from shared.store import reset_job_store
from tests.cli.conftest import start_dev, until

PAGE = (Path(__file__).parents[2] / "docs/operating.md").read_text()
BLOCKS = re.findall(r"<!-- executed -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
#: Commands that ask an API, each by itself.
ASKING = [
    line
    for block in re.findall(r"<!-- executed with an API -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def test_the_page_has_examples_to_execute():
    """The marker is spelled as this test expects it."""
    assert len(BLOCKS) == 1
    assert len(ASKING) == 26


def test_each_command_of_the_night_works(tmp_path, monkeypatch):
    """One after the other, against a real API and a worker: each ends well and says something."""
    dev = start_dev(tmp_path)
    try:
        monkeypatch.chdir(tmp_path)
        for name in [name for name in os.environ if name.startswith(("SPOOL_", "TURSO_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("SPOOL_API_URL", dev.url)
        until(lambda: bool(Client(dev.url).stats()["workers"]), "a worker's first heartbeat")
        for line in ASKING:
            ran = CliRunner().invoke(app, shlex.split(line)[1:])
            assert ran.exit_code == 0, f"{line}: {ran.output}"
            assert ran.output.strip(), line
    finally:
        reset_job_store()
        assert dev.end() == 0


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0][:40] for block in BLOCKS])
def test_each_example_runs_on_a_migrated_database(block, tmp_path):
    """Every command ends well and says something."""
    spool = str(Path(sys.executable).with_name("spool"))
    script = re.sub(r"^spool ", f"{spool} ", block, flags=re.MULTILINE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPOOL_", "TURSO_"))}
    run = subprocess.run(
        ["sh", "-e", "-c", f"{spool} migrate >/dev/null\n{script}"],
        cwd=tmp_path,
        env=kept,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip()
