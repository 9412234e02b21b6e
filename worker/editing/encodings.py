"""Which files come out of an edit, and how each is encoded."""

from __future__ import annotations

from shared.errors import JobFailure
from shared.types import OutputSpec
from worker.editing.state import EditState
from worker.editing.steps import Take
from worker.encoders import Encoding, encoding
from worker.examine import is_deep


def shows_picture(state: EditState) -> bool:
    """Whether a video is to come out. Raises `JobFailure` when one is asked for and no file has a picture."""
    there = any(media.picture is not None for media in state.media.values())
    asked = any(spec.format == "mp4" for spec in state.params.outputs)
    if asked and not there:
        raise JobFailure(
            "bad_input.no_video",
            "An MP4 video was asked for and no recording has a picture; ask for m4a or mp3 instead.",
        )
    return there and (asked or not state.params.outputs)


def specs(state: EditState) -> tuple[OutputSpec, ...]:
    """The files asked for, or the usual one."""
    return state.params.outputs or (OutputSpec(format="mp4" if shows_picture(state) else "mp3"),)


def encodings(state: EditState, whole: Take) -> list[Encoding]:
    """How each of them is made of the whole."""
    audios = [audio for source in state.paths if (audio := state.audio(source)) is not None]
    return [
        encoding(spec, channels=whole.sound.channels, sample_rate=whole.sound.rate, deep=any(map(is_deep, audios)))
        for spec in specs(state)
    ]
