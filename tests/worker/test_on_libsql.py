"""Webhooks and mail from a queue on a libSQL server: the same tests as on a file, on another queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.store.turso import TursoJobStore
from tests.contract.conftest import databases  # noqa: F401 - a fixture
from tests.worker import test_mail, test_webhooks

#: They ask for no queue.
ALONE = {"test_settings_of_mail_that_cannot_work_stop_the_start"}

# All tests and fixtures of these, those that will be added included.
for module in (test_webhooks, test_mail):
    named = {name: one for name, one in vars(module).items() if not name.startswith("_") and name not in ALONE}
    globals().update({name: one for name, one in named.items() if name not in globals()})


@pytest.fixture
def store(databases) -> Iterator[TursoJobStore]:  # noqa: F811 - a fixture
    """A migrated, empty queue on the server."""
    with databases.open("libsql") as store:
        yield store


def test_the_queue_is_on_the_server(office):
    """What a fixture of one of the modules would otherwise undo unseen."""
    assert isinstance(office.store, TursoJobStore)
