"""The job store over any SQL database that runs a batch of statements atomically."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from shared.errors import ClaimLost, Conflict, Invalid, NotFound
from shared.job import (
    ENDED_BADLY,
    LEVELS,
    MAX_DEPTH,
    PHASES,
    RETRIED,
    Claim,
    Event,
    Job,
    Level,
    Line,
    NewJob,
    Outcome,
    Progress,
    Status,
)
from shared.keys import MAX_LIVE, ApiKey
from shared.session import Message, NewSession, Session
from shared.store import feeds, integrity, schedules, sessions, steering, webhooks
from shared.store import statements as sql
from shared.store.protocol import (
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
    JobStore,
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
    Watch,
    Webhook,
    Worker,
)
from shared.store.rows import (
    Row,
    again,
    beat_json,
    names_json,
    new_row,
    progress_row,
    sent_json,
    to_asset,
    to_key,
    to_message,
    to_schedule,
    to_session,
    to_sources,
    to_tally,
    to_upkeep,
    to_webhook,
    to_worker_seen,
)
from shared.store.usage import Usage
from shared.types import JOB_TYPES

#: Named parameters of a statement.
Bound = Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with named parameters (text, integer, float or None).

    `only_if` is a query without parameters: where it finds nothing, the statement would change nothing, and is not run.
    """

    text: str
    params: Bound = field(default_factory=dict)
    only_if: str | None = None


_ROUND = (sql.CASCADE, sql.ADVANCE, sql.SETTLE)
#: What a family still owes after one of its jobs moved: stop children, open phases, settle parents, level by level.
#: The last round says what it moved, since there may be more after it.
_TEND = (
    *(Statement(text, only_if=sql.OWED) for _ in range(MAX_DEPTH - 1) for text in _ROUND),
    *(Statement(f"{text} RETURNING id", only_if=sql.OWED) for text in _ROUND),
)
#: A family is at rest after this many batches more; if one ever is not, the janitor goes on with it.
_MOST_BATCHES = len(PHASES) * MAX_DEPTH
_NEWEST = 2**62
#: Unfinished jobs that are neither in the queue nor running have an index of their own.
_HELD = {Status.SCHEDULED, Status.RETRYING, Status.WAITING, Status.WAITING_CHILDREN}


class SqlJobStore(ABC):
    """Implements `JobStore` with the statements of `shared/store/statements.py`.

    An adapter says how a batch runs: `_run` executes all statements in one transaction and one round trip and
    returns each one's rows; `_read` the same without a write lock.
    """

    usage: Usage
    #: The job types of this deployment, for the places of waiting jobs.
    types: Sequence[str] = tuple(JOB_TYPES)

    @abstractmethod
    def _run(self, batch: Sequence[Statement]) -> list[list[Row]]:
        """Run a batch that writes, all or nothing."""

    @abstractmethod
    def _read(self, batch: Sequence[Statement]) -> list[list[Row]]:
        """Run a batch that only reads, in one snapshot."""

    def _run_families(self, first: Sequence[Statement], last: Sequence[Statement] = ()) -> list[list[Row]]:
        """Run `first`, then what families owe, then `last`; again from there in the rare case that they owe more."""
        results = self._run([*first, *_TEND, *last])
        head, rest = results[: len(first)], results[len(first) :]
        for _ in range(_MOST_BATCHES):
            if not any(rest[len(_TEND) - len(_ROUND) : len(_TEND)]):
                break
            rest = self._run([*_TEND, *last])
        return [*head, *rest[len(_TEND) :]]

    @abstractmethod
    def migrate(self) -> Sequence[str]:
        """Apply the migrations that are missing."""

    @abstractmethod
    def pending_migrations(self) -> Sequence[str]:
        """The migrations that this database lacks."""

    @abstractmethod
    def copy_to(self, path: Path) -> None:
        """Write the queue, as it is at one moment, to a new SQLite file."""

    @abstractmethod
    def watch(self) -> Watch:
        """A watch on the queue."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all connections."""

    # --- clients -------------------------------------------------------------------------------------------
    def create(self, jobs: Sequence[NewJob]) -> tuple[Job, bool]:
        """Insert a job, or a parent followed by its descendants, all or none; repeats are safe."""
        root = jobs[0]
        family = len(jobs) > 1 or root.parent_id is not None
        insertions = _insertions(jobs)
        found = Statement(sql.BY_ID_OR_KEY, {"id": root.id, "caller": root.caller, "key": root.idempotency_key})
        rows = (self._run_families(insertions, [found]) if family else self._run([*insertions, found]))[-1]
        if not rows:
            raise self._refusal(root) if root.session_id is None else self._turn_refusal(root.session_id)
        job = Job.from_row(rows[0])
        if job.id != root.id and job.request_hash != root.request_hash:
            raise Conflict(
                f"The Idempotency-Key was used before for another request (job {job.id}). Use a new key for a new job."
            )
        return job, job.id == root.id

    def _refusal(self, new: NewJob) -> Exception:
        parent = self.get(new.parent_id) if new.parent_id else None
        if parent is None:
            return NotFound(f"There is no job {new.parent_id}; give the id of an existing parent, or none.")
        if parent.terminal:
            return Conflict(
                f"Job {parent.id} has ended ({parent.status}); a child can only join while it is unfinished."
            )
        if parent.cancelling or parent.stopping:
            return Conflict(f"Job {parent.id} is stopping and takes no more children.")
        if parent.depth + 1 >= MAX_DEPTH:
            return Conflict(f"Families are at most {MAX_DEPTH} levels deep; make this job a child of a job further up.")
        if new.phase and PHASES.index(new.phase) < parent.open_phase:
            return Conflict(f"Phase {new.phase} of job {parent.id} has passed; it is in {PHASES[parent.open_phase]}.")
        return Conflict(f"Job {parent.id} has another child with the key {new.child_key!r}; choose another child_key.")

    def _turn_refusal(self, session_id: str) -> Exception:
        found = self.session(session_id)
        if found is None or found.turn is None:
            return NotFound(f"There is no session {session_id}; it may have been deleted after its retention time.")
        return Conflict(
            f"Session {session_id} is still at its last message (job {found.turn.job_id}); "
            "wait for its end, or cancel that job, then send this one."
        )

    def get(self, job_id: str) -> Job | None:
        """A job with its place in the queue and, while it waits, its estimated time to the end."""
        rows = self._read([Statement(sql.GET, {"id": job_id, "types": names_json(self.types)})])[0]
        if not rows:
            return None
        row = rows[0]
        job = _seen(row)
        if job.ahead is None or row["queue_run_ms"] is None or not row["queue_slots"] or job.ahead > 100:
            return job
        rounds = job.ahead // row["queue_slots"] + 1
        return replace(job, eta_s=round(rounds * row["queue_run_ms"] / 1000, 1))

    def list(self, where: JobFilter, *, limit: int, before_seq: int | None = None) -> JobPage:
        """Jobs newest first. Examines at most 2,000 rows."""
        top = where.parent_id == "none"
        window = _window(where, top)
        params = {
            "before": _NEWEST if before_seq is None else before_seq,
            **_matching(where),
            "limit": limit + 1,
        }
        filtered = where != JobFilter()
        page, head, *end = self._read(
            [
                Statement(sql.LIST[window], params),
                Statement(sql.HEAD, {"types": names_json(self.types)}),
                *([Statement(sql.LIST_END[window], params)] if filtered else []),
            ]
        )
        jobs = _placed(page, head)
        if len(jobs) > limit:
            return JobPage(jobs[:limit], jobs[limit - 1].seq)
        return JobPage(jobs, end[0][0]["seq"] if filtered and end[0] else None)

    def patch(
        self, job_id: str, *, priority: int | None = None, run_at: int | None = None, tags: Sequence[str] | None = None
    ) -> Job:
        """Change a job that has not started."""
        params = {
            "id": job_id,
            "priority": priority,
            "run_at": run_at,
            "tags": None if tags is None else json.dumps(list(tags)),
        }
        before, _, after = self._run(
            [Statement(sql.ROW, {"id": job_id}), Statement(sql.PATCH, params), Statement(sql.ROW, {"id": job_id})]
        )
        if not before:
            raise _no_job(job_id)
        job = Job.from_row(after[0])
        if job.status not in {Status.SCHEDULED, Status.WAITING, Status.PENDING, Status.RETRYING}:
            raise Conflict(f"Job {job_id} is {job.status}; only a job that has not started can be changed.")
        if run_at is not None and job.status is not Status.SCHEDULED:
            raise Conflict(
                f"Job {job_id} waits for its phase to open; run_at can be set for a job that waits in the queue."
            )
        return job

    def cancel(self, job_id: str) -> Job:
        """Cancel, or ask the owner to; an ended job is returned as it is."""
        target = {"id": job_id}
        rows = self._run_families([Statement(sql.CANCEL, target)], [Statement(sql.ROW, target)])[-1]
        if not rows:
            raise _no_job(job_id)
        return Job.from_row(rows[0])

    def retry(self, job_id: str, *, key: str | None = None) -> tuple[Job, bool]:
        """Run an ended job again as a new one; a family is rebuilt whole, keeping what completed."""
        family = [Job.from_row(row) for row in self._read([Statement(sql.FAMILY, {"id": job_id})])[0]]
        if not family:
            raise _no_job(job_id)
        root, asked = family[0], next(job for job in family if job.id == job_id)
        if asked.status not in ENDED_BADLY:
            raise Conflict(f"Job {job_id} is {asked.status}; only a job that failed or was cancelled can be run again.")
        if root.status not in ENDED_BADLY:
            raise Conflict(
                f"Job {job_id} belongs to job {root.id}, which is {root.status}; wait until that one has ended badly, "
                "then retry it as a whole."
            )
        new, *rest = again(family)
        return self.create([replace(new, idempotency_key=key, request_hash=f"retry {job_id}" if key else None), *rest])

    def cancel_matching(self, where: JobFilter, *, limit: int) -> Cancelled:
        """Cancel, or ask the owners of, at most `limit` unfinished jobs."""
        types = self.types if where.type is None else (where.type,)
        params = {**_matching(where), "types": names_json(types), "limit": limit}
        rows = self._run_families([Statement(steering.CANCEL_MATCHING, params)])[0]
        ended = sum(row["status"] == Status.CANCELLED for row in rows)
        return Cancelled(ended, len(rows) - ended, more=len(rows) == limit)

    def retry_matching(self, where: JobFilter, *, limit: int, before_seq: int | None = None) -> Retried:
        """Run those again that failed, at most `limit` of them, families as a whole, each once."""
        before = _NEWEST if before_seq is None else before_seq
        params = {**_matching(where), "before": before, "limit": limit}
        texts = (sql.PAGE["bad"], sql.LIST_END["bad"], steering.FAMILIES_OF_BAD)
        page, end, rows = self._read([Statement(text, params) for text in texts])
        following = page[-1]["seq"] if len(page) == limit else end[0]["seq"] if end else None
        roots = {row["root"]: [Job.from_row(one) for one in rows if one["root"] == row["root"]] for row in rows}
        made = self._create_again([_once_again(family) for family in roots.values()]) if roots else 0
        return Retried(made, max(0, len(page) - made), following)

    def _create_again(self, families: Sequence[Sequence[NewJob]]) -> int:
        """Insert families in one batch; one that was run again by somebody else meanwhile is left out."""
        ids = json.dumps([family[0].id for family in families])
        insertions = _insertions([job for family in families for job in family])
        return len(self._run_families(insertions, [Statement(steering.THERE, {"ids": ids})])[-1])

    def steer(self, job_type: str, *, paused: bool | None, max_running: int | None, limiting: bool) -> Steering:
        """Pause, resume or limit a job type."""
        params: Bound = {
            "type": job_type,
            "paused": None if paused is None else int(paused),
            "max_running": max_running if limiting else None,
            "limiting": int(limiting),
        }
        rows = self._run([Statement(text, params) for text in (steering.STEER, steering.LET_GO, steering.STEERED)])[-1]
        return Steering(**rows[0]) if rows else Steering(job_type)

    def purgeable(self, job_id: str) -> Sequence[str]:
        """The ids of an ended job and its descendants."""
        rows = self._read([Statement(sql.DESCENDANTS, {"id": job_id})])[0]
        if not rows:
            raise _no_job(job_id)
        if not all(row["ended"] for row in rows):
            raise Conflict(f"Job {job_id} has not ended; cancel it first, then delete it.")
        if any(row["carried"] for row in rows):
            raise Conflict(f"Files of job {job_id} are used by a retry of it; delete the retry first.")
        if any(row["read"] or row["read_at_home"] for row in rows):
            raise Conflict(
                f"Files of job {job_id} are used by another job, or shown by the one it belongs to; "
                "wait for its end, or delete the whole family."
            )
        return [row["id"] for row in rows]

    def purge(self, job_id: str) -> None:
        """Delete an ended job with its children and their history."""
        ids = json.dumps(self.purgeable(job_id))
        steps = (sql.PRUNE_EVENTS, webhooks.PRUNE, sql.PRUNE_JOBS)
        self._run([Statement(text, {"ids": ids}) for text in steps])

    def children(self, job_id: str) -> Sequence[Job]:
        """The children of a job by phase, then in order of creation."""
        family, head = self._read(
            [Statement(sql.CHILDREN, {"id": job_id}), Statement(sql.HEAD, {"types": names_json(self.types)})]
        )
        jobs = _placed(family, head)
        return sorted(jobs, key=lambda job: (PHASES.index(job.phase or "core"), job.seq))

    def events(
        self, job_id: str | None, *, after: int = 0, limit: int = 500, level: Level = "debug"
    ) -> Sequence[Event]:
        """History with id > after, oldest first, of one job or of all."""
        levels = json.dumps(LEVELS[LEVELS.index(level) :])
        params = {"id": job_id, "after": after, "limit": limit, "levels": levels}
        rows = self._read([Statement(sql.EVENTS if job_id is None else sql.EVENTS_OF_JOB, params)])[0]
        return [Event(**{**row, "data": None if row["data"] is None else json.loads(row["data"])}) for row in rows]

    def last_event_id(self) -> int:
        """The id of the newest event, 0 when there is none."""
        return int(self._read([Statement(sql.LAST_EVENT)])[0][0]["id"])

    def running(self) -> Sequence[Job]:
        """Every running job, and the parents that wait for one."""
        jobs, parents = self._read([Statement(sql.RUNNING), Statement(sql.RUNNING_PARENTS)])
        return [_seen(row) for row in (*jobs, *parents)]

    def stats(self, *, hours: int = 24, count_to: int = 2000) -> Stats:
        """Counts, ages and the tally of the last hours; of jobs that wait, at most `count_to` are read."""
        counts, oldest, tallies, workers, steered = self._read(
            [
                Statement(sql.UNFINISHED, {"most": count_to}),
                Statement(sql.OLDEST_PENDING, {"types": names_json(self.types)}),
                Statement(sql.TALLIES, {"hours": hours}),
                Statement(sql.WORKERS),
                Statement(steering.STEERED, {"type": None}),
            ]
        )
        return Stats(
            at=oldest[0]["now"],
            unfinished={(row["type"], Status(row["status"])): row["jobs"] for row in counts},
            oldest_pending_at=oldest[0]["at"],
            tallies=tuple(to_tally(row) for row in tallies),
            workers=tuple(to_worker_seen(row) for row in workers),
            steering=tuple(Steering(**row) for row in steered),
        )

    # --- schedules -----------------------------------------------------------------------------------------
    def schedules(self) -> Sequence[Schedule]:
        """Every schedule, by name."""
        return [to_schedule(row) for row in self._read([Statement(schedules.SCHEDULES)])[0]]

    def put_schedule(self, schedule: Schedule, *, paused: bool) -> Schedule:
        """Make a schedule, or change the one of that name."""
        params: Bound = {
            "name": schedule.name,
            "cron": schedule.cron,
            "type": schedule.type,
            "params": json.dumps(schedule.params),
            "caller": schedule.caller,
            "due_at": schedule.due_at,
            "paused": int(paused),
        }
        return to_schedule(self._run([Statement(schedules.PUT, params), Statement(schedules.SCHEDULE, params)])[1][0])

    def remove_schedule(self, name: str) -> None:
        """Make no more jobs of it."""
        if not self._run([Statement(schedules.REMOVE, {"name": name})])[0]:
            raise NotFound(f"There is no schedule {name}; `spool schedules list` shows them.")

    def run_schedule(self, schedule: Schedule, job: NewJob, *, next_due_at: int | None) -> Job | None:
        """Make its job, once for each of its times."""
        params: Bound = {"name": schedule.name, "due": schedule.due_at, "next": next_due_at, "id": job.id}
        take = Statement(schedules.RUN_NOW if next_due_at is None else schedules.TAKE, params)
        rows = self._run([take, *_insertions([job]), Statement(sql.ROW, {"id": job.id})])[-1]
        return Job.from_row(rows[0]) if rows else None

    def upkeep(self) -> Sequence[Upkeep]:
        """When each duty of maintenance was last done."""
        return [to_upkeep(row) for row in self._read([Statement(schedules.UPKEEP)])[0]]

    def vacuum(self, pages: int) -> int | None:
        """None: a server keeps its own disk."""
        del pages
        return None

    def integrity(self) -> Sequence[str]:
        """What is wrong with the database, in sentences."""
        found = self._read([Statement(text) for text in integrity.CHECKS])
        return [row["wrong"] for rows in found for row in rows]

    def kept_outputs(self, job_ids: Sequence[str], *, ended_before_s: float) -> dict[str, frozenset[str] | None]:
        """The keys of the files of jobs, by id."""
        params: Bound = {"ids": json.dumps(list(job_ids)), "age": int(ended_before_s * 1000)}
        rows = self._read([Statement(schedules.KEPT_OUTPUTS, params)])[0]
        return {
            row["id"]: frozenset(output["key"] for output in json.loads(row["outputs"])) if row["settled"] else None
            for row in rows
        }

    # --- sessions ------------------------------------------------------------------------------------------
    def create_session(self, session: NewSession, turn: NewJob | None = None) -> tuple[Session, bool]:
        """Begin a session, with its first turn when there is one; repeats are safe."""
        about: Bound = {
            "id": session.id,
            "program": session.program,
            "title": session.title,
            "params": json.dumps(session.params),
            "caller": session.caller,
            "key": session.idempotency_key,
            "hash": session.request_hash,
        }
        first = _insertions([turn]) if turn is not None else []
        rows = self._run([Statement(sessions.ADD, about), *first, Statement(sessions.BY_ID_OR_KEY, about)])[-1]
        found = to_session(rows[0])
        if found.id != session.id and found.request_hash != session.request_hash:
            raise Conflict(
                f"The Idempotency-Key was used before for another request (session {found.id}). "
                "Use a new key for a new session."
            )
        return found, found.id == session.id

    def session(self, session_id: str) -> Session | None:
        """A session with its newest turn and the last that was said."""
        rows = self._read([Statement(sessions.ONE, {"id": session_id})])[0]
        return to_session(rows[0]) if rows else None

    def sessions(self, *, limit: int, before_place: int | None = None) -> Sequence[Session]:
        """Sessions, the last used first."""
        params = {"before": _NEWEST if before_place is None else before_place, "limit": limit}
        return [to_session(row) for row in self._read([Statement(sessions.LIST, params)])[0]]

    def messages(
        self, session_id: str, *, limit: int, after: int | None = None, before: int | None = None
    ) -> Sequence[Message]:
        """What was said, oldest first."""
        about: Bound = {"id": session_id, "limit": limit, "after": after, "before": before or _NEWEST}
        if after is not None:
            return [to_message(row) for row in self._read([Statement(sessions.MESSAGES_AFTER, about)])[0]]
        rows = self._read([Statement(sessions.MESSAGES_BEFORE, about)])[0]
        return [to_message(row) for row in reversed(rows)]

    # --- assets --------------------------------------------------------------------------------------------
    def add_asset(self, asset: Asset) -> Asset:
        """Remember an upload that is about to begin; repeats are safe."""
        params = {name: getattr(asset, name) for name in ("id", "owner", "filename", "content_type", "size_bytes")}
        return to_asset(self._run([Statement(sql.ADD_ASSET, params), Statement(sql.ASSET, {"id": asset.id})])[1][0])

    def asset_ready(self, asset_id: str, *, sha256: str | None) -> Asset:
        """The bytes are all there."""
        rows = self._run([Statement(sql.ASSET_READY, {"id": asset_id, "sha256": sha256})])[0]
        if not rows:
            raise NotFound(f"There is no upload {asset_id}; begin with POST /api/uploads.")
        return to_asset(rows[0])

    def asset(self, asset_id: str) -> Asset | None:
        """An upload by id."""
        rows = self._read([Statement(sql.ASSET, {"id": asset_id})])[0]
        return to_asset(rows[0]) if rows else None

    def sources(
        self,
        asset_ids: Sequence[str] = (),
        job_ids: Sequence[str] = (),
        *,
        parent_id: str | None = None,
        child_keys: Sequence[str] = (),
    ) -> Sources:
        """What there is of these uploads, jobs and children of a parent, in one round trip; in none for nothing."""
        if not (asset_ids or job_ids or child_keys):
            return Sources()
        uploads = Statement(sql.ASSETS, {"ids": json.dumps(list(asset_ids))})
        assets, jobs, children = self._read([uploads, *_made(job_ids, child_keys, parent_id=parent_id)])
        return to_sources(jobs, children, assets)

    def save_ledger(self, asset_id: str, ledger: dict[str, Any]) -> None:
        """Keep an analysis with the file it was made from."""
        self._run([Statement(sql.SAVE_LEDGER, {"id": asset_id, "ledger": json.dumps(ledger)})])

    def give_up_asset(self, asset_id: str) -> None:
        """No job may begin to need an upload any more. Raises `Conflict` while an unfinished one does."""
        _, left = self._run([Statement(sql.ASSET_GIVEN_UP, {"id": asset_id}), Statement(sql.ASSET, {"id": asset_id})])
        if left and left[0]["state"] != "deleting":
            raise Conflict(f"Upload {asset_id} is needed by an unfinished job; cancel that job first.")

    def forget_asset(self, asset_id: str) -> None:
        """Forget an upload that was given up and whose file is deleted."""
        self._run([Statement(sql.ASSET_FORGOTTEN, {"id": asset_id})])

    # --- access --------------------------------------------------------------------------------------------
    def add_key(self, key: ApiKey) -> ApiKey:
        """Let a key in; repeats are safe."""
        params: Bound = {
            "id": key.id,
            "name": key.name,
            "hash": key.hash,
            "scopes": json.dumps(key.scopes),
            "most": MAX_LIVE,
        }
        rows = self._run([Statement(sql.ADD_KEY, params), Statement(sql.KEY, {"id": key.id})])[1]
        if not rows:
            raise Conflict(f"{key.name} has {MAX_LIVE} live keys already; revoke one of them first.")
        return to_key(rows[0])

    def api_keys(self) -> Sequence[ApiKey]:
        """Every key there ever was, oldest first."""
        return [to_key(row) for row in self._read([Statement(sql.KEYS)])[0]]

    def revoke_key(self, key_id: str) -> ApiKey:
        """Shut a key out, for good."""
        rows = self._run([Statement(sql.REVOKE_KEY, {"id": key_id})])[0]
        if not rows:
            raise NotFound(f"There is no key {key_id}; `spool keys list` shows them.")
        return to_key(rows[0])

    def admitting(self, admission: Admission) -> JobStore:
        """This queue for one request, whose batches also carry what the request itself costs."""
        from shared.store.admitted import Admitted  # noqa: PLC0415 - it is made of this class

        return Admitted(self, admission)

    # --- owners --------------------------------------------------------------------------------------------
    def claim(self, request: ClaimRequest) -> Job | None:
        """Own the next job of the worker's types, or None. Also moves due jobs to pending."""
        rows = self._run(_claim(request))[-1]
        return Job.from_row(rows[0]) if rows else None

    def heartbeat(
        self,
        worker: Worker,
        beats: Sequence[Beat],
        *,
        lease_s: float,
        given_up: Collection[str] = (),
        metrics: Mapping[str, Any] = NO_METRICS,
    ) -> Sequence[Owned]:
        """Renew leases, write progress and lines, for all running jobs at once; what is missing is lost."""
        lease = int(lease_s * 1000)
        about: Bound = {"worker": worker.id, "beats": json.dumps([beat_json(beat) for beat in beats]), "lease": lease}
        seen: Bound = {
            "worker": worker.id,
            "host": worker.host,
            "version": worker.version,
            "types": names_json(worker.types),
            "slots": worker.slots,
            "running": len(beats),
            "metrics": json.dumps(dict(metrics)),
        }
        back: Bound = {"worker": worker.id, "given_up": names_json(given_up)}
        results = self._run(
            [
                Statement(sql.LINES, about),
                Statement(sql.HEARTBEAT, about),
                *([Statement(sql.RELEASE_GIVEN_UP, back)] if given_up else ()),
                Statement(sql.WORKER_SEEN, seen),
            ]
        )
        return _owned(results[1], worker.id)

    def leave(self, worker_id: str) -> None:
        """The worker ends: it is no longer counted among those that work."""
        self._run([Statement(sql.LEAVE, {"worker": worker_id})])

    def control(self, worker_id: str) -> Sequence[Owned]:
        """Which jobs the worker owns and which of them are to be cancelled; writes nothing."""
        return _owned(self._read([Statement(sql.CONTROL, {"worker": worker_id})])[0], worker_id)

    def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        lines: Sequence[Line] = (),
        progress: Progress = Progress(),  # noqa: B008 - frozen
        next: ClaimRequest | None = None,
    ) -> Finished:
        """End an attempt and, with `next`, claim another job in the same round trip."""
        failure = outcome.failure
        params: Bound = _fence(claim) | {
            "word": outcome.word,
            "retry": int(failure is not None and failure.kind in RETRIED),
            "result": None if outcome.result is None else json.dumps(outcome.result),
            "outputs": json.dumps([asdict(output) for output in outcome.outputs]),
            "error": None if failure is None else json.dumps(failure.as_json(claim.attempt)),
            "last_line": max((line.n for line in lines), default=0),
            **progress_row(progress),
        }
        finish = [*_last_lines(claim, lines, outcome.word), Statement(sql.FINISH, params)]
        confirm = Statement(sql.CONFIRM, {"id": claim.job_id, "finish": params["finish"]})
        results = self._run_families(finish, [confirm, *(_claim(next) if next else ())])
        job = _confirmed(claim, results[len(finish)])
        claimed = results[-1] if next else []
        return Finished(job, Job.from_row(claimed[0]) if claimed else None)

    def release(self, claim: Claim, *, lines: Sequence[Line] = ()) -> Job:
        """Give a job back unharmed: it costs no failure."""
        fence = _fence(claim)
        rows = self._run_families(
            [*_last_lines(claim, lines, "released"), Statement(sql.RELEASE, fence)],
            [Statement(sql.CONFIRM, {"id": claim.job_id, "finish": fence["finish"]})],
        )[-1]
        return _confirmed(claim, rows)

    def add_children(self, claim: Claim, children: Sequence[NewJob], *, visit: Visit | None = None) -> Sequence[Job]:
        """Children of a running job, once per `child_key`, and with them what a visit to a source found."""
        fence = _fence(claim)
        keys = json.dumps([child.child_key for child in children])
        first = [Statement(sql.OWNER, fence), *_visited(claim, children, visit)]
        owner, *_, rows = self._run_families(
            [*first, *(_insertions(children, owner=claim) if children else ())],
            [Statement(sql.CHILDREN_BY_KEY, {"keys": keys, "parent": claim.job_id})],
        )
        if not owner:
            raise _lost(claim)
        there = {row["child_key"] for row in rows}
        if refused := [child for child in children if child.once is None and child.child_key not in there]:
            raise self._refusal(refused[0])
        return [Job.from_row(row) for row in rows]

    def inputs(self, claim: Claim, job_ids: Sequence[str], child_keys: Sequence[str]) -> Sources:
        """The jobs, and the children of the running job's own parent, whose files it reads."""
        owned = Statement(sql.OWNER, _fence(claim))
        owner, jobs, children = self._read([owned, *_made(job_ids, child_keys, child_id=claim.job_id)])
        if not owner:
            raise _lost(claim)
        return to_sources(jobs, children)

    def feed(self, caller: str, url: str) -> Feed | None:
        """What was said of a source when it was last read."""
        rows = self._read([Statement(feeds.FEED, {"caller": caller, "url": url})])[0]
        return Feed(rows[0]["etag"], rows[0]["last_modified"]) if rows else None

    def seen(self, caller: str, items: Sequence[str]) -> frozenset[str]:
        """Those of the items that a job takes care of, or that were passed over."""
        rows = self._read([Statement(feeds.SEEN, {"caller": caller, "items": json.dumps(items)})])[0]
        return frozenset(row["item"] for row in rows)

    # --- webhooks ------------------------------------------------------------------------------------------
    def claim_webhooks(self, *, limit: int, lease_s: float) -> Sequence[Webhook]:
        """Notifications that are due; nobody else gets them for `lease_s`."""
        rows = self._run([Statement(webhooks.CLAIM, {"limit": limit, "lease": int(lease_s * 1000)})])[0]
        return [to_webhook(row) for row in rows]

    def settle_webhooks(self, sent: Sequence[Sent], *, disabled_s: float) -> None:
        """Write down what came of tries; of those that another worker has taken over nothing is written."""
        params: Bound = {
            "sent": json.dumps([sent_json(one) for one in sent]),
            "disabled": int(disabled_s * 1000),
        }
        steps = (webhooks.TOLD, webhooks.GONE, webhooks.AGAIN, webhooks.DONE)
        self._run([Statement(text, params) for text in steps])

    # --- janitor -------------------------------------------------------------------------------------------
    def reap(self) -> Sequence[Job]:
        """Take jobs whose lease has run out from their owners; each costs its job one failure."""
        return [Job.from_row(row) for row in self._run_families([Statement(sql.REAP)])[0]]

    def tend(self) -> None:
        """Promote due jobs and finish what a family still owes."""
        self._run_families([Statement(sql.PROMOTE), Statement(sql.PARENT_TIMEOUT)])

    def prunable(self, *, older_than_s: float, limit: int = 100) -> Pruned:
        """Ended jobs and assets nobody needs, oldest first, from where the last walk stopped."""
        params = {"age": int(older_than_s * 1000), "limit": limit}
        jobs, assets, idle = self._read(
            [Statement(text, params) for text in (sql.PRUNABLE, sql.PRUNABLE_ASSETS, sessions.PRUNABLE)]
        )
        at_the_end = len(jobs) < limit or jobs[-1]["young"]
        return Pruned(
            job_ids=tuple(row["id"] for row in jobs if row["old"]),
            asset_ids=tuple(row["id"] for row in assets),
            walked_to=0 if at_the_end else jobs[-1]["seq"],
            session_ids=tuple(row["id"] for row in idle),
        )

    def prune(self, pruned: Pruned) -> int:
        """Delete those rows and their history; returns how many jobs went."""
        ids = json.dumps(pruned.job_ids)
        gone = self._run(
            [
                Statement(sql.PRUNE_EVENTS, {"ids": ids}),
                Statement(sql.PRUNE_JOBS, {"ids": ids}),
                Statement(webhooks.PRUNE, {"ids": ids}),
                Statement(webhooks.FORGET_GONE),
                Statement(sql.PRUNE_ASSETS, {"ids": json.dumps(pruned.asset_ids)}),
                Statement(sessions.PRUNE, {"ids": json.dumps(pruned.session_ids)}),
                Statement(sql.WALK, {"name": "prune", "seq": pruned.walked_to}),
                Statement(sql.PRUNE_WORKERS),
            ]
        )[1]
        return len(gone)

    def check(self) -> int:
        """Read the database's clock (milliseconds UTC)."""
        return int(self._read([Statement(sql.CLOCK)])[0][0]["now"])

    def clocks(self) -> Clocks:
        """The database's clock, beside those of the workers' hosts."""
        return Clocks(**self._read([Statement(sql.CLOCKS)])[0][0])


def _insertions(jobs: Sequence[NewJob], owner: Claim | None = None) -> list[Statement]:
    fence: Bound = {"attempt": owner.attempt, "worker": owner.worker_id} if owner else {"attempt": None, "worker": None}
    generations: dict[str | None, int] = {}
    for job in jobs:
        generations[job.id] = generations.get(job.parent_id, -1) + 1
    deepest = max(generations.values())
    if deepest >= MAX_DEPTH or (deepest > 0 and jobs[0].parent_id is not None):
        raise Invalid(f"Families are at most {MAX_DEPTH} levels deep, and a child that joins later brings no children.")
    parents = {job.parent_id for job in jobs}
    return [
        Statement(
            sql.INSERT,
            {
                **fence,
                "max_depth": MAX_DEPTH,
                "jobs": json.dumps(
                    [new_row(job, job.id in parents) for job in jobs if generations[job.id] == generation]
                ),
            },
        )
        for generation in range(deepest + 1)
    ]


def _made(
    job_ids: Sequence[str], child_keys: Sequence[str], *, parent_id: str | None = None, child_id: str | None = None
) -> tuple[Statement, Statement]:
    """The jobs, and the children of a parent, or of the parent that a child has."""
    siblings: Bound = {"keys": json.dumps(list(child_keys)), "parent": parent_id, "child": child_id}
    return Statement(sql.MADE, {"ids": json.dumps(list(job_ids))}), Statement(sql.SIBLINGS_MADE, siblings)


def _visited(claim: Claim, children: Sequence[NewJob], visit: Visit | None) -> list[Statement]:
    """A visit is remembered, and its items are taken, before the children that need them are made."""
    if visit is None:
        return []
    about = {**_fence(claim), "caller": visit.caller, "url": visit.url, **asdict(visit.feed)}
    items = [*visit.passed_over, *(child.once for child in children if child.once is not None)]
    return [Statement(feeds.VISITED, about), Statement(feeds.TAKE, {**about, "items": json.dumps(items)})]


def _matching(where: JobFilter) -> dict[str, str | int | float | None]:
    top = where.parent_id == "none"
    return {
        "parent_id": None if top else where.parent_id,
        "top": int(top),
        "status": where.status,
        "type": where.type,
        "tag": where.tag,
        "text": where.text,
        "since": where.since,
        "error": where.error,
    }


def _once_again(family: Sequence[Job]) -> list[NewJob]:
    """The family anew, under a key that makes a second one impossible; no client's key can be like it."""
    new, *rest = again(family)
    return [replace(new, idempotency_key=f"retry of {family[0].id}", request_hash="retry"), *rest]


def _window(where: JobFilter, top: bool) -> str | None:
    if where.parent_id is not None and not top:
        return "parent"
    if where.status is Status.RUNNING:
        return "running"
    if where.status in {Status.FAILED, Status.DEAD_LETTER}:
        return "bad"
    return "held" if where.status in _HELD else None


def _claim(request: ClaimRequest) -> tuple[Statement, Statement]:
    params: Bound = {
        "token": request.token,
        "worker": request.worker.id,
        "types": names_json(request.worker.types),
        "lease": int(request.lease_s * 1000),
    }
    due = {"types": params["types"], "token": request.token}
    return Statement(sql.PROMOTE_NEXT, due), Statement(sql.CLAIM, params)


def _fence(claim: Claim) -> dict[str, str | int | float | None]:
    """The fence of an owner's write, and the token by which its repeat is recognised."""
    return {
        "id": claim.job_id,
        "attempt": claim.attempt,
        "worker": claim.worker_id,
        "finish": f"{claim.worker_id}/{claim.attempt}",
    }


def _last_lines(claim: Claim, lines: Sequence[Line], word: str) -> list[Statement]:
    if not lines:
        return []
    beats = json.dumps([beat_json(Beat(claim, lines=tuple(lines)))])
    return [Statement(sql.LAST_LINES, {"worker": claim.worker_id, "beats": beats, "word": word})]


def _placed(page: Sequence[Row], head: Sequence[Row]) -> tuple[Job, ...]:
    """Jobs with their place in the queue, counted to a hundred."""
    queue = sorted(tuple(one) for row in head for one in json.loads(row["first"]))[:101]
    places = {seq: place for place, (_, seq) in enumerate(queue)}
    jobs = (_seen(row) for row in page)
    return tuple(replace(job, ahead=places.get(job.seq, 101)) if job.status is Status.PENDING else job for job in jobs)


def _seen(row: Row) -> Job:
    """A job as a client sees it: a parent's percentage is its children's."""
    job = Job.from_row(row)
    percent = row["family_percent"] if "family_percent" in row.keys() else None  # noqa: SIM118 - sqlite3.Row iterates values
    return job if percent is None else replace(job, progress=percent)


def _owned(rows: Sequence[Row], worker_id: str) -> list[Owned]:
    return [Owned(Claim(row["id"], row["attempt"], worker_id), bool(row["cancel"])) for row in rows]


def _confirmed(claim: Claim, rows: Sequence[Row]) -> Job:
    if not rows:
        raise _lost(claim)
    return Job.from_row(rows[0])


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(f"Attempt {claim.attempt} of job {claim.job_id} is no longer owned by worker {claim.worker_id}.")


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id}; it may have been deleted after its retention time.")
