"""`report`: everything that one decode tells of a recording, as JSON and as a page to send to a client.

Read from the bottom: the stages are a table, and each of them is a function above it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.errors import JobFailure
from shared.job import Output
from shared.types.report import QualityReport, ReportParams
from worker.document import Told, document
from worker.examine import native_mix, refuse_too_long, sound_track
from worker.ffmpeg import input_args
from worker.loudness import Measured, measure
from worker.page import write_page
from worker.probe import probe
from worker.quality import Quality
from worker.run import Pipeline, Run, Stage
from worker.transfer import Finished, fetch_source, source_path, store_files


@dataclass(slots=True)
class ReportState:
    """What the stages hand on to each other."""

    params: ReportParams
    path: Path
    sha256: str | None = None
    report: QualityReport | None = None
    files: list[Finished] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


def begin(run: Run) -> ReportState:
    """Read the parameters, and make the folder in which the source lies alone."""
    return ReportState(ReportParams.model_validate(run.job.params), source_path(run))


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: ReportState) -> None:
    """Bring the source into its folder."""
    state.sha256 = fetch_source(run, state.params.source, state.path)


def analyze(run: Run, state: ReportState) -> None:
    """Look into the file, decode the track once, and write down what both told."""
    media = probe(run, state.path)
    audio = sound_track(media, state.params.track)
    mix = native_mix(audio)
    quality = Quality(mix)

    def on_time(seconds: float) -> None:
        refuse_too_long(seconds)
        run.report.progress(seconds, media.duration_s)

    measured = measure(
        run,
        input_args(state.path),
        mix,
        folder=run.work,
        stream=f"0:{audio.index}",
        on_time=on_time,
        also=quality.take,
    )
    quality.finish()
    if not measured.samples:
        raise JobFailure(
            "bad_input.corrupt", "No sound could be decoded from the track; export the recording again and upload that."
        )
    told = Told(run.job.name or state.params.source, state.sha256, media, audio, measured, quality)
    state.report = document(told, state.params.preset, title=state.params.title, engine=run.engine.version)
    _write(run, state, measured)
    for one in state.report.findings:
        run.report.log("warn" if one.weight == "problem" else "info", one.message)


def upload(run: Run, state: ReportState) -> None:
    """Keep the page and the document as the job's outputs."""
    state.outputs = store_files(run, state.files)


def result(state: ReportState) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """The numbers that matter, and the files."""
    assert state.report is not None
    report = state.report
    summary = {
        "preset": report.preset.name,
        "passed": report.passed,
        "findings": [one.model_dump() for one in report.findings],
        "loudness": report.loudness.model_dump(),
        "levels": report.levels.model_dump(),
        "media_ms": round(report.source.duration_s * 1000),
        "engine": {"version": report.engine},
    }
    return summary, tuple(state.outputs)


# --- what the stages ask -----------------------------------------------------------------------------------------
def _write(run: Run, state: ReportState, measured: Measured) -> None:
    assert state.report is not None
    document, page = run.work / "report.json", run.work / "report.html"
    document.write_text(state.report.model_dump_json(), encoding="utf-8")
    day = datetime.fromtimestamp(run.job.created_at / 1000, UTC).date()
    write_page(page, state.report, measured.points, day)
    state.files = [
        Finished(page, "report.html", "text/html; charset=utf-8", {"passed": state.report.passed}),
        Finished(document, "report.json", "application/json", {"version": state.report.version}),
    ]


REPORT: Pipeline[ReportState] = Pipeline(
    type="report",
    begin=begin,
    stages=(
        Stage("downloading", download, weight=10),
        Stage("analyzing", analyze, weight=80),
        Stage("uploading", upload, weight=2),
    ),
    result=result,
)
