"""What Spool asks of its queue. Each method is one round trip unless it says otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from shared.job import Claim, Event, Job, Level, Line, NewJob, Outcome, Progress
from shared.keys import ApiKey
from shared.session import Message, NewSession, Session
from shared.store.usage import Usage
from shared.store.values import (
    NO_METRICS,
    Admission,
    Asset,
    Beat,
    Cancelled,
    ClaimRequest,
    Clocks,
    Feed,
    Finished,
    JobFilter,
    JobPage,
    Owned,
    Pruned,
    Retried,
    Schedule,
    Sent,
    Sources,
    Stats,
    Steering,
    Upkeep,
    Visit,
    Webhook,
    Worker,
)


class Watch(Protocol):
    """Tells when the queue may have changed."""

    #: Who waits for less than this may never hear of a change.
    look_s: float

    def wait(self, timeout_s: float) -> bool:
        """Return True when something changed, False when the time was up."""

    def found(self) -> None:
        """Something had really changed; a watch that has to ask the database asks sooner again."""

    def close(self) -> None:
        """Let go of the connection."""


class JobStore(Protocol):
    """The queue. Every write of an owner carries its `Claim` and raises `ClaimLost` when SQL refuses it."""

    #: What this process has asked of the database so far.
    usage: Usage

    # --- clients -------------------------------------------------------------------------------------------
    def create(self, jobs: Sequence[NewJob]) -> tuple[Job, bool]:
        """Insert a job, or a parent followed by its descendants, all or none; repeats are safe.

        Returns the first job and whether it is new: False when its idempotency key was there before. A repeat of the
        same id is answered as the first time.
        Raises `Conflict` when the key belongs to another request, or when the parent takes no more children.
        """

    def get(self, job_id: str) -> Job | None:
        """A job with its place in the queue and, while it waits, its estimated time to the end."""

    def list(self, where: JobFilter, *, limit: int, before_seq: int | None = None) -> JobPage:
        """Jobs newest first. Examines at most 2,000 rows."""

    def patch(
        self, job_id: str, *, priority: int | None = None, run_at: int | None = None, tags: Sequence[str] | None = None
    ) -> Job:
        """Change a job that has not started. Raises `NotFound`, or `Conflict` when it has."""

    def cancel(self, job_id: str) -> Job:
        """Cancel, or ask the owner to; an ended job is returned as it is. Raises `NotFound`."""

    def retry(self, job_id: str, *, key: str | None = None) -> tuple[Job, bool]:
        """Run an ended job again as a new one; a family is rebuilt whole, keeping what completed (two round trips).

        Returns the job and whether it is new: False when the idempotency key had made it before.
        Raises `NotFound`, or `Conflict` unless it ended badly.
        """

    def cancel_matching(self, where: JobFilter, *, limit: int) -> Cancelled:
        """Cancel, or ask the owners of, at most `limit` unfinished jobs; a job is counted once, when that happens."""

    def retry_matching(self, where: JobFilter, *, limit: int, before_seq: int | None = None) -> Retried:
        """Run those again that failed, at most `limit` of them, families as a whole, each once (two round trips)."""

    def steer(self, job_type: str, *, paused: bool | None, max_running: int | None, limiting: bool) -> Steering:
        """Pause or resume a job type (None: as it is) and, with `limiting`, limit it (None: any number may run)."""

    def purgeable(self, job_id: str) -> Sequence[str]:
        """The ids of an ended job and its descendants, whose files go before their rows. Raises as `purge` does."""

    def purge(self, job_id: str) -> None:
        """Delete an ended job with its children and their history (two round trips).

        Raises `NotFound`, or `Conflict` while one runs or when another job uses its files.
        """

    def children(self, job_id: str) -> Sequence[Job]:
        """The children of a job by phase, then in order of creation."""

    def events(
        self, job_id: str | None, *, after: int = 0, limit: int = 500, level: Level = "debug"
    ) -> Sequence[Event]:
        """History with id > after, oldest first, of one job or of all."""

    def last_event_id(self) -> int:
        """The id of the newest event, 0 when there is none: where a live view begins."""

    def running(self) -> Sequence[Job]:
        """Every running job, and the parents that wait for one, for live views."""

    def stats(self, *, hours: int = 24, count_to: int = 2000) -> Stats:
        """Counts, ages and the tally of the last hours; of jobs that wait, at most `count_to` are read."""

    # --- schedules -----------------------------------------------------------------------------------------
    def schedules(self) -> Sequence[Schedule]:
        """Every schedule, by name."""

    def put_schedule(self, schedule: Schedule, *, paused: bool) -> Schedule:
        """Make a schedule, or change the one of that name; what it has done so far stays."""

    def remove_schedule(self, name: str) -> None:
        """Make no more jobs of it. Raises `NotFound`."""

    def run_schedule(self, schedule: Schedule, job: NewJob, *, next_due_at: int | None) -> Job | None:
        """Make its job: now where `next_due_at` is None, else for the time `due_at`, which only one caller gets.

        None when another had it, when the schedule has changed, or when the job before is unfinished.
        """

    def upkeep(self) -> Sequence[Upkeep]:
        """When each duty of maintenance was last done."""

    def vacuum(self, pages: int) -> int | None:
        """Give up to so many unused pages back to the disk; returns how many are left, None where a server does it.

        Raises `Conflict` where the file cannot shrink while it is in use.
        """

    def integrity(self) -> Sequence[str]:
        """What is wrong with the database, in sentences; reads every row."""

    def kept_outputs(self, job_ids: Sequence[str], *, ended_before_s: float) -> dict[str, frozenset[str] | None]:
        """The keys of the files of jobs, by id; None for one that is unfinished or has ended less long ago."""

    # --- sessions ------------------------------------------------------------------------------------------
    def create_session(self, session: NewSession, turn: NewJob | None = None) -> tuple[Session, bool]:
        """Begin a session, with its first turn when there is one; repeats are safe.

        Returns the session and whether it is new. Raises `Conflict` when its key belongs to another request.
        """

    def session(self, session_id: str) -> Session | None:
        """A session with its newest turn and the last that was said."""

    def sessions(self, *, limit: int, before_place: int | None = None) -> Sequence[Session]:
        """Sessions, the last used first."""

    def messages(
        self, session_id: str, *, limit: int, after: int | None = None, before: int | None = None
    ) -> Sequence[Message]:
        """What was said, oldest first: with id > `after`, or the newest ones with id < `before`, or the newest."""

    # --- assets --------------------------------------------------------------------------------------------
    def add_asset(self, asset: Asset) -> Asset:
        """Remember an upload that is about to begin; repeats are safe."""

    def asset_ready(self, asset_id: str, *, sha256: str | None) -> Asset:
        """The bytes are all there. Raises `NotFound`."""

    def asset(self, asset_id: str) -> Asset | None:
        """An upload by id."""

    def sources(
        self,
        asset_ids: Sequence[str] = (),
        job_ids: Sequence[str] = (),
        *,
        parent_id: str | None = None,
        child_keys: Sequence[str] = (),
    ) -> Sources:
        """What there is of these uploads, jobs and children of a parent, in one round trip; in none for nothing."""

    def give_up_asset(self, asset_id: str) -> None:
        """No job may begin to need an upload any more: its file goes next, then `forget_asset`.

        Raises `Conflict` while an unfinished job needs it.
        """

    def forget_asset(self, asset_id: str) -> None:
        """Forget an upload that was given up."""

    # --- access --------------------------------------------------------------------------------------------
    def add_key(self, key: ApiKey) -> ApiKey:
        """Let a key in; repeats are safe. Raises `Conflict` when its name has two live keys."""

    def api_keys(self) -> Sequence[ApiKey]:
        """Every key there ever was, oldest first."""

    def revoke_key(self, key_id: str) -> ApiKey:
        """Shut a key out, for good; one that was revoked before stays as it was. Raises `NotFound`."""

    def admitting(self, admission: Admission) -> JobStore:
        """This queue for one request: its batches also carry what `admission` says, at no round trip of their own.

        A write over a limit raises `RateLimited` and leaves nothing.
        """

    # --- owners --------------------------------------------------------------------------------------------
    def claim(self, request: ClaimRequest) -> Job | None:
        """Own the next job of the worker's types, or None. Also moves due jobs to pending."""

    def heartbeat(
        self,
        worker: Worker,
        beats: Sequence[Beat],
        *,
        lease_s: float,
        given_up: Collection[str] = (),
        metrics: Mapping[str, Any] = NO_METRICS,
    ) -> Sequence[Owned]:
        """Renew leases, write progress and lines, for all running jobs at once; what is missing is lost.

        `given_up` are tokens of the worker's claims on which nothing of it works: their jobs go back at no cost.
        `metrics` are what the worker counted since its start (JSON), kept with it for `GET /metrics`.
        """

    def leave(self, worker_id: str) -> None:
        """The worker ends: it is no longer counted among those that work."""

    def control(self, worker_id: str) -> Sequence[Owned]:
        """Which jobs the worker owns and which of them are to be cancelled; writes nothing."""

    def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        lines: Sequence[Line] = (),
        progress: Progress = Progress(),  # noqa: B008 - frozen
        next: ClaimRequest | None = None,
    ) -> Finished:
        """End an attempt and, with `next`, claim another job in the same round trip. Raises `ClaimLost`.

        `lines` and `progress` are what no heartbeat has carried yet.
        """

    def release(self, claim: Claim, *, lines: Sequence[Line] = ()) -> Job:
        """Give a job back unharmed: it costs no failure. Raises `ClaimLost`."""

    def add_children(self, claim: Claim, children: Sequence[NewJob], *, visit: Visit | None = None) -> Sequence[Job]:
        """Children of a running job, once per `child_key`; one whose item (`once`) is another parent's is left out.

        `visit` is remembered with them. Raises `ClaimLost`, or `Conflict` (a phase that passed).
        """

    def inputs(self, claim: Claim, job_ids: Sequence[str], child_keys: Sequence[str]) -> Sources:
        """The jobs, and the children of the running job's own parent, whose files it reads. Raises `ClaimLost`."""

    def feed(self, caller: str, url: str) -> Feed | None:
        """What was said of a source of `collect` when it was last read."""

    def seen(self, caller: str, items: Sequence[str]) -> frozenset[str]:
        """Those of the items that a job takes care of, or that were passed over."""

    # --- webhooks ------------------------------------------------------------------------------------------
    def claim_webhooks(self, *, limit: int, lease_s: float) -> Sequence[Webhook]:
        """Notifications that are due; nobody else gets them for `lease_s`, also when the reply is lost."""

    def settle_webhooks(self, sent: Sequence[Sent], *, disabled_s: float) -> None:
        """Write down what came of tries; of those that another worker has taken over nothing is written."""

    # --- janitor -------------------------------------------------------------------------------------------
    def reap(self) -> Sequence[Job]:
        """Take jobs whose lease has run out from their owners; each costs its job one failure."""

    def tend(self) -> None:
        """Promote due jobs and finish what a family still owes (phases, cascades, settled parents)."""

    def prunable(self, *, older_than_s: float, limit: int = 100) -> Pruned:
        """Ended jobs and assets nobody needs, oldest first, from where the last walk stopped."""

    def prune(self, pruned: Pruned) -> int:
        """Delete those rows and their history, and workers unheard of for a day; returns how many jobs went."""

    # --- plumbing ------------------------------------------------------------------------------------------
    def migrate(self) -> Sequence[str]:
        """Apply the migrations that are missing, under a lock; returns their names."""

    def pending_migrations(self) -> Sequence[str]:
        """The migrations that this database lacks."""

    def copy_to(self, path: Path) -> None:
        """Write the queue, as it is at one moment, to a new SQLite file (reads every row; many round trips)."""

    def watch(self) -> Watch:
        """A watch on the queue, to be used by one thread."""

    def clocks(self) -> Clocks:
        """The database's clock, beside those of the workers' hosts."""

    def check(self) -> int:
        """Read the database's clock (milliseconds UTC). Raises `Unavailable`, saying how to mend it."""

    def close(self) -> None:
        """Let go of all connections."""
