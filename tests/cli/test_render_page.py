"""What docs/render.md shows works as it stands, and tells every field there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from mutagen.id3 import ID3

from shared.types import render
from tests.cli.conftest import SPOOL
from worker.png import write_png

PAGE = (Path(__file__).parents[2] / "docs/render.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = re.findall(r"<!-- executed -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_of_the_page_runs(dev, tone, tmp_path):
    """The command ends well and saves the show, against a server as `make dev` starts it."""
    ((name, text),), (block,) = FILES, BLOCKS
    (tmp_path / name).write_text(text)
    for source in ("host.wav", "guest.wav", "bell.wav", "music.wav"):
        shutil.copy(tone, tmp_path / source)
    write_png(tmp_path / "cover.png", np.full((64, 64, 4), 255, np.uint8))
    done = subprocess.run(
        ["sh", "-e", "-c", re.sub(r"^spool", SPOOL, block, flags=re.MULTILINE)],
        cwd=tmp_path,
        env=os.environ | {"SPOOL_API_URL": dev.url},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    saved = {path.suffix: path for path in (tmp_path / "finished").iterdir()}
    assert {".mp3", ".m4a", ".mp4", ".json"} <= set(saved), saved
    assert ID3(saved[".mp3"])["CHAP:ch1"].start_time == 2250  # the show begins at 1 s


def test_the_page_tells_every_part_and_its_fields():
    """A row for each, with all of its fields and no other; the common ones are told once."""
    common = set(re.findall(r"`(\w+)`", PAGE.split("What has a `source` takes")[1].split("\n\n")[0]))
    rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)?) \|([^|]*)\|$", PAGE, re.MULTILINE))
    models = {
        "`tracks`": render.Track,
        "`music`": render.Bed,
        "`intro`, `outro`": render.Sting,
        "`ducking`": render.Ducking,
        "`chapters`": render.Chapter,
        "`outputs`": render.RenderOutput,
    }
    assert set(rows) == set(models)
    assert common | {"source"} == set(render.Clip.model_fields)
    for part, model in models.items():
        told = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", rows[part])))
        extra = set(model.model_fields) - (set(render.Clip.model_fields) if issubclass(model, render.Clip) else set())
        assert told == extra, part
    assert [name for name in render.RenderParams.model_fields if f"`{name}" not in PAGE] == []
