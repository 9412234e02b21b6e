"""Work folders are private, and those of dead workers go."""

from __future__ import annotations

import os

import pytest

from shared.errors import ConfigurationError
from worker.folders import WorkFolders


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
