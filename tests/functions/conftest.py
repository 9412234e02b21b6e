"""The API over a real database file and a real folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.settings import Settings, load_settings
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from tests.functions.api import Api
from tests.real.queue import new_queue


@pytest.fixture
def settings_for(tmp_path: Path) -> Callable[..., Settings]:
    """Settings over temporary places; keywords override."""

    def make(**overrides: Any) -> Settings:
        places = {"database_url": f"sqlite:///{tmp_path}/spool.db", "storage_url": f"file:{tmp_path}/storage"}
        return load_settings(_env_file=None, **(places | overrides))

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalJobStore]:
    """A migrated database."""
    store = new_queue(tmp_path / "spool.db")
    yield store
    store.close()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """An empty folder."""
    return LocalStorage(tmp_path / "storage", b"a secret of the tests")


@pytest.fixture
def api_with(settings_for: Callable[..., Settings], store: LocalJobStore, storage: LocalStorage) -> Callable[..., Api]:
    """An API with settings of its own."""
    return lambda **overrides: Api(settings_for(**overrides), store, storage)


@pytest.fixture
def api(api_with: Callable[..., Api]) -> Api:
    """The API as `spool dev` serves it."""
    return api_with()
