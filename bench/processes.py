"""Several processes of one side that begin at the same moment."""

from __future__ import annotations

import json
import subprocess  # noqa: TID251 - the competitors are processes
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers import node_home, python_for
from bench.sides import SIDES, Synchronous

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """What they did together: wall seconds from the first beginning to the last end, and jobs by process."""

    seconds: float
    jobs: tuple[int, ...]

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return sum(self.jobs) / self.seconds


def together(side: str, verb: str, path: Path, *, synchronous: Synchronous, count: int, processes: int = 1) -> Done:
    """Let so many processes `put` or `drain` up to `count` jobs each. Raises `RuntimeError` when one fails."""
    argv = [*_program(side), verb, str(path), synchronous, str(count)]
    with ExitStack() as ended:
        started = [ended.enter_context(_process(argv)) for _ in range(processes)]
        if [said for process in started if (said := _line(process)) != "ready"]:
            raise RuntimeError(f"{side} could not {verb}")
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [json.loads(_line(process) or "{}") for process in started]
    if not all(told):
        raise RuntimeError(f"{side} could not {verb}")
    span = max(each["ended"] for each in told) - min(each["began"] for each in told)
    return Done(span, tuple(each["jobs"] for each in told))


def _program(side: str) -> list[str]:
    chosen = SIDES[side]
    if chosen.script:
        return ["node", str(Path(__file__).with_name(chosen.script)), str(node_home())]
    python = python_for(chosen.package) if chosen.package else Path(sys.executable)
    return [str(python), "-m", "bench.drive", side]


@contextmanager
def _process(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
