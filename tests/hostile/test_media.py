"""Hostile files through the real API and a real worker: the right end for each, and nothing else is touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.hostile.conftest import Trap
from tests.hostile.corpus import (
    BOMBS,
    FORMAT,
    HIDDEN,
    NOT_MEDIA,
    POINTERS,
    RIGHT,
    SLOW_BOMBS,
    TARGET_LUFS,
    WORDS,
    Case,
    pointer,
)
from tests.hostile.damage import broken, good_files
from tests.hostile.place import MOST_MEMORY_BYTES, Place, place
from tests.media import judges
from tests.network.deployment import ROOT

pytestmark = pytest.mark.media
#: How many ways to break each good file, from the command line of `make hostile`.
SEEDS = int(os.environ.get("HOSTILE_SEEDS", "1"))
SCRIPTS = {name: Case(pointer(script), (FORMAT, NOT_MEDIA)) for name, script in POINTERS.items()}
LONG = {} if SEEDS == 1 else SLOW_BOMBS


def ends_of(here: Place, files: Mapping[str, bytes], folder: Path) -> dict[str, str]:
    """How the job of each file ended: `right` when its file was decoded and has the promised loudness, or the code of
    a permanent failure with a sentence that names no tool and no place."""
    jobs = {name: here.submit(content, "talk.wav") for name, content in files.items()}
    return {name: end_of(here, job, folder) for name, job in jobs.items()}


def end_of(here: Place, job: str, folder: Path) -> str:
    """How one job ended, in a word."""
    found = here.end_of(job)
    if found["status"] == "completed":
        return RIGHT if finished_right(here, found, folder) else "a wrong file"
    error = found["error"]
    if (found["status"], error["kind"]) != ("failed", "permanent"):
        return f"{found['status']}, {error['kind']}, {error['code']}: {error['message']}"
    plain = error["message"].endswith(".") and not re.search(r"ffmpeg|/tmp|/work|Traceback", error["message"])
    return str(error["code"]) if plain else f"an unclear sentence: {error['message']}"


def finished_right(here: Place, found: dict, folder: Path) -> bool:
    """Whether what was delivered plays without an error and is as loud as promised, by another's meter."""
    name = next(item["name"] for item in found["outputs"] if item["name"] in {"mp3", "mp4"})
    path = folder / found["id"]
    path.write_bytes(here.output(found["id"], name))
    heard = judges.libebur128(Path(imageio_ffmpeg.get_ffmpeg_exe()), path)
    path.unlink()
    return abs(heard.lufs - TARGET_LUFS) <= 0.1 or any("cannot reach" in text for text in found["result"]["warnings"])


def wrong(ends: Mapping[str, str], cases: Mapping[str, Case]) -> dict[str, str]:
    """The cases that did not end as they must."""
    return {name: end for name, end in ends.items() if end not in cases[name].ends}


def test_every_hostile_file_gets_its_right_end(here, trap: Trap, tmp_path) -> None:
    """By one worker that lives on; nobody opens the bait or calls the server, and no process needs a gigabyte."""
    cases = SCRIPTS | HIDDEN | BOMBS | LONG | WORDS
    trap.untouched()
    assert wrong(ends_of(here, {name: case.make(trap.bait) for name, case in cases.items()}, tmp_path), cases) == {}
    assert trap.untouched()
    assert here.end() < MOST_MEMORY_BYTES


def test_good_files_are_mastered_and_broken_ones_refused_or_saved(here, tmp_path) -> None:
    """Of every kind that Spool reads. A broken one ends as a file that is right, or in a refusal that is final."""
    good = {name: path.read_bytes() for name, path in good_files(tmp_path).items()}
    whole = good if SEEDS > 1 else dict(list(good.items())[::5])
    assert set(ends_of(here, whole, tmp_path).values()) == {RIGHT}
    files = {(name, seed): broken(good[name], seed) for name, seed in turns(good)}
    ends = ends_of(here, files, tmp_path)
    assert {case: end for case, end in ends.items() if not end.startswith((RIGHT, "bad_input.", "unsupported."))} == {}
    assert here.end() < MOST_MEMORY_BYTES


def turns(kinds: Mapping[str, object]) -> list[tuple[str, int]]:
    """Which seeds for which kind: with one seed every second kind, each in another way than the one before."""
    step = 2 if SEEDS == 1 else 1
    return [(kind, number + turn) for number, kind in enumerate([*kinds][::step]) for turn in range(SEEDS)]


def test_the_baits_work(trap: Trap, tmp_path) -> None:
    """So that an untouched bait means something: plain ffmpeg opens the file, and calls the server."""
    for name, touched in (("concat script to a file", ["secret.wav"]), ("concat script to the network", ["/concat"])):
        (tmp_path / "source").write_bytes(pointer(POINTERS[name])(trap.bait))
        argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-safe", "0", "-f", "concat"]
        argv += ["-protocol_whitelist", "file,http,tcp", "-i", str(tmp_path / "source"), "-f", "null", "-"]
        subprocess.run(argv, check=False, capture_output=True)
        assert set(trap.watched.touched() + trap.asked) == set(touched)
        trap.asked.clear()


#: Files that any program of the worker may open: the system's, Python's and Spool's own, and nothing of anybody else.
OPEN_TO_ALL = (
    "/usr/",
    "/lib",
    "/etc/",
    "/proc/",
    "/sys/",
    "/dev/",
    "/run/",
    "/opt/",
    str(Path(sys.prefix)),
    sys.base_prefix,
)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which sees every call, is not on this machine")
def test_the_kernel_saw_no_connection_and_no_strange_file(trap: Trap, tmp_path) -> None:
    """Every system call of the worker and all its programs while they look at the scripts, by strace's account."""
    calls = tmp_path / "calls"
    trace = "trace=open,openat,socket,connect,sendto"
    wrapper = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", trace, "-o", str(calls)]
    names = ["HLS to a file", "HLS to the network", "concat script to a file", "concat script to the network",
             "DASH to the network", "SVG with a picture of a file"]  # fmt: skip
    with place(tmp_path / "place", *wrapper) as here:
        files = {name: SCRIPTS[name].make(trap.bait) for name in names}
        files |= {name: case.make(trap.bait) for name, case in HIDDEN.items()}
        ends = ends_of(here, files, tmp_path)
        here.end()
    assert wrong(ends, SCRIPTS | HIDDEN) == {}
    text = calls.read_text(errors="replace")
    assert text.count("/in/source") > len(files), "strace saw the sources being opened"
    assert str(trap.bait.file) not in text
    assert set(re.findall(r"sa_family=(\w+)", text)) <= {"AF_UNIX"}
    opened = re.findall(r'open(?:at)?\([^"]*"(/[^"]*)"', text)
    ours = (*OPEN_TO_ALL, str(here.folder), str(ROOT))
    strange = {path for path in opened if not f"{path}/".startswith(ours)}
    assert strange == set()
