"""Sources that name another job's file: checked when a job is made, as far as anything is known then."""

from __future__ import annotations

import pytest

from tests.functions.api import counted, problem


def done(api, tmp_path, name="mp3"):
    """A completed job with one file."""
    claim = api.claim_of_new_job()
    api.complete(claim, api.output(claim, name, b"sound", "audio/mpeg", tmp_path))
    return claim.job_id


def flow(*children):
    """A family of ingests: source, phase and key of each."""
    return {
        "type": "flow",
        "children": [
            {"type": "ingest", "params": {"source": source}, "phase": phase, "child_key": key}
            for source, phase, key in children
        ],
    }


LINK = "https://example.org/talk.mp3"


def test_a_job_may_read_what_another_has_made(api, tmp_path):
    """It is named as that one is, and waits like any other."""
    made = api.submit(params={"source": f"job:{done(api, tmp_path)}/mp3"})
    assert (made["status"], made["name"]) == ("pending", "talk.mp3")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("job:no-such-job/mp3", "there is no job no-such-job"),
        ("job:{done}/flac", "has no output 'flac'; it has mp3"),
        ("job:{waiting}/mp3", "is pending, and only a completed job has files"),
        ("job:{done}", "write it as job:<job id>/<output>"),
        ("job:{done}/", "write it as job:<job id>/<output>"),
        ("job:../x/mp3", "write it as job:<job id>/<output>"),
        ("child:a/mp3", "this job has no parent"),
        ("child:", "write it as"),
    ],
)
def test_what_is_not_there_is_refused_by_its_field(api, tmp_path, source, says):
    """422 with the field's path and a sentence; nothing is queued."""
    names = {"done": done(api, tmp_path), "waiting": api.submit()["id"]}
    body = {"type": "ingest", "params": {"source": source.format(**names)}}
    found = problem(api.http.post("/api/jobs", json=body), 422, "invalid", "params.source")
    assert says in found["errors"][0]["message"]
    assert len(api.http.get("/api/jobs").json()["items"]) == 2


def test_a_child_may_read_what_a_sibling_of_an_earlier_phase_will_make(api):
    """The sibling need not have begun."""
    answer = api.http.post("/api/jobs", json=flow((LINK, "core", "a"), ("child:a/mp3", "post", "b")))
    assert answer.status_code == 201
    children = api.http.get(f"/api/jobs/{answer.json()['id']}/children").json()["items"]
    assert [child["name"] for child in children] == ["talk.mp3", "a"]


@pytest.mark.parametrize(
    ("phase", "source", "says"),
    [
        ("core", "child:a/mp3", "names a child of phase core, which does not come before core"),
        ("pre", "child:a/mp3", "names a child of phase core, which does not come before pre"),
        ("post", "child:b/mp3", "names a child of phase post, which does not come before post"),
        ("post", "child:c/mp3", "there is no child 'c' beside it"),
    ],
)
def test_a_sibling_must_be_there_before(api, phase, source, says):
    """What is made later, at the same time, by itself or by nobody, cannot be read."""
    answer = api.http.post("/api/jobs", json=flow((LINK, "core", "a"), (source, phase, "b")))
    found = problem(answer, 422, "invalid", "children.1.params.source")
    assert says in found["errors"][0]["message"]


def test_a_child_that_joins_reads_siblings_that_are_there(api, tmp_path):
    """A sibling that is still at work is believed, one that has ended is looked at."""
    parent = api.http.post("/api/jobs", json=flow((LINK, "pre", "a"), (LINK, "post", "z"))).json()["id"]

    def join(source):
        body = {"type": "ingest", "params": {"source": source}, "parent_id": parent, "phase": "post"}
        return api.http.post("/api/jobs", json=body)

    assert join("child:a/whatever").status_code == 201
    problem(join("child:q/mp3"), 422, "invalid", "params.source")
    claim = api.claim()
    api.complete(claim, api.output(claim, "mp3", b"sound", "audio/mpeg", tmp_path))
    assert join("child:a/mp3").status_code == 201
    problem(join("child:a/whatever"), 422, "invalid", "params.source")
    problem(join("child:z/mp3"), 422, "invalid", "params.source")


def test_sources_of_all_kinds_cost_one_read(api, tmp_path, monkeypatch):
    """Uploads and files of other jobs are looked for together; a sibling of the same request costs nothing."""
    asset, other, trips = api.upload(), done(api, tmp_path), []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), trips))
    files = [{"name": "a", "source": asset}, {"name": "b", "source": f"job:{other}/mp3"}]
    api.submit(type="edit", params={"files": files, "edits": [{"op": "join", "order": ["a", "b"]}]})
    assert len(trips) == 2
    trips.clear()
    answer = api.http.post("/api/jobs", json=flow((LINK, "core", "a"), ("child:a/mp3", "post", "b")))
    assert (answer.status_code, len(trips)) == (201, 1)


def test_a_file_that_a_job_waits_for_cannot_be_purged(api, tmp_path):
    """409, and the file is still there."""
    other = done(api, tmp_path)
    reader = api.submit(params={"source": f"job:{other}/mp3"})["id"]
    problem(api.http.delete(f"/api/jobs/{other}?purge=true"), 409, "conflict")
    assert api.storage.stat(f"outputs/{other}/1/mp3") is not None
    api.http.post(f"/api/jobs/{reader}/cancel")
    assert api.http.delete(f"/api/jobs/{other}?purge=true").status_code == 204
