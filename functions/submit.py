"""From a request to rows of the queue: parameters checked by their type, uploads there, families numbered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from functions.call import Call, checked
from functions.models import MAX_JOBS_PER_REQUEST, ChildRequest, JobRequest
from functions.problems import invalid
from shared.errors import Conflict, FieldError
from shared.job import MAX_DEPTH, NewJob, new_id
from shared.parameters import ProgramParams
from shared.settings import Settings
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import Asset, JobStore
from shared.types import JobParams, JobType, is_url

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Planned:
    """A job to be made, where in the request it stands (`""` or `children.0.`), and its parameters."""

    job: NewJob
    at: str
    params: JobParams

    @property
    def sources(self) -> dict[str, str]:
        """What it reads, by field."""
        return self.params.sources


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
        key = request.child_key or job.id
        job = replace(job, parent_id=request.parent_id, phase=request.phase or "core", child_key=key)
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


def ready_assets(planned: list[Planned], store: JobStore, storage: StorageAdapter, caller: str) -> dict[str, Asset]:
    """The uploads that the jobs read, each the caller's and complete; one read for all of them.

    Raises `Invalid` for one that is missing or another caller's, `Conflict` for one that is still on its way.
    """
    wanted = {
        source: f"{one.at}params.{path}"
        for one in reversed(planned)
        for path, source in reversed(one.sources.items())
        if not is_url(source)
    }
    ready = ready_uploads(wanted, store, storage, caller)
    if large := [
        FieldError(f"{one.at}params.{fault.field}", fault.message)
        for one in planned
        if isinstance(one.params, ProgramParams)
        for fault in one.params.oversized({asset_id: asset.size_bytes for asset_id, asset in ready.items()})
    ]:
        raise invalid(large)
    return ready


def ready_uploads(wanted: Mapping[str, str], store: JobStore, storage: StorageAdapter, caller: str) -> dict[str, Asset]:
    """The uploads by id, each the caller's and complete; `wanted` says which field of the request names it."""
    known = store.assets(list(wanted))
    ready = {}
    for asset_id, path in wanted.items():
        asset = known.get(asset_id)
        if asset is None or asset.owner != caller or asset.state == "deleting":
            raise invalid(
                [FieldError(path, f"there is no upload {asset_id}; send the file with POST /api/uploads first")]
            )
        ready[asset_id] = completed(asset, store, storage)
    return ready


def named(planned: Planned, assets: dict[str, Asset]) -> NewJob:
    """The job under the name of the first thing it works on: its uploaded file, or the end of its link."""
    source = next(iter(planned.sources.values()), None)
    if source is None:
        return planned.job
    if source in assets:
        return replace(planned.job, name=assets[source].filename)
    parts = urlsplit(source)
    return replace(planned.job, name=unquote(PurePosixPath(parts.path).name) or parts.hostname)


def completed(asset: Asset, store: JobStore, storage: StorageAdapter) -> Asset:
    """The upload, ready. Raises `Conflict` while its bytes are not all there."""
    if asset.state == "ready":
        return asset
    stored = storage.stat(asset.key) or storage.join_parts(asset.key, size_bytes=asset.size_bytes)
    if stored is None or stored.size_bytes != asset.size_bytes:
        raise Conflict(f"The upload {asset.id} ({asset.filename}) is not finished; send all its bytes, then try again.")
    return store.asset_ready(asset.id, sha256=stored.sha256)


def _misplaced(request: JobRequest, settings: Settings) -> Iterator[FieldError]:
    """Fields that only children have, or that children have not."""
    if request.run_at is not None and not _kind(request.type, settings, "").stages:
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


def _kind(name: str, settings: Settings, at: str) -> JobType:
    """The type a job can be made of here. Raises `Invalid`."""
    kind = settings.job_types.get(name)
    if kind is None:
        sentence = f"there is no program {name!r} here; GET /api/job-types lists those that are registered"
        raise invalid([FieldError(f"{at}type", sentence)])
    if kind.kind == "agent":
        raise invalid([FieldError(f"{at}type", f"{name} talks in sessions; begin one with POST /api/sessions")])
    return kind


def _family(request: JobRequest | ChildRequest, parent: Planned, settings: Settings, depth: int) -> Iterator[Planned]:
    if request.children and depth >= MAX_DEPTH:
        raise invalid([FieldError(f"{parent.at}children", f"a family is at most {MAX_DEPTH} levels deep")])
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


def _planned(request: JobRequest | ChildRequest, settings: Settings, caller: str, at: str) -> Planned:
    kind = _kind(request.type, settings, at)
    params = checked(kind.params, request.params, f"{at}params")
    longest_s = settings.timeout_s(request.type)
    if request.timeout_s is not None and request.timeout_s > longest_s:
        raise invalid([FieldError(f"{at}timeout_s", f"may be at most {longest_s:g} for {request.type}")])
    job = NewJob(
        id=new_id(),
        type=request.type,
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
    return Planned(job, at, params)
