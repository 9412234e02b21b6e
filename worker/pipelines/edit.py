"""`edit`: an edit list over one or several recordings, rendered once, and made into finished files.

Read from the bottom: the stages are a table, and each of them is a function above it. Every source is decoded once: a
plain WAV while the edit is rendered, anything else beforehand, because only decoding tells how long it really is.
"""

from __future__ import annotations

import shutil
from typing import Any

from shared.errors import JobFailure
from shared.job import Output
from shared.types import EditParams
from shared.types.edit import PEAKS
from worker import ledger
from worker.editing.encodings import shows_picture
from worker.editing.files import copies_of, made_files, master_of
from worker.editing.rendering import foretell_whole, listen, render_whole
from worker.editing.state import EditState
from worker.editing.steps import Steps
from worker.editing.takes import about, takes_of
from worker.peaks import write_peaks
from worker.probe import probe
from worker.run import Pipeline, Run, Stage
from worker.transfer import Finished, fetch_sources, source_path, store_files


def begin(run: Run) -> EditState:
    """Read the parameters, and give every source a folder in which it lies alone."""
    params = EditParams.model_validate(run.job.params)
    paths = {}
    for number, source in enumerate(dict.fromkeys(params.named.values())):
        paths[source] = source_path(run, f"in-{number}")
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
            with about(state.params, name):
                state.media[source] = probe(run, state.paths[source])
    seen = shows_picture(state)
    parts = run.work / "parts"
    parts.mkdir(exist_ok=True)
    takes = takes_of(run, state, parts, seen=seen)
    steps = Steps(state.params, takes, lambda take: listen(run, state, parts, take), run.engine.filters)
    whole = steps.walk()
    state.record = steps.record
    path = run.work / ("edited.mov" if whole.picture else "edited.wav")
    state.before = foretell_whole(run, state, whole)
    if state.before is None:
        state.before = render_whole(run, state, whole, path)
        shutil.rmtree(parts)
    elif state.decoded_s:
        run.report.progress(state.decoded_s, state.decoded_s)
    run.report.log("info", f"The edit is {state.before.seconds:.3f} s long")
    waveform = write_peaks(run.work / PEAKS, state.before.points, state.before.sample_rate)
    state.extras.append(Finished(waveform, PEAKS, "application/json", {"points_per_second": 100}))
    state.master = master_of(run, state, path, whole)


def encode(run: Run, state: EditState) -> None:
    """Make all files with one ffmpeg, and prove each of them by decoding it again."""
    assert state.master is not None
    assert state.before is not None
    total = state.before.seconds
    state.copies = copies_of(run, state)
    state.master.deliveries = [item for item in state.master.deliveries if item.made.name not in state.copies]
    if state.master.deliveries:
        state.master.plan()
        try:
            state.master.make(lambda seconds: run.report.progress(seconds, total))
        except JobFailure as failure:
            if failure.failure_code == "internal":
                for source in state.believed:
                    ledger.forget(run, source)
            raise


def upload(run: Run, state: EditState) -> None:
    """Keep the proven files and the waveform as the job's outputs."""
    files = [Finished(path, made.name, made.format.content_type, facts) for path, made, facts in made_files(state)]
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
        "preset": state.params.preset and state.params.preset.name,
        "target_lufs": asked and asked[0],
        "ceiling_dbtp": asked and asked[1],
        "before": state.before.facts(),
        "after": {made.name: facts for _, made, facts in made_files(state)},
        "warnings": state.warnings,
        "media_ms": round(state.before.seconds * 1000),
        "engine": {"version": state.engine, "argv": [*state.commands, *state.master.commands]},
    }
    return report, tuple(state.outputs)


# --- what the result tells ---------------------------------------------------------------------------------------
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
