"""API keys over HTTP: who gets in, what a key may do, how soon it is shut out, and that it costs no round trip."""

from __future__ import annotations

import pytest

from functions.app import create_app
from shared.keys import new_key
from shared.store.local import LocalJobStore
from tests.functions.api import Api, problem
from tests.functions.test_jobs import counted

BODY = {"type": "flow", "params": {}}


def key(api, name="studio", *scopes) -> tuple[dict[str, str], str]:
    """The header of a new key, and its id."""
    made, text = new_key(name, scopes or ("read", "write"))
    api.store.add_key(made)
    return {"Authorization": f"Bearer {text}", "Host": "spool.example.org"}, made.id


class Clock:
    """The time of the API's keyring, which only moves when a test says so."""

    def __init__(self, api) -> None:
        self.now = 1000.0
        api.app.state.context.keyring.clock = lambda: self.now


@pytest.fixture
def clock(api) -> Clock:
    """The keyring's time."""
    return Clock(api)


@pytest.fixture
def trips(api, monkeypatch) -> list[int]:
    """A mark for each round trip of the API."""
    marks: list[int] = []
    for name in ("_run", "_read"):
        monkeypatch.setattr(api.store, name, counted(getattr(api.store, name), marks))
    return marks


def test_a_key_opens_from_anywhere(api):
    """And a job remembers the key's name, not the key."""
    headers, key_id = key(api)
    made = api.http.post("/api/jobs", json=BODY, headers=headers | {"Origin": "https://elsewhere.org"})
    assert made.status_code == 201
    assert api.store.get(made.json()["id"]).caller == "key:studio"
    assert key_id not in made.text


@pytest.mark.parametrize("wrong", ["secret", "id", "shape", "scheme", "none"])
def test_what_is_no_key_is_refused(api, wrong):
    """401 with a challenge, the same for a wrong secret, an unknown id and nonsense."""
    good, _ = key(api)
    text = good["Authorization"]
    sent = {
        "secret": text[:-1] + ("0" if text[-1] != "0" else "1"),
        "id": text[:11] + ("0" if text[11] != "0" else "1") + text[12:],
        "shape": text[:-1],
        "scheme": text.replace("Bearer", "Basic"),
        "none": "",
    }[wrong]
    answer = api.http.get("/api/jobs", headers={"Authorization": sent})
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert api.http.get("/api/jobs", headers=good).status_code == 200


def test_the_first_key_closes_the_api_to_this_machine(api, clock):
    """Within 30 seconds; and a revoked key does not open it again, in this process or in a new one."""
    assert api.http.get("/api/jobs").status_code == 200
    _, key_id = key(api)
    clock.now += 29.9
    assert api.http.get("/api/jobs").status_code == 200
    clock.now += 0.2
    problem(api.http.get("/api/jobs"), 401, "unauthorized")
    api.store.revoke_key(key_id)
    clock.now += 31
    problem(api.http.get("/api/jobs"), 401, "unauthorized")
    api.app = create_app(api.settings, api.store, api.storage)
    problem(api.http.get("/api/jobs"), 401, "unauthorized")


def test_what_needs_no_key(api):
    """Health and the pages; readiness needs one."""
    key(api)
    for path in ("/healthz", "/", "/docs", "/openapi.json", "/dashboard"):
        assert api.http.get(path, headers={"Host": "spool.example.org"}).status_code == 200, path
    problem(api.http.get("/readyz"), 401, "unauthorized")


def test_tokens_and_keys_open_side_by_side(api_with):
    """The simple case stays as it is."""
    api = api_with(api_tokens="a-token")
    headers, _ = key(api)
    for sent in ({"Authorization": "Bearer a-token"}, headers):
        assert api.http.get("/api/jobs", headers=sent).status_code == 200
    problem(api.http.get("/api/jobs"), 401, "unauthorized")


SCOPES = {
    ("read",): {"GET": 200, "POST": 403, "purge": 403},
    ("write",): {"GET": 403, "POST": 201, "purge": 403},
    ("read", "write"): {"GET": 200, "POST": 201, "purge": 403},
    ("admin",): {"GET": 200, "POST": 201, "purge": 204},
}


@pytest.mark.parametrize("scopes", SCOPES, ids="+".join)
def test_a_key_may_do_what_its_scopes_say(api, scopes):
    """Reading, writing, and deleting for good, which only an admin may."""
    ended = api.http.post("/api/jobs", json=BODY).json()["id"]
    headers, _ = key(api, "studio", *scopes)
    ring = api.app.state.context.keyring
    ring.learn(api.store.api_keys(), ring.clock())
    answers = {
        "GET": api.http.get("/api/jobs", headers=headers),
        "POST": api.http.post("/api/jobs", json=BODY, headers=headers),
        "purge": api.http.delete(f"/api/jobs/{ended}?purge=true", headers=headers),
    }
    assert {verb: answer.status_code for verb, answer in answers.items()} == SCOPES[scopes]
    for answer in answers.values():
        if answer.status_code == 403:
            assert "spool keys create" in problem(answer, 403, "forbidden")["detail"]


def test_two_keys_of_one_name_are_one_caller(api):
    """While clients change over, uploads and idempotency keys of the old key belong to the new one, too."""
    old, old_id = key(api)
    new, _ = key(api)
    other, _ = key(api, "another")
    upload = {"filename": "a.wav", "content_type": "audio/wav", "size_bytes": 3}
    target = api.http.post("/api/uploads", json=upload, headers=old).json()
    api.http.put(target["upload"]["url"], content=b"abc", headers=target["upload"]["headers"])
    api.store.revoke_key(old_id)
    body = {"type": "ingest", "params": {"source": target["asset"]}}
    again = {"Idempotency-Key": "k"}
    first = api.http.post("/api/jobs", json=body, headers=new | again)
    assert first.status_code == 201
    assert api.http.post("/api/jobs", json=body, headers=old | again).json()["id"] == first.json()["id"]
    problem(api.http.post("/api/jobs", json=body, headers=other), 422, "invalid", "params.source")


def test_a_request_with_a_key_costs_the_round_trips_of_one_without(api, clock, trips):
    """Only the first one of a process asks for the keys; they are read anew beside a request's own statements."""
    headers, _ = key(api)
    job = api.http.post("/api/jobs", json=BODY, headers=headers).json()["id"]
    asked = [
        ("GET", f"/api/jobs/{job}", None), ("GET", "/api/jobs", None), ("GET", "/api/stats", None),
        ("GET", f"/api/jobs/{job}/events", None), ("POST", "/api/jobs", BODY), ("POST", "/api/jobs", BODY),
    ]  # fmt: skip
    for round_ in range(10):
        for method, path, body in asked:
            clock.now += 5
            trips.clear()
            assert api.http.request(method, path, json=body, headers=headers).is_success
            assert len(trips) == 1, (round_, path)
    assert api.store.api_keys()[0].last_used_at is not None
    trips.clear()
    clock.now += 31  # nothing came along for so long: what is known is not trusted any more
    assert api.http.get(f"/api/jobs/{job}", headers=headers).is_success
    assert len(trips) == 2


def test_a_revoked_key_is_refused_within_half_a_minute(api, clock):
    """By a busy process after ten seconds and one more request, by an idle one after thirty seconds."""
    for pause, more in ((10.1, 1), (30.1, 0)):
        headers, key_id = key(api)
        assert api.http.get("/api/jobs", headers=headers).status_code == 200
        api.store.revoke_key(key_id)
        clock.now += pause
        for _ in range(more):
            assert api.http.get("/api/jobs", headers=headers).status_code == 200
        problem(api.http.get("/api/jobs", headers=headers), 401, "unauthorized")
        clock.now += 60


def test_an_answer_that_comes_late_does_not_bring_a_revoked_key_back(api, clock):
    """What was asked for before the latest news is no news."""
    headers, key_id = key(api)
    assert api.http.get("/api/jobs", headers=headers).status_code == 200
    ring, before = api.app.state.context.keyring, api.store.api_keys()
    api.store.revoke_key(key_id)
    asked_at, clock.now = clock.now, clock.now + 2
    ring.learn(api.store.api_keys(), clock.now)
    ring.learn(before, asked_at)
    problem(api.http.get("/api/jobs", headers=headers), 401, "unauthorized")


def test_unknown_keys_make_the_database_work_once_a_second_at_most(api, clock, trips):
    """However many are tried; and a key made meanwhile works a second later."""
    good, _ = key(api)
    api.http.get("/api/jobs", headers=good)
    trips.clear()
    for number in range(50):
        text = f"spl_{number:012x}_{'0' * 64}"
        problem(api.http.get("/api/jobs", headers={"Authorization": f"Bearer {text}"}), 401, "unauthorized")
    assert trips == []
    fresh, _ = key(api)
    clock.now += 1.1
    assert api.http.get("/api/jobs", headers=fresh).status_code == 200


def test_a_database_that_is_away_lets_nobody_in(settings_for, storage, tmp_path):
    """503, not 200 and not 401; the pages and the health check still answer, readiness says why."""
    (tmp_path / "folder").mkdir()
    store = LocalJobStore(tmp_path / "folder")
    api = Api(settings_for(), store, storage)
    _, text = new_key("studio", ("admin",))
    for headers in ({}, {"Authorization": f"Bearer {text}"}):
        problem(api.http.get("/api/job-types", headers=headers), 503, "unavailable")
        problem(api.http.get("/readyz", headers=headers), 503, "unavailable")
        assert api.http.get("/dashboard", headers=headers).status_code == 200
        assert api.http.get("/healthz", headers=headers).status_code == 200
    problem(api.http.get("/readyz", headers={"Host": "spool.example.org"}), 403, "forbidden")
    store.close()
