"""The routes of schedules: jobs that are made again and again, each time once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from functions.call import Call, answer, checked
from functions.models import NoQuery, SchedulePatch, ScheduleRequest
from functions.problems import invalid
from functions.submit import kind_of
from functions.view import Time, View, iso, job_view
from shared.errors import Conflict, FieldError, NotFound
from shared.presets import CONTEXT
from shared.settings import Settings
from shared.store.values import Schedule
from shared.types import is_url

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")
#: Each look at the queue reads all of them.
_MOST = 100


class ScheduleView(View):
    """A schedule. `next_at` is null while it is paused; `skipped` times came while the job before was unfinished."""

    name: str
    cron: str
    type: str
    params: dict[str, Any]
    paused: bool
    next_at: str | None = Time
    last_at: str | None = Time
    last_job_id: str | None
    skipped: int
    created_at: str = Time


class SchedulesView(View):
    """Every schedule, by name."""

    items: list[ScheduleView]


def list_(call: Call[NoQuery, None]) -> Response:
    """Every schedule."""
    return answer(SchedulesView(items=[_view(one) for one in call.store.schedules()]))


def put(call: Call[NoQuery, ScheduleRequest]) -> Response:
    """Make a schedule, or change the one of that name."""
    known = {one.name: one for one in call.store.schedules()}
    if call.id not in known:
        _must_be_new(call.id, len(known))
    params = _params(call.body, call.context.settings)
    now = call.store.check()
    schedule = Schedule(
        name=call.id,
        cron=call.body.cron,
        type=call.body.type,
        params=params,
        caller=call.caller,
        due_at=_due(call.body.cron, now),
    )
    made = call.store.put_schedule(schedule, paused=call.body.paused)
    return answer(_view(made), 200 if call.id in known else 201)


def patch(call: Call[NoQuery, SchedulePatch]) -> Response:
    """Pause a schedule, or let it go on from now: what it missed meanwhile is not made up for."""
    schedule = _schedule(call)
    due_at = schedule.due_at if call.body.paused else _due(schedule.cron, schedule.now)
    return answer(_view(call.store.put_schedule(replace(schedule, due_at=due_at), paused=call.body.paused)))


def remove(call: Call[NoQuery, None]) -> Response:
    """Make no more jobs of it; those it has made stay."""
    call.store.remove_schedule(call.id)
    return Response(status_code=204)


def run(call: Call[NoQuery, None]) -> Response:
    """Make its job now, whether or not it is paused; its times stay as they are."""
    from shared.schedules import job_of  # noqa: PLC0415 - a cold start need not load the parser

    schedule = _schedule(call)
    job = call.store.run_schedule(schedule, job_of(schedule, call.context.settings), next_due_at=None)
    if job is None:
        raise NotFound(f"There is no schedule {call.id[:64]} any more; GET /api/schedules lists them.")
    call.made(job.id)
    return answer(job_view(job), 201, {"Location": f"/api/jobs/{job.id}"})


def _schedule(call: Call[NoQuery, Any]) -> Schedule:
    for one in call.store.schedules():
        if one.name == call.id:
            return one
    raise NotFound(f"There is no schedule {call.id[:64]}; GET /api/schedules lists them.")


def _must_be_new(name: str, known: int) -> None:
    if not _NAME.fullmatch(name):
        raise invalid([FieldError("id", "must be up to 48 small letters, digits, dots, dashes and underscores")])
    if known >= _MOST:
        raise Conflict(f"There are {known} schedules already, and {_MOST} is the most; remove one first.")


def _params(body: ScheduleRequest, settings: Settings) -> dict[str, Any]:
    kind = kind_of(body.type, settings, "")
    if not kind.stages:
        raise invalid([FieldError("type", f"a {body.type} has no work of its own; schedule the types of its children")])
    params = checked(kind.params, body.params, "params", context={CONTEXT: settings.known_presets})
    if uploads := [path for path, source in params.sources.items() if not is_url(source)]:
        raise invalid([FieldError(f"params.{uploads[0]}", "must be a link: an upload is deleted after its time")])
    return params.model_dump(mode="json", exclude_unset=True)


def _due(cron: str, now: int) -> int:
    from shared.schedules import next_after  # noqa: PLC0415 - as above

    try:
        return next_after(cron, now)
    except ValueError as error:
        raise invalid([FieldError("cron", str(error))]) from None


def _view(one: Schedule) -> ScheduleView:
    paused = one.paused_at is not None
    return ScheduleView(
        name=one.name,
        cron=one.cron,
        type=one.type,
        params=one.params,
        paused=paused,
        next_at=None if paused else iso(one.due_at),
        last_at=None if one.last_at is None else iso(one.last_at),
        last_job_id=one.last_job_id,
        skipped=one.skipped,
        created_at=iso(one.created_at),
    )
