"""Every error Spool raises on purpose: what a class is called decides its HTTP status and whether a job retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from shared.job import Failure, FailureKind


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: `field` is its path, such as `params.outputs.0.bitrate_kbps`."""

    field: str
    message: str


class SpoolError(Exception):
    """An error with a code for programs and one sentence for people: what happened, what to do."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.errors = tuple(errors)


class Malformed(SpoolError):
    """The request could not be read at all."""

    code, status = "malformed", 400


class Unauthorized(SpoolError):
    """No token, or a wrong one."""

    code, status = "unauthorized", 401


class Forbidden(SpoolError):
    """The caller is known, or local, and still may not do this."""

    code, status = "forbidden", 403


class NotFound(SpoolError):
    """Nothing has this id."""

    code, status = "not_found", 404


class Conflict(SpoolError):
    """The job's state, or an earlier request, does not allow this."""

    code, status = "conflict", 409


class TooSlow(SpoolError):
    """The request did not arrive in its time; nothing was done."""

    code, status = "too_slow", 408


class HeadersTooLarge(SpoolError):
    """The headers of a request are over their limit."""

    code, status = "headers_too_large", 431


class TooLarge(SpoolError):
    """The body or the upload is over its limit."""

    code, status = "too_large", 413


class UnsupportedMedia(SpoolError):
    """The body is of another type than this address takes."""

    code, status = "unsupported_media_type", 415


class Invalid(SpoolError):
    """The request was read and at least one field is wrong."""

    code, status = "invalid", 422


@dataclass(frozen=True, slots=True)
class Quota:
    """What a caller may still write: `left` of `limit` a minute, and all of it again after `full_in_s`."""

    limit: int
    left: int
    full_in_s: float


class RateLimited(SpoolError):
    """Too many writes; `Retry-After` says when to come back."""

    code, status = "rate_limited", 429

    def __init__(self, message: str, *, retry_after_s: int, quota: Quota | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.quota = quota


class TooManyWaiting(RateLimited):
    """As many jobs wait as one caller may have."""

    code = "too_many_waiting"


class Unavailable(SpoolError):
    """The database or the storage does not answer; nothing is known to have changed."""

    code, status = "unavailable", 503


class Busy(Unavailable):
    """The database refused because another writer held it; nothing was executed."""

    code = "busy"


class Refused(SpoolError):
    """The database refused a write that would break its rules: a fault of ours, not of the caller."""

    code = "refused"


class DeadlineExceeded(SpoolError):
    """The request took longer than its time limit."""

    code, status = "timeout", 504


class ConfigurationError(SpoolError):
    """A setting is wrong, or two settings cannot hold together; the process must not start."""

    code = "configuration"


class ClaimLost(SpoolError):
    """The worker no longer owns this job and may write nothing more about it."""

    code = "claim_lost"


class JobFailure(SpoolError):
    """Ends an attempt. `kind` decides whether it is tried again; `message` is read by a creator."""

    def __init__(self, code: str, message: str, *, kind: FailureKind = "permanent") -> None:
        super().__init__(message)
        self.failure_code = code
        self.kind: FailureKind = kind

    def as_failure(self, stage: str | None) -> Failure:
        """This error as the job's `error`."""
        return Failure(code=self.failure_code, kind=self.kind, message=self.message, stage=stage)
