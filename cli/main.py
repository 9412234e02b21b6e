"""The `spool` command: every subcommand and the mapping of errors to sentences and exit codes on one screen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from cli import jobs as show
from cli import steering
from cli.client import (
    DONE,
    INTERRUPTED,
    JOB_FAILED,
    USAGE,
    Client,
    CommandError,
    JobView,
    exit_code_of,
)
from cli.live import view_for
from shared.errors import ConfigurationError, NotFound, SpoolError, Unavailable
from shared.settings import Settings, load_settings


class SpoolGroup(TyperGroup):
    """Ends every expected problem with one sentence on standard error and its exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own signature
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except CommandError as error:
            code = _fail(error.message, error.exit_code)
        except (ConfigurationError, NotFound) as error:
            code = _fail(error.message, USAGE)
        except Unavailable as error:
            code = _fail(error.message, 3)
        except SpoolError as error:
            code = _fail(error.message, JOB_FAILED)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has seen enough (`spool jobs | head`); nothing more may be written.
            sys.stdout = None  # Python flushes it at exit and would complain
            code = DONE
        raise typer.Exit(code)


app = typer.Typer(
    name="spool",
    cls=SpoolGroup,
    help="Turns uploaded media into finished media, in the background.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as `spool jobs` prints it.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs, as `spool jobs` prints them.")]
SomeIds = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of jobs, as `spool jobs` prints them.")
]
TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="A job type, such as ingest.")]
StatusOption = Annotated[str | None, typer.Option(help="Every job in this state.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Every job of this type.")]
TagOption = Annotated[str | None, typer.Option(help="Every job with this tag.")]
TextOption = Annotated[str | None, typer.Option(help="Every job with this in its name, title or id.")]
AllFlag = Annotated[bool, typer.Option("--all", help="Every job there is.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A word to find the job by; may be repeated.")]
OutDir = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Save the finished files here.")]


# --- the parts ---------------------------------------------------------------------------------------------------
@app.command()
def dev(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Worker processes; 0 for none.")] = 1,
) -> None:
    """Start everything on this machine: API, dashboard and workers. Needs no settings; Ctrl-C ends it."""
    from cli.dev import run_dev  # noqa: PLC0415 - most commands are clients and start faster without it

    console = _console(as_json=False)
    run_dev(_settings(), lambda line: _say(console, [line]), port=port, workers=workers)


@app.command()
def demo(
    show: Annotated[bool, typer.Option("--show", help="Make the whole show of examples/show instead.")] = False,
) -> None:
    """Master a real recording and a video, and show the numbers and the files."""
    from cli.demo import run_demo  # noqa: PLC0415 - most commands are clients and start faster without it
    from cli.dev import ends_by_signal  # noqa: PLC0415 - most commands are clients and start faster without it
    from cli.show import run_show  # noqa: PLC0415 - most commands are clients and start faster without it

    with ends_by_signal():
        raise typer.Exit((run_show if show else run_demo)(_settings(), _console(as_json=False)))


@app.command()
def api(
    host: Annotated[
        str, typer.Option(help="Address to listen on; without keys or SPOOL_API_TOKENS a local one.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the API and the dashboard alone."""
    from cli.serve import run_api  # noqa: PLC0415 - most commands are clients and start faster without it

    run_api(_settings(), host=host, port=port, fd=fd)


@app.command()
def worker() -> None:
    """Start one worker alone; the same as `python -m worker`."""
    from worker.__main__ import main  # noqa: PLC0415 - most commands are clients and start faster without it

    raise typer.Exit(main())


# --- jobs --------------------------------------------------------------------------------------------------------
@app.command()
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
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    as_json: JsonFlag = False,
    out: OutDir = None,
) -> None:
    """Send files or links and queue a job for each, or one for all. With -o it waits and saves the finished files.

    One file that ends in .toml or .json holds the whole job; files are named in it as they lie beside it.
    """
    from cli.drafts import Order  # noqa: PLC0415 - the other commands start faster without the job types
    from cli.submit import run_submit  # noqa: PLC0415 - the other commands start faster without the job types

    console = _console(as_json)
    order = Order(job_type, tuple(files or ()), preset, tuple(param or ()), tuple(output or ()), tuple(tag or ()))
    jobs, lines = run_submit(_client(console), order, view_for(console, quiet=as_json), watch=watch, folder=out)
    _answer(console, jobs, lines, as_json=as_json)
    raise typer.Exit(exit_code_of(jobs))


@app.command()
def presets(as_json: JsonFlag = False) -> None:
    """List the loudness targets that this API knows."""
    console = _console(as_json)
    _, known = _client(console).offers()
    if as_json:
        show.print_json({"items": [one.model_dump(mode="json", exclude_none=True) for one in known]})
    else:
        console.print(show.preset_table(known))


@app.command("jobs")
def jobs_(
    status: Annotated[str | None, typer.Option(help="Only these: pending, running, completed, failed, …")] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    console = _console(as_json)
    query = {"status": status, "type": job_type, "tag": tag, "limit": limit}
    page = _client(console).jobs(**{name: value for name, value in query.items() if value is not None})
    if as_json:
        show.print_json(page)
    elif page["items"]:
        console.print(show.job_table(page["items"]))
    else:
        _say(console, ["No jobs. Queue one: spool submit ingest FILE --watch"])


@app.command("show")
def show_(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Show everything about one job."""
    console = _console(as_json)
    client = _client(console)
    job = client.job(job_id)
    if as_json:
        show.print_json(job)
    else:
        _say(console, show.details(job, client.children(job_id) if job["children"] else []))


@app.command()
def watch(job_ids: JobIds, as_json: JsonFlag = False, out: OutDir = None) -> None:
    """Follow jobs to their ends. Exit code 1 when one did not complete."""
    from cli.submit import run_watch  # noqa: PLC0415 - the other commands start faster without the job types

    console = _console(as_json)
    jobs, lines = run_watch(_client(console), job_ids, view_for(console, quiet=as_json), folder=out)
    _answer(console, jobs, lines, as_json=as_json)
    raise typer.Exit(exit_code_of(jobs))


@app.command()
def logs(
    job_id: JobId,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    level: Annotated[str, typer.Option(help="From this level on: debug, info, warn, error.")] = "info",
    as_json: JsonFlag = False,
) -> None:
    """Print a job's history and log; with --json one event per line."""
    console = _console(as_json)
    for event in show.history(_client(console), job_id, level=level, keep_on=follow_on):
        if as_json:
            show.print_json(event)
        else:
            show.print_event(console, event)


@app.command()
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
    console = _console(as_json)
    where = steering.selection(job_ids, everything=everything, status=status, job_type=job_type, tag=tag, text=text)
    client = _client(console)
    if where is not None:
        done = client.cancel_many(where)
        _tell(console, done, steering.cancelled_line(done), as_json=as_json)
    for job_id in job_ids or ():
        job, sentence = show.cancelled_text(client, job_id)
        _tell(console, job, sentence, as_json=as_json)


@app.command()
def retry(
    *,
    job_ids: SomeIds = None,
    status: StatusOption = None,
    job_type: TypeOption = None,
    tag: TagOption = None,
    text: TextOption = None,
    everything: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Run jobs again, each as a new one: by their ids, or all that failed and have something in common."""
    console = _console(as_json)
    where = steering.selection(job_ids, everything=everything, status=status, job_type=job_type, tag=tag, text=text)
    client = _client(console)
    if where is not None:
        done = client.retry_many(where)
        _tell(console, done, steering.retried_line(done), as_json=as_json)
    for job_id in job_ids or ():
        job = client.retry(job_id)
        _tell(console, job, f"Queued again as {job['id']}. Follow it: spool watch {job['id']}", as_json=as_json)


@app.command()
def pause(job_type: TypeName, as_json: JsonFlag = False) -> None:
    """Let no worker take jobs of a type; what runs goes on, and new jobs wait."""
    console = _console(as_json)
    one = _client(console).steer(job_type, paused=True)
    _tell(console, one, steering.steering_line(one), as_json=as_json)


@app.command()
def resume(job_type: TypeName, as_json: JsonFlag = False) -> None:
    """Let workers take jobs of a paused type again."""
    console = _console(as_json)
    one = _client(console).steer(job_type, paused=False)
    _tell(console, one, steering.steering_line(one), as_json=as_json)


@app.command()
def limit(
    job_type: TypeName,
    most: Annotated[str, typer.Argument(metavar="N", help="Jobs at once, over all workers; none for any number.")],
    as_json: JsonFlag = False,
) -> None:
    """Let at most N jobs of a type run at once, over all workers."""
    console = _console(as_json)
    one = _client(console).steer(job_type, max_running=steering.at_once(most))
    _tell(console, one, steering.steering_line(one), as_json=as_json)


@app.command()
def maintain(
    duty: Annotated[str, typer.Argument(help="prune, vacuum, integrity, backup, restore-check or orphans.")],
    param: Annotated[list[str] | None, typer.Option(metavar="K=V", help="keep=7 for backup, delete=true.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a worker do one duty of maintenance now, and wait for it."""
    from cli.drafts import Order  # noqa: PLC0415 - the other commands start faster without the job types
    from cli.submit import run_submit  # noqa: PLC0415 - the other commands start faster without the job types

    console = _console(as_json)
    order = Order("maintenance", (), None, (f"duty={duty}", *(param or ())), (), ())
    jobs, lines = run_submit(_client(console), order, view_for(console, quiet=as_json), watch=True, folder=None)
    facts = [json.dumps(job["result"], ensure_ascii=False) for job in jobs if job["result"]]
    _answer(console, jobs, [*lines, *facts], as_json=as_json)
    raise typer.Exit(exit_code_of(jobs))


@app.command()
def purge(job_ids: JobIds) -> None:
    """Delete ended jobs with their finished files, now and for good."""
    console = _console(as_json=False)
    client = _client(console)
    for job_id in job_ids:
        client.purge(job_id)
        _say(console, [f"{job_id}: deleted with its files"])


@app.command()
def stats(as_json: JsonFlag = False) -> None:
    """The queue at a glance."""
    console = _console(as_json)
    found = _client(console).stats()
    if as_json:
        show.print_json(found)
    else:
        _say(console, show.stats_lines(found))


@app.command()
def load(
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="The API; SPOOL_API_URL when left out.")] = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many small jobs to make.")] = 50,
    poll: Annotated[bool, typer.Option("--poll", help="Follow them to their ends.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """A load test: many small jobs, and how long creating, waiting, running and polling took, as seen from here."""
    from cli.load import Load, lines  # noqa: PLC0415 - only this command needs it

    console = _console(as_json)
    with console.status("sending") as status:
        found = Load(_client(console, url)).run(
            count, poll=poll, told=lambda done, total: status.update(f"{done} of {total} jobs have ended")
        )
    if as_json:
        show.print_json(found)
    else:
        _say(console, lines(found))
    raise typer.Exit(JOB_FAILED if set(found.get("ended", {})) - {"completed"} else DONE)


# --- keys --------------------------------------------------------------------------------------------------------
keys = typer.Typer(name="keys", help="API keys, in the database itself.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; jobs remember the name.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write or admin; may be repeated. read and write when left out.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print it, this once. A name may have two live keys: make the new one, then revoke the old."""
    from cli import keys as access  # noqa: PLC0415 - clients of a remote API need no database driver

    made = access.create(_settings(), name, tuple(scope or ()))
    if as_json:
        show.print_json(made.as_json())
    else:
        _say(Console(), made.lines())


@keys.command("list")
def list_keys(as_json: JsonFlag = False) -> None:
    """List every key there ever was, without the keys themselves."""
    from cli import keys as access  # noqa: PLC0415 - clients of a remote API need no database driver

    console = _console(as_json)
    found = access.listed(_settings())
    if as_json:
        show.print_json({"items": found})
    elif found:
        console.print(access.table(found))
    else:
        _say(console, ["No keys. Make one: spool keys create NAME"])


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `spool keys list` prints it.")],
    as_json: JsonFlag = False,
) -> None:
    """Shut a key out, for good; running APIs notice within 30 seconds."""
    from cli import keys as access  # noqa: PLC0415 - clients of a remote API need no database driver

    revoked = access.revoke(_settings(), key_id)
    if as_json:
        show.print_json(revoked)
    else:
        _say(Console(), [f"{revoked['id']} ({revoked['name']}): revoked; every API refuses it within 30 seconds"])


# --- schedules ---------------------------------------------------------------------------------------------------
schedules = typer.Typer(
    name="schedules", help="Jobs that are made again and again.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(schedules)
ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@schedules.command("list")
def list_schedules(as_json: JsonFlag = False) -> None:
    """List every schedule."""
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it

    console = _console(as_json)
    found = _client(console).schedules()
    if as_json:
        show.print_json({"items": found})
    elif found:
        console.print(times.table(found))
    else:
        _say(console, ["No schedules. Add the usual ones: spool schedules defaults"])


@schedules.command("defaults")
def add_default_schedules(as_json: JsonFlag = False) -> None:
    """Add what keeps a deployment well: a backup every night, and once a week a look whether it can be restored."""
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it

    console = _console(as_json)
    made = times.add_defaults(_client(console))
    if as_json:
        show.print_json({"items": made})
    else:
        _say(console, [times.line(one) for one in made] or ["All of them are there already."])


@schedules.command("add")
def add_schedule(
    name: ScheduleName,
    cron: Annotated[str, typer.Argument(metavar="CRON", help="Such as '0 3 * * *': every day at 3:00 UTC.")],
    job_type: TypeName,
    param: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A parameter of the type.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a schedule, or change the one of that name."""
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it
    from cli.params import parameters  # noqa: PLC0415 - only these commands need it

    console = _console(as_json)
    body = {"cron": cron, "type": job_type, "params": parameters(None, param or (), ())}
    one = _client(console).put_schedule(name, body)
    _tell(console, one, times.line(one), as_json=as_json)


@schedules.command("remove")
def remove_schedule(name: ScheduleName) -> None:
    """Make no more jobs of a schedule; those it has made stay."""
    console = _console(as_json=False)
    _client(console).remove_schedule(name)
    _say(console, [f"{name}: removed"])


@schedules.command("run")
def run_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Make a schedule's job now."""
    console = _console(as_json)
    job = _client(console).run_schedule(name)
    _tell(console, job, f"Queued as {job['id']}. Follow it: spool watch {job['id']}", as_json=as_json)


@schedules.command("pause")
def pause_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Let a schedule make no jobs until it is resumed."""
    _steer_schedule(name, paused=True, as_json=as_json)


@schedules.command("resume")
def resume_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Let a paused schedule go on from now; what it missed is not made up for."""
    _steer_schedule(name, paused=False, as_json=as_json)


def _steer_schedule(name: str, *, paused: bool, as_json: bool) -> None:
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it

    console = _console(as_json)
    one = _client(console).pause_schedule(name, paused=paused)
    _tell(console, one, times.line(one), as_json=as_json)


# --- this machine --------------------------------------------------------------------------------------------------
@app.command()
def migrate(as_json: JsonFlag = False) -> None:
    """Bring the database up to date."""
    from shared.store import get_job_store  # noqa: PLC0415 - clients of a remote API need no database driver

    applied = list(get_job_store(_settings()).migrate())
    if as_json:
        show.print_json({"applied": applied})
    else:
        _say(Console(), [f"applied {name}" for name in applied] or ["The database is up to date."])


@app.command()
def prune(
    days: Annotated[
        float | None, typer.Option(min=0, help="Older than this; SPOOL_RETENTION_DAYS when left out.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete ended jobs past their retention time with their files, now."""
    from cli.prune import prune_all  # noqa: PLC0415 - clients of a remote API need no database driver

    settings = _settings()
    jobs, uploads = prune_all(settings, older_than_days=settings.retention_days if days is None else days)
    if as_json:
        show.print_json({"jobs": jobs, "uploads": uploads})
    else:
        _say(Console(), [f"Deleted {jobs} job(s) and {uploads} upload(s)."])


@app.command()
def backup(file: Path, as_json: JsonFlag = False) -> None:
    """Copy the queue into a new file, while it is in use, and prove the copy. Media stay in the storage."""
    from cli.backup import run_backup, told  # noqa: PLC0415 - clients of a remote API need no database driver

    copied = run_backup(_settings(), file)
    if as_json:
        show.print_json({"file": str(copied.path), "size_bytes": copied.size_bytes, "rows": copied.rows})
    else:
        _say(Console(), [f"{file}: {told(copied)}; checked."])


@app.command()
def restore(
    file: Annotated[Path | None, typer.Argument(help="What `spool backup` made.")] = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="The newest backup in the storage, which maintenance made.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fill a new, empty database from a backup; what ran when it was made goes back to the queue."""
    from cli.backup import run_restore, told  # noqa: PLC0415 - clients of a remote API need no database driver

    if (file is None) != newest:
        raise CommandError("Name a file that `spool backup` made, or say --newest.", USAGE)
    copied = run_restore(_settings(), file)
    if as_json:
        show.print_json(
            {"file": None if file is None else str(file), "size_bytes": copied.size_bytes, "rows": copied.rows}
        )
    else:
        _say(Console(), [f"Restored {told(copied)}. Start a worker on it: spool worker"])


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Look at everything a job needs: what is wrong, and how to mend it."""
    from dataclasses import asdict  # noqa: PLC0415 - only here

    from cli.doctor import examine  # noqa: PLC0415 - it imports both sides

    console = _console(as_json)
    findings = []
    for finding in examine(_settings()):
        findings.append(finding)
        if not as_json:
            _say(console, [finding.line()])
    if as_json:
        show.print_json([asdict(finding) for finding in findings])
    raise typer.Exit(DONE if all(finding.ok for finding in findings) else JOB_FAILED)


def _settings() -> Settings:
    return load_settings()


def _console(as_json: bool) -> Console:
    """Standard output for people; standard error when a program reads standard output."""
    console = Console(stderr=as_json)
    return console if console.is_terminal else Console(stderr=as_json, width=200)


def _client(console: Console, url: str | None = None) -> Client:
    settings = _settings()
    token = settings.api_token.get_secret_value() if settings.api_token else None
    return Client(url or settings.api_url, token, say=lambda sentence: console.print(sentence, style="yellow"))


def _answer(console: Console, jobs: list[JobView], lines: list[str], *, as_json: bool) -> None:
    """The jobs, one a line, for a program; the lines for a person."""
    if as_json:
        for job in jobs:
            show.print_json(job)
    else:
        _say(console, lines)


def _tell(console: Console, value: object, sentence: str, *, as_json: bool) -> None:
    """One value for a program, or one sentence about it for a person."""
    if as_json:
        show.print_json(value)
    else:
        _say(console, [sentence])


def _say(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _fail(sentence: str, exit_code: int) -> int:
    style = "yellow" if exit_code == INTERRUPTED else "red"
    Console(stderr=True).print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)
    return exit_code
