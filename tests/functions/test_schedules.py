"""The routes of schedules and of maintenance."""

from __future__ import annotations

import pytest

from tests.functions.api import problem
from tests.functions.test_keys import key

NIGHTLY = {"cron": "0 3 * * *", "type": "maintenance", "params": {"duty": "backup", "keep": 3}}


def test_a_schedule_is_made_changed_paused_run_and_removed(api):
    """Each answer is the schedule as it is now; a job that it makes is found by its tag."""
    made = api.http.put("/api/schedules/nightly", json=NIGHTLY)
    assert (made.status_code, made.json()["next_at"][10:]) == (201, "T03:00:00.000Z")
    changed = api.http.put("/api/schedules/nightly", json=NIGHTLY | {"cron": "0 4 * * *"})
    assert (changed.status_code, changed.json()["next_at"][10:]) == (200, "T04:00:00.000Z")
    paused = api.http.patch("/api/schedules/nightly", json={"paused": True}).json()
    assert (paused["paused"], paused["next_at"]) == (True, None)
    job = api.http.post("/api/schedules/nightly/run")
    assert (job.status_code, job.headers["location"]) == (201, f"/api/jobs/{job.json()['id']}")
    assert api.http.get("/api/jobs?tag=schedule:nightly").json()["items"][0]["params"] == NIGHTLY["params"]
    listed = api.http.get("/api/schedules").json()["items"]
    assert [(one["name"], one["last_job_id"]) for one in listed] == [("nightly", job.json()["id"])]
    assert api.http.patch("/api/schedules/nightly", json={"paused": False}).json()["next_at"] is not None
    assert api.http.delete("/api/schedules/nightly").status_code == 204
    problem(api.http.delete("/api/schedules/nightly"), 404, "not_found")
    problem(api.http.post("/api/schedules/nightly/run"), 404, "not_found")


WRONG = {
    "cron": ("nightly", {"cron": "every day"}, "cron"),
    "day": ("nightly", {"cron": "0 0 31 2 *"}, "cron"),
    "params": ("nightly", {"params": {"duty": "cook"}}, "params.duty"),
    "option": ("nightly", {"params": {"duty": "prune", "keep": 3}}, "params"),
    "an upload": ("nightly", {"type": "collect", "params": {"source": "an-asset"}}, "params.source"),
    "a parent": ("nightly", {"type": "flow", "params": {}}, "type"),
    "name": ("Nightly!", {}, "id"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_schedule_is_refused_with_the_field_named(api, case):
    """Nothing is made that would fail later, when nobody looks."""
    name, fields, field = WRONG[case]
    problem(api.http.put(f"/api/schedules/{name}", json=NIGHTLY | fields), 422, "invalid", field)
    assert api.http.get("/api/schedules").json()["items"] == []


def test_only_an_admin_schedules_and_maintains(api):
    """Who may write may look at the schedules, and queue what does not touch others."""
    headers, _ = key(api, "studio", "read", "write")
    problem(api.http.put("/api/schedules/nightly", json=NIGHTLY, headers=headers), 403, "forbidden")
    job = {"type": "maintenance", "params": {"duty": "prune"}}
    problem(api.http.post("/api/jobs", json=job, headers=headers), 403, "forbidden")
    problem(api.http.post("/api/jobs", json={"type": "flow", "children": [job]}, headers=headers), 403, "forbidden")
    assert api.http.get("/api/schedules", headers=headers).status_code == 200
