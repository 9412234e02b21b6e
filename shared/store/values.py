"""What goes into the queue's verbs and what comes out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from shared.errors import Quota
from shared.job import Claim, Job, Level, Line, Output, Phase, Progress, Status
from shared.keys import ApiKey

AssetState = Literal["uploading", "ready"]
NO_METRICS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process as the queue knows it; `id` is unique per process start."""

    id: str
    host: str
    version: str
    types: tuple[str, ...]
    slots: int


@dataclass(frozen=True, slots=True)
class AtWork:
    """A job that a worker is at. `title` is what a person would call it."""

    id: str
    type: str
    title: str | None
    stage: str | None


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker, when the queue last heard from it (milliseconds UTC), and what it is at by the queue's own account."""

    worker: Worker
    started_at: int
    seen_at: int
    running: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    jobs: tuple[AtWork, ...] = ()


@dataclass(frozen=True, slots=True)
class Clocks:
    """The database's clock (`now`, milliseconds UTC), and how far it was `ahead` of the hosts of those who own jobs, at
    the least, when each was heard of last; None when nobody owns one."""

    now: int
    ahead: int | None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker tells about one running job: progress, and the lines written since the last beat."""

    claim: Claim
    progress: Progress = field(default_factory=Progress)
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Owned:
    """One job that the queue says this worker owns."""

    claim: Claim
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Asks for one job. `token` is fresh per try and kept over repeats, which makes a repeat safe."""

    worker: Worker
    token: str
    lease_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The job as its own finish left it, and the next one claimed in the same round trip."""

    job: Job
    next: Job | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; None means any. `parent_id` may be the word `none`: top level only.

    `text` is looked for in names, titles and ids, without regard to case; `since` is milliseconds UTC of creation;
    `error` is the code of the failure.
    """

    status: Status | None = None
    type: str | None = None
    parent_id: str | None = None
    tag: str | None = None
    text: str | None = None
    since: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page, newest first. `next_seq` continues it; a page may be short and still have one."""

    items: tuple[Job, ...]
    next_seq: int | None


def bucket_ms(bucket: int) -> int:
    """The upper end of a histogram's bucket: 128 ms for the first, twice as much for each next one."""
    return 128 << bucket


@dataclass(frozen=True, slots=True)
class Tally:
    """Finished jobs of one hour, type and status. Histograms count by powers of two: see `bucket_ms`."""

    hour: int
    type: str
    status: Status
    jobs: int
    wait_ms: int
    run_ms: int
    media_ms: int
    wait_log2: dict[int, int]
    run_log2: dict[int, int]


@dataclass(frozen=True, slots=True)
class Steering:
    """A job type that is paused or limited: since when, how many may run at once over all workers, how many do."""

    type: str
    paused_at: int | None = None
    max_running: int | None = None
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Jobs that are made again and again, at the times of `cron` (UTC), the next one at `due_at`.

    `skipped` times came while the job before was unfinished. `now` is when this was read, on the database's clock.
    """

    name: str
    cron: str
    type: str
    params: dict[str, Any]
    caller: str
    due_at: int
    created_at: int = 0
    paused_at: int | None = None
    last_at: int | None = None
    last_job_id: str | None = None
    skipped: int = 0
    now: int = 0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """When a duty of maintenance was last done, and with what result; `now` is when this was read."""

    duty: str
    done_at: int
    job_id: str
    result: dict[str, Any]
    now: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a batch of cancels did: jobs that ended, jobs that were asked to stop, and whether more may match."""

    cancelled: int
    stopping: int
    more: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """What a batch of retries did: new jobs, jobs that match but are run again already or with another, and where the
    next batch begins."""

    retried: int
    skipped: int
    next_seq: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """The queue at a glance. Unfinished jobs are counted as far as was asked; finished ones come from the tally."""

    at: int
    unfinished: dict[tuple[str, Status], int]
    oldest_pending_at: int | None
    tallies: tuple[Tally, ...]
    workers: tuple[WorkerSeen, ...]
    steering: tuple[Steering, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """An uploaded file. One that is being deleted is there for nobody but who deletes it."""

    id: str
    owner: str
    filename: str
    content_type: str
    size_bytes: int
    state: AssetState | Literal["deleting"]
    sha256: str | None = None
    created_at: int = 0

    @property
    def key(self) -> str:
        """Where storage keeps it."""
        return f"uploads/{self.id}"


@dataclass(frozen=True, slots=True)
class Made:
    """Another job, as far as one that reads its files has to know it."""

    id: str
    name: str | None
    phase: Phase | None
    child_key: str | None
    status: Status
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """What there is of what jobs want to read: uploads and jobs by id, a parent's children by their keys."""

    assets: Mapping[str, Asset] = field(default_factory=dict)
    jobs: Mapping[str, Made] = field(default_factory=dict)
    children: Mapping[str, Made] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one step of pruning found: ids whose rows go next (their files first), and where the walk continues."""

    job_ids: tuple[str, ...]
    asset_ids: tuple[str, ...]
    walked_to: int
    session_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """What a server said of a source when it was last read, for asking whether it has changed since."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """One reading of a source: what it said of itself, and items that are taken care of without a child."""

    caller: str
    url: str
    feed: Feed
    passed_over: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Webhook:
    """A notification that is to be sent now: its `attempts`-th try. `job` is what it tells; None when that was deleted.

    `gone` says that its receiver answered 410 not long ago.
    """

    job_id: str
    url: str
    attempts: int
    gone: bool
    job: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a try, as the job's history tells it. `after_s` None: it is over, well or not.

    `gone`: the receiver wants no more.
    """

    webhook: Webhook
    level: Level
    message: str
    data: dict[str, Any]
    after_s: float | None = None
    gone: bool = False


@dataclass(slots=True)
class Admission:
    """What one request costs its caller, and what the queue answers to that, which comes with the request's own batch.

    A limit of 0 is none. `key_id` is given when it is time to note that the key is used, `wants_keys` when it is time
    to read the keys again.
    """

    caller: str
    writes_per_minute: int = 0
    max_waiting: int = 0
    key_id: str | None = None
    wants_keys: bool = False
    quota: Quota | None = None
    keys: tuple[ApiKey, ...] | None = None
    key_noted: bool = False

    @property
    def carries(self) -> bool:
        """Whether there is anything to take along."""
        return bool(self.writes_per_minute or self.max_waiting or self.key_id or self.wants_keys)
