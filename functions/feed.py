"""One reader of the queue for all live views of this process: it tells viewers what changed."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from functions.view import event_view, job_view
from shared.errors import Unavailable
from shared.job import Event, Job
from shared.store.protocol import JobStore

#: How often a reader that hears nothing looks whether it still has viewers.
_IDLE_S = 1.0
#: Changes within this time are told together.
_GATHER_S = 0.1
#: Messages a viewer may be behind before it is sent away; it comes back with the last id it saw.
_MAX_BEHIND = 2000
_PAGE = 500
#: What a live view shows of a running job.
_LIVE = {
    "id", "status", "cancelling", "stage", "stage_index", "stage_count", "progress", "progress_current",
    "progress_total", "eta_s", "attempt", "children", "updated_at",
}  # fmt: skip
#: What moves all the time; all else that changes makes lists and counts that were read before untrue.
_FLOWING = {"progress", "progress_current", "progress_total", "eta_s", "updated_at"}
_log = structlog.get_logger("spool.api")


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened: an `event` of the history with its id, or what changed in a running `job`."""

    kind: str
    job_id: str
    data: Mapping[str, Any]
    id: int | None = None


class Viewer:
    """One live view, or one request that waits for a change; lives in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._messages: deque[Message] = deque()
        self.behind = False

    async def wait(self, timeout_s: float) -> bool:
        """True as soon as the queue may have changed, False when the time is up."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    def take(self) -> list[Message]:
        """The messages since the last take."""
        messages = list(self._messages)
        self._messages.clear()
        return messages

    def tell(self, messages: list[Message]) -> None:
        """Hand over messages, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and the viewer with it
            self._loop.call_soon_threadsafe(self._receive, messages)

    def _receive(self, messages: list[Message]) -> None:
        if len(self._messages) + len(messages) > _MAX_BEHIND:
            self.behind = True
        else:
            self._messages.extend(messages)
        self._changed.set()


class Feed:
    """Reads the queue while somebody watches, and not at all otherwise.

    `on_change` is called before any viewer is told of something that lists and counts show.
    """

    def __init__(self, store: JobStore, on_change: Callable[[], None] = lambda: None) -> None:
        self._store, self._on_change = store, on_change
        self._lock = threading.Lock()
        self._viewers: list[Viewer] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._position: int | None = None
        self._rows: dict[str, dict[str, Any]] = {}

    @contextmanager
    def viewer(self) -> Iterator[Viewer]:
        """Be told of every change from now on. The first message is `hello`: what comes later is missed by nobody."""
        viewer = Viewer()
        with self._lock:
            self._viewers.append(viewer)
            if self._position is not None:
                rows = [Message("job", job_id, row) for job_id, row in self._rows.items()]
                viewer.tell([Message("hello", "", {}, self._position), *rows])
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="feed", daemon=True)
                self._thread.start()
        try:
            yield viewer
        finally:
            with self._lock:
                self._viewers.remove(viewer)

    @property
    def closed(self) -> bool:
        """Whether the process is ending and streams should too."""
        return self._closed.is_set()

    def close(self) -> None:
        """End every live view, for the process is ending."""
        self._closed.set()
        self._tell([])

    def _follow(self) -> None:
        while not self._is_over():
            try:
                with closing(self._store.watch()) as watch:
                    self._begin()
                    while not self._nobody_watches():
                        if watch.wait(max(_IDLE_S, watch.look_s)):
                            if self._read():
                                watch.found()
                            self._closed.wait(_GATHER_S)
            except Unavailable:  # the store says so, once for the whole process
                self._closed.wait(_IDLE_S)
            except Exception as error:  # noqa: BLE001 - this thread is every viewer's only source and must go on
                _log.error("live views failed in a way nobody expected", exc_info=error)
                self._closed.wait(_IDLE_S)

    def _nobody_watches(self) -> bool:
        return not self._viewers or self._closed.is_set()

    def _is_over(self) -> bool:
        """End this thread when nobody watches; decided under the lock, because somebody may just be coming."""
        with self._lock:
            if not self._nobody_watches():
                return False
            self._thread, self._position, self._rows = None, None, {}
            return True

    def _begin(self) -> None:
        if self._position is None:
            newest = self._store.last_event_id()
            with self._lock:
                self._position = newest
                for viewer in self._viewers:
                    viewer.tell([Message("hello", "", {}, newest)])
        self._read()

    def _read(self) -> bool:
        """Tell viewers what is new; returns whether anything is."""
        messages = []
        position = self._position or 0
        moved = False
        while page := self._store.events(None, after=position, limit=_PAGE):
            messages += [event_message(event) for event in page]
            moved = moved or any(event.kind in {"state", "stage"} for event in page)
            position = page[-1].id
        rows = {job.id: live_row(job) for job in self._store.running()}
        for job_id, row in rows.items():
            before = self._rows.get(job_id, {})
            changes = {name: value for name, value in row.items() if name not in before or before[name] != value}
            if changes:
                messages.append(Message("job", job_id, {"id": job_id, **changes}))
                moved = moved or not changes.keys() <= _FLOWING
        if moved:
            self._on_change()
        with self._lock:
            self._position, self._rows = position, rows
            for viewer in self._viewers:
                viewer.tell(messages)
        return bool(messages)

    def _tell(self, messages: list[Message]) -> None:
        with self._lock:
            for viewer in self._viewers:
                viewer.tell(messages)


def event_message(event: Event) -> Message:
    """A line of history."""
    return Message("event", event.job_id, event_view(event).model_dump(mode="json"), event.id)


def live_row(job: Job) -> dict[str, Any]:
    """A running job in full, as far as live views show it."""
    return job_view(job).model_dump(mode="json", include=_LIVE)
