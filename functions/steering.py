"""Routes by which operators steer: many jobs at once, and job types that rest or are limited."""

from __future__ import annotations

from starlette.responses import Response

from functions.call import Call, answer
from functions.cursor import seq_at, signed
from functions.models import CancelSelection, JobSelection, NoQuery, RetrySelection, TypePatch
from functions.submit import ms
from functions.view import Time, View, iso
from shared.errors import Conflict, NotFound
from shared.store.values import JobFilter, Steering


class SteeringView(View):
    """How jobs of a type are taken. `running` is counted only where the type is paused or limited."""

    type: str
    paused_at: str | None = Time
    max_running: int | None
    running: int


class CancelledView(View):
    """What one batch did. While `more` is true, send the same again; a job is counted by the request that did it."""

    cancelled: int
    stopping: int
    more: bool


class RetriedView(View):
    """What one batch did. `skipped` jobs were run again before, or belong to a family that is run again as a whole."""

    retried: int
    skipped: int
    next_cursor: str | None


def cancel_many(call: Call[NoQuery, CancelSelection]) -> Response:
    """Cancel a batch of unfinished jobs."""
    done = call.store.cancel_matching(_filter(call.body), limit=call.body.limit)
    return answer(CancelledView(cancelled=done.cancelled, stopping=done.stopping, more=done.more))


def retry_many(call: Call[NoQuery, RetrySelection]) -> Response:
    """Run a batch of failed jobs again."""
    secret = call.context.secret
    before = None if call.body.cursor is None else seq_at(call.body.cursor, secret)
    done = call.store.retry_matching(_filter(call.body), limit=call.body.limit, before_seq=before)
    cursor = None if done.next_seq is None else signed(done.next_seq, secret)
    return answer(RetriedView(retried=done.retried, skipped=done.skipped, next_cursor=cursor))


def steer(call: Call[NoQuery, TypePatch]) -> Response:
    """Pause, resume or limit a job type."""
    kind = call.context.settings.job_types.get(call.id)
    if kind is None:
        raise NotFound(f"There is no job type {call.id[:64]}; GET /api/job-types lists them.")
    if not kind.stages:
        raise Conflict(f"A {kind.name} has no work of its own to pause or limit; steer the types of its children.")
    given = call.body.model_fields_set
    body = call.body
    steering = call.store.steer(
        kind.name, paused=body.paused, max_running=body.max_running, limiting="max_running" in given
    )
    return answer(steering_view(steering))


def steering_view(steering: Steering) -> SteeringView:
    """A job type's steering as clients see it."""
    return SteeringView(
        type=steering.type,
        paused_at=None if steering.paused_at is None else iso(steering.paused_at),
        max_running=steering.max_running,
        running=steering.running,
    )


def _filter(body: JobSelection) -> JobFilter:
    since = None if body.since is None else ms(body.since)
    return JobFilter(status=body.status, type=body.type, tag=body.tag, text=body.text, since=since, error=body.error)
