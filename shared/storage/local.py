"""Storage in a folder: whole files or none, and signed addresses that the API serves at `/files/…`."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode

from shared.crash import around
from shared.errors import Conflict, Forbidden, NotFound, SpoolError, Unavailable
from shared.storage.protocol import Stored, TransferProgress, UploadPart, UploadTarget, are_plain, segments_of

_CHUNK = 1 << 20
#: Inside a key's folder. Segments of keys never begin with a dot, so these names cannot be keys.
_RECORD = ".record.json"
_INCOMING = ".incoming"
#: A client that stands still is let go after a minute, so what has not grown for an hour belongs to nobody.
_ABANDONED_S = 3600


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed address allows; `size_bytes` is there for uploads, `filename` for downloads."""

    key: str
    content_type: str
    size_bytes: int | None
    filename: str | None


@dataclass(frozen=True, slots=True)
class _Record:
    """What lies beside the bytes; renaming it into place is the moment a file exists."""

    file: str
    size_bytes: int
    content_type: str
    sha256: str


class LocalStorage:
    """A folder per key: the bytes, and a record that names them.

    `base_url` goes before the signed addresses; empty, they are relative to the API's own.
    """

    def __init__(
        self, root: Path, secret: bytes, base_url: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        self.root = root
        self._secret = secret
        self._base_url = base_url.rstrip("/")
        self._clock = clock

    # --- the protocol ----------------------------------------------------------------------------------------
    def upload_target(self, key: str, *, size_bytes: int, content_type: str, expires_s: int) -> UploadTarget:
        """A signed place for exactly `size_bytes` of `content_type`; anything else is refused there."""
        url = self._sign("PUT", key, expires_s, {"size": str(size_bytes), "type": content_type})
        return UploadTarget("PUT", url, {"Content-Type": content_type})

    def download_url(self, key: str, *, filename: str, content_type: str, expires_s: int) -> str:
        """A time-limited URL that answers Range requests and names the file for a browser."""
        return self._sign("GET", key, expires_s, {"filename": filename, "type": content_type})

    @property
    def origin(self) -> str:
        """Empty: the API serves the addresses."""
        return ""

    def begin_parts(
        self, key: str, *, size_bytes: int, content_type: str, expires_s: int
    ) -> tuple[UploadPart, ...] | None:
        """None: the API takes a file of any size in one request."""
        del key, size_bytes, content_type, expires_s
        return None

    def missing_parts(self, key: str, *, size_bytes: int, expires_s: int) -> tuple[UploadPart, ...] | None:
        """None, as none are begun."""
        del key, size_bytes, expires_s
        return None

    def join_parts(self, key: str, *, size_bytes: int) -> Stored | None:
        """None, as none are begun."""
        del key, size_bytes
        return None

    def stat(self, key: str) -> Stored | None:
        """What is stored under the key, or None. A half-finished upload is not there."""
        with self._answering():
            record = _read_record(self._folder(key))
        return None if record is None else Stored(key, record.size_bytes, record.content_type, record.sha256)

    def fetch(self, key: str, path: Path, progress: TransferProgress) -> Stored:
        """Give a stored file the name `path` as well, or copy it to another disk; an `OSError` is the target's, such as
        a full disk there."""
        with self.open(key) as (stored, source):
            done = os.fstat(source.fileno()).st_size
            try:
                with around("file.lent"):
                    path.unlink(missing_ok=True)
                    os.link(source.name, path)
            except OSError:
                done = 0
                with path.open("wb") as target:
                    while chunk := source.read(_CHUNK):
                        target.write(chunk)
                        done += len(chunk)
                        progress(done, stored.size_bytes)
        progress(done, stored.size_bytes)
        if done != stored.size_bytes:
            raise Unavailable(f"The stored file {key} is damaged: {done} of {stored.size_bytes} bytes are left of it.")
        return stored

    def put(self, path: Path, key: str, *, content_type: str, progress: TransferProgress) -> Stored:
        """Store a file under the key, whole or not at all, in place of what was there."""
        total = path.stat().st_size
        with path.open("rb") as source, self.receive(key, content_type=content_type) as incoming:
            while chunk := source.read(_CHUNK):
                incoming.write(chunk)
                progress(incoming.size_bytes, total)
            return incoming.commit(replace=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all files below a folder such as `outputs/`."""
        folder = self._folder(prefix.removesuffix("/"))
        with self._answering():
            for record in folder.rglob(_RECORD):
                yield record.parent.relative_to(self.root).as_posix()

    def delete_prefix(self, prefix: str) -> int:
        """Delete every file whose key begins with `prefix`; returns how many there were."""
        parent, _, start = prefix.rpartition("/")
        if not are_plain(parent.split("/") if parent else []) or not (parent or start):
            raise ValueError(f"{prefix!r} is no prefix of a key")
        with self._answering():
            folder = self.root / parent
            names = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 - names, not paths
            found = [folder / name for name in names if name.startswith(start) and not name.startswith(".")]
            count = sum(1 for path in found for _ in path.rglob(_RECORD))
            for path in found:
                with around("file.gone"):
                    shutil.rmtree(path)
            _sync(folder)
            _drop_empty(folder, below=self.root)
        return count

    def check(self) -> None:
        """Write, read back and delete one small file; raises with one sentence that says how to mend it."""
        key = f"check/{uuid.uuid4().hex}"
        with self.receive(key, content_type="text/plain") as incoming:
            incoming.write(b"spool")
            incoming.commit(replace=False)
        with self.open(key) as (_, file):
            if file.read() != b"spool":
                raise Unavailable(
                    f"The storage folder {self.root} gives back other bytes than were written; check the disk."
                )
        self.delete_prefix(key)

    # --- for the API, which serves the addresses --------------------------------------------------------------
    def admit(self, method: str, key: str, query: Mapping[str, str]) -> Grant:
        """What the query's signature allows `method` to do with `key`. Raises `Forbidden`."""
        fields = {name: value for name, value in query.items() if name != "signature"}
        if not hmac.compare_digest(self._signature(method, key, fields).encode(), query.get("signature", "").encode()):
            raise Forbidden("This link was not made by this server, or was changed; ask for a new one.")
        if self._clock() >= int(fields["expires"]):
            raise Forbidden("This link has expired; ask for a new one.")
        size = fields.get("size")
        return Grant(key, fields["type"], None if size is None else int(size), fields.get("filename"))

    @contextmanager
    def open(self, key: str) -> Iterator[tuple[Stored, BinaryIO]]:
        """The stored file, open for reading. Raises `NotFound`."""
        with self._answering():
            stored, file = self._open(key)
        with file:
            yield stored, file

    @contextmanager
    def receive(self, key: str, *, content_type: str) -> Iterator[Incoming]:
        """A place for bytes as they come; what is not committed by the end of the block is gone."""
        folder = self._folder(key)
        with self._answering():
            incoming = Incoming(self.root / _INCOMING, folder, key, content_type, self._answering)
        try:
            yield incoming
        finally:
            incoming.discard()

    # --- inside -----------------------------------------------------------------------------------------------
    def _open(self, key: str) -> tuple[Stored, BinaryIO]:
        folder = self._folder(key)
        for _ in range(3):  # a file being replaced moves to a new name between the two reads
            record = _read_record(folder)
            if record is None:
                break
            with suppress(FileNotFoundError):
                file = (folder / record.file).open("rb")
                return Stored(key, record.size_bytes, record.content_type, record.sha256), file
        raise NotFound(f"There is no stored file {key}.")

    def _folder(self, key: str) -> Path:
        return self.root.joinpath(*segments_of(key))

    def _sign(self, method: str, key: str, expires_s: int, fields: dict[str, str]) -> str:
        self._folder(key)
        fields = fields | {"expires": str(int(self._clock()) + expires_s)}
        query = fields | {"signature": self._signature(method, key, fields)}
        return f"{self._base_url}/files/{quote(key)}?{urlencode(query)}"

    def _signature(self, method: str, key: str, fields: Mapping[str, str]) -> str:
        text = "\n".join([method, key, urlencode(sorted(fields.items()))])
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn the folder's own errors into a sentence."""
        try:
            yield
        except SpoolError:
            raise
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise Unavailable(f"The disk of the storage folder {self.root} is full; free some space.") from error
            raise Unavailable(
                f"The storage folder {self.root} cannot be used ({error.strerror}); check that it can be written."
            ) from error


class Incoming:
    """A file on its way into storage; made by `LocalStorage.receive`."""

    def __init__(
        self,
        parts: Path,
        folder: Path,
        key: str,
        content_type: str,
        answering: Callable[[], AbstractContextManager[None]],
    ) -> None:
        _make_folder(parts)
        _drop_abandoned(parts)
        self._folder, self._key, self._content_type = folder, key, content_type
        self._part = parts / f"{uuid.uuid4().hex}.part"
        self._file = self._part.open("xb")
        self._digest = hashlib.sha256()
        self._answering = answering
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        with self._answering():
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    def commit(self, *, replace: bool) -> Stored:
        """Make the file exist, and last through a power cut. Raises `Conflict` unless `replace` when one exists."""
        record = _Record(f".{self._part.stem}.data", self.size_bytes, self._content_type, self._digest.hexdigest())
        with self._answering():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make_folder(self._folder)
            before = _read_record(self._folder)
            data = self._folder / record.file
            with around("file.data"):
                self._part.rename(data)
            _sync(self._folder)
            try:
                self._place(record, replace=replace)
            except FileExistsError:
                with around("file.refused"):
                    data.unlink(missing_ok=True)
                raise Conflict("This upload is already complete; it cannot be written twice.") from None
            _sync(self._folder)
            for left in self._left(before, record, replace=replace):
                with around("file.left"):
                    left.unlink(missing_ok=True)
        return Stored(self._key, record.size_bytes, record.content_type, record.sha256)

    def discard(self) -> None:
        """Leave nothing behind of what was not committed."""
        self._file.close()
        with around("file.part"):
            self._part.unlink(missing_ok=True)

    def _place(self, record: _Record, *, replace: bool) -> None:
        """Write the record and let it appear whole; raises `FileExistsError` when another was first."""
        # Among the other parts until then: what a process that dies here leaves is dropped like any of them.
        draft = self._part.with_name(f"{uuid.uuid4().hex}.part")
        try:
            with draft.open("x", encoding="utf-8") as file:
                json.dump(asdict(record), file)
                file.flush()
                os.fsync(file.fileno())
            with around("file.record"):
                if replace:
                    draft.rename(self._folder / _RECORD)
                else:
                    os.link(draft, self._folder / _RECORD)
        finally:
            with around("file.draft"):
                draft.unlink(missing_ok=True)

    def _left(self, before: _Record | None, record: _Record, *, replace: bool) -> list[Path]:
        """Bytes that no record names: of the file that was replaced, or of those who died before they had a record.

        A second writer of a file that is written once is refused, and needs no bytes; one that replaces may still come.
        """
        if replace:
            return [] if before is None else [self._folder / before.file]
        return [path for path in self._folder.glob(".*.data") if path.name != record.file]


def _read_record(folder: Path) -> _Record | None:
    try:
        text = (folder / _RECORD).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _Record(**json.loads(text))


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each of them lasting."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        with around("file.folder"):
            folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    if folder.is_dir():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _drop_empty(folder: Path, *, below: Path) -> None:
    """Remove folders that hold nothing more, but never the first level, where others may be making theirs."""
    while below in folder.parents and folder.parent != below:
        try:
            with around("file.folder.gone"):
                folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _drop_abandoned(parts: Path) -> None:
    for part in parts.iterdir():
        with suppress(FileNotFoundError):  # another process cleans up too
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                with around("file.abandoned"):
                    part.unlink()
