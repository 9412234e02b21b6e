"""`spool prune`: deletes at once what the workers would delete over the next hours."""

from __future__ import annotations

from shared.settings import Settings
from shared.storage import get_storage
from shared.store import get_job_store
from worker.upkeep import prune_batch

_DAY_S = 86_400.0


def prune_all(settings: Settings, *, older_than_days: float) -> tuple[int, int]:
    """Delete ended jobs older than that, and uploads nobody needs; returns how many of each went."""
    store, storage = get_job_store(settings), get_storage(settings)
    jobs = assets = 0
    while True:
        found, gone = prune_batch(store, storage, older_than_s=older_than_days * _DAY_S)
        jobs, assets = jobs + gone, assets + len(found.asset_ids)
        if not found.walked_to:
            return jobs, assets
