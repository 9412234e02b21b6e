"""The pages: as they are served, and in a real browser on a real `spool dev`."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser
from starlette.testclient import TestClient

from functions.app import create_app
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.sql import Statement
from tests.browser.screen import Screen, chromium, screen
from tests.cli.conftest import Dev, start_dev
from tests.real.queue import new_queue


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A visitor's client; keywords are settings."""
    store = new_queue(tmp_path / "spool.db")
    storage = LocalStorage(tmp_path / "storage", b"a secret of the tests")

    def client(**settings: object) -> TestClient:
        places = {"database_url": f"sqlite:///{tmp_path}/spool.db", "storage_url": f"file:{tmp_path}/storage"}
        app = create_app(load_settings(_env_file=None, **(places | settings)), store, storage)
        return TestClient(app, base_url="http://localhost:8000")

    yield client
    store.close()


@pytest.fixture
def site(visit: Callable[..., TestClient]) -> TestClient:
    """The site as `spool dev` serves it."""
    return visit()


@dataclass
class Spool:
    """A running `spool dev`: its process, its API, and its queue as a worker sees it."""

    dev: Dev
    api: httpx2.Client
    store: LocalJobStore

    def submit(self, **fields: Any) -> dict[str, Any]:
        """A new job: an ingest of a link, which nobody fetches, unless `fields` say otherwise."""
        answer = self.api.post(
            "/api/jobs", json={"type": "ingest", "params": {"source": "https://example.org/talk.mp3"}} | fields
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    def jobs(self, **query: str) -> list[dict[str, Any]]:
        """The newest jobs."""
        return self.api.get("/api/jobs", params=query).json()["items"]

    def job(self, job_id: str) -> dict[str, Any]:
        """One job."""
        return self.api.get(f"/api/jobs/{job_id}").json()


@contextmanager
def spool(folder: Path, *options: str, **settings: str) -> Iterator[Spool]:
    """A `spool dev` in a folder of its own."""
    dev = start_dev(folder, *options, SPOOL_RATE_LIMIT="10000", **settings)
    store = LocalJobStore(folder / ".spool" / "spool.db")
    try:
        with httpx2.Client(base_url=dev.url, timeout=60) as api:
            yield Spool(dev, api, store)
    finally:
        store.close()
        dev.end()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of the pages."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    """A Spool with a worker that tells of its progress twice a second."""
    with spool(tmp_path_factory.mktemp("studio"), SPOOL_HEARTBEAT_S="0.5") as running:
        yield running


@pytest.fixture(scope="package")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    """A Spool in which nobody works."""
    with spool(tmp_path_factory.mktemp("idle"), "--workers", "0") as running:
        yield running


@pytest.fixture
def queue(idle: Spool) -> Spool:
    """A queue without a job, in which nobody works."""
    idle.store._run([Statement(f"DELETE FROM {table}") for table in ("job", "event", "tally", "worker", "steering")])
    return idle


@pytest.fixture
def visitor(browser: Browser, studio: Spool) -> Iterator[Screen]:
    """Somebody who looks at the studio."""
    with screen(browser, studio.dev.url) as found:
        yield found


@pytest.fixture
def operator(browser: Browser, queue: Spool) -> Iterator[Screen]:
    """Somebody who looks at the queue."""
    with screen(browser, queue.dev.url) as found:
        yield found


@pytest.fixture(scope="session")
def long_talk(tmp_path_factory: pytest.TempPathFactory, recordings: Any) -> Path:
    """Five minutes of two people talking: long enough that its job can be watched."""
    path = tmp_path_factory.mktemp("talk") / "long talk.wav"
    with wave.open(str(recordings.speech)) as source, wave.open(str(path), "wb") as made:
        made.setparams(source.getparams())
        frames = source.readframes(source.getnframes())
        for _ in range(10):
            made.writeframes(frames)
    return path
