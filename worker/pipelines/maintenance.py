"""`maintenance`: one duty that keeps a deployment well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.types.maintenance import MaintenanceParams
from worker.run import Pipeline, Run, Stage
from worker.upkeep import DUTIES


@dataclass(slots=True)
class MaintenanceState:
    """What was asked, and what came of it."""

    params: MaintenanceParams
    facts: dict[str, Any] = field(default_factory=dict)


def begin(run: Run) -> MaintenanceState:
    """The duty as the job names it."""
    return MaintenanceState(MaintenanceParams.model_validate(run.job.params))


def maintain(run: Run, state: MaintenanceState) -> None:
    """Do it."""
    state.facts = DUTIES[state.params.duty](run, state.params)
    run.report.log("info", f"{state.params.duty} done", **state.facts)


def result(state: MaintenanceState) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """What was done; no files, since a copy of the queue is not for everybody who may read jobs."""
    return {"duty": state.params.duty, **state.facts}, ()


MAINTENANCE: Pipeline[MaintenanceState] = Pipeline(
    type="maintenance", begin=begin, stages=(Stage("maintaining", maintain),), result=result
)
