"""Statements with their values, and the batches in which a database runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.job import MAX_DEPTH, PHASES
from shared.store.rows import Row
from shared.store.statements import families
from shared.store.usage import Usage
from shared.types import JOB_TYPES

#: Named parameters of a statement.
Bound = Mapping[str, str | int | float | None]
_NONE: Bound = {}
#: A number that no row has reached: from there on downwards is all of them.
NEWEST = 2**62


class Statement(NamedTuple):
    """One SQL statement with named parameters (text, integer, float or None).

    `only_if` is a query without parameters: where it finds nothing, the statement would change nothing, and is not run.
    """

    text: str
    params: Bound = _NONE
    only_if: str | None = None


_ROUND = (families.CASCADE, families.ADVANCE, families.SETTLE)
#: What a family still owes after one of its jobs moved: stop children, open phases, settle parents, level by level.
#: The last round says what it moved, since there may be more after it.
_TEND = (
    *(Statement(text, only_if=families.OWED) for _ in range(MAX_DEPTH - 1) for text in _ROUND),
    *(Statement(f"{text} RETURNING id", only_if=families.OWED) for text in _ROUND),
)
#: A family is at rest after this many batches more; if one ever is not, the janitor goes on with it.
_MOST_BATCHES = len(PHASES) * MAX_DEPTH


class Batches(ABC):
    """A database, as all verbs see it: something that runs batches.

    `_run` executes all statements in one transaction and one round trip and returns each one's rows; `_read` the same
    without a write lock.
    """

    usage: Usage
    #: The job types of this deployment, for the places of waiting jobs.
    types: Sequence[str] = tuple(JOB_TYPES)

    @abstractmethod
    def _run(self, batch: Sequence[Statement]) -> list[list[Row]]:
        """Run a batch that writes, all or nothing."""

    @abstractmethod
    def _read(self, batch: Sequence[Statement]) -> list[list[Row]]:
        """Run a batch that only reads, in one snapshot."""

    def _run_families(self, first: Sequence[Statement], last: Sequence[Statement] = ()) -> list[list[Row]]:
        """Run `first`, then what families owe, then `last`; again from there in the rare case that they owe more."""
        results = self._run([*first, *_TEND, *last])
        head, rest = results[: len(first)], results[len(first) :]
        for _ in range(_MOST_BATCHES):
            if not any(rest[len(_TEND) - len(_ROUND) : len(_TEND)]):
                break
            rest = self._run([*_TEND, *last])
        return [*head, *rest[len(_TEND) :]]
