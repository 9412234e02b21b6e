"""What docs/job-types.md shows of each job type works as it stands, and tells all that comes out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2 as httpx
import imageio_ffmpeg
import pytest

from functions.reference import job_types
from shared.types import JOB_TYPES
from tests.cli.conftest import DEADLINE_S, SPOOL, environment, running_dev

PAGE = (Path(__file__).parents[2] / "docs/job-types.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE))
EXECUTED = re.compile(r"<!-- executed -->\n```sh\n(.*?)```", re.DOTALL)
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
ENDED = {"completed", "failed", "dead_letter", "cancelled"}


@dataclass
class Shown:
    """What became of a type's two examples: the job that curl made, its files, and how the command ended."""

    job: dict[str, Any]
    files: dict[str, str]
    ran: subprocess.CompletedProcess[str]
    saved: list[Path]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Shown]]:
    """Every example, executed once against one API with two workers."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine; the routes it calls are tested without it")
    folder = tmp_path_factory.mktemp("examples")
    settings = {"SPOOL_RATE_LIMIT": "0"}
    for name in JOB_TYPES:
        settings |= job_types.told(name).example.settings
        for file, text in FILE.findall(SECTIONS[name]):
            (folder / file).write_text(text)
    recordings(folder)
    with running_dev(folder, "--workers", "2", **settings) as dev:
        yield executed(folder, dev.url)


def executed(folder: Path, url: str) -> dict[str, Shown]:
    """Post every example of the page as it stands, wait for all, then run every command."""
    head = EXECUTED.findall(PAGE)[0].replace(job_types.API, url)
    posts = [f"{EXECUTED.findall(SECTIONS[name])[0].strip()} > {name}.posted" for name in JOB_TYPES]
    script = "\n".join([head, *posts]).replace("curl -s ", "curl -fsS ")
    told = environment(SPOOL_API_URL=url)
    subprocess.run(["sh", "-e", "-c", script], cwd=folder, env=told, check=True, timeout=DEADLINE_S)
    with httpx.Client(base_url=url, follow_redirects=True, timeout=60) as http:
        return {name: one(http, name, folder, told) for name in JOB_TYPES}


def one(http: httpx.Client, name: str, folder: Path, told: dict[str, str]) -> Shown:
    """Wait for the job that was posted, and run the command."""
    job = json.loads((folder / f"{name}.posted").read_text())
    deadline = time.monotonic() + DEADLINE_S
    while job["status"] not in ENDED and job["result"] is None:
        assert time.monotonic() < deadline, job
        job = http.get(f"/api/jobs/{job['id']}?wait=5").json()
    if job["status"] not in ENDED:
        http.post(f"/api/jobs/{job['id']}/cancel")  # its children are links to nowhere
    files = {
        item["name"]: http.get(item["url"]).text for item in http.get(f"/api/jobs/{job['id']}/outputs").json()["items"]
    }
    line = EXECUTED.findall(SECTIONS[name])[1].strip()
    ran = subprocess.run(
        ["sh", "-e", "-c", re.sub(r"^spool ", f"{SPOOL} ", line)],
        cwd=folder, env=told, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    place = re.search(r" -o (\S+)", line)
    return Shown(job, files, ran, list((folder / place[1]).iterdir()) if place else [])


def recordings(folder: Path) -> None:
    """talk.wav and film.mp4, two seconds each."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "sine=330:d=2"]
    picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:d=2", "-shortest", "-pix_fmt", "yuv420p"]
    subprocess.run([*ffmpeg, folder / "talk.wav"], check=True)
    subprocess.run([*ffmpeg, *picture, folder / "film.mp4"], check=True)


def test_the_page_has_a_section_for_every_type_and_no_other():
    """With two examples in each."""
    assert [*SECTIONS][: len(JOB_TYPES)] == [*JOB_TYPES]
    assert {name: len(EXECUTED.findall(SECTIONS[name])) for name in JOB_TYPES} == dict.fromkeys(JOB_TYPES, 2)


@pytest.mark.parametrize("name", JOB_TYPES)
def test_the_example_makes_what_the_page_tells(shown, name):
    """Every output and every key of the result is in the tables, and every key that is always there."""
    about, job = job_types.told(name), shown[name].job
    assert job["status"] in {"completed", "waiting_children"}, job["error"]
    assert {*about.result} <= {*(job["result"] or ())} <= {*about.result, *about.sometimes}
    assert [output for output in shown[name].files if not any(fnmatch(output, told) for told in about.outputs)] == []
    assert bool(shown[name].files) == bool(about.outputs)
    for document, model in JOB_TYPES[name].documents.items():
        model.model_validate_json(shown[name].files[document])


@pytest.mark.parametrize("name", JOB_TYPES)
def test_the_command_does_it_too(shown, name):
    """It ends well, and what it was asked to save is there."""
    ran = shown[name].ran
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip()
    assert bool(shown[name].saved) == (" -o " in ran.args[-1])
