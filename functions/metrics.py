"""`GET /metrics`: the queue and its workers as Prometheus reads them, from one round trip.

What ended is counted by the database (the tally), so every API process tells the same and a restart resets nothing.
What only a worker knows comes from its last heartbeat, with the worker as a label.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from shared.job import Status
from shared.store.protocol import JobStore
from shared.store.usage import Usage
from shared.store.values import Stats, Tally, WorkerSeen, bucket_ms

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HOUR_MS = 3_600_000
#: An hour of the tally is final once the next one has passed, too: no transaction takes that long.
_OPEN_HOURS = 2
#: From 128 ms to three days.
_BUCKETS = 22
#: Scrapes that come faster than this get the same answer.
_VALID_S = 2.0
#: A worker that was silent for longer does no work.
_ALIVE_MS = 90_000


@dataclass(slots=True)
class Sums:
    """Jobs of one type and state that have ended since the queue began."""

    jobs: int = 0
    wait_ms: int = 0
    run_ms: int = 0
    media_ms: int = 0
    wait_log2: Counter[int] = field(default_factory=Counter)
    run_log2: Counter[int] = field(default_factory=Counter)

    def add(self, tally: Tally | Sums) -> None:
        """Add an hour's row, or other sums."""
        self.jobs += tally.jobs
        self.wait_ms += tally.wait_ms
        self.run_ms += tally.run_ms
        self.media_ms += tally.media_ms
        self.wait_log2.update(tally.wait_log2)
        self.run_log2.update(tally.run_log2)


Key = tuple[str, Status]


class Metrics:
    """Keeps the sums of hours that are over, so that a scrape reads the last few rows of the tally, not all."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._closed: dict[Key, Sums] = {}
        self._closed_to = -1
        self._read_at = float("-inf")
        self._text = b""

    def text(self, store: JobStore, *, usage: Usage | None) -> bytes:
        """The exposition; `usage` is this process's own, where a scrape always meets the same process."""
        with self._lock:
            if self._clock() - self._read_at >= _VALID_S:
                stats, ended = self._read(store)
                self._text = _text([*_queue(stats), *_ended(ended), *_workers(stats, usage)])
                self._read_at = self._clock()
            return self._text

    def _read(self, store: JobStore) -> tuple[Stats, dict[Key, Sums]]:
        """The queue now, and what has ended since it began."""
        hours = 10**6 if self._closed_to < 0 else 2 * _OPEN_HOURS + int((self._clock() - self._read_at) / 3600)
        stats = store.stats(hours=hours)
        now = stats.at // _HOUR_MS
        if now - hours > self._closed_to >= 0:  # this machine slept, or the database's clock was set
            stats = store.stats(hours=10**6)
        ended: dict[Key, Sums] = {}
        newest_closed = now - _OPEN_HOURS
        for tally in stats.tallies:
            if tally.hour > self._closed_to:
                sums = self._closed if tally.hour <= newest_closed else ended
                sums.setdefault((tally.type, tally.status), Sums()).add(tally)
        self._closed_to = max(self._closed_to, newest_closed)
        for key, closed in self._closed.items():
            ended.setdefault(key, Sums()).add(closed)
        return stats, ended


def _queue(stats: Stats) -> Iterator[Metric]:
    jobs = _gauge("spool_jobs", "Unfinished jobs; no state is counted beyond 2,000.", ["type", "state"])
    for (job_type, status), count in sorted(stats.unfinished.items()):
        jobs.add_metric([job_type, status], count)
    yield jobs
    oldest = stats.oldest_pending_at
    age = _gauge("spool_queue_oldest_seconds", "Age of the job that has been pending the longest; 0 when none is.")
    age.add_metric([], 0 if oldest is None else max(0, stats.at - oldest) / 1000)
    yield age


def _ended(ended: Mapping[Key, Sums]) -> Iterator[Metric]:
    jobs = _counter("spool_jobs_ended", "Jobs that have ended.", ["type", "state"])
    media = _counter("spool_media_seconds", "Seconds of media finished.", ["type"])
    for (job_type, status), sums in sorted(ended.items()):
        jobs.add_metric([job_type, status], sums.jobs)
    by_type: dict[str, Sums] = {}
    for (job_type, status), sums in sorted(ended.items()):
        if status is not Status.CANCELLED:
            by_type.setdefault(job_type, Sums()).add(sums)
    for job_type, sums in by_type.items():
        media.add_metric([job_type], sums.media_ms / 1000)
    wait = _histogram("spool_job_wait_seconds", "From creation to first start, of ended jobs; not cancelled ones.")
    run = _histogram("spool_job_run_seconds", "From first start to the end, of ended jobs; not cancelled ones.")
    for job_type, sums in by_type.items():
        wait.add_metric([job_type], _buckets(sums.wait_log2), sums.wait_ms / 1000)
        run.add_metric([job_type], _buckets(sums.run_log2), sums.run_ms / 1000)
    yield from (jobs, media, wait, run)


def _buckets(log2: Counter[int]) -> list[tuple[str, float]]:
    """The tally's histogram as Prometheus counts: each bucket holds all below it, too."""
    counts, below = [], 0
    for bucket in range(_BUCKETS):
        below += log2[bucket]
        counts.append((f"{bucket_ms(bucket) / 1000:g}", float(below)))
    return [*counts, ("+Inf", float(log2.total()))]


#: What a worker counts, by the name in its heartbeat.
_WORKER_COUNTERS = {
    "retries": ("spool_retries", "Attempts that failed and are tried again."),
    "lost_claims": ("spool_claims_lost", "Attempts whose claim was lost while they ran."),
    "reaped": ("spool_jobs_reaped", "Jobs that this worker took from workers that were lost."),
    "child_cpu_s": ("spool_child_cpu_seconds", "CPU seconds of all programs that were started."),
}
_WORKER_GAUGES = {
    "child_cpu_peak_s": ("spool_child_cpu_peak_seconds", "Most CPU seconds that one program took."),
    "child_rss_peak_bytes": ("spool_child_memory_peak_bytes", "Most memory that one program held."),
}
_DATABASE = {
    "round_trips": ("spool_database_round_trips", "Requests to the database."),
    "rows_read": ("spool_database_rows_read", "Rows read, as the server counts them; 0 for a SQLite file."),
    "rows_written": ("spool_database_rows_written", "Rows written, as the server counts them; 0 for a SQLite file."),
}


def _workers(stats: Stats, usage: Usage | None) -> Iterator[Metric]:
    who = ["worker", "host"]
    slots = _gauge("spool_worker_slots", "Jobs that a worker can run at a time.", who)
    running = _gauge("spool_worker_running", "Jobs that a worker runs.", who)
    for seen in stats.workers:
        if stats.at - seen.seen_at < _ALIVE_MS:
            slots.add_metric(_names(seen), seen.worker.slots)
            running.add_metric(_names(seen), seen.running)
    silent = _gauge("spool_worker_silent_seconds", "Since a worker was last heard of; forgotten after 600.", who)
    failures = _counter("spool_attempts_failed", "Attempts that failed, by the kind of the error.", [*who, "kind"])
    stages = _summary("spool_stage_seconds", "Time in stages that were done.", [*who, "type", "stage"])
    for seen in stats.workers:
        silent.add_metric(_names(seen), max(0, stats.at - seen.seen_at) / 1000)
        for kind, count in seen.metrics.get("failures", {}).items():
            failures.add_metric([*_names(seen), kind], count)
        for name, (times, seconds) in seen.metrics.get("stages", {}).items():
            stages.add_metric([*_names(seen), *name.split("/")], times, seconds)
    yield from (slots, running, silent, failures, stages, _programs(stats))
    for key, (name, about) in _WORKER_COUNTERS.items():
        yield _of_each(_counter(name, about, who), key, stats.workers)
    for key, (name, about) in _WORKER_GAUGES.items():
        yield _of_each(_gauge(name, about, who), key, stats.workers)
    for key, (name, about) in _DATABASE.items():
        family = _counter(name, about, ["process", *who])
        for seen in stats.workers:
            if key in seen.metrics:
                family.add_metric(["worker", *_names(seen)], seen.metrics[key])
        if usage is not None:
            family.add_metric(["api", "", ""], getattr(usage, key))
        yield family


def _programs(stats: Stats) -> Any:  # noqa: ANN401 - a type of the library
    labels = ["worker", "host", "type", "state"]
    programs = _gauge("spool_programs", "Processes of long-lived programs on workers that live: up or down.", labels)
    for seen in stats.workers:
        if stats.at - seen.seen_at < _ALIVE_MS:
            for name, state in seen.metrics.get("programs", {}).items():
                programs.add_metric([*_names(seen), name, "up"], state["up"])
                programs.add_metric([*_names(seen), name, "down"], state["of"] - state["up"])
    return programs


def _of_each(family: Any, key: str, workers: Iterable[WorkerSeen]) -> Any:  # noqa: ANN401 - one of several families
    for seen in workers:
        if key in seen.metrics:
            family.add_metric(_names(seen), seen.metrics[key])
    return family


def _names(seen: WorkerSeen) -> list[str]:
    return [seen.worker.id, seen.worker.host]


# --- the library, which a cold start does not load --------------------------------------------------------------------
def _gauge(name: str, about: str, labels: Iterable[str] = ()) -> Any:  # noqa: ANN401 - a type of the library
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see above

    return GaugeMetricFamily(name, about, labels=list(labels))


def _counter(name: str, about: str, labels: Iterable[str]) -> Any:  # noqa: ANN401 - a type of the library
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - see above

    return CounterMetricFamily(name, about, labels=list(labels))


def _histogram(name: str, about: str) -> Any:  # noqa: ANN401 - a type of the library
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - see above

    return HistogramMetricFamily(name, about, labels=["type"])


def _summary(name: str, about: str, labels: Iterable[str]) -> Any:  # noqa: ANN401 - a type of the library
    from prometheus_client.core import SummaryMetricFamily  # noqa: PLC0415 - see above

    return SummaryMetricFamily(name, about, labels=list(labels))


def _text(families: Iterable[Metric]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - see above

    class Once:
        def collect(self) -> Iterable[Metric]:
            return families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    return generate_latest(registry)
