"""Sessions and registered programs over HTTP on a libSQL server: the same tests as on a file, on another queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.store.turso import TursoJobStore
from tests.contract.conftest import databases  # noqa: F401 - a fixture
from tests.functions import test_sessions
from tests.functions.test_sessions import api  # noqa: F401 - a fixture

#: The others of this module ask for no queue.
ASKING = (
    *("test_a_conversation", "test_a_session_may_begin", "test_one_turn", "test_a_turn_", "test_the_same_key"),
    *("test_the_list_is_paged", "test_files_are_counted", "test_a_workflow_is_scheduled"),
)
globals().update({name: one for name, one in vars(test_sessions).items() if name.startswith(ASKING)})


@pytest.fixture
def store(databases) -> Iterator[TursoJobStore]:  # noqa: F811 - a fixture
    """A migrated, empty queue on the server."""
    with databases.open("libsql") as store:
        yield store
