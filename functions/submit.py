"""From a request to rows of the queue: parameters checked by their type, families numbered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from functions.call import Call, checked
from functions.models import MAX_JOBS_PER_REQUEST, ChildRequest, JobRequest
from functions.problems import invalid
from functions.sources import Planned
from shared.errors import FieldError
from shared.job import MAX_DEPTH, NewJob, new_id
from shared.presets import CONTEXT
from shared.settings import Settings
from shared.types import JobType

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def idempotency_key(call: Call[Any, Any]) -> str | None:
    """The header of that name. Raises `Invalid`."""
    key = call.request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise invalid([FieldError("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
    return key


def plan(request: JobRequest, settings: Settings, caller: str) -> list[Planned]:
    """The job, then its descendants, each after its parent. Raises `Invalid`."""
    if wrong := list(_misplaced(request, settings)):
        raise invalid(wrong)
    root = _planned(request, settings, caller, "")
    job = replace(root.job, run_at=None if request.run_at is None else ms(request.run_at))
    if request.parent_id is not None:
        if root.members:
            raise invalid([FieldError("parent_id", f"is not for a {request.type}, which has children of its own")])
        key = request.child_key or job.id
        # Weighing nothing, so that the parent's percentage does not go back.
        job = replace(job, parent_id=request.parent_id, phase=request.phase or "core", child_key=key, weight=0.0)
    root = replace(root, job=job)
    planned = [root, *_family(request, root, settings, 1)]
    if len(planned) > MAX_JOBS_PER_REQUEST:
        raise invalid(
            [FieldError("children", f"are {len(planned) - 1}; one request takes at most {MAX_JOBS_PER_REQUEST} jobs")]
        )
    return planned


def ms(moment: datetime) -> int:
    """A moment in milliseconds UTC."""
    return round(moment.timestamp() * 1000)


def _misplaced(request: JobRequest, settings: Settings) -> Iterator[FieldError]:
    """Fields that only children have, or that children have not."""
    if request.run_at is not None and not kind_of(request.type, settings, "").stages:
        yield FieldError("run_at", f"is for jobs that work themselves; a {request.type} begins with its first child")
    if request.parent_id is None:
        for name in ("phase", "child_key"):
            if getattr(request, name) is not None:
                yield FieldError(name, "is for children; give parent_id too, or leave it out")
    else:
        if request.run_at is not None:
            yield FieldError("run_at", "is not for children, which start when their phase opens; leave it out")
        if request.children:
            yield FieldError("children", "cannot come with a job that joins a parent; post them one by one")


def kind_of(name: str, settings: Settings, at: str) -> JobType:
    """The type a job can be made of here. Raises `Invalid`."""
    kind = settings.job_types.get(name)
    if kind is None:
        sentence = f"there is no program {name!r} here; GET /api/job-types lists those that are registered"
        raise invalid([FieldError(f"{at}type", sentence)])
    if kind.kind == "agent":
        raise invalid([FieldError(f"{at}type", f"{name} talks in sessions; begin one with POST /api/sessions")])
    return kind


def _family(request: JobRequest | ChildRequest, parent: Planned, settings: Settings, depth: int) -> Iterator[Planned]:
    if (request.children or parent.members) and depth >= MAX_DEPTH:
        raise invalid([FieldError(f"{parent.at}children", f"a family is at most {MAX_DEPTH} levels deep")])
    yield from _members(request, parent, settings)
    keys: set[str] = set()
    for index, child in enumerate(request.children):
        planned = _planned(child, settings, parent.job.caller, f"{parent.at}children.{index}.")
        key = child.child_key or str(index + 1)
        if key in keys:
            raise invalid([FieldError(f"{planned.at}child_key", f"{key!r} is another child's; give each its own")])
        keys.add(key)
        planned = replace(planned, job=replace(planned.job, parent_id=parent.job.id, phase=child.phase, child_key=key))
        yield planned
        yield from _family(child, planned, settings, depth + 1)


def _members(request: JobRequest | ChildRequest, parent: Planned, settings: Settings) -> Iterator[Planned]:
    """The children that a job is made of by its type; they come with its priority, patience and tags."""
    for member in parent.members:
        child = ChildRequest(
            type=member.type,
            params=member.params,
            priority=request.priority,
            max_failures=request.max_failures,
            tags=request.tags,
        )
        planned = _planned(child, settings, parent.job.caller, parent.at or "")
        job = replace(planned.job, parent_id=parent.job.id, phase=member.phase, child_key=member.key)
        yield replace(planned, job=replace(job, name=member.name, weight=member.weight), at=None)


def _planned(request: JobRequest | ChildRequest, settings: Settings, caller: str, at: str) -> Planned:
    kind = kind_of(request.type, settings, at)
    params = checked(kind.params, request.params, f"{at}params", context={CONTEXT: settings.known_presets})
    longest_s = settings.timeout_s(request.type)
    if request.timeout_s is not None and request.timeout_s > longest_s:
        raise invalid([FieldError(f"{at}timeout_s", f"may be at most {longest_s:g} for {request.type}")])
    members = params.members
    if members and request.children:
        raise invalid([FieldError(f"{at}children", f"a {request.type} makes its own; leave them out")])
    if members and request.on_child_failure == "continue":
        raise invalid(
            [FieldError(f"{at}on_child_failure", f"a {request.type} needs all of its children; leave it out")]
        )
    job = NewJob(
        id=new_id(),
        type=request.type,
        name=params.called,
        params=params.model_dump(mode="json", exclude_unset=True),
        own_work=bool(kind.stages),
        priority=request.priority,
        max_failures=request.max_failures or kind.max_failures,
        timeout_s=request.timeout_s or longest_s,
        on_child_failure=request.on_child_failure or kind.on_child_failure,
        tags=request.tags,
        webhook_url=request.webhook_url,
        caller=caller,
    )
    return Planned(job, at, params, members)
