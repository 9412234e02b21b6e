"""The job types: what each takes, which stages it runs, and its limits. `GET /api/job-types` publishes this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from shared.types.agent import AgentParams
from shared.types.base import LOSSY, JobParams, OutputSpec, Params, is_url
from shared.types.check import CheckParams
from shared.types.collect import CollectParams
from shared.types.edit import EditParams
from shared.types.episode import EpisodeParams
from shared.types.flow import FlowParams
from shared.types.ingest import IngestParams
from shared.types.maintenance import MaintenanceParams
from shared.types.render import RenderParams
from shared.types.report import QualityReport, ReportParams
from shared.types.thumbnail import ThumbnailParams

__all__ = [
    "JOB_TYPES",
    "LOSSY",
    "AgentParams",
    "CheckParams",
    "CollectParams",
    "EditParams",
    "EpisodeParams",
    "FlowParams",
    "IngestParams",
    "JobParams",
    "JobType",
    "MaintenanceParams",
    "OutputSpec",
    "Params",
    "QualityReport",
    "RenderParams",
    "ReportParams",
    "ThumbnailParams",
    "is_url",
]


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job. Without stages it is a parent: it only waits for its children."""

    name: str
    title: str
    params: type[JobParams]
    stages: tuple[str, ...]
    timeout_s: float
    stall_s: float
    max_failures: int = 2
    on_child_failure: Literal["fail", "continue"] = "fail"
    #: Programs that an operator registered; a turn of an `agent` is made by its session and not by POST /api/jobs.
    kind: Literal["built_in", "workflow", "agent"] = "built_in"
    #: The JSON files it makes, each with the model whose schema is published.
    documents: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    #: Only who may do everything may queue it.
    admin: bool = False


JOB_TYPES: dict[str, JobType] = {
    kind.name: kind
    for kind in (
        JobType(
            name="ingest",
            title="Master a recording to an exact loudness",
            params=IngestParams,
            stages=("downloading", "analyzing", "normalizing", "encoding", "uploading"),
            timeout_s=3600,
            stall_s=120,
        ),
        JobType(
            name="collect",
            title="Take new recordings from a feed, a playlist or a page",
            params=CollectParams,
            stages=("fetching", "spawning"),
            timeout_s=86_400,
            stall_s=120,
            on_child_failure="continue",
        ),
        JobType(
            name="edit",
            title="Apply an edit list to one or several recordings",
            params=EditParams,
            stages=("downloading", "editing", "encoding", "uploading"),
            timeout_s=3600,
            stall_s=120,
        ),
        JobType(
            name="render",
            title="Mix tracks, music, intro and outro into a finished show",
            params=RenderParams,
            stages=("downloading", "mixing", "normalizing", "encoding", "uploading"),
            timeout_s=7200,
            stall_s=120,
        ),
        JobType(
            name="report",
            title="Look at a recording: what is right, what is not, and what to do",
            params=ReportParams,
            stages=("downloading", "analyzing", "uploading"),
            timeout_s=3600,
            stall_s=120,
            documents={"report.json": QualityReport},
        ),
        JobType(
            name="thumbnail",
            title="Make pictures of a picture, a film or a sound",
            params=ThumbnailParams,
            stages=("downloading", "rendering", "uploading"),
            timeout_s=1800,
            stall_s=120,
        ),
        JobType(
            name="maintenance",
            title="Keep a deployment well: prune, vacuum, integrity, backup, restore-check, orphans",
            params=MaintenanceParams,
            stages=("maintaining",),
            timeout_s=3600,
            stall_s=3600,
            admin=True,
        ),
        JobType(
            name="check",
            title="Look whether a file is what other jobs need",
            params=CheckParams,
            stages=("downloading", "checking"),
            timeout_s=1800,
            stall_s=120,
        ),
        JobType(
            name="episode",
            title="Make a whole episode: check every file, master every track, mix",
            params=EpisodeParams,
            stages=(),
            timeout_s=86_400,
            stall_s=86_400,
        ),
        JobType(
            name="flow",
            title="Run several jobs as one",
            params=FlowParams,
            stages=(),
            timeout_s=86_400,
            stall_s=86_400,
        ),
    )
}
