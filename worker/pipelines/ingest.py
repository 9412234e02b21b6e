"""`ingest`: a recording becomes finished files of an exact loudness, with a waveform, a poster and a report.

Read from the bottom: the stages are a table, and each of them is a function above it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import JobFailure, NotFound
from shared.job import Output
from shared.presets import PRESETS
from shared.types import IngestParams, OutputSpec, is_url
from worker.delivery import Delivery, Master, Source
from worker.encoders import Encoding, encoding
from worker.fetch import fetch_url
from worker.ffmpeg import SOURCE_NAME, input_args, transcode
from worker.loudness import Measured, halves, join, measure, silences
from worker.meter import Mix
from worker.peaks import write_peaks
from worker.probe import AudioStream, Media, VideoStream, probe
from worker.run import Pipeline, Run, Stage
from worker.wav import read_header

LONGEST_S = 12 * 3600
SHORTEST_S = 0.4
MOST_GAIN_DB = 45.0
MOST_CHANNELS = 8
#: Decoders whose samples 16 bits hold exactly, and those whose samples may need more.
_SIXTEEN_BIT = ("pcm_s16", "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw")
_DEEP = ("pcm_", "flac", "alac", "wavpack", "tta", "ape")
#: Containers in which ffmpeg finds the very sample when it seeks in PCM, and those whose pictures can be copied.
#: From this length on a recording is measured in two halves at once.
_WORTH_TWO_S = 60.0
_SEEKABLE = ("wav", "w64", "aiff", "caf")
_COPYABLE = ("mov", "mp4", "matroska", "webm", "mpegts", "flv")
_PLAYABLE = {"Constrained Baseline", "Baseline", "Main", "High"}


@dataclass(slots=True)
class Finished:
    """One file that is ready to be stored."""

    path: Path
    name: str
    content_type: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A sound track, its own mix, and what files are made of it, each with its mix."""

    audio: AudioStream
    native: Mix
    wanted: list[Encoding]
    mixes: list[Mix]


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
    extras: list[Finished] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


def begin(run: Run) -> IngestState:
    """Read the parameters, and make the folder in which the source lies alone."""
    params = IngestParams.model_validate(run.job.params)
    preset = PRESETS[params.preset]
    folder = run.work / "in"
    folder.mkdir(exist_ok=True)
    return IngestState(
        params=params,
        target_lufs=preset.target_lufs if params.target_lufs is None else params.target_lufs,
        ceiling_dbtp=preset.ceiling_dbtp if params.ceiling_dbtp is None else params.ceiling_dbtp,
        path=folder / SOURCE_NAME,
        engine=run.engine.version,
    )


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: IngestState) -> None:
    """Bring the source into its folder."""

    def progress(done: int, total: int | None) -> None:
        run.stop.check()
        run.report.progress(done, total)

    if is_url(state.params.source):
        state.sha256 = fetch_url(state.params.source, state.path, stop=run.stop, progress=progress).sha256
        return
    try:
        state.sha256 = run.storage.fetch(f"uploads/{state.params.source}", state.path, progress).sha256
    except NotFound:
        raise JobFailure(
            "bad_input.missing", "The uploaded file is no longer there; upload the recording again and start a new job."
        ) from None


def analyze(run: Run, state: IngestState) -> None:
    """Look into the file, refuse what cannot be mastered, and measure everything in one decode."""
    state.extras, state.warnings = [], []
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="probe") as pool:
        looking = pool.submit(probe, run, state.path)
        guess = _guess(state.path)
        early = None if guess is None else _measured_early(run, state, guess)
        state.media = media = looking.result()
    audio = _audio(media)
    state.video = next((track for track in media.video if not track.attached_picture), None)
    plan = _plan(state, audio)
    measured = early if early is not None and _agree(guess, media) else _measure(run, state, media, plan)
    native, mixes = plan.native, plan.mixes
    state.before = before = measured[native]
    _refuse(measured.values(), state.target_lufs)
    _warn_of_damage(run, state, before)
    waveform = write_peaks(run.work / "peaks.json", before.points, before.sample_rate)
    state.extras.append(Finished(waveform, "peaks.json", "application/json", {"points_per_second": 100}))
    state.master = Master(
        run=run,
        source=Source(
            state.path,
            f"0:{audio.index}",
            *_picture(media, state.video),
            exact_rate=audio.sample_rate if _seeks_exactly(media, audio) else None,
        ),
        ceiling_dbtp=state.ceiling_dbtp,
        deliveries=[
            Delivery(made, mix, measured[mix], run.work / f"out-{number}", state.target_lufs)
            for number, (made, mix) in enumerate(zip(plan.wanted, mixes, strict=True))
        ],
        metadata=_metadata(state.params),
        warnings=state.warnings,
    )
    run.report.log("info", f"The recording has {before.integrated_lufs:.2f} LUFS, {before.true_peak_dbtp:.2f} dBTP")


def normalize(run: Run, state: IngestState) -> None:
    """Decide every file's gain; where that would pass the ceiling, solve the limiter."""
    assert state.master is not None
    state.master.plan()
    for item in state.master.deliveries:
        limited = f", limited by up to {item.solved.deepest_db:.1f} dB" if item.solved else ""
        run.report.log("info", f"{item.made.name}: gain {item.gain_db:+.2f} dB{limited}")


def encode(run: Run, state: IngestState) -> None:
    """Make all files with one ffmpeg, and prove each of them by decoding it again."""
    assert state.master is not None
    if state.video is not None:
        _poster(run, state, state.video)
    total = max(item.before.seconds for item in state.master.deliveries)
    state.master.make(lambda seconds: run.report.progress(seconds, total))


def upload(run: Run, state: IngestState) -> None:
    """Keep the proven files, the waveform and the poster as the job's outputs."""
    assert state.master is not None
    files = [
        Finished(item.path, item.made.name, item.made.format.content_type, item.facts())
        for item in state.master.deliveries
    ]
    files += state.extras
    state.outputs = []
    total, done = sum(file.path.stat().st_size for file in files), 0
    for file in files:

        def progress(moved: int, _: int | None, done: int = done) -> None:
            run.stop.check()
            run.report.progress(done + moved, total)

        key = f"outputs/{run.job.id}/{run.job.attempt}/{file.name}"
        stored = run.storage.put(file.path, key, content_type=file.content_type, progress=progress)
        if stored.sha256 is None:
            raise JobFailure(
                "internal",
                "The storage did not tell what it stored; it is tried again while it has tries left.",
                kind="transient",
            )
        done += stored.size_bytes
        state.outputs.append(
            Output(file.name, stored.key, file.content_type, stored.size_bytes, stored.sha256, file.facts)
        )


def result(state: IngestState) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """The report, and the files."""
    assert state.master is not None
    assert state.before is not None
    assert state.media is not None
    items = state.master.deliveries
    report = {
        "source": {
            "format": state.media.format_name,
            "size_bytes": state.media.size_bytes,
            "sha256": state.sha256,
            "tracks": len(state.media.audio),
            "video": state.video is not None,
        },
        "preset": state.params.preset,
        "target_lufs": state.target_lufs,
        "ceiling_dbtp": state.ceiling_dbtp,
        "before": state.before.facts(),
        "after": {item.made.name: item.facts() for item in items},
        "gain_db": round(items[0].gain_db, 3),
        "limited": any(item.solved is not None for item in items),
        "warnings": state.warnings,
        "media_ms": round(state.before.seconds * 1000),
        "ledger": {"peaks": "peaks.json", "silences": silences(state.before.points)[:500]},
        "engine": {"version": state.engine, "argv": state.master.commands},
    }
    return report, tuple(state.outputs)


# --- what the stages ask -----------------------------------------------------------------------------------------
def _audio(media: Media) -> AudioStream:
    """The sound track that is mastered: the first. Raises `JobFailure` where there is none, or too much of it."""
    if not media.audio:
        raise JobFailure("bad_input.no_audio", "The recording has no sound in it; upload a file with a sound track.")
    if media.duration_s is not None and not media.duration_estimated:
        _refuse_too_long(media.duration_s)
    if media.audio[0].channels > MOST_CHANNELS:
        raise JobFailure(
            "unsupported.format",
            f"The sound track has {media.audio[0].channels} channels; export it with at most {MOST_CHANNELS}.",
        )
    return media.audio[0]


def _refuse_too_long(seconds: float) -> None:
    if seconds > LONGEST_S:
        raise JobFailure(
            "bad_input.too_long",
            f"The recording is longer than {LONGEST_S // 3600} hours; split it and upload the parts.",
        )


def _specs(state: IngestState) -> tuple[OutputSpec, ...]:
    """The files asked for, or the usual one. Raises `JobFailure` when a video is asked for and there is no picture."""
    specs = state.params.outputs or (OutputSpec(format="mp4" if state.video else "mp3"),)
    if state.video is None and any(spec.format == "mp4" for spec in specs):
        raise JobFailure(
            "bad_input.no_video",
            "An MP4 video was asked for and the recording has no picture; ask for m4a or mp3 instead.",
        )
    return specs


def _encoding(state: IngestState, audio: AudioStream, spec: OutputSpec) -> Encoding:
    deep = audio.codec.startswith(_DEEP) and not audio.codec.startswith(_SIXTEEN_BIT)
    return encoding(spec, channels=audio.channels, sample_rate=audio.sample_rate, deep=deep)


def _mix(native: Mix, made: Encoding) -> Mix:
    """The source's sound with a file's channels and rate; the very same mix when nothing changes."""
    filters = []
    if made.channels != native.channels:
        # In floats, so that adding channels cannot clip.
        filters.append(f"aformat=sample_fmts=fltp,aformat=channel_layouts={'mono' if made.channels == 1 else 'stereo'}")
    if made.sample_rate != native.sample_rate:
        filters.append(f"aresample={made.sample_rate}")
    return Mix(made.channels, made.sample_rate, ",".join(filters)) if filters else native


def _guess(path: Path) -> Media | None:
    """What a file is by its first bytes, for the usual recording; `probe` has the last word."""
    header = read_header(path)
    if header is None:
        return None
    track = AudioStream(0, header.codec, header.sample_rate, header.channels, "", header.duration_s, None)
    return Media("wav", header.duration_s, path.stat().st_size, None, (track,), (), {})


def _agree(guess: Media | None, media: Media) -> bool:
    """Whether the measurement that followed from the guess is the one that follows from what was found."""
    if guess is None or media.format_name != guess.format_name or media.duration_s is None:
        return False
    told, found = guess.audio[0], media.audio[0]
    same = (told.index, told.codec, told.sample_rate, told.channels) == (
        *(found.index, found.codec, found.sample_rate, found.channels),
    )
    return same and not media.video and abs(media.duration_s - (guess.duration_s or 0.0)) < 1e-3


def _measured_early(run: Run, state: IngestState, guess: Media) -> dict[Mix, Measured] | None:
    """Begin to measure before it is known what the file is; None where that leads nowhere."""
    try:
        return _measure(run, state, guess, _plan(state, _audio(guess)))
    except JobFailure:
        return None


def _plan(state: IngestState, audio: AudioStream) -> _Plan:
    """What is to be made of this sound track. Raises `JobFailure` where it cannot be."""
    native = Mix(audio.channels, audio.sample_rate, sixteen_bit=audio.codec.startswith(_SIXTEEN_BIT))
    wanted = [_encoding(state, audio, spec) for spec in _specs(state)]
    return _Plan(audio, native, wanted, [_mix(native, made) for made in wanted])


def _measure(run: Run, state: IngestState, media: Media, plan: _Plan) -> dict[Mix, Measured]:
    """Measure every mix; a long WAV in two halves at once, on two cores."""
    audio, known = plan.audio, media.duration_s
    mixes = list(dict.fromkeys([plan.native, *plan.mixes]))
    spans: list[tuple[float | None, float | None]] = [(None, None)]
    if known is not None and known >= _WORTH_TWO_S and _seeks_exactly(media, audio):
        cut, again = halves(known, audio.sample_rate)
        spans = [(None, cut), (again, None)]
    done = [0.0] * (len(mixes) * len(spans))

    def part(place: int) -> Measured:
        start_s, duration_s = spans[place % len(spans)]

        def on_time(seconds: float) -> None:
            _refuse_too_long(seconds)
            done[place] = seconds
            run.report.progress(sum(done), total)

        return measure(
            run,
            input_args(state.path, start_s=start_s, duration_s=duration_s),
            mixes[place // len(spans)],
            folder=run.work,
            name=f"part-{place}",
            stream=f"0:{audio.index}",
            on_time=on_time,
            profiled=True,
        )

    total = None if known is None else len(mixes) * (known + (spans[0][1] or 0.0) - (spans[-1][0] or 0.0))
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="measure") as pool:
        parts: list[Future[Measured]] = [pool.submit(part, place) for place in range(len(done))]
        found = [future.result() for future in parts]
    if len(spans) == 1:
        return dict(zip(mixes, found, strict=True))
    return {mix: join(found[2 * n], found[2 * n + 1]) for n, mix in enumerate(mixes)}


def _seeks_exactly(media: Media, audio: AudioStream) -> bool:
    """Whether ffmpeg finds the very sample when it seeks in this file."""
    plain = any(name in media.format_name.split(",") for name in _SEEKABLE)
    return plain and audio.codec.startswith("pcm_") and audio.sample_rate % 100 == 0


def _refuse(measured: Iterable[Measured], target_lufs: float) -> None:
    """Raise `JobFailure` for what has too little sound to be brought to a loudness."""
    for found in measured:
        if found.seconds < SHORTEST_S:
            raise JobFailure(
                "bad_input.too_short",
                f"The recording has {found.seconds * 1000:.0f} ms of sound; loudness needs at least 400 ms.",
            )
        if found.sample_peak < 10 ** (-80 / 20):
            raise JobFailure(
                "bad_input.silent",
                "The recording is silent; check that the right track or microphone was recorded and upload it again.",
            )
        gain = target_lufs - found.integrated_lufs
        if gain > MOST_GAIN_DB:
            raise JobFailure(
                "bad_input.too_quiet",
                f"The recording is too quiet: it would have to be raised by more than {MOST_GAIN_DB:g} dB, which would "
                "raise its noise above its sound; record it again with a higher level.",
            )


def _warn_of_damage(run: Run, state: IngestState, before: Measured) -> None:
    assert state.media is not None
    if before.damaged_frames:
        pieces = f"{before.damaged_frames} damaged piece{'s' if before.damaged_frames > 1 else ''}"
        state.warnings.append(f"{pieces} of the recording could not be decoded and were left out.")
    declared = state.media.duration_s
    if declared is not None and not state.media.duration_estimated and before.seconds < 0.98 * declared - 0.5:
        state.warnings.append(
            f"The file says it is {declared:.0f} s long, and only {before.seconds:.0f} s of sound could be decoded; "
            "its end may be missing."
        )
    for sentence in state.warnings:
        run.report.log("warn", sentence)


def _picture(media: Media, video: VideoStream | None) -> tuple[str | None, tuple[str, ...]]:
    """ffmpeg's name of the picture track, and how it goes into an MP4: copied when every player can play it."""
    if video is None:
        return None, ()
    playable = video.codec == "h264" and video.pix_fmt == "yuv420p" and video.profile in _PLAYABLE
    if playable and any(name in media.format_name.split(",") for name in _COPYABLE):
        return f"0:{video.index}", ("-c:v", "copy")
    even = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
    return f"0:{video.index}", (
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-vf", even),
    )


def _metadata(params: IngestParams) -> list[str]:
    tags = {"title": params.title, "artist": params.artist}
    return [arg for name, value in tags.items() if value for arg in ("-metadata", f"{name}={value}")]


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
