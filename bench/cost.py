"""What a run costs: wall, CPU of all its processes, its largest process, and what it wrote to disk.

`python -m bench.cost PROGRAM …` runs a program and prints that as JSON. It is a process of its own, because the peak
memory that Linux tells of a program is never below that of the process which started it.
"""

from __future__ import annotations

import json
import resource
import subprocess  # noqa: TID251 - a benchmark starts its peers
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """One run: wall and CPU seconds, all processes together; the largest process and what went to disk, in megabytes.

    Of Spool's runs also what of the wall and CPU was not ffmpeg, how many programs ran, and how many of them decoded.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    written_mb: float
    other_wall_s: float = 0.0
    other_cpu_s: float = 0.0
    programs: int = 0
    decodes: int = 0


@dataclass(frozen=True)
class Side:
    """One competitor: `run` makes `made`. `rounds` is how often, when that is less than the others."""

    name: str
    run: Callable[[], Cost]
    made: Path
    rounds: int = 99


def take_turns(sides: Sequence[Side], rounds: int) -> dict[str, list[Cost]]:
    """Each side's runs, the sides one after the other in every round."""
    costs: dict[str, list[Cost]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            if number < side.rounds:
                costs[side.name].append(side.run())
    return costs


def best(costs: Sequence[Cost]) -> Cost:
    """The least of everything: what else runs on a machine can only add to it."""
    return Cost(*(min(getattr(cost, part.name) for cost in costs) for part in fields(Cost)))


def as_json(costs: Mapping[str, Sequence[Cost]]) -> dict[str, Any]:
    """All runs, for a file."""
    return {name: [asdict(cost) for cost in each] for name, each in costs.items()}


def external(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a program to its end. Raises `CalledProcessError`."""
    return Cost(**told([sys.executable, "-m", "bench.cost", *map(str, argv)], environment=environment))


def told(argv: Sequence[str], *, asked: object = None, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a module of ours says on its last line, as JSON, after it was asked so. Raises `CalledProcessError`."""
    ended = subprocess.run(
        argv, cwd=ROOT, env=environment, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


class Meter:
    """What this process and its ended children use from its making on."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._cpu_s, self._blocks = self._used()

    def cost(self) -> Cost:
        """So far."""
        wall_s = time.perf_counter() - self._begun
        cpu_s, blocks = self._used()
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return Cost(
            wall_s, cpu_s - self._cpu_s, max(own_peak_kb(), largest) / 1024, (blocks - self._blocks) * 512 / 1e6
        )

    def _used(self) -> tuple[float, int]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used), sum(one.ru_oublock for one in used)


def own_peak_kb() -> int:
    """The most memory this very process had: what `getrusage` says includes the peak of its parent."""
    words = Path("/proc/self/status").read_text(encoding="ascii").split()
    return int(words[words.index("VmHWM:") + 1])


def main() -> None:
    """Run the program that is named, and tell what it cost."""
    meter = Meter()
    subprocess.run(sys.argv[1:], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    print(json.dumps(asdict(meter.cost())))


if __name__ == "__main__":
    main()
