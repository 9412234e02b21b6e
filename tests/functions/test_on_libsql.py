"""What operators rely on, over HTTP on a libSQL server: the same tests as on a file, on another queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.store.turso import TursoJobStore
from tests.contract.conftest import databases  # noqa: F401 - a fixture
from tests.functions import (
    test_health,
    test_keys,
    test_limits,
    test_metrics,
    test_ops,
    test_request_log,
    test_schedules,
    test_steering,
)

#: They make files of their own; tests/contract lets two clients of one server share a limit.
FILES_ONLY = {"test_a_database_that_is_away_lets_nobody_in", "test_instances_share_the_limit"}
#: The others of this module have no use for a queue.
STATISTICS = ("test_ready_when", "test_statistics_count", "test_waiting_jobs")

# All tests and fixtures of these, those that will be added included.
for module in (test_keys, test_limits, test_metrics, test_steering, test_schedules, test_health, test_request_log):
    named = {name: one for name, one in vars(module).items() if not name.startswith("_") and name not in FILES_ONLY}
    globals().update({name: one for name, one in named.items() if name not in globals()})
globals().update({name: one for name, one in vars(test_ops).items() if name.startswith(STATISTICS)})


@pytest.fixture
def store(databases) -> Iterator[TursoJobStore]:  # noqa: F811 - a fixture
    """A migrated, empty queue on the server."""
    with databases.open("libsql") as store:
        yield store


def test_the_queue_is_on_the_server(api):
    """What a fixture of one of the modules would otherwise undo unseen."""
    assert isinstance(api.store, TursoJobStore)
    api.submit()
    assert api.store.usage.rows_written > 0
