"""The log serves the work, never the other way round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import resource, structlog
from shared.log import configure_log
from shared.settings import load_settings
configure_log(load_settings(_env_file=None))
log = structlog.get_logger("test")
free = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, free[1]))
for number in range(500):
    log.info("a line that may be lost", number=number)
resource.setrlimit(resource.RLIMIT_FSIZE, free)
log.info("there is room again")
print("worked on")
"""


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path) -> None:
    """On a full disk lines are lost, and come again when there is room: found by chaos, as a worker that ended."""
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
    written = (tmp_path / "log").read_text()
    assert (done.returncode, done.stdout) == (0, "worked on\n"), written[-500:]
    assert written.startswith('{"number": 0')
    assert '"number": 400' not in written, "the disk was not full"
    assert "there is room again" in written


OPENS = ("spl_abc_VERYSECRET", "SIGNED", "whole-settings-token", "LATER")
MISHAP = f"""
import logging, structlog
from shared.log import configure_log
from shared.settings import load_settings
configure_log(load_settings(_env_file=None))
log = structlog.get_logger("test")

def work(token):
    url = "https://store.example/a.wav?X-Amz-Date=1&X-Amz-Signature=SIGNED"
    raise ValueError(f"cannot read {{url}} with {OPENS[0]}")

try:
    work("{OPENS[2]}")
except ValueError:
    log.exception("a stage failed", job="0199", at="/files/outputs/x?expires=1&signature=SIGNED")
    logging.getLogger("library").warning("GET /a?signature=LATER broke", exc_info=True)
log.warning("fetching", url="https://me.example/feed?key=SIGNED#x")
"""


@pytest.mark.parametrize("shape", ["json", "human"])
def test_a_log_holds_nothing_that_opens_anything(shape) -> None:
    """No values of variables, queries of addresses or keys, in sentences, tracebacks and what libraries say."""
    environment = os.environ | {"SPOOL_LOG_FORMAT": shape}
    run = subprocess.run(
        [sys.executable, "-c", MISHAP], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert [one for one in OPENS if one in run.stderr] == []
    for told in (
        "cannot read https://store.example/a.wav?",
        "in work",
        "a stage failed",
        "broke",
        "https://me.example",
    ):
        assert told in run.stderr or told.replace("in work", '"name": "work"') in run.stderr, told
    if shape == "json":
        lines = [json.loads(line) for line in run.stderr.splitlines()]
        assert [(line["event"], line["level"]) for line in lines] == [
            ("a stage failed", "error"),
            ("GET /a?signature=… broke", "warning"),
            ("fetching", "warning"),
        ]
        assert lines[0]["job"] == "0199"
