"""What every hostile file meets: baits that must not be touched, and a place where a worker takes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.hostile.corpus import Bait
from tests.hostile.craft import wav
from tests.hostile.place import Place, Watched, place, tapped


@dataclass(frozen=True)
class Trap:
    """The baits, and whoever went for them."""

    bait: Bait
    watched: Watched
    asked: list[str]

    def untouched(self) -> bool:
        """Whether nobody opened the file or called the server since the last look."""
        return not self.watched.touched() and not self.asked


@pytest.fixture(scope="package")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    """A loud sound in a folder of its own, and a web server on this machine."""
    folder = tmp_path_factory.mktemp("bait")
    (folder / "secret.wav").write_bytes(wav(seconds=2))
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-f", "mp3", "-"]
    mp3 = subprocess.run(argv, check=True, capture_output=True).stdout
    with tapped() as (web, asked):
        watched = Watched(folder)
        yield Trap(Bait(folder / "secret.wav", web, mp3), watched, asked)
        watched.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """An API and a worker of two slots."""
    with place(tmp_path / "place") as started:
        yield started
