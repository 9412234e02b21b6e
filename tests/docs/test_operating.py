"""What docs/operating.md tells an operator to type works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/operating.md").read_text()
BLOCKS = re.findall(r"<!-- executed -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_has_examples_to_execute():
    """The marker is spelled as this test expects it."""
    assert len(BLOCKS) == 1


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
