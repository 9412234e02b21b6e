"""What docs/episode.md shows works as it stands, and the example show is one that can be made."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cli.drafts import Order, drafts
from cli.show import SHOW, recordings
from shared.presets import PRESETS
from shared.types import EpisodeParams
from shared.types.episode import VOICE

PAGE = (Path(__file__).parents[2] / "docs/episode.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = re.findall(r"<!-- executed -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_each_example_of_the_page_runs(spool, tone, tmp_path, number):
    """One command, and the finished files are saved, with nothing of what was on the way."""
    ((name, text),), command = FILES, BLOCKS[number]
    assert len(BLOCKS) == 2
    (tmp_path / name).write_text(text)
    for recording in ("host.wav", "guest.wav", "music.wav"):
        shutil.copy(tone, tmp_path / recording)
    done = spool(*command.split()[1:])
    assert done.code == 0, done.out + done.err
    saved = {path.name for path in (tmp_path / ("finished", "spoken")[number]).iterdir()}
    assert saved == [
        {"show.mp3", "show.opus", "show.chapters.json", "show.peaks.json"}, {"host.mp3", "host.peaks.json"},
    ][number]  # fmt: skip
    assert "target -16 LUFS" in done.out


def test_the_page_tells_the_children_there_are():
    """The keys of its table are those that the type makes, and the default is the one it names."""
    told = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE)
    around = {name: {"source": name} for name in ("music", "intro", "outro")}
    show = EpisodeParams.model_validate({"tracks": [{"source": "a", "name": "host"}], "cover": "c"} | around)
    made: dict[str, list[str]] = {}
    for member in show.members:
        made.setdefault(member.phase, []).append(member.key.replace("track.host", "track.<name>"))
    assert {phase: re.findall(r"`(.*?)`", keys) for phase, keys in told} == made
    assert f"mastered to `{VOICE}`" in PAGE
    assert VOICE in PRESETS


def test_the_example_show_is_whole(tmp_path):
    """Every file that it names is in the list of what is fetched, or beside it, and the API would take it."""
    shutil.copytree(SHOW, tmp_path / "show", ignore=shutil.ignore_patterns("recordings"))
    (tmp_path / "show/recordings").mkdir()
    for sample in recordings():
        (tmp_path / "show/recordings" / sample.name).write_bytes(b"sound")
    (draft,) = drafts(Order("episode", (str(tmp_path / "show/show.toml"),)), {"episode": {}})
    named = {path.relative_to(tmp_path / "show").as_posix() for path in draft.files.values()}
    assert named == {"cover.png", *(f"recordings/{sample.name}" for sample in recordings())}


@pytest.mark.parametrize("sample", recordings(), ids=lambda sample: sample.name)
def test_each_recording_says_what_it_is(sample):
    """A package with its version, a member of it, and the whole hash of that."""
    assert re.fullmatch(r"[\w-]+==[\d.]+", sample.package)
    assert re.fullmatch(r"[0-9a-f]{64}", sample.sha256)
