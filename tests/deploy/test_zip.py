"""The zip that is deployed, run by AWS's own runtime client behind a Function URL of ours."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from shared.settings import load_settings
from shared.store import get_job_store, reset_job_store
from tests.deploy.runtime import Function
from tests.real.sqld import Sqld

FORBIDDEN = (
    "boto3",
    "botocore",
    "numpy",
    "sqlmodel",
    "sqlalchemy",
    "av",
    "rich",
    "typer",
    "uvicorn",
    "prometheus_client",
    "worker",
    "cli",
)
MAX_ZIP_BYTES = 20_000_000
JOB = {"type": "ingest", "params": {"source": "https://example.org/talk.mp3"}}
#: The import as Lambda does it, and what it cost.
IMPORT = f"""
import json, sys, time
began = time.process_time()
import functions.handler
spent = time.process_time() - began
print(json.dumps([round(1000 * spent), [name for name in {FORBIDDEN!r} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[str]:
    """A migrated database on a real libSQL server."""
    with Sqld(tmp_path_factory.mktemp("sqld")) as server:
        get_job_store(load_settings(database_url=server.url)).migrate()
        reset_job_store()
        yield server.url


@pytest.fixture(scope="module")
def settings(database) -> dict[str, str]:
    """What the template sets, with storage that needs no network until it is used."""
    return {
        "SPOOL_DATABASE_URL": database,
        "SPOOL_STORAGE_URL": "s3://bucket?region=eu-central-1",
        "SPOOL_API_TOKENS": "a-token,another-token",
        "SPOOL_SECRET": "a secret that all instances share",
        "SPOOL_RATE_LIMIT": "0",
        "SPOOL_LOG_FORMAT": "json",
    }


@pytest.fixture(scope="module")
def function(task_root, runtime, settings) -> Iterator[Function]:
    """The deployed function, which is told of the programs in its zip as the template tells it."""
    with Function(task_root, runtime, settings | {"SPOOL_PROGRAMS": "programs.toml"}) as function:
        yield function


def call(function: Function, method: str, path: str, body: Any = None, **headers: str) -> urllib3.BaseHTTPResponse:
    """One request with a token."""
    sent = {"authorization": "Bearer a-token"} | {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{function.url}{path}"
    return urllib3.request(method, url, json=body, headers=sent, redirect=False, retries=False, timeout=60)


# --- what is in it --------------------------------------------------------------------------------------------------
def test_the_zip_is_small_and_holds_what_the_function_needs(task_root, tmp_path, capsys):
    """Under 20 MB; functions and shared with their data, no other part of Spool, and none of the runtime's packages."""
    size = Path(shutil.make_archive(str(tmp_path / "api"), "zip", task_root)).stat().st_size
    unpacked = sum(path.stat().st_size for path in task_root.rglob("*") if path.is_file())
    with capsys.disabled():
        print(f"\nLambda zip: {size / 1e6:.1f} MB, {unpacked / 1e6:.1f} MB unpacked")  # noqa: T201 - a figure
    assert size < MAX_ZIP_BYTES
    names = set(zipfile.ZipFile(tmp_path / "api.zip").namelist())
    assert {"functions/handler.py", "functions/openapi.json", "shared/store/migrations/0001_queue.sql"} <= names
    assert any(name.startswith("functions/dashboard/") for name in names)
    assert not {name.split("/")[0] for name in names} & {"worker", "cli", "tests", "boto3", "botocore", "numpy", "av"}


def test_every_module_comes_with_its_bytecode(task_root):
    """A cold start compiles nothing: each module has bytecode that is used without a look at its source."""
    for source in (*task_root.glob("functions/*.py"), *task_root.glob("pydantic/*.py")):
        compiled = Path(importlib.util.cache_from_source(str(source)))
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", f"{source} would be compiled or checked"


def test_a_cold_start_imports_only_what_it_needs(task_root, settings, capsys):
    """Without any package but the zip's own the function imports, and none of the forbidden modules is among them."""
    environment = settings | {"PYTHONPATH": str(task_root), "AWS_LAMBDA_FUNCTION_NAME": "spool"}
    spent = []
    for _ in range(5):
        command = [sys.executable, "-S", "-c", IMPORT]
        ended = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)
        cpu_ms, found = json.loads(ended.stdout)
        assert found == []
        spent.append(cpu_ms)
    with capsys.disabled():
        print(f"\nCold import: {sorted(spent)[2]} ms of CPU (median of 5; {min(spent)} to {max(spent)})")  # noqa: T201 - a figure


# --- what it answers ------------------------------------------------------------------------------------------------
def test_a_job_is_created_polled_and_cancelled(function):
    """201, the same key 200, poll 200 with an ETag, 304 with it, cancel 200, and a second cancel 200."""
    created = call(function, "POST", "/api/jobs", JOB, idempotency_key="one")
    assert created.status == 201, created.data
    place = created.headers["location"]
    assert call(function, "POST", "/api/jobs", JOB, idempotency_key="one").status == 200
    polled = call(function, "GET", f"{place}?wait=20")
    assert (polled.status, polled.json()["status"]) == (200, "pending")
    again = call(function, "GET", place, if_none_match=polled.headers["etag"])
    assert (again.status, again.data) == (304, b"")
    cancelled = call(function, "POST", f"{place}/cancel")
    assert (cancelled.status, cancelled.json()["status"]) == (200, "cancelled")
    assert call(function, "GET", place, if_none_match=polled.headers["etag"]).status == 200


def test_an_upload_is_signed_with_the_runtimes_own_boto3(function):
    """The zip has no boto3: a presigned PUT to the bucket comes from the managed runtime's."""
    announced = call(
        function, "POST", "/api/uploads", {"filename": "talk.wav", "content_type": "audio/wav", "size_bytes": 1000}
    )
    assert announced.status == 201, announced.data
    upload = announced.json()["upload"]
    assert upload["method"] == "PUT"
    assert "X-Amz-Signature=" in upload["url"]


def test_errors_are_problems(function):
    """401, 404, 405, 413 and 422 come as problem+json through the gateway; what Lambda refuses itself is 413, too."""
    refused = [
        (401, call(function, "GET", "/api/jobs", authorization="Bearer wrong")),
        (404, call(function, "GET", "/api/jobs/unknown")),
        (405, call(function, "PUT", "/api/jobs")),
        (413, call(function, "POST", "/api/jobs", JOB | {"tags": ["x" * 1_100_000]})),
        (422, call(function, "POST", "/api/jobs", {"type": "nothing"})),
    ]
    for status, answer in refused:
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.data
        assert answer.json()["status"] == status
    assert call(function, "POST", "/api/jobs", JOB | {"tags": ["x" * 7_000_000]}).status == 413


def test_programs_are_known_by_the_file_in_the_zip(function):
    """A job of a registered program is queued, and refused by the limits of its file, as by any API."""
    params = {"prompt": "zoom in", "images": ["https://example.org/a.png"]}
    made = call(function, "POST", "/api/jobs", {"type": "workflow:i2v", "params": params})
    assert (made.status, made.json()["type"]) == (201, "workflow:i2v"), made.data
    refused = call(function, "POST", "/api/jobs", {"type": "workflow:i2v", "params": params | {"steps": 101}})
    assert (refused.status, refused.json()["errors"][0]["field"]) == (422, "params.steps")


def test_query_strings_and_cookies_arrive(function):
    """An encoded query finds the job with that tag, unknown fields are refused, and cookies disturb nothing."""
    tag = "Größe & Maß+1"
    made = call(function, "POST", "/api/jobs", JOB | {"tags": [tag]}).json()

    found = call(function, "GET", f"/api/jobs?{urlencode({'tag': tag, 'limit': 5})}", cookie="theme=dark; spool=x")
    assert [job["id"] for job in found.json()["items"]] == [made["id"]]
    assert call(function, "GET", "/api/jobs?colour=red").status == 422


def test_pages_arrive_whole(function):
    """The dashboard's files come as the bytes they are, whatever their kind, and HEAD has no body."""
    page = call(function, "GET", "/dashboard")
    assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert page.data.rstrip().endswith(b"</html>")
    head = call(function, "HEAD", "/healthz")
    assert (head.status, head.data) == (200, b"")


def test_many_at_once_use_many_environments(function):
    """24 jobs created four at a time: none lost, none double, over several instances."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: call(function, "POST", "/api/jobs", JOB), range(24)))
    assert [answer.status for answer in made] == [201] * 24
    assert len({answer.json()["id"] for answer in made}) == 24
    assert len([one for one in function.environments if one.handled]) > 1


# --- what goes wrong ------------------------------------------------------------------------------------------------
@pytest.fixture
def silence() -> Iterator[str]:
    """The address of a database that takes connections and never answers."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"


def test_a_database_that_never_answers_is_a_504_before_lambda_kills(task_root, runtime, settings, silence):
    """The answer comes while Lambda would still wait, as a problem; the same instance serves the next request."""
    with Function(task_root, runtime, settings | {"SPOOL_DATABASE_URL": silence}, timeout_s=4) as function:
        late = call(function, "GET", "/api/jobs/one")
        assert (late.status, late.headers["content-type"]) == (504, "application/problem+json"), late.data
        assert call(function, "GET", "/healthz").status == 200
        assert len(function.environments) == 1


WRONG = {
    "no token": ({"SPOOL_API_TOKENS": ""}, "SPOOL_API_TOKENS is not set"),
    "no secret": ({"SPOOL_SECRET": ""}, "SPOOL_SECRET is not set"),
    "a wrong database": ({"SPOOL_DATABASE_URL": "mysql://x"}, "SPOOL_DATABASE_URL: use "),
    "open to every page": ({"SPOOL_CORS_ORIGINS": "*"}, "SPOOL_CORS_ORIGINS holds *"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_setting_stops_the_start_with_a_sentence(fault, task_root, runtime, settings):
    """The function does not start, and its log says what to mend."""
    changed, sentence = WRONG[fault]
    with Function(task_root, runtime, settings | changed) as function:
        answer = call(function, "GET", "/healthz")
        assert (answer.status, answer.json()["kind"]) == (502, "error")
        assert sentence in answer.json()["error"]["errorMessage"]
