"""What requests may say. Every model refuses fields it does not know."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from shared.job import TERMINAL, Level, Phase, Status
from shared.mail_place import ADDRESS
from shared.text import plain
from shared.types import JOB_TYPES, PROGRAM_TYPE

#: One file, whole: what local disks and S3 multipart uploads both take, and more than a day of 24-bit stereo sound.
MAX_UPLOAD_BYTES = 20 * 10**9
#: Jobs in one request: as many as fit into one database transaction without holding up others.
MAX_JOBS_PER_REQUEST = 500
#: Moments beyond cannot be told in four digits of a year, wherever in the world the zone of a request is.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def _file_name(text: str) -> str:
    if "/" in text or "\\" in text:
        raise ValueError("is a path; give the file's name alone")
    return plain(text)


def _job_type(name: str) -> str:
    if name not in JOB_TYPES and not re.fullmatch(PROGRAM_TYPE, name):
        raise ValueError(f"there is no job type {name!r}; choose one of {', '.join(JOB_TYPES)}")
    return name


def _unfinished(status: Status) -> Status:
    if status in TERMINAL:
        raise ValueError(f"{status} jobs have ended; only unfinished ones can be cancelled")
    return status


def _failed(status: Status) -> Status:
    if status not in {Status.FAILED, Status.DEAD_LETTER}:
        raise ValueError("many at once are run again when they are failed or dead_letter; retry others one by one")
    return status


def _link(url: str) -> str:
    if not re.fullmatch(rf"https?://[^\s/?#@]+(/[^\s]*)?|mailto:{ADDRESS}", url):
        raise ValueError("must be an http(s) URL without a user name, or mailto: and one address")
    return plain(url)


def _dated(text: str) -> str:
    """Bare numbers are refused: whether they count seconds or milliseconds is anybody's guess."""
    if re.fullmatch(r"[-+.\d]*[eE]?[-+.\d]*", text):
        raise ValueError("must be ISO 8601 with a zone, such as 2026-11-22T10:00:00Z")
    return text


def _tellable(moment: datetime) -> datetime:
    if not _FIRST <= moment < _LAST:
        raise ValueError("must lie in the years 1970 to 9998")
    return moment


#: A built-in type, or a registered program: which of those there are is known by the deployment.
JobTypeName = Annotated[
    str,
    AfterValidator(_job_type),
    Field(json_schema_extra={"anyOf": [{"enum": list(JOB_TYPES)}, {"pattern": f"^{PROGRAM_TYPE}$"}]}),
]
Moment = Annotated[AwareDatetime, AfterValidator(_tellable)]
Tag = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(plain)]
ErrorCode = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(plain)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=16)]
Priority = Annotated[
    int, Field(ge=-100, le=100, description="Higher is claimed first; equal ones in order of arrival.")
]
ChildKey = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Names a child among its siblings; a number when left out.",
    ),
]


class Body(BaseModel):
    """The JSON body of a request."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class Query(BaseModel):
    """The query of a request's URL."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class _JobFields(Body):
    type: JobTypeName = Field(description="One of GET /api/job-types.")
    params: dict[str, Any] = Field(default={}, description="Parameters of that type; see its schema.")
    priority: Priority = 0
    max_failures: Annotated[int, Field(ge=1, le=10)] | None = Field(
        default=None, description="Failures that end the job in dead_letter; the type's own when left out."
    )
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Longest run of one attempt in seconds; may only lower the type's own."
    )
    children: tuple[ChildRequest, ...] = Field(
        default=(), description="Jobs that belong to this one; it ends when they have."
    )
    on_child_failure: Literal["fail", "continue"] | None = Field(
        default=None, description="Whether one failed child ends all; the type's own when left out."
    )
    tags: Tags = ()
    webhook_url: Annotated[str, Field(max_length=2048), AfterValidator(_link)] | None = Field(
        default=None, description="Who is told when the job has ended: an http(s) URL, or `mailto:` and an address."
    )


class ChildRequest(_JobFields):
    """A job inside another's request."""

    phase: Phase = "core"
    child_key: ChildKey | None = None


class JobRequest(_JobFields):
    """A job, or a whole family of jobs, to be done."""

    run_at: Moment | None = Field(default=None, description="ISO 8601 with a zone; now when left out.")
    parent_id: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="An unfinished job that this one joins as a child."
    )
    phase: Phase | None = Field(default=None, description="With parent_id only; core when left out.")
    child_key: ChildKey | None = None


class JobPatch(Body):
    """Changes to a job that has not started; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    priority: Priority | None = None
    run_at: Moment | None = None
    tags: Tags | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.priority is None and self.run_at is None and self.tags is None:
            raise ValueError("give at least one of priority, run_at and tags")
        return self


class JobSelection(Body):
    """Many jobs at once: filters add up, and nothing is taken for everything unless `all` says so."""

    status: Status | None = None
    type: JobTypeName | None = None
    tag: Tag | None = None
    text: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(plain)] | None = Field(
        default=None, description="Part of the name, the title or the id; capitals do not matter."
    )
    since: Moment | None = Field(default=None, description="Created then or later: ISO 8601 with a zone.")
    error: ErrorCode | None = Field(default=None, description="The code of the failure, such as `out_of_disk`.")
    all: bool = Field(default=False, description="True takes every job; give it instead of a filter.")

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        filters = [self.status, self.type, self.tag, self.text, self.since, self.error]
        if self.all == any(one is not None for one in filters):
            raise ValueError("give at least one of status, type, tag, text, since and error, or `all`: true alone")
        return self


class CancelSelection(JobSelection):
    """Unfinished jobs to cancel."""

    status: Annotated[Status, AfterValidator(_unfinished)] | None = None
    limit: int = Field(default=500, ge=1, le=500, description="Jobs of one batch.")


class RetrySelection(JobSelection):
    """Failed jobs to run again."""

    status: Annotated[Status, AfterValidator(_failed)] | None = Field(
        default=None, description="`failed` or `dead_letter`; both when left out."
    )
    limit: int = Field(default=100, ge=1, le=100, description="Jobs of one batch.")
    cursor: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="`next_cursor` of the batch before."
    )


class ScheduleRequest(Body):
    """Jobs that are made again and again."""

    cron: str = Field(
        max_length=100,
        description="Minute, hour, day of month, month, day of week, in UTC: `0 3 * * *` is every day at 3:00.",
    )
    type: JobTypeName = Field(description="One of GET /api/job-types.")
    params: dict[str, Any] = Field(default={}, description="Parameters of that type; sources must be links.")
    paused: bool = Field(default=False, description="True: it makes no jobs until it is false.")


class SchedulePatch(Body):
    """Whether a schedule makes jobs."""

    paused: bool


class TypePatch(Body):
    """How jobs of a type are taken; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    paused: bool | None = Field(default=None, description="True: no worker takes a job of this type until it is false.")
    max_running: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Jobs of this type that run at once, over all workers; null for any number."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.paused is None and "max_running" not in self.model_fields_set:
            raise ValueError("give at least one of paused and max_running")
        return self


class UploadRequest(Body):
    """A file that is about to be sent."""

    filename: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_file_name)]
    content_type: str = Field(
        max_length=127,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$",
        description="Such as audio/wav, without parameters.",
    )
    size_bytes: int = Field(ge=1, le=MAX_UPLOAD_BYTES, description="Exact size; other bytes are refused.")


class LoginRequest(Body):
    """Somebody at a browser."""

    key: SecretStr = Field(max_length=1000, description="A key of `spool keys create`, or one of SPOOL_API_TOKENS.")


class NoQuery(Query):
    """No query."""


class JobQuery(Query):
    """How long to wait for a change."""

    wait: float = Field(default=0, ge=0, le=20, allow_inf_nan=False, description="Seconds to wait for a change.")


class JobListQuery(Query):
    """Which jobs to list; filters add up."""

    status: Status | None = None
    type: JobTypeName | None = None
    parent_id: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="A parent's id, or `none` for the top level."
    )
    tag: Tag | None = None
    text: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(plain)] | None = Field(
        default=None, description="Part of the name, the title or the id; capitals do not matter."
    )
    since: Annotated[Moment, BeforeValidator(_dated)] | None = Field(
        default=None, description="Created then or later: ISO 8601 with a zone."
    )
    error: ErrorCode | None = Field(default=None, description="The code of the failure, such as `out_of_disk`.")
    limit: int = Field(default=50, ge=1, le=200)
    cursor: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


class DeleteQuery(Query):
    """Whether to cancel or to delete."""

    purge: bool = Field(default=False, description="Delete an ended job with its outputs.")


class HistoryQuery(Query):
    """Which lines of a job's history to read."""

    after: int = Field(default=0, ge=0, le=2**62, description="The last id already seen.")
    level: Level = Field(default="debug", description="The lowest level to show.")
    limit: int = Field(default=200, ge=1, le=1000)


class LiveQuery(Query):
    """What a live view shows."""

    job: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(default=None, description="One job only.")
    after: int | None = Field(default=None, ge=0, le=2**62, description="Like the header Last-Event-ID, which wins.")


class StatsQuery(Query):
    """How far back the statistics reach."""

    hours: int = Field(default=24, ge=1, le=720)
    count_to: int = Field(default=2000, ge=1, le=2000, description="How far jobs that wait are counted; each is read.")
