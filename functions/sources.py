"""What new jobs read, looked at before they are queued: uploads, and files that other jobs have made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from functions.problems import invalid
from shared.errors import Conflict, FieldError
from shared.job import PHASES, TERMINAL, NewJob
from shared.references import Reference, is_reference, output_of, reference
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import JobStore
from shared.store.values import Asset, Made, Sources
from shared.types import JobParams, is_url
from shared.types.base import Member


@dataclass(frozen=True, slots=True)
class Planned:
    """A job to be made, where in the request it stands (`""` or `children.0.`), and its parameters.

    `at` is None for a child that a request did not name: its parent's type did, and what it reads is its parent's.
    """

    job: NewJob
    at: str | None
    params: JobParams
    members: tuple[Member, ...] = ()

    @property
    def sources(self) -> dict[str, str]:
        """What it reads, by field."""
        return self.params.sources


@dataclass(frozen=True, slots=True)
class Read:
    """One source of a planned job: the field that names it, and the file of another job where it is one."""

    planned: Planned
    field: str
    source: str
    named: Reference | None


def ready_sources(planned: Sequence[Planned], store: JobStore, storage: StorageAdapter, caller: str) -> Sources:
    """What the jobs read: each upload the caller's and complete, each file of another job there; one read for all.

    Raises `Invalid` for what is not there, `Conflict` for an upload that is still on its way.
    """
    reads = list(_reads(planned))
    if wrong := [error for read in reads if (error := _misplaced(read, planned)) is not None]:
        raise invalid(wrong)
    joins = planned[0].job.parent_id
    assets = {read.source: read.field for read in reversed(reads) if read.named is None and not is_url(read.source)}
    jobs = dict.fromkeys(read.named.key for read in reads if read.named and read.named.to == "job")
    siblings = dict.fromkeys(
        read.named.key for read in reads if read.named and read.named.to == "child" and read.planned is planned[0]
    )
    found = store.sources(list(assets), list(jobs), parent_id=joins, child_keys=list(siblings))
    ready = _ready(assets, found.assets, store, storage, caller)
    if wrong := [error for read in reads if (error := _missing(read, planned[0], found)) is not None]:
        raise invalid(wrong)
    found = replace(found, assets=ready)
    if wrong := [error for one in planned for error in _oversized(one, found)]:
        raise invalid(wrong)
    return found


def ready_uploads(wanted: Mapping[str, str], store: JobStore, storage: StorageAdapter, caller: str) -> dict[str, Asset]:
    """The uploads by id, each the caller's and complete; `wanted` says which field of the request names it."""
    return _ready(wanted, store.sources(list(wanted)).assets, store, storage, caller)


def named(planned: Planned, found: Sources) -> NewJob:
    """The job under the name of the first thing it works on: an uploaded file, another job's, or the end of a link."""
    source = next(iter(planned.sources.values()), None)
    if source is None or planned.job.name is not None:
        return planned.job
    if source in found.assets:
        return replace(planned.job, name=found.assets[source].filename)
    if is_reference(source):
        of = reference(source)
        made = found.jobs.get(of.key)
        return replace(planned.job, name=of.key if made is None else made.name or of.output)
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


def _ready(
    wanted: Mapping[str, str], known: Mapping[str, Asset], store: JobStore, storage: StorageAdapter, caller: str
) -> dict[str, Asset]:
    ready = {}
    for asset_id, path in wanted.items():
        asset = known.get(asset_id)
        if asset is None or asset.owner != caller or asset.state == "deleting":
            sentence = f"there is no upload {asset_id}; send the file with POST /api/uploads first"
            if "://" in asset_id:
                sentence = f"{asset_id} is no link that is followed; give one of http or https, or upload the file"
            raise invalid([FieldError(path, sentence)])
        ready[asset_id] = completed(asset, store, storage)
    return ready


def _oversized(planned: Planned, found: Sources) -> Iterator[FieldError]:
    """Files that are larger than the job takes, as far as their sizes are known."""
    sizes = {asset_id: asset.size_bytes for asset_id, asset in found.assets.items()}
    for source in planned.sources.values():
        if is_reference(source) and (made := found.jobs.get((of := reference(source)).key)):
            sizes[source] = output_of(of, made).size_bytes
    for fault in planned.params.oversized(sizes):
        yield FieldError(f"{planned.at}params.{fault.field}", fault.message)


def _reads(planned: Sequence[Planned]) -> Iterator[Read]:
    for one in planned:
        for path, source in one.sources.items() if one.at is not None else ():
            field = f"{one.at}params.{path}"
            try:
                yield Read(one, field, source, reference(source) if is_reference(source) else None)
            except ValueError as error:
                raise invalid([FieldError(field, str(error))]) from None


def _misplaced(read: Read, planned: Sequence[Planned]) -> FieldError | None:
    """What is wrong with a sibling's file, as far as the request itself tells."""
    job, of = read.planned.job, read.named
    if of is None or of.to == "job":
        return None
    if read.planned.members:
        return FieldError(
            read.field, "names a sibling's file, and its own children read it; write job:<job id>/<output>"
        )
    if job.parent_id is None:
        return FieldError(read.field, "names a sibling's file, and this job has no parent; write job:<job id>/<output>")
    if read.planned is planned[0]:
        return None
    sibling = next(
        (one.job for one in planned if (one.job.parent_id, one.job.child_key) == (job.parent_id, of.key)), None
    )
    if sibling is None:
        return FieldError(read.field, f"there is no {of.what} beside it; check the child_key")
    return _too_late(read, sibling)


def _missing(read: Read, root: Planned, found: Sources) -> FieldError | None:
    """What is wrong with another job's file, as far as the queue tells."""
    of = read.named
    if of is None or (of.to == "child" and read.planned is not root):
        return None
    made = found.jobs.get(of.key) if of.to == "job" else found.children.get(of.key)
    if of.to == "child" and made is not None:
        if late := _too_late(read, made):
            return late
        if made.status not in TERMINAL:  # its phase is an earlier one: it will have ended when this job begins
            return None
    try:
        output_of(of, made)
    except LookupError as error:
        return FieldError(read.field, str(error))
    return None


def _too_late(read: Read, sibling: NewJob | Made) -> FieldError | None:
    """A sibling's file is there when this job begins only if the sibling's phase is an earlier one."""
    phase, own = sibling.phase or "core", read.planned.job.phase or "core"
    if PHASES.index(phase) < PHASES.index(own):
        return None
    return FieldError(read.field, f"names a child of phase {phase}, which does not come before {own}")
