"""`edit`: an edit list over one or several recordings, rendered once, and made into finished files.

Read from the bottom: the stages are a table, and each of them is a function above it. Every source is decoded once: a
plain WAV while the edit is rendered, anything else beforehand, because only decoding tells how long it really is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import JobFailure
from shared.job import Output
from shared.types import EditParams, OutputSpec
from shared.types.edit import PEAKS
from worker.delivery import Delivery, Master, Source
from worker.editing import picture as pictures
from worker.editing import sound as sounds
from worker.editing.copies import Frames, copied_picture, copies_sound, frames_of
from worker.editing.graph import Graph
from worker.editing.picture import Picture
from worker.editing.sound import Sound
from worker.editing.steps import Steps, Take, predicted_s
from worker.encoders import Encoding, encoding, mix_for
from worker.examine import LONGEST_S, damage, is_deep, plays_everywhere, refuse_unmasterable, sound_track
from worker.ffmpeg import BITEXACT, SOURCE_NAME, input_args, shown, tags, transcode
from worker.loudness import Measured, Rendering, decibels, measure
from worker.meter import Mix
from worker.peaks import write_peaks
from worker.probe import AudioStream, Media, VideoStream, probe
from worker.run import Pipeline, Run, Stage
from worker.transfer import Finished, fetch_sources, store_files
from worker.wav import read_header

#: What a picture without sound gets.
_SILENT_RATE, _SILENT_CHANNELS = 48_000, 2
_ENCODED_PICTURE = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p")
#: A rendering may be no larger than any one file may be.
_MOST_BYTES = 16e9


@dataclass(slots=True)
class EditState:
    """What the stages hand on to each other; `whole` and `before` are there once the edit was rendered."""

    params: EditParams
    paths: dict[str, Path]
    engine: str
    sha256: dict[str, str | None] = field(default_factory=dict)
    media: dict[str, Media] = field(default_factory=dict)
    frames: dict[str, Frames | None] = field(default_factory=dict)
    decoded_samples: dict[str, int] = field(default_factory=dict)
    decoded_s: float = 0.0
    total_s: float | None = None
    record: list[dict[str, Any]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    before: Measured | None = None
    master: Master | None = None
    extras: list[Finished] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    picture_copied: bool = False
    copies: dict[str, Copy] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)

    def audio(self, source: str) -> AudioStream | None:
        """The sound track of a source that is worked on: the first."""
        return sound_track(self.media[source]) if self.media[source].audio else None


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished file whose tracks are the source's own, and what was measured in it."""

    made: Encoding
    path: Path
    after: Measured
    tracks: tuple[str, ...]


def begin(run: Run) -> EditState:
    """Read the parameters, and give every source a folder in which it lies alone."""
    params = EditParams.model_validate(run.job.params)
    paths = {}
    for number, source in enumerate(dict.fromkeys(params.named.values())):
        folder = run.work / f"in-{number}"
        folder.mkdir(exist_ok=True)
        paths[source] = folder / SOURCE_NAME
    return EditState(params=params, paths=paths, engine=run.engine.version)


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: EditState) -> None:
    """Bring every source into its folder."""
    state.sha256 = fetch_sources(run, state.paths)


def edit(run: Run, state: EditState) -> None:
    """Look into the files, walk the list, and render what it leaves with one graph; measure it meanwhile."""
    state.extras, state.warnings, state.commands, state.decoded_s = [], [], [], 0.0
    for name, source in state.params.named.items():
        if source not in state.media:
            with _about(state.params, name):
                state.media[source] = probe(run, state.paths[source])
    seen = _shows_picture(state)
    parts = run.work / "parts"
    parts.mkdir(exist_ok=True)
    takes = _takes(run, state, parts, seen=seen)
    steps = Steps(state.params, takes, lambda take: _listen(run, state, parts, take), run.engine.filters)
    whole = steps.walk()
    state.record = steps.record
    path = run.work / ("edited.mov" if whole.picture else "edited.wav")
    state.before = _render_whole(run, state, whole, path)
    shutil.rmtree(parts)
    run.report.log("info", f"The edit is {state.before.seconds:.3f} s long")
    waveform = write_peaks(run.work / PEAKS, state.before.points, state.before.sample_rate)
    state.extras.append(Finished(waveform, PEAKS, "application/json", {"points_per_second": 100}))
    state.master = _master(run, state, path, whole)


def encode(run: Run, state: EditState) -> None:
    """Make all files with one ffmpeg, and prove each of them by decoding it again."""
    assert state.master is not None
    assert state.before is not None
    total = state.before.seconds
    state.copies = _copies(run, state)
    state.master.deliveries = [item for item in state.master.deliveries if item.made.name not in state.copies]
    if state.master.deliveries:
        state.master.plan()
        state.master.make(lambda seconds: run.report.progress(seconds, total))


def upload(run: Run, state: EditState) -> None:
    """Keep the proven files and the waveform as the job's outputs."""
    files = [Finished(path, made.name, made.format.content_type, facts) for path, made, facts in _made(state)]
    state.outputs = store_files(run, [*files, *state.extras])


def result(state: EditState) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """The report, and the files."""
    assert state.master is not None
    assert state.before is not None
    asked = state.params.loudness
    report = {
        "sources": [_source_facts(state, name, source) for name, source in state.params.named.items()],
        "edits": state.record,
        "duration_s": round(state.before.seconds, 6),
        "preset": state.params.preset,
        "target_lufs": asked and asked[0],
        "ceiling_dbtp": asked and asked[1],
        "before": state.before.facts(),
        "after": {made.name: facts for _, made, facts in _made(state)},
        "warnings": state.warnings,
        "media_ms": round(state.before.seconds * 1000),
        "engine": {"version": state.engine, "argv": [*state.commands, *state.master.commands]},
    }
    return report, tuple(state.outputs)


# --- the sources -------------------------------------------------------------------------------------------------
def _takes(run: Run, state: EditState, parts: Path, *, seen: bool) -> dict[str, Take]:
    """Every file as a take of exactly known length."""
    state.total_s = _total_s(run, state, seen=seen)
    decoded: dict[str, Take] = {}
    for name, source in state.params.named.items():
        if source not in decoded:
            with _about(state.params, name):
                decoded[source] = _take(run, state, parts, source, seen=seen)
    return {name: replace(decoded[source], name=name) for name, source in state.params.named.items()}


def _take(run: Run, state: EditState, parts: Path, source: str, *, seen: bool) -> Take:
    media, path, audio = state.media[source], state.paths[source], state.audio(source)
    picture = _picture(run, state, source) if seen else None
    if audio is None:
        if picture is None:
            sound_track(media)  # says that there is no sound
        assert picture is not None
        state.warnings.append("A recording has no sound; its picture got a silent track.")
        samples = round(picture.frames * _SILENT_RATE / picture.fps)
        return Take("", sounds.silent(samples, rate=_SILENT_RATE, channels=_SILENT_CHANNELS), picture)
    header = read_header(path)
    if picture is None and header is not None and _tells_its_length(media, audio):
        samples = round(header.duration_s * header.sample_rate)
        sound = sounds.read(path, audio.index, rate=audio.sample_rate, channels=audio.channels, samples=samples)
        return Take("", sound)
    sound, measured = _decode(run, state, parts, source, audio, timed=picture is not None)
    state.decoded_samples[source] = measured.samples
    for sentence in damage(media, measured):
        state.warnings.append(sentence)
        run.report.log("warn", sentence)
    if picture is None:
        return Take("", sound, points=measured.points)
    # What is beside a picture is as long as the picture.
    sound = sound.exactly(round(picture.frames * sound.rate / picture.fps))
    points = np.zeros((-(-sound.samples // (sound.rate // 100)), 2), np.int16)
    known = measured.points[: len(points)]
    points[: len(known)] = known
    return Take("", sound, picture, points)


def _decode(
    run: Run, state: EditState, parts: Path, source: str, audio: AudioStream, *, timed: bool
) -> tuple[Sound, Measured]:
    """The sound track as a WAV file of floats, and what it measures; `timed` keeps its place beside a picture."""
    path = parts / f"source-{list(state.paths).index(source)}.wav"
    sound = sounds.read(
        state.paths[source], audio.index, rate=audio.sample_rate, channels=audio.channels, samples=0, timed=timed
    )
    measured = _render(run, state, sound, path)
    if not measured.samples:
        raise JobFailure("bad_input.no_audio", "The recording has no sound in it; upload a file with a sound track.")
    return sounds.read(path, 0, rate=sound.rate, channels=sound.channels, samples=measured.samples), measured


def _picture(run: Run, state: EditState, source: str) -> Picture | None:
    """The picture track of a source at a constant rate; None where there is none."""
    path, media = state.paths[source], state.media[source]
    video = media.picture
    if video is None:
        return None
    fps = Fraction(video.fps).limit_denominator(1001) if video.fps else Fraction(25)
    if source not in state.frames:
        state.frames[source] = frames_of(run, path, video.index, fps)
    found = state.frames[source]
    steady = found is not None and found.steady
    if found is not None and steady:
        frames = found.count
    else:
        frames = round((found.end_s if found else video.duration_s or media.duration_s or 0.0) * fps)
    copyable = steady and plays_everywhere(media, video) and video.rotation == 0
    return pictures.read(
        path,
        video.index,
        fps=fps,
        size=_upright(video),
        frames=max(1, frames),
        keys=found.keys if found and copyable else frozenset(),
    )


def _upright(video: VideoStream) -> tuple[int, int]:
    """Its size as it is shown: ffmpeg turns what a camera held upright."""
    return (video.height, video.width) if video.rotation in (90, 270) else (video.width, video.height)


def _tells_its_length(media: Media, audio: AudioStream) -> bool:
    """Whether the header's word about the length is the truth: a WAV file, all of it there."""
    return media.format_name == "wav" and audio.codec.startswith("pcm_") and not media.video


def _total_s(run: Run, state: EditState, *, seen: bool) -> float | None:
    """About how many seconds of sound the stage will pass; None where a file does not tell its length."""
    takes, decoding_s = {}, 0.0
    for name, source in state.params.named.items():
        media, audio = state.media[source], state.audio(source)
        if media.duration_s is None:
            return None
        rate = audio.sample_rate if audio else _SILENT_RATE
        samples = max(1, round(media.duration_s * rate))
        takes[name] = Take(
            name, sounds.silent(samples, rate=rate, channels=1), _picture(run, state, source) if seen else None
        )
        direct = audio is None or (not seen and read_header(state.paths[source]) and _tells_its_length(media, audio))
        decoding_s += 0.0 if direct else media.duration_s
    left_s = predicted_s(state.params, takes)
    return None if left_s is None else decoding_s + left_s


# --- the rendering -----------------------------------------------------------------------------------------------
def _listen(run: Run, state: EditState, parts: Path, take: Take) -> Take:
    """Render a take as it is now, to know where it is silent."""
    path = parts / f"heard-{len(list(parts.iterdir()))}.wav"
    measured = _render(run, state, take.sound, path)
    rate, channels = take.sound.rate, take.sound.channels
    sound = sounds.read(path, 0, rate=rate, channels=channels, samples=take.sound.samples)
    return replace(take, sound=sound, points=measured.points)


def _render_whole(run: Run, state: EditState, whole: Take, path: Path) -> Measured:
    """Make the edit; its picture is copied where that gives exactly the frames that are wanted."""
    source = None if whole.picture is None else copied_picture(whole.picture)
    if whole.picture is None or source is None:
        return _render(run, state, whole.sound, path, whole.picture)
    done_s = state.decoded_s
    measured = _render(run, state, whole.sound, path, whole.picture, copied=source)
    made = frames_of(run, path, 0, whole.picture.fps)
    if made is not None and made.steady and made.count == whole.picture.frames and 0 in made.keys:
        state.picture_copied = True
        return measured
    run.report.log("warn", "The picture is encoded: copied, it would not have been exact")
    state.decoded_s = done_s
    return _render(run, state, whole.sound, path, whole.picture)


def _render(
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
    if sound.samples and measured.samples != sound.samples:
        raise JobFailure(
            "internal",
            f"The edit came out {measured.seconds:.3f} s long instead of {sound.seconds:.3f} s; "
            "it is tried again while it has tries left.",
            kind="transient",
        )
    return measured


# --- the files ---------------------------------------------------------------------------------------------------
def _master(run: Run, state: EditState, path: Path, whole: Take) -> Master:
    """What makes and proves the files: at the loudness asked for, or as the edit left it."""
    assert state.before is not None
    asked = state.params.loudness
    native = Mix(whole.sound.channels, whole.sound.rate)
    wanted = [(made, mix_for(native, made)) for made in _encodings(state, whole)]
    stream = f"0:{1 if whole.picture else 0}"
    measured = {native: state.before}
    if asked is not None:
        for mix in dict.fromkeys(mix for _, mix in wanted if mix != native):
            measured[mix] = measure(
                run, input_args(path), mix, folder=run.work, name="mix", stream=stream, profiled=True
            )
        refuse_unmasterable(measured.values(), asked[0])
    elif state.before.sample_peak > 1.0:
        over_db = decibels(state.before.sample_peak)
        state.warnings.append(
            f"The edit is up to {over_db:.1f} dB over full scale, and what is over it is cut off in the files; "
            "lower a gain, or give a preset or target_lufs."
        )
    return Master(
        run=run,
        source=Source(
            path,
            stream,
            "0:0" if whole.picture else None,
            exact_rate=whole.sound.rate if whole.picture is None and whole.sound.rate % 100 == 0 else None,
        ),
        ceiling_dbtp=0.0 if asked is None else asked[1],
        deliveries=[
            Delivery(
                made,
                mix,
                measured.get(mix, state.before),
                run.work / f"out-{number}",
                None if asked is None else asked[0],
            )
            for number, (made, mix) in enumerate(wanted)
        ],
        metadata=tags(state.params.title, state.params.artist),
        warnings=state.warnings,
    )


def _copies(run: Run, state: EditState) -> dict[str, Copy]:
    """The files for which no more than another container is asked: the source's tracks as they are, proven like all."""
    assert state.master is not None
    assert state.before is not None
    (source, path), *others = state.paths.items()
    media, audio = state.media[source], state.audio(source)
    if others or state.params.edits or state.params.loudness is not None or audio is None:
        return {}
    found = {}
    for item, spec in zip(state.master.deliveries, _specs(state), strict=True):
        seen = spec.format == "mp4"
        if not copies_sound(spec, audio) or (seen and not state.picture_copied):
            continue
        target = item.path.with_suffix(".copy")
        tracks = ["-map", f"0:{media.picture.index}"] if seen and media.picture else []
        args = [*input_args(path), *tracks, "-map", f"0:{audio.index}", "-c", "copy", *item.made.muxer_args()]
        args += [*state.master.metadata, str(target)]
        state.master.commands.append(shown([str(run.engine.ffmpeg), *args], run.work))
        transcode(run, args)
        after = measure(
            run, ["-xerror", "-i", str(target)], Mix(item.mix.channels, audio.sample_rate), folder=run.work, name="copy"
        )
        if after.samples == state.decoded_samples.get(source, state.before.samples):
            found[item.made.name] = Copy(item.made, target, after, ("picture", "sound") if seen else ("sound",))
    return found


def _made(state: EditState) -> Iterator[tuple[Path, Encoding, dict[str, Any]]]:
    """Every finished file: where it lies, how it was made, and its facts; `copied` names its untouched tracks."""
    assert state.master is not None
    for copy in state.copies.values():
        yield copy.path, copy.made, copy.after.facts() | {"copied": list(copy.tracks)}
    for item in state.master.deliveries:
        kept = ["picture"] if item.made.kind == "mp4" and state.picture_copied else []
        yield item.path, item.made, item.facts() | {"copied": kept}


def _specs(state: EditState) -> tuple[OutputSpec, ...]:
    return state.params.outputs or (OutputSpec(format="mp4" if _shows_picture(state) else "mp3"),)


def _encodings(state: EditState, whole: Take) -> list[Encoding]:
    audios = [audio for source in state.paths if (audio := state.audio(source)) is not None]
    return [
        encoding(spec, channels=whole.sound.channels, sample_rate=whole.sound.rate, deep=any(map(is_deep, audios)))
        for spec in _specs(state)
    ]


def _shows_picture(state: EditState) -> bool:
    """Whether a video is to come out. Raises `JobFailure` when one is asked for and no file has a picture."""
    there = any(media.picture is not None for media in state.media.values())
    asked = any(spec.format == "mp4" for spec in state.params.outputs)
    if asked and not there:
        raise JobFailure(
            "bad_input.no_video",
            "An MP4 video was asked for and no recording has a picture; ask for m4a or mp3 instead.",
        )
    return there and (asked or not state.params.outputs)


def _source_facts(state: EditState, name: str, source: str) -> dict[str, Any]:
    media = state.media[source]
    return {
        "name": name,
        "format": media.format_name,
        "size_bytes": media.size_bytes,
        "sha256": state.sha256[source],
        "duration_s": media.duration_s,
        "tracks": len(media.audio),
        "video": media.picture is not None,
    }


@contextmanager
def _about(params: EditParams, name: str) -> Iterator[None]:
    """With several files, a failure says which of them it is about."""
    try:
        yield
    except JobFailure as failure:
        if len(params.named) == 1:
            raise
        raise JobFailure(failure.failure_code, f"The file {name!r}: {failure.message}", kind=failure.kind) from None


EDIT: Pipeline[EditState] = Pipeline(
    type="edit",
    begin=begin,
    stages=(
        Stage("downloading", download, weight=5),
        Stage("editing", edit, weight=25),
        Stage("encoding", encode, weight=68),
        Stage("uploading", upload, weight=2),
    ),
    result=result,
)
