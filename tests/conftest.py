"""Fixtures that any test may ask for, and the order in which the tests run."""

import pytest

pytest_plugins = ["tests.media.fixtures", "tests.real.figures"]

#: What takes longest, and keeps several processes busy: first, and so one after the other in one process of pytest,
#: while the other processes take everything else from it. Last, it would keep all but one of them waiting.
LONGEST = (
    *("tests/chaos/test_chaos.py", "tests/chaos/test_crash_points.py", "tests/network/test_whole_way.py"),
    *("tests/attack/test_document.py", "tests/model/test_model.py", "tests/network/test_outages.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first; the others keep their order."""
    items.sort(key=lambda item: _place(item.nodeid.partition("::")[0]))


def _place(path: str) -> int:
    return LONGEST.index(path) if path in LONGEST else len(LONGEST)
