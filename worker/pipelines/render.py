"""`render`: the tracks of a show, with music, intro and outro, become one mix, and that the finished files.

Read from the bottom: the stages are a table, and each of them is a function above it. Every source is decoded once, and
the mix is made once; all files come from it.
"""

from __future__ import annotations

import shutil
from typing import Any, BinaryIO

from shared.errors import JobFailure
from shared.job import Output
from shared.types import RenderParams
from shared.types.render import PEAKS
from worker.ffmpeg import BITEXACT
from worker.loudness import Measured, Rendering, measure
from worker.meter import Mix
from worker.mixing import ducking, levels
from worker.mixing.covers import make_cover
from worker.mixing.ducking import Envelope
from worker.mixing.files import attach, films, finish, master_of
from worker.mixing.mixer import Mixer, is_ducked, is_speech
from worker.mixing.state import RenderState
from worker.mixing.takes import Decoder, Take, common_rate, look, needed_until_s
from worker.mixing.timeline import Part, Timeline, heard, lay_out
from worker.mixing.words import chapters_of
from worker.peaks import write_peaks
from worker.run import Pipeline, Run, Stage
from worker.transfer import Finished, fetch_sources, source_path, store_files

#: A mix may be no larger than any one file may be.
_MOST_BYTES = 16e9


def begin(run: Run) -> RenderState:
    """Read the parameters, and give every source that is heard or seen a folder in which it lies alone."""
    params = RenderParams.model_validate(run.job.params)
    preset = params.preset
    wanted = [clip.source for clip in heard(params).values()] + ([params.cover] if params.cover else [])
    return RenderState(
        params=params,
        target_lufs=preset.target_lufs if params.target_lufs is None else params.target_lufs,
        ceiling_dbtp=preset.ceiling_dbtp if params.ceiling_dbtp is None else params.ceiling_dbtp,
        paths={source: source_path(run, f"in-{number}") for number, source in enumerate(dict.fromkeys(wanted))},
        mix=run.work / "mix.wav",
        engine=run.engine.version,
    )


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: RenderState) -> None:
    """Bring every source into its folder."""
    state.sha256 = fetch_sources(run, state.paths)


def mix(run: Run, state: RenderState) -> None:
    """Decode every source, lay everything out, and add it up; measure it meanwhile."""
    state.extras, state.warnings, state.commands = [], [], []
    params = state.params
    if params.cover is not None:
        state.cover = make_cover(run, state.paths[params.cover], lambda words: _warn(run, state, words))
    parts = run.work / "parts"
    parts.mkdir(exist_ok=True)
    clips = heard(params)
    first = {clip.source: at for at, clip in reversed(clips.items())}
    state.found = look(run, {source: state.paths[source] for source in first}, first)
    rate = common_rate(state.found)
    until_s = needed_until_s([(clip.source, clip.end_s) for clip in clips.values()])
    progress = _Progress(run, _predicted_s(state, rate, until_s))
    decoder = Decoder(
        run, rate, parts, until_s, progress.decoded, lambda words: _warn(run, state, words), state.commands
    )
    takes = decoder.takes(state.found)
    state.timeline = lay_out(params, {source: take.samples for source, take in takes.items()}, rate)
    state.chapters = chapters_of(params, state.timeline)
    mixer = _mixer(run, state, state.timeline, takes)
    state.before = _mixed(run, state, mixer, progress)
    shutil.rmtree(parts)
    waveform = write_peaks(run.work / PEAKS, state.before.points, state.before.sample_rate)
    state.extras.append(Finished(waveform, PEAKS, "application/json", {"points_per_second": 100}))
    run.report.log(
        "info",
        f"The mix is {state.before.seconds:.3f} s long and has {state.before.integrated_lufs:.2f} LUFS, "
        f"{state.before.true_peak_dbtp:.2f} dBTP",
    )


def normalize(run: Run, state: RenderState) -> None:
    """Decide every file's gain; where that would pass the ceiling, solve the limiter."""
    state.master = master_of(run, state)
    state.master.plan()


def encode(run: Run, state: RenderState) -> None:
    """Make all files with one ffmpeg, and prove each of them by decoding it again."""
    assert state.master is not None
    assert state.before is not None
    seconds = state.before.seconds
    shown = films(run, state)
    attach(run, state, shown)
    before_s, total_s = len(shown) * seconds, (1 + len(shown)) * seconds
    state.master.make(lambda at: run.report.progress(before_s + at, total_s))
    finish(run, state)


def upload(run: Run, state: RenderState) -> None:
    """Keep the proven files, the chapters and the waveform as the job's outputs."""
    state.outputs = store_files(run, [*state.files, *state.extras])


def result(state: RenderState) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """The report, and the files."""
    assert state.master is not None
    assert state.before is not None
    assert state.timeline is not None
    timeline = state.timeline
    report = {
        "sources": [_source_facts(state, source) for source in state.found],
        "timeline": state.told,
        "duration_s": round(state.before.seconds, 6),
        "show_begins_s": round(timeline.show_begins / timeline.rate, 6),
        "show_ends_s": round(timeline.show_ends / timeline.rate, 6),
        "speech_s": round(state.spoken_s, 1),
        "chapters": [{"start_s": one.start_ms / 1000, "title": one.title} for one in state.chapters],
        "preset": state.params.preset.name,
        "before": state.before.facts(),
        **state.master.facts(),
        "warnings": state.warnings,
        "media_ms": round(state.before.seconds * 1000),
        "engine": {"version": state.engine, "argv": [*state.commands, *state.master.commands]},
    }
    return report, tuple(state.outputs)


# --- what the mix is made of -------------------------------------------------------------------------------------
class _Progress:
    """Seconds of sound done, of all that have to be decoded and mixed."""

    def __init__(self, run: Run, total_s: float | None) -> None:
        self._run, self._total_s = run, total_s
        self._decoded_s: dict[str, float] = {}

    def decoded(self, source: str, seconds: float) -> None:
        """A source was decoded up to here."""
        self._decoded_s[source] = seconds
        self.mixed(0.0)

    def mixed(self, seconds: float) -> None:
        """All were decoded, and the programme is mixed up to here."""
        self._run.report.progress(sum(self._decoded_s.copy().values()) + seconds, self._total_s)


def _predicted_s(state: RenderState, rate: int, until_s: dict[str, float]) -> float | None:
    """About how many seconds will be decoded and mixed, by what the files say; None where one does not."""
    lengths = {source: one.media.duration_s for source, one in state.found.items()}
    known = {source: seconds for source, seconds in lengths.items() if seconds}
    if len(known) < len(lengths):
        return None
    try:
        timeline = lay_out(state.params, {source: round(seconds * rate) for source, seconds in known.items()}, rate)
    except JobFailure:  # decoding tells whether the file was wrong, or the parameters are
        return None
    return sum(min(seconds, until_s.get(source, seconds)) for source, seconds in known.items()) + timeline.seconds


def _mixer(run: Run, state: RenderState, timeline: Timeline, takes: dict[str, Take]) -> Mixer:
    """How the programme is mixed, and what the result tells of it."""
    panned = any(track.pan for track in state.params.tracks if not track.mute)
    channels = 2 if panned or any(take.channels == 2 for take in takes.values()) else 1
    gains_db = levels.gains_db(timeline.parts, takes, channels)
    envelope = _envelope(state, timeline, takes)
    state.told = [_told(part, timeline, gains_db[part.at]) for part in timeline.parts]
    for part in timeline.parts:
        if levels.is_silent(takes[part.clip.source]):
            _warn(run, state, f"{part.at}: the recording is silent; check that the right track was recorded.")
        if part.at == "music" and part.end < timeline.show_ends:
            left_s = (timeline.show_ends - part.end) / timeline.rate
            _warn(run, state, f"music ends {left_s:.1f} s before the show does; let it loop, or choose a longer one.")
    return Mixer(timeline, takes, channels, gains_db, envelope)


def _envelope(state: RenderState, timeline: Timeline, takes: dict[str, Take]) -> Envelope | None:
    """How music goes down under speech; None where there is no music or no speech."""
    step = max(1, timeline.rate // 100)
    spoken = ducking.together(
        [
            ducking.speech(
                part,
                takes[part.clip.source].measured.points,
                levels.loudness(part, takes[part.clip.source], 1),
                step,
                timeline.samples,
            )
            for part in timeline.parts
            if is_speech(part)
        ]
    )
    if spoken is None:
        return None
    state.spoken_s = int(spoken.sum()) * step / timeline.rate
    how = state.params.ducking
    if not how.by_db or not any(is_ducked(part) for part in timeline.parts):
        return None
    return ducking.ducked(spoken, step, timeline.rate, how)


def _mixed(run: Run, state: RenderState, mixer: Mixer, progress: _Progress) -> Measured:
    """The mix as a WAV file of floats, measured. Raises `JobFailure`."""
    timeline, channels = mixer.timeline, mixer.channels
    if 4 * timeline.samples * channels > _MOST_BYTES:
        raise JobFailure(
            "bad_input.too_long",
            f"The mix would be {timeline.seconds / 3600:.1f} hours long, which is more than one file can hold; make it "
            "in parts, or of sources with a lower sample rate.",
        )

    def feed(pipe: BinaryIO) -> None:
        for block in mixer.blocks():
            run.stop.check()
            pipe.write(block.data)

    measured = measure(
        run,
        ["-f", "f32le", "-ar", str(timeline.rate), "-ac", str(channels), "-i", "pipe:0"],
        Mix(channels, timeline.rate),
        folder=run.work,
        name="mixed",
        on_time=progress.mixed,
        feed=feed,
        rendering=Rendering(
            "[0:a]anull[edited]",
            ("-map", "[kept]", "-c:a", "pcm_f32le", *BITEXACT, "-rf64", "auto", "-f", "wav", str(state.mix)),
            state.commands,
        ),
        profiled=True,
        what="The mix",
    )
    if measured.samples != timeline.samples:
        raise JobFailure(
            "internal",
            f"The mix came out {measured.seconds:.3f} s long instead of {timeline.seconds:.3f} s; "
            "it is tried again while it has tries left.",
            kind="transient",
        )
    return measured


# --- what the result tells ---------------------------------------------------------------------------------------
def _told(part: Part, timeline: Timeline, gain_db: float) -> dict[str, Any]:
    """Where a part lies in the programme."""
    name = getattr(part.clip, "name", None)
    return (
        {"entry": part.at}
        | ({"name": name} if name else {})
        | {
            "begins_s": round(part.place / timeline.rate, 6),
            "ends_s": round(part.end / timeline.rate, 6),
            "gain_db": round(gain_db, 3),
            "ducked": is_ducked(part),
        }
    )


def _source_facts(state: RenderState, source: str) -> dict[str, Any]:
    one = state.found[source]
    entries = [at for at, clip in heard(state.params).items() if clip.source == source]
    return {
        "entries": entries,
        "format": one.media.format_name,
        "size_bytes": one.media.size_bytes,
        "sha256": state.sha256[source],
        "duration_s": one.media.duration_s,
    }


def _warn(run: Run, state: RenderState, words: str) -> None:
    state.warnings.append(words)
    run.report.log("warn", words)


RENDER: Pipeline[RenderState] = Pipeline(
    type="render",
    begin=begin,
    stages=(
        Stage("downloading", download, weight=5),
        Stage("mixing", mix, weight=25),
        Stage("normalizing", normalize, weight=3),
        Stage("encoding", encode, weight=65),
        Stage("uploading", upload, weight=2),
    ),
    result=result,
)
