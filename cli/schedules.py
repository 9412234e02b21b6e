"""What `spool schedules` says, and the schedules that keep a deployment well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.client import Client

#: What keeps a deployment well without anybody looking: at night, one after the other.
DEFAULTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "backup": ("0 3 * * *", {"duty": "backup", "keep": 7}),
    "restore-check": ("0 4 * * 0", {"duty": "restore-check"}),
    "vacuum": ("30 4 * * *", {"duty": "vacuum"}),
    "integrity": ("0 5 * * 0", {"duty": "integrity"}),
    "orphans": ("30 5 * * 0", {"duty": "orphans", "delete": True}),
}


def add_defaults(client: Client) -> list[dict[str, Any]]:
    """Add those of the usual schedules that are not there; returns them."""
    there = {one["name"] for one in client.schedules()}
    return [
        client.put_schedule(name, {"cron": cron, "type": "maintenance", "params": params})
        for name, (cron, params) in DEFAULTS.items()
        if name not in there
    ]


def table(schedules: Sequence[Mapping[str, Any]]) -> Table:
    """The schedules for a person."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "WHEN (UTC)", "TYPE", "NEXT", "LAST JOB"):
        made.add_column(title, no_wrap=True)
    for one in schedules:
        what = one["params"].get("duty")
        kind = f"{one['type']} {what}" if what else one["type"]
        made.add_row(one["name"], one["cron"], escape(kind), one["next_at"] or "paused", one["last_job_id"] or "never")
    return made


def line(one: Mapping[str, Any]) -> str:
    """One schedule in a sentence."""
    if one["paused"]:
        return f"{one['name']}: paused. Go on: spool schedules resume {one['name']}"
    return f"{one['name']}: {one['type']}, next at {one['next_at']}"
