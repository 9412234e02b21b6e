"""What the API answers, as far as commands read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from cli.errors import DONE, JOB_FAILED
from shared.job import ENDED_BADLY, TERMINAL


class JobError(TypedDict):
    """Why a job ended badly."""

    code: str
    kind: str
    message: str
    stage: str | None
    attempt: int


class Children(TypedDict):
    """How far a parent's children are."""

    total: int
    done: int
    failed: int


class OutputView(TypedDict):
    """A finished file; `url` works for a limited time."""

    name: str
    content_type: str
    size_bytes: int
    sha256: str
    url: str
    facts: dict[str, Any]


class JobView(TypedDict):
    """A job as the API returns it; times are ISO 8601 text."""

    id: str
    type: str
    name: str | None
    status: str
    cancelling: bool
    stage: str | None
    stage_index: int | None
    stage_count: int | None
    progress: float | None
    progress_current: float | None
    progress_total: float | None
    position: int | None
    eta_s: float | None
    attempt: int
    failures: int
    max_failures: int
    priority: int
    params: dict[str, Any]
    result: dict[str, Any] | None
    error: JobError | None
    outputs: list[OutputView]
    parent_id: str | None
    phase: str | None
    children: Children | None
    retry_of: str | None
    tags: list[str]
    created_at: str
    run_at: str | None
    started_at: str | None
    updated_at: str
    completed_at: str | None
    timeout_s: float
    poll_after_ms: int


class EventView(TypedDict):
    """One line of a job's history."""

    id: int
    job_id: str
    attempt: int
    at: str
    level: str
    kind: str
    message: str
    data: dict[str, Any] | None


class UploadTarget(TypedDict):
    """The request that sends bytes."""

    method: str
    url: str
    headers: dict[str, str]


class UploadPart(UploadTarget):
    """The request that sends `size_bytes` of the file from byte `first` on."""

    number: int
    first: int
    size_bytes: int


class UploadView(TypedDict):
    """Where a file goes: in one request, or in parts."""

    asset: str
    upload: NotRequired[UploadTarget]
    parts: NotRequired[list[UploadPart]]


def is_terminal(job: JobView) -> bool:
    """Whether the job has ended, for good."""
    return job["status"] in TERMINAL


def ended_badly(job: JobView) -> bool:
    """Whether the job ended without its result."""
    return job["status"] in ENDED_BADLY


def exit_code_of(jobs: Sequence[JobView]) -> int:
    """0 when every job completed, 1 when one did not."""
    return JOB_FAILED if any(ended_badly(job) for job in jobs) else DONE
