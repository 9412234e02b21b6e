"""The pages as a browser gets them: from the real app, over a real database and a real folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from functions.app import create_app
from shared.settings import load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A visitor's client; keywords are settings."""
    store = LocalJobStore(tmp_path / "spool.db")
    store.migrate()
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
