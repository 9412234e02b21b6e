"""The log serves the work, never the other way round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
