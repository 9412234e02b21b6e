"""An episode is one request: the API makes its children, and all else is a family's."""

from __future__ import annotations

import pytest

from shared.job import Outcome, Output
from shared.store.values import ClaimRequest, Worker
from shared.types import JOB_TYPES
from tests.functions.api import Api, counted, problem

LINK = "https://example.org/{}.wav"
WORKER = Worker(id="worker-e", host="here", version="1", types=tuple(JOB_TYPES), slots=9)
_TYPES = {"flac": "audio/flac", "mp3": "audio/mpeg"}


def show(*tracks, **params):
    """An episode's request."""
    made = [{"source": LINK.format("host"), "name": "host"}, {"source": LINK.format("guest"), "offset_s": 2}]
    return {"type": "episode", "params": {"tracks": list(tracks) or made, **params}}


def children(api: Api, parent: str) -> dict[str, dict]:
    """The children by key."""
    return {child["child_key"]: child for child in api.http.get(f"/api/jobs/{parent}/children").json()["items"]}


def work(api: Api, *names: str, outcome: str = "completed") -> str:
    """The next job in line is claimed and ends; returns its key."""
    job = api.store.claim(ClaimRequest(WORKER, f"token-{api.store.last_event_id()}", 90))
    assert job is not None
    outputs = tuple(
        Output(name, f"outputs/{job.id}/1/{name}", _TYPES.get(name, "application/json"), 1, "0" * 64) for name in names
    )
    api.store.finish(job.claim, Outcome("completed", result={"media_ms": 1, "of": job.child_key}, outputs=outputs))
    return job.child_key or ""


def test_one_request_makes_the_whole_family(api, monkeypatch):
    """A check for each file, an ingest for each voice, and the mix of what they make; in one round trip."""
    trips: list[int] = []
    api.http.get("/api/jobs")  # reads the keys
    monkeypatch.setattr(api.store, "_run", counted(api.store._run, trips))
    monkeypatch.setattr(api.store, "_read", counted(api.store._read, trips))
    music = {"source": LINK.format("music"), "role": "music", "gain_db": -6}
    tracks = [*show()["params"]["tracks"], music, {"source": LINK.format("host"), "mute": True}]
    body = show(*tracks, intro={"source": LINK.format("music"), "end_s": 8}, title="The bridge", preset="spotify")
    answer = api.http.post("/api/jobs", json=body | {"priority": 3, "tags": ["weekly"]})
    assert (answer.status_code, len(trips)) == (201, 1)
    episode = answer.json()
    assert (episode["name"], episode["status"], episode["stage"]) == ("The bridge", "waiting_children", "pre")
    assert (episode["stage_count"], episode["progress"]) == (3, None)
    assert episode["params"] == body["params"]
    made = children(api, episode["id"])
    assert [(key, child["type"], child["phase"]) for key, child in made.items()] == [
        ("check.track.host", "check", "pre"),
        ("check.track.track-2", "check", "pre"),
        ("check.track.track-3", "check", "pre"),
        ("track.host", "ingest", "core"),
        ("track.track-2", "ingest", "core"),
        ("mix", "render", "post"),
    ]
    assert all((child["priority"], child["tags"]) == (3, ["weekly"]) for child in made.values())
    assert made["check.track.track-3"]["params"]["shortest_s"] == 8
    assert made["track.host"]["name"] == "host.wav"
    assert made["track.host"]["params"] == {
        "source": LINK.format("host"), "preset": "podcast", "outputs": [{"format": "flac"}],
    }  # fmt: skip
    mix = made["mix"]["params"]
    assert [track["source"] for track in mix["tracks"]] == [
        "child:track.host/flac", "child:track.track-2/flac", LINK.format("music"),
    ]  # fmt: skip
    assert (mix["tracks"][1]["offset_s"], mix["tracks"][2]["gain_db"]) == (2, -6)
    assert (mix["preset"], mix["title"], mix["intro"]["end_s"]) == ("spotify", "The bridge", 8)


def test_a_track_is_mastered_as_it_asks(api):
    """By its own preset or loudness; an effect only when it asks, and the mix is left to the mix."""
    tracks = [
        {"source": LINK.format("a"), "preset": "ebu-r128"},
        {"source": LINK.format("b"), "loudness_lufs": -19},
        {"source": LINK.format("c"), "role": "effect"},
        {"source": LINK.format("d"), "role": "music", "loudness_lufs": -24, "preset": "music"},
    ]
    made = children(api, api.submit(**show(*tracks))["id"])
    asked = {key: child["params"] for key, child in made.items() if child["type"] == "ingest"}
    assert {key: (params["preset"], params.get("target_lufs")) for key, params in asked.items()} == {
        "track.track-1": ("ebu-r128", None),
        "track.track-2": ("podcast", -19),
        "track.track-4": ("music", -24),
    }
    assert not any("loudness_lufs" in track or "preset" in track for track in made["mix"]["params"]["tracks"])


def test_a_finished_episode_has_the_files_of_its_mix(api):
    """Under its own address, with its result; the files that were only on the way stay with their jobs."""
    episode = api.submit(**show(title="The bridge"))["id"]
    done = [work(api, "flac") for _ in range(4)]
    assert done == ["check.track.host", "check.track.track-2", "track.host", "track.track-2"]
    going = api.http.get(f"/api/jobs/{episode}").json()
    assert (going["stage"], going["stage_index"], going["outputs"]) == ("post", 2, [])
    assert 60 < going["progress"] < 100
    assert work(api, "mp3", "chapters.json") == "mix"
    ended = api.http.get(f"/api/jobs/{episode}").json()
    assert (ended["status"], ended["progress"], ended["result"]["of"]) == ("completed", 100, "mix")
    files = api.http.get(f"/api/jobs/{episode}/outputs").json()["items"]
    assert [file["name"] for file in files] == ["mp3", "chapters.json"]
    link = api.http.get(f"/api/jobs/{episode}/outputs/mp3").headers["location"]
    assert "filename=The+bridge.mp3&" in link
    again = {"type": "ingest", "params": {"source": f"job:{episode}/mp3"}}
    assert api.http.post("/api/jobs", json=again).status_code == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"params": {"tracks": []}}, "params.tracks"),
        ({"params": {"tracks": [{"source": "no-such-upload"}]}}, "params.tracks.0.source"),
        ({"params": {"tracks": [{"source": "job:nobody/flac"}]}}, "params.tracks.0.source"),
        ({"params": {"tracks": [{"source": "child:a/flac"}]}}, "params.tracks.0.source"),
        ({"params": {"tracks": [{"source": LINK, "preset": "loud"}]}}, "params.tracks.0.preset"),
        ({"params": {"tracks": [{"source": LINK, "name": "track-2"}, {"source": LINK}]}}, "params.tracks.1.name"),
        ({"params": {"tracks": [{"source": LINK, "mute": True}]}}, "params.tracks"),
        ({"params": {"tracks": [{"source": LINK}], "cover": "no-such-upload"}}, "params.cover"),
        ({"children": [{"type": "ingest", "params": {"source": LINK}}]}, "children"),
        ({"on_child_failure": "continue"}, "on_child_failure"),
        ({"run_at": "2099-01-01T00:00:00Z"}, "run_at"),
    ],
)
def test_what_is_wrong_with_an_episode_is_said_by_its_own_fields(api, change, field):
    """Never by those of the children that it would have."""
    found = problem(api.http.post("/api/jobs", json=show() | change), 422, "invalid", field)
    assert {error["field"] for error in found["errors"]} == {field}
    assert api.http.get("/api/jobs").json()["items"] == []


def test_an_episode_may_be_part_of_a_flow_but_joins_none(api):
    """It brings children, and those only come with a whole family."""
    flow = api.http.post("/api/jobs", json={"type": "flow", "children": [show() | {"child_key": "one"}]}).json()
    inner = children(api, flow["id"])["one"]
    assert (inner["status"], inner["children"]["total"]) == ("waiting_children", 5)
    late = show() | {"parent_id": flow["id"]}
    problem(api.http.post("/api/jobs", json=late), 422, "invalid", "parent_id")
    sibling = {"type": "ingest", "params": {"source": LINK}, "child_key": "a", "phase": "pre"}
    body = {"type": "flow", "children": [sibling, show({"source": "child:a/mp3"})]}
    problem(api.http.post("/api/jobs", json=body), 422, "invalid", "children.1.params.tracks.0.source")


def test_a_retry_mixes_what_was_mastered_before(api):
    """A new episode; tracks that are mastered are carried over, and found by the mix under the same keys."""
    episode = api.submit(**show())["id"]
    for _ in range(4):
        work(api, "flac")
    mix = children(api, episode)["mix"]["id"]
    api.http.post(f"/api/jobs/{episode}/cancel")
    again = api.http.post(f"/api/jobs/{episode}/retry").json()
    assert (again["type"], again["retry_of"], again["stage"]) == ("episode", episode, "post")
    assert api.http.get(f"/api/jobs/{again['id']}").json()["progress"] == pytest.approx(100 * 42 / 62, abs=0.1)
    job = api.store.claim(ClaimRequest(WORKER, "again", 90))
    assert (job.retry_of, job.child_key) == (mix, "mix")
    found = api.store.inputs(job.claim, [], ["track.host", "track.track-2"]).children
    assert {made.status for made in found.values()} == {"completed"}
