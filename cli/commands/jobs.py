"""Commands that make jobs, follow them and look at them."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import jobs as show
from cli.console import JobId, JobIds, JsonFlag, OutDir, Tags, answer, client_for, console_for, say
from cli.errors import DONE, JOB_FAILED
from cli.live import view_for
from cli.views import exit_code_of

commands = typer.Typer()


@commands.command()
def submit(
    *,
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="What to do, such as ingest.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE|URL]...", help="One job for each, or for all together; or a job in a TOML file."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Loudness target; see `spool presets`.")] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A parameter: target_lufs=-18, outputs.0.format=flac")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option(metavar="FORMAT[:KBPS]", help="A file to make: mp3:192, m4a")
    ] = None,
    tag: Tags = None,
    notify: Annotated[
        str | None, typer.Option(metavar="URL|ADDRESS", help="Tell this webhook, or write to this address, at the end.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    as_json: JsonFlag = False,
    out: OutDir = None,
) -> None:
    """Send files or links and queue a job for each, or one for all. With -o it waits and saves the finished files.

    One file that ends in .toml or .json holds the whole job; files are named in it as they lie beside it.
    """
    from cli.drafts import Order  # noqa: PLC0415 - the other commands start faster without the job types
    from cli.submit import run_submit  # noqa: PLC0415 - the other commands start faster without the job types

    console = console_for(as_json)
    typed = (tuple(files or ()), preset, tuple(param or ()), tuple(output or ()), tuple(tag or ()))
    order = Order(job_type, *typed, notify=notify)
    jobs, lines = run_submit(client_for(console), order, view_for(console, quiet=as_json), watch=watch, folder=out)
    answer(console, jobs, lines, as_json=as_json)
    raise typer.Exit(exit_code_of(jobs))


@commands.command()
def presets(as_json: JsonFlag = False) -> None:
    """List the loudness targets that this API knows."""
    console = console_for(as_json)
    _, known = client_for(console).offers()
    if as_json:
        show.print_json({"items": [one.model_dump(mode="json", exclude_none=True) for one in known]})
    else:
        console.print(show.preset_table(known))


@commands.command("jobs")
def jobs_(
    *,
    status: Annotated[str | None, typer.Option(help="Only these: pending, running, completed, failed, …")] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    text: Annotated[str | None, typer.Option(help="Only jobs with this in their name, title or id.")] = None,
    error: Annotated[str | None, typer.Option(metavar="CODE", help="Only jobs that failed with this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    console = console_for(as_json)
    query = {"status": status, "type": job_type, "tag": tag, "text": text, "error": error, "limit": limit}
    page = client_for(console).jobs(**{name: value for name, value in query.items() if value is not None})
    if as_json:
        show.print_json(page)
    elif page["items"]:
        console.print(show.job_table(page["items"]))
    else:
        say(console, ["No jobs. Queue one: spool submit ingest FILE --watch"])


@commands.command("show")
def show_(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Show everything about one job."""
    console = console_for(as_json)
    client = client_for(console)
    job = client.job(job_id)
    if as_json:
        show.print_json(job)
    else:
        say(console, show.details(job, client.children(job_id) if job["children"] else []))


@commands.command()
def watch(job_ids: JobIds, as_json: JsonFlag = False, out: OutDir = None) -> None:
    """Follow jobs to their ends. Exit code 1 when one did not complete."""
    from cli.submit import run_watch  # noqa: PLC0415 - the other commands start faster without the job types

    console = console_for(as_json)
    jobs, lines = run_watch(client_for(console), job_ids, view_for(console, quiet=as_json), folder=out)
    answer(console, jobs, lines, as_json=as_json)
    raise typer.Exit(exit_code_of(jobs))


@commands.command()
def logs(
    job_id: JobId,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    level: Annotated[str, typer.Option(help="From this level on: debug, info, warn, error.")] = "info",
    as_json: JsonFlag = False,
) -> None:
    """Print a job's history and log; with --json one event per line."""
    console = console_for(as_json)
    for event in show.history(client_for(console), job_id, level=level, keep_on=follow_on):
        if as_json:
            show.print_json(event)
        else:
            show.print_event(console, event)


@commands.command()
def stats(as_json: JsonFlag = False) -> None:
    """The queue at a glance."""
    console = console_for(as_json)
    found = client_for(console).stats()
    if as_json:
        show.print_json(found)
    else:
        say(console, show.stats_lines(found))


@commands.command()
def load(
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="The API; SPOOL_API_URL when left out.")] = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many small jobs to make.")] = 50,
    poll: Annotated[bool, typer.Option("--poll", help="Follow them to their ends.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """A load test: many small jobs, and how long creating, waiting, running and polling took, as seen from here."""
    from cli.load import Load, lines  # noqa: PLC0415 - only this command needs it

    console = console_for(as_json)
    with console.status("sending") as status:
        found = Load(client_for(console, url)).run(
            count, poll=poll, told=lambda done, total: status.update(f"{done} of {total} jobs have ended")
        )
    if as_json:
        show.print_json(found)
    else:
        say(console, lines(found))
    raise typer.Exit(JOB_FAILED if set(found.get("ended", {})) - {"completed"} else DONE)
