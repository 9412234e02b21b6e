"""When a schedule is due, and the job that it makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

from shared.job import NewJob, new_id

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.store.values import Schedule


def next_after(cron: str, at_ms: int) -> int:
    """The first time after a moment, both in milliseconds UTC. Raises `ValueError` with the rest of a sentence."""
    if len(cron.split()) != 5:
        raise ValueError("has not five fields: minute, hour, day of month, month, day of week; such as 0 3 * * *")
    try:
        return round(next(CronSim(cron, datetime.fromtimestamp(at_ms / 1000, UTC))).timestamp() * 1000)
    except CronSimError as error:
        raise ValueError(f"cannot be read ({error}); write it like 0 3 * * *, every day at 3:00 UTC") from None
    except StopIteration:
        raise ValueError("never comes; choose a day that there is") from None


def job_of(schedule: Schedule, settings: Settings) -> NewJob:
    """A new job of a schedule, which finds it again by its tag."""
    kind = settings.job_types[schedule.type]
    return NewJob(
        id=new_id(),
        type=schedule.type,
        name=schedule.name,
        params=schedule.params,
        max_failures=kind.max_failures,
        timeout_s=settings.timeout_s(kind.name),
        on_child_failure=kind.on_child_failure,
        tags=(f"schedule:{schedule.name}",),
        caller=schedule.caller,
        schedule=schedule.name,
    )
