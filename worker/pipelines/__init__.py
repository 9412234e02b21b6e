"""The job types this worker can run: one file each, stages are data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.programs import Program
from worker.pipelines.agent import agent_pipeline
from worker.pipelines.check import CHECK
from worker.pipelines.collect import COLLECT
from worker.pipelines.edit import EDIT
from worker.pipelines.ingest import INGEST
from worker.pipelines.maintenance import MAINTENANCE
from worker.pipelines.render import RENDER
from worker.pipelines.report import REPORT
from worker.pipelines.thumbnail import THUMBNAIL
from worker.pipelines.workflow import workflow_pipeline
from worker.pool import Pools
from worker.run import Pipeline

PIPELINES: dict[str, Pipeline[Any]] = {
    pipeline.type: pipeline for pipeline in (INGEST, EDIT, RENDER, COLLECT, REPORT, THUMBNAIL, CHECK, MAINTENANCE)
}


def pipelines(programs: Mapping[str, Program], pools: Pools) -> dict[str, Pipeline[Any]]:
    """The built-in types, and the programs that are on this machine; `pools` are the long-lived ones of them."""
    registered: dict[str, Pipeline[Any]] = {
        name: agent_pipeline(program) if program.kind == "agent" else workflow_pipeline(program, pools)
        for name, program in programs.items()
    }
    return PIPELINES | registered
