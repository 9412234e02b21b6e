"""Uploads of an API whose files live in a bucket: bytes never pass through it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from shared.job import new_id
from shared.storage.s3 import S3Storage
from tests.functions.api import WAV, Api, problem
from tests.real.s3 import Ministack

PART = 5 << 20
LARGE = WAV * (11 * (1 << 20) // len(WAV))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Ministack]:
    """The S3 server of this module."""
    with Ministack(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def storage(server) -> S3Storage:
    """An empty bucket; files above ten megabytes go in parts of five."""
    return server.storage(parts_above=10 << 20, part_bytes=PART)


@pytest.fixture
def api(api_with) -> Api:
    """The API over that bucket."""
    return api_with()


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    """A client that reaches the bucket, and knows nothing of the API."""
    with httpx2.Client() as http:
        yield http


def announce(api: Api, size: int) -> dict:
    """An upload that has not begun."""
    body = {"filename": "talk.wav", "content_type": "audio/wav", "size_bytes": size}
    answer = api.http.post("/api/uploads", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def send(client: httpx2.Client, target: dict, content: bytes) -> int:
    """Send bytes as the answer says."""
    return client.request(target["method"], target["url"], content=content, headers=target["headers"]).status_code


def send_part(client: httpx2.Client, part: dict, content: bytes) -> int:
    """Send one part."""
    return send(client, part, content[part["first"] : part["first"] + part["size_bytes"]])


def test_a_small_upload_goes_straight_to_the_bucket_once(api, client, server):
    """One presigned request, with headers that a browser may set; complete says ready."""
    ticket = announce(api, len(WAV))
    assert set(ticket) == {"asset", "upload"}
    assert ticket["upload"]["url"].startswith(server.url)
    assert ticket["upload"]["headers"] == {"Content-Type": "audio/wav", "If-None-Match": "*"}
    complete = f"/api/uploads/{ticket['asset']}/complete"
    problem(api.http.post(complete), 409, "conflict")
    assert send(client, ticket["upload"], WAV) == 200
    assert api.http.post(complete).json()["state"] == "ready"
    assert send(client, ticket["upload"], WAV[::-1]) == 412
    problem(api.http.get(f"/api/uploads/{ticket['asset']}"), 409, "conflict")


def test_a_large_upload_goes_in_parts_and_can_be_taken_up_again(api, client, storage, tmp_path):
    """Parts in any order; what is missing is told at fresh addresses; then complete makes one file, also twice."""
    ticket = announce(api, len(LARGE))
    assert set(ticket) == {"asset", "parts"}
    here = f"/api/uploads/{ticket['asset']}"
    parts = ticket["parts"]
    assert set(parts[0]) == {"number", "first", "size_bytes", "method", "url", "headers"}
    for part in parts[::-1][:2]:
        assert send_part(client, part, LARGE) == 200
    problem(api.http.post(f"{here}/complete"), 409, "conflict")
    rest = api.http.get(here).json()
    assert [part["number"] for part in rest["parts"]] == [1]
    assert send_part(client, rest["parts"][0], LARGE) == 200
    assert api.http.get(here).json() == {"asset": ticket["asset"], "parts": []}
    for _ in range(2):
        answer = api.http.post(f"{here}/complete")
        assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    storage.fetch(f"uploads/{ticket['asset']}", tmp_path / "copy", lambda _done, _total: None)
    assert (tmp_path / "copy").read_bytes() == LARGE


def test_a_job_completes_an_upload_whose_parts_are_all_there(api, client):
    """A client that forgets complete loses nothing; one whose parts are missing is told so."""
    ticket = announce(api, len(LARGE))
    body = {"type": "ingest", "params": {"source": ticket["asset"]}}
    for part in ticket["parts"]:
        problem(api.http.post("/api/jobs", json=body), 409, "conflict")
        send_part(client, part, LARGE)
    assert api.http.post("/api/jobs", json=body).status_code == 201


def test_an_upload_whose_parts_were_cleared_away_begins_anew(api, client, server, storage):
    """A bucket's lifecycle drops what was not joined within a day."""
    ticket = announce(api, len(LARGE))
    storage.delete_prefix(f"uploads/{ticket['asset']}")
    fresh = api.http.get(f"/api/uploads/{ticket['asset']}").json()
    assert len(fresh["parts"]) == len(ticket["parts"])
    assert send_part(client, ticket["parts"][0], LARGE) == 404
    assert send_part(client, fresh["parts"][0], LARGE) == 200


def test_deleting_a_half_sent_upload_leaves_no_parts(api, client, server, storage):
    """204, and the bucket holds nothing, not even what no listing shows."""
    ticket = announce(api, len(LARGE))
    send_part(client, ticket["parts"][0], LARGE)
    assert api.http.delete(f"/api/assets/{ticket['asset']}").status_code == 204
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=storage.place.bucket)
    problem(api.http.get(f"/api/uploads/{ticket['asset']}"), 404, "not_found")


def test_an_unknown_upload_cannot_be_taken_up(api):
    """404."""
    problem(api.http.get(f"/api/uploads/{new_id()}"), 404, "not_found")


def test_an_output_is_reached_by_a_link_into_the_bucket(api, client, server, tmp_path):
    """302 to a presigned address that names the file and answers ranges."""
    claim = api.claim_of_new_job()
    api.complete(claim, api.output(claim, "talk.mp3", WAV, "audio/mpeg", tmp_path))
    answer = api.http.get(f"/api/jobs/{claim.job_id}/outputs/talk.mp3")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(server.url)
    file = client.get(answer.headers["location"], headers={"Range": "bytes=0-3"})
    assert (file.status_code, file.content) == (206, b"RIFF")
    assert file.headers["content-disposition"].startswith("attachment;")


def test_pages_may_reach_the_bucket_and_nothing_more(api, server):
    """Sending, playing and showing; scripts stay our own."""
    policy = api.http.get("/dashboard").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for name in ("connect-src", "media-src", "img-src"):
        assert server.url in rules[name].split()
    for name in ("default-src", "script-src", "style-src", "font-src"):
        assert server.url not in rules[name]


def test_files_of_a_bucket_are_not_served_here(api):
    """There is no /files/ to guess at."""
    problem(api.http.get("/files/uploads/a"), 404, "not_found")


def test_readiness_tells_what_is_wrong_with_the_bucket(api, server, storage):
    """503 with the sentence."""
    assert api.http.get("/readyz").status_code == 200
    server.client().delete_bucket(Bucket=storage.place.bucket)
    api.app.state.context.readiness._found = None
    assert "has no bucket" in api.http.get("/readyz").text
