"""Parts that statements of several subjects share: the database's time, lists of states, an owner's fence."""

from __future__ import annotations

from shared.job import PHASES, TERMINAL

NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
TERMINAL_LIST = "('completed', 'failed', 'dead_letter', 'cancelled')"
assert set(TERMINAL_LIST.strip("()").replace("'", "").split(", ")) == TERMINAL
HELD = "('scheduled', 'retrying', 'waiting', 'waiting_children')"
LEFT = "pre_left + core_left + post_left"
OWNED = "id = :id AND attempt = :attempt AND worker_id = :worker AND status = 'running'"
CANCELLED = (
    "json_object('code', 'cancelled', 'kind', 'cancelled', 'stage', stage, 'attempt', attempt, "
    "'message', 'Cancelled on request.')"
)
#: Full jitter: a random delay up to 2 s doubled per failure so far, at most 5 minutes.
BACKOFF = "ABS(RANDOM() % (1 + MIN(300000, 2000 << MIN(failures, 12))))"


def percent(parent: str) -> str:
    """How far a parent without work of its own is: its children's shares by their weights."""
    return f"(SELECT SUM(c.weight * c.overall) / SUM(c.weight) FROM job AS c WHERE c.parent_id = {parent}.id)"


def shown(job: str) -> str:
    """What a client sees beside the columns: of a parent that waits its percentage, of a bad end the next try.

    Only of those, so that no other job costs a look at others.
    """
    return (
        f"CASE WHEN {job}.status = 'waiting_children' AND NOT {job}.own_work THEN {percent(job)} END AS family_percent"
        f", CASE WHEN {job}.status IN ('failed', 'dead_letter', 'cancelled') THEN (SELECT id FROM job AS again"
        f" WHERE again.retry_of = {job}.id ORDER BY again.seq DESC LIMIT 1) END AS retried_as"
    )


assert PHASES == ("pre", "core", "post")  # the columns *_left and the CASEs on phase spell them out
