"""One thread for what may take long and nobody waits for: storages that are slow to delete, first of all."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import structlog

from shared.errors import Unavailable
from worker.heap import give_back

_log = structlog.get_logger("spool.worker")
#: What may wait. More is refused: whoever asks has a later way to get it done.
_MOST = 100
_FAREWELL_S = 5.0
#: How often the memory that work has left is given back to the system; it takes a millisecond.
_TIDY_S = 10.0

Errand = Callable[[], None]


class Errands:
    """Does one thing after the other, and tidies up between. What an absent database leaves undone stays undone."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Errand] = queue.Queue(_MOST)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._live, name="errands", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, errand: Errand) -> bool:
        """Have it done soon; False when too much waits already. May be called by any thread."""
        try:
            self._waiting.put_nowait(errand)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """End; what is under way gets a moment, and what waits is left to other workers."""
        self._closing.set()
        self.ask(lambda: None)  # wakes the thread; where too much waits it is awake
        self._thread.join(_FAREWELL_S)

    def _live(self) -> None:
        while not self._closing.is_set():
            try:
                errand = self._waiting.get(timeout=_TIDY_S)
            except queue.Empty:
                give_back()
                continue
            if self._closing.is_set():
                return
            try:
                errand()
            except Unavailable as error:
                _log.info("something was left for later", reason=error.message)
            except Exception as error:  # noqa: BLE001 - without this thread no files would ever be deleted
                _log.error("an errand failed in a way nobody expected", exc_info=error)
