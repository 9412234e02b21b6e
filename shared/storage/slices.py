"""Files as S3 takes them: in pieces with checksums, each piece a request's body."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET
from pathlib import Path

from shared.storage.watched import Moving

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file to be sent in pieces of equal size, the last one shorter; `md5s` are theirs as `Content-MD5` wants it."""

    path: Path
    size_bytes: int
    piece: int
    sha256: str
    md5s: Sequence[str]


def read_sums(path: Path, size: int, piece: int, alive: Callable[[], None]) -> CheckedFile:
    """Take the checksums, one chunk in memory at a time."""
    whole = hashlib.sha256()
    md5s = []
    with path.open("rb") as file:
        for first in range(0, max(size, 1), piece):
            md5 = hashlib.md5(usedforsecurity=False)
            left = min(piece, size - first)
            while left and (chunk := file.read(min(_CHUNK, left))):
                whole.update(chunk)
                md5.update(chunk)
                left -= len(chunk)
                alive()
            md5s.append(base64.b64encode(md5.digest()).decode())
    return CheckedFile(path, size, piece, whole.hexdigest(), md5s)


class Slice:
    """A piece of a file as a request's body; says what was read of it, and takes it back when it is sent again."""

    def __init__(self, path: Path, first: int, size: int, moving: Moving) -> None:
        self._first, self._size, self._moving = first, size, moving
        self._file = path.open("rb")
        self._file.seek(first)
        self._at = 0

    def __enter__(self) -> Slice:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        """The next bytes. The last ones are given only once progress has heard of them, and did not object."""
        left = self._size - self._at
        chunk = self._file.read(left if size < 0 else min(size, left))
        if chunk:
            self._at += len(chunk)
            self._moving.add(len(chunk), and_wait=self._at == self._size)
        return chunk

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go elsewhere; bytes behind are yet to be moved again."""
        start = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence]
        moved, self._at = self._at, start + offset
        if self._at != moved:
            self._moving.add(self._at - moved)
        self._file.seek(self._first + self._at)
        return self._at
