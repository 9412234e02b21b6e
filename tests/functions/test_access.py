"""Who may call, and what every answer carries."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from functions import edge
from shared.errors import ConfigurationError
from tests.functions.api import problem

BODY = {"type": "flow", "params": {}}


@pytest.mark.parametrize("host", ["localhost", "localhost:3000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST"])
def test_without_tokens_this_machine_may_call(api, host):
    """Every name of the loopback, on any port."""
    assert api.http.get("/api/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["example.org", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "10.0.0.1:8000", "", "[::1"]
)  # fmt: skip
def test_without_tokens_other_hosts_are_refused(api, host):
    """A name that a hostile page let point to this machine is not this machine's (DNS rebinding)."""
    problem(api.http.get("/api/jobs", headers={"Host": host}), 403, "forbidden")
    problem(api.http.get("/dashboard", headers={"Host": host}), 403, "forbidden")
    assert api.http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost:3000", "null", "http://localhost:8000.evil"]
)
def test_without_tokens_foreign_pages_are_refused(api, origin):
    """A page elsewhere cannot steer Spool through its visitor's browser."""
    for method, path in (
        ("GET", "/api/jobs"),
        ("POST", "/api/jobs"),
        ("POST", "/api/jobs/x/cancel"),
        ("PUT", "/files/x"),
    ):
        problem(api.http.request(method, path, headers={"Origin": origin}), 403, "forbidden")


def test_our_own_pages_and_listed_origins_may_call(api_with):
    """The dashboard's origin is the API's own; others are listed in the settings."""
    api = api_with(cors_origins="https://studio.example.org")
    for origin in ("http://localhost:8000", "https://studio.example.org"):
        assert api.http.post("/api/jobs", json=BODY, headers={"Origin": origin}).status_code == 201


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/x/cancel", "/api/jobs/x/retry"])
def test_without_tokens_a_form_cannot_be_posted(api, path):
    """Browsers send forms across origins without asking: only JSON is read."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = api.http.post(path, content=b'{"type":"flow"}', headers={"Content-Type": kind})
        problem(answer, 415, "unsupported_media_type")


def test_with_tokens_only_their_holders_may_call(api_with):
    """401 with a challenge for none, a wrong one, or another scheme; each of several tokens works from anywhere."""
    api = api_with(api_tokens="first-token,second-token")
    wrong = (b"Bearer wrong", b"Basic first-token", b"Bearer ", b"Bearer first-token,second-token", b"Bearer \xfc")
    for headers in ({}, *({"Authorization": value} for value in wrong)):
        answer = api.http.get("/api/jobs", headers=headers)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for token in ("first-token", "second-token"):
        headers = {"Authorization": f"Bearer {token}", "Host": "spool.example.org", "Origin": "https://elsewhere.org"}
        assert api.http.get("/api/jobs", headers=headers).status_code == 200


def test_what_needs_no_token(api_with):
    """Health, the pages and signed addresses are open; everything else is closed, also what does not exist."""
    api = api_with(api_tokens="a-token")
    for path in ("/healthz", "/", "/docs", "/openapi.json", "/dashboard/docs.js"):
        assert api.http.get(path).status_code == 200, path
    for path in ("/api/jobs", "/api/events", "/api/stats", "/api/job-types", "/readyz", "/nothing", "/dashboards"):
        problem(api.http.get(path), 401, "unauthorized")
    problem(api.http.get("/files/uploads/x"), 403, "forbidden")


def test_a_signed_address_needs_no_token(api_with):
    """The signature is the permission, and a job remembers whose token made it."""
    api = api_with(api_tokens="a-token")
    headers = {"Authorization": "Bearer a-token"}
    upload = {"filename": "a.wav", "content_type": "audio/wav", "size_bytes": 3}
    answer = api.http.post("/api/uploads", json=upload, headers=headers).json()
    assert api.http.put(answer["upload"]["url"], content=b"abc", headers=answer["upload"]["headers"]).status_code == 201
    asset = api.store.asset(answer["asset"])
    assert asset is not None
    assert "a-token" not in asset.owner
    assert len(asset.owner) == 16


def test_one_key_of_two_callers_makes_two_jobs(api_with):
    """Idempotency keys belong to their caller."""
    api = api_with(api_tokens="one,two")
    made = []
    for token in ("one", "two", "one"):
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
        made.append(api.http.post("/api/jobs", json=BODY, headers=headers).json()["id"])
    assert made[0] == made[2] != made[1]


def test_on_lambda_it_does_not_start_without_tokens(api_with):
    """A function URL is open to the world."""
    with pytest.raises(ConfigurationError, match="SPOOL_API_TOKENS"):
        api_with(lambda_function="spool", secret="x")


def test_on_lambda_it_does_not_start_without_a_secret(api_with):
    """Instances that each made their own would refuse each other's links."""
    with pytest.raises(ConfigurationError, match="SPOOL_SECRET"):
        api_with(lambda_function="spool", api_tokens="x")


def test_any_origin_is_no_setting(api_with):
    """A star in the list of origins stops the start."""
    with pytest.raises(ConfigurationError, match="SPOOL_CORS_ORIGINS"):
        api_with(cors_origins="*")


def test_only_listed_origins_may_read_answers(api_with):
    """CORS headers name the origin that asked when it is listed, and are missing otherwise; errors carry them too."""
    api = api_with(api_tokens="t", cors_origins="https://studio.example.org")
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,idempotency-key",
    }
    allowed = api.http.options("/api/jobs", headers=preflight | {"Origin": "https://studio.example.org"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://studio.example.org")
    other = api.http.options("/api/jobs", headers=preflight | {"Origin": "https://example.org"})
    assert "access-control-allow-origin" not in other.headers
    refused = api.http.get("/api/jobs", headers={"Origin": "https://studio.example.org"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://studio.example.org"
    assert "ETag" in refused.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/dashboard/docs.js", "/api/jobs", "/healthz", "/nothing", "/files/x", "/api/events?x=1"]
)
def test_every_answer_carries_its_id_and_the_security_headers(api, path):
    """Also errors and pages; a client may choose the id."""
    answer = api.http.get(path)
    assert len(answer.headers["x-request-id"]) == 36
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "cache-control" in answer.headers
    assert "strict-transport-security" not in answer.headers
    assert api.http.get(path, headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert api.http.get(path, headers={"X-Request-Id": "a b\t<"}).headers["x-request-id"] != "a b\t<"


def test_over_tls_the_browser_is_told_to_stay_there(api):
    """HSTS where the request came by https."""
    http = TestClient(api.app, base_url="https://localhost:8000")
    assert "strict-transport-security" in http.get("/healthz").headers


def test_an_error_of_ours_says_nothing_of_the_inside(api, monkeypatch, capsys):
    """500 as problem+json without the reason, which is in the log under the request's id."""
    monkeypatch.setattr(api.store, "stats", lambda hours: {}["secret of the inside"])  # a fault no test can bring about
    answer = api.http.get("/api/stats")
    found = problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "X-Request-Id" in found["detail"]
    assert answer.headers["x-request-id"] in capsys.readouterr().out


def test_a_slow_database_ends_in_504_and_stops_no_health_check(api, monkeypatch):
    """A request that hangs is answered when its time is up; /healthz answers meanwhile, however many hang."""
    monkeypatch.setattr(edge, "TIME_LIMIT_S", 6.0)
    hangs, released = threading.Semaphore(0), threading.Event()

    def hang(*_args, **_options):
        hangs.release()
        released.wait()

    monkeypatch.setattr(api.store, "list", hang)  # a database that does not answer, without waiting for its timeout
    with api.http, ThreadPoolExecutor(60) as pool:
        try:
            late = [pool.submit(api.http.get, "/api/jobs") for _ in range(60)]
            for _ in range(40):  # all threads there are for requests
                assert hangs.acquire(timeout=30)
            assert api.http.get("/healthz").status_code == 200
            assert not any(answer.done() for answer in late)
            for answer in late:
                problem(answer.result(timeout=30), 504, "timeout")
        finally:
            released.set()


def test_the_time_limit_follows_the_host():
    """60 s on a server, what Lambda leaves less a margin, 28 s behind an API Gateway, none for files."""

    class Lambda:
        left_ms = 30_000

        def get_remaining_time_in_millis(self) -> int:
            return self.left_ms

    def limit(path: str = "/api/jobs", domain: str = "x.lambda-url.eu-west-1.on.aws") -> float:
        event = {"requestContext": {"domainName": domain}}
        return edge.time_limit_s({"path": path, "aws.context": Lambda(), "aws.event": event})

    assert edge.time_limit_s({"path": "/api/jobs"}) == 60
    assert limit() == 28.5
    assert limit(domain="x.execute-api.eu-west-1.amazonaws.com") == 28
    Lambda.left_ms = 900_000
    assert limit() == 60
    Lambda.left_ms = 100
    assert limit() == 0
    assert edge.time_limit_s({"path": "/files/uploads/x"}) == float("inf")
