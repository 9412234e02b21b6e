"""`spool doctor`: what is wrong with this set-up, and how to mend it, one line each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.client import Client
from cli.errors import CommandError
from shared.errors import SpoolError
from shared.health import ROOM_BYTES, Finding, deployment
from shared.misspelt import misspelt
from shared.presets import own_preset
from shared.settings import Settings
from shared.storage import get_storage
from shared.store import get_job_store
from worker.ffmpeg import find_engine
from worker.programs import missing_here


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything a job needs, in the order in which it needs it."""
    yield Finding("settings", True, f"read; database {settings.database_url}, storage {settings.storage_url}")
    for sentence in misspelt():
        yield Finding("settings", True, sentence, "It sets nothing: mend its name, or take it away.")
    for what, look in _CHECKS.items():
        try:
            yield from look(settings)
        except (SpoolError, CommandError) as error:
            yield Finding(what, False, error.message)
        except OSError as error:
            yield Finding(what, False, f"{error.strerror or error}: {error.filename or ''}".strip(": "))


def _presets(settings: Settings) -> Iterator[Finding]:
    own = [name for name, preset in settings.known_presets.items() if own_preset(preset)]
    found = f"{len(settings.known_presets)} known"
    yield Finding("presets", True, f"{found}; {settings.presets} says what {', '.join(own)} mean" if own else found)


def _deployment(settings: Settings) -> Iterator[Finding]:
    yield from deployment(get_job_store(settings), get_storage(settings), settings.registered)


def _ffmpeg(settings: Settings) -> Iterator[Finding]:
    engine = find_engine(settings)
    yield Finding("ffmpeg", True, f"{engine.version} at {engine.ffmpeg}, with every encoder and filter that is needed")


def _programs(settings: Settings) -> Iterator[Finding]:
    """What is registered need not be on every machine: this is advice."""
    missing = missing_here(settings)
    for name, why in missing.items():
        yield Finding(
            "here", True, f"{name} cannot be started on this machine: {why}.", "Mend that, or leave it to others."
        )
    if settings.registered and not missing:
        yield Finding("here", True, f"all {len(settings.registered)} registered programs can be started")


def _room(settings: Settings) -> Iterator[Finding]:
    """Room for files that are kept (local storage) and for files at work."""
    places = [settings.work_dir or Path(tempfile.gettempdir())]
    if settings.storage_url.startswith("file:"):
        places.append(Path(settings.storage_url.removeprefix("file:")))
    free, place = min((shutil.disk_usage(existing).free, existing) for existing in map(_existing, places))
    found = f"{free / 10**9:.1f} GB free at {place}"
    if free < ROOM_BYTES:
        mend = "Free some, or move SPOOL_STORAGE_URL and SPOOL_WORK_DIR to a larger disk."
        yield Finding("room", False, f"Only {found}.", mend)
    else:
        yield Finding("room", True, found)


def _existing(place: Path) -> Path:
    """The place, or the folder in which it will be made."""
    place = place.absolute()
    return place if place.exists() else _existing(place.parent)


def _api(settings: Settings) -> Iterator[Finding]:
    token = settings.api_token.get_secret_value() if settings.api_token else None
    client = Client(settings.api_url, token)
    client.ready()
    client.jobs(limit=1)
    yield Finding("api", True, f"answers at {settings.api_url}")


_CHECKS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "presets": _presets,
    "storage": _deployment,
    "ffmpeg": _ffmpeg,
    "programs": _programs,
    "room": _room,
    "api": _api,
}
