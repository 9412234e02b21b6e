"""Jobs go that nobody needs any more, and what belongs to them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.errors import Conflict
from shared.store.sql.batches import Batches, Statement
from shared.store.sql.reading import no_job
from shared.store.statements import assets, deletion, sessions, webhooks
from shared.store.values import Pruned


class DeletionVerbs(Batches):
    """One job with its descendants, or the oldest jobs, uploads and sessions."""

    def purgeable(self, job_id: str) -> Sequence[str]:
        """The ids of an ended job and its descendants."""
        rows = self._read([Statement(deletion.DESCENDANTS, {"id": job_id})])[0]
        if not rows:
            raise no_job(job_id)
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
        steps = (deletion.PRUNE_EVENTS, webhooks.PRUNE, deletion.PRUNE_JOBS)
        self._run([Statement(text, {"ids": ids}) for text in steps])

    def prunable(self, *, older_than_s: float, limit: int = 100) -> Pruned:
        """Ended jobs and assets nobody needs, oldest first, from where the last walk stopped."""
        params = {"age": int(older_than_s * 1000), "limit": limit}
        jobs, uploads, idle = self._read(
            [Statement(text, params) for text in (deletion.PRUNABLE, assets.PRUNABLE_ASSETS, sessions.PRUNABLE)]
        )
        at_the_end = len(jobs) < limit or jobs[-1]["young"]
        return Pruned(
            job_ids=tuple(row["id"] for row in jobs if row["old"]),
            asset_ids=tuple(row["id"] for row in uploads),
            walked_to=0 if at_the_end else jobs[-1]["seq"],
            session_ids=tuple(row["id"] for row in idle),
        )

    def prune(self, pruned: Pruned) -> int:
        """Delete those rows and their history; returns how many jobs went."""
        ids = json.dumps(pruned.job_ids)
        gone = self._run(
            [
                Statement(deletion.PRUNE_EVENTS, {"ids": ids}),
                Statement(deletion.PRUNE_JOBS, {"ids": ids}),
                Statement(webhooks.PRUNE, {"ids": ids}),
                Statement(webhooks.FORGET_GONE),
                Statement(assets.PRUNE_ASSETS, {"ids": json.dumps(pruned.asset_ids)}),
                Statement(sessions.PRUNE, {"ids": json.dumps(pruned.session_ids)}),
                Statement(deletion.WALK, {"name": "prune", "seq": pruned.walked_to}),
                Statement(deletion.PRUNE_WORKERS),
            ]
        )[1]
        return len(gone)
