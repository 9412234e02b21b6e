"""docs/programs.md: its programs run, its commands work, and its tables hold every word of the file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from shared.programs import _Registered
from tests.cli.conftest import start_dev, until

PAGE = (Path(__file__).parents[2] / "docs/programs.md").read_text()


def block(after: str, language: str) -> str:
    """The first block of a language after some words."""
    found = re.search(rf"{re.escape(after)}.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, after
    return found[1]


def test_the_table_holds_every_word_of_the_file():
    """None is missing and none is invented."""
    table = re.search(r"\| word \|.*?\n\n", PAGE, re.DOTALL)[0]
    told = {name for row in table.strip().splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert told == set(_Registered.model_fields)


def test_the_example_runs(tmp_path):
    """The file, both programs and the commands of the page, against `spool dev`: both do what they say."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    (tmp_path / "programs.toml").write_text(block("A file of programs", "toml"))
    (tmp_path / "parrot.py").write_text(block("`parrot.py`", "python"))
    (tmp_path / "shout.py").write_text(block("`shout.py`", "python"))
    dev = start_dev(tmp_path, SPOOL_PROGRAMS="programs.toml")
    try:
        script = block("<!-- executed -->", "sh").replace("http://127.0.0.1:8000", dev.url)
        script = script.replace("spool submit", f"{Path(sys.executable).with_name('spool')} submit")
        run = subprocess.run(
            ["sh", "-e", "-c", script.replace("curl -s", "curl -fsS")],
            cwd=tmp_path,
            env=os.environ | {"SPOOL_API_URL": dev.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        made = {path.read_text() for path in (tmp_path / "finished").iterdir()}
        assert made == {"HELLO!\n" * 3, "GOOD MORNING!\n"}
        until(lambda: _first(dev.url)["status"] == "completed", "the parrot's answer")
        assert [one["text"] for one in _first(dev.url)["preview"]] == ["Hello"]
    finally:
        assert dev.end() == 0, "\n".join(dev.said)


def _first(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/sessions") as answer:
        session: dict[str, Any] = json.load(answer)["items"][0]
        return session
