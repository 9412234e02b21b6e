"""The HTTPS side on one screen: every route, the layers around them, and where errors become answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions import events, jobs, login, ops, pages, schedules, sessions, steering, uploads
from functions.answers import Answers
from functions.auth import Access, Guard
from functions.call import Context, Operation, routes
from functions.edge import Bound, Stamp
from functions.feed import Feed
from functions.files import LocalFiles
from functions.keyring import Keyring
from functions.limits import Limits
from functions.login import MeView
from functions.metrics import Metrics
from functions.models import (
    CancelSelection,
    DeleteQuery,
    HistoryQuery,
    JobListQuery,
    JobPatch,
    JobQuery,
    JobRequest,
    LiveQuery,
    LoginRequest,
    RetrySelection,
    SchedulePatch,
    ScheduleRequest,
    StatsQuery,
    TypePatch,
    UploadRequest,
)
from functions.ops import HealthView, JobTypesView, ReadyView, StatsView
from functions.problems import problem
from functions.readiness import Readiness
from functions.schedules import SchedulesView, ScheduleView
from functions.sessions import (
    MessageRequest,
    SessionDetailView,
    SessionListQuery,
    SessionListView,
    SessionQuery,
    SessionRequest,
    SessionView,
)
from functions.steering import CancelledView, RetriedView, SteeringView
from functions.threads import in_thread
from functions.view import AssetView, HistoryView, JobListView, JobsView, JobView, OutputsView, UploadView
from shared.errors import ConfigurationError
from shared.secret import signing_secret
from shared.settings import Settings
from shared.storage.local import LocalStorage
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import JobStore
from shared.traces import spans_for

# fmt: off
OPERATIONS = (
    Operation("POST", "/api/jobs", jobs.create, "Queue a job", body=JobRequest, headers=("Idempotency-Key",),
              answers={201: JobView, 200: JobView}, scope="write", cost="job"),
    Operation("GET", "/api/jobs", jobs.list_, "List jobs", query=JobListQuery, headers=("Cache-Control",),
              answers={200: JobListView}, shared=True),
    Operation("GET", "/api/jobs/{id}", jobs.show, "Read a job, or wait for it to change", query=JobQuery,
              headers=("If-None-Match", "Cache-Control"), answers={200: JobView, 304: "Not changed"}, shared=True),
    Operation("PATCH", "/api/jobs/{id}", jobs.patch, "Change a job that has not started", body=JobPatch,
              answers={200: JobView}, scope="write", cost="write"),
    Operation("DELETE", "/api/jobs/{id}", jobs.delete, "Cancel a job, or delete an ended one", query=DeleteQuery,
              answers={200: JobView, 202: JobView, 204: "Deleted"}, scope="write"),
    Operation("POST", "/api/jobs/{id}/cancel", jobs.cancel, "Cancel a job", answers={200: JobView, 202: JobView},
              scope="write"),
    Operation("POST", "/api/jobs/{id}/retry", jobs.retry, "Run a job that ended badly again",
              headers=("Idempotency-Key",), answers={201: JobView, 200: JobView}, scope="write", cost="job"),
    Operation("GET", "/api/jobs/{id}/children", jobs.children, "List children by phase",
              headers=("Cache-Control",), answers={200: JobsView}, shared=True),
    Operation("GET", "/api/jobs/{id}/events", jobs.history, "Read a job's history and log", query=HistoryQuery,
              headers=("Cache-Control",), answers={200: HistoryView}, shared=True),
    Operation("GET", "/api/jobs/{id}/outputs", jobs.outputs, "List finished files", answers={200: OutputsView}),
    Operation("GET", "/api/jobs/{id}/outputs/{name}", jobs.output, "Go to a file", answers={302: "The file is there"}),
    Operation("POST", "/api/jobs/cancel", steering.cancel_many, "Cancel many jobs", body=CancelSelection,
              answers={200: CancelledView}, scope="write"),
    Operation("POST", "/api/jobs/retry", steering.retry_many, "Run many failed jobs again", body=RetrySelection,
              answers={200: RetriedView}, scope="write", cost="job"),
    Operation("POST", "/api/uploads", uploads.begin, "Announce an upload", body=UploadRequest,
              answers={201: UploadView}, scope="write", cost="write"),
    Operation("GET", "/api/uploads/{id}", uploads.resume, "Ask where the rest of an upload goes",
              answers={200: UploadView}, scope="write"),
    Operation("POST", "/api/uploads/{id}/complete", uploads.complete, "End an upload", answers={200: AssetView},
              scope="write"),
    Operation("GET", "/api/assets/{id}", uploads.show, "Read an upload, and where its bytes are",
              answers={200: AssetView}),
    Operation("DELETE", "/api/assets/{id}", uploads.delete, "Delete an upload", answers={204: "Deleted"},
              scope="write"),
    Operation("POST", "/api/sessions", sessions.create, "Begin a session with an agent", body=SessionRequest,
              headers=("Idempotency-Key",), answers={201: SessionView, 200: SessionView}, scope="write", cost="job"),
    Operation("GET", "/api/sessions", sessions.list_, "List sessions", query=SessionListQuery,
              headers=("Cache-Control",), answers={200: SessionListView}, shared=True),
    Operation("GET", "/api/sessions/{id}", sessions.show, "Read a session and what was said", query=SessionQuery,
              headers=("Cache-Control",), answers={200: SessionDetailView}, shared=True),
    Operation("POST", "/api/sessions/{id}/messages", sessions.send, "Say something in a session", body=MessageRequest,
              headers=("Idempotency-Key",), answers={201: JobView, 200: JobView}, scope="write", cost="job"),
    Operation("GET", "/api/events", events.live, "Follow jobs as Server-Sent Events", query=LiveQuery,
              headers=("Last-Event-ID",), answers={200: "Messages `hello`, `event`, `job` and `reset`"}),
    Operation("GET", "/api/stats", ops.stats, "The queue at a glance", query=StatsQuery, headers=("Cache-Control",),
              answers={200: StatsView}, shared=True),
    Operation("GET", "/api/job-types", ops.job_types, "What Spool can do", answers={200: JobTypesView}),
    Operation("PATCH", "/api/job-types/{id}", steering.steer, "Pause, resume or limit a job type", body=TypePatch,
              answers={200: SteeringView}, scope="admin"),
    Operation("GET", "/api/schedules", schedules.list_, "List schedules", answers={200: SchedulesView}),
    Operation("PUT", "/api/schedules/{id}", schedules.put, "Make or change a schedule", body=ScheduleRequest,
              answers={201: ScheduleView, 200: ScheduleView}, scope="admin"),
    Operation("PATCH", "/api/schedules/{id}", schedules.patch, "Pause or resume a schedule", body=SchedulePatch,
              answers={200: ScheduleView}, scope="admin"),
    Operation("DELETE", "/api/schedules/{id}", schedules.remove, "Remove a schedule", answers={204: "Removed"},
              scope="admin"),
    Operation("POST", "/api/schedules/{id}/run", schedules.run, "Make a schedule's job now",
              answers={201: JobView}, scope="admin"),
    Operation("POST", "/api/login", login.log_in, "Log a browser in", body=LoginRequest, answers={200: MeView},
              scope=None),
    Operation("POST", "/api/logout", login.log_out, "Log a browser out", answers={204: "Logged out"}, scope=None),
    Operation("GET", "/api/me", login.me, "Who asks, and what they may do", answers={200: MeView}, scope=None),
    Operation("GET", "/metrics", ops.metrics, "The queue and its workers for Prometheus",
              answers={200: "Prometheus text format 0.0.4"}),
    Operation("GET", "/healthz", ops.healthz, "Whether the process is up", answers={200: HealthView},
              scope=None),
    Operation("GET", "/readyz", ops.readyz, "Whether database and storage answer, and what else is wrong",
              answers={200: ReadyView}),
)
# fmt: on


def create_app(settings: Settings, store: JobStore, storage: StorageAdapter) -> Starlette:
    """The API over a store and a storage. Raises `ConfigurationError` where it would be open to the world."""
    tokens = [token.get_secret_value() for token in settings.api_tokens]
    if settings.lambda_function is not None and not tokens:
        raise ConfigurationError(
            "SPOOL_API_TOKENS is not set: on Lambda everybody could use Spool; set at least one token."
        )
    if "*" in settings.cors_origins:
        raise ConfigurationError(
            "SPOOL_CORS_ORIGINS holds *; list the origins that may call, such as https://example.org."
        )
    keyring, secret = Keyring(store), signing_secret(settings)
    answers = Answers()
    access = Access(tokens=tokens, keyring=keyring, secret=secret)
    # A function is frozen between two requests, and what sends traces with it.
    spans = None if settings.lambda_function is not None else spans_for(settings, "spool-api")

    @asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        yield
        if spans is not None:
            await in_thread(spans.close)

    app = Starlette(
        lifespan=living,
        routes=[*routes(OPERATIONS), *_files(storage, store), *pages.routes(storage.origin)],
        middleware=[
            Middleware(Stamp),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
                allow_headers=("Authorization", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range"),
                expose_headers=("ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
            ),
            Middleware(Bound),
            Middleware(Guard, origins=settings.cors_origins, access=access),
        ],
        exception_handlers={HTTPException: _not_routed},
    )
    app.router.redirect_slashes = False
    app.state.context = Context(
        settings=settings,
        store=store,
        storage=storage,
        secret=secret,
        feed=Feed(store, answers.forget),
        readiness=Readiness(),
        keyring=keyring,
        access=access,
        answers=answers,
        limits=Limits(settings),
        metrics=Metrics(),
        streams=settings.lambda_function is None,
        spans=spans,
    )
    return app


def _files(storage: StorageAdapter, store: JobStore) -> list[Route]:
    """Local storage is served here; any other kind serves itself."""
    if not isinstance(storage, LocalStorage):
        return []
    return [Route("/files/{key:path}", LocalFiles(storage, store), methods=["GET", "PUT"])]


async def _not_routed(_: Request, error: Exception) -> Response:
    return problem(error)
