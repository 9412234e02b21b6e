"""Whatever is wrong with a request gets the right status, a code and one sentence, and loses nothing."""

from __future__ import annotations

import json

import pytest

from tests.functions.api import WAV, problem

SOURCE = "https://example.org/talk.mp3"
JSON = {"Content-Type": "application/json"}


def ingest(**params) -> dict:
    """The body of a good ingest, but for `params`."""
    return {"type": "ingest", "params": {"source": SOURCE} | params}


def nested(levels: int) -> dict:
    """A family of so many levels."""
    job = {"type": "flow"}
    for _ in range(levels - 1):
        job = {"type": "flow", "children": [job]}
    return job


WRONG_FIELDS = {
    "unknown type": ({"type": "transcribe", "params": {}}, "type"),
    "no type": ({"params": {"source": SOURCE}}, "type"),
    "unknown field": (ingest() | {"priorty": 1}, "priorty"),
    "unknown parameter": (ingest(bitrate=128), "params.bitrate"),
    "unknown parameter of an output": (ingest(outputs=[{"format": "mp3", "kbps": 128}]), "params.outputs.0.kbps"),
    "out of range": (ingest(outputs=[{"format": "mp3", "bitrate_kbps": 128_000}]), "params.outputs.0.bitrate_kbps"),
    "second output": (ingest(outputs=[{"format": "mp3"}, {"format": "ogg"}]), "params.outputs.1.format"),
    "text for a number": (ingest(target_lufs="-16"), "params.target_lufs"),
    "truth for a number": (ingest() | {"priority": True}, "priority"),
    "part of a whole number": (ingest() | {"priority": 1.5}, "priority"),
    "number for text": (ingest(title=5), "params.title"),
    "too long a title": (ingest(title="x" * 201), "params.title"),
    "too long a name": (ingest(outputs=[{"format": "mp3", "name": "x" * 65}]), "params.outputs.0.name"),
    "a path for a name": (ingest(outputs=[{"format": "mp3", "name": "../../etc"}]), "params.outputs.0.name"),
    "twice the same output": (ingest(outputs=[{"format": "mp3"}, {"format": "mp3"}]), "params"),
    "too many outputs": (ingest(outputs=[{"format": "mp3", "name": f"n{n}"} for n in range(9)]), "params.outputs"),
    "unknown preset": (ingest(preset="loud"), "params.preset"),
    "no source": ({"type": "ingest"}, "params.source"),
    "null source": ({"type": "ingest", "params": {"source": None}}, "params.source"),
    "parameters that are a list": ({"type": "ingest", "params": []}, "params"),
    "missing upload": (ingest(source="no-such-upload"), "params.source"),
    "missing upload of a child": (
        {"type": "flow", "children": [ingest(), ingest(source="nothing")]}, "children.1.params.source",
    ),
    "wrong child": ({"type": "flow", "children": [{"type": "ingest", "params": {}}]}, "children.0.params.source"),
    "child with a time": (
        {"type": "flow", "children": [ingest() | {"run_at": "2099-01-01T00:00:00Z"}]}, "children.0.run_at",
    ),
    "two children of one key": (
        {"type": "flow", "children": [ingest() | {"child_key": "2"}, ingest()]}, "children.1.child_key",
    ),
    "five levels": (nested(5), "children.0.children.0.children.0.children"),
    "501 jobs": ({"type": "flow", "children": [ingest()] * 500}, "children"),
    "a time without zone": (ingest() | {"run_at": "2099-01-01T00:00:00"}, "run_at"),
    "a time that is a number": (ingest() | {"run_at": 4070908800}, "run_at"),
    "a time of the year 10000 in UTC": (ingest() | {"run_at": "9999-12-31T23:59:59-14:00"}, "run_at"),
    "a time that rounds up to it": (ingest() | {"run_at": "9999-12-31T23:59:59.9999Z"}, "run_at"),
    "a time of the year 0 in UTC": (ingest() | {"run_at": "0001-01-01T00:00:00+14:00"}, "run_at"),
    "more time than the type's": (ingest() | {"timeout_s": 3601}, "timeout_s"),
    "no time": (ingest() | {"timeout_s": 0}, "timeout_s"),
    "too high a priority": (ingest() | {"priority": 101}, "priority"),
    "no failures at all": (ingest() | {"max_failures": 0}, "max_failures"),
    "an empty tag": (ingest() | {"tags": [""]}, "tags.0"),
    "too long a tag": (ingest() | {"tags": ["ok", "x" * 65]}, "tags.1"),
    "too many tags": (ingest() | {"tags": [str(n) for n in range(17)]}, "tags"),
    "a tag with a line break": (ingest() | {"tags": ["a\nb"]}, "tags.0"),
    "a webhook that is a file": (ingest() | {"webhook_url": "file:///etc/passwd"}, "webhook_url"),
    "mail to two": (ingest() | {"webhook_url": "mailto:a@example.org,b@example.org"}, "webhook_url"),
    "mail with a header": (ingest() | {"webhook_url": "mailto:a@example.org?bcc=b@example.org"}, "webhook_url"),
    "a webhook with a password": (ingest() | {"webhook_url": "https://me:secret@example.org/"}, "webhook_url"),
    "a phase without a parent": (ingest() | {"phase": "pre"}, "phase"),
    "a key without a parent": (ingest() | {"child_key": "a"}, "child_key"),
    "a time for a child": (ingest() | {"parent_id": "x", "run_at": "2099-01-01T00:00:00Z"}, "run_at"),
    "a time for a flow": ({"type": "flow", "children": [ingest()], "run_at": "2099-01-01T00:00:00Z"}, "run_at"),
    "children of a child": (ingest() | {"parent_id": "x", "children": [ingest()]}, "children"),
    "unknown phase": ({"type": "flow", "children": [ingest() | {"phase": "later"}]}, "children.0.phase"),
    "not an object": ([ingest()], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_wrong_field_is_named_and_no_job_is_made(api, name):
    """422 with the path of the field that is wrong."""
    body, field = WRONG_FIELDS[name]
    problem(api.http.post("/api/jobs", json=body), 422, "invalid", field)
    assert api.http.get("/api/jobs").json()["items"] == []


UNREADABLE = {
    "nothing": b"",
    "half": b'{"type": "ingest", "params"',
    "not UTF-8": b'{"type": "\xff\xfe"}',
    "UTF-16": '{"type": "flow"}'.encode("utf-16"),
    "half a surrogate": b'{"type": "flow", "tags": ["\\ud800"]}',
    "NaN": b'{"type": "flow", "timeout_s": NaN}',
    "a number without end": b'{"type": "flow", "timeout_s": 1e999}',
    "a number of 5,000 digits": b'{"type": "flow", "priority": ' + b"9" * 5000 + b"}",
    "a thousand brackets": b"[" * 100_000,
    "forty levels": json.dumps(nested(25)).encode(),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_is_no_json_is_refused(api, name):
    """400, whatever the bytes are."""
    problem(api.http.post("/api/jobs", content=UNREADABLE[name], headers=JSON), 400, "malformed")


def test_a_body_of_another_encoding_or_type_is_refused(api):
    """JSON is UTF-8: another charset is 400, another type 415."""
    body = json.dumps(ingest())
    utf8 = {"Content-Type": 'application/json; charset="UTF-8"'}
    assert api.http.post("/api/jobs", content=body, headers=utf8).status_code == 201
    latin = {"Content-Type": "application/json; charset=latin-1"}
    problem(api.http.post("/api/jobs", content=body, headers=latin), 400, "malformed")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        answer = api.http.post("/api/jobs", content=body, headers={"Content-Type": kind})
        problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_its_limit_is_refused(api, declared):
    """413, also when the length is not said before."""
    body = json.dumps(ingest(title="x" * 1_000_000)).encode()
    content = body if declared else iter([body[:600_000], body[600_000:]])
    problem(api.http.post("/api/jobs", content=content, headers=JSON), 413, "too_large")


def test_a_whole_number_may_be_written_with_a_point(api):
    """9.0 is an integer in JSON Schema, so it is one here."""
    body = b'{"type": "ingest", "params": {"source": "https://example.org/a"}, "priority": 9.0}'
    assert api.http.post("/api/jobs", content=body, headers=JSON).json()["priority"] == 9


ZONED = "should be ISO 8601 with a zone, such as 2026-11-22T10:00:00Z"
TOLD = {
    "too many": ({"tags": ["x"] * 17}, "tags", "should have at most 16 items, not 17"),
    "empty": ({"tags": [""]}, "tags.0", "should have at least 1 character"),
    "a number for a text": ({"tags": [1]}, "tags.0", "should be a valid string"),
    "a number for a moment": ({"run_at": 1_763_763_600}, "run_at", ZONED),
    "a moment without a zone": ({"run_at": "2026-11-22T10:00:00"}, "run_at", ZONED),
    "no moment": ({"run_at": "tomorrow"}, "run_at", ZONED),
    "a link of another kind": (
        {"params": {"source": "ftp://example.org/a"}}, "params.source",
        "ftp://example.org/a is no link that is followed; give one of http or https, or upload the file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_wrong_is_told_in_the_words_of_json(api, name):
    """No type of Python's is in the sentence, and a moment's form is shown."""
    more, field, message = TOLD[name]
    answer = api.http.post("/api/jobs", json=ingest() | more)
    assert answer.json()["errors"] == [{"field": field, "message": message}]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "naïve"])
def test_a_key_that_cannot_be_kept_is_refused(api, key):
    """Idempotency-Key is 1 to 255 visible ASCII characters."""
    answer = api.http.post("/api/jobs", json=ingest(), headers={"Idempotency-Key": key.encode()})
    problem(answer, 422, "invalid", "Idempotency-Key")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/jobs?state=running", "state"),
        ("/api/jobs?status=done", "status"),
        ("/api/jobs?type=encode", "type"),
        ("/api/jobs?limit=0", "limit"),
        ("/api/jobs?limit=201", "limit"),
        ("/api/jobs?limit=ten", "limit"),
        ("/api/jobs?limit=1&limit=2", "limit"),
        ("/api/jobs?since=0001-01-01T00:00:00%2B14:00", "since"),
        ("/api/jobs?cursor=bm90IG91cnM=", "cursor"),
        ("/api/jobs?cursor=%00", "cursor"),
        ("/api/jobs/x?wait=21", "wait"),
        ("/api/jobs/x?wait=nan", "wait"),
        ("/api/jobs/x/events?after=-1", "after"),
        ("/api/jobs/x/events?level=loud", "level"),
        ("/api/jobs/x/events?limit=1001", "limit"),
        ("/api/jobs/x/outputs?full=1", "full"),
        ("/api/stats?hours=0", "hours"),
        ("/api/job-types?x=1", "x"),
        ("/healthz?deep=1", "deep"),
        ("/api/events?job=", "job"),
    ],
)
def test_a_wrong_query_is_named(api, path, field):
    """Unknown, repeated and impossible parameters are refused by name."""
    problem(api.http.get(path), 422, "invalid", field)


def test_a_cursor_that_was_changed_is_refused(api):
    """A cursor is signed: another place cannot be made of it."""
    for _ in range(3):
        api.submit()
    cursor = api.http.get("/api/jobs?limit=1").json()["next_cursor"]
    assert api.http.get("/api/jobs", params={"cursor": cursor}).status_code == 200
    changed = ("B" if cursor[9] != "B" else "C").join([cursor[:9], cursor[10:]])
    problem(api.http.get("/api/jobs", params={"cursor": changed}), 422, "invalid", "cursor")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"status": "completed"}, "status"),
        ({"priority": "high"}, "priority"),
        ({"tags": ["x"] * 17}, "tags"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"run_at": "9999-12-31T23:59:59-14:00"}, "run_at"),
    ],
)
def test_a_wrong_change_is_named_and_changes_nothing(api, body, field):
    """PATCH takes priority, run_at and tags, and at least one of them."""
    job = api.submit()
    problem(api.http.patch(f"/api/jobs/{job['id']}", json=body), 422, "invalid", field)
    assert api.http.get(f"/api/jobs/{job['id']}").json()["updated_at"] == job["updated_at"]


def test_an_upload_still_on_its_way_is_a_conflict(api):
    """409 with the file's name; the same request is accepted once the bytes are there."""
    asset, target = api.announce(filename="talk.wav")
    body = ingest(source=asset)
    assert "talk.wav" in problem(api.http.post("/api/jobs", json=body), 409, "conflict")["detail"]
    api.http.put(target["url"], content=WAV, headers=target["headers"])
    assert api.http.post("/api/jobs", json=body).status_code == 201


def test_an_upload_whose_bytes_are_there_is_found_complete(api, tmp_path):
    """Nobody needs to call complete: when storage has the whole object, the job is accepted and the upload ready."""
    asset, _ = api.announce()
    path = tmp_path / "sent"
    path.write_bytes(WAV)
    api.storage.put(path, f"uploads/{asset}", content_type="audio/wav", progress=lambda _done, _total: None)
    assert api.http.post("/api/jobs", json=ingest(source=asset)).status_code == 201
    assert api.store.asset(asset).state == "ready"


def test_another_callers_upload_is_as_good_as_none(api_with):
    """A token cannot use, complete or delete what another token sent."""
    api = api_with(api_tokens="one,two")
    api.http.headers["Authorization"] = "Bearer one"
    asset = api.upload()
    api.http.headers["Authorization"] = "Bearer two"
    problem(api.http.post("/api/jobs", json=ingest(source=asset)), 422, "invalid", "params.source")
    problem(api.http.post(f"/api/uploads/{asset}/complete"), 404, "not_found")
    problem(api.http.delete(f"/api/assets/{asset}"), 404, "not_found")
    api.http.headers["Authorization"] = "Bearer one"
    assert api.http.post("/api/jobs", json=ingest(source=asset)).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/api/jobs/", 404, "not_found"),
        ("GET", "/api/jobs/%00", 404, "not_found"),
        ("GET", "/api/jobs/" + "x" * 5000, 404, "not_found"),
        ("PUT", "/api/jobs", 405, "method_not_allowed"),
        ("DELETE", "/api/jobs", 405, "method_not_allowed"),
        ("GET", "/api/uploads", 405, "method_not_allowed"),
        ("DELETE", "/files/uploads/x", 405, "method_not_allowed"),
        ("OPTIONS", "/api/jobs", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_a_problem_too(api, method, path, status, code):
    """Unknown addresses and methods have the same shape of answer as every other error."""
    answer = api.http.request(method, path)
    problem(answer, status, code)
    assert status != 405 or "allow" in answer.headers


def test_405_names_every_method_of_a_path(api):
    """Routes that share a path share its Allow."""
    allowed = api.http.put("/api/jobs/x").headers["allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD", "PATCH", "DELETE"}
