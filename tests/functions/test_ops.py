"""Health, readiness, statistics, job types, the pages and the OpenAPI document."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from functions import openapi
from functions.app import OPERATIONS, create_app
from functions.readiness import Readiness
from shared.errors import SpoolError
from shared.job import Failure, Outcome
from shared.store.local import LocalJobStore
from tests.functions.api import HERE, WAV, problem

PAGES = Path(openapi.__file__).parent / "dashboard"


def test_ready_when_database_and_storage_answer(api):
    """200; that no worker is alive is told, and makes no API unready."""
    found = api.http.get("/readyz").json()
    assert found["status"] == "ready"
    about = {finding["what"]: finding for finding in found["findings"]}
    assert {what for what, finding in about.items() if not finding["ok"]} == {"workers"}
    assert about.keys() == {"database", "clock", "storage", "workers", "dead letters", "backup"}


def test_not_ready_says_what_is_missing(settings_for, storage, tmp_path):
    """503 with a sentence for each part: an unmigrated database, a storage folder that cannot be written."""
    store = LocalJobStore(tmp_path / "empty.db")
    storage.root.write_text("a file in place of the folder")
    http = TestClient(create_app(settings_for(), store, storage), base_url=HERE)
    answer = http.get("/readyz")
    detail = problem(answer, 503, "unavailable")["detail"]
    assert "spool migrate" in detail
    assert str(storage.root) in detail
    assert answer.headers["retry-after"] == "1"
    assert http.get("/healthz").json() == {"status": "up"}
    store.close()


def test_readiness_is_remembered_for_two_seconds(api):
    """Probes that come often ask the database once."""
    now, checks = [0.0], []

    class Counted:
        def check(self) -> None:
            checks.append(now[0])

    readiness = Readiness(clock=lambda: now[0])
    for at in (0.0, 1.9, 2.0, 3.9, 4.0):
        now[0] = at
        readiness.findings(api.store, Counted())
    assert checks == [0.0, 2.0, 4.0]


def test_a_database_that_is_gone_is_a_503_with_a_sentence(settings_for, storage, tmp_path):
    """Not a 500: what happened and what to do."""
    (tmp_path / "folder").mkdir()
    store = LocalJobStore(tmp_path / "folder")
    http = TestClient(create_app(settings_for(), store, storage), base_url=HERE)
    problem(http.get("/api/jobs"), 503, "unavailable")
    problem(http.post("/api/jobs", json={"type": "flow"}), 503, "unavailable")
    assert http.get("/healthz").status_code == 200
    store.close()


def test_waiting_jobs_are_counted_as_far_as_asked(api):
    """A page that shows `100+` reads a hundred rows and no more."""
    for _ in range(4):
        api.submit()
    counts = [api.http.get("/api/stats", params={"count_to": most}).json()["states"]["pending"] for most in (2, 4, 9)]
    assert counts == [2, 4, 4]


def test_statistics_count_what_happened(api):
    """States, types, failures and percentiles of real jobs."""
    api.submit()
    for word in ("completed", "completed", "failed"):
        api.submit(priority=1)
        failure = Failure("bad_input.empty", "permanent", "Empty.", None) if word == "failed" else None
        api.store.finish(api.claim(), Outcome(word, result={"media_ms": 1500}, failure=failure))
    api.store.heartbeat(api.worker, [], lease_s=90)
    stats = api.http.get("/api/stats").json()
    assert (stats["states"]["pending"], stats["states"]["completed"], stats["states"]["failed"]) == (1, 2, 1)
    assert set(stats["states"]) >= {"scheduled", "running", "dead_letter", "cancelled"}
    assert stats["types"]["ingest"] == {"pending": 1, "completed": 2, "failed": 1}
    assert stats["failure_rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert stats["oldest_waiting_s"] >= 0
    assert 0 <= stats["wait_ms"]["p50"] <= stats["wait_ms"]["p95"] <= stats["wait_ms"]["p99"]
    assert stats["workers"][0]["id"] == api.worker.id
    assert stats["workers"][0]["jobs"] == []
    assert stats["mean_run_ms"].keys() == {"ingest"}
    assert stats["mean_run_ms"]["ingest"] >= 0
    owned = api.claim()
    at = api.http.get("/api/stats").json()["workers"][0]["jobs"]
    assert at == [{"id": owned.job_id, "type": "ingest", "title": "talk.mp3", "stage": None}]
    assert stats["by_hour"][-1]["ended"]["failed"] == 1
    assert stats["completed_per_hour"] == pytest.approx(2 / 24, abs=0.01)


def test_job_types_carry_the_schema_that_requests_are_checked_by(api_with):
    """What the schema takes the API takes, with this deployment's limits."""
    api = api_with(timeouts="ingest=1800")
    items = {item["name"]: item for item in api.http.get("/api/job-types").json()["items"]}
    assert items["ingest"]["stages"] == ["downloading", "analyzing", "normalizing", "encoding", "uploading"]
    assert items["ingest"]["timeout_s"] == 1800
    jsonschema.validate({"source": "x"}, items["ingest"]["params"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"source": "x", "bitrate": 1}, items["ingest"]["params"])
    body = {"type": "ingest", "params": {"source": "https://x.org/a"}, "timeout_s": 1801}
    problem(api.http.post("/api/jobs", json=body), 422, "invalid", "timeout_s")


def test_the_committed_document_is_the_one_the_code_makes():
    """functions/openapi.json is up to date: `python -m functions.openapi` writes it."""
    assert json.loads(openapi.PATH.read_text(encoding="utf-8")) == openapi.document()


def test_the_document_is_valid_openapi(api):
    """By an independent validator; every operation has its own name and documents every path parameter."""
    document = api.http.get("/openapi.json").json()
    validate(document)
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)


def test_every_error_code_is_explained():
    """The `type` of a problem leads to a code that the API page explains."""
    codes = {kind.code for kind in subclasses(SpoolError) if kind.status != 500}
    assert codes <= set(openapi.document()["x-problems"])
    assert {"method_not_allowed", "range_not_satisfiable", "internal"} <= set(openapi.document()["x-problems"])


def test_real_answers_fit_the_document(api, tmp_path):
    """What the routes answer is what the document says they answer."""
    document = openapi.document()
    job = api.submit(tags=["a"])["id"]
    api.http.post("/api/jobs", json={"type": "flow", "children": [{"type": "flow"}]})
    claim = api.claim()
    api.complete(claim, api.output(claim, "talk.mp3", WAV, "audio/mpeg", tmp_path))
    asset = api.upload()
    asked = [
        ("GET", "/api/jobs", {}), ("GET", "/api/jobs/{id}", {"id": job}), ("GET", "/api/jobs/{id}/events", {"id": job}),
        ("GET", "/api/jobs/{id}/outputs", {"id": job}), ("GET", "/api/jobs/{id}/children", {"id": job}),
        ("GET", "/api/stats", {}), ("GET", "/api/job-types", {}), ("GET", "/healthz", {}), ("GET", "/readyz", {}),
        ("POST", "/api/uploads/{id}/complete", {"id": asset}), ("POST", "/api/jobs/{id}/cancel", {"id": job}),
        ("GET", "/api/jobs/{id}", {"id": "none"}), ("GET", "/api/jobs/{id}/outputs/{name}", {"id": job, "name": "x"}),
    ]  # fmt: skip
    for method, path, names in asked:
        answer = api.http.request(method, path.format(**names))
        responses = document["paths"][path][method.lower()]["responses"]
        response = responses.get(str(answer.status_code), responses["default"])
        schema = response["content"][answer.headers["content-type"]]["schema"]
        jsonschema.validate(answer.json(), schema | {"components": document["components"]})


def test_the_pages_are_served_with_a_strict_policy(api):
    """Nothing from elsewhere and no inline code can run in them, and they use none."""
    for path, text in (("/", "Spool"), ("/docs", "Spool API"), ("/dashboard", "Spool"), ("/dashboard/", "Spool")):
        answer = api.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert text in answer.text
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "'unsafe" not in policy
        assert api.http.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert (api.http.head(path).status_code, api.http.head(path).content) == (200, b"")
    for name in ("landing.html", "docs.html", "index.html"):
        page = (PAGES / name).read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|//\w", page), name


def test_links_and_files_of_the_pages_lead_somewhere(api):
    """Every local address that a page names is answered, and so is every file of the folder."""
    for name in ("landing.html", "docs.html", "index.html"):
        for path in re.findall(r'(?:href|src)="(/[^"]*)"', (PAGES / name).read_text(encoding="utf-8")):
            assert api.http.get(path).status_code == 200, path
    for path in filter(Path.is_file, PAGES.rglob("*")):
        assert api.http.get(f"/dashboard/{path.relative_to(PAGES).as_posix()}").status_code == 200, path


def test_the_secret_is_made_once_and_for_its_owner_only(api, tmp_path):
    """Links outlive a restart, and other users cannot sign them."""
    secret = tmp_path / "secret"
    before = secret.read_bytes()
    assert len(before) == 64
    assert secret.stat().st_mode & 0o777 == 0o600
    assert create_app(api.settings, api.store, api.storage).state.context.secret == before


def subclasses(kind: type) -> set[type]:
    """Every class below one."""
    return {kind for child in kind.__subclasses__() for kind in {child, *subclasses(child)}}


def test_the_schemas_of_documents_are_published(api):
    """A client reads `report.json` by the schema that the API gives."""
    types = {kind["name"]: kind for kind in api.http.get("/api/job-types").json()["items"]}
    schema = types["report"]["documents"]["report.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"loudness", "clipping", "stereo", "findings"} <= set(schema["required"])
    assert types["ingest"]["documents"] == {}
