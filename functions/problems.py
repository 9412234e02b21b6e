"""Errors as answers: RFC 9457 problem+json, one shape for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.errors import FieldError, Invalid, Quota, RateLimited, SpoolError, TooSlow, Unauthorized, Unavailable

#: What the router says about requests that no handler sees.
ROUTING = {
    404: ("not_found", "There is nothing at this address; /docs lists what there is."),
    405: ("method_not_allowed", "This method is not possible here; the header Allow lists those that are."),
    416: ("range_not_satisfiable", "The file ends before this range; ask for one within it."),
}


class FieldProblem(BaseModel):
    """What is wrong with one field; `field` is its path, such as `params.outputs.0.bitrate_kbps`."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was refused; `code` is for programs, `detail` is one sentence for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] = Field(description="What is wrong, field by field.")


def problem(error: Exception) -> Response:
    """The answer to any error; what is not ours says nothing of the inside."""
    if isinstance(error, SpoolError) and error.status != 500:
        return _answer(error.status, error.code, error.message, error.errors, _headers(error))
    if isinstance(error, HTTPException):
        code, sentence = ROUTING.get(error.status_code, ("malformed", error.detail))
        detail = sentence if error.detail == HTTPStatus(error.status_code).phrase else error.detail
        return _answer(error.status_code, code, detail, (), dict(error.headers or {}))
    return _answer(
        500, "internal", "Something went wrong on our side; try again, and tell us the X-Request-Id if it stays."
    )


def quota_headers(quota: Quota) -> dict[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers: what is allowed, and what is left of it."""
    return {
        "RateLimit-Policy": f'"writes";q={quota.limit};w=60',
        "RateLimit": f'"writes";r={quota.left};t={math.ceil(quota.full_in_s)}',
    }


def invalid(errors: Sequence[FieldError]) -> Invalid:
    """One error for all the fields that are wrong."""
    named = "; ".join(f"{error.field}: {error.message}" if error.field else error.message for error in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return Invalid(f"{named}{more}.", errors=errors)


def _headers(error: SpoolError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, RateLimited):
        return {"Retry-After": str(error.retry_after_s)} | (quota_headers(error.quota) if error.quota else {})
    if isinstance(error, TooSlow):
        return {"Connection": "close"}  # what is left of it would be read as the next request
    return {"Retry-After": "1"} if isinstance(error, Unavailable) else {}


def _answer(
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    body = Problem(
        type=f"/docs#error-{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        errors=[FieldProblem(field=error.field, message=error.message) for error in errors],
    )
    return Response(body.model_dump_json(), status, headers=headers, media_type="application/problem+json")
