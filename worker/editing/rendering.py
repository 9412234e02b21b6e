"""An edit, or a part of it, is made into a file of ours by one ffmpeg, and measured while it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.errors import JobFailure
from worker.deliverable import Making
from worker.editing import sound as sounds
from worker.editing.copies import copied_picture, frames_of
from worker.editing.encodings import encodings
from worker.editing.foretold import foretell
from worker.editing.graph import Graph
from worker.editing.picture import Picture
from worker.editing.sound import Sound
from worker.editing.state import EditState
from worker.editing.steps import Take
from worker.examine import LONGEST_S, refuse_no_sound
from worker.ffmpeg import BITEXACT, input_args
from worker.loudness import Measured, Rendering, measure
from worker.meter import Mix
from worker.run import Run

_ENCODED_PICTURE = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p")
#: A rendering may be no larger than any one file may be.
_MOST_BYTES = 16e9


def listen(run: Run, state: EditState, parts: Path, take: Take) -> Take:
    """Render a take as it is now, to know where it is silent."""
    path = parts / f"heard-{len(list(parts.iterdir()))}.wav"
    measured = render(run, state, take.sound, path)
    rate, channels = take.sound.rate, take.sound.channels
    sound = sounds.read(path, 0, rate=rate, channels=channels, samples=take.sound.samples)
    state.ledgers[path] = measured
    return replace(take, sound=sound, points=measured.points)


def foretell_whole(run: Run, state: EditState, whole: Take) -> Measured | None:
    """What the edit will measure, when it can be told before it is made, and be made while it is encoded.

    A picture is rendered first, and so is what is delivered with other channels: that has to be measured.
    """
    sound = whole.sound
    if whole.picture is not None or state.params.loudness is None or sound.seconds > LONGEST_S:
        return None
    if any(made.channels != sound.channels for made in encodings(state, whole)):
        return None
    told = foretell(sound.score, state.ledgers, rate=sound.rate, channels=sound.channels)
    if told is not None:
        graph = Graph()
        graph.end(sound.node.emit(graph), "edited")
        state.making = Making(tuple(graph.inputs), graph.text, tuple(state.believed))
        run.report.log("info", f"The edit will have {told.integrated_lufs:.2f} LUFS, as what it is made of tells")
    return told


def render_whole(run: Run, state: EditState, whole: Take, path: Path) -> Measured:
    """Make the edit; its picture is copied where that gives exactly the frames that are wanted."""
    source = None if whole.picture is None else copied_picture(whole.picture)
    if whole.picture is None or source is None:
        return render(run, state, whole.sound, path, whole.picture)
    done_s = state.decoded_s
    measured = render(run, state, whole.sound, path, whole.picture, copied=source)
    made = frames_of(run, path, 0, whole.picture.fps)
    if made is not None and made.steady and made.count == whole.picture.frames and 0 in made.keys:
        state.picture_copied = True
        return measured
    run.report.log("warn", "The picture is encoded: copied, it would not have been exact")
    state.decoded_s = done_s
    return render(run, state, whole.sound, path, whole.picture)


def render(
    run: Run,
    state: EditState,
    sound: Sound,
    path: Path,
    picture: Picture | None = None,
    *,
    copied: Sequence[str] = (),
) -> Measured:
    """Make a sound, and its picture, into a file of ours, and measure it. Raises `JobFailure`.

    `copied` are the input arguments of the picture when it is copied.
    """
    if sound.seconds > LONGEST_S or 4 * sound.samples * sound.channels > _MOST_BYTES:
        raise JobFailure(
            "bad_input.too_long",
            f"The edit would be {sound.seconds / 3600:.1f} hours long, which is more than one file can hold; "
            "make it in parts.",
        )
    graph = Graph()
    graph.end(sound.node.emit(graph), "edited")
    keep = ["-map", "[kept]", "-c:a", "pcm_f32le", *BITEXACT]
    if picture is not None and copied:
        assert picture.uncut is not None
        track = ["-map", f"{len(graph.inputs)}:{picture.uncut.stream}", "-c:v", "copy"]
        keep = [*track, "-frames:v", str(picture.frames), *keep, "-f", "mov", str(path)]
    elif picture is not None:
        graph.end(picture.node.emit(graph), "seen", picture=True)
        keep = ["-map", "[seen]", *_ENCODED_PICTURE, *keep, "-f", "mov", str(path)]
    else:
        keep += ["-rf64", "auto", "-f", "wav", str(path)]
    done_s = state.decoded_s

    def on_time(seconds: float) -> None:
        if seconds > LONGEST_S:
            raise JobFailure("bad_input.too_long", f"The recording is longer than {LONGEST_S // 3600} hours; split it.")
        state.decoded_s = done_s + seconds
        run.report.progress(state.decoded_s, state.total_s)

    measured = measure(
        run,
        [*(argument for source in graph.inputs for argument in input_args(source)), *copied],
        Mix(sound.channels, sound.rate),
        folder=run.work,
        name=path.stem,
        on_time=on_time,
        rendering=Rendering(graph.text, tuple(keep), state.commands),
        profiled=state.params.loudness is not None,
    )
    refuse_no_sound(measured)
    if sound.samples and measured.samples != sound.samples:
        raise JobFailure(
            "internal",
            f"The edit came out {measured.seconds:.3f} s long instead of {sound.seconds:.3f} s; "
            "it is tried again while it has tries left.",
            kind="transient",
        )
    return measured
