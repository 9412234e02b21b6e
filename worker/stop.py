"""Why an attempt must end before its work is done: the first reason wins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum


class Reason(StrEnum):
    """What ends an attempt from outside."""

    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    TIMEOUT = "timeout"
    STALL = "stall"
    LOST = "lost"
    DISK = "disk"


class Stopped(Exception):
    """Raised inside an attempt once it has been asked to end."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Stop:
    """One attempt's end, asked for from any thread."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._callbacks: list[Callable[[], None]] = []

    def request(self, reason: Reason) -> bool:
        """Ask for the end. Returns False when another reason came first."""
        with self._lock:
            if self._reason is not None:
                return False
            self._reason = reason
            callbacks = tuple(self._callbacks)
        self._asked.set()
        for callback in callbacks:
            callback()
        return True

    def on_request(self, callback: Callable[[], None]) -> None:
        """Call back, once, when the end is asked for: at once when it already was."""
        with self._lock:
            if self._reason is None:
                self._callbacks.append(callback)
                return
        callback()

    @property
    def reason(self) -> Reason | None:
        """The reason that won, or None while the attempt may go on."""
        return self._reason

    def check(self) -> None:
        """Raise `Stopped` when the end was asked for."""
        if self._reason is not None:
            raise Stopped(self._reason)

    def wait(self, timeout_s: float) -> bool:
        """Sleep up to `timeout_s`; True when the end was asked for."""
        return self._asked.wait(timeout_s)
