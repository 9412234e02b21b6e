"""`check`: whether a file is there and is what other jobs need, before much work is put into what goes with it.

It looks into the file and decodes its first seconds, no more: what is wrong further on, the job that reads all of it
tells. Read from the bottom: the stages are a table, and each of them is a function above it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import JobFailure
from shared.types import CheckParams
from worker import frames
from worker.examine import native_mix, refuse_no_sound, sound_track
from worker.ffmpeg import input_args, transcode
from worker.loudness import measure
from worker.pictures import read_picture
from worker.probe import probe
from worker.run import Pipeline, Run, Stage
from worker.transfer import fetch_source, source_path

#: How much is decoded. What is broken is seldom whole for so long.
DECODED_S = 10.0
#: What a container says of a length may be off by some packets.
SLACK_S = 0.1


@dataclass(slots=True)
class CheckState:
    """What the stages hand on to each other."""

    params: CheckParams
    path: Path
    sha256: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def begin(run: Run) -> CheckState:
    """Read the parameters, and make the folder in which the source lies alone."""
    return CheckState(CheckParams.model_validate(run.job.params), source_path(run))


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: CheckState) -> None:
    """Bring the source into its folder."""
    state.sha256 = fetch_source(run, state.params.source, state.path)


def look(run: Run, state: CheckState) -> None:
    """Find out what the file is, and refuse what is not what was expected."""
    state.facts = _sound(run, state) if state.params.expects == "sound" else _picture(run, state)


def result(state: CheckState) -> tuple[dict[str, Any], tuple[()]]:
    """What the file is."""
    return {"size_bytes": state.path.stat().st_size, "sha256": state.sha256, **state.facts}, ()


# --- what the stages ask -----------------------------------------------------------------------------------------
def _sound(run: Run, state: CheckState) -> dict[str, Any]:
    media = probe(run, state.path)
    audio = sound_track(media)
    wanted_s = state.params.shortest_s
    if media.duration_s is not None and not media.duration_estimated and media.duration_s < wanted_s - SLACK_S:
        raise JobFailure(
            "bad_input.too_short",
            f"The recording is {media.duration_s:.1f} s long, and {wanted_s:.1f} s of it are asked for; "
            "send the whole recording, or ask for less of it.",
        )
    decoded = measure(
        run,
        input_args(state.path, duration_s=DECODED_S),
        native_mix(audio),
        folder=run.work,
        stream=f"0:{audio.index}",
        on_time=lambda seconds: run.report.progress(seconds, min(DECODED_S, media.duration_s or DECODED_S)),
    )
    if not decoded.samples:
        raise JobFailure(
            "bad_input.corrupt", "No sound could be decoded from the track; export the recording again and upload that."
        )
    refuse_no_sound(decoded)
    return {
        "format": media.format_name,
        "duration_s": media.duration_s,
        "codec": audio.codec,
        "sample_rate": audio.sample_rate,
        "channels": audio.channels,
    }


def _picture(run: Run, state: CheckState) -> dict[str, Any]:
    picture = read_picture(state.path)
    if picture is None:
        raise JobFailure(
            "bad_input.not_media",
            "The file is no picture (JPEG, PNG, WebP, GIF or BMP), whatever its name says; upload the picture itself.",
        )
    frames.refuse_too_many_pixels(picture.width, picture.height)
    transcode(
        run, [*frames.picture_input(state.path, picture), "-frames:v", "1", "-f", "null", "-"], what="The picture"
    )
    width, height = picture.shown
    return {"format": picture.demuxer, "width": width, "height": height}


CHECK: Pipeline[CheckState] = Pipeline(
    type="check",
    begin=begin,
    stages=(Stage("downloading", download, weight=5), Stage("checking", look, weight=5)),
    result=result,
)
