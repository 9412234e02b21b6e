"""What the list of guards is made of."""

from __future__ import annotations

from dataclasses import dataclass

STATEMENTS = "shared/store/statements"
MIGRATION = "shared/store/migrations/0001_queue.sql"
LOCAL = "shared/store/local.py"
OWNERSHIP = "tests/contract/test_ownership.py"
QUEUE = "tests/contract/test_queue.py"
FAMILIES = "tests/contract/test_families.py"
FOUND = "tests/model/test_found.py"
MODEL = "tests/model/test_model.py"
HOSTILE = "tests/worker/test_hostile.py"
CRASHES = "tests/chaos/test_found.py"


@dataclass(frozen=True, slots=True)
class Guard:
    """`old` in `file` keeps the promise (its number in DESIGN); with `new` instead, `test` must fail.

    `waits`: what the test waits for never happens then, so that it is noticed by the test's time limit alone.
    """

    promise: int
    what: str
    file: str
    old: str
    new: str
    test: str
    waits: bool = False
