"""The job types this worker can run: one file each, stages are data."""

from __future__ import annotations

from typing import Any

from worker.pipelines.check import CHECK
from worker.pipelines.collect import COLLECT
from worker.pipelines.edit import EDIT
from worker.pipelines.ingest import INGEST
from worker.pipelines.maintenance import MAINTENANCE
from worker.pipelines.render import RENDER
from worker.pipelines.report import REPORT
from worker.pipelines.thumbnail import THUMBNAIL
from worker.run import Pipeline

PIPELINES: dict[str, Pipeline[Any]] = {
    pipeline.type: pipeline for pipeline in (INGEST, EDIT, RENDER, COLLECT, REPORT, THUMBNAIL, CHECK, MAINTENANCE)
}
