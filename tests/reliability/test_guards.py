"""The tests can fail: with any one guard taken out of a copy of the code, its test goes red."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.guards import GUARDS

ROOT = Path(__file__).parents[2]
PARTS = ("cli", "functions", "shared", "worker", "tests", "pyproject.toml", "README.md", "docs")


@pytest.mark.parametrize("guard", GUARDS, ids=[f"promise {guard.promise}: {guard.what}" for guard in GUARDS])
def test_a_missing_guard_is_noticed(guard, tmp_path):
    """The suite that holds a promise fails when the line that keeps it is changed."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / part)
    target = tmp_path / guard.file
    text = target.read_text()
    assert guard.old in text, "the guard is no longer where this list says"
    target.write_text(text.replace(guard.old, guard.new))
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--timeout=20",
            guard.test,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, f"nothing noticed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}"
    assert "error during collection" not in run.stdout


def test_the_page_lists_every_guard():
    """docs/reliability.md names each promise, guard and test, and no other."""
    page = (ROOT / "docs/reliability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert rows == [f"| {guard.promise} | {guard.what} | `{guard.file}` | `{guard.test}` |" for guard in GUARDS]
