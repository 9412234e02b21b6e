"""The Lambda entry: real API Gateway events through the module that AWS imports."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from shared.storage import reset_storage
from shared.store import reset_job_store
from shared.store.local import LocalJobStore

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    "boto3",
    "botocore",
    "numpy",
    "sqlmodel",
    "sqlalchemy",
    "av",
    "typer",
    "uvicorn",
    "prometheus_client",
    "worker",
    "cli",
    "shared.programs",
    "shared.types.episode",
    "shared.types.ingest",
)


class Context:
    """What Lambda tells a function about its invocation."""

    aws_request_id = "request"
    function_name = "spool"

    def get_remaining_time_in_millis(self) -> int:
        """Half a minute."""
        return 30_000


@pytest.fixture
def handler(tmp_path, monkeypatch):
    """The entry as a fresh instance imports it."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "AWS_LAMBDA_FUNCTION_NAME": "spool",
        "SPOOL_API_TOKENS": "a-token",
        "SPOOL_SECRET": "a secret",
        "SPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/spool.db",
        "SPOOL_STORAGE_URL": f"file:{tmp_path}/storage",
    }.items():
        monkeypatch.setenv(name, value)
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
    store.close()
    sys.modules.pop("functions.deployment", None)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum would make one and never close it
    yield importlib.import_module("functions.deployment").handler
    sys.modules.pop("functions.deployment", None)
    asyncio.set_event_loop(None)
    loop.close()
    reset_job_store()
    reset_storage()
    structlog.reset_defaults()  # the entry sends the log to the standard error of this test, which ends with it


def event(method: str, path: str, body: Any = None, query: str = "", **headers: str) -> dict[str, Any]:
    """An event of payload format 2.0, as a function URL or an HTTP API sends it."""
    domain = "abc.lambda-url.eu-central-1.on.aws"
    sent = {"host": domain, "authorization": "Bearer a-token", "content-type": "application/json"}
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": sent | {"x-forwarded-proto": "https"} | headers,
        "requestContext": {"domainName": domain, "http": http, "requestId": "r", "stage": "$default"},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def test_a_job_is_created_and_polled_through_the_gateway(handler):
    """201, then 200 with an ETag, then 304, as through the server."""
    body = {"type": "ingest", "params": {"source": "https://example.org/talk.mp3"}}
    created = handler(event("POST", "/api/jobs", body, **{"idempotency-key": "k"}), Context())
    assert created["statusCode"] == 201, created
    job = json.loads(created["body"])
    assert created["headers"]["location"] == f"/api/jobs/{job['id']}"
    assert "strict-transport-security" in created["headers"]
    polled = handler(event("GET", f"/api/jobs/{job['id']}", query="wait=20"), Context())
    assert (polled["statusCode"], json.loads(polled["body"])["position"]) == (200, 1)
    again = event("GET", f"/api/jobs/{job['id']}", **{"if-none-match": polled["headers"]["etag"]})
    assert handler(again, Context())["statusCode"] == 304


def test_the_gateway_gets_problems_and_batches_too(handler):
    """401, 422 and the live batch come as whole answers."""
    refused = handler(event("GET", "/api/jobs", authorization="Bearer wrong"), Context())
    assert (refused["statusCode"], refused["headers"]["content-type"]) == (401, "application/problem+json")
    wrong = handler(event("POST", "/api/jobs", {"type": "nothing"}), Context())
    assert json.loads(wrong["body"])["errors"][0]["field"] == "type"
    live = handler(event("GET", "/api/events"), Context())
    assert live["body"] == "retry: 2000\n\nid: 0\nevent: hello\ndata: {}\n\n"


def test_a_cold_start_imports_nothing_it_does_not_need(tmp_path):
    """The function's import budget: no cloud client, no numbers, no ORM, no worker."""
    program = f"import functions.handler, sys; print([n for n in {FORBIDDEN!r} if n in sys.modules])"
    ended = fresh_interpreter(program, tmp_path, SPOOL_API_TOKENS="a-token")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"


def test_a_cold_start_looks_for_no_garbage(tmp_path):
    """Nothing is collected while the function is imported; afterwards it is, but not among what was imported."""
    program = """if True:
        import gc
        counts = lambda: sum(each["collections"] for each in gc.get_stats())
        before = counts()
        import functions.handler
        print(counts() - before, gc.isenabled(), gc.get_freeze_count() > 10_000)
    """
    ended = fresh_interpreter(program, tmp_path, SPOOL_API_TOKENS="a-token")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["0", "True", "True"]


def test_the_function_does_not_start_without_tokens(tmp_path):
    """An import on Lambda without tokens fails with a sentence."""
    ended = fresh_interpreter("import functions.handler", tmp_path)
    assert ended.returncode != 0
    assert "SPOOL_API_TOKENS is not set" in ended.stderr


def fresh_interpreter(program: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A program run as on Lambda, with nothing imported before."""
    environment = {"PYTHONPATH": str(ROOT), "AWS_LAMBDA_FUNCTION_NAME": "spool", "SPOOL_SECRET": "s"} | settings
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
