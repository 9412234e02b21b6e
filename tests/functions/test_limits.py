"""Rate limit and waiting jobs over HTTP: whom they bind, and what the answers say."""

from __future__ import annotations

import re

import pytest

from shared.job import Outcome
from shared.keys import new_key
from shared.store.local import LocalJobStore
from tests.functions.api import Api, problem
from tests.functions.test_jobs import counted
from tests.functions.test_keys import BODY, key

INGEST = {"type": "ingest", "params": {"source": "https://example.org/talk.mp3"}}


def left(answer) -> int:
    """What the answer says is left of the caller's limit."""
    policy = re.fullmatch(r'"writes";q=(\d+);w=60', answer.headers["ratelimit-policy"])
    found = re.fullmatch(r'"writes";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert policy is not None
    assert found is not None
    assert 0 <= int(found[1]) <= int(policy[1])
    assert 0 <= int(found[2]) <= 60
    return int(found[1])


def test_a_key_writes_as_often_as_the_limit_says(api_with):
    """Every answer says what is left; the next one is 429 with a sentence and the seconds to wait."""
    api = api_with(rate_limit=3)
    headers, _ = key(api)
    answers = [api.http.post("/api/jobs", json=BODY, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [left(answer) for answer in answers] == [2, 1, 0]
    refused = api.http.post("/api/jobs", json=BODY, headers=headers)
    assert "3 times a minute" in problem(refused, 429, "rate_limited")["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert left(refused) == 0
    reading = api.http.get("/api/jobs", headers=headers)
    assert len(reading.json()["items"]) == 3
    assert "ratelimit" not in reading.headers


def test_a_refused_caller_is_refused_from_memory(api_with, monkeypatch):
    """Until its time has come it costs the database nothing."""
    api = api_with(rate_limit=1)
    headers, _ = key(api)
    for _ in range(2):
        api.http.post("/api/jobs", json=BODY, headers=headers)
    trips: list[int] = []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), trips))
    for _ in range(20):
        refused = api.http.post("/api/jobs", json=BODY, headers=headers)
        problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert left(refused) == 0
    assert trips == []


def test_a_charged_request_costs_no_round_trip_more(api_with, monkeypatch):
    """Counter and job are one batch."""
    api = api_with(rate_limit=1000, max_waiting=1000)
    headers, _ = key(api)
    api.http.get("/api/jobs", headers=headers)
    trips: list[int] = []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), trips))
    assert left(api.http.post("/api/jobs", json=INGEST, headers=headers)) == 999
    assert len(trips) == 1


def test_instances_share_the_limit(api_with, settings_for, storage, tmp_path):
    """Two APIs on one database: what one allowed the other counts."""
    one = api_with(rate_limit=4)
    other = Api(settings_for(rate_limit=4), LocalJobStore(tmp_path / "spool.db"), storage)
    headers, _ = key(one)
    answers = [api.http.post("/api/jobs", json=BODY, headers=headers) for api in (one, other, one, other, one, other)]
    assert [answer.status_code for answer in answers] == [201] * 4 + [429] * 2
    other.store.close()


def test_a_cancel_is_never_refused(api_with):
    """Who has queued too much must be able to take it back; what only reads or goes on is not counted either."""
    api = api_with(rate_limit=1)
    headers, _ = key(api, "studio", "admin")
    job = api.http.post("/api/jobs", json=INGEST, headers=headers).json()["id"]
    for method, path, body, status in (
        ("POST", "/api/jobs", INGEST, 429), ("POST", f"/api/jobs/{job}/retry", None, 429),
        ("PATCH", f"/api/jobs/{job}", {"priority": 1}, 429),
        ("POST", "/api/uploads", {"filename": "a", "content_type": "a/b", "size_bytes": 1}, 429),
        ("POST", f"/api/jobs/{job}/cancel", None, 200), ("GET", f"/api/jobs/{job}", None, 200),
        ("DELETE", f"/api/jobs/{job}?purge=true", None, 204),
    ):  # fmt: skip
        answer = api.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, (path, answer.text)


def test_a_person_at_this_machine_is_not_limited_by_default(api):
    """More than 60 writes a minute in `spool dev`, and no row is written for it."""
    for _ in range(65):
        assert api.http.post("/api/jobs", json=BODY).status_code == 201
    assert "ratelimit" not in api.http.post("/api/jobs", json=BODY).headers


def test_sixty_a_minute_is_the_default_for_everybody_else(api):
    """The first answer says so."""
    headers, _ = key(api)
    answer = api.http.post("/api/jobs", json=BODY, headers=headers)
    assert answer.headers["ratelimit-policy"] == '"writes";q=60;w=60'
    assert left(answer) == 59


def test_a_limit_that_was_set_holds_for_everybody(api_with):
    """Also on loopback; 0 is any number."""
    api = api_with(rate_limit=2)
    assert [api.http.post("/api/jobs", json=BODY).status_code for _ in range(3)] == [201, 201, 429]
    free = api_with(api_tokens="t", rate_limit=0)
    headers = {"Authorization": "Bearer t"}
    assert "ratelimit" not in free.http.post("/api/jobs", json=BODY, headers=headers).headers


def test_tokens_are_callers_with_limits_of_their_own(api_with):
    """One token's writes are not another's."""
    api = api_with(api_tokens="one,two", rate_limit=1)
    asked = [
        api.http.post("/api/jobs", json=BODY, headers={"Authorization": f"Bearer {token}"}).status_code
        for token in ("one", "one", "two")
    ]
    assert asked == [201, 429, 201]


def test_no_more_jobs_wait_than_one_key_may_have(api_with):
    """429 with a sentence that names the number; a job that has started makes room."""
    api = api_with(rate_limit=0, max_waiting=2)
    headers, _ = key(api)
    api.app.state.context.limits._clock = lambda: now[0]
    now = [0.0]
    for _ in range(2):
        assert api.http.post("/api/jobs", json=INGEST, headers=headers).status_code == 201
    refused = api.http.post("/api/jobs", json=INGEST, headers=headers)
    detail = problem(refused, 429, "too_many_waiting")["detail"]
    assert "2 jobs" in detail
    assert "SPOOL_MAX_WAITING" in detail
    assert int(refused.headers["retry-after"]) > 0
    upload = {"filename": "a.wav", "content_type": "audio/wav", "size_bytes": 3}
    assert api.http.post("/api/uploads", json=upload, headers=headers).status_code == 201
    api.store.finish(api.claim(), Outcome("completed", result={"media_ms": 1}))
    now[0] += int(refused.headers["retry-after"]) + 0.1
    assert api.http.post("/api/jobs", json=INGEST, headers=headers).status_code == 201


def test_a_browser_may_read_what_is_left(api_with):
    """The headers are exposed to listed origins."""
    api = api_with(cors_origins="https://studio.example.org")
    made, text = new_key("studio", ("read", "write"))
    api.store.add_key(made)
    sent = {"Authorization": f"Bearer {text}", "Origin": "https://studio.example.org"}
    exposed = api.http.post("/api/jobs", json=BODY, headers=sent).headers["access-control-expose-headers"]
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed.split(", "))


@pytest.mark.parametrize("body", [{"type": "nothing"}, {"type": "flow", "params": {"x": 1}}])
def test_a_request_that_is_refused_for_its_content_costs_nothing(api_with, body):
    """Only what reaches the queue is counted."""
    api = api_with(rate_limit=1)
    headers, _ = key(api)
    for _ in range(3):
        problem(api.http.post("/api/jobs", json=body, headers=headers), 422, "invalid")
    assert api.http.post("/api/jobs", json=BODY, headers=headers).status_code == 201
