"""Transfers in threads of their own, so that whoever waits for them can look on and stop them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

from shared.storage.protocol import TransferProgress

Result = TypeVar("Result")
#: How often `progress` is called while nothing moves: it is how a stop is noticed.
_LOOK_S = 1.0
#: How often a transfer that waits to be heard looks whether anybody still listens.
_HEARD_S = 0.1
#: How long a stopped transfer may take to notice; one that waits for the network ends by its time limit.
_LEAVE_S = 2.0


class TransferStopped(Exception):
    """The transfer is to end; seen only inside its thread."""


class Moving:
    """What a transfer tells while it runs. `total` is None until it is known."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.stopped = Event()
        self.news: SimpleQueue[tuple[int, Event | None]] = SimpleQueue()

    def add(self, count: int, *, and_wait: bool = False) -> None:
        """`count` bytes moved, or fell back where it is negative; `and_wait` until that was heard.

        Raises `TransferStopped`. What waits for its last byte to be heard is never complete after a stop.
        """
        heard = Event() if and_wait else None
        self.news.put((count, heard))
        while heard is not None and not self.stopped.is_set():
            if heard.wait(_HEARD_S):
                break
        if self.stopped.is_set():
            raise TransferStopped


class _Crew(Generic[Result]):
    """Threads that take the tasks one after the other; the first error ends them all."""

    def __init__(self, tasks: Sequence[Callable[[Moving], Result]], moving: Moving, at_once: int) -> None:
        self._waiting = deque(enumerate(tasks))
        self._moving = moving
        self.results: dict[int, Result] = {}
        self.errors: list[BaseException] = []
        # Daemons: a process that ends does not wait for a network that does not answer.
        self.threads = [Thread(target=self._work, daemon=True) for _ in range(min(at_once, len(tasks)))]
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        try:
            while not self._moving.stopped.is_set():
                index, task = self._waiting.popleft()
                self.results[index] = task(self._moving)
        except IndexError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again where the transfer was asked for
            self.errors.append(error)
            self._moving.stopped.set()
        finally:
            self._moving.news.put((0, None))


def watched(
    tasks: Sequence[Callable[[Moving], Result]], total: int | None, progress: TransferProgress, *, at_once: int = 1
) -> list[Result]:
    """Run the tasks, `at_once` at a time, calling `progress` here as bytes move and at least every second.

    What `progress` raises stops them; a task's error stops the others and is raised.
    """
    moving = Moving(total)
    crew = _Crew(tasks, moving, at_once)
    moved = highest = 0
    try:
        while any(thread.is_alive() for thread in crew.threads) or not moving.news.empty():
            count, heard = _next(moving)
            try:
                moved += count
                highest = max(highest, moved)
                if not moving.stopped.is_set():
                    progress(highest, moving.total)
            except BaseException:  # raised again: the transfer must hear of it
                moving.stopped.set()
                raise
            finally:
                if heard is not None:
                    heard.set()
    finally:
        moving.stopped.set()
        for thread in crew.threads:
            thread.join(_LEAVE_S)
    if crew.errors:
        raise crew.errors[0]
    return [crew.results[index] for index in range(len(tasks))]


def _next(moving: Moving) -> tuple[int, Event | None]:
    try:
        return moving.news.get(timeout=_LOOK_S)
    except Empty:
        return 0, None
