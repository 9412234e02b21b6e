"""What answers say: a row of the queue as the JSON that clients rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.job import Event, EventKind, FailureKind, Job, Level, Output, Phase, Status
from shared.storage.protocol import UploadPart
from shared.store.values import Asset, AssetState

#: Beyond this many a job's place is not counted.
MAX_POSITION = 100
_POLL_MS = {Status.RUNNING: 1000, Status.RETRYING: 2000, Status.WAITING: 2000, Status.WAITING_CHILDREN: 2000}


class View(BaseModel):
    """One kind of answer."""

    model_config = ConfigDict(defer_build=True, frozen=True)


Time = Field(json_schema_extra={"format": "date-time"}, description="ISO 8601, UTC, milliseconds.")


class ErrorView(View):
    """Why a job ended badly, or why its last attempt did."""

    code: str
    kind: FailureKind
    message: str
    stage: str | None
    attempt: int


class OutputView(View):
    """A finished file. In a job, `url` is stable; from `/outputs` it is signed and ends."""

    name: str
    content_type: str
    size_bytes: int
    sha256: str
    url: str
    facts: dict[str, Any]


class ChildrenView(View):
    """How far the children are."""

    total: int
    done: int
    failed: int


class JobView(View):
    """A job."""

    id: str
    type: str
    name: str | None = Field(description="What it works on: the uploaded file, or the end of the link.")
    status: Status
    cancelling: bool = Field(description="A cancel was asked for and has not taken effect yet.")
    stage: str | None
    stage_index: int | None
    stage_count: int | None
    progress: float | None = Field(
        ge=0,
        le=100,
        description="Percent of the stage, or of all children of a parent without work of its own; null where unknown.",
    )
    progress_current: float | None
    progress_total: float | None
    position: int | None = Field(
        description="1 is claimed next, in reads and lists; null when not pending, or beyond 100."
    )
    position_at_least: int | None = Field(default=None, description="Only there when position is beyond 100.")
    eta_s: int | None
    attempt: int
    failures: int
    max_failures: int
    priority: int
    params: dict[str, Any]
    result: dict[str, Any] | None
    error: ErrorView | None
    outputs: list[OutputView]
    parent_id: str | None
    phase: Phase | None
    child_key: str | None
    children: ChildrenView | None
    retry_of: str | None
    retried_as: str | None = Field(description="The newest job made by running this one again, in reads and lists.")
    session_id: str | None = Field(description="The session whose turn it is.")
    tags: list[str]
    created_at: str = Time
    run_at: str | None = Time
    started_at: str | None = Time
    updated_at: str = Time
    completed_at: str | None = Time
    timeout_s: float
    poll_after_ms: int = Field(description="When it is worth asking again.")


class JobListView(View):
    """A page of jobs, newest first. A page may be short and still have a next one."""

    items: list[JobView]
    next_cursor: str | None


class JobsView(View):
    """Jobs."""

    items: list[JobView]


class OutputsView(View):
    """Finished files with URLs that end."""

    items: list[OutputView]


class EventView(View):
    """One line of a job's history."""

    id: int
    job_id: str
    attempt: int
    at: str = Time
    level: Level
    kind: EventKind
    message: str
    data: dict[str, Any] | None


class HistoryView(View):
    """Lines of history, oldest first; continue with `after` = the last id."""

    items: list[EventView]


class UploadTargetView(View):
    """The request that sends the bytes."""

    method: str
    url: str
    headers: dict[str, str]


class UploadPartView(UploadTargetView):
    """The request that sends one part: `size_bytes` of the file from byte `first` on."""

    number: int
    first: int
    size_bytes: int


class UploadView(View):
    """An asset id for `params.source`, and where its bytes go: in one request, or in parts that are still missing."""

    asset: str
    upload: UploadTargetView | None = Field(default=None, description="Left out when the file goes in parts.")
    parts: list[UploadPartView] | None = Field(
        default=None, description="Left out when it goes in one request. In any order, also at once; then `complete`."
    )


class AssetView(View):
    """An upload."""

    asset: str
    filename: str
    content_type: str
    size_bytes: int
    state: AssetState
    sha256: str | None
    created_at: str = Time
    url: str | None = Field(default=None, description="Signed, and ends; left out until the upload is complete.")


def iso(at_ms: int) -> str:
    """Milliseconds UTC as ISO 8601 with milliseconds and Z."""
    seconds, milliseconds = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"


def job_view(job: Job) -> JobView:
    """The job as clients see it."""
    counted = {"position": None, "position_at_least": MAX_POSITION + 1}
    if job.ahead is None or job.ahead < MAX_POSITION:
        counted = {"position": None if job.ahead is None else job.ahead + 1}
    return JobView(
        id=job.id,
        type=job.type,
        name=job.name,
        status=job.status,
        cancelling=job.cancelling,
        stage=job.stage,
        stage_index=job.stage_index,
        stage_count=job.stage_count,
        progress=_rounded(job.progress, 1),
        progress_current=_rounded(job.progress_current, 3),
        progress_total=_rounded(job.progress_total, 3),
        **counted,
        eta_s=None if job.eta_s is None else round(job.eta_s),
        attempt=job.attempt,
        failures=job.failures,
        max_failures=job.max_failures,
        priority=job.priority,
        params=job.params,
        result=job.result,
        error=None if job.error is None else ErrorView(**job.error),
        outputs=[output_view(output, f"/api/jobs/{job.id}/outputs/{output.name}") for output in job.outputs],
        parent_id=job.parent_id,
        phase=job.phase,
        child_key=job.child_key,
        children=None if job.own_work and not job.children_total else _children(job),
        retry_of=job.retry_of,
        retried_as=job.retried_as,
        session_id=job.session_id,
        tags=list(job.tags),
        created_at=iso(job.created_at),
        run_at=_iso_or_none(job.run_at),
        started_at=_iso_or_none(job.started_at),
        updated_at=iso(job.updated_at),
        completed_at=_iso_or_none(job.completed_at),
        timeout_s=job.timeout_s,
        poll_after_ms=_poll_after_ms(job),
    )


def output_view(output: Output, url: str) -> OutputView:
    """A finished file at a URL."""
    return OutputView(
        name=output.name,
        content_type=output.content_type,
        size_bytes=output.size_bytes,
        sha256=output.sha256,
        url=url,
        facts=output.facts,
    )


def event_view(event: Event) -> EventView:
    """One line of history."""
    return EventView(
        id=event.id,
        job_id=event.job_id,
        attempt=event.attempt,
        at=iso(event.at),
        level=event.level,
        kind=event.kind,
        message=event.message,
        data=event.data,
    )


def part_view(part: UploadPart) -> UploadPartView:
    """One part of a large upload."""
    target = part.target
    return UploadPartView(
        number=part.number,
        first=part.first,
        size_bytes=part.size_bytes,
        method=target.method,
        url=target.url,
        headers=target.headers,
    )


def asset_view(asset: Asset, url: str | None = None) -> AssetView:
    """An upload as its owner sees it, at `url` when that was asked for."""
    assert asset.state != "deleting"
    found = {} if url is None else {"url": url}
    return AssetView(
        **found,
        asset=asset.id,
        filename=asset.filename,
        content_type=asset.content_type,
        size_bytes=asset.size_bytes,
        state=asset.state,
        sha256=asset.sha256,
        created_at=iso(asset.created_at),
    )


def _children(job: Job) -> ChildrenView:
    return ChildrenView(total=job.children_total, done=job.children_done, failed=job.children_failed)


def _poll_after_ms(job: Job) -> int:
    """One second while something moves, longer where nothing can have changed."""
    if job.terminal:
        return 30_000
    if job.status is Status.PENDING:
        return min(5000, 1000 + 50 * (job.ahead or 0))
    return _POLL_MS.get(job.status, 5000)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _iso_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(at_ms)
