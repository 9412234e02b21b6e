"""One request as a handler sees it: read and checked, with the parts it may use."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import urljoin

import anyio
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from functions.answers import Answers, Copied, accepted_age_s
from functions.auth import Access, Caller
from functions.feed import Feed
from functions.keyring import Keyring
from functions.limits import Cost, Limits
from functions.metrics import Metrics
from functions.models import NoQuery, Query
from functions.packing import packed, takes_gzip
from functions.problems import invalid, quota_headers
from functions.readiness import Readiness
from functions.threads import in_thread
from shared.errors import FieldError, Malformed, RateLimited, TooLarge, TooSlow, UnsupportedMedia
from shared.keys import Scope
from shared.settings import Settings
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import JobStore
from shared.store.values import Admission
from shared.types.faults import field_errors

if TYPE_CHECKING:
    from shared.job import Job, NewJob
    from shared.spans import Spans

MAX_BODY_BYTES = 1_000_000
#: Before the time of the whole request is over, so that the sentence can be one about the body.
BODY_LIMIT_S = 30.0
#: Four levels of children and their parameters need 16.
MAX_NESTING = 32

Q = TypeVar("Q", bound=Query)
B = TypeVar("B")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Context:
    """The parts every request shares. `streams` is False where the host sends answers in one piece only."""

    settings: Settings
    store: JobStore
    storage: StorageAdapter
    secret: bytes
    feed: Feed
    readiness: Readiness
    keyring: Keyring
    access: Access
    answers: Answers
    limits: Limits
    metrics: Metrics
    streams: bool
    spans: Spans | None

    def admission(self, caller: Caller, cost: Cost) -> Admission:
        """What a request takes along to the queue. Raises `RateLimited` for who was refused a moment ago."""
        admission = self.limits.admission(caller, cost)
        if caller.key is not None:
            admission.wants_keys = self.keyring.due
            admission.key_id = caller.key.id if self.keyring.unnoted(caller.key) else None
        return admission

    def learn(self, caller: Caller, admission: Admission, asked_at: float) -> None:
        """What the queue said beside its answer."""
        if admission.keys is not None:
            self.keyring.learn(admission.keys, asked_at)
        if caller.key is not None and admission.key_noted:
            self.keyring.noted(caller.key)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A request that was read: `query` and `body` are checked, `digest` tells one body from another.

    `store` is the queue, which charges this request to its caller.
    """

    context: Context
    request: Request
    who: Caller
    store: JobStore
    query: Q
    body: B
    digest: str
    began_ns: int = field(default_factory=time.time_ns)

    def traced(self, *jobs: Job | NewJob) -> None:
        """Tell a collector, where there is one, that this request has made the first of these jobs and those below."""
        if self.context.spans is not None:
            self.context.spans.request(jobs, self.began_ns, self.request.headers)

    @property
    def caller(self) -> str:
        """Whose jobs and uploads these are."""
        return self.who.name

    @property
    def storage(self) -> StorageAdapter:
        """The files."""
        return self.context.storage

    @property
    def id(self) -> str:
        """The id in the path."""
        return str(self.request.path_params["id"])

    def made(self, job_id: str) -> None:
        """Name the job that this request made, or found again, in its line of the log."""
        self.request.state.made = job_id

    def absolute(self, url: str) -> str:
        """A URL as the client can use it from anywhere; local storage gives relative ones."""
        return urljoin(str(self.request.base_url), url)


Handler = Callable[[Any], Response] | Callable[[Any], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answers` says what each good status carries; the OpenAPI document is made of these.

    A handler is a function of a `Call`; plain ones run in a thread, because stores and storage block. A key needs
    `scope` to call it, and `cost` says which limits hold. The answer of a `shared` one is the same for all callers.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    query: type[Query] = NoQuery
    body: type[BaseModel] | None = None
    headers: Sequence[str] = ()
    answers: Mapping[int, type[BaseModel] | str] = field(default_factory=dict)
    scope: Scope | None = "read"
    cost: Cost = "free"
    shared: bool = False


def routes(operations: Sequence[Operation]) -> list[Route]:
    """One route for each path, so that 405 names all methods of it."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    # A path by name comes before those with a variable, which would answer for it. They are tried one after the other:
    # the polls do not come after what has nothing to do with jobs.
    areas = list(dict.fromkeys(_area(path) for path in paths))
    ordered = sorted(paths.items(), key=lambda item: (areas.index(_area(item[0])), "{" in item[0]))
    return [Route(path, partial(_dispatch, methods), methods=list(methods)) for path, methods in ordered]


def _area(path: str) -> str:
    """`/api/jobs` of `/api/jobs/{id}/outputs`."""
    return "/".join(path.split("/")[:3])


def answer(view: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A view as JSON."""
    return Response(view.model_dump_json(exclude_unset=True), status, headers=headers, media_type="application/json")


async def _dispatch(methods: Mapping[str, Operation], request: Request) -> Response:
    operation = methods["GET" if request.method == "HEAD" else request.method]
    context: Context = request.app.state.context
    request.state.route = operation.path
    caller: Caller = request.state.caller
    if operation.scope is not None:
        caller.must(operation.scope)
    small = takes_gzip(request.headers)
    respond = partial(_respond, operation, request, context, caller, small=small)
    if operation.shared and (age_s := accepted_age_s(request.headers)):
        key = (request.url.path, request.url.query, request.headers.get("if-none-match"), small)
        response = (await context.answers.get(key, age_s, partial(_copied, respond))).response()
    else:
        try:
            response = await respond()
        finally:
            if operation.method != "GET":
                context.answers.forget()
    if request.method == "HEAD":
        response.body = b""
    return response


async def _copied(respond: Callable[[], Awaitable[Response]]) -> Copied:
    return Copied.of(await respond())


async def _respond(
    operation: Operation, request: Request, context: Context, caller: Caller, *, small: bool
) -> Response:
    admission, asked_at = context.admission(caller, operation.cost), context.keyring.clock()
    try:
        response = await _answer(operation, await _read(operation, request, admission))
    except RateLimited as error:
        context.limits.remember(caller, error)
        raise
    finally:
        context.learn(caller, admission, asked_at)
    if admission.quota is not None:
        response.headers.update(quota_headers(admission.quota))
    return packed(response) if small else response


async def _answer(operation: Operation, call: Call[Any, Any]) -> Response:
    if inspect.iscoroutinefunction(operation.handler):
        return cast("Response", await operation.handler(call))
    return await in_thread(lambda: cast("Response", operation.handler(call)))


async def _read(operation: Operation, request: Request, admission: Admission) -> Call[Any, Any]:
    body, digest = None, ""
    if operation.body is not None:
        value, digest = await _read_json(request)
        body = checked(operation.body, value)
    context: Context = request.app.state.context
    return Call(
        context=context,
        request=request,
        who=request.state.caller,
        store=context.store.admitting(admission) if admission.carries else context.store,
        query=_read_query(operation.query, request),
        body=body,
        digest=digest,
    )


def checked(model: type[M], value: object, prefix: str = "", *, context: Mapping[str, object] | None = None) -> M:
    """`value` as the model, exactly: no text for a number, no 1 for true. Raises `Invalid` naming each field."""
    try:
        return model.model_validate_json(json.dumps(value), strict=True, context=context)
    except ValidationError as error:
        raise invalid(field_errors(error, value, prefix)) from None


def _read_query(model: type[Query], request: Request) -> Query:
    pairs = request.query_params.multi_items()
    twice = sorted({name for name, _ in pairs if len(request.query_params.getlist(name)) > 1})
    if twice:
        raise invalid([FieldError(name, "is given more than once") for name in twice])
    try:
        return model.model_validate(dict(pairs))
    except ValidationError as error:
        raise invalid(field_errors(error)) from None


async def _read_json(request: Request) -> tuple[Any, str]:
    """The body's value, and a digest that is the same for the same value however it was written."""
    kind, _, options = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise UnsupportedMedia("The body must be JSON; send it with Content-Type: application/json.")
    if options.strip() and options.strip().lower().replace('"', "") != "charset=utf-8":
        raise Malformed("JSON is always UTF-8; send the body in that encoding.")
    try:
        value = json.loads((await _read_bytes(request)).decode(), parse_float=_number, parse_constant=_no_constant)
        canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Malformed(f"The body cannot be read as JSON ({what}); correct it and send it again.") from None
    if _nesting(value) > MAX_NESTING:
        raise Malformed(f"The body is nested more than {MAX_NESTING} levels deep; make it flatter.")
    return value, hashlib.sha256(canonical).hexdigest()


async def _read_bytes(request: Request) -> bytes:
    body = bytearray()
    declared = request.headers.get("content-length", "0")
    try:
        _must_fit(int(declared) if len(declared) < 20 else MAX_BODY_BYTES + 1)
        with anyio.fail_after(BODY_LIMIT_S):
            async for chunk in request.stream():
                body += chunk
                _must_fit(len(body))
    except TimeoutError:
        raise TooSlow(f"The body took longer than {BODY_LIMIT_S:g} s; send the whole request again.") from None
    except ClientDisconnect:
        raise Malformed("The connection ended before the body did; send the whole request again.") from None
    return bytes(body)


def _must_fit(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes; media goes through POST /api/uploads.")


def _number(text: str) -> int | float:
    """9.0 is the integer 9 in JSON Schema; models ask for integers strictly."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _nesting(value: object) -> int:
    """Levels of arrays and objects, counted without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth
