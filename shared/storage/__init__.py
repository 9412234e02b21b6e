"""Files by key: what Spool asks of storage, and the adapters."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from shared.crash import with_points
from shared.secret import signing_secret
from shared.settings import Settings
from shared.storage.local import LocalStorage
from shared.storage.protocol import StorageAdapter
from shared.storage.s3 import S3Storage

#: What changes or moves files; a crash between any two of these harms no job.
_MOVES = ("fetch", "put", "begin_parts", "join_parts", "delete_prefix")
_made: dict[str, StorageAdapter] = {}
_lock = Lock()


def get_storage(settings: Settings) -> StorageAdapter:
    """The storage of this process, one for each address."""
    with _lock:
        if settings.storage_url not in _made:
            _made[settings.storage_url] = _open(settings)
        return _made[settings.storage_url]


def reset_storage() -> None:
    """Forget every storage, so that a test starts fresh."""
    with _lock:
        _made.clear()


def _open(settings: Settings) -> StorageAdapter:
    if settings.s3 is not None:
        return with_points(S3Storage, _MOVES, "storage.{}".format)(settings.s3)
    root = Path(settings.storage_url.removeprefix("file:")).absolute()
    return with_points(LocalStorage, _MOVES, "storage.{}".format)(root, signing_secret(settings))
