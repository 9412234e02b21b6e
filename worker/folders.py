"""Where attempts work: a private folder each, gone with the attempt, and with the worker at the latest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from shared.crash import around
from shared.errors import ConfigurationError, Unavailable

#: What an entry counts at least: a million empty files are too much for a disk as well.
_ENTRY_BYTES = 1 << 16
#: More than any disk holds: what a folder counts into which the worker may not look.
_UNKNOWN_BYTES = 1 << 62
#: What is written to see whether anything can be.
_TRIAL = bytes(8192)


class WorkFolders:
    """The work folders of one worker process. A lock file says that it lives; others leave its folders alone.

    Without a `root` they are below the machine's folder for temporary files; raises `Unavailable` where it has none.
    """

    def __init__(self, root: Path | None, worker_id: str) -> None:
        self.root = root or _temporary() / f"spool-work-{os.getuid()}"
        self._home = self.root / worker_id
        self._lock: int | None = None

    @property
    def home(self) -> Path:
        """The worker's own folder, gone with it."""
        return self._home

    def open(self) -> None:
        """Make the worker's folder. Raises `ConfigurationError` when the place cannot be used."""
        try:
            with around("folders.root"):
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = self.root.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
                raise ConfigurationError(
                    f"The work folder {self.root} belongs to somebody else or others may write to it; "
                    "set SPOOL_WORK_DIR to a private folder."
                )
            self._lock = _lock_new(_lock_file(self._home))
            with around("folders.home"):
                self._home.mkdir(mode=0o700)
        except OSError as error:
            raise ConfigurationError(
                f"The work folder {self.root} cannot be used ({error.strerror}); set SPOOL_WORK_DIR to another one."
            ) from error

    def sweep(self) -> int:
        """Remove the folders of workers that are dead; returns how many there were."""
        swept = 0
        for path in self.root.glob("*.lock"):
            if path == _lock_file(self._home):
                continue
            with contextlib.suppress(OSError):  # it lives, or somebody else sweeps: either way not ours to touch
                descriptor = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    with around("folders.sweep"):
                        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                    if not path.with_suffix("").exists():
                        with around("folders.sweep.lock"):
                            path.unlink()
                        swept += 1
                finally:
                    os.close(descriptor)
        return swept

    def fault(self) -> str | None:
        """Why nothing can be written here now, in the system's words; None when it can. May be asked by any thread."""
        trial = self._home / f".trial-{threading.get_ident()}"
        try:
            try:
                trial.write_bytes(_TRIAL)
            finally:
                trial.unlink(missing_ok=True)
        except OSError as error:
            return error.strerror or str(error)
        return None

    def place(self, job_id: str, attempt: int) -> Path:
        """Where an attempt works; the attempt makes the folder itself, so that a full disk is its own failure."""
        return self._home / job_id / str(attempt)

    def remove(self, place: Path) -> None:
        """Remove an attempt's folder with all it holds."""
        with around("attempt.folder.gone"):
            shutil.rmtree(place.parent, ignore_errors=True)

    def close(self) -> None:
        """Remove the worker's folder."""
        if self._lock is None:
            return
        with around("folders.home.gone"):
            shutil.rmtree(self._home, ignore_errors=True)
        with around("folders.lock.gone"):
            _lock_file(self._home).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None


def used_bytes(place: Path, enough: int) -> int:
    """What the files below `place` take of the disk; stops counting at `enough`. What vanishes meanwhile is gone."""
    used, folders, seen = 0, [str(place)], set[int]()
    while folders and used < enough:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    if about.st_ino not in seen:
                        seen.add(about.st_ino)
                        used += max(_ENTRY_BYTES, about.st_blocks * 512)
                        if used >= enough:
                            break
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # gone, or something else is in its place: nothing of the job's
            continue
        except OSError:  # locked, or too deep for a path: whoever hides files has too many of them
            return _UNKNOWN_BYTES
    return used


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise Unavailable(
            "No folder for temporary files can be written to, as on a full disk; free some space, or set "
            "SPOOL_WORK_DIR to a folder on another disk."
        ) from None


def _lock_file(home: Path) -> Path:
    return home.with_name(home.name + ".lock")


def _lock_new(path: Path) -> int:
    """Create and lock a file; a sweeper may take it for a dead worker's in between, hence until it is ours."""
    while True:
        with around("folders.lock"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)
