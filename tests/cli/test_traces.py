"""Traces: what a collector of OpenTelemetry is told by a real API and a real worker, and what a missing one costs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import urllib3

from cli.client import Client
from shared.types import JOB_TYPES
from tests.cli.conftest import DEADLINE_S, Dev, environment, start_dev, until
from tests.real.collector import collecting, told

CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@contextmanager
def dev_telling(folder: Path, collector: str) -> Iterator[Dev]:
    """`spool dev` that sends traces there, ended in order at the end of the block."""
    dev = start_dev(folder, OTEL_EXPORTER_OTLP_ENDPOINT=collector)
    try:
        yield dev
        assert dev.end() == 0, "\n".join(dev.said)
    finally:
        dev.process.kill()
        dev.process.wait()


def sent(dev: Dev, path: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """What the API answers to a POST that makes a job."""
    answer = urllib3.request("POST", f"{dev.url}{path}", json=body, headers=headers)
    assert answer.status == 201, answer.data
    return answer.json()


def upload(client: Client, path: Path) -> str:
    """The id of a file that was sent."""
    begun = client.begin_upload(path.name, "audio/wav", path.stat().st_size)
    piece = {**begun["upload"], "number": 1, "first": 0, "size_bytes": path.stat().st_size}
    client.send(path, piece, lambda _moved: None)  # type: ignore[arg-type]  # a part like any other
    return begun["asset"]


def named_after(job: dict[str, Any], top: dict[str, Any]) -> tuple[bytes, bytes]:
    """The ids that the span of a job has: anybody can tell them from the job's."""
    return UUID(top["id"]).bytes, UUID(job["id"]).bytes[8:]


def test_a_family_is_one_trace_from_its_request_to_every_stage(tmp_path: Path, tone: Path) -> None:
    """API and worker tell parts of one tree, the request points to its caller, and stages follow each other."""
    with collecting() as collector:
        with dev_telling(tmp_path, collector.url) as dev:
            client = Client(dev.url)
            child = {"type": "check", "params": {"source": upload(client, tone)}}
            flow = sent(
                dev, "/api/jobs", {"type": "flow", "children": [child]}, traceparent="00-" + "-".join(CALLER) + "-01"
            )
            until(lambda: client.job(flow["id"])["status"] == "completed", "the flow")
            [check] = client.children(flow["id"])
        request = collector.named("create flow")
        top, below = collector.named("flow"), collector.named("check")
        attempt = collector.named("attempt 1")
        stages = [collector.named(name) for name in JOB_TYPES["check"].stages]
    assert (top.trace_id, top.span_id) == named_after(flow, flow)
    assert (below.trace_id, below.span_id, below.parent_span_id) == (*named_after(check, flow), top.span_id)
    assert (request.parent_span_id, attempt.parent_span_id) == (top.span_id, below.span_id)
    assert {one.parent_span_id for one in stages} == {attempt.span_id}
    assert {one.trace_id for one in (request, attempt, *stages)} == {top.trace_id}
    assert [(one.trace_id.hex(), one.span_id.hex()) for one in request.links] == [CALLER]
    assert [collector.service_of(one) for one in (request, attempt)] == ["spool-api", "spool-worker"]
    moments = [moment for one in stages for moment in (one.start_time_unix_nano, one.end_time_unix_nano)]
    assert [attempt.start_time_unix_nano, *moments, attempt.end_time_unix_nano] == sorted(
        [attempt.start_time_unix_nano, *moments, attempt.end_time_unix_nano]
    )
    assert (
        told(attempt).items()
        >= {"spool.job.id": check["id"], "spool.job.attempt": 1, "spool.outcome": "completed"}.items()
    )


def test_a_failure_is_told_by_code_and_sentence_and_a_retry_points_back(tmp_path: Path) -> None:
    """Nothing but the attempt is red, and its sentence is the job's."""
    with collecting() as collector:
        with dev_telling(tmp_path, collector.url) as dev:
            client = Client(dev.url)
            first = sent(dev, "/api/jobs", {"type": "check", "params": {"source": "http://127.0.0.1:9/a.wav"}})
            until(lambda: client.job(first["id"])["status"] == "failed", "the failure")
            again = sent(dev, f"/api/jobs/{first['id']}/retry")
            until(lambda: client.job(again["id"])["status"] == "failed", "the failure of the retry")
            error = client.job(first["id"])["error"]
        attempt = collector.named("attempt 1", spool__job__id=first["id"])
        second = collector.named("check", spool__job__id=again["id"])
    assert (attempt.status.code, attempt.status.message) == (2, error["message"])
    assert told(attempt)["error.type"] == error["code"]
    assert [(one.trace_id, one.span_id) for one in second.links] == [named_after(first, first)]
    assert {span.name for _, span in collector.spans if span.status.code == 2} == {"attempt 1"}


def test_a_collector_that_is_away_holds_up_nothing(tmp_path: Path, tone: Path) -> None:
    """Jobs complete, the parts end in order, and what could not be sent is in the log in a line without a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever comes is refused
        with dev_telling(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}") as dev:
            client = Client(dev.url)
            job = sent(dev, "/api/jobs", {"type": "check", "params": {"source": upload(client, tone)}})
            until(lambda: client.job(job["id"])["status"] == "completed", "the job")
    assert "Everything has ended; no process is left." in dev.said
    assert [line for line in dev.said if "export" in line.lower()]
    assert [line for line in dev.said if "Traceback" in line] == []


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    """Where a collector is set and the packages are missing, the worker says which file to install."""
    program = "import sys; sys.modules['opentelemetry'] = None; from worker.__main__ import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318"),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert ended.returncode == 2
    assert "requirements/otel.txt" in ended.stderr
    assert "Traceback" not in ended.stderr
