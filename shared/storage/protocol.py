"""What Spool asks of a place that keeps files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: Called with bytes moved so far and bytes in all (None when unknown); raises to stop the transfer.
TransferProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where and how a client sends its bytes: one request, or several parts."""

    method: str
    url: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as storage knows it; `sha256` is hex, None where storage does not tell."""

    key: str
    size_bytes: int
    content_type: str
    sha256: str | None = None


class StorageAdapter(Protocol):
    """Files by key. Keys are ours (`uploads/{asset}`, `outputs/{job}/{attempt}/{name}`), never a client's.

    Every method raises `Unavailable` when storage does not answer, and `NotFound` for a key that is not there.
    """

    def upload_target(self, key: str, *, size_bytes: int, content_type: str, expires_s: int) -> UploadTarget:
        """A signed place for exactly `size_bytes` of `content_type`; anything else is refused there."""

    def stat(self, key: str) -> Stored | None:
        """What is stored under the key, or None. A half-finished upload is not there."""

    def fetch(self, key: str, path: Path, progress: TransferProgress) -> Stored:
        """Copy a stored file to `path`, calling `progress` as bytes arrive."""

    def put(self, path: Path, key: str, *, content_type: str, progress: TransferProgress) -> Stored:
        """Store a file under the key, whole or not at all; `sha256` of the result is always set."""

    def download_url(self, key: str, *, filename: str, content_type: str, expires_s: int) -> str:
        """A time-limited URL that answers Range requests and names the file for a browser."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete every file whose key begins with `prefix`; returns how many there were."""

    def check(self) -> None:
        """Write, read back and delete one small file; raises with one sentence that says how to mend it."""
