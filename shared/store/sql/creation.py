"""Jobs begin: new ones, and those that run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from shared.errors import Conflict, NotFound
from shared.job import ENDED_BADLY, MAX_DEPTH, PHASES, Job, NewJob
from shared.store.rows import again
from shared.store.sql.batches import NEWEST, Statement
from shared.store.sql.insertions import insertions
from shared.store.sql.reading import ReadingVerbs, matching, no_job
from shared.store.sql.sessions import SessionVerbs
from shared.store.statements import creation, reading, steering
from shared.store.values import JobFilter, Retried


class CreationVerbs(ReadingVerbs, SessionVerbs):
    """New jobs and families, and new ones in the place of those that failed."""

    def create(self, jobs: Sequence[NewJob]) -> tuple[Job, bool]:
        """Insert a job, or a parent followed by its descendants, all or none; repeats are safe."""
        root = jobs[0]
        family = len(jobs) > 1 or root.parent_id is not None
        new = insertions(jobs)
        found = Statement(creation.BY_ID_OR_KEY, {"id": root.id, "caller": root.caller, "key": root.idempotency_key})
        rows = (self._run_families(new, [found]) if family else self._run([*new, found]))[-1]
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

    def retry(self, job_id: str, *, key: str | None = None) -> tuple[Job, bool]:
        """Run an ended job again as a new one; a family is rebuilt whole, keeping what completed."""
        family = [Job.from_row(row) for row in self._read([Statement(reading.FAMILY, {"id": job_id})])[0]]
        if not family:
            raise no_job(job_id)
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

    def retry_matching(self, where: JobFilter, *, limit: int, before_seq: int | None = None) -> Retried:
        """Run those again that failed, at most `limit` of them, families as a whole, each once."""
        before = NEWEST if before_seq is None else before_seq
        params = {**matching(where), "before": before, "limit": limit}
        texts = (reading.PAGE["bad"], reading.LIST_END["bad"], steering.FAMILIES_OF_BAD)
        page, end, rows = self._read([Statement(text, params) for text in texts])
        following = page[-1]["seq"] if len(page) == limit else end[0]["seq"] if end else None
        roots = {row["root"]: [Job.from_row(one) for one in rows if one["root"] == row["root"]] for row in rows}
        made = self._create_again([_once_again(family) for family in roots.values()]) if roots else 0
        return Retried(made, max(0, len(page) - made), following)

    def _create_again(self, families: Sequence[Sequence[NewJob]]) -> int:
        """Insert families in one batch; one that was run again by somebody else meanwhile is left out."""
        ids = json.dumps([family[0].id for family in families])
        new = insertions([job for family in families for job in family])
        return len(self._run_families(new, [Statement(steering.THERE, {"ids": ids})])[-1])


def _once_again(family: Sequence[Job]) -> list[NewJob]:
    """The family anew, under a key that makes a second one impossible; no client's key can be like it."""
    new, *rest = again(family)
    return [replace(new, idempotency_key=f"retry of {family[0].id}", request_hash="retry"), *rest]
