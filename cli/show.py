"""`spool demo --show`: the example show, from its recordings to files that can be published, with nothing set up."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.console import own_command
from cli.demo import EXACT_LU, list_files, miss_lu, perform
from cli.drafts import Order
from cli.errors import DONE, JOB_FAILED, USAGE, CommandError
from cli.live import duration_text, size_text, took_text
from cli.samples import Sample, fetch_all
from cli.saving import Saved
from cli.views import JobView, exit_code_of
from shared.settings import Settings

SHOW = Path(__file__).parents[1] / "examples/show"
_RESULTS = Path("spool-show")
#: Tracks are mastered side by side.
_WORKERS = 2


def recordings(show: Path = SHOW) -> list[Sample]:
    """What the show is made of, and the packages that it comes with."""
    told = tomllib.loads((show / "recordings.toml").read_text(encoding="utf-8"))
    return [Sample(name, **about) for name, about in told.items()]


def run_show(settings: Settings, console: Console) -> int:
    """Fetch the recordings, make the episode, show the numbers; returns 0 only when every file is exact."""
    if not SHOW.is_dir():
        raise CommandError("The example show comes with Spool's sources; run this in a clone of them.", USAGE)
    console.print("Fetching the recordings of the show, which come with published packages …", soft_wrap=True)
    fetch_all(recordings(), SHOW / "recordings")
    order = Order("episode", (str(SHOW / "show.toml"),))
    ended, saved = perform(order, settings, console, results=_RESULTS, workers=_WORKERS)
    if exit_code_of(ended) != DONE:
        return JOB_FAILED
    (episode,), (files,) = ended, saved
    console.print(_table(episode, files))
    list_files(saved, console)
    miss = miss_lu(episode)
    if miss is None or miss > EXACT_LU:
        console.print(f"A file missed its target by more than {EXACT_LU} LU. Please report this.", style="red")
        return JOB_FAILED
    console.print(
        f"\nOne request, {episode['children']['total'] if episode['children'] else 0} jobs, {took_text(episode)}. "
        f"Now your own: run `{own_command()} dev`, then `{own_command()} submit episode show.toml --watch -o .`",
        style="green", highlight=False, soft_wrap=True,
    )  # fmt: skip
    return DONE


def _table(episode: JobView, files: Sequence[Saved]) -> Table:
    table = Table(
        title="Loudness in LUFS and true peak in dBTP, measured in the finished files",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("FILE", overflow="fold")
    for title in ("LOUDNESS", "TARGET", "PEAK", "LENGTH", "SIZE"):
        table.add_column(title, justify="right", no_wrap=True)
    result: dict[str, Any] = episode["result"] or {}
    for item in files:
        after = result["after"].get(item.output["name"])
        if after is not None:
            table.add_row(
                escape(item.path.name), f"{after['integrated_lufs']:.2f}", f"{result['target_lufs']:.2f}",
                f"{after['true_peak_dbtp']:.2f}", duration_text(result["duration_s"]),
                size_text(item.output["size_bytes"]),
            )  # fmt: skip
    return table
