"""`spool schedules`: jobs that are made again and again."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import jobs as show
from cli.console import JsonFlag, TypeName, client_for, console_for, say, tell

commands = typer.Typer(
    name="schedules", help="Jobs that are made again and again.", no_args_is_help=True, rich_markup_mode=None
)
ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@commands.command("list")
def list_schedules(as_json: JsonFlag = False) -> None:
    """List every schedule."""
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it

    console = console_for(as_json)
    found = client_for(console).schedules()
    if as_json:
        show.print_json({"items": found})
    elif found:
        console.print(times.table(found))
    else:
        say(console, ["No schedules. Add the usual ones: spool schedules defaults"])


@commands.command("defaults")
def add_default_schedules(as_json: JsonFlag = False) -> None:
    """Add what keeps a deployment well: a backup every night, and once a week a look whether it can be restored."""
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it

    console = console_for(as_json)
    made = times.add_defaults(client_for(console))
    if as_json:
        show.print_json({"items": made})
    else:
        say(console, [times.line(one) for one in made] or ["All of them are there already."])


@commands.command("add")
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

    console = console_for(as_json)
    body = {"cron": cron, "type": job_type, "params": parameters(None, param or (), ())}
    one = client_for(console).put_schedule(name, body)
    tell(console, one, times.line(one), as_json=as_json)


@commands.command("remove")
def remove_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Make no more jobs of a schedule; those it has made stay."""
    console = console_for(as_json)
    client_for(console).remove_schedule(name)
    tell(console, {"name": name, "removed": True}, f"{name}: removed", as_json=as_json)


@commands.command("run")
def run_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Make a schedule's job now."""
    console = console_for(as_json)
    job = client_for(console).run_schedule(name)
    tell(console, job, f"Queued as {job['id']}. Follow it: spool watch {job['id']}", as_json=as_json)


@commands.command("pause")
def pause_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Let a schedule make no jobs until it is resumed."""
    _steer_schedule(name, paused=True, as_json=as_json)


@commands.command("resume")
def resume_schedule(name: ScheduleName, as_json: JsonFlag = False) -> None:
    """Let a paused schedule go on from now; what it missed is not made up for."""
    _steer_schedule(name, paused=False, as_json=as_json)


def _steer_schedule(name: str, *, paused: bool, as_json: bool) -> None:
    from cli import schedules as times  # noqa: PLC0415 - only these commands need it

    console = console_for(as_json)
    one = client_for(console).pause_schedule(name, paused=paused)
    tell(console, one, times.line(one), as_json=as_json)
