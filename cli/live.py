"""What a person sees while jobs run: live bars in a terminal, one line per stage elsewhere, nothing for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cli.client import Client
from cli.errors import Unreachable
from cli.views import JobView, ended_badly, is_terminal
from shared.job import PHASES

#: How long one request for a single job may wait on the server for a change.
WAIT_S = 15
#: How long a watched server may be gone, for a restart say, before watching gives up.
PATIENCE_S = 60.0
_AT_MOST_EVERY_S = 0.1


class View(Protocol):
    """Where uploads and jobs show how far they are; a context manager. `tells_history` asks for every stage."""

    tells_history: bool

    def moving(self, name: str, what: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a file have been moved; `what` is `sending` or `saving`."""

    def job(self, name: str, job: JobView) -> None:
        """The job has changed."""

    def stage(self, name: str, text: str) -> None:
        """A stage has begun; only called where history is told."""

    def note(self, sentence: str) -> None:
        """Something worth knowing happened."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def view_for(console: Console, *, quiet: bool = False) -> View:
    """Bars in a terminal, lines elsewhere, silence when a program reads."""
    if quiet:
        return Silence()
    return Bars(console) if console.is_terminal else Lines(console)


@dataclass
class _Followed:
    """A job on its way to the end; `due` is when to ask for it next."""

    name: str
    due: float
    job: JobView | None = None
    etag: str | None = None
    last_event: int = 0


def follow(
    client: Client, names: Mapping[str, str], view: View, *, each_turn: Callable[[], None] | None = None
) -> list[JobView]:
    """Watch jobs (id to name) until each has ended; returns them in the order given.

    The only job, or the only running one, is awaited on the server. All others, and every job of a server that does
    not wait, are asked for when it says that it is worth it (`poll_after_ms`). Raises `Unreachable` when the server
    has been gone for a minute.
    """
    followed = {job_id: _Followed(name, time.monotonic()) for job_id, name in names.items()}
    server_waits = True
    answered_at = time.monotonic()
    while left := {job_id: one for job_id, one in followed.items() if one.job is None or not is_terminal(one.job)}:
        job_id, one = min(left.items(), key=lambda item: item[1].due)
        time.sleep(max(0.0, one.due - time.monotonic()))
        if each_turn is not None:
            each_turn()
        began = time.monotonic()
        wait_s = _wait_s(one, left.values()) if server_waits else 0
        try:
            job, one.etag = client.job_if_changed(job_id, one.etag, wait_s=wait_s)
            if job is not None:
                one.job = job
                if view.tells_history:
                    one.last_event = _tell_stages(client, job_id, one, view)
                view.job(one.name, job)
        except Unreachable:
            if began - answered_at > PATIENCE_S:
                raise
            view.note("The server does not answer; the jobs are safe. Trying again for a minute.")
            one.due = time.monotonic() + 1
            continue
        answered_at = time.monotonic()
        if job is None and answered_at - began < wait_s / 2:
            server_waits = False
        pause_s = _AT_MOST_EVERY_S if wait_s and server_waits else (one.job["poll_after_ms"] / 1000 if one.job else 1)
        one.due = began + pause_s
    return [one.job for one in followed.values() if one.job is not None]


def _wait_s(one: _Followed, left: Collection[_Followed]) -> int:
    """How long the server may hold the answer; without an ETag it would keep the state as it is from us."""
    if one.etag is None:
        return 0
    if len(left) == 1:
        return WAIT_S
    running = [other for other in left if other.job is not None and other.job["status"] == "running"]
    return 1 if running == [one] else 0


def _tell_stages(client: Client, job_id: str, one: _Followed, view: View) -> int:
    """Tell the stages since the last time, those too that came and went between two answers."""
    events = client.events(job_id, after=one.last_event, level="info")
    for event in events:
        if event["kind"] == "stage":
            data = event["data"] or {}
            view.stage(one.name, f"{event['message']} {data.get('index', 0) + 1}/{data.get('count', '?')}")
    return max([one.last_event, *(event["id"] for event in events)])


class Bars:
    """One live line per file and job: name, stage, bar, percent, time left."""

    tells_history = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: dict[str, TaskID] = {}
        self._noted = ""
        self._bars = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[stage]}", style="cyan"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[percent]:>4}"),
            TextColumn("{task.fields[left]}", style="dim"),
            console=console,
        )

    def moving(self, name: str, what: str, done: int, total: int) -> None:
        """Bytes moved, as a bar."""
        self._show(name, what, 100 * done / total if total else None, f"{size_text(done)} of {size_text(total)}")

    def job(self, name: str, job: JobView) -> None:
        """A job's stage as a bar; the bar swings where progress is unknown."""
        if is_terminal(job):
            style = "red" if ended_badly(job) else "green"
            self._show(name, f"[{style}]{job['status']}[/]", 0.0 if ended_badly(job) else 100.0, took_text(job))
            return
        percent = job["progress"]
        children = job["children"]
        if percent is None and job["status"] == "waiting_children" and children and children["total"]:
            percent = 100 * children["done"] / children["total"]
        eta_s = job["eta_s"]
        self._show(name, escape(stage_text(job)), percent, "" if eta_s is None else f"{duration_text(eta_s)} left")

    def stage(self, name: str, text: str) -> None:
        """Bars show the present only."""

    def note(self, sentence: str) -> None:
        """A line above the bars."""
        if sentence != self._noted:
            self._noted = sentence
            self._console.print(sentence, style="yellow", markup=False, highlight=False)

    def _show(self, name: str, stage: str, percent: float | None, left: str) -> None:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = self._bars.add_task(escape(name), stage="", percent="", left="")
        self._bars.update(
            line, total=None if percent is None else 100, completed=percent or 0, stage=f"{stage:<24}",
            percent="" if percent is None else f"{percent:.0f}%", left=left,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()


class Lines:
    """One plain line for each change of stage, for logs and pipes."""

    tells_history = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, str] = {}
        self._ended: set[str] = set()

    def moving(self, name: str, what: str, done: int, total: int) -> None:
        """Said once per file, at its start."""
        self._say(name, f"{what} {size_text(total)}")

    def job(self, name: str, job: JobView) -> None:
        """Said when what it waits for, or how it ended, is new."""
        if is_terminal(job):
            if name not in self._ended:
                self._ended.add(name)
                self._say(name, job["status"])
        elif job["status"] != "running" or job["cancelling"]:
            self._say(name, stage_text(job))

    def stage(self, name: str, text: str) -> None:
        """Said once."""
        self._say(name, text)

    def note(self, sentence: str) -> None:
        """Said when it is new."""
        self._say("", sentence)

    def _say(self, name: str, text: str) -> None:
        if self._last.get(name) != text:
            self._last[name] = text
            line = f"{name}: {text}" if name else text
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


class Silence:
    """For `--json`: a program reads, and only the answer may be printed."""

    tells_history = False

    def moving(self, name: str, what: str, done: int, total: int) -> None:
        """Not shown."""

    def job(self, name: str, job: JobView) -> None:
        """Not shown."""

    def stage(self, name: str, text: str) -> None:
        """Not shown."""

    def note(self, sentence: str) -> None:
        """Not shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


def stage_text(job: JobView) -> str:
    """Where an unfinished job stands, in a few words."""
    children = job["children"]
    place = "" if job["position"] is None else f", number {job['position']}"
    phase = f"{job['stage']}: " if job["stage"] in PHASES else ""
    number = "" if job["stage_index"] is None else f" {job['stage_index'] + 1}/{job['stage_count']}"
    words = {
        "running": f"{job['stage'] or 'starting'}{number}",
        "pending": f"waiting{place}",
        "retrying": f"attempt {job['attempt']} failed, trying again",
        "waiting_children": f"{phase}{children['done']} of {children['total']} parts done" if children else "",
        "scheduled": f"scheduled for {job['run_at']}",
    }
    return "stopping" if job["cancelling"] else words.get(job["status"], job["status"])


def summary(name: str, job: JobView) -> list[str]:
    """What became of an ended job, in a few lines for a person."""
    if ended_badly(job):
        error = job["error"]
        if error is None:
            return [f"{name}: {job['status']}"]
        lines = [f"{name}: {job['status']}: {error['message']}"]
        if job["status"] != "cancelled":
            lines.append(f"  Its log: spool logs {job['id']}")
        return lines
    result = job["result"] or {}
    lines = [f"{name}: completed, {took_text(job)}"]
    before, target = result.get("before"), result.get("target_lufs")
    for output, after in (result.get("after") or {}).items():
        change = f"{loudness_text(before)} -> {loudness_text(after)}, true peak {peak_text(after)}"
        aim = "" if target is None else f" (target {target:g} LUFS)"
        lines.append(f"  {output}: {change}{aim}")
    lines += [f"  Note: {_warning(warning)}" for warning in result.get("warnings") or ()]
    for found in result.get("findings") or ():
        lines.append(f"  {'To mend' if found['weight'] == 'problem' else 'To consider'}: {found['message']}")
    if (children := job["children"]) and children["failed"]:
        lines.append(f"  {children['failed']} of its {children['total']} parts ended badly: spool show {job['id']}")
    return lines


def loudness_text(measured: Mapping[str, Any] | None) -> str:
    """Integrated loudness, such as `-23.4 LUFS`."""
    value = (measured or {}).get("integrated_lufs")
    return "silence" if value is None else f"{value:.2f} LUFS"


def peak_text(measured: Mapping[str, Any] | None) -> str:
    """True peak, such as `-1.2 dBTP`."""
    value = (measured or {}).get("true_peak_dbtp")
    return "none" if value is None else f"{value:.2f} dBTP"


def duration_text(seconds: float) -> str:
    """Seconds as a person says them: `41 s`, `3:05`, `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_text(size: int) -> str:
    """Bytes as a person reads them, in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def took_s(job: JobView) -> float | None:
    """Seconds from the first start to the end of a job; None when it never started or has not ended."""
    if job["started_at"] is None or job["completed_at"] is None:
        return None
    return (datetime.fromisoformat(job["completed_at"]) - datetime.fromisoformat(job["started_at"])).total_seconds()


def took_text(job: JobView) -> str:
    """How long a job took, or that it never ran."""
    seconds = took_s(job)
    if seconds is None:
        return "never started"
    return f"took {seconds:.1f} s" if seconds < 60 else f"took {duration_text(seconds)}"


def _warning(warning: object) -> str:
    return str(warning.get("message", warning)) if isinstance(warning, dict) else str(warning)
