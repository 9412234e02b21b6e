"""Registered programs on this machine: which of them there are, and how one is started."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from shared.programs import Program
from shared.settings import Settings, inherited
from worker.process import PATH, Child, Limits

if TYPE_CHECKING:
    from worker.ffmpeg import Engine
    from worker.process import Processes

#: Where programs find the module that their authors import.
SDK = Path(__file__).parent / "sdk"
_OPEN_FILES = 1024
_log = structlog.get_logger("spool.worker")


def programs_here(settings: Settings) -> dict[str, Program]:
    """The registered programs that this machine has, by job type: a worker offers to do no others.

    One file of programs may serve the API and all workers, whichever machine a program is on.
    """
    missing = missing_here(settings)
    for name, why in missing.items():
        _log.warning("a program is not on this machine; its jobs are left to other workers", type=name, why=why)
    return {name: program for name, program in settings.registered.items() if name not in missing}


def missing_here(settings: Settings) -> dict[str, str]:
    """The registered programs that cannot be started on this machine, by job type, each with the reason."""
    faults = {name: _fault(program) for name, program in settings.registered.items()}
    return {name: fault for name, fault in faults.items() if fault is not None}


def start(program: Program, processes: Processes, engine: Engine, home: Path) -> Child:
    """Start a program under the same supervision as any tool; `home` is its own folder. Raises as `Processes.start`."""
    return processes.start(
        [_filled(word, engine) for word in program.command],
        cwd=program.directory,
        limits=Limits(address_space_bytes=program.memory_bytes, cpu_s=None, open_files=_OPEN_FILES),
        stdin=True,
        stdout=True,
        env=_environment(program, engine, home),
    )


def _environment(program: Program, engine: Engine, home: Path) -> Mapping[str, str]:
    """What it sees: nothing of the worker's own environment but what its registration names."""
    probe = {} if engine.ffprobe is None else {"SPOOL_FFPROBE": str(engine.ffprobe)}
    return {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(SDK),
        "PYTHONUNBUFFERED": "1",
        "SPOOL_FFMPEG": str(engine.ffmpeg),
        **probe,
        **inherited(program.inherit),
        **program.environment,
    }


def _filled(word: str, engine: Engine) -> str:
    return word.replace("{python}", sys.executable).replace("{ffmpeg}", str(engine.ffmpeg))


def _fault(program: Program) -> str | None:
    """Why it cannot be started here; None when it can."""
    if not program.directory.is_dir():
        return f"there is no folder {program.directory}"
    first = program.command[0].replace("{python}", sys.executable)
    if first != "{ffmpeg}" and shutil.which(first, path=PATH) is None:
        return f"{first} is not there or cannot be started"
    return None
