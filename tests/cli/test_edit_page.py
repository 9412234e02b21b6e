"""What docs/edit.md shows works as it stands, and tells every entry there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from shared.types import edits
from tests.cli.conftest import SPOOL

PAGE = (Path(__file__).parents[2] / "docs/edit.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = re.findall(r"<!-- executed -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_each_example_of_the_page_runs(number, dev, tone, tmp_path):
    """Every command ends well and saves what it made, against a server as `make dev` starts it."""
    assert len(BLOCKS) == 2
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    for name in ("intro.wav", "talk.wav"):
        shutil.copy(tone, tmp_path / name)
    done = subprocess.run(
        ["sh", "-e", "-c", re.sub(r"^spool", SPOOL, BLOCKS[number], flags=re.MULTILINE)],
        cwd=tmp_path,
        env=os.environ | {"SPOOL_API_URL": dev.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    saved = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*") if path.name != "peaks.json")
    assert [name for name in saved if not name.endswith(".json")] == [
        ["finished/show.flac", "finished/show.mp3"],
        ["joined/intro.mp3", "trimmed/talk.flac"],
    ][number], done.stdout


def test_the_page_tells_every_entry_and_its_fields():
    """A row for each, with all of its fields, and no other."""
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE))
    members = {get_args(kind.model_fields["op"].annotation)[0]: kind for kind in get_args(get_args(edits.Edit)[0])}
    assert set(rows) - {"op"} == set(members)
    for name, kind in members.items():
        told = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", rows[name]).replace(" of `from_s` and `to_s`", "")))
        assert told == set(kind.model_fields) - {"op", "on"}, name
