"""`workflow:NAME`: a job for a long-lived program, which hears of it and says how far it is in JSON lines.

docs/programs.md is the protocol. The sources are fetched before the program is told of them, and the files that it
names in its result become the job's outputs.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import JobFailure
from shared.job import Output
from shared.parameters import ProgramParams
from shared.programs import Program
from worker.pool import Instance, Pools
from worker.process import clock
from worker.run import Pipeline, Run, Stage
from worker.said import failure, level, made_files, number, result_of, sentence
from worker.stop import Reason
from worker.transfer import Finished, fetch_sources, store_files

#: How often a job that hears nothing looks whether it is to end.
_LOOK_S = 0.1


@dataclass(slots=True)
class Work:
    """What the stages hand on to each other."""

    program: Program
    params: ProgramParams
    folder: Path
    #: Where each source lies, by the field that names it.
    paths: dict[str, Path] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: JobFailure | None = None
    files: tuple[Finished, ...] = ()
    outputs: list[Output] = field(default_factory=list)


def workflow_pipeline(program: Program, pools: Pools) -> Pipeline[Work]:
    """The jobs of one program."""

    def begin(run: Run) -> Work:
        return Work(program, program.params.model_validate(run.job.params), run.work / "files")

    def perform(run: Run, work: Work) -> None:
        instance = pools.lent(run.job)
        with instance.lent_to(run):
            instance.tell(_job(run, work))
            _hear_out(run, work, instance)
        run.stop.check()  # cancelled, and the program has let go of it
        if work.error is not None:
            raise work.error

    return Pipeline(
        type=program.job_type.name,
        begin=begin,
        stages=(
            Stage("downloading", download, weight=1),
            Stage("running", perform, weight=20),
            Stage("uploading", upload, weight=1),
        ),
        result=result,
    )


def download(run: Run, work: Work) -> None:
    """Bring the sources here."""
    work.folder.mkdir()
    sources = work.params.sources
    work.paths = {field_name: work.folder / f"source-{index}" for index, field_name in enumerate(sources)}
    wanted = {source: work.paths[field_name] for field_name, source in sources.items()}
    fetch_sources(run, wanted)
    work.paths = {field_name: wanted[source] for field_name, source in sources.items()}
    large = work.params.oversized({source: path.stat().st_size for source, path in wanted.items()})
    if large:  # links tell their size only when they are fetched
        raise JobFailure("bad_input.too_large", f"{large[0].field} {large[0].message}; send smaller files.")


def upload(run: Run, work: Work) -> None:
    """Keep the files that the program named."""
    work.outputs = store_files(run, work.files) if work.files else []


def result(work: Work) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """What came of it."""
    return {"result": work.result}, tuple(work.outputs)


# --- the program -------------------------------------------------------------------------------------------------
def _job(run: Run, work: Work) -> dict[str, Any]:
    """The job as the program hears of it: its parameters, with paths in place of sources."""
    params = work.params.model_dump(mode="json")
    for field_name, path in work.paths.items():
        name, _, index = field_name.partition(".")
        if index:
            params[name][int(index)] = str(path)
        else:
            params[name] = str(path)
    return {
        "type": "job",
        "protocol": 1,
        "id": run.job.id,
        "attempt": run.job.attempt,
        "params": params,
        "folder": str(work.folder),
    }


def _hear_out(run: Run, work: Work, instance: Instance) -> None:
    """Listen until the program says that it is done; one that is told of a cancel has a grace to let go of the job."""
    give_up = None
    while True:
        if run.stop.reason is Reason.CANCEL and give_up is None:
            instance.tell({"type": "cancel", "id": run.job.id})
            give_up = clock() + work.program.cancel_s
        elif run.stop.reason is not None and (give_up is None or clock() > give_up):
            run.stop.check()
        try:
            line = instance.hear(_LOOK_S)
        except queue.Empty:
            continue
        if line is None:
            run.stop.check()
            why = f"{work.program.title} ended unexpectedly; what it said last is in the log."
            raise JobFailure("program.crashed", why, kind="transient")
        if _heard(run, work, line):
            return


def _heard(run: Run, work: Work, line: dict[str, Any]) -> bool:
    """Take in a line; True when it is the last about this job."""
    match line["type"]:
        case "progress":
            run.report.progress(number(line.get("current")), number(line["total"]) if line.get("total") else None)
        case "stage":
            run.report.part(sentence(line.get("name")))
        case "preview":
            run.report.preview(sentence(line.get("text")), line.get("data"))
        case "log":
            run.report.log(level(line.get("level")), sentence(line.get("message")))
        case "result":
            work.result, work.files = result_of(line), made_files(line, work.folder)
            return True
        case "error":
            work.error = failure(line)
            return True
        case "cancelled":
            if run.stop.reason is None:
                raise JobFailure("program.faulty", f"{work.program.title} gave up a job that nobody had cancelled.")
            return True
        case unknown:
            run.report.log("warn", f"The program said something of a type that Spool does not know: {unknown[:40]}")
    return False
