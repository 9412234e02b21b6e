"""The tables as SQLModel classes, for sessions, reflection and scripts; a test holds them equal to the migrations.

The store does not import this module: its statements are SQL text, so that a cold start need not load an ORM.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import REAL
from sqlmodel import Field, SQLModel


class JobRow(SQLModel, table=True):
    """One job; see `shared.job.Job` for what the columns mean."""

    __tablename__ = "job"

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    type: str
    name: str | None
    status: str
    priority: int
    phase: str | None
    parent_id: str | None
    child_key: str | None
    depth: int
    retry_of: str | None
    session_id: str | None
    params: str
    result: str | None
    outputs: str
    error: str | None
    stage: str | None
    stage_index: int | None
    stage_count: int | None
    progress: float | None = Field(sa_type=REAL)
    progress_current: float | None = Field(sa_type=REAL)
    progress_total: float | None = Field(sa_type=REAL)
    eta_s: float | None = Field(sa_type=REAL)
    attempt: int
    failures: int
    max_failures: int
    timeout_s: float = Field(sa_type=REAL)
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
    tags: str
    on_child_failure: str
    own_work: int
    open_phase: int
    stopping: int
    child_error: str | None
    children_total: int
    children_done: int
    children_failed: int
    pre_left: int
    core_left: int
    post_left: int
    weight: float = Field(default=1.0, sa_type=REAL)
    overall: float = Field(default=0.0, sa_type=REAL)


class EventRow(SQLModel, table=True):
    """One line of a job's history."""

    __tablename__ = "event"

    id: int | None = Field(default=None, primary_key=True)
    job_id: str
    attempt: int
    line: int | None
    at: int
    level: str
    kind: str
    message: str
    data: str | None
    session_id: str | None


class TallyRow(SQLModel, table=True):
    """Finished jobs of one hour, type and status."""

    __tablename__ = "tally"

    hour: int = Field(primary_key=True)
    type: str = Field(primary_key=True)
    status: str = Field(primary_key=True)
    jobs: int
    wait_ms: int
    run_ms: int
    media_ms: int
    wait_log2: str
    run_log2: str


class WorkerRow(SQLModel, table=True):
    """A worker process and when it was last seen."""

    __tablename__ = "worker"

    id: str = Field(primary_key=True)
    host: str
    version: str
    types: str
    slots: int
    running: int
    metrics: str
    started_at: int
    seen_at: int


class AssetRow(SQLModel, table=True):
    """An uploaded file."""

    __tablename__ = "asset"

    id: str = Field(primary_key=True)
    owner: str
    filename: str
    content_type: str
    size_bytes: int
    state: str
    sha256: str | None
    ledger: str | None
    created_at: int


class FeedRow(SQLModel, table=True):
    """A source of `collect`, and what it said of itself when it was last read."""

    __tablename__ = "feed"

    caller: str = Field(primary_key=True)
    url: str = Field(primary_key=True)
    etag: str | None
    last_modified: str | None
    read_at: int


class SeenRow(SQLModel, table=True):
    """An item that a job takes care of, or that was passed over."""

    __tablename__ = "seen"

    caller: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    job_id: str
    at: int


class ApiKeyRow(SQLModel, table=True):
    """A key that opens the API; the key itself is kept nowhere."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    name: str
    hash: str
    scopes: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


class BudgetRow(SQLModel, table=True):
    """What a caller has spent of its limits."""

    __tablename__ = "budget"

    caller: str = Field(primary_key=True)
    spent_until: int
    waiting: int
    refused: str | None


class WebhookRow(SQLModel, table=True):
    """A notification that is still to be delivered."""

    __tablename__ = "webhook"

    job_id: str = Field(primary_key=True)
    url: str
    due_at: int
    attempts: int
    leased: int


class WebhookGoneRow(SQLModel, table=True):
    """A receiver that answered 410."""

    __tablename__ = "webhook_gone"

    url: str = Field(primary_key=True)
    gone_until: int


class SteeringRow(SQLModel, table=True):
    """A job type that is paused or limited."""

    __tablename__ = "steering"

    type: str = Field(primary_key=True)
    paused_at: int | None
    max_running: int | None
    running: int


class ScheduleRow(SQLModel, table=True):
    """Jobs that are made again and again."""

    __tablename__ = "schedule"

    name: str = Field(primary_key=True)
    cron: str
    type: str
    params: str
    caller: str
    created_at: int
    due_at: int
    paused_at: int | None
    last_at: int | None
    last_job_id: str | None
    skipped: int


class UpkeepRow(SQLModel, table=True):
    """When a duty of maintenance was last done."""

    __tablename__ = "upkeep"

    duty: str = Field(primary_key=True)
    done_at: int
    job_id: str
    result: str


class SessionRow(SQLModel, table=True):
    """A session of an agent."""

    __tablename__ = "session"

    id: str = Field(primary_key=True)
    place: int
    program: str
    title: str | None
    params: str
    caller: str
    idempotency_key: str | None
    request_hash: str | None
    created_at: int
    updated_at: int


TABLES: tuple[Any, ...] = (
    JobRow, EventRow, TallyRow, WorkerRow, AssetRow, FeedRow, SeenRow, ApiKeyRow, BudgetRow, WebhookRow, WebhookGoneRow,
    SteeringRow, ScheduleRow, UpkeepRow, SessionRow,
)  # fmt: skip
