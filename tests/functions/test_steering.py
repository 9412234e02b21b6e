"""Routes by which operators steer: job types that rest or are limited, and many jobs at once."""

from __future__ import annotations

import pytest

from shared.job import Failure, Outcome
from tests.functions.api import problem
from tests.functions.test_keys import key

FAILED = Outcome("failed", failure=Failure("bad_input", "permanent", "The file is empty.", "analyzing"))


def _fail(api, **fields) -> str:
    made = api.submit(**fields)
    api.store.finish(api.claim(), FAILED)
    return made["id"]


def test_a_type_is_paused_limited_and_let_go(api):
    """Each change leaves the other as it is, null lifts the limit, and the statistics tell."""
    paused = api.http.patch("/api/job-types/ingest", json={"paused": True}).json()
    assert paused["paused_at"].endswith("Z")
    limited = api.http.patch("/api/job-types/ingest", json={"max_running": 2}).json()
    assert limited == paused | {"max_running": 2}
    assert api.http.get("/api/stats").json()["steering"] == [limited]
    resumed = api.http.patch("/api/job-types/ingest", json={"paused": False, "max_running": None}).json()
    assert resumed == {"type": "ingest", "paused_at": None, "max_running": None, "running": 0}
    assert api.http.get("/api/stats").json()["steering"] == []


WRONG = {
    "no change": ("ingest", {}, 422, "invalid"),
    "no limit": ("ingest", {"max_running": 0}, 422, "invalid"),
    "no type": ("cook", {"paused": True}, 404, "not_found"),
    "a type that does not work": ("flow", {"paused": True}, 409, "conflict"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_steered_is_said(api, case):
    """With one sentence."""
    name, body, status, code = WRONG[case]
    problem(api.http.patch(f"/api/job-types/{name}", json=body), status, code)


def test_dead_letters_of_one_error_are_retried_by_its_code(api):
    """The list and the bulk retry take the same code; an unknown one finds nothing."""
    for code in ("out_of_disk", "bad_input.empty", "out_of_disk"):
        api.submit()
        failure = Failure(code, "permanent", "A sentence.", "analyzing")
        api.store.finish(api.claim(), Outcome("failed", failure=failure))
    wanted = api.http.get("/api/jobs", params={"status": "failed", "error": "out_of_disk"}).json()["items"]
    assert [job["error"]["code"] for job in wanted] == ["out_of_disk"] * 2
    body = {"status": "failed", "error": "out_of_disk"}
    answers = [api.http.post("/api/jobs/retry", json=body).json() for _ in range(2)]
    assert [answer["retried"] for answer in answers] == [2, 0]
    ended = api.http.get("/api/jobs", params={"status": "failed"}).json()["items"]
    made = {
        job["id"]: job["retry_of"] for job in api.http.get("/api/jobs", params={"status": "pending"}).json()["items"]
    }
    assert {job["retried_as"]: job["id"] for job in ended if job["retried_as"]} == made
    assert len(made) == 2
    assert api.http.post("/api/jobs/retry", json={"error": "nothing_like_it"}).json()["retried"] == 0


def test_only_an_admin_steers_types(api):
    """Who may write may cancel jobs, but not stop everybody's."""
    headers, _ = key(api, "studio", "read", "write")
    problem(api.http.patch("/api/job-types/ingest", json={"paused": True}, headers=headers), 403, "forbidden")
    answer = api.http.post("/api/jobs/cancel", json={"all": True}, headers=headers)
    assert answer.json() == {"cancelled": 0, "stopping": 0, "more": False}


def test_many_jobs_are_cancelled_by_what_they_have_in_common(api):
    """Batches say how many and whether there are more; the same request again finds the rest, then nothing."""
    for _ in range(3):
        api.submit(tags=["wrong"])
    right = api.submit()
    body = {"tag": "wrong", "limit": 2}
    found = [api.http.post("/api/jobs/cancel", json=body).json() for _ in range(3)]
    assert [(one["cancelled"], one["more"]) for one in found] == [(2, True), (1, False), (0, False)]
    assert api.http.get(f"/api/jobs/{right['id']}").json()["status"] == "pending"


def test_many_failed_jobs_run_again(api):
    """Page by page, each once."""
    failed = [_fail(api) for _ in range(3)]
    first = api.http.post("/api/jobs/retry", json={"type": "ingest", "limit": 2}).json()
    second = api.http.post("/api/jobs/retry", json={"all": True, "limit": 2, "cursor": first["next_cursor"]}).json()
    assert (first["retried"], second["retried"], second["next_cursor"]) == (2, 1, None)
    waiting = api.http.get("/api/jobs?status=pending").json()["items"]
    assert sorted(job["retry_of"] for job in waiting) == sorted(failed)
    again = api.http.post("/api/jobs/retry", json={"all": True}).json()
    assert again == {"retried": 0, "skipped": 3, "next_cursor": None}


UNCLEAR = {
    "nothing": ("cancel", {}),
    "all and a filter": ("cancel", {"all": True, "type": "ingest"}),
    "ended jobs": ("cancel", {"status": "completed"}),
    "jobs that did not fail": ("retry", {"status": "cancelled"}),
    "an unknown type": ("retry", {"type": "cook"}),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_a_selection_says_what_it_takes(api, case):
    """Nothing is taken for everything."""
    verb, body = UNCLEAR[case]
    problem(api.http.post(f"/api/jobs/{verb}", json=body), 422, "invalid")
