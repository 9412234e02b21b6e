"""`agent:NAME`: one turn of a session. The program hears what was said so far; everything that it says is kept.

docs/programs.md is the protocol. A turn may ask for the uploads of its session, add jobs of Spool's own as children,
and leave files; it ends with its process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.errors import Conflict, Invalid, JobFailure
from shared.job import Output
from shared.programs import Program
from shared.session import Message
from shared.types import JOB_TYPES, is_url
from shared.types.faults import field_errors
from worker.children import Child
from worker.dialogue import Dialogue
from worker.failures import last_words
from worker.programs import start
from worker.run import Pipeline, Run, Stage
from worker.said import failure, level, made_files, number, result_of, sentence
from worker.transfer import Finished, fetch_source, store_files

#: What the program is told of a long conversation: the newest messages, and no more text than this.
MAX_HISTORY, MAX_HISTORY_CHARACTERS = 500, 1_000_000
#: What one turn may say, and how many jobs it may add.
MAX_MESSAGES, MAX_JOBS = 10_000, 32
#: How long a program that speaks faster than the queue can be told is left waiting before the next look.
_BREATH_S = 0.05
#: What a program may add: what anybody may who can write.
_ADDABLE = tuple(name for name, kind in JOB_TYPES.items() if kind.stages and not kind.admin)


@dataclass(slots=True)
class Turn:
    """What is said and made in one attempt at a turn."""

    program: Program
    history: Sequence[Message] = ()
    messages: int = 0
    jobs: int = 0
    needs_input: bool = False
    result: dict[str, Any] | None = None
    error: JobFailure | None = None
    files: tuple[Finished, ...] = ()
    outputs: list[Output] = field(default_factory=list)


def agent_pipeline(program: Program) -> Pipeline[Turn]:
    """The turns of one program's sessions."""
    return Pipeline(
        type=program.job_type.name,
        begin=lambda _: Turn(program),
        stages=(Stage("running", converse),),
        result=result,
    )


def converse(run: Run, turn: Turn) -> None:
    """Start the program, tell it what was said, and hear it out."""
    session_id = run.job.session_id
    if session_id is None:
        raise JobFailure("program.no_session", "The job belongs to no session; begin one with POST /api/sessions.")
    session, turn.history = run.children.conversation(session_id, MAX_HISTORY)
    folder = run.work / "files"
    folder.mkdir()
    with start(turn.program, run.processes, run.engine, run.work) as child, Dialogue(child, run.report) as dialogue:
        dialogue.tell(
            {
                "type": "start",
                "protocol": 1,
                "program": turn.program.name,
                "session": session_id,
                "params": session.params,
                "folder": str(folder),
            }
        )
        for message in _recent(turn.history):
            dialogue.tell(_told(message, new=message.job_id == run.job.id and message.role == "user"))
        for line in dialogue.lines():
            _heard(run, turn, folder, dialogue, line)
        ended = child.wait()
    if turn.error is not None:
        raise turn.error
    if ended.returncode != 0:
        for words in last_words(ended):
            run.report.log("error", words)
        raise JobFailure(
            "program.crashed",
            f"{turn.program.title} ended unexpectedly ({_ending(ended.returncode)}); what it said last is in the log.",
            kind="transient",
        )
    turn.outputs = store_files(run, turn.files) if turn.files else []


def result(turn: Turn) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """What came of the turn."""
    said = {"needs_input": turn.needs_input, "messages": turn.messages, "jobs": turn.jobs, "result": turn.result}
    return said, tuple(turn.outputs)


# --- what the program says ---------------------------------------------------------------------------------------
def _heard(run: Run, turn: Turn, folder: Path, dialogue: Dialogue, line: dict[str, Any]) -> None:
    match line["type"]:
        case "message":
            _message(run, turn, line)
        case "needs_input":
            turn.needs_input = True
            if "text" in line:
                _message(run, turn, line)
        case "log":
            run.report.log(level(line.get("level")), sentence(line.get("message")))
        case "progress":
            run.report.progress(number(line.get("current")), number(line["total"]) if line.get("total") else None)
        case "preview":
            run.report.preview(sentence(line.get("text")), line.get("data"))
        case "fetch":
            dialogue.tell(_fetched(run, turn, folder, str(line.get("asset"))))
        case "job":
            dialogue.tell(_added(run, turn, line))
        case "result":
            turn.result, turn.files = result_of(line), made_files(line, folder)
        case "error":
            turn.error = failure(line)
        case unknown:
            run.report.log("warn", f"The program said something of a type that Spool does not know: {unknown[:40]}")


def _message(run: Run, turn: Turn, line: dict[str, Any]) -> None:
    text = line.get("text")
    if not isinstance(text, str) or not text.strip():
        run.report.log("warn", "The program sent a message without a text")
        return
    turn.messages += 1
    if turn.messages > MAX_MESSAGES:
        raise JobFailure(
            "program.too_talkative", f"{turn.program.title} said more than {MAX_MESSAGES} messages in one turn."
        )
    while run.report.backlog:  # it is heard no faster than the queue takes it
        run.stop.check()
        run.stop.wait(_BREATH_S)
    run.report.message("system" if line.get("role") == "system" else "assistant", text)


def _fetched(run: Run, turn: Turn, folder: Path, asset: str) -> dict[str, Any]:
    """The answer to a request for an upload: where it lies now. Only those that came with the session's messages."""
    name = _attached(turn).get(asset)
    if name is None:
        return {"type": "refused", "asset": asset, "message": "No message of this session has such an upload."}
    path = folder / f"upload-{asset}"
    if not path.exists():
        try:
            fetch_source(run, asset, path, moved=lambda _done, _total: run.report.alive())
        except JobFailure as error:
            return {"type": "refused", "asset": asset, "message": error.message}
    return {"type": "file", "asset": asset, "filename": name, "path": str(path)}


def _added(run: Run, turn: Turn, line: dict[str, Any]) -> dict[str, Any]:
    """The answer to a wish for a job: its id. The turn ends when it has ended."""
    key, asked = str(line.get("key", turn.jobs + 1))[:64], line.get("job")

    def refuse(message: str) -> dict[str, Any]:
        return {"type": "refused", "key": key, "message": message}

    if turn.jobs >= MAX_JOBS:
        return refuse(f"A turn may add {MAX_JOBS} jobs.")
    if not isinstance(asked, dict) or asked.get("type") not in _ADDABLE or not isinstance(asked.get("params"), dict):
        return refuse(f"Say its type, one of {', '.join(_ADDABLE)}, and its params.")
    kind = JOB_TYPES[asked["type"]]
    try:
        params = kind.params.model_validate(asked["params"])
    except ValidationError as error:
        faults = field_errors(error, asked["params"])
        return refuse("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
    attached = _attached(turn)
    for field_name, source in params.sources.items():
        if not is_url(source) and source not in attached:
            return refuse(f"{field_name}: no message of this session has the upload {source}.")
    name = next((attached[source] for source in params.sources.values() if source in attached), None)
    try:
        job = run.children.add([Child(key=key, type=kind.name, params=asked["params"], name=name)])[0]
    except (Conflict, Invalid) as error:
        return refuse(error.message)
    turn.jobs += 1
    return {"type": "job", "key": key, "id": job.id}


# --- what the program is told ------------------------------------------------------------------------------------
def _recent(history: Sequence[Message]) -> list[Message]:
    """The newest messages that fit; the last one always does."""
    kept, room = list[Message](), MAX_HISTORY_CHARACTERS
    for message in reversed(history):
        room -= len(message.text)
        if kept and room < 0:
            break
        kept.append(message)
    return kept[::-1]


def _told(message: Message, *, new: bool) -> dict[str, Any]:
    told = {"type": "message", "role": message.role, "text": message.text, "at": message.at}
    return told | {"assets": list(message.assets), "new": new}


def _attached(turn: Turn) -> dict[str, str]:
    """The uploads of the conversation: file names by id."""
    return {asset["asset"]: asset["filename"] for message in turn.history for asset in message.assets}


def _ending(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
