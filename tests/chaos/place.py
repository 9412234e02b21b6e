"""A deployment that chaos can be done to: workers that come and go, an API that comes back, a clock that steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.store.turso import TursoJobStore
from tests.chaos.witness import Book
from tests.network.deployment import Deployment, Part
from tests.real.proxy import Proxy
from tests.real.s3 import free_port
from tests.real.sqld import Sqld

#: As short as leases can be that a busy machine still keeps.
QUICK: dict[str, object] = {
    "lease_s": 8.0,
    "heartbeat_s": 0.5,
    "cancel_grace_s": 0.5,
    "control_s": 0.2,
    "drain_s": 3.0,
    "slots": 3,
}
WORKERS = 3
_NOW = b"julianday('now')"


class Place:
    """`proxy` stands before the database server; without one the database is a file."""

    size = WORKERS
    lease_s = float(str(QUICK["lease_s"]))

    def __init__(self, deployment: Deployment, book: Book, proxy: Proxy | None, clock: Path) -> None:
        self.deployment, self.book, self.proxy = deployment, book, proxy
        self._clock, self._ahead_s = clock, 0.0
        self.port = free_port()
        self._lock = threading.Lock()
        self._live: list[Part] = []
        self._ended_at: dict[str, float] = {}
        self._names: dict[str, Part] = {}
        self._api: Part | None = None
        self.fallen: list[str] = []
        self.step_clock(0.0)
        if proxy is not None:
            proxy.edit = self._in_time

    @property
    def url(self) -> str:
        """Where the processes find the database."""
        return self.deployment.database if self.proxy is None else self.proxy.url

    def second_store(self) -> SqlJobStore:
        """The database past everything that stands in between, for somebody who does not wait."""
        server = self.deployment.server
        return LocalJobStore(self.deployment.file) if server is None else TursoJobStore(Hrana(server.url), patience_s=0)

    # --- workers -------------------------------------------------------------------------------------------
    def workers(self) -> list[Part]:
        """The workers that live and were not told to end."""
        for part in self._live:
            if part.process.poll() is not None:
                self._gone(part)
                if not died_young(part):
                    self.fallen.append(f"{part.name} ended by itself and said {part.process.returncode}")
        self._live = [part for part in self._live if part.process.returncode is None]
        return list(self._live)

    def start_worker(self) -> Part:
        """One more."""
        part = self.deployment.start_worker(self.url)
        part.harmed = True  # it may be any time now, in the middle of a line of its log
        self._live.append(part)
        return part

    def leave(self, part: Part) -> None:
        """It was told to end: it is no longer one of ours."""
        self._live.remove(part)

    def end(self, part: Part, how: signal.Signals) -> None:
        """End a worker at once."""
        part.process.send_signal(how)
        part.process.wait()
        self._gone(part)
        self.leave(part)

    def _gone(self, part: Part) -> None:
        self._ended_at.setdefault(part.name, time.monotonic())

    def worker_id(self, part: Part) -> str | None:
        """What it calls itself in the queue, once it is ready."""
        ready = part.said("worker ready")
        return str(ready[0]["worker"]) if ready else None

    def ended_at(self, worker: str) -> float | None:
        """When a worker's process was seen to have ended, or None."""
        with self._lock:
            if worker not in self._names:
                for part in list(self.deployment.parts):
                    if part.name != "api" and (name := self.worker_id(part)):
                        self._names[name] = part
        part = self._names.get(worker)
        if part is None:
            return None
        if part.process.poll() is not None:
            self._gone(part)
        return self._ended_at.get(part.name)

    # --- everything else -----------------------------------------------------------------------------------
    def start_api(self, *, wait: bool = True) -> None:
        """At the address that it keeps."""
        self._api = self.deployment.start_api(self.url, self.port, wait=wait)

    def kill_api(self) -> None:
        """It dies; its host starts it again."""
        assert self._api is not None
        self._api.harmed = True
        self._api.process.kill()
        self._api.process.wait()

    def host(self) -> None:
        """Start again what has ended: enough workers, and the API, which does not start without a database."""
        while len(self.workers()) < self.size:
            self.start_worker()
        if self._api is not None and self._api.process.poll() is not None:
            self.start_api(wait=False)

    def address(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.port}"

    def step_clock(self, seconds: float) -> None:
        """Move the database's clock, for everybody at once."""
        self._ahead_s += seconds
        part = self._clock.with_suffix(".part")
        part.write_text(f"{self._ahead_s:+.3f}")
        part.replace(self._clock)

    def _in_time(self, body: bytes) -> bytes:
        return body.replace(_NOW, b"julianday('now', '%s seconds')" % f"{self._ahead_s:+.3f}".encode())

    def drain(self) -> list[str]:
        """SIGTERM to all that is left; returns who did not end by itself and with exit code 0."""
        wrong = []
        left = [(part, 0) for part in self.workers()]
        if self._api is not None:
            left.append((self._api, -signal.SIGTERM))
        for part, _ in left:
            part.process.send_signal(signal.SIGTERM)
        for part, code in left:
            with suppress(Exception):
                part.process.communicate(timeout=60)
            if part.process.returncode != code and not died_young(part):
                wrong.append(f"{part.name} was told to end at last and said {part.process.returncode}")
        return wrong


def died_young(part: Part) -> bool:
    """Whether a worker ended before it was ready, when it owned nothing: by its SIGTERM, or for want of a database."""
    return part.process.returncode in {-signal.SIGTERM, 3} and not part.said("worker ready")


@contextmanager
def placed(folder: Path, ffmpeg: Path, *, server: Sqld | None, **settings: object) -> Iterator[Place]:
    """An API and workers, ready."""
    book, clock = Book(folder, ffmpeg), folder / "clock"
    clock.write_text("+0")
    extra = {"CHAOS_CLOCK": str(clock), "PYTHONPATH": str(Path(__file__).with_name("clock"))}
    quick = QUICK | {"ffmpeg": book.ffmpeg} | settings
    with ExitStack() as stack:
        proxy = None if server is None else stack.enter_context(Proxy(server.url, at_once=3))
        deployment = Deployment(folder, server, extra if server is None else None, **quick)
        stack.callback(deployment.close)
        place = Place(deployment, book, proxy, clock)
        place.start_api()
        for _ in range(WORKERS):
            place.start_worker()
        deployment.await_workers()
        yield place
