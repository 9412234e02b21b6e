"""The job types: what each takes, which stages it runs, and its limits. `GET /api/job-types` publishes this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

from shared.types.base import LOSSY, JobParams, OutputSpec, Params, is_url

if TYPE_CHECKING:
    from pydantic import BaseModel

    from shared.types.agent import AgentParams
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
    "PROGRAM_NAME",
    "PROGRAM_TYPE",
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


PROGRAM_NAME = r"[a-z][a-z0-9_-]{0,39}"
#: The name of a registered program's job type.
PROGRAM_TYPE = rf"(agent|workflow):{PROGRAM_NAME}"
#: Where the models are. Each is loaded when it is asked for: a function that starts cold needs one of them, if any.
_MODULES = {
    "AgentParams": "agent",
    "CheckParams": "check",
    "CollectParams": "collect",
    "EditParams": "edit",
    "EpisodeParams": "episode",
    "FlowParams": "flow",
    "IngestParams": "ingest",
    "MaintenanceParams": "maintenance",
    "QualityReport": "report",
    "RenderParams": "render",
    "ReportParams": "report",
    "ThumbnailParams": "thumbnail",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a model
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job. Without stages it is a parent: it only waits for its children.

    `takes` is the model of its parameters, or the name of one in this module; `makes` are the JSON files it makes, with
    the names of the models whose schemas are published.
    """

    name: str
    title: str
    takes: type[JobParams] | str
    stages: tuple[str, ...]
    timeout_s: float
    stall_s: float
    max_failures: int = 2
    on_child_failure: Literal["fail", "continue"] = "fail"
    #: Programs that an operator registered; a turn of an `agent` is made by its session and not by POST /api/jobs.
    kind: Literal["built_in", "workflow", "agent"] = "built_in"
    makes: Mapping[str, str] = field(default_factory=dict)
    #: Only who may do everything may queue it.
    admin: bool = False

    @property
    def params(self) -> type[JobParams]:
        """The model of its parameters."""
        return cast("type[JobParams]", __getattr__(self.takes)) if isinstance(self.takes, str) else self.takes

    @property
    def documents(self) -> dict[str, type[BaseModel]]:
        """The models of the files it makes."""
        return {file: __getattr__(name) for file, name in self.makes.items()}


JOB_TYPES: dict[str, JobType] = {
    kind.name: kind
    for kind in (
        JobType(
            name="ingest",
            title="Master a recording to an exact loudness",
            takes="IngestParams",
            stages=("downloading", "analyzing", "normalizing", "encoding", "uploading"),
            timeout_s=3600,
            stall_s=120,
        ),
        JobType(
            name="collect",
            title="Take new recordings from a feed, a playlist or a page",
            takes="CollectParams",
            stages=("fetching", "spawning"),
            timeout_s=86_400,
            stall_s=120,
            on_child_failure="continue",
        ),
        JobType(
            name="edit",
            title="Apply an edit list to one or several recordings",
            takes="EditParams",
            stages=("downloading", "editing", "encoding", "uploading"),
            timeout_s=3600,
            stall_s=120,
        ),
        JobType(
            name="render",
            title="Mix tracks, music, intro and outro into a finished show",
            takes="RenderParams",
            stages=("downloading", "mixing", "normalizing", "encoding", "uploading"),
            timeout_s=7200,
            stall_s=120,
        ),
        JobType(
            name="report",
            title="Look at a recording: what is right, what is not, and what to do",
            takes="ReportParams",
            stages=("downloading", "analyzing", "uploading"),
            timeout_s=3600,
            stall_s=120,
            makes={"report.json": "QualityReport"},
        ),
        JobType(
            name="thumbnail",
            title="Make pictures of a picture, a film or a sound",
            takes="ThumbnailParams",
            stages=("downloading", "rendering", "uploading"),
            timeout_s=1800,
            stall_s=120,
        ),
        JobType(
            name="maintenance",
            title="Keep a deployment well: prune, vacuum, integrity, backup, restore-check, orphans",
            takes="MaintenanceParams",
            stages=("maintaining",),
            timeout_s=3600,
            stall_s=3600,
            admin=True,
        ),
        JobType(
            name="check",
            title="Look whether a file is what other jobs need",
            takes="CheckParams",
            stages=("downloading", "checking"),
            timeout_s=1800,
            stall_s=120,
        ),
        JobType(
            name="episode",
            title="Make a whole episode: check every file, master every track, mix",
            takes="EpisodeParams",
            stages=(),
            timeout_s=86_400,
            stall_s=86_400,
        ),
        JobType(
            name="flow",
            title="Run several jobs as one",
            takes="FlowParams",
            stages=(),
            timeout_s=86_400,
            stall_s=86_400,
        ),
    )
}
