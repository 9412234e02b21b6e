"""A day in production in ten minutes: `python -m bench.soak`, or `--seconds 60 --jobs 2000` for a short look.

A real API and a real worker on one SQLite file. Clients post small jobs evenly, one in a hundred a recording that is
uploaded and mastered; a viewer follows all of it as the dashboard does. What a day does in hours is set to seconds:
retention is a tenth of the run, and every minute one prunes, vacuums, backs up, restores a backup as a trial, and looks
for orphans. It prints size and memory over time, and fails unless both are bounded, every job has completed, and no log
has an error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import struct
import subprocess  # noqa: TID251 - a benchmark starts its own parts
import sys
import tempfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from cli.client import Client

SPOOL = str(Path(sys.executable).with_name("spool"))
MOST_GROWTH = 0.05
POSTERS = 4
RECORDING_EVERY = 100
#: Every minute; a short run has them twice as well, by hand.
DUTIES: dict[str, dict[str, Any]] = {
    "prune": {},
    "vacuum": {},
    "backup": {"keep": 3},
    "restore-check": {},
    "integrity": {},
    "orphans": {"delete": True},
}


@dataclass(frozen=True)
class Sample:
    """How things stood at one moment of the run."""

    at_s: float
    database_mb: float
    api_mb: float
    worker_mb: float
    made: int
    done: int


@dataclass
class Soak:
    """One run: its processes, its clients, and what was measured."""

    folder: Path
    seconds: float
    jobs: int
    url: str = ""
    made: int = 0
    samples: list[Sample] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    views: int = 0
    behind_s: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.recording = self.folder / "tone.wav"
        _tone(self.recording)

    # --- the parts -----------------------------------------------------------------------------------------
    @contextmanager
    def parts(self) -> Iterator[tuple[int, int]]:
        """An API and a worker; yields their process ids."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = os.environ  # noqa: TID251 - its parts get all of it but the settings of this deployment
        kept = {name: value for name, value in environment.items() if not name.startswith(("SPOOL_", "TURSO_"))}
        env = kept | {
            "SPOOL_DATABASE_URL": f"sqlite:///{self.folder}/spool.db",
            "SPOOL_STORAGE_URL": f"file:{self.folder}/storage",
            "SPOOL_SECRET": "a secret of the soak that is long enough",
            "SPOOL_RETENTION_DAYS": str(self.seconds / 10 / 86_400),
            "SPOOL_SLOTS": "2",
            "SPOOL_LOG_FORMAT": "json",
        }
        subprocess.run([SPOOL, "migrate"], env=env, check=True, stdout=subprocess.DEVNULL)
        commands = {"api": [SPOOL, "api", "--port", str(port)], "worker": [SPOOL, "worker"]}
        running: list[subprocess.Popen[bytes]] = []
        try:
            for name, command in commands.items():
                with (self.folder / f"{name}.log").open("wb") as log:
                    running.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
            _until(self._answers, "the API does not answer")
            yield running[0].pid, running[1].pid
        finally:
            for process in reversed(running):
                process.terminate()
            for process in reversed(running):
                process.wait(60)

    def _answers(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.url}/healthz", retries=False, timeout=2).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    # --- the clients ---------------------------------------------------------------------------------------
    def run(self) -> None:
        """Post, look and measure until the time is up and all has ended."""
        with self.parts() as (api, worker):
            client = Client(self.url)
            # Both are due in the same minute, and two slots may take them at once: the first trial needs a backup.
            self._finish_well(client, "backup", DUTIES["backup"])
            for duty, options in DUTIES.items():
                body = {"cron": "* * * * *", "type": "maintenance", "params": {"duty": duty} | options}
                client.put_schedule(duty, body)
            began = time.monotonic()
            threads = [threading.Thread(target=self._watched, args=(self._post, began)) for _ in range(POSTERS)]
            threads += [threading.Thread(target=self._watched, args=(look,)) for look in (self._view, self._follow)]
            for thread in threads:
                thread.start()
            while (now := time.monotonic() - began) < self.seconds and not self.errors:
                self._sample(client, now, api, worker)
                time.sleep(max(0.5, self.seconds / 120))
            for thread in threads[:POSTERS]:
                thread.join()
            posted_s = time.monotonic() - began
            _until(lambda: self._left(client) == 0 or bool(self.errors), "jobs are left over", within_s=600)
            self.behind_s = time.monotonic() - began - posted_s
            self._over.set()
            for duty, options in DUTIES.items():
                self._finish_well(client, duty, options)
            for thread in threads[POSTERS:]:
                thread.join()
            self._sample(client, time.monotonic() - began, api, worker)
            ended = client.stats()["states"]
            for state in ("failed", "dead_letter", "cancelled"):
                if ended[state]:
                    kept = [
                        f"{job['type']} {job['params']}: {job['error']}" for job in client.jobs(status=state)["items"]
                    ]
                    self.errors.append(f"{ended[state]} jobs are {state}: {'; '.join(kept[:3]) or 'all pruned since'}")
        scheduled = (self.folder / "worker.log").read_text(errors="replace").count("schedule made a job")
        wanted = self.jobs + scheduled + len(DUTIES) + 1
        if ended["completed"] != wanted:  # lost, or done twice
            self.errors.append(f"{ended['completed']} jobs have completed, not {wanted} ({scheduled} by schedules)")
        self.errors += self._complaints()

    def _finish_well(self, client: Client, duty: str, options: dict[str, Any]) -> None:
        """Do a duty by hand: once more at the end, for runs that are shorter than a minute."""
        job = client.create({"type": "maintenance", "params": {"duty": duty} | options})
        _until(lambda: client.job(job["id"])["completed_at"] is not None, f"{duty} does not end", within_s=120)

    def _watched(self, work: Callable[..., None], *args: float) -> None:
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - told at the end
            self.errors.append(f"{work.__name__}: {type(error).__name__}: {error}")

    def _post(self, began: float) -> None:
        """Jobs at their times, evenly over the run."""
        client = Client(self.url)
        while True:
            with self._lock:
                number, self.made = self.made, self.made + 1
            if number >= self.jobs or self.errors:
                self.made = min(self.made, self.jobs)
                return
            time.sleep(max(0.0, began + number * self.seconds / self.jobs - time.monotonic()))
            if number % RECORDING_EVERY:
                client.create({"type": "maintenance", "params": {"duty": "vacuum"}})
            else:
                client.create({"type": "ingest", "params": {"source": self._upload(client)}})

    def _upload(self, client: Client) -> str:
        begun = client.begin_upload("tone.wav", "audio/wav", self.recording.stat().st_size)
        piece = {**begun["upload"], "number": 1, "first": 0, "size_bytes": self.recording.stat().st_size}
        client.send(self.recording, piece, lambda _moved: None)  # type: ignore[arg-type]  # a part like any other
        return begun["asset"]

    def _view(self) -> None:
        """What the dashboard asks for, as often as it does."""
        client = Client(self.url)
        while not self._over.wait(2.0):
            client.stats()
            client.jobs(limit=25, parent_id="none")

    def _follow(self) -> None:
        """What the dashboard listens to."""
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request("GET", f"{self.url}/api/events", preload_content=False, timeout=60)
            for _ in answer.stream(4096):
                self.views += 1
                if self._over.is_set():
                    break
            answer.close()

    # --- what is measured ----------------------------------------------------------------------------------
    def _sample(self, client: Client, at_s: float, api: int, worker: int) -> None:
        size = sum(path.stat().st_size for path in self.folder.glob("spool.db*")) / 1e6
        done = client.stats()["states"]["completed"]
        sample = Sample(at_s, size, _rss_mb(api), _rss_mb(worker), min(self.made, self.jobs), done)
        self.samples.append(sample)
        print(
            f"{sample.at_s:6.0f} s   {sample.made:6} made   {sample.done:6} completed   "
            f"database {sample.database_mb:6.1f} MB   API {sample.api_mb:6.1f} MB   worker {sample.worker_mb:6.1f} MB",
            flush=True,
        )

    @staticmethod
    def _left(client: Client) -> int:
        states = client.stats()["states"]
        return sum(states[state] for state in ("pending", "running", "retrying", "scheduled"))

    def _complaints(self) -> list[str]:
        found: Counter[str] = Counter()
        for name in ("api", "worker"):
            for line in (self.folder / f"{name}.log").read_text(errors="replace").splitlines():
                try:
                    level, said = json.loads(line).get("level"), line
                except (ValueError, AttributeError):
                    level, said = ("error" if "Traceback" in line else None), line
                if level in {"error", "critical"}:
                    found[f"{name} log: {said[:300]}"] += 1
        return [f"{count} × {said}" for said, count in found.items()]

    def growth(self) -> dict[str, float]:
        """How much more there was in the last fifth than in the fifth in the middle, as a part."""
        middle = [one for one in self.samples if 0.4 <= one.at_s / self.seconds < 0.6]
        last = [one for one in self.samples if 0.8 <= one.at_s / self.seconds <= 1.0]

        def grown(name: str, of: Callable[[Iterable[float]], float]) -> float:
            return of(getattr(one, name) for one in last) / of(getattr(one, name) for one in middle) - 1

        # A database breathes between two prunings: its highest point counts.
        return {
            "database": grown("database_mb", max),
            "API": grown("api_mb", statistics.fmean),
            "worker": grown("worker_mb", statistics.fmean),
        }


def main() -> int:
    """Run it, and say what came of it."""
    options = argparse.ArgumentParser(description="A day in production in ten minutes.")
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--jobs", type=int, default=20_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), given.seconds, given.jobs)
        soak.run()
    growth = soak.growth()
    print(f"All had ended {soak.behind_s:.1f} s after the last was posted; the viewer got {soak.views} pieces of news.")
    print("Growth from the middle to the end:")
    print("  " + ", ".join(f"{name} {part:+.1%}" for name, part in growth.items()))
    faults = soak.errors + [
        f"{name} grew by {part:.1%}, and {MOST_GROWTH:.0%} is the most"
        for name, part in growth.items()
        if part > MOST_GROWTH
    ]
    for fault in faults:
        print(f"WRONG  {fault}")
    return 1 if faults else 0


def _until(condition: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    give_up = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up:
            raise RuntimeError(what)
        time.sleep(0.2)


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1000


def _tone(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        samples = (round(8000 * math.sin(2 * math.pi * 440 * n / 16_000)) for n in range(16_000))
        file.writeframes(b"".join(struct.pack("<h", value) for value in samples))


if __name__ == "__main__":
    sys.exit(main())
