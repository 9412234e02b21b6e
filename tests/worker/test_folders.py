"""Work folders are private, and those of dead workers go."""

from __future__ import annotations

import os

import pytest

from shared.errors import ConfigurationError
from worker.folders import WorkFolders, used_bytes


def test_a_worker_has_a_private_folder_and_takes_it_along(tmp_path) -> None:
    """Nobody else may look into it; when the worker ends nothing is left."""
    folders = WorkFolders(tmp_path / "work", "me")
    folders.open()
    assert (tmp_path / "work" / "me").stat().st_mode & 0o777 == 0o700
    assert folders.place("job", 2) == tmp_path / "work" / "me" / "job" / "2"
    folders.close()
    assert list((tmp_path / "work").iterdir()) == []


def test_only_the_folders_of_the_dead_are_swept(tmp_path) -> None:
    """A living worker's files stay; a dead one's go with its lock."""
    alive, dead, sweeper = (WorkFolders(tmp_path / "work", name) for name in ("alive", "dead", "sweeper"))
    for folders in (alive, dead, sweeper):
        folders.open()
        folders.place("job", 1).mkdir(parents=True)
    descriptor, dead._lock = dead._lock, None
    assert descriptor is not None
    os.close(descriptor)
    assert sweeper.sweep() == 1
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"alive", "alive.lock", "sweeper", "sweeper.lock"}
    assert alive.place("job", 1).exists()


def test_what_a_folder_takes_of_the_disk_is_counted(tmp_path) -> None:
    """Blocks and not lengths, below folders too, a file of two names once, links never followed, and no further than
    asked."""
    assert used_bytes(tmp_path / "nothing", 1 << 40) == 0
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    content = b"x" * (1 << 20)
    (tmp_path / "deep" / "deeper" / "file").write_bytes(content)
    one = used_bytes(tmp_path, 1 << 40)
    assert 1 << 20 <= one < 3 << 19
    (tmp_path / "again").hardlink_to(tmp_path / "deep" / "deeper" / "file")
    (tmp_path / "up").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert used_bytes(tmp_path, 1 << 40) < one + (1 << 18)
    assert used_bytes(tmp_path, 1) < 1 << 20, "it stops when it has seen enough"


def test_a_file_where_the_folder_was_takes_nothing(tmp_path) -> None:
    """Somebody else's disk is at fault then, not the recording: found by chaos as a permanent failure."""
    (tmp_path / "work").write_text("in the way")
    assert used_bytes(tmp_path / "work", 1 << 40) == 0
    assert used_bytes(tmp_path / "work" / "job" / "1", 1 << 40) == 0


def test_a_folder_that_cannot_be_looked_into_counts_as_full(tmp_path) -> None:
    """Nothing can be hidden in folders deeper than a path may be long."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("x" * 200, dir_fd=here)
        below = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert used_bytes(tmp_path, 1 << 40) > 1 << 50


def test_a_place_open_to_others_is_refused(tmp_path) -> None:
    """A work folder that others may write to stops the start with a sentence."""
    root = tmp_path / "work"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(ConfigurationError, match="SPOOL_WORK_DIR"):
        WorkFolders(root, "me").open()


def test_a_place_that_cannot_be_made_is_explained(tmp_path) -> None:
    """A file in the way stops the start with a sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="SPOOL_WORK_DIR"):
        WorkFolders(tmp_path / "file" / "work", "me").open()


def test_a_folder_that_cannot_be_used_says_why(tmp_path) -> None:
    """Gone or in order, a look tells, and leaves nothing."""
    folders = WorkFolders(tmp_path / "work", "me")
    folders.open()
    assert folders.fault() is None
    assert list((tmp_path / "work" / "me").iterdir()) == []
    (tmp_path / "work" / "me").rmdir()
    assert folders.fault() == "No such file or directory"
    folders.close()
