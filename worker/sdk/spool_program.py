"""For programs that Spool runs: the protocol of docs/programs.md in one file, without dependencies, for Python 3.8 on.

Spool puts this file on the program's PYTHONPATH. A turn of an agent looks like this:

    from spool_program import Turn

    turn = Turn.begin()
    turn.say("You said: " + turn.text)
    turn.finish()

A workflow is started once and gets one job after the other:

    from spool_program import serve

    model = load()

    def work(job):
        for step in range(job.params["steps"]):
            job.progress(step, job.params["steps"])
        job.finish({"steps": step})

    serve(work)

What the program prints goes to stderr from `begin` or `serve` on, so that a stray `print` breaks nothing.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, TextIO, Tuple  # noqa: UP035 - the programs' Python may be old

Line = Dict[str, Any]  # noqa: UP006 - as above


class Refused(Exception):
    """Spool did not do what was asked; the message says why, for people."""


class Cancelled(Exception):
    """Raised by whatever a cancelled job says next, and caught by `serve`."""


def _pipes() -> Tuple[TextIO, TextIO]:  # noqa: UP006 - as above
    """To Spool and from it; what the program prints goes to stderr from now on."""
    to_spool = os.fdopen(os.dup(1), "w", encoding="utf-8")
    from_spool = os.fdopen(os.dup(0), "r", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return to_spool, from_spool


class Message:
    """Something said in the session: `role` (user, assistant or system), `text`, `at` (milliseconds UTC), `assets`."""

    def __init__(self, line: Line) -> None:
        self.role: str = line["role"]
        self.text: str = line["text"]
        self.at: int = line["at"]
        #: The uploads that came with it: each has `asset` (its id) and `filename`.
        self.assets: List[Dict[str, str]] = line["assets"]  # noqa: UP006 - as above


class Turn:
    """One turn of a session: what was said before, what is said now, and the ways to answer."""

    def __init__(self, start: Line, messages: Sequence[Message], to_spool: TextIO, from_spool: TextIO) -> None:
        #: What the session was begun with, and the session's id.
        self.params: Line = start["params"]
        self.session: str = start["session"]
        #: A folder of this turn's own, gone when it ends: files that become outputs must be in it.
        self.folder = Path(start["folder"])
        #: The conversation so far, oldest first; the last one is what the person just said.
        self.messages = list(messages)
        self._to_spool, self._from_spool = to_spool, from_spool

    @classmethod
    def begin(cls) -> Turn:
        """Hear what Spool says at the start of a turn."""
        to_spool, from_spool = _pipes()
        start = json.loads(from_spool.readline())
        line: Line = {"new": False}
        messages = []
        while not line["new"]:
            line = json.loads(from_spool.readline())
            messages.append(Message(line))
        return cls(start, messages, to_spool, from_spool)

    @property
    def text(self) -> str:
        """What the person just said."""
        return self.messages[-1].text

    @property
    def uploads(self) -> List[Dict[str, str]]:  # noqa: UP006 - as above
        """All uploads of the conversation, the newest last: each has `asset` and `filename`."""
        return [asset for message in self.messages for asset in message.assets]

    def say(self, text: str, role: str = "assistant") -> None:
        """Say something. Role `system` is kept with the conversation and left out of previews."""
        self._tell({"type": "message", "role": role, "text": text})

    def ask(self, text: str) -> None:
        """Say something that the person is to answer: when the turn has ended, the session waits for input."""
        self._tell({"type": "needs_input", "text": text})

    def log(self, message: str, level: str = "info") -> None:
        """A line of the job's log: debug, info, warn or error."""
        self._tell({"type": "log", "level": level, "message": message})

    def progress(self, current: float, total: Optional[float] = None) -> None:  # noqa: UP045 - as above
        """`current` of `total` are really done; without a total there is no percentage."""
        self._tell({"type": "progress", "current": current, "total": total})

    def preview(self, text: str, data: Any = None) -> None:
        """A look at what is being made; `data` is any JSON of up to 8,000 characters."""
        self._tell({"type": "preview", "text": text, "data": data})

    def fetch(self, asset: str) -> Path:
        """The path of an upload of this conversation. Raises `Refused`."""
        return Path(self._asked({"type": "fetch", "asset": asset})["path"])

    def job(self, kind: str, params: Line, key: str) -> str:
        """Add a job of Spool's own, for any worker; the turn ends when it has. Returns its id, or raises `Refused`.

        A turn that is tried again adds the job of a key once.
        """
        job_id: str = self._asked({"type": "job", "key": key, "job": {"type": kind, "params": params}})["id"]
        return job_id

    def finish(self, result: Optional[Line] = None, outputs: Sequence[Line] = ()) -> None:  # noqa: UP045 - as above
        """The turn went well. `outputs`: `path`, `name` and `content_type` of files in `folder`."""
        files = [{**one, "path": str(one["path"])} for one in outputs]
        self._tell({"type": "result", "result": result, "outputs": files})
        self._to_spool.close()

    def fail(self, message: str, code: str = "failed", *, retry: bool = False) -> None:
        """The turn went wrong, in one sentence for a person; `retry`: trying again may help."""
        self._tell({"type": "error", "code": code, "message": message, "retry": retry})
        self._to_spool.close()

    def _tell(self, line: Line) -> None:
        _write(self._to_spool, line)

    def _asked(self, line: Line) -> Line:
        self._tell(line)
        reply: Line = json.loads(self._from_spool.readline())
        if reply["type"] == "refused":
            raise Refused(reply["message"])
        return reply


class Job:
    """One job of a workflow: what it takes, and the ways to say how far it is and how it ended."""

    def __init__(self, line: Line, to_spool: TextIO) -> None:
        self.id: str = line["id"]
        self.attempt: int = line["attempt"]
        #: As registered, defaults included; where the registration says file or files, these are paths.
        self.params: Line = line["params"]
        #: A folder of this job's own, gone when it ends: files that become outputs must be in it.
        self.folder = Path(line["folder"])
        self.ended = False
        self._to_spool = to_spool
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it. Whoever looks often lets go of it soon, and is not killed for it."""
        return self._cancelled.is_set()

    def stage(self, name: str) -> None:
        """Another part of the work begins; its progress starts afresh."""
        self._tell({"type": "stage", "name": name})

    def progress(self, current: float, total: Optional[float] = None) -> None:  # noqa: UP045 - as above
        """`current` of `total` are really done; without a total there is no percentage."""
        self._tell({"type": "progress", "current": current, "total": total})

    def preview(self, text: str, data: Any = None) -> None:
        """A look at what is being made; `data` is any JSON of up to 8,000 characters."""
        self._tell({"type": "preview", "text": text, "data": data})

    def log(self, message: str, level: str = "info") -> None:
        """A line of the job's log: debug, info, warn or error."""
        self._tell({"type": "log", "level": level, "message": message})

    def finish(self, result: Optional[Line] = None, outputs: Sequence[Line] = ()) -> None:  # noqa: UP045 - as above
        """It went well. `outputs`: `path`, `name` and `content_type` of files in `folder`."""
        files = [{**one, "path": str(one["path"])} for one in outputs]
        self._tell({"type": "result", "result": result, "outputs": files})
        self.ended = True

    def fail(self, message: str, code: str = "failed", *, retry: bool = False) -> None:
        """It went wrong, in one sentence for a person; `retry`: trying again may help."""
        self._tell({"type": "error", "code": code, "message": message, "retry": retry})
        self.ended = True

    def _tell(self, line: Line) -> None:
        if self.cancelled:
            raise Cancelled
        _write(self._to_spool, line)


def serve(work: Callable[[Job], None]) -> None:
    """Say that the program is ready, and do one job after the other until Spool ends it.

    An exception that `work` lets out ends the program: Spool starts it again, and tries the job once more.
    """
    to_spool, from_spool = _pipes()
    jobs: queue.Queue[Optional[Job]] = queue.Queue()  # noqa: UP045 - as above

    def listen() -> None:
        current: Optional[Job] = None  # noqa: UP045 - as above
        for text in from_spool:
            line = json.loads(text)
            if line["type"] == "job":
                current = Job(line, to_spool)
                jobs.put(current)
            elif line["type"] == "cancel" and current is not None and line["id"] == current.id:
                current._cancelled.set()
        jobs.put(None)

    threading.Thread(target=listen, daemon=True).start()
    _write(to_spool, {"type": "ready"})
    job = jobs.get()
    while job is not None:
        try:
            work(job)
            if not job.ended:
                job.finish()
        except Cancelled:
            _write(to_spool, {"type": "cancelled"})
        job = jobs.get()


def _write(to_spool: TextIO, line: Line) -> None:
    to_spool.write(json.dumps(line, ensure_ascii=False) + "\n")
    to_spool.flush()
