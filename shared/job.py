"""A job: its states, the moves between them, and what a worker holds while it owns one."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import uuid_utils


class Status(StrEnum):
    """The ten states of a job; docs/flow.md draws them."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    PENDING = "pending"
    RUNNING = "running"
    WAITING_CHILDREN = "waiting_children"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD_LETTER = "dead_letter"
    CANCELLED = "cancelled"


_S = Status
#: Every move that exists, creation (from None) included. The database refuses all others, the tests try all
#: others, and the diagram in docs/flow.md is drawn from this table.
MOVES: Mapping[Status | None, frozenset[Status]] = {
    None: frozenset({_S.SCHEDULED, _S.WAITING, _S.PENDING, _S.WAITING_CHILDREN, _S.COMPLETED}),
    _S.SCHEDULED: frozenset({_S.PENDING, _S.CANCELLED}),
    _S.WAITING: frozenset({_S.PENDING, _S.WAITING_CHILDREN, _S.CANCELLED}),
    _S.PENDING: frozenset({_S.RUNNING, _S.SCHEDULED, _S.CANCELLED}),
    _S.RUNNING: frozenset(
        {_S.COMPLETED, _S.FAILED, _S.DEAD_LETTER, _S.CANCELLED, _S.RETRYING, _S.WAITING_CHILDREN, _S.PENDING}
    ),
    _S.WAITING_CHILDREN: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED}),
    _S.RETRYING: frozenset({_S.PENDING, _S.SCHEDULED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.DEAD_LETTER: frozenset(),
    _S.CANCELLED: frozenset(),
}
TERMINAL = frozenset(status for status, moves in MOVES.items() if status is not None and not moves)
ENDED_BADLY = TERMINAL - {Status.COMPLETED}

#: The phases of a parent's children, in the order in which they open.
PHASES = ("pre", "core", "post")
Phase = Literal["pre", "core", "post"]
#: Levels in a family: a job, its children, theirs, and theirs.
MAX_DEPTH = 4

FailureKind = Literal["transient", "timeout", "worker_lost", "permanent", "cancelled"]
#: The kinds of failure that are tried again by themselves.
RETRIED: frozenset[FailureKind] = frozenset({"transient", "timeout", "worker_lost"})
Level = Literal["debug", "info", "warn", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warn", "error")
EventKind = Literal["state", "stage", "log", "message", "preview"]


def new_id() -> str:
    """A fresh job, asset or worker id: UUIDv7 text, so that ids sort by time of birth."""
    return str(uuid_utils.uuid7())


@dataclass(frozen=True, slots=True)
class Claim:
    """The proof of ownership that every write of a worker carries, and that SQL checks."""

    job_id: str
    attempt: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended badly: one sentence for a person, one code for a program."""

    code: str
    kind: FailureKind
    message: str
    stage: str | None = None

    def as_json(self, attempt: int) -> dict[str, Any]:
        """The `error` field of the job."""
        return dataclasses.asdict(self) | {"attempt": attempt}


@dataclass(frozen=True, slots=True)
class Output:
    """One finished file. `key` is its place in storage; `facts` are what was measured in it."""

    name: str
    key: str
    content_type: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, in one word: `completed`, `failed` or `cancelled`."""

    word: Literal["completed", "failed", "cancelled"]
    result: dict[str, Any] | None = None
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an attempt stands. `percent` (0 to 100) belongs to the stage and is None where it is unknown;
    `current` and `total` are in the stage's own unit (seconds of media, or bytes). `overall` is the percentage of all
    stages by their weights."""

    stage: str | None = None
    stage_index: int | None = None
    stage_count: int | None = None
    percent: float | None = None
    current: float | None = None
    total: float | None = None
    eta_s: float | None = None
    overall: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a job's history as its worker writes it; `n` counts from 1 in each attempt.

    `age_ms` is how long ago it was written when it is sent, so that its time is right on the database's clock.
    """

    n: int
    level: Level
    kind: EventKind
    message: str
    data: dict[str, Any] | None = None
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One stored line of a job's history; `id` rises over all jobs. `at` is in milliseconds UTC."""

    id: int
    job_id: str
    attempt: int
    line: int | None
    at: int
    level: Level
    kind: EventKind
    message: str
    data: dict[str, Any] | None
    #: The session in which it was said, for messages.
    session_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it is asked for. `run_at` is in milliseconds UTC; None means now.

    `status` stays None (the store derives it) except for a completed child that a retry carries over. `once` names
    the item that a child takes care of: it is left out when a job of another parent does already. `schedule` names
    the one that made it. `weight` is the job's part in its parent's percentage.
    """

    id: str
    type: str
    params: dict[str, Any]
    name: str | None = None
    own_work: bool = True
    priority: int = 0
    run_at: int | None = None
    max_failures: int = 2
    timeout_s: float = 3600.0
    parent_id: str | None = None
    phase: Phase | None = None
    child_key: str | None = None
    on_child_failure: Literal["fail", "continue"] = "fail"
    retry_of: str | None = None
    tags: tuple[str, ...] = ()
    webhook_url: str | None = None
    caller: str = "local"
    idempotency_key: str | None = None
    request_hash: str | None = None
    once: str | None = None
    schedule: str | None = None
    session_id: str | None = None
    depth: int = 0
    status: Status | None = None
    result: dict[str, Any] | None = None
    outputs: tuple[Output, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the queue, read-only. Times are milliseconds UTC from the database's clock.

    Without slots, so that `from_row` can fill it at once: setting sixty of them one by one takes longer than the rest.
    """

    seq: int
    id: str
    type: str
    #: What a person calls it: the name of the source file, say.
    name: str | None
    status: Status
    priority: int
    phase: Phase | None
    parent_id: str | None
    child_key: str | None
    depth: int
    retry_of: str | None
    session_id: str | None
    params: dict[str, Any]
    result: dict[str, Any] | None
    outputs: tuple[Output, ...]
    error: dict[str, Any] | None
    stage: str | None
    stage_index: int | None
    stage_count: int | None
    progress: float | None
    progress_current: float | None
    progress_total: float | None
    eta_s: float | None
    attempt: int
    failures: int
    max_failures: int
    timeout_s: float
    worker_id: str | None
    claim_token: str | None
    finish_token: str | None
    last_line: int
    lease_until: int | None
    cancel_requested_at: int | None
    run_at: int | None
    created_at: int
    started_at: int | None
    updated_at: int
    completed_at: int | None
    caller: str
    idempotency_key: str | None
    request_hash: str | None
    webhook_url: str | None
    tags: tuple[str, ...]
    on_child_failure: Literal["fail", "continue"]
    own_work: bool
    open_phase: int
    stopping: int
    children_total: int
    children_done: int
    children_failed: int
    pre_left: int
    core_left: int
    post_left: int
    weight: float
    #: The percentage of all its stages, as far as any attempt came.
    overall: float
    #: Jobs that will be claimed before this one, counted to 100; None when not pending or not asked for.
    ahead: int | None = None
    #: The newest job that was made by running this one again; None when there is none, or it was not asked for.
    retried_as: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether the job has ended, for good."""
        return self.status in TERMINAL

    @property
    def cancelling(self) -> bool:
        """Whether a cancel was asked for and has not taken effect yet."""
        return self.cancel_requested_at is not None and not self.terminal

    @property
    def claim(self) -> Claim:
        """What the worker that just claimed this job holds."""
        if self.worker_id is None:
            raise ValueError(f"job {self.id} has no owner")
        return Claim(self.id, self.attempt, self.worker_id)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Job:
        """Decode a row of the job table; columns that are JSON text become values."""
        values: dict[str, Any] = dict(zip(_COLUMNS, _values_of(row), strict=True))
        values["status"] = Status(values["status"])
        values["own_work"] = bool(values["own_work"])
        values["params"] = json.loads(values["params"])
        values["tags"] = tuple(_list(values["tags"]))
        values["result"] = _object(values["result"])
        values["error"] = _object(values["error"])
        values["outputs"] = tuple(Output(**item) for item in _list(values["outputs"]))
        for name in _OF_READS:
            values[name] = row.get(name)
        job = object.__new__(cls)
        vars(job).update(values)
        return job


#: What only some reads tell.
_OF_READS = ("ahead", "retried_as")
#: What a row always has; read in one go, since a job is read twice in its life at the least.
_COLUMNS = tuple(f.name for f in dataclasses.fields(Job) if f.name not in _OF_READS)
_values_of = operator.itemgetter(*_COLUMNS)


def _list(text: str) -> list[Any]:
    return [] if text == "[]" else json.loads(text)


def _object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else {} if text == "{}" else json.loads(text)
