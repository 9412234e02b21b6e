"""The whole way with a bucket: the real command, API, worker and S3 server, from a recording to its finished file."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import Dev, Spool, running_dev
from tests.media import judges
from tests.real.proxy import Proxy
from tests.real.s3 import KEYS, Ministack

pytestmark = pytest.mark.media


@dataclass
class Studio:
    """A running system whose files are in a bucket, and what stands between the two."""

    dev: Dev
    proxy: Proxy
    server: Ministack
    bucket: str

    def held(self) -> list[str]:
        """What the bucket holds."""
        return [item["Key"] for item in self.server.client().list_objects_v2(Bucket=self.bucket).get("Contents", ())]


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    """API and one worker in processes of their own."""
    with Ministack(tmp_path_factory.mktemp("s3")) as server, Proxy(server.url) as proxy:
        bucket = server.bucket().bucket
        url = f"s3://{bucket}/studio?endpoint_url={proxy.url}"
        with running_dev(tmp_path_factory.mktemp("dev"), SPOOL_STORAGE_URL=url, **KEYS) as dev:
            yield Studio(dev, proxy, server, bucket)


@pytest.fixture
def spool(studio, tmp_path) -> Spool:
    """The command, talking to that system."""
    return Spool(tmp_path, {"SPOOL_API_URL": studio.dev.url})


def large(path: Path, speech: Path) -> Path:
    """The recording with more than 100 MB of what players skip before it."""
    content = speech.read_bytes()
    junk = 101 * 10**6
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", len(content) + junk) + b"WAVE")
        file.write(b"JUNK" + struct.pack("<I", junk))
        file.seek(junk - 1, 1)
        file.write(b"\0" + content[12:])
    return path


def made(spool: Spool, source: Path, engine) -> list[Path]:
    """Submit, follow, save; the finished file has the loudness that was asked for."""
    done = spool("submit", "ingest", str(source), "-o", str(spool.folder / "out"), "--watch")
    assert done.code == 0, done.out + done.err
    saved = sorted((spool.folder / "out").iterdir())
    mp3 = next(path for path in saved if path.suffix == ".mp3")
    assert judges.libebur128(engine.ffmpeg, mp3).lufs == pytest.approx(-16, abs=0.1)
    return saved


def test_a_recording_becomes_a_finished_file_by_way_of_a_bucket(studio, spool, recordings, engine):
    """Presigned upload, ingest, presigned download; nothing is kept on the API's disk."""
    source = spool.folder / "speech.wav"
    shutil.copy(recordings.speech, source)
    made(spool, source, engine)
    assert any(key.startswith("studio/uploads/") for key in studio.held())
    assert any(key.startswith("studio/outputs/") for key in studio.held())
    assert not (studio.dev.folder / ".spool" / "storage").exists()
    job = spool("jobs", "--json").json()["items"][0]
    with httpx2.Client() as http:
        answer = http.get(f"{studio.dev.url}/api/jobs/{job['id']}/outputs/{job['outputs'][0]['name']}")
        assert answer.headers["location"].startswith(studio.proxy.url)


def test_a_large_recording_travels_in_parts_over_a_network_that_breaks(studio, spool, recordings, engine):
    """Every ninth exchange with the bucket fails, on the way up, in the worker and on the way down."""
    faults = itertools.cycle([*[None] * 8, "drop before", *[None] * 8, "503 before", *[None] * 8, "reset after"])
    studio.proxy.fault = lambda: next(faults)
    try:
        made(spool, large(spool.folder / "large.wav", recordings.speech), engine)
    finally:
        studio.proxy.fault = lambda: None
    assert studio.proxy.faults.total() > 0
    assert "Uploads" not in studio.server.client().list_multipart_uploads(Bucket=studio.bucket)


def test_doctor_finds_the_bucket_and_says_when_it_does_not(studio, tmp_path):
    """The same check as readyz."""
    place = f"?endpoint_url={studio.proxy.url}"
    right = Spool(tmp_path, KEYS | {"SPOOL_STORAGE_URL": f"s3://{studio.bucket}{place}"})("doctor")
    assert "ok     storage" in right.out
    wrong = Spool(tmp_path, KEYS | {"SPOOL_STORAGE_URL": f"s3://nobody-made-this{place}"})("doctor")
    assert "WRONG  storage" in wrong.out
    assert "has no bucket nobody-made-this" in wrong.out
