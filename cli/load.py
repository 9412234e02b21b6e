"""A load test of any deployment: many small jobs, asked for and followed as clients do, and how long all of it took.

Every job masters the same second of a tone. What is measured is seen from here: network, API, database and workers.
"""

from __future__ import annotations

import math
import struct
import tempfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cli.client import Client
from cli.sending import upload
from cli.views import JobView, is_terminal

#: Clients that ask at the same time.
AT_ONCE = 4
TAG = "load"
_RATE = 48_000
_Answer = TypeVar("_Answer")


class Load:
    """One load test through one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._took_ms: dict[str, list[float]] = {"create": [], "poll": []}
        self._unchanged = 0

    def run(self, count: int, *, poll: bool, told: Callable[[int, int], None]) -> dict[str, Any]:
        """Create `count` jobs, and follow them to their ends with `poll`; `told(done, count)` on the way."""
        with tempfile.TemporaryDirectory() as folder:
            asset = upload(self._client, _tone(Path(folder) / "load.wav"), lambda _done, _total: None)
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = list(pool.map(lambda _: self._create(asset), range(count)))
            created_s = time.monotonic() - began
            found: dict[str, Any] = {
                "jobs": count,
                "created_per_s": round(count / created_s, 2),
                "create_ms": _spread(self._took_ms["create"]),
            }
            if not poll:
                return found
            ended: list[JobView] = []
            for job in pool.map(self._follow, jobs):
                ended.append(job)
                told(len(ended), count)
        return found | {
            "done_per_s": round(count / (time.monotonic() - began), 2),
            "poll_ms": _spread(self._took_ms["poll"]),
            "polls": len(self._took_ms["poll"]),
            "polls_unchanged": self._unchanged,
            "wait_ms": _spread([_between(job, "created_at", "started_at") for job in ended if job["started_at"]]),
            "run_ms": _spread([_between(job, "started_at", "completed_at") for job in ended if job["started_at"]]),
            "ended": dict(Counter(job["status"] for job in ended)),
        }

    def _create(self, asset: str) -> JobView:
        body = {"type": "ingest", "params": {"source": asset}, "tags": [TAG]}
        return self._timed("create", lambda: self._client.create(body))

    def _follow(self, job: JobView) -> JobView:
        etag: str | None = None
        while not is_terminal(job):
            time.sleep(job["poll_after_ms"] / 1000)
            seen, etag = self._timed("poll", lambda: self._client.job_if_changed(job["id"], etag))  # noqa: B023 - called at once
            if seen is None:
                with self._lock:
                    self._unchanged += 1
            else:
                job = seen
        return job

    def _timed(self, what: str, ask: Callable[[], _Answer]) -> _Answer:
        began = time.perf_counter()
        answer = ask()
        with self._lock:
            self._took_ms[what].append(1000 * (time.perf_counter() - began))
        return answer


def lines(found: dict[str, Any]) -> list[str]:
    """What a person reads."""
    measured = {
        "create a job": found["create_ms"],
        "poll a job": found.get("poll_ms"),
        "a job waits": found.get("wait_ms"),
        "a job runs": found.get("run_ms"),
    }
    table = [f"{'':<14}{'p50':>12}{'p95':>12}{'max':>12}"]
    for what, spread in measured.items():
        if spread:
            cells = "".join(f"{f'{spread[at]:,.0f} ms':>12}" for at in ("p50", "p95", "max"))
            table.append(f"{what:<14}{cells}")
    told = [f"{found['jobs']} jobs, {found['created_per_s']:g} created a second", *table]
    if "ended" in found:
        ends = ", ".join(f"{count} {status}" for status, count in sorted(found["ended"].items()))
        told.append(f"{ends}; {found['done_per_s']:g} done a second")
        told.append(f"{found['polls']} polls, {found['polls_unchanged']} of them answered with 304, not changed")
    return [*told, f"Find them again: spool jobs --tag {TAG}"]


def _tone(path: Path) -> Path:
    samples = (round(8000 * math.sin(2 * math.pi * 997 * at / _RATE)) for at in range(_RATE))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(struct.pack(f"<{_RATE}h", *samples))
    return path


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[round(share * (len(ordered) - 1))], 1) for name, share in at.items()}


def _between(job: JobView, first: str, last: str) -> float:
    begun, ended = (datetime.fromisoformat(str(dict(job)[name])) for name in (first, last))
    return (ended - begun).total_seconds() * 1000
