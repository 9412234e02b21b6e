"""`spool prune`: deletes at once what the workers would delete over the next hours."""

from __future__ import annotations

from shared.settings import Settings
from shared.storage import get_storage
from shared.store import get_job_store

_DAY_S = 86_400.0


def prune_all(settings: Settings, *, older_than_days: float) -> tuple[int, int]:
    """Delete ended jobs older than that, and uploads nobody needs; returns how many of each went."""
    store, storage = get_job_store(settings), get_storage(settings)
    jobs = assets = 0
    while True:
        found = store.prunable(older_than_s=older_than_days * _DAY_S)
        # Files first: when this is cut short, the rows are still there to tell what is left to delete.
        for job_id in found.job_ids:
            storage.delete_prefix(f"outputs/{job_id}/")
        for asset_id in found.asset_ids:
            storage.delete_prefix(f"uploads/{asset_id}")
        jobs += store.prune(found)
        assets += len(found.asset_ids)
        if not found.walked_to:
            return jobs, assets
