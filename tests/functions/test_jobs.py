"""The job routes, from a request to the rows of a real queue and back."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from shared.job import Failure, Line, Outcome, Progress
from shared.store.values import Beat
from tests.functions.api import WAV, counted, problem

FIELDS = {
    "id", "type", "status", "cancelling", "stage", "stage_index", "stage_count", "progress", "progress_current",
    "progress_total", "position", "eta_s", "attempt", "failures", "max_failures", "priority", "params", "result",
    "error", "outputs", "parent_id", "phase", "children", "retry_of", "retried_as", "tags", "created_at", "run_at",
    "started_at", "updated_at", "completed_at", "timeout_s", "poll_after_ms", "name", "child_key", "session_id",
}  # fmt: skip
FAMILY = {
    "type": "flow",
    "children": [
        {"type": "ingest", "params": {"source": "https://example.org/1.mp3"}, "phase": "pre", "child_key": "check"},
        {"type": "ingest", "params": {"source": "https://example.org/2.mp3"}},
        {"type": "ingest", "params": {"source": "https://example.org/3.mp3"}},
        {"type": "flow", "phase": "post", "children": [{"type": "ingest", "params": {"source": "https://x.org/4"}}]},
    ],
}


def test_a_new_job_is_answered_with_its_place_and_all_its_fields(api):
    """201 with Location, exactly the fields of the contract, times with milliseconds and Z."""
    answer = api.http.post("/api/jobs", json={"type": "ingest", "params": {"source": api.upload()}, "tags": ["ep 1"]})
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert set(job) == FIELDS
    assert (job["status"], job["tags"], job["timeout_s"], job["max_failures"]) == ("pending", ["ep 1"], 3600, 2)
    assert job["name"] == "talk.wav"
    assert datetime.fromisoformat(job["created_at"]).isoformat(timespec="milliseconds") == job["created_at"].replace(
        "Z", "+00:00"
    )
    assert api.http.get(answer.headers["location"]).json() == job | {"position": 1}


def test_parameters_are_kept_as_they_were_asked_for(api):
    """Defaults are not written into the job, so that a later default reaches a job only if it asked for none."""
    params = {"source": "https://example.org/a.wav", "outputs": [{"format": "mp3", "bitrate_kbps": 128}]}
    assert api.submit(params=params)["params"] == params


def test_the_same_key_and_body_find_the_same_job(api):
    """A repeated post is answered 200 with the first job, and another body under the key is refused."""
    body = {"type": "ingest", "params": {"source": "https://example.org/a"}, "tags": []}
    headers = {"Idempotency-Key": "one"}
    first = api.http.post("/api/jobs", json=body, headers=headers)
    again = api.http.post(
        "/api/jobs", content=json.dumps(dict(reversed(body.items())), indent=3), headers=headers | JSON
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = api.http.post("/api/jobs", json=body | {"priority": 1}, headers=headers)
    assert first.json()["id"] in problem(other, 409, "conflict")["detail"]
    assert len(api.http.get("/api/jobs").json()["items"]) == 1


def test_two_identical_posts_at_once_make_one_job(api):
    """Of posts with one key that race, one creates and the others find what it made."""
    asset, together = api.upload(), threading.Barrier(8)

    def post(_: int):
        together.wait()
        body = {"type": "ingest", "params": {"source": asset}}
        return api.http.post("/api/jobs", json=body, headers={"Idempotency-Key": "same"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.http.get("/api/jobs").json()["items"]) == 1


def test_a_family_is_made_by_one_post(api):
    """A parent with children in phases, and children of those, is one request; children are listed by phase."""
    parent = api.http.post("/api/jobs", json=FAMILY).json()
    assert (parent["status"], parent["children"]) == ("waiting_children", {"total": 4, "done": 0, "failed": 0})
    children = api.http.get(f"/api/jobs/{parent['id']}/children").json()["items"]
    assert [(child["phase"], child["status"]) for child in children] == [
        ("pre", "pending"), ("core", "waiting"), ("core", "waiting"), ("post", "waiting"),
    ]  # fmt: skip
    assert children[3]["children"] == {"total": 1, "done": 0, "failed": 0}
    assert api.http.get("/api/jobs", params={"parent_id": "none"}).json()["items"][0]["id"] == parent["id"]
    assert len(api.http.get("/api/jobs", params={"parent_id": parent["id"]}).json()["items"]) == 4


def test_a_parent_without_children_is_completed_at_once(api):
    """A flow of nothing has nothing to wait for."""
    parent = api.submit(type="flow", params={})
    assert (parent["status"], parent["children"]) == ("completed", {"total": 0, "done": 0, "failed": 0})


def test_a_job_joins_an_unfinished_parent(api):
    """A child posted later belongs to its parent, in the phase it names."""
    parent = api.http.post("/api/jobs", json=FAMILY).json()
    child = api.submit(parent_id=parent["id"], phase="post", child_key="late")
    assert (child["parent_id"], child["phase"], child["status"]) == (parent["id"], "post", "waiting")
    assert api.store.get(child["id"]).weight == 0
    again = api.http.post("/api/jobs", json=late(parent["id"], "late"))
    problem(again, 409, "conflict")
    gone = api.http.post("/api/jobs", json=late("no-such-job", "x"))
    problem(gone, 404, "not_found")


def test_the_place_in_the_queue_is_counted_to_a_hundred(api):
    """1 is next; beyond 100 the place is null and said to be at least 101."""
    jobs = [api.submit() for _ in range(101)]
    shown = [api.http.get(f"/api/jobs/{jobs[index]['id']}").json() for index in (0, 99, 100)]
    assert [job["position"] for job in shown] == [1, 100, None]
    assert shown[2]["position_at_least"] == 101
    assert "position_at_least" not in shown[1]


def test_a_scheduled_job_shows_when_it_will_run(api):
    """run_at takes any zone and comes back in UTC."""
    job = api.submit(run_at="2099-01-01T02:00:00.5+02:00")
    assert (job["status"], job["run_at"]) == ("scheduled", "2099-01-01T00:00:00.500Z")


def test_a_running_job_shows_its_progress(api):
    """What the heartbeat wrote is what a client reads."""
    job = api.submit()
    claim = api.claim()
    progress = Progress("encoding", 3, 5, 65.04, 390.12345, 600.0, 41.4)
    api.store.heartbeat(api.worker, [Beat(claim, progress)], lease_s=90)
    shown = api.http.get(f"/api/jobs/{job['id']}").json()
    assert shown["status"] == "running"
    assert (shown["stage"], shown["stage_index"], shown["stage_count"]) == ("encoding", 3, 5)
    assert (shown["progress"], shown["progress_current"], shown["eta_s"]) == (65.0, 390.123, 41)
    assert shown["position"] is None


def test_an_unchanged_job_costs_no_body(api):
    """The ETag of an answer brings 304 until the job changes."""
    url = f"/api/jobs/{api.submit()['id']}"
    etag = api.http.get(url).headers["etag"]
    unchanged = api.http.get(url, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    api.http.patch(url, json={"priority": 3})
    changed = api.http.get(url, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["priority"]) == (200, 3)
    assert changed.headers["etag"] != etag
    assert api.http.get(url, headers={"If-None-Match": "*"}).status_code == 304


def test_a_waiting_request_is_answered_when_the_job_changes(api):
    """`wait` holds the answer until the worker writes, without holding up others."""
    url = f"/api/jobs/{api.submit()['id']}"
    etag = api.http.get(url).headers["etag"]
    with api.http, ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(api.http.get, url, params={"wait": 20}, headers={"If-None-Match": etag}),
            pool.submit(api.http.get, url, params={"wait": 20}),
        ]
        until(lambda: len(api.app.state.context.feed._viewers) == 2)
        assert api.http.get("/healthz").status_code == 200
        assert not any(one.done() for one in waiting)
        claim = api.claim()
        assert [one.result(timeout=30).json()["status"] for one in waiting] == ["running", "running"]
    api.complete(claim)
    assert api.http.get(url, params={"wait": 20}).json()["status"] == "completed"


def test_a_wait_that_is_over_brings_the_job_as_it_is(api):
    """When nothing changed in time the answer is 304 for who knows the job, 200 for others."""
    url = f"/api/jobs/{api.submit()['id']}"
    etag = api.http.get(url).headers["etag"]
    assert api.http.get(url, params={"wait": 0.2}, headers={"If-None-Match": etag}).status_code == 304
    assert api.http.get(url, params={"wait": 0.2}).status_code == 200


def test_each_request_costs_the_round_trips_it_must(api, monkeypatch):
    """One for creating a job and one for the uploads it reads; one for polling, listing, cancelling and history."""
    asset, trips = api.upload(), []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), trips))
    job = api.submit()["id"]
    assert len(trips) == 1
    api.submit(params={"source": asset})
    assert len(trips) == 3
    trips.clear()
    api.http.post("/api/jobs", json=FAMILY)
    assert len(trips) == 1
    for method, path in (
        ("GET", f"/api/jobs/{job}"), ("GET", "/api/jobs"), ("GET", f"/api/jobs/{job}/events"),
        ("GET", f"/api/jobs/{job}/outputs"), ("GET", "/api/stats"), ("POST", f"/api/jobs/{job}/cancel"),
    ):  # fmt: skip
        trips.clear()
        assert api.http.request(method, path).status_code == 200
        assert len(trips) == 1, path


def test_lists_are_newest_first_and_continue_by_cursor(api):
    """Pages neither repeat nor leave out a job, whatever is added meanwhile."""
    ids = [api.submit(tags=["even"] if n % 2 == 0 else [])["id"] for n in range(7)]
    seen, cursor = [], None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = api.http.get("/api/jobs", params=query).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        api.submit()
    assert seen == ids[::-1]
    tagged = api.http.get("/api/jobs", params={"tag": "even"}).json()["items"]
    assert [job["id"] for job in tagged] == ids[::2][::-1]


def test_lists_filter_by_status_and_type(api):
    """Only what is asked for is shown."""
    api.submit()
    flow = api.submit(type="flow", params={})
    assert [job["id"] for job in items(api, status="completed")] == [flow["id"]]
    assert [job["id"] for job in items(api, type="flow")] == [flow["id"]]
    assert items(api, status="failed") == []


def test_lists_find_text_in_names_titles_and_ids(api):
    """Capitals do not matter, and signs that SQL reads as wildcards are letters like any other."""
    named = api.submit(params={"source": "https://example.org/Ärger_100%.mp3"})["id"]
    titled = api.submit(params={"source": "https://example.org/b.mp3", "title": "Sunday Talk"})["id"]
    assert [job["id"] for job in items(api, text="Ärger")] == [named]
    assert [job["id"] for job in items(api, text="_100%")] == [named]
    assert [job["id"] for job in items(api, text="sunday")] == [titled]
    assert [job["id"] for job in items(api, text=titled.upper())] == [titled]
    assert items(api, text="100_") == []


def test_lists_begin_at_a_time(api):
    """`since` is the first moment of creation that counts, in any zone."""
    first, second = api.submit(), api.submit()
    assert [job["id"] for job in items(api, since="2000-01-01T00:00:00+02:00")] == [second["id"], first["id"]]
    assert second["id"] in [job["id"] for job in items(api, since=second["created_at"])]
    assert items(api, since="2999-01-01T00:00:00Z") == []
    problem(api.http.get("/api/jobs", params={"since": "2000-01-01T00:00:00"}), 422, "invalid", "since")


def test_a_job_that_has_not_started_can_be_changed(api):
    """Priority, tags and run_at change; what is left out stays."""
    url = f"/api/jobs/{api.submit(tags=['a'])['id']}"
    changed = api.http.patch(url, json={"priority": 7, "run_at": "2099-01-01T00:00:00Z"}).json()
    assert (changed["priority"], changed["status"], changed["tags"]) == (7, "scheduled", ["a"])
    assert api.http.patch(url, json={"tags": []}).json()["tags"] == []


def test_a_job_that_has_started_cannot_be_changed(api):
    """409 once a worker owns it."""
    url = f"/api/jobs/{api.submit()['id']}"
    api.claim()
    problem(api.http.patch(url, json={"priority": 7}), 409, "conflict")


@pytest.mark.parametrize("ask", ["post", "delete"])
def test_cancel_says_whether_it_is_done(api, ask):
    """200 for a waiting job, again when repeated; 202 while a worker stops; 409 for one that had ended otherwise."""
    waiting, running = api.submit()["id"], api.submit(priority=5)["id"]

    def cancel(job_id: str):
        if ask == "post":
            return api.http.post(f"/api/jobs/{job_id}/cancel")
        return api.http.delete(f"/api/jobs/{job_id}")

    claim = api.claim()
    assert (cancel(waiting).status_code, cancel(waiting).json()["status"]) == (200, "cancelled")
    stopping = cancel(running)
    assert (stopping.status_code, stopping.json()["status"], stopping.json()["cancelling"]) == (202, "running", True)
    assert api.complete(claim).status == "completed"
    problem(cancel(running), 409, "conflict")


def test_a_job_that_ended_badly_runs_again_as_a_new_one(api):
    """201 with retry_of; a running or completed job is not run again."""
    job = api.submit()
    problem(api.http.post(f"/api/jobs/{job['id']}/retry"), 409, "conflict")
    claim = api.claim()
    problem(api.http.post(f"/api/jobs/{job['id']}/retry"), 409, "conflict")
    failure = Failure("bad_input.empty", "permanent", "The file is empty; send another.", "analyzing")
    api.store.finish(claim, Outcome("failed", failure=failure))
    shown = api.http.get(f"/api/jobs/{job['id']}").json()
    assert shown["error"] == {
        "code": "bad_input.empty", "kind": "permanent", "message": "The file is empty; send another.",
        "stage": "analyzing", "attempt": 1,
    }  # fmt: skip
    answer = api.http.post(f"/api/jobs/{job['id']}/retry")
    assert (answer.status_code, answer.json()["retry_of"]) == (201, job["id"])
    assert answer.headers["location"] == f"/api/jobs/{answer.json()['id']}"


def test_the_history_of_a_job_can_be_read_and_continued(api):
    """Lines come oldest first, by level and from an id on."""
    job = api.submit()["id"]
    claim = api.claim()
    lines = [Line(1, "debug", "log", "argv"), Line(2, "warn", "log", "clipped", {"samples": 3})]
    api.store.heartbeat(api.worker, [Beat(claim, lines=tuple(lines))], lease_s=90)
    history = api.http.get(f"/api/jobs/{job}/events").json()["items"]
    assert [line["message"] for line in history] == ["pending", "running", "argv", "clipped"]
    assert (
        history[3].items()
        >= {"level": "warn", "kind": "log", "data": {"samples": 3}, "attempt": 1, "job_id": job}.items()
    )
    later = api.http.get(f"/api/jobs/{job}/events", params={"after": history[1]["id"], "limit": 1}).json()["items"]
    assert [line["message"] for line in later] == ["argv"]
    warned = api.http.get(f"/api/jobs/{job}/events", params={"level": "warn"}).json()["items"]
    assert [line["message"] for line in warned] == ["clipped"]


def test_outputs_have_a_stable_address_and_a_link_that_ends(api, tmp_path):
    """The job names a lasting URL that redirects; /outputs gives signed ones; both lead to the bytes."""
    job = api.submit()["id"]
    claim = api.claim()
    api.complete(claim, api.output(claim, "talk.mp3", WAV, "audio/mpeg", tmp_path))
    shown = api.http.get(f"/api/jobs/{job}").json()["outputs"][0]
    assert shown["url"] == f"/api/jobs/{job}/outputs/talk.mp3"
    assert api.http.get(f"/api/jobs/{job}").headers["etag"] == api.http.get(f"/api/jobs/{job}").headers["etag"]
    redirect = api.http.get(shown["url"])
    assert redirect.status_code == 302
    listed = api.http.get(f"/api/jobs/{job}/outputs").json()["items"][0]
    assert set(listed) == {"name", "content_type", "size_bytes", "sha256", "url", "facts"}
    for url in (redirect.headers["location"], listed["url"]):
        file = api.http.get(url)
        assert (file.status_code, file.content, file.headers["content-type"]) == (200, WAV, "audio/mpeg")
        assert 'filename="talk.mp3"' in file.headers["content-disposition"]
    problem(api.http.get(f"/api/jobs/{job}/outputs/other"), 404, "not_found")


@pytest.mark.parametrize(
    ("name", "saved"), [("mp3", "talk.mp3"), ("peaks.json", "talk.peaks.json"), ("a.mp3", "talk.a.mp3")]
)
def test_a_file_is_saved_under_the_name_of_its_source(api, tmp_path, name, saved):
    """Ten episodes in one download folder do not all become mp3.mp3."""
    job = api.submit()["id"]
    claim = api.claim()
    content_type = "application/json" if name.endswith("json") else "audio/mpeg"
    api.complete(claim, api.output(claim, name, WAV, content_type, tmp_path))
    file = api.http.get(api.http.get(f"/api/jobs/{job}/outputs/{name}").headers["location"])
    assert f'filename="{saved}"' in file.headers["content-disposition"]


def test_a_link_names_its_job(api):
    """The last part of the path without its escapes, or the host."""
    for source, name in (("https://example.org/a/b%20c.mp3?x=1", "b c.mp3"), ("https://example.org/", "example.org")):
        assert api.submit(params={"source": source})["name"] == name


def test_purge_deletes_an_ended_job_with_its_files(api, tmp_path):
    """204, and neither row nor file is left; an unfinished job is refused and keeps both."""
    job = api.submit()["id"]
    url = f"/api/jobs/{job}"
    problem(api.http.delete(url, params={"purge": "true"}), 409, "conflict")
    claim = api.claim()
    output = api.output(claim, "talk.mp3", WAV, "audio/mpeg", tmp_path)
    api.complete(claim, output)
    assert api.http.delete(url, params={"purge": "true"}).status_code == 204
    problem(api.http.get(url), 404, "not_found")
    assert api.storage.stat(output.key) is None


def test_what_a_job_does_not_have_is_an_empty_list(api):
    """No children and no outputs are no error, but an unknown job is."""
    job = api.submit()["id"]
    for part in ("children", "outputs"):
        assert api.http.get(f"/api/jobs/{job}/{part}").json() == {"items": []}
    assert api.http.get(f"/api/jobs/{job}/events", params={"after": 10**6}).json() == {"items": []}
    for part in ("", "/children", "/outputs", "/outputs/mp3", "/events"):
        problem(api.http.get(f"/api/jobs/unknown{part}"), 404, "not_found")
    for method, part in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("DELETE", "?purge=true")):
        problem(api.http.request(method, f"/api/jobs/unknown{part}"), 404, "not_found")
    problem(api.http.patch("/api/jobs/unknown", json={"priority": 1}), 404, "not_found")


def test_head_answers_like_get_without_the_body(api):
    """HEAD tells length and tag of what GET would bring."""
    url = f"/api/jobs/{api.submit()['id']}"
    get, head = api.http.get(url), api.http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["etag"], head.headers["content-length"]) == (
        get.headers["etag"],
        get.headers["content-length"],
    )


JSON = {"Content-Type": "application/json"}


def late(parent_id: str, key: str) -> dict:
    """A child that joins a parent."""
    source = {"source": "https://example.org/late.mp3"}
    return {"type": "ingest", "params": source, "parent_id": parent_id, "phase": "post", "child_key": key}


def items(api, **query: str) -> list[dict]:
    """One page of the list."""
    return api.http.get("/api/jobs", params=query).json()["items"]


def until(condition) -> None:
    """Wait for a condition that another thread brings about."""
    turn = threading.Event()
    for _ in range(3000):
        if condition():
            return
        turn.wait(0.01)
    raise AssertionError("it did not come about in 30 s")
