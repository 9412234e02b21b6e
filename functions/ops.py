"""The routes for operators: is it up, is it ready, what does it do, what can it do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode
from starlette.responses import Response

from functions.call import Call, answer
from functions.metrics import CONTENT_TYPE
from functions.models import NoQuery, StatsQuery
from functions.steering import SteeringView, steering_view
from functions.view import Time, View, iso
from shared.errors import Unavailable
from shared.job import ENDED_BADLY, TERMINAL, Status
from shared.presets import Preset, with_choices
from shared.settings import Settings
from shared.store.values import Stats, Tally, WorkerSeen, bucket_ms
from shared.types import JobType


class HealthView(View):
    """The process, or all it needs, is there."""

    status: str


class FindingView(View):
    """One thing that was looked at. `mend` says what to do; with `ok` it is advice."""

    what: str
    ok: bool
    found: str
    mend: str


class ReadyView(View):
    """The API can work, and what was found when it looked around."""

    status: str
    findings: list[FindingView]


class JobTypeView(View):
    """A kind of job; `params` is the JSON Schema of its parameters, `documents` those of the JSON files it makes."""

    name: str
    title: str
    kind: Literal["built_in", "workflow", "agent"] = Field(
        description="`workflow` and `agent` are registered programs; an agent is talked to by POST /api/sessions."
    )
    stages: list[str]
    timeout_s: float
    stall_s: float
    max_failures: int
    params: dict[str, Any]
    documents: dict[str, dict[str, Any]]
    session_params: dict[str, Any] | None = Field(
        default=None, description="Of an agent: the JSON Schema of what a session is begun with."
    )


class JobTypesView(View):
    """What this deployment can do, and the presets that parameters may name."""

    items: list[JobTypeView]
    presets: list[Preset]


class PercentilesView(View):
    """Milliseconds that half, 95 % and 99 % of the jobs stayed under, to the precision of powers of two."""

    p50: int
    p95: int
    p99: int


class HourView(View):
    """Jobs that ended in one hour."""

    hour: str = Time
    ended: dict[Status, int]


class AtWorkView(View):
    """A job that a worker is at."""

    id: str
    type: str
    title: str | None = Field(description="Its title, or the name of what it works on.")
    stage: str | None


class WorkerView(View):
    """A worker process that was heard from in the last ten minutes. `running` is its own count."""

    id: str
    host: str
    version: str
    types: list[str]
    slots: int
    running: int
    jobs: list[AtWorkView]
    started_at: str = Time
    seen_at: str = Time


class StatsView(View):
    """The queue at a glance. Ended jobs are those of the last `hours` hours; waiting ones are counted to `count_to`."""

    at: str = Time
    hours: int
    states: dict[Status, int]
    types: dict[str, dict[Status, int]] = Field(description="Jobs by type and state.")
    oldest_waiting_s: float | None = Field(description="Age of the job that has been pending the longest.")
    completed_per_hour: float
    failure_rate: float | None = Field(description="Part of the jobs that ran and ended badly; null when none ran.")
    wait_ms: PercentilesView | None = Field(description="From creation to first start.")
    run_ms: PercentilesView | None = Field(description="From first start to the end.")
    mean_run_ms: dict[str, int] = Field(description="How long jobs of a type that completed took, on average.")
    media_s: float = Field(description="Seconds of media finished.")
    by_hour: list[HourView]
    workers: list[WorkerView]
    steering: list[SteeringView] = Field(description="Job types that are paused or limited.")


async def healthz(call: Call[NoQuery, None]) -> Response:
    """The process is up; asks nobody else."""
    del call
    return answer(HealthView(status="up"))


def readyz(call: Call[NoQuery, None]) -> Response:
    """Database and storage answer, and the database is migrated; what else is wrong makes no API unready."""
    findings = call.context.readiness.findings(call.store, call.storage, call.context.settings.registered)
    if faults := [finding for finding in findings if finding.vital and not finding.ok]:
        raise Unavailable(" ".join(f"{fault.found} {fault.mend}".strip() for fault in faults))
    told = [FindingView(what=one.what, ok=one.ok, found=one.found, mend=one.mend) for one in findings]
    return answer(ReadyView(status="ready", findings=told))


def stats(call: Call[StatsQuery, None]) -> Response:
    """The queue at a glance."""
    return answer(stats_view(call.store.stats(hours=call.query.hours, count_to=call.query.count_to), call.query.hours))


def metrics(call: Call[NoQuery, None]) -> Response:
    """The queue and its workers for Prometheus. On Lambda scrapes meet several processes, so none tells of itself."""
    usage = call.store.usage if call.context.streams else None
    text = call.context.metrics.text(call.store, usage=usage)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


def job_types(call: Call[NoQuery, None]) -> Response:
    """The job types with the schemas of their parameters."""
    settings = call.context.settings
    presets = tuple(settings.known_presets.values())
    items = [_job_type_view(kind, settings) for kind in settings.job_types.values()]
    return answer(JobTypesView(items=items, presets=list(presets)), headers={"Cache-Control": "no-cache"})


def stats_view(stats: Stats, hours: int) -> StatsView:
    """The store's counts as clients see them."""
    jobs: Counter[tuple[str, Status]] = Counter(stats.unfinished)
    for tally in stats.tallies:
        jobs[tally.type, tally.status] += tally.jobs
    states = Counter(dict.fromkeys(Status, 0))
    types: dict[str, dict[Status, int]] = {}
    for (job_type, status), count in jobs.items():
        states[status] += count
        types.setdefault(job_type, {})[status] = count
    ran = [tally for tally in stats.tallies if tally.status is not Status.CANCELLED]
    bad = sum(tally.jobs for tally in ran if tally.status in ENDED_BADLY)
    finished = sum(tally.jobs for tally in ran)
    return StatsView(
        at=iso(stats.at),
        hours=hours,
        states=dict(states),
        types=types,
        oldest_waiting_s=None if stats.oldest_pending_at is None else max(0, stats.at - stats.oldest_pending_at) / 1000,
        completed_per_hour=round((finished - bad) / hours, 2),
        failure_rate=round(bad / finished, 4) if finished else None,
        wait_ms=_percentiles(tally.wait_log2 for tally in ran),
        run_ms=_percentiles(tally.run_log2 for tally in ran),
        mean_run_ms=_means(stats.tallies),
        media_s=sum(tally.media_ms for tally in ran) / 1000,
        by_hour=_by_hour(stats.tallies),
        workers=[_worker_view(seen) for seen in stats.workers],
        steering=[steering_view(one) for one in stats.steering],
    )


def _job_type_view(kind: JobType, settings: Settings) -> JobTypeView:
    asked = {"session_params": _schema(settings.registered[kind.name].params)} if kind.kind == "agent" else {}
    return JobTypeView(
        **asked,
        name=kind.name,
        title=kind.title,
        kind=kind.kind,
        stages=list(kind.stages),
        timeout_s=settings.timeout_s(kind.name),
        stall_s=kind.stall_s,
        max_failures=kind.max_failures,
        params=_schema(kind.params, presets=tuple(settings.known_presets.values())),
        documents={name: _schema(model, "serialization") for name, model in kind.documents.items()},
    )


@cache
def _schema(
    model: type[BaseModel], mode: JsonSchemaMode = "validation", *, presets: tuple[Preset, ...] = ()
) -> dict[str, Any]:
    """With this deployment's own presets among the choices."""
    return dict(with_choices(model.model_json_schema(mode=mode), presets))


def _means(tallies: Iterable[Tally]) -> dict[str, int]:
    """As the estimate of one job has them: of those that completed."""
    totals: dict[str, tuple[int, int]] = {}
    for tally in tallies:
        if tally.status is Status.COMPLETED:
            jobs, run_ms = totals.get(tally.type, (0, 0))
            totals[tally.type] = (jobs + tally.jobs, run_ms + tally.run_ms)
    return {job_type: run_ms // jobs for job_type, (jobs, run_ms) in totals.items() if jobs}


def _percentiles(histograms: Iterable[dict[int, int]]) -> PercentilesView | None:
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(histogram)
    if not total:
        return None
    return PercentilesView(p50=_percentile(total, 0.5), p95=_percentile(total, 0.95), p99=_percentile(total, 0.99))


def _percentile(histogram: Counter[int], part: float) -> int:
    """The value below which `part` of the jobs lie, taking them as spread evenly within their bucket."""
    wanted = part * histogram.total()
    below = 0
    for bucket in sorted(histogram):
        low, high = (0 if bucket == 0 else bucket_ms(bucket - 1)), bucket_ms(bucket)
        if below + histogram[bucket] >= wanted:
            return round(low + (high - low) * (wanted - below) / histogram[bucket])
        below += histogram[bucket]
    raise ValueError("an empty histogram has no percentiles")


def _by_hour(tallies: Iterable[Tally]) -> list[HourView]:
    hours: dict[int, Counter[Status]] = {}
    for tally in tallies:
        hours.setdefault(tally.hour, Counter(dict.fromkeys(sorted(TERMINAL), 0)))[tally.status] += tally.jobs
    return [HourView(hour=iso(hour * 3_600_000), ended=dict(ended)) for hour, ended in sorted(hours.items())]


def _worker_view(seen: WorkerSeen) -> WorkerView:
    worker = seen.worker
    return WorkerView(
        id=worker.id,
        host=worker.host,
        version=worker.version,
        types=list(worker.types),
        slots=worker.slots,
        running=seen.running,
        jobs=[AtWorkView(**asdict(one)) for one in seen.jobs],
        started_at=iso(seen.started_at),
        seen_at=iso(seen.seen_at),
    )
