"""The job routes: read, one call, answer."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from time import monotonic
from typing import Any

from starlette.responses import Response

from functions.call import Call, answer
from functions.cursor import seq_at, signed
from functions.models import (
    DeleteQuery,
    HistoryQuery,
    JobListQuery,
    JobPatch,
    JobQuery,
    JobRequest,
    NoQuery,
)
from functions.sources import named, ready_sources
from functions.submit import idempotency_key, ms, plan
from functions.threads import in_thread
from functions.view import (
    HistoryView,
    JobListView,
    JobsView,
    OutputsView,
    event_view,
    job_view,
    output_view,
)
from shared.errors import Conflict, NotFound
from shared.job import Job, NewJob, Output, Status
from shared.store.protocol import JobStore
from shared.store.values import JobFilter

#: A signed link outlives a long listen, and little more.
LINK_S = 3600


def create(call: Call[NoQuery, JobRequest]) -> Response:
    """Queue a job, or a family of them; the same key and body find the same job again."""
    planned = plan(call.body, call.context.settings, call.caller)
    if any(call.context.settings.job_types[one.job.type].admin for one in planned):
        call.who.must("admin")
    found = ready_sources(planned, call.store, call.storage, call.caller)
    root, *family = (named(one, found) for one in planned)
    root = replace(root, idempotency_key=idempotency_key(call), request_hash=call.digest)
    job, new = call.store.create([root, *family])
    call.made(job.id)
    return _created(call, job, *family) if new else answer(job_view(job))


async def show(call: Call[JobQuery, None]) -> Response:
    """A job; `wait` holds the answer until it differs from what the client knows."""
    job = await in_thread(partial(_job, call.store, call.id))
    body, etag = _tagged(job)
    asked = call.request.headers.get("if-none-match", "")
    known = asked or etag
    if call.query.wait and call.context.streams and etag in known and not job.terminal:
        body, etag = await _changed(call, known)
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in asked or asked.strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def list_(call: Call[JobListQuery, None]) -> Response:
    """Jobs, newest first."""
    query, secret = call.query, call.context.secret
    where = JobFilter(
        status=query.status,
        type=query.type,
        parent_id=query.parent_id,
        tag=query.tag,
        text=query.text,
        since=None if query.since is None else ms(query.since),
        error=query.error,
    )
    before = None if query.cursor is None else seq_at(query.cursor, secret)
    page = call.store.list(where, limit=query.limit, before_seq=before)
    cursor = None if page.next_seq is None else signed(page.next_seq, secret)
    return answer(JobListView(items=[job_view(job) for job in page.items], next_cursor=cursor))


def patch(call: Call[NoQuery, JobPatch]) -> Response:
    """Change a job that has not started."""
    run_at = None if call.body.run_at is None else ms(call.body.run_at)
    return answer(job_view(call.store.patch(call.id, priority=call.body.priority, run_at=run_at, tags=call.body.tags)))


def cancel(call: Call[NoQuery, None]) -> Response:
    """Cancel: 200 when it is done, 202 while it stops, 409 when the job had ended otherwise."""
    job = call.store.cancel(call.id)
    if job.terminal and job.status is not Status.CANCELLED:
        raise Conflict(f"Job {job.id} had already ended ({job.status}); there is nothing to cancel.")
    return answer(job_view(job), 200 if job.terminal else 202)


def delete(call: Call[DeleteQuery, None]) -> Response:
    """Cancel a job, or with `purge` delete an ended one with its outputs."""
    if not call.query.purge:
        return cancel(call)  # type: ignore[arg-type]  # cancel reads no query
    call.who.must("admin")
    # Files first: when this is cut short the rows are still there, and the same request deletes the rest.
    for job_id in call.store.purgeable(call.id):
        call.storage.delete_prefix(f"outputs/{job_id}/")
    call.store.purge(call.id)
    return Response(status_code=204)


def retry(call: Call[NoQuery, None]) -> Response:
    """Run a job that ended badly again, as a new one; the same key finds that one again."""
    job, new = call.store.retry(call.id, key=idempotency_key(call))
    call.made(job.id)
    return _created(call, job) if new else answer(job_view(job))


def children(call: Call[NoQuery, None]) -> Response:
    """The children of a job, by phase."""
    jobs = call.store.children(call.id)
    _exists(call, proven=bool(jobs))
    return answer(JobsView(items=[job_view(job) for job in jobs]))


def history(call: Call[HistoryQuery, None]) -> Response:
    """What happened to a job, and its log."""
    query = call.query
    events = call.store.events(call.id, after=query.after, limit=query.limit, level=query.level)
    _exists(call, proven=bool(events))
    return answer(HistoryView(items=[event_view(event) for event in events]))


def outputs(call: Call[NoQuery, None]) -> Response:
    """The finished files, with URLs that end."""
    job = _job(call.store, call.id)
    return answer(OutputsView(items=[output_view(one, call.absolute(_link(call, job, one))) for one in job.outputs]))


def output(call: Call[NoQuery, None]) -> Response:
    """The way to one finished file."""
    name = call.request.path_params["name"]
    job = _job(call.store, call.id)
    for one in job.outputs:
        if one.name == name:
            return Response(status_code=302, headers={"Location": call.absolute(_link(call, job, one))})
    raise NotFound(f"Job {call.id} has no output {name}; GET /api/jobs/{call.id}/outputs lists them.")


def _created(call: Call[Any, Any], job: Job, *family: NewJob) -> Response:
    call.traced(job, *family)
    return answer(job_view(job), 201, {"Location": f"/api/jobs/{job.id}"})


def _job(store: JobStore, job_id: str) -> Job:
    job = store.get(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}; it may have been deleted after its retention time.")
    return job


def _exists(call: Call[Any, None], *, proven: bool) -> None:
    """Raise `NotFound` for an unknown job; an answer that found something is proof enough."""
    if not proven:
        _job(call.store, call.id)


def _tagged(job: Job) -> tuple[bytes, str]:
    body = job_view(job).model_dump_json(exclude_unset=True).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


async def _changed(call: Call[JobQuery, None], known: str) -> tuple[bytes, str]:
    """The job once it differs from every tag in `known`, or as it is when the time is up."""
    deadline = monotonic() + call.query.wait
    with call.context.feed.viewer() as viewer:
        while True:
            woken = await viewer.wait(deadline - monotonic())
            viewer.take()
            job = await in_thread(partial(_job, call.store, call.id))
            body, etag = _tagged(job)
            if etag not in known or not woken or call.context.feed.closed:
                return body, etag


def _link(call: Call[NoQuery, None], job: Job, output: Output) -> str:
    """Saved under the source's name, or a family's own: the output `mp3` of `talk.wav` becomes `talk.mp3`."""
    name = output.name
    if "." not in name and mimetypes.guess_extension(output.content_type) != f".{name}":
        name += mimetypes.guess_extension(output.content_type) or ""
    if job.name is not None:
        stem = PurePath(job.name).stem if job.own_work else job.name.replace("/", "-")
        name = name if name.startswith(f"{stem}.") else f"{stem}.{name}"
    return call.storage.download_url(output.key, filename=name, content_type=output.content_type, expires_s=LINK_S)
