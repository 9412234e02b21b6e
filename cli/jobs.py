"""What the job commands print: tables and lines for a person, JSON for a program."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.client import Client
from cli.errors import CommandError, Unreachable
from cli.live import PATIENCE_S, duration_text, size_text, stage_text, summary, took_s
from cli.steering import steering_line
from cli.views import EventView, JobView, ended_badly, is_terminal

if TYPE_CHECKING:
    from shared.presets import Preset

#: A log is asked for new lines this often: workers hand theirs in with their heartbeats.
_LOG_S = 0.5
#: What shared/health.py calls silent, without all that it imports.
SILENT_S = 65.0
_STYLES = {"completed": "green", "running": "cyan", "failed": "red", "dead_letter": "red", "cancelled": "dim"}


def print_json(value: object) -> None:
    """One JSON document on one line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def job_table(jobs: Sequence[JobView]) -> Table:
    """Jobs with where they stand; ids are whole, to be copied."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ID", "TYPE", "STATUS", "WHERE", "AGE", "TOOK"):
        table.add_column(title, no_wrap=True, justify="right" if title in {"AGE", "TOOK"} else "left")
    now = datetime.now(UTC)
    for job in jobs:
        style = _STYLES.get(job["status"], "default")
        age_s = (now - datetime.fromisoformat(job["created_at"])).total_seconds()
        seconds = took_s(job)
        table.add_row(
            job["id"],
            escape(job["type"]),
            f"[{style}]{job['status']}[/]",
            escape(_where(job)),
            duration_text(max(0.0, age_s)),
            "" if seconds is None else duration_text(seconds),
        )
    return table


def preset_table(presets: Sequence[Preset]) -> Table:
    """Loudness targets with their numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("PRESET", "LUFS", "DBTP", "FOR"):
        table.add_column(title, no_wrap=True, justify="right" if title in {"LUFS", "DBTP"} else "left")
    for one in presets:
        table.add_row(one.name, f"{one.target_lufs:g}", f"{one.ceiling_dbtp:g}", escape(one.title))
    return table


def details(job: JobView, children: Sequence[JobView]) -> list[str]:
    """Everything a person asks about one job, in lines."""
    lines = [f"{job['type']} {job['id']}", f"  status    {job['status']}" + (", stopping" if job["cancelling"] else "")]
    if not is_terminal(job):
        lines.append(f"  now       {stage_text(job)}{_percent(job)}")
    lines.append(f"  attempt   {job['attempt']} ({job['failures']} of {job['max_failures']} failures used)")
    lines += [f"  {label:<9} {job[key]}" for label, key in _TIMES if job[key]]  # type: ignore[literal-required]  # keys of JobView
    if job["tags"]:
        lines.append(f"  tags      {', '.join(job['tags'])}")
    if job["retry_of"]:
        lines.append(f"  retry of  {job['retry_of']}")
    if job["parent_id"]:
        lines.append(f"  parent    {job['parent_id']}")
    lines.append(f"  params    {json.dumps(job['params'], ensure_ascii=False)}")
    lines += [f"  child     {child['id']}  {child['phase']}  {child['type']}  {child['status']}" for child in children]
    if is_terminal(job):
        lines += ["", *summary(job["type"], job)]
    lines += [
        f"  {output['name']}: {output['content_type']}, {size_text(output['size_bytes'])}" for output in job["outputs"]
    ]
    return lines


def cancelled_text(client: Client, job_id: str) -> tuple[JobView, str]:
    """Cancel a job; returns it and what that did. Raises when it had ended otherwise."""
    job = client.cancel(job_id)
    if not is_terminal(job):
        return job, f"{job_id}: stopping. See it end: spool watch {job_id}"
    if job["status"] != "cancelled":
        raise CommandError(f"{job_id} has ended already ({job['status']}); there is nothing to cancel.")
    return job, f"{job_id}: cancelled"


def history(client: Client, job_id: str, *, level: str, keep_on: bool, page: int = 500) -> Iterator[EventView]:
    """A job's events, oldest first; with `keep_on` until the job has ended and its last line is read."""
    after, etag, ended = 0, None, not keep_on
    answered_at: float | None = None
    while True:
        try:
            events = client.events(job_id, after=after, level=level, limit=page)
            answered_at = time.monotonic()
            yield from events
            after = max([after, *(event["id"] for event in events)])
            if events:
                continue
            if ended:
                return
            job, etag = client.job_if_changed(job_id, etag, wait_s=1 if etag else 0)
            ended = job is not None and is_terminal(job)
            time.sleep(0 if ended else max(0.0, answered_at + _LOG_S - time.monotonic()))
        except Unreachable:
            if answered_at is None or time.monotonic() - answered_at > PATIENCE_S:
                raise
            time.sleep(_LOG_S)


def stats_lines(stats: Mapping[str, Any]) -> list[str]:
    """The queue in a few lines."""
    lines = [f"Last {stats['hours']} hours, and what is unfinished:"]
    lines += [f"  {count:>7}  {status}" for status, count in stats["states"].items() if count]
    if not any(stats["states"].values()):
        lines.append("  no jobs")
    if stats["oldest_waiting_s"] is not None:
        lines.append(f"The oldest waiting job has waited {duration_text(stats['oldest_waiting_s'])}.")
    if stats["failure_rate"] is not None:
        lines.append(f"Completed per hour: {stats['completed_per_hour']:g}; failed: {stats['failure_rate']:.1%}")
    for key, words in (("wait_ms", "Waiting"), ("run_ms", "Running")):
        if stats[key] is not None:
            half, most, nearly_all = (f"{stats[key][p] / 1000:.1f} s" for p in ("p50", "p95", "p99"))
            lines.append(f"{words}: half under {half}, 95 % under {most}, 99 % under {nearly_all}")
    lines += [steering_line(one) for one in stats["steering"]]
    workers = [line for one in stats["workers"] for line in _worker_lines(one, stats["at"])]
    return [
        *lines,
        "Workers heard of in the last ten minutes:",
        *(workers or ["  none: start one with `spool worker`"]),
    ]


def _worker_lines(one: Mapping[str, Any], at: str) -> list[str]:
    """What it is at, and whether it is still heard of."""
    silent_s = (datetime.fromisoformat(at) - datetime.fromisoformat(one["seen_at"])).total_seconds()
    silent = f"; silent for {duration_text(silent_s)}: it hangs, or it is gone" if silent_s > SILENT_S else ""
    jobs = [
        f"    {job['type']} {job['title'] or job['id']}: {job['stage'] or 'starting'} ({job['id']})"
        for job in one["jobs"]
    ]
    return [f"  {one['host']}: {one['running']} of {one['slots']} slots busy{silent}", *jobs]


def print_event(console: Console, event: EventView) -> None:
    """One line of history."""
    style = {"error": "red", "warn": "yellow", "debug": "dim"}.get(event["level"], "default")
    at = datetime.fromisoformat(event["at"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    data = " " + json.dumps(event["data"], ensure_ascii=False) if event["data"] else ""
    line = f"{at}  {event['attempt']}  {event['level']:<5}  {event['message']}{data}"
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _where(job: JobView) -> str:
    if not is_terminal(job):
        return stage_text(job) + _percent(job)
    error = job["error"] if ended_badly(job) else None
    return "" if error is None else error["code"]


def _percent(job: JobView) -> str:
    return "" if job["progress"] is None or job["status"] != "running" else f", {job['progress']:.0f} %"


_TIMES = (("created", "created_at"), ("due", "run_at"), ("started", "started_at"), ("ended", "completed_at"))
