"""The outer layers: every answer has an id and security headers, comes in time, and no error leaves unmapped."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import anyio
import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.problems import problem
from shared.errors import DeadlineExceeded, SpoolError
from shared.job import new_id
from shared.store.usage import Usage, request_begins

TIME_LIMIT_S = 60.0
#: An API Gateway gives up after 30 s, whatever the function's own limit.
_GATEWAY_LIMIT_S = 28.0
#: What Lambda leaves us to send the answer before it kills the process.
_LAMBDA_MARGIN_S = 1.5
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
#: As they are sent.
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
_ONLY_HTTPS = (b"strict-transport-security", b"max-age=31536000")
_log = structlog.get_logger("spool.api")


#: Asked all day by machines and pages: told only when it goes wrong.
_QUIET = {"/healthz", "/readyz", "/metrics", "/dashboard"}
_QUIET_BELOW = "/dashboard/"


class Stamp:
    """Gives every answer its id and its headers, and every request its line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add what is missing when the answer begins, and tell of it when it has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        usage, begun, status = request_begins(), perf_counter(), None

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                there = {name for name, _ in headers}
                always = [*_RAW_HEADERS, _ONLY_HTTPS] if scope["scheme"] == "https" else _RAW_HEADERS
                added = [header for header in always if header[0] not in there]
                message["headers"] = [*headers, (b"x-request-id", request_id.encode()), *added]
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        finally:
            if _log.is_enabled_for(logging.DEBUG if _is_quiet(scope["path"], status) else logging.INFO):
                _log.info("request", **_told(scope, status, perf_counter() - begun, usage))


class Bound:
    """Answers in time and in shape, whatever happens further in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request run until its time limit; what has begun to answer, a stream say, may go on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = anyio.CancelScope(deadline=anyio.current_time() + time_limit_s(scope))
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started, limit.deadline = True, math.inf
            await send(message)

        try:
            with limit:
                await self._app(scope, receive, watched)
        except Exception as error:  # the outermost place: nothing may leave it without an answer
            if not isinstance(error, SpoolError) or error.status == 500:
                _log.exception("request failed", method=scope["method"], path=scope["path"])
            if started:
                raise
            await problem(error)(scope, receive, send)
        if limit.cancelled_caught:
            late = DeadlineExceeded("This request took too long and was given up; what it asked for may still happen.")
            await problem(late)(scope, receive, send)


def time_limit_s(scope: Mapping[str, Any]) -> float:
    """Seconds until this request must have begun to answer; uploads take as long as their bytes come."""
    if scope["path"].startswith("/files/"):
        return math.inf
    context = scope.get("aws.context")
    if context is None:
        return TIME_LIMIT_S
    domain = scope["aws.event"].get("requestContext", {}).get("domainName", "")
    longest = _GATEWAY_LIMIT_S if ".execute-api." in domain else TIME_LIMIT_S
    return float(max(0.0, min(longest, context.get_remaining_time_in_millis() / 1000 - _LAMBDA_MARGIN_S)))


def _is_quiet(path: str, status: int | None) -> bool:
    return status is not None and status < 400 and (path in _QUIET or path.startswith(_QUIET_BELOW))


def _told(scope: Scope, status: int | None, seconds: float, usage: Usage) -> dict[str, Any]:
    """What a line says of a request: never its query, which may be signed. `status` is None when nobody was left to
    answer; `job` is the one that was made, or that the address names."""
    state = scope["state"]
    route, caller = state.get("route"), state.get("caller")
    told = {
        "method": scope["method"],
        "route": route or scope["path"][:200],
        "status": status,
        "ms": round(seconds * 1000, 1),
        "round_trips": usage.round_trips,
    }
    if usage.rows_read or usage.rows_written:
        told |= {"rows_read": usage.rows_read, "rows_written": usage.rows_written}
    if caller is not None and caller.name:
        told["caller"] = caller.name
        if caller.key is not None:
            told["key"] = caller.key.id
    if route is not None and "{id}" in route:
        told["job" if route.startswith("/api/jobs/") else "id"] = scope["path_params"]["id"]
    if "made" in state:
        told["job"] = state["made"]
    return told
