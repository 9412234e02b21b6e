"""What a stage sees of the world: one attempt of one job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from shared.job import Job, Level
from shared.session import Role

if TYPE_CHECKING:
    from shared.storage.protocol import StorageAdapter
    from worker.children import Children
    from worker.ffmpeg import Engine
    from worker.process import Processes
    from worker.stop import Stop
    from worker.upkeep import Upkeep

State = TypeVar("State")


class Report(Protocol):
    """Where a stage says how far it is. Calls are cheap: they are kept and written with the next heartbeat."""

    def progress(self, current: float, total: float | None) -> None:
        """`current` of `total` in the stage's own unit are really done; None when the total is unknown."""

    def part(self, name: str) -> None:
        """The stage has come to another part of its work, which it is called by, and whose progress starts afresh."""

    def alive(self) -> None:
        """Something moves that has no progress: the attempt does not stand still."""

    def log(self, level: Level, message: str, **data: Any) -> None:  # noqa: ANN401 - any JSON value
        """One line of the job's history."""

    def message(self, role: Role, text: str) -> None:
        """Something said in the job's session: all of it is kept."""

    def preview(self, text: str, data: object) -> None:
        """A look at what is being made."""

    @property
    def backlog(self) -> bool:
        """Whether so much waits to be written that whoever says more should wait."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt. `work` is an empty folder of its own; `stop` ends it; nothing else may be kept between stages
    but what the pipeline's state object holds."""

    job: Job
    work: Path
    storage: StorageAdapter
    engine: Engine
    processes: Processes
    report: Report
    stop: Stop
    children: Children
    upkeep: Upkeep


@dataclass(frozen=True, slots=True)
class Stage(Generic[State]):
    """One named step. It may be repeated from the start, and raises `JobFailure` to end the attempt.

    `weight` is its usual share of the attempt's time, in the unit of its sisters' weights: the ETA reads it.
    """

    name: str
    work: Callable[[Run, State], None]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[State]):
    """The stages of a job type, in order, over one state object made fresh for each attempt.

    `result` turns the state of a finished attempt into the job's result and outputs.
    """

    type: str
    begin: Callable[[Run], State]
    stages: tuple[Stage[State], ...]
    result: Callable[[State], tuple[dict[str, Any], tuple[Any, ...]]]
