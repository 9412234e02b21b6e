"""What is wrong with a deployment, as its database and its storage show it: `/readyz` and `spool doctor` tell it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from shared.errors import SpoolError
from shared.job import Status
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import JobStore
from shared.store.values import Stats, Upkeep, WorkerSeen

#: An idle worker is heard of every 30 s.
WORKER_SILENT_S = 65.0
CLOCK_OFF_S = 5.0
ROOM_BYTES = 5 * 10**9
_BACKUP_OLD_S = 2 * 86_400
_NO_WORKER = "Start one: `spool dev`, or `spool worker` by itself."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and how to mend it. What is `ok` and has a `mend` is advice.

    Without what is `vital` no request can be answered.
    """

    what: str
    ok: bool
    found: str
    mend: str = ""
    vital: bool = False

    def line(self) -> str:
        """For a person."""
        mark = "WRONG" if not self.ok else "look " if self.mend else "ok   "
        return f"{mark}  {self.what:<12} {self.found}" + (f" {self.mend}" if self.mend else "")


def deployment(store: JobStore, storage: StorageAdapter, programs: Collection[str] = ()) -> Iterator[Finding]:
    """Look at everything that every process of a deployment sees, in the order in which a job needs it.

    `programs` are the job types of the programs that are registered where it is asked.
    """
    database = list(_answering("database", lambda: _database(store)))
    yield from database
    yield from _answering("storage", lambda: [_storage(storage)])
    if any(finding.vital and not finding.ok for finding in database):
        yield Finding("workers", False, "unknown until the database can be read.", _NO_WORKER)
        return
    yield from _answering("workers", lambda: _told(store.stats(hours=24, count_to=1), store.upkeep(), programs))


def _database(store: JobStore) -> Iterator[Finding]:
    began = time.time()
    off_s = store.check() / 1000 - (began + time.time()) / 2
    blur_s = time.time() - began
    if missing := store.pending_migrations():
        found = f"The database lacks {', '.join(missing)}."
        mend = "Apply with `spool migrate` (`spool dev` and the worker do so when they start)."
        yield Finding("database", False, found, mend, vital=True)
    else:
        yield Finding("database", True, "answers, migrated", vital=True)
    if abs(off_s) - blur_s > CLOCK_OFF_S:
        mend = "Set this machine's clock (chrony or systemd-timesyncd)."
        yield Finding("clock", False, f"The database's clock and this machine's differ by {off_s:.0f} s.", mend)
    else:
        yield Finding("clock", True, f"{abs(off_s) * 1000:.0f} ms from the database's")


def _storage(storage: StorageAdapter) -> Finding:
    storage.check()
    return Finding("storage", True, "a file was written, read back and deleted", vital=True)


def _told(stats: Stats, upkeep: Iterable[Upkeep], programs: Collection[str]) -> Iterator[Finding]:
    alive = [seen for seen in stats.workers if stats.at - seen.seen_at < WORKER_SILENT_S * 1000]
    yield from _workers(alive)
    if alive:
        yield from _programs(alive, programs)
    yield _dead_letters(stats)
    yield from _paused(stats)
    yield from _backup({one.duty: one for one in upkeep}, stats.at)


def _workers(alive: list[WorkerSeen]) -> Iterator[Finding]:
    if not alive:
        yield Finding("workers", False, "None is alive; jobs wait.", _NO_WORKER)
        return
    versions = sorted({str(seen.metrics["ffmpeg"]) for seen in alive if "ffmpeg" in seen.metrics})
    about = f", ffmpeg {' and '.join(versions)}" if versions else ""
    yield Finding("workers", True, f"{len(alive)} alive, {sum(seen.running for seen in alive)} job(s) running{about}")
    rooms = [(seen.metrics["room_bytes"], seen.worker.host) for seen in alive if "room_bytes" in seen.metrics]
    if rooms:
        free, host = min(rooms)
        if free < ROOM_BYTES:
            mend = "Free some, or move SPOOL_WORK_DIR to a larger disk."
            yield Finding("worker room", False, f"Only {free / 1e9:.1f} GB are free on {host}.", mend)
        else:
            yield Finding("worker room", True, f"{free / 1e9:.1f} GB free on {host}")


def _programs(alive: list[WorkerSeen], registered: Collection[str]) -> Iterator[Finding]:
    """Each registered program is on a worker that lives, and a long-lived one is up there."""
    well = []
    for name in sorted(registered):
        hosts = [seen for seen in alive if name in seen.worker.types]
        states = [(seen.worker.host, seen.metrics.get("programs", {}).get(name)) for seen in hosts]
        kept = [(host, state) for host, state in states if state is not None]
        wanted, up = sum(state["of"] for _, state in kept), sum(state["up"] for _, state in kept)
        crashing = max(kept, key=lambda one: one[1]["ended"], default=None)
        if not hosts:
            mend = (
                "Install it on a worker's machine and start that worker with SPOOL_PROGRAMS; its log says what lacks."
            )
            yield Finding("programs", False, f"No worker that is alive has {name}; its jobs wait.", mend)
        elif crashing is not None and crashing[1]["ended"]:
            host, state = crashing
            found = f"{name} ended {state['ended']} time(s) in a row on {host}; {up} of {wanted} are up."
            mend = "It is started again; the worker's log has its last words."
            yield Finding("programs", up > 0, found, mend)
        else:
            well.append(name if up == wanted else f"{name} ({up} of {wanted} ready)")
    if well:
        yield Finding("programs", True, f"on a worker: {', '.join(well)}")
    strange = {one for seen in alive for one in seen.worker.types if ":" in one} - set(registered)
    if strange:
        mend = "Set SPOOL_PROGRAMS for it too, with the same file."
        names = ", ".join(sorted(strange))
        yield Finding("programs", True, f"Workers have {names}, which is not registered here and is refused.", mend)


def _dead_letters(stats: Stats) -> Finding:
    dead = sum(tally.jobs for tally in stats.tallies if tally.status is Status.DEAD_LETTER)
    if not dead:
        return Finding("dead letters", True, "none in 24 hours")
    mend = "See why with `spool jobs --status dead_letter`; then `spool retry --status dead_letter`."
    return Finding("dead letters", False, f"{dead} job(s) used up their tries in 24 hours.", mend)


def _paused(stats: Stats) -> Iterator[Finding]:
    for one in stats.steering:
        if one.paused_at is not None:
            hours = (stats.at - one.paused_at) / 3_600_000
            yield Finding("paused", True, f"{one.type} for {hours:.1f} hours.", f"Go on: spool resume {one.type}")


def _backup(done: dict[str, Upkeep], at: int) -> Iterator[Finding]:
    if "backup" not in done:
        mend = "Schedule them with `spool schedules defaults`, unless the database's provider makes them."
        yield Finding("backup", True, "Maintenance has made none.", mend)
        return
    age_s = (at - done["backup"].done_at) / 1000
    if age_s > _BACKUP_OLD_S:
        mend = "Make one now with `spool maintain backup`; `spool schedules list` says when they come."
        yield Finding("backup", False, f"The newest is {age_s / 86_400:.0f} days old.", mend)
        return
    checked = done.get("restore-check")
    if checked is None:
        yield Finding(
            "backup", True, f"{age_s / 3600:.0f} hours old, never restored.", "Try it: spool maintain restore-check"
        )
    else:
        yield Finding("backup", True, f"{age_s / 3600:.0f} hours old, one was restored as a trial")


def _answering(what: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except SpoolError as error:
        yield Finding(what, False, error.message, vital=True)
