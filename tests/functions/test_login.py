"""Logging in with a browser: the cookie, what it opens, who cannot use it, and when it ends."""

from __future__ import annotations

import base64
import json
from http.cookies import SimpleCookie
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from functions import auth, events
from functions.app import OPERATIONS, create_app
from functions.cookie import LOGIN_S
from functions.cursor import signed
from shared.keys import new_key
from tests.functions.api import HERE, Api, problem
from tests.functions.test_events import Server
from tests.functions.test_jobs import counted

BODY = {"type": "flow", "params": {}}
OURS = {"Origin": HERE}


@pytest.fixture
def closed(api_with) -> Api:
    """An API that asks for a token."""
    return api_with(api_tokens="sesame")


def key(api: Api, *scopes: Any) -> tuple[str, str]:
    """A new key's text and id, known to the API at once."""
    made, text = new_key("studio", scopes or ("read", "write"))
    api.store.add_key(made)
    ring = api.app.state.context.keyring
    ring.learn(api.store.api_keys(), ring.clock())
    return text, made.id


def log_in(api: Api, text: str = "sesame", **headers: str) -> Any:
    """A browser logs in on our page."""
    return api.http.post("/api/login", json={"key": text}, headers=OURS | headers)


def cookie(answer: Any) -> Any:
    """The one cookie that an answer sets."""
    (found,) = SimpleCookie(answer.headers["set-cookie"]).values()
    return found


@pytest.mark.parametrize("tls", ["none", "here", "at a proxy"])
def test_the_cookie_is_for_our_pages_only(closed, tls):
    """No script reads it, no other site sends it, no neighbour sets it, and over TLS it never leaves TLS."""
    scheme = "https" if tls == "here" else "http"
    http = TestClient(closed.app, base_url=f"{scheme}://spool.example.org")
    proxy = {"X-Forwarded-Proto": "https"} if tls == "at a proxy" else {}
    origin = "http://spool.example.org" if tls == "none" else "https://spool.example.org"
    answer = http.post("/api/login", json={"key": "sesame"}, headers={"Origin": origin} | proxy)
    assert answer.status_code == 200
    found = cookie(answer)
    assert found.key == ("spool" if tls == "none" else "__Host-spool")
    assert bool(found["secure"]) is (tls != "none")
    assert (found["httponly"], found["samesite"], found["path"], found["domain"]) == (True, "strict", "/", "")
    assert int(found["max-age"]) == LOGIN_S
    assert b"sesame" not in base64.urlsafe_b64decode(found.value + "===")


def test_a_login_is_its_key_and_its_token(closed):
    """It may do what they may, and jobs belong to the same caller, whichever way they came."""
    text, _ = key(closed)
    for given, name in (("sesame", None), (text, "studio")):
        bearer = closed.http.post("/api/jobs", json=BODY, headers={"Authorization": f"Bearer {given}"}).json()["id"]
        answer = log_in(closed, given)
        assert answer.json()["name"] == name
        assert text not in answer.text
        made = closed.http.post("/api/jobs", json=BODY, headers=OURS)
        assert made.status_code == 201
        assert closed.store.get(made.json()["id"]).caller == closed.store.get(bearer).caller
        assert closed.http.get("/api/jobs").status_code == 200
        closed.http.cookies.clear()
    problem(closed.http.get("/api/jobs"), 401, "unauthorized")


def test_everybody_may_ask_who_they_are(api, closed):
    """Nobody yet, somebody with a login or a key, or whoever sits at this machine."""
    nobody = {"name": None, "scopes": [], "login_ends_at": None}
    assert closed.http.get("/api/me").json() == nobody
    assert api.http.get("/api/me").json() == nobody | {"scopes": ["read", "write", "admin"]}
    text, _ = key(closed, "read")
    asked = closed.http.get("/api/me", headers={"Authorization": f"Bearer {text}"})
    assert asked.json() == {"name": "studio", "scopes": ["read"], "login_ends_at": None}
    log_in(closed, text)
    assert closed.http.get("/api/me").json()["login_ends_at"] is not None
    assert closed.http.get("/api/me", headers={"Authorization": "Bearer sesame"}).json()["login_ends_at"] is None


@pytest.mark.parametrize("given", ["", "Sesame", "sesame ,", "spl_000000000000_" + "0" * 64, "\u00fc"])
def test_what_opens_nothing_logs_nobody_in(closed, given):
    """401, no cookie, and the wrong text is not repeated."""
    key(closed)
    answer = log_in(closed, given)
    assert not given or given not in problem(answer, 401, "unauthorized")["detail"]
    assert "set-cookie" not in answer.headers


FOREIGN = ["https://evil.example", "http://localhost:3000", "null", "https://studio.example.org", "http://localhost"]


@pytest.mark.parametrize("origin", [*FOREIGN, None])
def test_no_other_page_can_use_a_login(api_with, origin):
    """Not even a page that CORS lets call, nor anything that does not say where it comes from; reading is no harm."""
    api = api_with(api_tokens="sesame", cors_origins="https://studio.example.org")
    log_in(api)
    headers = {} if origin is None else {"Origin": origin}
    for method, path in (("POST", "/api/jobs"), ("POST", "/api/jobs/x/cancel"), ("DELETE", "/api/jobs/x"),
                         ("PATCH", "/api/jobs/x")):  # fmt: skip
        problem(api.http.request(method, path, headers=headers), 403, "forbidden")
    assert api.http.get("/api/jobs", headers=headers).status_code == 200
    if origin is not None:
        problem(api.http.post("/api/login", json={"key": "sesame"}, headers=headers), 403, "forbidden")
        problem(api.http.post("/api/logout", headers=headers), 403, "forbidden")


def test_over_tls_a_page_without_it_is_another_page(closed):
    """Whoever controls the network can show a page of the same host, without TLS."""
    http = TestClient(closed.app, base_url="https://spool.example.org")
    http.post("/api/login", json={"key": "sesame"}, headers={"Origin": "https://spool.example.org"})
    problem(http.post("/api/jobs", json=BODY, headers={"Origin": "http://spool.example.org"}), 403, "forbidden")
    assert http.post("/api/jobs", json=BODY, headers={"Origin": "https://spool.example.org"}).status_code == 201


def test_a_form_cannot_use_a_login(closed):
    """Only JSON is read, and a form cannot send that."""
    log_in(closed)
    for path in ("/api/jobs", "/api/jobs/x/cancel"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = closed.http.post(path, content=b"{}", headers=OURS | {"Content-Type": kind})
            problem(answer, 415, "unsupported_media_type")
    form = closed.http.post("/api/login", content=b"key=sesame", headers=OURS | {"Content-Type": "text/plain"})
    problem(form, 415, "unsupported_media_type")


def test_a_login_ends_by_itself(closed, monkeypatch):
    """After a week, by the server's clock, whatever the browser does with the cookie."""
    now = auth.time()
    log_in(closed)
    monkeypatch.setattr(auth, "time", lambda: now + LOGIN_S - 10)
    assert closed.http.get("/api/jobs").status_code == 200
    monkeypatch.setattr(auth, "time", lambda: now + LOGIN_S + 10)
    problem(closed.http.get("/api/jobs"), 401, "unauthorized")
    assert closed.http.get("/api/me").json()["scopes"] == []


def test_a_cookie_cannot_be_made_up(closed, api_with):
    """Not by changing one, not with another secret, and not from another thing that we sign."""
    value = cookie(log_in(closed)).value
    raw = bytearray(base64.urlsafe_b64decode(value + "==="))
    later = raw.replace(b"token", b"key")
    flipped = [bytes(raw[:at]) + bytes([raw[at] ^ 1]) + bytes(raw[at + 1 :]) for at in range(len(raw))]
    secret = closed.app.state.context.secret
    fakes = [*flipped, bytes(later), bytes(raw[:-1]), b"", signed(7, secret).encode()]
    for fake in fakes:
        closed.http.cookies.clear()
        closed.http.cookies.set("spool", base64.urlsafe_b64encode(fake).decode().rstrip("="))
        assert closed.http.get("/api/jobs").status_code == 401, fake
    closed.http.cookies.clear()
    for text in ("", "=", "a", "\xff", "." * 5000):
        assert closed.http.get("/api/jobs", headers={"Cookie": f"spool={text}".encode("latin-1")}).status_code == 401
    other = api_with(api_tokens="sesame", secret="another secret")
    assert other.http.get("/api/jobs", headers={"Cookie": f"spool={value}"}).status_code == 401


def test_a_login_ends_with_its_key_and_with_its_token(closed, api_with):
    """A key that is revoked ends its logins as soon as itself; a token, when it is no longer set."""
    text, key_id = key(closed)
    log_in(closed, text)
    assert closed.http.get("/api/jobs").status_code == 200
    closed.store.revoke_key(key_id)
    ring = closed.app.state.context.keyring
    ring.learn(closed.store.api_keys(), ring.clock())
    problem(closed.http.get("/api/jobs"), 401, "unauthorized")
    value = cookie(log_in(closed)).value
    changed = api_with(api_tokens="another")
    assert changed.http.get("/api/jobs", headers={"Cookie": f"spool={value}"}).status_code == 401


def test_any_instance_reads_a_login(closed, api_with):
    """Nothing is kept where somebody logged in: another process with the same secret lets them in."""
    value = cookie(log_in(closed)).value
    other = TestClient(create_app(closed.settings, closed.store, closed.storage), base_url=HERE)
    assert other.get("/api/jobs", headers={"Cookie": f"a=b; spool={value}; c=d"}).status_code == 200


def test_logging_out_lets_the_browser_forget(closed):
    """The cookie is gone, with or without a login that still holds."""
    log_in(closed)
    for _ in range(2):
        answer = closed.http.post("/api/logout", headers=OURS)
        assert answer.status_code == 204
        assert (cookie(answer).value, cookie(answer)["max-age"]) == ("", "0")
        problem(closed.http.get("/api/jobs"), 401, "unauthorized")


def test_a_login_that_may_only_read_sees_everything_and_changes_nothing(closed):
    """Each route that changes something is refused, each that only reads is not."""
    job = closed.http.post("/api/jobs", json=BODY, headers={"Authorization": "Bearer sesame"}).json()["id"]
    text, _ = key(closed, "read")
    log_in(closed, text)
    for operation in OPERATIONS:
        path = operation.path.format(id=job, name="x")
        if operation.scope == "read" and path not in {"/api/events", "/metrics"}:
            assert closed.http.request(operation.method, path).status_code in {200, 404}, path
        elif operation.scope in {"write", "admin"}:
            problem(closed.http.request(operation.method, path, headers=OURS), 403, "forbidden")
    problem(closed.http.delete(f"/api/jobs/{job}?purge=true", headers=OURS), 403, "forbidden")


def test_a_login_costs_no_round_trip(closed, monkeypatch):
    """Its key is known to the process, as that of a program is."""
    text, _ = key(closed)
    log_in(closed, text)
    trips: list[int] = []
    for name in ("_run", "_read"):
        monkeypatch.setattr(closed.store, name, counted(getattr(closed.store, name), trips))
    for method, path, body in (("GET", "/api/jobs", None), ("POST", "/api/jobs", BODY), ("GET", "/api/stats", None)):
        trips.clear()
        assert closed.http.request(method, path, json=body, headers=OURS).is_success
        assert len(trips) == 1, path


def test_a_live_view_ends_with_its_login(api, monkeypatch):
    """A page that was open when its key was revoked is told nothing more."""
    monkeypatch.setattr(events, "_KEEP_ALIVE_S", 0.05)
    text, key_id = key(api)
    value = cookie(log_in(api, text)).value
    with Server(api) as server:
        headers = {"Cookie": f"spool={value}"}
        with httpx2.stream("GET", f"{server.url}/api/events", headers=headers, timeout=30) as answer:
            lines = answer.iter_lines()
            assert "event: hello" in [next(lines), next(lines), next(lines), next(lines)]
            api.store.revoke_key(key_id)
            ring = api.app.state.context.keyring
            ring.learn(api.store.api_keys(), ring.clock())
            assert "event: event" not in list(lines)  # to its end


def test_a_program_that_sends_a_key_is_not_taken_for_its_login(closed):
    """With an Authorization header the cookie does not count: a wrong key is refused."""
    log_in(closed)
    problem(closed.http.get("/api/jobs", headers={"Authorization": "Bearer wrong"}), 401, "unauthorized")
    assert closed.http.post("/api/jobs", json=BODY, headers={"Authorization": "Bearer sesame"}).status_code == 201


def test_the_body_of_a_login_is_checked(closed):
    """Unknown fields, no key, and other types are named as everywhere."""
    for body, field in (
        ({}, "key"),
        ({"key": 7}, "key"),
        ({"key": "x", "more": 1}, "more"),
        ({"key": "x" * 1001}, "key"),
    ):
        answer = closed.http.post("/api/login", json=body, headers=OURS)
        problem(answer, 422, "invalid", field)
        assert "xxx" not in json.dumps(answer.json())
