"""What only a bucket does: parts, broken connections, and the sentences for what is set wrongly."""

from __future__ import annotations

import errno
import hashlib
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from shared.errors import NotFound, SpoolError, Unavailable
from shared.settings import S3Place
from shared.storage.protocol import disposition
from shared.storage.s3 import S3Storage
from tests.real.proxy import Proxy
from tests.real.s3 import ago, free_port

MB = 1 << 20
CONTENT = hashlib.sha256(b"spool").digest() * (6 * MB // 32)


def ignore(_done: int, _total: int | None) -> None:
    """Progress nobody looks at."""


def faults(*given: str | None):
    """These, one a request, then none."""
    left = iter(given)
    return lambda: next(left, None)


@pytest.fixture
def file(tmp_path) -> Path:
    """Six megabytes."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def send(part, content: bytes, **headers: str) -> int:
    """Send a part's bytes as a client does; the status of the answer."""
    target = part.target
    return urllib3.request(target.method, target.url, body=content, headers=target.headers | headers).status


# --- uploads in parts ------------------------------------------------------------------------------------------------
def test_a_large_upload_arrives_in_parts_in_any_order(server, tmp_path):
    """Equal parts but the last; joined only when all are there, with the announced type; then nothing is left open."""
    storage = server.storage(parts_above=5 * MB, part_bytes=5 * MB)
    parts = storage.begin_parts("uploads/a", size_bytes=len(CONTENT), content_type="audio/wav", expires_s=60)
    assert [(part.number, part.first, part.size_bytes) for part in parts] == [(1, 0, 5 * MB), (2, 5 * MB, MB)]
    assert send(parts[1], CONTENT[5 * MB :]) == 200
    assert storage.join_parts("uploads/a", size_bytes=len(CONTENT)) is None
    assert storage.stat("uploads/a") is None
    missing = storage.missing_parts("uploads/a", size_bytes=len(CONTENT), expires_s=60)
    assert [part.number for part in missing] == [1]
    assert send(missing[0], CONTENT[: 5 * MB]) == 200
    stored = storage.join_parts("uploads/a", size_bytes=len(CONTENT))
    assert (stored.size_bytes, stored.content_type) == (len(CONTENT), "audio/wav")
    assert storage.join_parts("uploads/a", size_bytes=len(CONTENT)) is None
    assert storage.stat("uploads/a") == stored
    storage.fetch("uploads/a", tmp_path / "copy", ignore)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=storage.place.bucket)


@pytest.mark.parametrize("change", ["shorter", "longer", "expired", "tampered", "other part"])
def test_a_part_other_than_announced_is_refused(server, change):
    """Size, number and time are part of a part's signature."""
    storage = server.storage(parts_above=5 * MB, part_bytes=5 * MB)
    with ago(61 if change == "expired" else 0):
        parts = storage.begin_parts("uploads/a", size_bytes=len(CONTENT), content_type="audio/wav", expires_s=60)
    content, url = CONTENT[5 * MB :], parts[1].target.url
    match change:
        case "shorter":
            content = content[:-1]
        case "longer":
            content += b"!"
        case "tampered":
            url = url[:-1] + ("0" if url[-1] != "0" else "1")
        case "other part":
            url = url.replace("partNumber=2", "partNumber=1")
    assert urllib3.request("PUT", url, body=content).status == 403
    assert len(storage.missing_parts("uploads/a", size_bytes=len(CONTENT), expires_s=60)) == 2


def test_small_uploads_have_no_parts(server):
    """Up to 100 MB one request does it, and asking costs no request."""
    storage = S3Storage(replace(server.bucket(), endpoint_url="http://127.0.0.1:9"))
    assert storage.begin_parts("uploads/a", size_bytes=10**8, content_type="audio/wav", expires_s=60) is None
    assert storage.missing_parts("uploads/a", size_bytes=10**8, expires_s=60) is None
    assert storage.join_parts("uploads/a", size_bytes=10**8) is None


def test_the_largest_upload_has_few_parts_of_one_size(server):
    """250 signatures for 20 GB; R2 wants all parts but the last to be equal, and S3 at most 5 GiB each."""
    parts = server.storage().begin_parts("uploads/a", size_bytes=20 * 10**9, content_type="video/mp4", expires_s=60)
    assert len(parts) <= 250
    assert len({part.size_bytes for part in parts[:-1]}) == 1
    assert sum(part.size_bytes for part in parts) == 20 * 10**9
    assert [part.first for part in parts[1:]] == [part.first + part.size_bytes for part in parts[:-1]]


def test_deleting_takes_the_parts_of_a_broken_upload_too(server):
    """What was begun and never joined costs money although no listing of files shows it."""
    storage = server.storage(parts_above=5 * MB, part_bytes=5 * MB)
    parts = storage.begin_parts("uploads/a", size_bytes=len(CONTENT), content_type="audio/wav", expires_s=60)
    send(parts[1], CONTENT[5 * MB :])
    assert storage.delete_prefix("uploads/a") == 0
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=storage.place.bucket)
    assert storage.missing_parts("uploads/a", size_bytes=len(CONTENT), expires_s=60) is None


def test_more_than_a_thousand_files_are_deleted_in_batches(server):
    """S3 lists and deletes a thousand at a time; a prefix of another studio stays."""
    storage = server.storage()
    client = server.client()

    def make(number: int) -> None:
        client.put_object(Bucket=storage.place.bucket, Key=f"studio/one/outputs/job/1/{number}", Body=b"")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(1005)))
    client.put_object(Bucket=storage.place.bucket, Key="outputs/job/1/another", Body=b"")
    assert storage.delete_prefix("outputs/job/") == 1005
    assert client.list_objects_v2(Bucket=storage.place.bucket)["KeyCount"] == 1


# --- what a worker moves ---------------------------------------------------------------------------------------------
def test_a_put_in_parts_that_is_stopped_leaves_no_parts(server, file):
    """They would be paid for without being seen."""
    storage = server.storage(parts_above=MB, part_bytes=MB)

    def stop(done: int, _total: int | None) -> None:
        if done > 2 * MB:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        storage.put(file, "outputs/job/1/mp3", content_type="audio/mpeg", progress=stop)
    assert storage.stat("outputs/job/1/mp3") is None
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=storage.place.bucket)
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_work)")]


def test_a_file_that_changes_on_its_way_is_refused_by_the_server(server, file, monkeypatch):
    """Every byte is under the checksum that goes with it."""
    storage = server.storage()
    monkeypatch.setattr(
        "shared.storage.slices.Slice.read", lambda self, size=-1: b"?" * 0 if self._at else _other(self)
    )
    with pytest.raises(Unavailable, match="BadDigest"):
        storage.put(file, "outputs/job/1/mp3", content_type="audio/mpeg", progress=ignore)
    assert storage.stat("outputs/job/1/mp3") is None


def _other(piece) -> bytes:
    piece._at = len(piece)
    return b"?" * len(piece)


@pytest.mark.parametrize("fault", ["truncate", "drop before", "reset after", "503 before"])
def test_a_broken_download_goes_on_where_it_broke(server, tmp_path, file, fault):
    """The bytes that came are not fetched again, and progress never falls."""
    storage = server.storage()
    storage.put(file, "uploads/a", content_type="audio/wav", progress=ignore)
    seen: list[int] = []
    with Proxy(server.url, fault=faults("truncate", fault)) as proxy:
        through = S3Storage(replace(storage.place, endpoint_url=proxy.url))
        stored = through.fetch("uploads/a", tmp_path / "copy", lambda done, _: seen.append(done))
        vars(through)["_made"].close()
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert stored.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert proxy.requests >= 3


def test_a_download_that_never_moves_is_given_up(server, tmp_path, file):
    """With a sentence, after a few tries."""
    storage = server.storage()
    storage.put(file, "uploads/a", content_type="audio/wav", progress=ignore)
    with Proxy(server.url, fault=lambda: "drop before") as proxy:
        through = S3Storage(replace(storage.place, endpoint_url=proxy.url))
        with pytest.raises(Unavailable, match=r"Nothing answers at http://127.0.0.1:\d+"):
            through.fetch("uploads/a", tmp_path / "copy", ignore)
        vars(through)["_made"].close()


def test_a_file_replaced_while_it_is_read_is_not_mixed(server, tmp_path, file):
    """The second request is for the first one's file only."""
    storage = server.storage()
    storage.put(file, "uploads/a", content_type="audio/wav", progress=ignore)
    replaced = threading.Event()

    def between() -> str | None:
        if not replaced.is_set():
            replaced.set()
            return "truncate"
        file.write_bytes(CONTENT[::-1])
        storage.put(file, "uploads/a", content_type="audio/wav", progress=ignore)
        return None

    with Proxy(server.url, fault=between) as proxy:
        through = S3Storage(replace(storage.place, endpoint_url=proxy.url))
        with pytest.raises(Unavailable, match="PreconditionFailed"):
            through.fetch("uploads/a", tmp_path / "copy", ignore)
        vars(through)["_made"].close()


def test_a_file_that_is_not_what_was_put_is_not_accepted(server, tmp_path, file):
    """The checksum of the worker that made it decides."""
    storage = server.storage()
    at = {"Bucket": storage.place.bucket, "Key": "studio/one/outputs/job/1/mp3"}
    server.client().put_object(**at, Body=CONTENT, Metadata={"sha256": "0" * 64})
    with pytest.raises(Unavailable, match="did not arrive as it was stored"):
        storage.fetch("outputs/job/1/mp3", tmp_path / "copy", ignore)


def test_a_full_disk_here_stays_a_full_disk(server, file):
    """It is the worker's disk, not the storage, and says so."""
    storage = server.storage()
    storage.put(file, "uploads/a", content_type="audio/wav", progress=ignore)
    with pytest.raises(OSError, match="No space left") as failed:
        storage.fetch("uploads/a", Path("/dev/full"), ignore)
    assert failed.value.errno == errno.ENOSPC


def test_an_upload_has_a_checksum_once_a_worker_has_read_it(server, tmp_path):
    """Clients sign no checksum, so it is taken on the way in."""
    storage = server.storage()
    target = storage.upload_target("uploads/a", size_bytes=5, content_type="audio/wav", expires_s=60)
    assert urllib3.request(target.method, target.url, body=b"hello", headers=target.headers).status == 200
    assert storage.stat("uploads/a").sha256 is None
    assert storage.fetch("uploads/a", tmp_path / "a", ignore).sha256 == hashlib.sha256(b"hello").hexdigest()


# --- sentences -------------------------------------------------------------------------------------------------------
def error(code: str, more: str = "") -> str:
    """An error as S3 words it."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>No.</Message>{more}</Error>'


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, error("NoSuchBucket"), r"has no bucket studio; make it, or correct SPOOL_STORAGE_URL"),
        (403, error("AccessDenied"), r"may not do this in the bucket studio \(AccessDenied\); allow them"),
        (403, error("InvalidAccessKeyId"), r"does not accept the storage keys.*AWS_ACCESS_KEY_ID"),
        (403, error("SignatureDoesNotMatch"), r"does not accept the storage keys.*AWS_SECRET_ACCESS_KEY"),
        (401, "", r"does not accept the storage keys"),
        (403, error("RequestTimeTooSkewed"), r"clock.*differ.*set this machine's clock"),
        (400, error("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"), r"in the region eu-west-3, not in"),
        (400, error("AuthorizationQueryParametersError", "<Region>eu-west-3</Region>"), r"set region=eu-west-3 in"),
        (301, error("PermanentRedirect"), r"is in another region, not in us-east-1"),
        (501, error("NotImplemented"), r"add write_once=no to SPOOL_STORAGE_URL"),
        (507, error("XMinioStorageFull"), r"bucket studio is full; free some space"),
        (503, error("SlowDown"), r"could not do this \(SlowDown: No\); it is worth trying again"),
        (500, "<html>oh</html>", r"could not do this \(500\)"),
    ],
)  # fmt: skip
def test_what_is_set_wrongly_is_said_in_one_sentence(answering, status, body, sentence):
    """check says what happened and what to do, whatever request met it."""
    storage = S3Storage(S3Place("studio", "", answering(status, body, ""), "us-east-1"))
    with pytest.raises(SpoolError, match=sentence) as failed:
        storage.check()
    assert isinstance(failed.value, Unavailable)
    assert failed.value.message.endswith(".")


def test_a_clock_that_is_off_is_noticed_before_signatures_are_refused(answering):
    """By the server's own date; the sentence says by how much."""
    storage = S3Storage(S3Place("studio", "", answering(200, "", "Sun, 22 Nov 2020 00:00:00 GMT"), "us-east-1"))
    with pytest.raises(Unavailable, match=r"clock and that of .* differ by \d+ minutes"):
        storage.check()


def test_a_bucket_that_is_not_there_is_named_by_the_real_server(server):
    """Also by requests that are not presigned."""
    storage = S3Storage(replace(server.bucket(), bucket="nobody-made-this"))
    for ask in (storage.check, lambda: storage.delete_prefix("outputs/x/")):
        with pytest.raises(Unavailable, match="has no bucket nobody-made-this"):
            ask()


def test_nothing_at_the_address_is_said_so(answering):
    """With the address."""
    answering(200, "", "")
    storage = S3Storage(S3Place("studio", "", f"http://127.0.0.1:{free_port()}", "us-east-1"))
    for ask in (storage.check, lambda: storage.stat("uploads/a")):
        with pytest.raises(Unavailable, match=r"Nothing answers at http://127.0.0.1:\d+ .*check endpoint_url"):
            ask()


def test_without_keys_the_sentence_names_them(monkeypatch, tmp_path):
    """No request is made."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="There are no storage keys; set AWS_ACCESS_KEY_ID"):
        S3Storage(S3Place("studio", "", None, "eu-central-1")).check()


# --- addresses -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("place", "origin"),
    [
        (S3Place("studio", "", None, "eu-central-1"), "https://studio.s3.eu-central-1.amazonaws.com"),
        (S3Place("studio", "", None, "us-east-1"), "https://studio.s3.us-east-1.amazonaws.com"),
        (S3Place("my.studio", "", None, "us-east-1"), "https://s3.us-east-1.amazonaws.com"),
        (S3Place("studio", "", None, "cn-north-1"), "https://studio.s3.cn-north-1.amazonaws.com.cn"),
        (S3Place("studio", "", "https://a1.r2.cloudflarestorage.com", "auto"), "https://a1.r2.cloudflarestorage.com"),
    ],
)
def test_the_origin_is_where_signed_addresses_lead(monkeypatch, place, origin):
    """Pages allow exactly that; it is known without loading boto3."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    storage = S3Storage(place)
    assert storage.origin == origin
    link = storage.download_url("outputs/a/1/mp3", filename="a.mp3", content_type="audio/mpeg", expires_s=60)
    assert re.match(r"https://[^/]+", link)[0] == origin
    target = storage.upload_target("uploads/a", size_bytes=5, content_type="audio/wav", expires_s=60)
    assert "content-length%3Bcontent-type%3Bhost%3Bif-none-match" in target.url


def test_a_server_that_does_not_know_write_once_is_not_asked_for_it(server):
    """B2 refuses the header."""
    storage = S3Storage(replace(server.bucket(), write_once=False))
    target = storage.upload_target("uploads/a", size_bytes=5, content_type="audio/wav", expires_s=60)
    assert target.headers == {"Content-Type": "audio/wav"}
    assert "if-none-match" not in target.url
    storage.check()


@pytest.mark.parametrize("key", ["..", "a/../b", "/etc", "a//b", "a b", "", "x" * 200, "a/.record.json"])
def test_no_key_leads_elsewhere_in_the_bucket(server, key):
    """Keys are plain here too."""
    storage = server.storage()
    with pytest.raises(NotFound):
        storage.stat(key)
    with pytest.raises((NotFound, ValueError)):
        storage.delete_prefix(f"{key}/")


def test_a_hostile_file_name_stays_a_name():
    """Nothing in it ends the header."""
    header = disposition('a"\r\nX-Evil: 1;ü\\/.html')
    assert header.isascii()
    assert header.isprintable()
    assert header.startswith("attachment; filename=\"a___X-Evil: 1;___.html\"; filename*=UTF-8''a%22%0D%0A")


def test_making_a_storage_does_not_load_boto3():
    """Pages and jobs are served without it; it costs 0.3 s of a cold start."""
    code = (
        "import sys; from shared.settings import load_settings; from shared.storage import get_storage; "
        "get_storage(load_settings(_env_file=None, storage_url='s3://studio?region=eu-central-1')).origin; "
        "print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
