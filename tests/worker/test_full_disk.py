"""A worker that begins on a full disk: it waits, or says in one sentence why it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.real.sqld import Sqld
from tests.worker.stand import ROOT

FULL = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.execv(sys.executable, [sys.executable, "-m", "worker"])
"""


@pytest.fixture
def begin(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m worker` on a remote queue, where no file can grow by a single byte."""
    started: list[subprocess.Popen[str]] = []
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPOOL_", "TURSO_"))}
    with Sqld(tmp_path / "sqld") as server:
        places = {"SPOOL_DATABASE_URL": server.url, "SPOOL_STORAGE_URL": f"file:{tmp_path}/storage"}

        def worker(**settings: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", FULL],
                cwd=ROOT,
                env=kept | places | {"SPOOL_SECRET": "s" * 32} | settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
            return process

        yield worker
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_worker_that_begins_on_a_full_disk_takes_no_jobs_and_lives(begin, tmp_path) -> None:
    """It does what a worker does whose disk fills up later, and ends when it is told to."""
    worker = begin(SPOOL_WORK_DIR=str(tmp_path / "work"))
    said = []
    for line in worker.stdout:
        said.append(json.loads(line)["event"])
        if "no more jobs are taken" in said[-1]:
            break
    assert said == ["worker ready", "the work folder cannot be used; no more jobs are taken until it can"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_worker_that_has_nowhere_to_work_says_so(begin) -> None:
    """Without a work folder of its own it needs the machine's for temporary files."""
    worker = begin()
    said, _ = worker.communicate()
    assert worker.returncode == 3
    assert said == (
        "The worker cannot start now: No folder for temporary files can be written to, as on a full disk; free some "
        "space, or set SPOOL_WORK_DIR to a folder on another disk. Start it again when that is mended.\n"
    )
