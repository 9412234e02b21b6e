"""Logging in with a browser: who comes in, who goes, and who is here."""

from __future__ import annotations

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from functions.auth import Caller
from functions.call import Call, answer
from functions.cookie import from_our_page, keep_cookie, sealed
from functions.models import LoginRequest, NoQuery
from functions.threads import in_thread
from functions.view import View, iso
from shared.errors import Forbidden, Unauthorized
from shared.keys import SCOPES, Scope


class MeView(View):
    """Who asks, and what they may do."""

    name: str | None = Field(description="The key's name; null for a token, on this machine, and for nobody.")
    scopes: list[Scope]
    login_ends_at: str | None = Field(
        json_schema_extra={"format": "date-time"}, description="Null unless a login's cookie was sent."
    )


async def log_in(call: Call[NoQuery, LoginRequest]) -> Response:
    """Take a key or token once and give a cookie for it."""
    _must_not_be_foreign(call.request)
    access = call.context.access
    found = await in_thread(lambda: access.log_in(call.body.key.get_secret_value().strip()))
    if found is None:
        raise Unauthorized(
            "This key or token is not valid; give a key of `spool keys create`, or one of SPOOL_API_TOKENS."
        )
    caller, login = found
    response = answer(_me(caller, login.ends_at))
    keep_cookie(response, sealed(login, call.context.secret), call.request.scope, call.request.headers)
    return response


def log_out(call: Call[NoQuery, None]) -> Response:
    """Let the browser forget the cookie."""
    _must_not_be_foreign(call.request)
    response = Response(status_code=204)
    keep_cookie(response, "", call.request.scope, call.request.headers)
    return response


def me(call: Call[NoQuery, None]) -> Response:
    """Who the cookie, key or token of this request stands for."""
    return answer(_me(call.who, call.who.until))


def _me(caller: Caller, until: int | None) -> MeView:
    return MeView(
        name=None if caller.key is None else caller.key.name,
        scopes=[scope for scope in SCOPES if caller.may(scope)],
        login_ends_at=None if until is None else iso(1000 * until),
    )


def _must_not_be_foreign(request: Request) -> None:
    """Another site must not log its visitors in or out."""
    if "origin" in request.headers and not from_our_page(request.scope, request.headers):
        raise Forbidden("Logging in and out is for Spool's own pages; this request comes from another one.")
