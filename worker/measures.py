"""What only the worker's process knows about its work, counted since its start; it goes with the heartbeat."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.job import Failure, Status
    from shared.store.usage import Usage
    from worker.process import Use


class Measures:
    """Counters and peaks of one worker process. May be used from any thread."""

    def __init__(
        self, usage: Usage, *, ffmpeg: str, room: Path, pools: Callable[[], dict[str, dict[str, int]]]
    ) -> None:
        self._usage, self._ffmpeg, self._room, self._pools = usage, ffmpeg, room, pools
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[int, float]] = {}
        self._failures: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._child_cpu_s = self._child_cpu_peak_s = 0.0
        self._child_rss_peak_bytes = 0

    def stage(self, job_type: str, stage: str, duration_s: float) -> None:
        """A stage was done."""
        with self._lock:
            times, seconds = self._stages.get(f"{job_type}/{stage}", (0, 0.0))
            self._stages[f"{job_type}/{stage}"] = (times + 1, seconds + duration_s)

    def ended(self, status: Status, failure: Failure | None) -> None:
        """An attempt ended, and left its job in this state."""
        with self._lock:
            if failure is not None:
                self._failures[failure.kind] += 1
            self._counts["retries"] += status == "retrying"

    def lost(self) -> None:
        """A claim was lost: to a reaper, or by an outage that outlived the lease."""
        with self._lock:
            self._counts["lost_claims"] += 1

    def reaped(self, jobs: int) -> None:
        """Jobs were taken from lost workers; each costs its job a failure that nobody else counts."""
        with self._lock:
            self._counts["reaped"] += jobs

    def programs(self, use: Use) -> None:
        """What the programs of an attempt used."""
        with self._lock:
            self._child_cpu_s += use.cpu_s
            self._child_cpu_peak_s = max(self._child_cpu_peak_s, use.cpu_peak_s)
            self._child_rss_peak_bytes = max(self._child_rss_peak_bytes, use.rss_peak_bytes)

    def _free(self) -> dict[str, int]:
        try:
            return {"room_bytes": shutil.disk_usage(self._room).free}
        except OSError:  # the folder is away: the worker says so when it looks for work
            return {}

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON carries it, with what the worker has to work with."""
        kept_running = self._pools()
        with self._lock:
            return {
                "host_ms": round(time.time() * 1000),
                "ffmpeg": self._ffmpeg,
                **self._free(),
                **({"programs": kept_running} if kept_running else {}),
                "stages": {name: [times, round(seconds, 3)] for name, (times, seconds) in self._stages.items()},
                "failures": dict(self._failures),
                "retries": self._counts["retries"],
                "lost_claims": self._counts["lost_claims"],
                "reaped": self._counts["reaped"],
                "child_cpu_s": round(self._child_cpu_s, 3),
                "child_cpu_peak_s": round(self._child_cpu_peak_s, 3),
                "child_rss_peak_bytes": self._child_rss_peak_bytes,
                "round_trips": self._usage.round_trips,
                "rows_read": self._usage.rows_read,
                "rows_written": self._usage.rows_written,
            }
