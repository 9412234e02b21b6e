"""How often each job type reads its source: counted by the inputs of every ffmpeg that was started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.types import JOB_TYPES
from tests.media import signals
from worker.pipelines import PIPELINES

pytestmark = pytest.mark.media

#: Of these none has to be encoded again because it missed its loudness: so short a sound moves other encoders'.
MANY = {"outputs": [{"format": kind} for kind in ("mp3", "flac", "wav")], "target_lufs": -33}
#: The parameters of a job that asks for much, and how often its source is read. `ingest` reads it twice, because
#: its loudness must be known before the first sample of the file is written; `thumbnail` once for each kind of output.
READS: Mapping[str, tuple[dict[str, Any], int]] = {
    "check": ({}, 1),
    "edit": ({"edits": [{"op": "cut", "ranges": [{"from_s": 1, "to_s": 2}]}], **MANY}, 1),
    "ingest": (MANY, 2),
    "report": ({}, 1),
    "thumbnail": ({"waveform": {}, "spectrogram": {}}, 1),
}
#: Types that read no media themselves, or (render, with tracks of its own) in a test of its own.
ELSEWHERE = {"collect", "episode", "flow", "maintenance", "render"}


def reads(programs: list[tuple[str, ...]]) -> int:
    """How often ffmpeg was given the source."""
    return sum(
        argument == "-i" and argv[place + 1].endswith("/source")
        for argv in programs
        if "ffmpeg" in Path(argv[0]).name
        for place, argument in enumerate(argv[:-1])
    )


def test_every_type_is_counted():
    """A new job type says here how often it reads its source."""
    assert READS.keys() | ELSEWHERE == PIPELINES.keys() | JOB_TYPES.keys()


@pytest.mark.parametrize("kind", ["mp3", "wav"])
@pytest.mark.parametrize("job_type", READS)
def test_the_source_is_decoded_once(perform: Callable[..., Any], make, tmp_path, job_type, kind):
    """However many files are made of it."""
    wav = signals.write(tmp_path / "talk.wav", signals.podcast(4))
    source = wav if kind == "wav" else make("talk.mp3", "-i", wav)
    params, times = READS[job_type]
    assert reads(perform(job_type, source, **params).programs) == times
