"""The crash points of the store: before and after every batch, and before every local commit, named after the verb."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from shared.crash import caller_among, crash_point, with_points
from shared.store.protocol import JobStore
from shared.store.sql import SqlJobStore

Adapter = TypeVar("Adapter", bound=SqlJobStore)
VERBS = frozenset(name for name, _ in inspect.getmembers(JobStore, inspect.isfunction) if not name.startswith("_"))
_KINDS = {"_run": "write", "_run_families": "write", "_read": "read"}


def with_store_points(kind: type[Adapter]) -> type[Adapter]:
    """An adapter that has them. The point before a commit exists where the transaction is this process's own."""
    made = with_points(kind, ("_run", "_read"), lambda method: f"{caller_among(VERBS)}.{_KINDS[method]}")
    transaction = getattr(kind, "_transaction", None)
    if transaction is not None:
        made._transaction = lambda *args: _committing(transaction(*args), args[-1])  # type: ignore[attr-defined]  # only one kind has it
    return made


@contextmanager
def _committing(transaction: AbstractContextManager[None], mode: str) -> Iterator[None]:
    with transaction:
        yield
        if mode != "DEFERRED":
            crash_point(f"{caller_among(VERBS)}.write.uncommitted")


def store_points(kind: type[Any]) -> set[str]:
    """The names of all points of an adapter, read from its methods themselves."""
    names = set()
    local = hasattr(kind, "_transaction")
    for verb in VERBS:
        used = {name for owner in kind.__mro__ if verb in vars(owner) for name in vars(owner)[verb].__code__.co_names}
        kinds = {_KINDS[name] for name in used & _KINDS.keys()}
        names |= {f"{verb}.{one}.{place}" for one in kinds for place in ("before", "after")}
        if local and ("write" in kinds or "_transaction" in used):
            names.add(f"{verb}.write.uncommitted")
    return names
