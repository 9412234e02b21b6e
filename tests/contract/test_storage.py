"""What every storage promises. An adapter joins by adding its name and how to open it."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from functions.app import create_app
from shared.errors import NotFound
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.storage.protocol import StorageAdapter, UploadTarget
from shared.store.local import LocalJobStore
from shared.store.values import Asset
from tests.real.queue import new_queue
from tests.real.s3 import Ministack, ago

CONTENT = bytes(range(256)) * 300


@dataclass
class Place:
    """A storage, the HTTP client that reaches its signed addresses, and a block in which all happens earlier.

    `signs` is False where the server does not ask for a signature at all.
    """

    storage: StorageAdapter
    http: httpx2.Client
    store: LocalJobStore
    ago: Callable[[float], AbstractContextManager[None]]
    scratch: Path
    signs: bool = True

    def put(self, key: str, content: bytes = CONTENT, content_type: str = "audio/mpeg"):
        """A file stored as a worker does it."""
        path = self.scratch / "made"
        path.write_bytes(content)
        return self.storage.put(path, key, content_type=content_type, progress=ignore)

    def announce(self, asset_id: str, content: bytes = CONTENT, content_type: str = "audio/wav") -> UploadTarget:
        """An upload that has not begun."""
        self.store.add_asset(
            Asset(
                id=asset_id,
                owner="local",
                filename="a.wav",
                content_type=content_type,
                size_bytes=len(content),
                state="uploading",
            )
        )
        return self.storage.upload_target(
            f"uploads/{asset_id}", size_bytes=len(content), content_type=content_type, expires_s=60
        )

    def send(self, target: UploadTarget, content: bytes = CONTENT, **headers: str) -> int:
        """Send bytes as a client does; the status of the answer."""
        answer = self.http.request(target.method, target.url, content=content, headers=target.headers | headers)
        return answer.status_code


def _local(tmp_path: Path) -> Iterator[Place]:
    now = [1_000_000.0]
    storage = LocalStorage(tmp_path / "storage", b"secret", clock=lambda: now[0])
    store = new_queue(tmp_path / "spool.db")
    settings = load_settings(_env_file=None, storage_url=f"file:{tmp_path}/storage")

    @contextmanager
    def earlier(seconds: float) -> Iterator[None]:
        now[0] -= seconds
        yield
        now[0] += seconds

    http = TestClient(create_app(settings, store, storage), base_url="http://localhost:8000")
    yield Place(storage, http, store, earlier, tmp_path)
    store.close()


def _s3(tmp_path: Path, server: Callable[[], Ministack], **sizes: int) -> Iterator[Place]:
    store = new_queue(tmp_path / "spool.db")
    with httpx2.Client() as http:
        yield Place(server().storage(**sizes), http, store, ago, tmp_path, signs=False)
    store.close()


def _s3_in_parts(tmp_path: Path, server: Callable[[], Ministack]) -> Iterator[Place]:
    """Every file travels in parts; smaller ones than AWS allows, so that the suite stays quick."""
    yield from _s3(tmp_path, server, parts_above=20_000, part_bytes=10_000)


PLACES = {"local": lambda tmp_path, _: _local(tmp_path), "s3": _s3, "s3 in parts": _s3_in_parts}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Callable[[], Ministack]]:
    """The S3 server of this module, started by its first use."""
    with ExitStack() as stack:
        yield lru_cache(lambda: stack.enter_context(Ministack(tmp_path_factory.mktemp("s3"))))


@pytest.fixture(params=PLACES)
def place(request, tmp_path, server) -> Iterator[Place]:
    """An empty storage of each kind."""
    yield from PLACES[request.param](tmp_path, server)


def ignore(_done: int, _total: int | None) -> None:
    """Progress nobody looks at."""


def test_a_stored_file_comes_back_whole_and_named(place, tmp_path):
    """put, stat and fetch agree on bytes, size, type and checksum."""
    stored = place.put("outputs/job/1/mp3")
    assert stored.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert place.storage.stat("outputs/job/1/mp3") == stored
    assert place.storage.fetch("outputs/job/1/mp3", tmp_path / "copy", ignore) == stored
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert (stored.size_bytes, stored.content_type) == (len(CONTENT), "audio/mpeg")


def test_transfers_tell_true_progress(place, tmp_path):
    """Progress rises to the size of the file, and the total is known."""
    content = b"x" * 2_500_000
    up: list[tuple[int, int | None]] = []
    down: list[tuple[int, int | None]] = []
    path = tmp_path / "big"
    path.write_bytes(content)
    place.storage.put(path, "outputs/job/1/big", content_type="audio/wav", progress=lambda *at: up.append(at))
    place.storage.fetch("outputs/job/1/big", tmp_path / "back", lambda *at: down.append(at))
    for seen in (up, [at for at in down if at[1] is not None]):
        assert seen == sorted(seen)
        assert seen[-1] == (len(content), len(content))
    assert len(up) > 1
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system at hand")
def test_a_file_is_copied_to_another_disk_and_linked_on_its_own(tmp_path):
    """A recording of gigabytes takes no room twice; where it must, it arrives whole."""
    storage = LocalStorage(tmp_path / "storage", b"secret")
    (tmp_path / "talk").write_bytes(CONTENT)
    storage.put(tmp_path / "talk", "uploads/a1", content_type="audio/wav", progress=ignore)
    storage.fetch("uploads/a1", tmp_path / "near", ignore)
    assert (tmp_path / "near").stat().st_nlink == 2
    with tempfile.TemporaryDirectory(dir="/dev/shm") as far:
        steps: list[tuple[int, int | None]] = []
        storage.fetch("uploads/a1", Path(far, "talk"), lambda *at: steps.append(at))
        assert Path(far, "talk").read_bytes() == CONTENT
        assert Path(far, "talk").stat().st_nlink == 1
    assert steps[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("at", [0, len(CONTENT)], ids=["at the first byte", "at the last"])
def test_progress_may_stop_a_put_and_nothing_is_left(place, tmp_path, at):
    """A transfer that is stopped from its progress call leaves no file under the key."""

    def stop(done: int, _total: int | None) -> None:
        if done >= at:
            raise InterruptedError

    path = tmp_path / "made"
    path.write_bytes(CONTENT)
    with pytest.raises(InterruptedError):
        place.storage.put(path, "outputs/job/1/mp3", content_type="audio/mpeg", progress=stop)
    assert place.storage.stat("outputs/job/1/mp3") is None


def test_a_repeated_put_replaces_the_file(place, tmp_path):
    """A worker that puts the same key again leaves the newer bytes."""
    place.put("outputs/job/1/mp3", b"old")
    place.put("outputs/job/1/mp3", b"newer")
    place.storage.fetch("outputs/job/1/mp3", tmp_path / "copy", ignore)
    assert (tmp_path / "copy").read_bytes() == b"newer"


def test_an_empty_file_can_be_stored(place, tmp_path):
    """Nothing is a content too."""
    place.put("outputs/job/1/empty", b"")
    assert place.storage.fetch("outputs/job/1/empty", tmp_path / "copy", ignore).size_bytes == 0


def test_what_is_not_there_is_not_found(place, tmp_path):
    """stat says None, fetch raises."""
    assert place.storage.stat("uploads/none") is None
    with pytest.raises(NotFound):
        place.storage.fetch("uploads/none", tmp_path / "copy", ignore)


def test_delete_prefix_takes_what_begins_so_and_nothing_else(place):
    """A prefix counts as text, ends count, and a second delete finds nothing."""
    for key in ("outputs/a/1/mp3", "outputs/a/2/mp3", "outputs/ab/1/mp3", "uploads/a"):
        place.put(key)
    assert place.storage.delete_prefix("outputs/a/") == 2
    assert place.storage.delete_prefix("outputs/a/") == 0
    assert place.storage.stat("outputs/a/1/mp3") is None
    assert place.storage.stat("outputs/ab/1/mp3") is not None
    assert place.storage.delete_prefix("outputs/a") == 1
    assert place.storage.stat("uploads/a") is not None


def test_keys_are_those_below_a_folder(place):
    """Whole keys, of finished files only."""
    for key in ("outputs/a/1/mp3", "outputs/b/2/mp3", "uploads/a", "outputs-of/another"):
        place.put(key)
    assert sorted(place.storage.keys("outputs/")) == ["outputs/a/1/mp3", "outputs/b/2/mp3"]
    assert list(place.storage.keys("backups/")) == []


def test_check_leaves_nothing_behind(place):
    """The probe of readyz can be repeated."""
    place.storage.check()
    place.storage.check()
    assert place.storage.delete_prefix("check/") == 0


def test_an_upload_arrives_whole_through_its_signed_address(place, tmp_path):
    """The announced bytes are taken and come back the same."""
    assert place.send(place.announce("a1")) in {200, 201}
    place.storage.fetch("uploads/a1", tmp_path / "copy", ignore)
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["shorter", "longer", "other type", "expired", "tampered", "other key", "unsigned"])
def test_an_upload_other_than_announced_is_refused(place, change):
    """Size, type, time and key are part of the signature; a refused upload leaves nothing."""
    if change == "unsigned" and not place.signs:
        pytest.skip("ministack lets strangers write; AWS does not")
    with place.ago(61 if change == "expired" else 0):
        target = place.announce("a1")
    content, headers = CONTENT, {}
    match change:
        case "shorter":
            content = CONTENT[:-1]
        case "longer":
            content = CONTENT + b"!"
        case "other type":
            headers = {"Content-Type": "text/html"}
        case "tampered":
            other = "0" if target.url[-1] != "0" else "1"
            target = UploadTarget(target.method, target.url[:-1] + other, target.headers)
        case "other key":
            target = UploadTarget(target.method, target.url.replace("a1", "a2"), target.headers)
        case "unsigned":
            target = UploadTarget(target.method, target.url.partition("?")[0], target.headers)
    assert 400 <= place.send(target, content, **headers) < 500
    assert place.storage.stat("uploads/a1") is None
    assert place.storage.stat("uploads/a2") is None


def test_an_upload_is_written_once(place):
    """The same signed address does not take other bytes later."""
    target = place.announce("a1")
    place.send(target)
    assert place.send(target, CONTENT[::-1]) in {409, 412}
    stored = place.storage.stat("uploads/a1")
    assert stored is not None
    assert stored.size_bytes == len(CONTENT)


def test_of_two_uploads_at_once_exactly_one_wins(place, tmp_path):
    """Two clients that send to one address at the same time leave one of the two files, whole."""
    target = place.announce("a1")
    together = threading.Barrier(2)

    def send(content: bytes) -> int:
        together.wait()
        return place.send(target, content)

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(send, [b"a" * len(CONTENT), b"b" * len(CONTENT)]))
    assert answers[0] in {200, 201}
    assert answers[1] in {409, 412}
    place.storage.fetch("uploads/a1", tmp_path / "copy", ignore)
    assert len(set((tmp_path / "copy").read_bytes())) == 1


def test_a_download_answers_ranges_and_names_the_file(place):
    """A player can seek, and a browser saves under the name that was asked for."""
    place.put("outputs/job/1/mp3")
    url = place.storage.download_url(
        "outputs/job/1/mp3", filename="Folge 1 – Käse.mp3", content_type="audio/mpeg", expires_s=60
    )
    whole = place.http.get(url)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["content-type"] == "audio/mpeg"
    assert "K%C3%A4se.mp3" in whole.headers["content-disposition"]
    part = place.http.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, CONTENT[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(CONTENT)}"
    tail = place.http.get(url, headers={"Range": "bytes=-7"})
    assert (tail.status_code, tail.content) == (206, CONTENT[-7:])
    beyond = place.http.get(url, headers={"Range": f"bytes={len(CONTENT)}-"})
    assert beyond.status_code == 416


def test_a_download_link_ends(place):
    """After its time a link gives nothing."""
    place.put("outputs/job/1/mp3")

    def link() -> str:
        return place.storage.download_url("outputs/job/1/mp3", filename="a", content_type="audio/mpeg", expires_s=60)

    with place.ago(30):
        assert place.http.get(link()).status_code == 200
        young = link()
    with place.ago(61):
        old = link()
    assert place.http.get(young).status_code == 200
    assert place.http.get(old).status_code == 403


def test_a_download_link_is_for_one_file_only(place):
    """A signature does not open another key."""
    place.put("outputs/job/1/mp3")
    place.put("outputs/job/1/secret")
    url = place.storage.download_url("outputs/job/1/mp3", filename="a", content_type="audio/mpeg", expires_s=60)
    assert place.http.get(url.replace("/mp3?", "/secret?")).status_code == 403
