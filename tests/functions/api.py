"""An API with both of its sides at hand: the client's, and the worker's on the same queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from functions.app import create_app
from shared.job import Claim, Job, Outcome, Output, new_id
from shared.settings import Settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker

HERE = "http://localhost:8000"
WAV = b"RIFF" + bytes(range(256)) * 40


class Api:
    """A client of one API, with the worker's side of its queue at hand."""

    def __init__(self, settings: Settings, store: LocalJobStore, storage: LocalStorage) -> None:
        self.settings, self.store, self.storage = settings, store, storage
        self.app = create_app(settings, store, storage)
        self.http = TestClient(self.app, base_url=HERE, follow_redirects=False)
        self.worker = Worker(id=new_id(), host="here", version="1", types=("ingest",), slots=1)

    def upload(self, content: bytes = WAV, filename: str = "talk.wav", content_type: str = "audio/wav") -> str:
        """A finished upload's id."""
        asset, target = self.announce(content, filename, content_type)
        answer = self.http.request(target["method"], target["url"], content=content, headers=target["headers"])
        assert answer.status_code == 201, answer.text
        return asset

    def announce(
        self, content: bytes = WAV, filename: str = "talk.wav", content_type: str = "audio/wav"
    ) -> tuple[str, dict[str, Any]]:
        """An upload that has not begun: its id and where the bytes go."""
        body = {"filename": filename, "content_type": content_type, "size_bytes": len(content)}
        answer = self.http.post("/api/uploads", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["asset"], answer.json()["upload"]

    def submit(self, **fields: Any) -> dict[str, Any]:
        """A new job: an ingest of a link unless `fields` say otherwise."""
        body = {"type": "ingest", "params": {"source": "https://example.org/talk.mp3"}} | fields
        answer = self.http.post("/api/jobs", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def claim(self) -> Claim:
        """The worker owns the next job."""
        job = self.store.claim(ClaimRequest(worker=self.worker, token=new_id(), lease_s=90))
        assert job is not None
        return job.claim

    def claim_of_new_job(self) -> Claim:
        """The worker owns a fresh ingest."""
        self.submit()
        return self.claim()

    def complete(self, claim: Claim, *outputs: Output) -> Job:
        """The worker ends it well."""
        return self.store.finish(claim, Outcome("completed", result={"media_ms": 1500}, outputs=outputs)).job

    def output(self, claim: Claim, name: str, content: bytes, content_type: str, tmp: Path) -> Output:
        """A file in storage as a worker leaves it."""
        path = tmp / name
        path.write_bytes(content)
        key = f"outputs/{claim.job_id}/{claim.attempt}/{name}"
        stored = self.storage.put(path, key, content_type=content_type, progress=lambda _done, _total: None)
        assert stored.sha256 is not None
        return Output(name, key, content_type, stored.size_bytes, stored.sha256)


def problem(answer: Any, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The answer's problem, checked for its shape: right status and code, one sentence, the field named."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert set(found) == {"type", "title", "status", "code", "detail", "errors"}
    assert (found["status"], found["code"]) == (status, code)
    assert found["detail"].strip().endswith(".")
    if field is not None:
        assert field in [error["field"] for error in found["errors"]], found
    return found


def counted(run: Callable[[Any], Any], trips: list[int]) -> Callable[[Any], Any]:
    """The same batch runner, with a mark for each trip."""
    return lambda batch: trips.append(1) or run(batch)
