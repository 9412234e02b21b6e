"""The duties of maintenance: each looks after one thing, may be cut short and begun again, and says what it did."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import Conflict, Invalid, JobFailure, NotFound
from shared.storage.protocol import LEDGER
from shared.store.backup import BACKUPS, back_up, backups, examine, fetch_backup, restore
from shared.store.local import LocalJobStore
from shared.types.maintenance import MaintenanceParams

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.storage.protocol import StorageAdapter
    from shared.store.protocol import JobStore
    from shared.store.values import Pruned
    from worker.run import Run

_Answer = TypeVar("_Answer")
_DAY_S = 86_400.0
_KEPT = 7
_PAGES = 500
#: How many jobs or uploads are asked about at once.
_ASKED = 200
#: What was made or ended this recently may be on its way still.
_SETTLED_S = 86_400.0
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What maintenance sees of the deployment beside its storage."""

    store: JobStore
    settings: Settings


def prune_batch(store: JobStore, storage: StorageAdapter, *, older_than_s: float) -> tuple[Pruned, int]:
    """Delete one batch of what is past its time; returns what was found, and how many jobs went."""
    pruned = store.prunable(older_than_s=older_than_s)
    pruned = replace(pruned, asset_ids=tuple(one for one in pruned.asset_ids if _given_up(store, one)))
    # Files first: when this is cut short the rows are still there to tell what is left to delete.
    for job_id in pruned.job_ids:
        storage.delete_prefix(f"outputs/{job_id}/")
    for asset_id in pruned.asset_ids:
        storage.delete_prefix(f"uploads/{asset_id}")
    return pruned, store.prune(pruned)


def _given_up(store: JobStore, asset_id: str) -> bool:
    """No job can begin to need the upload any more; False when one has done so since the upload was found."""
    try:
        store.give_up_asset(asset_id)
    except Conflict:
        return False
    return True


def prune(run: Run, _: MaintenanceParams) -> dict[str, Any]:
    """Delete ended jobs and uploads past their retention time, all of them."""
    jobs = uploads = 0
    while True:
        run.stop.check()
        older_than_s = run.upkeep.settings.retention_days * _DAY_S
        pruned, gone = prune_batch(run.upkeep.store, run.storage, older_than_s=older_than_s)
        jobs, uploads = jobs + gone, uploads + len(pruned.asset_ids)
        run.report.progress(jobs, None)
        if not pruned.walked_to:
            return {"jobs": jobs, "uploads": uploads}


def vacuum(run: Run, _: MaintenanceParams) -> dict[str, Any]:
    """Give unused pages back to the disk, a few at a time, so that nobody waits for long."""
    first = left = _answered(lambda: run.upkeep.store.vacuum(0))
    while left:
        run.stop.check()
        before, left = left, _answered(lambda: run.upkeep.store.vacuum(_PAGES))
        run.report.progress((first or 0) - (left or 0), first)
        if left is None or left >= before:
            break
    return {"pages_freed": None if first is None or left is None else max(0, first - left)}


def integrity(run: Run, _: MaintenanceParams) -> dict[str, Any]:
    """Look for damage; fails with the first of what was found."""
    wrong = run.upkeep.store.integrity()
    for sentence in wrong:
        run.report.log("error", f"Damage in the database: {sentence}.")
    if wrong:
        raise JobFailure(
            "damaged_database",
            f"The database is damaged: {wrong[0]}; stop the workers and restore the newest backup into a new one.",
        )
    return {"damage": 0}


def backup(run: Run, params: MaintenanceParams) -> dict[str, Any]:
    """Copy the queue into the storage, prove the copy, and drop all but the newest ones."""
    copied = _answered(lambda: back_up(run.upkeep.store, run.work / "queue.db"))
    key = f"{BACKUPS}{run.job.id}.db"
    stored = run.storage.put(
        copied.path, key, content_type="application/vnd.sqlite3", progress=lambda *moved: _moved(run, *moved)
    )
    keep = params.keep or _KEPT
    old = backups(run.storage)[:-keep]
    for one in old:
        run.storage.delete_prefix(one)
    return {
        "key": key,
        "size_bytes": stored.size_bytes,
        "sha256": stored.sha256,
        "rows": copied.rows,
        "deleted": len(old),
    }


def restore_check(run: Run, _: MaintenanceParams) -> dict[str, Any]:
    """Restore the newest backup into a scratch database, and look whether all of it is there and whole."""
    try:
        key = fetch_backup(run.storage, run.work / "queue.db", lambda *moved: _moved(run, *moved))
    except NotFound as error:
        raise JobFailure("no_backup", error.message) from None
    with closing(LocalJobStore(run.work / "restored.db")) as scratch:
        copied = _answered(lambda: restore(scratch, run.work / "queue.db"))
        wrong = list(scratch.integrity())
        back_up(scratch, run.work / "again.db")
    found = examine(run.work / "again.db").rows
    # Workers are forgotten, and what ran is given back, which adds to its history.
    wrong += [
        f"{table} has {found[table]} rows of {count}"
        for table, count in copied.rows.items()
        if table != "worker" and found[table] < count
    ]
    if wrong:
        raise JobFailure("bad_backup", f"The backup {key} cannot be restored whole: {wrong[0]}; make a new one now.")
    return {"key": key, "rows": copied.rows}


def orphans(run: Run, params: MaintenanceParams) -> dict[str, Any]:
    """Find files of jobs and uploads that the queue does not know, a day after nobody can be at work on them."""
    found = [*_lost_uploads(run), *_lost_outputs(run)]
    for prefix in found:
        run.report.log("warn", f"Nobody knows {prefix}", deleted=params.delete)
        if params.delete:
            run.stop.check()
            run.storage.delete_prefix(prefix)
    return {"found": len(found), "deleted": len(found) if params.delete else 0}


DUTIES: Mapping[str, Callable[[Run, MaintenanceParams], dict[str, Any]]] = {
    "prune": prune,
    "vacuum": vacuum,
    "integrity": integrity,
    "backup": backup,
    "restore-check": restore_check,
    "orphans": orphans,
}


def _lost_uploads(run: Run) -> list[str]:
    names = {key: key.split("/")[1].removesuffix(LEDGER) for key in run.storage.keys("uploads/")}
    keys = [key for key, name in names.items() if _settled(name)]
    lost = []
    for start in range(0, len(keys), _ASKED):
        run.stop.check()
        asked = {key: names[key] for key in keys[start : start + _ASKED]}
        known = run.upkeep.store.sources(list(asked.values())).assets
        lost += [key for key, asset_id in asked.items() if asset_id not in known]
    return lost


def _lost_outputs(run: Run) -> list[str]:
    """Whole attempts: within one that won, nothing is lost."""
    attempts = sorted({tuple(key.split("/")[1:3]) for key in run.storage.keys("outputs/") if key.count("/") == 3})
    by_job = [(job_id, [one[1] for one in of_job]) for job_id, of_job in groupby(attempts, lambda one: one[0])]
    lost = []
    for start in range(0, len(by_job), _ASKED):
        run.stop.check()
        asked = {job_id: numbers for job_id, numbers in by_job[start : start + _ASKED] if _settled(job_id)}
        known = run.upkeep.store.kept_outputs(list(asked), ended_before_s=_SETTLED_S)
        for job_id, numbers in asked.items():
            keys = known.get(job_id, frozenset())
            if keys is not None:  # None: at work, or only just done
                prefixes = (f"outputs/{job_id}/{number}/" for number in numbers)
                lost += [prefix for prefix in prefixes if not any(key.startswith(prefix) for key in keys)]
    return lost


def _settled(name: str) -> bool:
    """Whether this is an id of ours that is a day old; what else lies there is not ours to judge."""
    return _UUID.fullmatch(name) is not None and int(name.replace("-", "")[:12], 16) / 1000 < time.time() - _SETTLED_S


def _answered(ask: Callable[[], _Answer]) -> _Answer:
    """What cannot be done on this database ends the job, with the sentence that says why."""
    try:
        return ask()
    except (Conflict, Invalid) as error:
        raise JobFailure("impossible", error.message) from None


def _moved(run: Run, done: int, total: int | None) -> None:
    run.stop.check()
    run.report.progress(done, total)
