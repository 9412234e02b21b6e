"""Uploads, and the files of local storage over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tracemalloc

import pytest

from shared.errors import NotFound
from shared.job import new_id
from tests.functions.api import WAV, problem

GOOD = {"filename": "talk.wav", "content_type": "audio/wav", "size_bytes": 1000}


def test_an_upload_goes_from_announcement_to_ready(api):
    """Announce, send, and the asset is ready with the checksum of its bytes; complete says so."""
    asset, target = api.announce()
    assert (target["method"], target["headers"]) == ("PUT", {"Content-Type": "audio/wav"})
    problem(api.http.post(f"/api/uploads/{asset}/complete"), 409, "conflict")
    sent = api.http.put(target["url"], content=WAV, headers=target["headers"])
    assert sent.status_code == 201
    answer = api.http.post(f"/api/uploads/{asset}/complete", json={})
    assert answer.status_code == 200
    assert answer.json().items() >= {
        "asset": asset, "filename": "talk.wav", "content_type": "audio/wav", "size_bytes": len(WAV),
        "state": "ready", "sha256": hashlib.sha256(WAV).hexdigest(),
    }.items()  # fmt: skip


def test_the_address_of_an_upload_works_from_anywhere(api):
    """URLs in answers are absolute."""
    assert api.announce()[1]["url"].startswith("http://localhost:8000/files/uploads/")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": 20 * 10**9 + 1}, "size_bytes"),
        ({"size_bytes": "many"}, "size_bytes"),
        ({"filename": ""}, "filename"),
        ({"filename": "x" * 256}, "filename"),
        ({"filename": "../../etc/passwd"}, "filename"),
        ({"filename": "C:\\talk.wav"}, "filename"),
        ({"filename": "a\x00b"}, "filename"),
        ({"content_type": "wav"}, "content_type"),
        ({"content_type": "audio/wav\r\nX-Evil: 1"}, "content_type"),
        ({"content_type": "audio/" + "x" * 127}, "content_type"),
        ({"key": "uploads/other"}, "key"),
    ],
)
def test_a_wrong_announcement_is_named(api, change, field):
    """422 with the field."""
    problem(api.http.post("/api/uploads", json=GOOD | change), 422, "invalid", field)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (WAV[:-1], {}, 422, "invalid"),
        (WAV + b"!", {}, 413, "too_large"),
        (iter([WAV[:10]]), {}, 422, "invalid"),
        (iter([WAV, b"more"]), {}, 413, "too_large"),
        (WAV, {"Content-Type": "audio/mpeg"}, 415, "unsupported_media_type"),
    ],
    ids=["shorter", "longer", "shorter in pieces", "longer in pieces", "other type"],
)
def test_bytes_other_than_announced_are_refused_and_leave_nothing(api, content, headers, status, code):
    """The right bytes are still accepted afterwards."""
    asset, target = api.announce()
    problem(api.http.put(target["url"], content=content, headers=target["headers"] | headers), status, code)
    assert files_below(api.storage.root) == []
    assert api.store.asset(asset).state == "uploading"
    assert api.http.put(target["url"], content=WAV, headers=target["headers"]).status_code == 201


def test_a_connection_that_breaks_leaves_nothing(api):
    """A half-finished upload is no upload: no file, no ready asset."""
    asset, target = api.announce()
    messages = [
        {"type": "http.request", "body": WAV[:100], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    async def send(message):
        del message

    asyncio.run(api.app(put_scope(target["url"]), receive, send))
    assert files_below(api.storage.root) == []
    assert api.store.asset(asset).state == "uploading"


def test_what_a_killed_server_left_is_cleaned_up_later(api):
    """Parts that have not grown for an hour go when the next upload begins; those of others at work stay."""
    api.upload()
    incoming = api.storage.root / ".incoming"
    (incoming / "dead.part").write_bytes(b"half")
    (incoming / "alive.part").write_bytes(b"half")
    os.utime(incoming / "dead.part", (0, 0))
    api.upload()
    assert [path.name for path in incoming.iterdir()] == ["alive.part"]


def test_an_upload_is_not_written_twice(api):
    """409 for a second PUT, and the first bytes stay."""
    asset, target = api.announce()
    api.http.put(target["url"], content=WAV, headers=target["headers"])
    problem(api.http.put(target["url"], content=WAV[::-1], headers=target["headers"]), 409, "conflict")
    assert api.storage.stat(f"uploads/{asset}").sha256 == hashlib.sha256(WAV).hexdigest()


def test_an_upload_deleted_meanwhile_is_gone_with_its_bytes(api):
    """Bytes for an asset that no longer exists are refused and not kept."""
    asset, target = api.announce()
    assert api.http.delete(f"/api/assets/{asset}").status_code == 204
    problem(api.http.put(target["url"], content=WAV, headers=target["headers"]), 404, "not_found")
    assert files_below(api.storage.root) == []


def test_deleting_an_upload_takes_its_file(api):
    """204 and nothing is left; unknown uploads are 404; one that an unfinished job needs is kept."""
    asset, needed = api.upload(), api.upload()
    api.submit(params={"source": needed})
    assert api.http.delete(f"/api/assets/{asset}").status_code == 204
    problem(api.http.delete(f"/api/assets/{asset}"), 404, "not_found")
    problem(api.http.delete(f"/api/assets/{needed}"), 409, "conflict")
    assert api.storage.stat(f"uploads/{asset}") is None
    assert api.storage.stat(f"uploads/{needed}") is not None


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2f..%2fetc%2fpasswd",
        "/files/uploads/../../secret",
        "/files/uploads/%2e%2e/%2e%2e/secret",
        "/files//etc/passwd",
        "/files/.incoming/x",
        "/files/",
        "/dashboard/../app.py",
        "/dashboard/..%2fapp.py",
        "/dashboard/%2e%2e/app.py",
        "/dashboard/..%5capp.py",
        "/dashboard//etc/passwd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_no_path_leads_out_of_the_storage(api, path, method):
    """Whatever the address says, nothing is read or written outside."""
    before = files_below(api.storage.root.parent)
    answer = api.http.request(method, path, content=b"x", headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert files_below(api.storage.root.parent) == before


@pytest.mark.parametrize("key", ["..", "a/../b", "/etc", "a//b", "a/.record.json", "a/b\x00", "a b", "x" * 200])
def test_no_key_leads_out_of_the_storage(api, key):
    """Also a key of our own would have to be a plain path."""
    with pytest.raises(NotFound):
        api.storage.stat(key)
    with pytest.raises((NotFound, ValueError)):
        api.storage.delete_prefix(f"{key}/")


@pytest.mark.parametrize(
    ("kind", "way"), [("text/html", "inline"), ("image/svg+xml", "attachment"), ("text/plain", "attachment")]
)
def test_a_file_runs_nothing_in_the_origin_of_the_api(kind, way, api, tmp_path):
    """A page is shown in a sandbox without scripts, forms and loads, all else is saved; a name adds no headers."""
    job = api.submit()["id"]
    claim = api.claim()
    api.complete(claim, api.output(claim, "page", b"<script>alert(1)</script>", kind, tmp_path))
    url = api.http.get(f"/api/jobs/{job}/outputs").json()["items"][0]["url"]
    answer = api.http.get(url)
    policy = [part.strip() for part in answer.headers["content-security-policy"].split(";")]
    assert answer.headers["content-disposition"].startswith(f"{way};")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {"sandbox", "default-src 'none'"} <= set(policy)
    assert not re.search("allow-|script-src|https?:|data:|blob:", answer.headers["content-security-policy"])
    evil = api.storage.download_url(
        f"outputs/{job}/1/page", filename='a"\r\nX-Evil: 1;ü\\/.html', content_type=kind, expires_s=60
    )
    named = api.http.get(evil)
    assert named.status_code == 200
    assert "x-evil" not in named.headers
    assert "filename*=UTF-8''a%22%0D%0AX-Evil%3A%201%3B%C3%BC%5C%2F.html" in named.headers["content-disposition"]


def test_a_file_can_be_asked_for_in_parts_and_only_when_new(api, tmp_path):
    """HEAD, If-None-Match, If-Range and odd ranges behave as HTTP says."""
    claim = api.claim_of_new_job()
    api.complete(claim, api.output(claim, "talk.mp3", WAV, "audio/mpeg", tmp_path))
    url = api.http.get(f"/api/jobs/{claim.job_id}/outputs").json()["items"][0]["url"]
    head = api.http.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(WAV)))
    etag = head.headers["etag"]
    assert api.http.get(url, headers={"If-None-Match": etag}).status_code == 304
    for header, expected in {
        "bytes=0-0": WAV[:1],
        "bytes=5-": WAV[5:],
        "bytes=-5": WAV[-5:],
        f"bytes=10-{10**9}": WAV[10:],
    }.items():
        part = api.http.get(url, headers={"Range": header, "If-Range": etag})
        assert (part.status_code, part.content) == (206, expected), header
    for header in ("bytes=", "bytes=-", "bytes=9-3", "lines=1-2", "bytes=0-1,5-6", "bytes=x-y"):
        whole = api.http.get(url, headers={"Range": header})
        assert (whole.status_code, whole.content) == (200, WAV), header
    assert api.http.get(url, headers={"Range": "bytes=0-0", "If-Range": '"older"'}).status_code == 200
    for header in (f"bytes={len(WAV)}-", "bytes=-0"):
        answer = api.http.get(url, headers={"Range": header})
        problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(WAV)}"


def test_a_link_to_a_deleted_file_is_a_problem(api, tmp_path):
    """404, although the signature is still good."""
    claim = api.claim_of_new_job()
    api.complete(claim, api.output(claim, "talk.mp3", WAV, "audio/mpeg", tmp_path))
    url = api.http.get(f"/api/jobs/{claim.job_id}/outputs").json()["items"][0]["url"]
    api.http.delete(f"/api/jobs/{claim.job_id}?purge=true")
    problem(api.http.get(url), 404, "not_found")


def test_a_large_upload_is_never_in_memory(api):
    """64 MB go to disk in pieces of a megabyte."""
    size, piece = 64 * 2**20, bytes(2**16)
    body = GOOD | {"size_bytes": size}
    upload = api.http.post("/api/uploads", json=body).json()["upload"]
    left = [size // len(piece)]
    statuses = []

    async def receive():
        left[0] -= 1
        return {"type": "http.request", "body": piece, "more_body": left[0] > 0}

    async def send(message):
        statuses.append(message.get("status"))

    tracemalloc.start()
    asyncio.run(api.app(put_scope(upload["url"]), receive, send))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert statuses[0] == 201
    assert peak < 16 * 2**20


def test_a_signature_is_for_one_method(api):
    """An upload's address cannot be read, and a download's cannot be written."""
    asset, target = api.announce()
    api.http.put(target["url"], content=WAV, headers=target["headers"])
    problem(api.http.get(target["url"]), 403, "forbidden")
    link = api.storage.download_url(f"uploads/{asset}", filename="a", content_type="audio/wav", expires_s=60)
    problem(api.http.put(link, content=WAV, headers={"Content-Type": "audio/wav"}), 403, "forbidden")


def test_an_unknown_upload_is_not_found(api):
    """404 for complete and delete."""
    problem(api.http.post(f"/api/uploads/{new_id()}/complete"), 404, "not_found")
    problem(api.http.delete(f"/api/assets/{new_id()}"), 404, "not_found")


def files_below(folder) -> list[str]:
    """Every file but the database, as relative paths."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("spool.db")
    )


def put_scope(url: str) -> dict:
    """A PUT of a wav as a server hands it to the application."""
    path, _, query = url.removeprefix("http://localhost:8000").partition("?")
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "PUT", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "server": ("localhost", 8000), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost:8000"), (b"content-type", b"audio/wav")],
    }  # fmt: skip


def test_a_finished_upload_can_be_read_by_its_owner(api):
    """`GET /api/assets/{id}` signs an address; before the bytes are there it says so and has none."""
    asset, target = api.announce(WAV)
    before = api.http.get(f"/api/assets/{asset}").json()
    assert (before["state"], "url" in before) == ("uploading", False)
    assert api.http.request(target["method"], target["url"], content=WAV, headers=target["headers"]).status_code == 201
    after = api.http.get(f"/api/assets/{asset}").json()
    assert (after["state"], after["filename"]) == ("ready", "talk.wav")
    assert api.http.get(after["url"], headers={"Range": "bytes=0-3"}).content == WAV[:4]
    problem(api.http.get("/api/assets/unknown"), 404, "not_found")
