"""Jobs as OpenTelemetry spans: a job, the request that made it, its attempts, and their stages.

Ids need no column and no header: a trace is named after the job at the top, a job's own span after the end of its id.
So the API that makes a job and every worker that tries it tell parts of one trace without a word between them. A span
is made when all of it is over, and sent by a thread of its own: no job waits for a collector, or for one that is away.
"""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from shared.job import Failure, Job, NewJob

#: What the end of a process may wait for a collector.
_GOODBYE_S = 2.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
#: From one moment to another, in nanoseconds UTC by this host's clock.
Period = tuple[int, int]
_CARRIED = TraceContextTextMapPropagator()


class _Ids(RandomIdGenerator):
    """The ids that were asked for in this thread, and random ones for all else."""

    def __init__(self) -> None:
        self._asked = threading.local()

    @contextmanager
    def named(self, own: SpanContext) -> Iterator[None]:
        """What is begun in this block is this very span."""
        self._asked.own = own
        try:
            yield
        finally:
            self._asked.own = None

    def generate_trace_id(self) -> int:
        """The trace of a span that has no parent."""
        own: SpanContext | None = getattr(self._asked, "own", None)
        return super().generate_trace_id() if own is None else own.trace_id

    def generate_span_id(self) -> int:
        """The span itself."""
        own: SpanContext | None = getattr(self._asked, "own", None)
        return super().generate_span_id() if own is None else own.span_id


class Spans:
    """What one process tells the collector of `OTEL_EXPORTER_OTLP_ENDPOINT`. May be used from any thread.

    All other `OTEL_` variables mean what OpenTelemetry says they do: headers, time limits, the name of the service.
    """

    def __init__(self, service: str) -> None:
        version = importlib.metadata.version("spool")
        resource = Resource({"service.name": service, "service.version": version}).merge(
            OTELResourceDetector().detect()
        )
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("spool", version)

    def request(self, jobs: Sequence[Job | NewJob], began_ns: int, headers: Mapping[str, str]) -> None:
        """A request has made the first of these jobs, the others being below it; it points to its caller's own trace.

        Parents without work of their own are told of here, since no worker ever ends them.
        """
        made = (began_ns, time.time_ns())
        caller = trace.get_current_span(_CARRIED.extract(headers)).get_span_context()
        links = [Link(caller)] if caller.is_valid else []
        self._tell(f"create {jobs[0].type}", jobs[0], made, _of(jobs[0]), SpanKind.SERVER, links=links)
        for job in jobs:
            if not job.own_work:
                self.job(job, made)

    def job(self, job: Job | NewJob, period: Period) -> None:
        """A job, from its creation to its end; one that was run again points back to the one before."""
        links = [] if job.retry_of is None else [Link(_context(job.retry_of, job.retry_of))]
        above = None if job.parent_id is None else _context(job.parent_id, job.parent_id)
        with self._ids.named(_of(job)):
            self._tell(job.type, job, period, above, links=links)

    def attempt(
        self, job: Job, word: str, failure: Failure | None, period: Period, stages: Sequence[tuple[str, Period]]
    ) -> None:
        """An attempt that ended as `word` says, and its stages."""
        more: dict[str, str | int] = {
            "spool.job.attempt": job.attempt,
            "spool.worker.id": job.worker_id or "",
            "spool.outcome": word,
        }
        own = self._tell(f"attempt {job.attempt}", job, period, _of(job), SpanKind.CONSUMER, failure=failure, more=more)
        for name, stage in stages:
            self._tell(name, job, stage, own)

    def close(self) -> None:
        """Send what is left, if the collector takes it soon."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_GOODBYE_S)

    def _tell(
        self,
        name: str,
        job: Job | NewJob,
        period: Period,
        above: SpanContext | None,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        links: Sequence[Link] = (),
        failure: Failure | None = None,
        more: Mapping[str, str | int] = MappingProxyType({}),
    ) -> SpanContext:
        span = self._tracer.start_span(
            name,
            None if above is None else trace.set_span_in_context(NonRecordingSpan(above)),
            kind,
            {"spool.job.id": job.id, "spool.job.type": job.type, **more},
            links,
            period[0],
        )
        if failure is not None:
            span.set_attribute("error.type", failure.code)
            span.set_status(Status(StatusCode.ERROR, failure.message))
        span.end(max(period))
        return span.get_span_context()


def _of(job: Job | NewJob) -> SpanContext:
    """The span of a job: a child's is in the trace of its parent."""
    return _context(job.id, job.parent_id or job.id)


def _context(job_id: str, top_id: str) -> SpanContext:
    # Of a UUIDv7 the last 64 bits are chance, but for two: enough to be alone in a trace.
    return SpanContext(UUID(top_id).int, UUID(job_id).int & (1 << 64) - 1, is_remote=True, trace_flags=_SAMPLED)
