"""Crash points: places at which a test makes this process kill itself, to show that dying there harms no job.

Off, as they always are outside of such a test, a point is one comparison. `SPOOL_TEST_CRASH_AT` names the point, such
as `child.spawn.before`, or `child.spawn.before#2` for the second time it is passed. tests/chaos reads all names from
the code, and fails when there is one that it does not reach.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog

from shared.errors import ConfigurationError
from shared.settings import Settings, crash_order

Kind = TypeVar("Kind", bound=type)
_ORDER = re.compile(r"([a-z_]+(?:\.[a-z_]+)*\.(?:before|uncommitted|after))(?:#([1-9]\d*))?")
_NEARBY = frozenset({"127.0.0.1", "::1", "localhost", None})
_NOTHING = nullcontext()


class _Order:
    """Where to die, and how often to pass there before."""

    def __init__(self, point: str, passes: int) -> None:
        self.point, self._passes = point, passes
        self._lock = threading.Lock()

    def passed(self) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                os.kill(os.getpid(), signal.SIGKILL)  # noqa: TID251 - this process and no other


_order: _Order | None = None


def arm(settings: Settings) -> None:
    """Read once, at the start, where to die. Raises `ConfigurationError` where this can be no test."""
    global _order  # noqa: PLW0603 - what a process is told once at its start, and what must cost nothing afterwards
    text = crash_order()
    if text is None:
        return
    order = _ORDER.fullmatch(text)
    local = settings.database_url.startswith("sqlite:") or urlsplit(settings.database_url).hostname in _NEARBY
    if order is None or not local or settings.lambda_function is not None:
        raise ConfigurationError(
            f"SPOOL_TEST_CRASH_AT is set ({text}): it makes a process kill itself, for tests on a database of this "
            "machine; remove it."
        )
    _order = _Order(order[1], int(order[2] or 1))
    structlog.get_logger("spool.crash").critical(
        "this process is going to kill itself: SPOOL_TEST_CRASH_AT is set", at=order[1], passes=int(order[2] or 1)
    )


def armed() -> bool:
    """Whether a test wants this process dead."""
    return _order is not None


def crash_point(name: str) -> None:
    """Die here, if a test says so."""
    if _order is not None and _order.point == name:
        _order.passed()


def around(name: str) -> AbstractContextManager[None]:
    """The points `name.before` and, when the block was left in good order, `name.after`."""
    return _NOTHING if _order is None else _Around(name)


class _Around(AbstractContextManager[None]):
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        crash_point(f"{self._name}.before")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            crash_point(f"{self._name}.after")


def with_points(kind: Kind, methods: Iterable[str], named: Callable[[str], str]) -> Kind:
    """The class with points around these methods; `named` makes their names of the methods' own. As it is when off."""
    if _order is None:
        return kind
    made = {name: _surrounded(getattr(kind, name), name, named) for name in methods}
    return type(kind)(kind.__name__, (kind,), made)


def _surrounded(method: Callable[..., Any], name: str, named: Callable[[str], str]) -> Callable[..., Any]:
    @wraps(method)
    def surrounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - it is whatever the method is
        with around(named(name)):
            return method(*args, **kwargs)

    return surrounded


def caller_among(names: frozenset[str]) -> str:
    """The nearest function further up that has one of these names; for points that many verbs share."""
    frame = sys._getframe(1)
    while frame.f_code.co_name not in names:
        if frame.f_back is None:
            return "unknown"
        frame = frame.f_back
    return frame.f_code.co_name
