"""What the oracle knows of one job."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.job import (
    PHASES,
    TERMINAL,
    Claim,
    NewJob,
    Output,
    Status,
)


@dataclass(frozen=True)
class Entry:
    """One line of a job's history: a state it entered, or what its worker said."""

    attempt: int
    line: int | None
    message: str


@dataclass(eq=False)
class Known:
    """One job as the oracle knows it. `asked` is a cancel request; `stopping` means that its children must stop.

    `place` counts creations; `seq` is the number that the database chose, which only pruning goes by.
    """

    new: NewJob
    place: int
    depth: int
    created_at: int
    status: Status = Status.PENDING
    priority: int = 0
    tags: tuple[str, ...] = ()
    run_at: int | None = None
    attempt: int = 0
    failures: int = 0
    worker: str | None = None
    token: str | None = None
    lease_until: int = 0
    ended_by: Claim | None = None
    asked: bool = False
    stopping: bool = False
    open_phase: int = -1
    error: str | None = None
    family_error: str | None = None
    result: dict | None = None
    outputs: tuple[Output, ...] = ()
    stage: str | None = None
    percent: float | None = None
    last_line: int = 0
    started: bool = False
    completed_at: int | None = None
    seq: int = 0
    deleted: bool = False
    history: list[Entry] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.new.id

    @property
    def ended(self) -> bool:
        """Whether the job has ended, for good."""
        return self.status in TERMINAL

    @property
    def phase(self) -> int:
        """Which phase of its parent the job belongs to."""
        return PHASES.index(self.new.phase)
