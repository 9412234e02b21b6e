"""`ingest`: a recording becomes finished files of an exact loudness, with a waveform, a poster and a report.

Read from the bottom: the stages are a table, and each of them is a function above it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shared.errors import JobFailure
from shared.job import Output
from shared.types import IngestParams, OutputSpec
from worker import ledger
from worker.ahead import Ahead, Wanted
from worker.deliverable import Delivery, Source
from worker.delivery import Master
from worker.encoders import Encoding, encoding, mix_for
from worker.examine import damage, examine, is_deep, native_mix, plays_everywhere, refuse_unmasterable, seeks_exactly
from worker.ffmpeg import input_args, tags, transcode
from worker.loudness import Measured, silences
from worker.meter import Mix
from worker.peaks import write_peaks
from worker.probe import AudioStream, Media, VideoStream
from worker.run import Pipeline, Run, Stage
from worker.transfer import Finished, fetch_source, source_path, store_files

#: Few recordings have peaks so far over their loudness. With less room the limiter is likely to be needed, and what was
#: made before that is known would be lost.
_ROOMY_DB = 17.5


@dataclass(slots=True)
class IngestState:
    """What the stages hand on to each other; `master` is there once the sound was measured."""

    params: IngestParams
    target_lufs: float
    ceiling_dbtp: float
    path: Path
    engine: str
    sha256: str | None = None
    media: Media | None = None
    before: Measured | None = None
    video: VideoStream | None = None
    master: Master | None = None
    ahead: Ahead | None = None
    extras: list[Finished] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


def begin(run: Run) -> IngestState:
    """Read the parameters, and make the folder in which the source lies alone."""
    params = IngestParams.model_validate(run.job.params)
    preset = params.preset
    return IngestState(
        params=params,
        target_lufs=preset.target_lufs if params.target_lufs is None else params.target_lufs,
        ceiling_dbtp=preset.ceiling_dbtp if params.ceiling_dbtp is None else params.ceiling_dbtp,
        path=source_path(run),
        engine=run.engine.version,
    )


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: IngestState) -> None:
    """Bring the source into its folder."""
    state.sha256 = fetch_source(run, state.params.source, state.path)


def analyze(run: Run, state: IngestState) -> None:
    """Look into the file, refuse what cannot be mastered, and measure everything in one decode."""
    state.extras, state.warnings, state.ahead = [], [], None
    try:
        found = examine(run, state.path, partial(_mixes, state), partial(_begin_ahead, run, state))
        refuse_unmasterable(found.measured.values(), state.target_lufs)
    except BaseException:  # raised again: nobody will want what is being made of it
        _drop_ahead(state)
        raise
    state.media, audio = found.media, found.audio
    state.video = found.media.picture
    native = native_mix(audio)
    state.before = before = found.measured[native]
    state.warnings += damage(found.media, before)
    for sentence in state.warnings:
        run.report.log("warn", sentence)
    waveform = write_peaks(run.work / "peaks.json", before.points, before.sample_rate)
    state.extras.append(Finished(waveform, "peaks.json", "application/json", {"points_per_second": 100}))
    wanted = [(made, mix_for(native, made)) for made in _encodings(state, found.media, audio)]
    state.master = Master(
        run=run,
        source=Source(
            state.path,
            f"0:{audio.index}",
            *_picture(found.media, state.video),
            exact_rate=audio.sample_rate if seeks_exactly(found.media, audio) else None,
        ),
        ceiling_dbtp=state.ceiling_dbtp,
        deliveries=[
            Delivery(made, mix, found.measured[mix], run.work / f"out-{number}", state.target_lufs)
            for number, (made, mix) in enumerate(wanted)
        ],
        metadata=tags(state.params.title, state.params.artist),
        warnings=state.warnings,
        ahead=state.ahead,
    )
    run.report.log("info", f"The recording has {before.integrated_lufs:.2f} LUFS, {before.true_peak_dbtp:.2f} dBTP")


def normalize(run: Run, state: IngestState) -> None:
    """Decide every file's gain; where that would pass the ceiling, solve the limiter."""
    assert state.master is not None
    state.master.plan()


def encode(run: Run, state: IngestState) -> None:
    """Make all files with one ffmpeg, and prove each of them by decoding it again; a poster is taken meanwhile."""
    assert state.master is not None
    total = max(item.before.seconds for item in state.master.deliveries)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="poster") as pool:
        poster = None if state.video is None else pool.submit(_poster, run, state, state.video)
        state.master.make(lambda seconds: run.report.progress(seconds, total))
        if poster is not None:
            poster.result()


def upload(run: Run, state: IngestState) -> None:
    """Keep the proven files, the waveform and the poster as the job's outputs."""
    assert state.master is not None
    files = [
        Finished(item.path, item.made.name, item.made.format.content_type, item.facts())
        for item in state.master.deliveries
    ]
    files += state.extras
    assert state.before is not None
    ledger.keep(run, state.params.source, state.before)
    state.outputs = store_files(run, files)


def result(state: IngestState) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """The report, and the files."""
    assert state.master is not None
    assert state.before is not None
    assert state.media is not None
    report = {
        "source": {
            "format": state.media.format_name,
            "size_bytes": state.media.size_bytes,
            "sha256": state.sha256,
            "tracks": len(state.media.audio),
            "video": state.video is not None,
        },
        "preset": state.params.preset.name,
        "before": state.before.facts(),
        **state.master.facts(),
        "warnings": state.warnings,
        "media_ms": round(state.before.seconds * 1000),
        "ledger": {"peaks": "peaks.json", "silences": silences(state.before.points, state.before.sample_rate)[:500]},
        "engine": {"version": state.engine, "argv": state.master.commands},
    }
    return report, tuple(state.outputs)


# --- what the stages ask -----------------------------------------------------------------------------------------
def _specs(state: IngestState, *, video: bool) -> tuple[OutputSpec, ...]:
    """The files asked for, or the usual one. Raises `JobFailure` when a video is asked for and there is no picture."""
    specs = state.params.outputs or (OutputSpec(format="mp4" if video else "mp3"),)
    if not video and any(spec.format == "mp4" for spec in specs):
        raise JobFailure(
            "bad_input.no_video",
            "An MP4 video was asked for and the recording has no picture; ask for m4a or mp3 instead.",
        )
    return specs


def _encodings(state: IngestState, media: Media, audio: AudioStream) -> list[Encoding]:
    """How each file is made. Raises `JobFailure` where it cannot be."""
    fast = state.params.speed == "fast"
    return [
        encoding(spec, channels=audio.channels, sample_rate=audio.sample_rate, deep=is_deep(audio), fast=fast)
        for spec in _specs(state, video=media.picture is not None)
    ]


def _mixes(state: IngestState, media: Media, audio: AudioStream) -> list[Mix]:
    """What has to be measured: the sound track as it is, and as each file has it."""
    native = native_mix(audio)
    return [native, *(mix_for(native, made) for made in _encodings(state, media, audio))]


def _begin_ahead(run: Run, state: IngestState, media: Media, audio: AudioStream) -> bool:
    """Begin to make a lone Opus file as soon as it is known what is in the recording, and drop what was begun before.

    Whether one is being made.
    """
    _drop_ahead(state)
    made = _encodings(state, media, audio)
    roomy = state.ceiling_dbtp - state.target_lufs >= _ROOMY_DB
    if roomy and [each.kind for each in made] == ["opus"]:
        words = tags(state.params.title, state.params.artist)
        mix = mix_for(native_mix(audio), made[0])
        wanted = Wanted(state.path, f"0:{audio.index}", mix, made[0], words, run.work / "out-0.part", media.duration_s)
        state.ahead = Ahead(run, wanted)
    return state.ahead is not None


def _drop_ahead(state: IngestState) -> None:
    if state.ahead is not None:
        state.ahead.drop()
        state.ahead = None


def _picture(media: Media, video: VideoStream | None) -> tuple[str | None, tuple[str, ...]]:
    """ffmpeg's name of the picture track, and how it goes into an MP4: copied when every player can play it."""
    if video is None:
        return None, ()
    if plays_everywhere(media, video):
        return f"0:{video.index}", ("-c:v", "copy")
    even = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
    return f"0:{video.index}", (
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-vf", even),
    )


def _poster(run: Run, state: IngestState, video: VideoStream) -> None:
    """One still picture as JPEG; a video without a readable picture there only gets a warning."""
    assert state.before is not None
    seconds = video.duration_s or state.before.seconds
    wished = seconds / 10 if state.params.poster_at_s is None else state.params.poster_at_s
    path = run.work / "poster.jpg"
    for at in (max(0.0, min(wished, seconds - 0.5)), 0.0):
        args = [*input_args(state.path, start_s=at), "-map", f"0:{video.index}", "-frames:v", "1", "-q:v", "3"]
        transcode(run, [*args, "-pix_fmt", "yuvj420p", "-f", "mjpeg", str(path)])
        if path.stat().st_size:
            state.extras.append(Finished(path, "poster.jpg", "image/jpeg", {"at_s": round(at, 3)}))
            return
    state.warnings.append("No picture could be taken from the video for its poster.")


INGEST: Pipeline[IngestState] = Pipeline(
    type="ingest",
    begin=begin,
    stages=(
        Stage("downloading", download, weight=5),
        Stage("analyzing", analyze, weight=10),
        Stage("normalizing", normalize, weight=3),
        Stage("encoding", encode, weight=80),
        Stage("uploading", upload, weight=2),
    ),
    result=result,
)
