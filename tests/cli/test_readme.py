"""What the README and the pages tell a newcomer to type works as it stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The examples of docs/edit.md and docs/operating.md need files or a database of their own, and have their own tests.
PAGES = [ROOT / name for name in ("README.md", "docs/report.md", "docs/thumbnail.md")]
BLOCKS = [
    block for page in PAGES for block in re.findall(r"<!-- executed -->\n```sh\n(.*?)```", page.read_text(), re.DOTALL)
]


def test_the_pages_have_examples_to_execute():
    """The marker is spelled as this test expects it."""
    assert len(BLOCKS) == 6


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0][:40] for block in BLOCKS])
def test_each_example_runs(block, dev, tone, tmp_path):
    """Every command ends well and says something, against a server as `make dev` starts it."""
    if "curl" in block and shutil.which("curl") is None:
        pytest.skip("curl is not on this machine; the routes it calls are tested without it")
    shutil.copy(tone, tmp_path / "recording.wav")
    script = block.replace(".venv/bin/spool", str(Path(sys.executable).with_name("spool")))
    script = script.replace("http://127.0.0.1:8000", dev.url).replace("curl -s", "curl -fsS")
    run = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"SPOOL_API_URL": dev.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip()
    if "-o finished" in block:
        assert list((tmp_path / "finished").iterdir())
