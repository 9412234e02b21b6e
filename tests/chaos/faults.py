"""What is done to a deployment in chaos: a shuffled deck of faults, each with its end."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from tests.chaos.place import Place, died_young
from tests.network.deployment import Part, _environments, _read

#: The host ends what was told to end after so long (SPOOL_DRAIN_S, the grace and a worker's own reserve are less).
HOST_S = 45.0
#: A launcher and its worker are not killed together: what left the child's session then is not promised to end.
_APART_S = 3.0
#: Writing beyond this fails, as on a full disk: SQLite's log, outputs, working files.
_FULL_BYTES = 4096


class Chaos:
    """Harms the workers, the API, the database and the clock of a place, one fault after the other."""

    def __init__(self, place: Place, seed: int, *, tell: Callable[[str], None]) -> None:
        self._place, self._chance, self._told = place, random.Random(seed), tell
        self._lease_s = place.lease_s
        self.counts: Counter[str] = Counter()
        self.on_jump: Callable[[], None] = lambda: None
        self._undo: list[tuple[float, Callable[[], None]]] = []
        self._spared: dict[str, float] = {}
        self._leaving: list[tuple[Part, float]] = []
        self._database_back_at = 0.0
        self.stuck: list[str] = []
        self._deck: list[Callable[[], None]] = []
        self._server_away = False
        self._frozen_until = 0.0
        self._kinds = [
            *(self.kill, self.kill, self.stop, self.stop, self.stop, self.drain, self.kill_launcher),
            *(self.fill_disk, self.take_folder, self.step_clock, self.kill_api),
            *(
                (self.hold_database,)
                if place.proxy is None
                else (self.restart_server, self.restart_server, self.silence)
            ),
        ]

    def run(self, seconds: float, *, enough: Callable[[], bool]) -> None:
        """Harm for so long, or until there is `enough`, then mend everything."""
        until, next_at = time.monotonic() + seconds, time.monotonic()
        while (now := time.monotonic()) < until and not enough():
            self._mend(now)
            if now >= next_at:
                if not self._deck:
                    self._deck = self._chance.sample(self._kinds, len(self._kinds))
                self._deck.pop()()
                next_at = now + self._chance.uniform(0.3, 1.2)
            time.sleep(0.05)
        self._mend(float("inf"))

    def _mend(self, now: float) -> None:
        due = sorted((item for item in self._undo if item[0] <= now), key=lambda item: item[0])
        self._undo = [item for item in self._undo if item[0] > now]
        for _, undo in due:
            undo()
        self._watch_leavers(now)
        self._place.host()

    def _watch_leavers(self, now: float) -> None:
        for part, since in list(self._leaving):
            with suppress(Exception):
                part.process.wait(0 if now < float("inf") else HOST_S)
            code = part.process.poll()
            if code is None and time.monotonic() - since < HOST_S:
                continue
            self._leaving.remove((part, since))
            # Without a database a worker cannot give its jobs back in time, and says so.
            unheard = code == 1 and self._database_back_at >= since
            if code != 0 and not unheard and not died_young(part):
                self.stuck.append(f"{part.name} was told to end and {'did not' if code is None else f'said {code}'}")
                part.process.kill()

    def _without_database(self, seconds: float, undo: Callable[[], None]) -> None:
        self._database_back_at = max(self._database_back_at, time.monotonic() + seconds)
        self._later(seconds, undo)

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + seconds, undo))

    def _victim(self) -> Part | None:
        """A worker that nothing is being done to."""
        now = time.monotonic()
        free = [part for part in self._place.workers() if self._spared.get(part.name, 0.0) <= now]
        return self._chance.choice(free) if free else None

    def _tell(self, name: str, what: str) -> None:
        self.counts[name] += 1
        self._told(what)

    # --- workers -------------------------------------------------------------------------------------------
    def kill(self) -> None:
        """SIGKILL to a worker."""
        if part := self._victim():
            self._place.end(part, signal.SIGKILL)
            self._tell("kills", f"SIGKILL to {part.name}")

    def stop(self) -> None:
        """SIGSTOP to a worker for longer than its lease, then SIGCONT."""
        if (part := self._victim()) and time.monotonic() > self._frozen_until:
            seconds = self._lease_s * self._chance.uniform(1.1, 1.5)
            self._frozen_until = time.monotonic() + seconds
            self._spared[part.name] = time.monotonic() + seconds + 1.0
            part.process.send_signal(signal.SIGSTOP)
            if self._place.proxy is None:  # it may hold the lock of the file for as long as it is frozen
                self._database_back_at = max(self._database_back_at, time.monotonic() + seconds)
            self._later(seconds, lambda: part.process.send_signal(signal.SIGCONT))
            self._tell("stops", f"SIGSTOP to {part.name} for {seconds:.1f} s")

    def drain(self) -> None:
        """SIGTERM to a worker, sometimes twice: it must end by itself."""
        if part := self._victim():
            twice = self._chance.random() < 0.3
            self._place.leave(part)
            self._leaving.append((part, time.monotonic()))
            part.process.send_signal(signal.SIGTERM)
            if twice:
                self._later(0.3, lambda: part.process.send_signal(signal.SIGTERM))
            self._tell("terms", f"SIGTERM to {part.name}{', twice' if twice else ''}")

    def kill_launcher(self) -> None:
        """SIGKILL to the launcher of a running program."""
        pids = {part.process.pid: part for part in self._place.workers()}
        now = time.monotonic()
        for pid, _ in _environments():
            stat = _read(pid, "stat").rpartition(b")")[2].split()
            part = pids.get(int(stat[1])) if stat else None
            if part and b"launcher" in _read(pid, "cmdline") and self._spared.get(part.name, 0.0) <= now:
                self._spared[part.name] = now + _APART_S
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._tell("launchers", f"SIGKILL to a launcher of {part.name}")
                return

    def fill_disk(self) -> None:
        """For a while nothing that a worker writes may grow beyond a few kilobytes."""
        part = self._victim()
        if part and self._place.worker_id(part):  # one that only begins ends at once, and may
            seconds = self._chance.uniform(1.0, 4.0)
            pid, free = part.process.pid, resource.prlimit(part.process.pid, resource.RLIMIT_FSIZE)
            self._spared[part.name] = time.monotonic() + seconds
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, free[1]))

            def undo() -> None:
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, free)

            self._later(seconds, undo)
            self._tell("disk full", f"disk full for {part.name} for {seconds:.1f} s")

    def take_folder(self) -> None:
        """For a while a worker cannot use its work folder: a file lies in its place."""
        part = self._victim()
        worker = part and self._place.worker_id(part)
        if part and worker:
            seconds = self._chance.uniform(1.0, 3.0)
            folder = self._place.deployment.work / worker
            aside = folder.with_name(f".{worker}")
            self._spared[part.name] = time.monotonic() + seconds
            folder.rename(aside)
            folder.touch()

            def undo() -> None:
                folder.unlink()
                aside.rename(folder)

            self._later(seconds, undo)
            self._tell("no folder", f"no work folder for {part.name} for {seconds:.1f} s")

    # --- everything else -----------------------------------------------------------------------------------
    def kill_api(self) -> None:
        """SIGKILL to the API, once it has come back from the last one."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._place.port), timeout=1.0):
            self._place.kill_api()
            self._tell("api kills", "SIGKILL to the API")

    def step_clock(self) -> None:
        """The database's clock jumps: ahead by seconds or beyond every lease, or a little back."""
        seconds = self._chance.choice((1.0, 2 * self._lease_s, 600.0, -2.0)) * self._chance.uniform(0.8, 1.2)
        self.on_jump()
        self._place.step_clock(seconds)
        self._tell("clock steps", f"clock {seconds:+.1f} s")

    def hold_database(self) -> None:
        """Somebody else holds the database's write lock."""
        seconds = self._lease_s * self._chance.choice((0.1, 0.1, 0.3, 1.3))
        held = sqlite3.connect(self._place.deployment.file, timeout=0.5, isolation_level=None)
        try:
            held.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # it is held already, perhaps by a worker that was frozen while it wrote
            held.close()
            return
        self._without_database(seconds, held.close)
        self._tell("database held", f"database held for {seconds:.1f} s")

    def restart_server(self) -> None:
        """The database server dies and comes back, at once or after less or more than a lease."""
        server = self._place.deployment.server
        if server is None or self._server_away:
            return
        seconds = self._lease_s * self._chance.choice((0.0, 0.0, 0.5, 1.3))
        server.stop(signal.SIGKILL)
        self._server_away = True

        def undo() -> None:
            server.start()
            self._server_away = False

        self._without_database(seconds, undo)
        self._tell("outages", f"database server killed, started again after {seconds:.1f} s")

    def silence(self) -> None:
        """The network to the database swallows everything."""
        proxy = self._place.proxy
        assert proxy is not None
        seconds = self._lease_s * self._chance.uniform(0.2, 0.6)
        proxy.silent = True
        self._without_database(seconds, lambda: setattr(proxy, "silent", False))
        self._tell("silences", f"network silent for {seconds:.1f} s")
