"""The log of the API: one line for each request, found by its id and by its job, with nothing that opens anything."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from shared.log import configure_log
from shared.settings import load_settings
from tests.functions.api import problem
from tests.functions.test_keys import BODY, key
from tests.functions.test_limits import INGEST

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch) -> Iterator[Lines]:
    """What was logged since the last look, as a machine reads it."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    configure_log(load_settings(_env_file=None, log_format="json"))

    def since() -> list[dict[str, Any]]:
        text = log.getvalue()
        log.seek(0)
        log.truncate()
        return [json.loads(line) for line in text.splitlines()]

    yield since
    structlog.reset_defaults()


def test_a_request_is_one_line(api, lines):
    """With its id as the client has it, its route instead of its address, and what it cost."""
    job = api.submit()
    lines()
    answer = api.http.get(f"/api/jobs/{job['id']}?wait=0", headers={"X-Request-Id": "mine-1"})
    (line,) = lines()
    assert (line["event"], line["level"], line["request_id"]) == ("request", "info", "mine-1")
    assert answer.headers["x-request-id"] == "mine-1"
    assert (line["method"], line["route"], line["status"], line["job"]) == ("GET", "/api/jobs/{id}", 200, job["id"])
    assert (line["round_trips"], line["caller"]) == (1, "local")
    assert line["ms"] > 0


def test_a_job_is_found_with_the_request_that_made_it(api, lines):
    """Made, found again by the same key, and run again: each line names the job that was answered."""
    first = api.http.post("/api/jobs", json=INGEST, headers={"Idempotency-Key": "k"})
    again = api.http.post("/api/jobs", json=INGEST, headers={"Idempotency-Key": "k"})
    api.http.delete(f"/api/jobs/{first.json()['id']}")
    retry = api.http.post(f"/api/jobs/{first.json()['id']}/retry")
    assert [answer.status_code for answer in (first, again, retry)] == [201, 200, 201]
    told = [(line["request_id"], line["job"]) for line in lines() if line["method"] == "POST"]
    assert told == [(one.headers["x-request-id"], one.json()["id"]) for one in (first, again, retry)]


def test_every_line_of_a_request_carries_its_id(api, lines, monkeypatch):
    """Whatever logs while it is answered, in whichever thread."""

    def broken(hours: int, count_to: int) -> None:
        structlog.get_logger("beside").warning("in the thread of the handler")
        raise KeyError("a fault of ours")

    monkeypatch.setattr(api.store, "stats", broken)  # a fault no test can bring about
    answer = api.http.get("/api/stats")
    told = lines()
    assert [line["event"] for line in told] == ["in the thread of the handler", "request failed", "request"]
    assert {line["request_id"] for line in told} == {answer.headers["x-request-id"]}
    assert told[-1]["status"] == 500
    api.http.get("/api/job-types")
    assert answer.headers["x-request-id"] not in {line["request_id"] for line in lines()}


def test_who_asked_is_told_and_nothing_that_opens_anything(api, lines):
    """The key's id and its owner's name; no key, cookie, body, query or header."""
    headers, key_id = key(api)
    api.http.post("/api/jobs", json=BODY | {"tags": ["in-the-body"]}, headers=headers)
    api.http.get("/api/jobs?text=in-the-query", headers=headers | {"Cookie": "spool=in-the-cookie"})
    api.http.get("/nowhere?token=in-the-query")
    api.http.post("/api/login", json={"key": headers["Authorization"].removeprefix("Bearer ")})
    told = lines()
    assert [(line["caller"], line["key"]) for line in told[:2]] == [("key:studio", key_id)] * 2
    assert (told[2]["route"], told[2]["status"]) == ("/nowhere", 401)
    secret = headers["Authorization"].rpartition("_")[2]
    text = json.dumps(told)
    assert [one for one in (secret, "in-the-body", "in-the-query", "in-the-cookie") if one in text] == []


def test_a_refusal_is_told_with_its_status(api, lines):
    """Also where no handler was reached."""
    problem(api.http.post("/api/jobs", json=BODY, headers={"Origin": "https://evil.example"}), 403, "forbidden")
    problem(api.http.post("/api/jobs", content="{", headers={"Content-Type": "application/json"}), 400, "malformed")
    problem(api.http.delete("/api/stats"), 405, "method_not_allowed")
    assert [(line["route"], line["status"]) for line in lines()] == [
        ("/api/jobs", 403), ("/api/jobs", 400), ("/api/stats", 405),
    ]  # fmt: skip


def test_what_is_asked_all_day_is_told_when_it_goes_wrong(api, lines):
    """Health checks, scrapes and the files of pages."""
    for path in ("/healthz", "/readyz", "/metrics", "/dashboard", "/dashboard/docs.js"):
        assert api.http.get(path).status_code == 200, path
    assert lines() == []
    assert api.http.get("/dashboard/nothing.js").status_code == 404
    assert [(line["route"], line["status"]) for line in lines()] == [("/dashboard/nothing.js", 404)]


def test_no_line_is_made_below_the_level(api, lines):
    """`SPOOL_LOG_LEVEL=warning` turns the lines of requests off."""
    configure_log(load_settings(_env_file=None, log_format="json", log_level="warning"))
    assert api.http.get("/api/jobs").status_code == 200
    assert lines() == []
