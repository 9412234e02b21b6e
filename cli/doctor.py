"""`spool doctor`: what is wrong with this set-up, and how to mend it, one line each."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.client import Client, CommandError
from cli.dev import WORKER_SILENT_S
from shared.errors import SpoolError
from shared.presets import own_preset
from shared.settings import Settings
from shared.storage import get_storage
from shared.store import get_job_store
from worker.ffmpeg import find_engine

_CLOCK_OFF_S = 5.0
_ROOM_BYTES = 5 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and how to mend it when it is wrong."""

    what: str
    ok: bool
    found: str
    mend: str = ""

    def line(self) -> str:
        """For a person."""
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.what:<10} {self.found}" + (
            f" {self.mend}" if self.mend else ""
        )


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything a job needs, in the order in which it needs it."""
    yield Finding("settings", True, f"read; database {settings.database_url}, storage {settings.storage_url}")
    for what, look in _CHECKS.items():
        try:
            yield look(settings)
        except (SpoolError, CommandError) as error:
            yield Finding(what, False, error.message)
        except OSError as error:
            yield Finding(what, False, f"{error.strerror or error}: {error.filename or ''}".strip(": "))


def _presets(settings: Settings) -> Finding:
    own = [name for name, preset in settings.known_presets.items() if own_preset(preset)]
    found = f"{len(settings.known_presets)} known"
    return Finding("presets", True, f"{found}; {settings.presets} says what {', '.join(own)} mean" if own else found)


def _database(settings: Settings) -> Finding:
    store = get_job_store(settings)
    began = time.time()
    off_s = store.check() / 1000 - (began + time.time()) / 2
    missing = store.pending_migrations()
    if missing:
        mend = "Apply them with `spool migrate` (`spool dev` and the worker do so when they start)."
        return Finding("database", False, f"answers, but lacks {len(missing)} migration(s).", mend)
    if abs(off_s) > _CLOCK_OFF_S:
        mend = "Set this machine's clock (chrony or systemd-timesyncd)."
        return Finding("database", False, f"its clock and this machine's differ by {off_s:.0f} s.", mend)
    return Finding("database", True, f"answers, migrated, clocks {abs(off_s) * 1000:.0f} ms apart")


def _storage(settings: Settings) -> Finding:
    get_storage(settings).check()
    return Finding("storage", True, "a file was written, read back and deleted")


def _ffmpeg(settings: Settings) -> Finding:
    engine = find_engine(settings)
    return Finding("ffmpeg", True, f"{engine.version} at {engine.ffmpeg}, with every encoder and filter that is needed")


def _room(settings: Settings) -> Finding:
    """Room for files that are kept (local storage) and for files at work."""
    places = [settings.work_dir or Path(tempfile.gettempdir())]
    if settings.storage_url.startswith("file:"):
        places.append(Path(settings.storage_url.removeprefix("file:")))
    free, place = min((shutil.disk_usage(existing).free, existing) for existing in map(_existing, places))
    found = f"{free / 10**9:.1f} GB free at {place}"
    if free < _ROOM_BYTES:
        mend = "Free some, or move SPOOL_STORAGE_URL and SPOOL_WORK_DIR to a larger disk."
        return Finding("room", False, f"only {found}.", mend)
    return Finding("room", True, found)


def _existing(place: Path) -> Path:
    """The place, or the folder in which it will be made."""
    place = place.absolute()
    return place if place.exists() else _existing(place.parent)


def _worker(settings: Settings) -> Finding:
    store = get_job_store(settings)
    if store.pending_migrations():
        return Finding(
            "worker", False, "none has ever run here.", "Start one: `spool dev`, or `spool worker` by itself."
        )
    stats = store.stats(hours=1)
    alive = [seen for seen in stats.workers if stats.at - seen.seen_at < WORKER_SILENT_S * 1000]
    if not alive:
        return Finding(
            "worker", False, "none is alive; jobs wait.", "Start one: `spool dev`, or `spool worker` by itself."
        )
    return Finding("worker", True, f"{len(alive)} alive, {sum(seen.running for seen in alive)} job(s) running")


def _api(settings: Settings) -> Finding:
    token = settings.api_token.get_secret_value() if settings.api_token else None
    client = Client(settings.api_url, token)
    client.ready()
    client.jobs(limit=1)
    return Finding("api", True, f"answers at {settings.api_url}")


_CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "presets": _presets,
    "database": _database,
    "storage": _storage,
    "ffmpeg": _ffmpeg,
    "room": _room,
    "worker": _worker,
    "api": _api,
}
