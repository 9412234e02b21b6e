"""What a program says about itself, believed only as far as it makes sense."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from shared.errors import JobFailure
from shared.job import LEVELS, Level
from shared.text import cleaned
from worker.transfer import Finished

#: What a result may hold, and how many files.
MAX_RESULT, MAX_FILES = 64_000, 32
_SENTENCE = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,100}")


def sentence(value: object) -> str:
    """One line of text."""
    return cleaned(value if isinstance(value, str) else json.dumps(value, default=str))[:_SENTENCE]


def level(value: object) -> Level:
    """A log level; `info` for anything else."""
    return next((one for one in LEVELS if one == value), "info")


def number(value: object) -> float:
    """A number of 0 or more; 0 for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return 0.0
    return max(0.0, float(value))


def result_of(line: dict[str, Any]) -> dict[str, Any] | None:
    """The result it tells. Raises `JobFailure`."""
    value = line.get("result")
    if value is not None and (not isinstance(value, dict) or len(json.dumps(value)) > MAX_RESULT):
        raise _faulty(f"its result is no JSON object of at most {MAX_RESULT} characters")
    return value


def made_files(line: dict[str, Any], folder: Path) -> tuple[Finished, ...]:
    """The files it names, which must be in its folder. Raises `JobFailure`."""
    named = line.get("outputs", [])
    if not isinstance(named, list) or len(named) > MAX_FILES or not all(isinstance(one, dict) for one in named):
        raise _faulty(f"its outputs are no list of at most {MAX_FILES} files")
    files = [_file(one, folder.resolve()) for one in named]
    if len({file.name for file in files}) < len(files):
        raise _faulty("two of its outputs have the same name")
    return tuple(files)


def failure(line: dict[str, Any]) -> JobFailure:
    """The error it tells: `retry` says whether trying again may help."""
    code = re.sub(r"[^a-z0-9_]", "", str(line.get("code", "failed")).lower())[:40] or "failed"
    message = sentence(line.get("message") or "The program failed and did not say why.")
    return JobFailure(f"program.{code}", message, kind="transient" if line.get("retry") is True else "permanent")


def _file(named: dict[str, Any], folder: Path) -> Finished:
    path = (folder / str(named.get("path", ""))).resolve()
    name = str(named.get("name", path.name))
    content_type = str(named.get("content_type", "application/octet-stream"))
    # Resolved, so that neither dots nor links lead out of its folder: nothing of the worker's becomes an output.
    if not path.is_relative_to(folder) or not path.is_file():
        raise _faulty(f"its output {cleaned(name[:64])!r} is no file in the job's folder")
    if not _NAME.fullmatch(name) or not _CONTENT_TYPE.fullmatch(content_type):
        raise _faulty(f"its output {cleaned(name[:64])!r} has no usable name or content type")
    facts = named.get("facts")
    return Finished(path, name, content_type, facts if isinstance(facts, dict) else {})


def _faulty(what: str) -> JobFailure:
    return JobFailure("program.faulty", f"The program broke the protocol: {what}; its author has to mend that.")
