"""The demo's recordings come with published packages, and are what they should be."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import zipfile

import pytest

from cli.errors import CommandError
from cli.samples import SPEECH, VIDEO, fetch, fetch_samples


def test_both_samples_are_fetched_and_kept(recordings, tmp_path, monkeypatch) -> None:
    """A second demo needs no network: pip is not asked again for what is there."""
    for sample, path in ((SPEECH, recordings.speech), (VIDEO, recordings.video)):
        shutil.copy(path, tmp_path / sample.name)
    monkeypatch.setattr("cli.samples._download", None)
    samples = fetch_samples(tmp_path)
    assert hashlib.sha256(samples.speech.read_bytes()).hexdigest() == SPEECH.sha256
    assert hashlib.sha256(samples.video.read_bytes()).hexdigest() == VIDEO.sha256


def test_without_a_network_one_sentence_says_so(tmp_path, monkeypatch) -> None:
    """And nothing half-made stays behind."""
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "",
                        "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=r"pyannote-audio.*could not be downloaded.*network") as failed:
        fetch(SPEECH, tmp_path)
    assert "\n" not in failed.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [{}, {SPEECH.member: b"another recording"}])
def test_a_package_that_holds_something_else_is_refused(tmp_path, monkeypatch, held) -> None:
    """An index may serve anything; the hash decides."""

    def download(_: str, folder) -> None:
        with zipfile.ZipFile(folder / "package.whl", "w") as wheel:
            for name, content in held.items():
                wheel.writestr(name, content)

    monkeypatch.setattr("cli.samples._download", download)
    with pytest.raises(CommandError, match="does not hold the expected recording"):
        fetch(SPEECH, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_sample_that_was_changed_on_disk_is_fetched_again(recordings, tmp_path, monkeypatch) -> None:
    """Also one that an older version left under the same name."""
    (tmp_path / SPEECH.name).write_bytes(b"half")

    def download(_: str, folder) -> None:
        with zipfile.ZipFile(folder / "package.whl", "w") as wheel:
            wheel.writestr(SPEECH.member, recordings.speech.read_bytes())

    monkeypatch.setattr("cli.samples._download", download)
    path = fetch(dataclasses.replace(SPEECH), tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SPEECH.sha256
