"""What the steering commands say: many jobs at once, and job types that rest or are limited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.client import Client
from cli.errors import USAGE, CommandError
from cli.views import JobView

if TYPE_CHECKING:
    from shared.store.values import Steering


def selection(
    job_ids: list[str] | None,
    *,
    everything: bool,
    status: str | None,
    job_type: str | None,
    tag: str | None,
    text: str | None,
    error: str | None = None,
) -> dict[str, Any] | None:
    """The filter of many jobs, or None where ids are given. Raises `CommandError` for both or neither."""
    given = {"status": status, "type": job_type, "tag": tag, "text": text, "error": error, "all": everything or None}
    where = {name: value for name, value in given.items() if value is not None}
    if bool(job_ids) == bool(where):
        raise CommandError(
            "Give ids of jobs, or what they have in common: --type, --status, --tag, --text, or --all.", USAGE
        )
    return where or None


def cancelled_many(client: Client, where: Mapping[str, Any]) -> tuple[dict[str, int], str]:
    """Cancel all that match; returns how many, and what to say."""
    done = client.cancel_many(where)
    if not any(done.values()):
        return done, "No unfinished job matches."
    stopping = f"; {done['stopping']:,} more are stopping" if done["stopping"] else ""
    return done, f"{done['cancelled']:,} cancelled{stopping}."


def retried_many(client: Client, where: Mapping[str, Any]) -> tuple[dict[str, int], str]:
    """Run all that match again; returns how many, and what to say."""
    done = client.retry_many(where)
    if not any(done.values()):
        return done, "No failed job matches."
    skipped = f"; {done['skipped']:,} were run again before, or with their family" if done["skipped"] else ""
    return done, f"{done['retried']:,} queued again{skipped}."


def retried(client: Client, job_id: str) -> tuple[JobView, str]:
    """Run one again; returns the new job, and what to say."""
    job = client.retry(job_id)
    return job, f"Queued again as {job['id']}. Follow it: spool watch {job['id']}"


def steering_line(one: Mapping[str, Any]) -> str:
    """How jobs of a type are taken."""
    name, most = one["type"], one["max_running"]
    if one["paused_at"] is not None:
        limit = f"; then at most {most} at once" if most is not None else ""
        return f"{name}: paused since {one['paused_at']}{limit}. Go on: spool resume {name}"
    if most is not None:
        return f"{name}: {one['running']} of at most {most} run. Lift the limit: spool limit {name} none"
    return f"{name}: neither paused nor limited."


def as_told(one: Steering) -> dict[str, Any]:
    """A job type's steering as the API tells it."""
    since = None if one.paused_at is None else f"{datetime.fromtimestamp(one.paused_at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {**asdict(one), "paused_at": since}


def at_once(text: str) -> int | None:
    """The limit as a person gives it. Raises `CommandError`."""
    if text == "none":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise CommandError(f"{text!r} is no limit; give a number from 1 to 10,000, or none.", USAGE)
    return int(text)
