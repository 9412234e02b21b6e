"""New jobs as the statements that insert them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.errors import Invalid
from shared.job import MAX_DEPTH, Claim, NewJob
from shared.store.rows import new_row
from shared.store.sql.batches import Bound, Statement
from shared.store.statements import creation


def insertions(jobs: Sequence[NewJob], owner: Claim | None = None) -> list[Statement]:
    """One statement for each generation; with an owner, children are taken only while it owns their parent."""
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
            creation.INSERT,
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
