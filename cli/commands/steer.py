"""Commands that change what happens: to jobs, to all jobs of a type, to the deployment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from cli import jobs as show
from cli import steering
from cli.client import Client
from cli.console import JobIds, JsonFlag, TypeName, answer, client_for, console_for, tell
from cli.live import view_for
from cli.views import exit_code_of

SomeIds = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of jobs, as `spool jobs` prints them.")
]
StatusOption = Annotated[str | None, typer.Option(help="Every job in this state.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Every job of this type.")]
TagOption = Annotated[str | None, typer.Option(help="Every job with this tag.")]
TextOption = Annotated[str | None, typer.Option(help="Every job with this in its name, title or id.")]
AllFlag = Annotated[bool, typer.Option("--all", help="Every job there is.")]

commands = typer.Typer()


@commands.command()
def cancel(
    *,
    job_ids: SomeIds = None,
    status: StatusOption = None,
    job_type: TypeOption = None,
    tag: TagOption = None,
    text: TextOption = None,
    everything: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Cancel jobs, by their ids or by what they have in common; running ones are stopped within a second or so."""
    where = steering.selection(job_ids, everything=everything, status=status, job_type=job_type, tag=tag, text=text)
    _tell_each(job_ids, where, steering.cancelled_many, show.cancelled_text, as_json=as_json)


@commands.command()
def retry(
    *,
    job_ids: SomeIds = None,
    status: StatusOption = None,
    job_type: TypeOption = None,
    tag: TagOption = None,
    text: TextOption = None,
    error: Annotated[
        str | None, typer.Option(metavar="CODE", help="Every job that failed with this, such as out_of_disk.")
    ] = None,
    everything: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Run jobs again, each as a new one: by their ids, or all that failed and have something in common."""
    where = steering.selection(
        job_ids, everything=everything, status=status, job_type=job_type, tag=tag, text=text, error=error
    )
    _tell_each(job_ids, where, steering.retried_many, steering.retried, as_json=as_json)


@commands.command()
def pause(job_type: TypeName, as_json: JsonFlag = False) -> None:
    """Let no worker take jobs of a type; what runs goes on, and new jobs wait."""
    console = console_for(as_json)
    one = client_for(console).steer(job_type, paused=True)
    tell(console, one, steering.steering_line(one), as_json=as_json)


@commands.command()
def resume(job_type: TypeName, as_json: JsonFlag = False) -> None:
    """Let workers take jobs of a paused type again."""
    console = console_for(as_json)
    one = client_for(console).steer(job_type, paused=False)
    tell(console, one, steering.steering_line(one), as_json=as_json)


@commands.command()
def limit(
    job_type: TypeName,
    most: Annotated[str, typer.Argument(metavar="N", help="Jobs at once, over all workers; none for any number.")],
    as_json: JsonFlag = False,
) -> None:
    """Let at most N jobs of a type run at once, over all workers."""
    console = console_for(as_json)
    one = client_for(console).steer(job_type, max_running=steering.at_once(most))
    tell(console, one, steering.steering_line(one), as_json=as_json)


@commands.command()
def maintain(
    duty: Annotated[str, typer.Argument(help="prune, vacuum, integrity, backup, restore-check or orphans.")],
    param: Annotated[list[str] | None, typer.Option(metavar="K=V", help="keep=7 for backup, delete=true.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a worker do one duty of maintenance now, and wait for it."""
    from cli.drafts import Order  # noqa: PLC0415 - the other commands start faster without the job types
    from cli.submit import run_submit  # noqa: PLC0415 - the other commands start faster without the job types

    console = console_for(as_json)
    order = Order("maintenance", (), None, (f"duty={duty}", *(param or ())), (), ())
    jobs, lines = run_submit(client_for(console), order, view_for(console, quiet=as_json), watch=True, folder=None)
    facts = [json.dumps(job["result"], ensure_ascii=False) for job in jobs if job["result"]]
    answer(console, jobs, [*lines, *facts], as_json=as_json)
    raise typer.Exit(exit_code_of(jobs))


@commands.command()
def purge(job_ids: JobIds, as_json: JsonFlag = False) -> None:
    """Delete ended jobs with their finished files, now and for good."""
    console = console_for(as_json)
    client = client_for(console)
    for job_id in job_ids:
        client.purge(job_id)
        tell(console, {"id": job_id, "deleted": True}, f"{job_id}: deleted with its files", as_json=as_json)


def _tell_each(
    job_ids: list[str] | None,
    where: Mapping[str, Any] | None,
    many: Callable[[Client, Mapping[str, Any]], tuple[object, str]],
    one: Callable[[Client, str], tuple[object, str]],
    *,
    as_json: bool,
) -> None:
    """Do it to all jobs that match, or to each of those that are named, and say what came of it."""
    console = console_for(as_json)
    client = client_for(console)
    if where is not None:
        tell(console, *many(client, where), as_json=as_json)
    for job_id in job_ids or ():
        tell(console, *one(client, job_id), as_json=as_json)
