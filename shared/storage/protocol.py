"""What Spool asks of a place that keeps files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from shared.errors import NotFound

#: Called with bytes moved so far and bytes in all (None when unknown); raises to stop the transfer.
TransferProgress = Callable[[int, int | None], None]
#: What an upload's key has behind it where its ledger lies.
LEDGER = ".ledger"
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """The request by which a client sends bytes."""

    method: str
    url: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A piece of a large upload: `size_bytes` of the file from byte `first` on go to `target`."""

    number: int
    first: int
    size_bytes: int
    target: UploadTarget


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

    @property
    def origin(self) -> str:
        """Where browsers meet its signed addresses, such as `https://s3.example.org`; empty for the API's own."""

    def upload_target(self, key: str, *, size_bytes: int, content_type: str, expires_s: int) -> UploadTarget:
        """A signed place for exactly `size_bytes` of `content_type`; anything else is refused there."""

    def begin_parts(
        self, key: str, *, size_bytes: int, content_type: str, expires_s: int
    ) -> tuple[UploadPart, ...] | None:
        """Begin a large upload: a signed place for each of its parts. None where one request takes it all."""

    def missing_parts(self, key: str, *, size_bytes: int, expires_s: int) -> tuple[UploadPart, ...] | None:
        """Fresh places for the parts of a begun upload that are not there yet; None where none was begun."""

    def join_parts(self, key: str, *, size_bytes: int) -> Stored | None:
        """Make one file of the parts; None while some are missing, or where none were begun. May be repeated."""

    def stat(self, key: str) -> Stored | None:
        """What is stored under the key, or None. A half-finished upload is not there."""

    def fetch(self, key: str, path: Path, progress: TransferProgress) -> Stored:
        """Bring a stored file to `path`, to be read there and never changed, calling `progress` as bytes arrive."""

    def put(self, path: Path, key: str, *, content_type: str, progress: TransferProgress) -> Stored:
        """Store a file under the key, whole or not at all; `sha256` of the result is always set."""

    def download_url(self, key: str, *, filename: str, content_type: str, expires_s: int) -> str:
        """A time-limited URL that answers Range requests and names the file for a browser."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all files below a folder such as `outputs/`, in no order, read as they are asked for."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete every file whose key begins with `prefix`; returns how many there were."""

    def check(self) -> None:
        """Write, read back and delete one small file; raises with one sentence that says how to mend it."""


def are_plain(segments: Sequence[str]) -> bool:
    """Whether these segments of a key are names of ours: nothing that a file system or a URL reads as more."""
    return all(_SEGMENT.fullmatch(segment) for segment in segments)


def segments_of(key: str) -> list[str]:
    """The segments of a key. Raises `NotFound` for what cannot be one."""
    segments = key.split("/")
    if not are_plain(segments):
        raise NotFound("There is no stored file of this name.")
    return segments


def disposition(filename: str, *, inline: bool = False) -> str:
    """The header by which a browser saves a file under its name (RFC 6266), whatever that holds; or shows it."""
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\/%' else "_" for letter in filename
    )
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
