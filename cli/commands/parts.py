"""Commands that start parts of Spool on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.console import console_for, say
from shared.settings import load_settings

commands = typer.Typer()


@commands.command()
def dev(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Worker processes; 0 for none.")] = 1,
) -> None:
    """Start everything on this machine: API, dashboard and workers. Needs no settings; Ctrl-C ends it."""
    from cli.dev import run_dev  # noqa: PLC0415 - most commands are clients and start faster without it

    console = console_for(as_json=False)
    run_dev(load_settings(), lambda line: say(console, [line]), port=port, workers=workers)


@commands.command()
def demo(
    show: Annotated[bool, typer.Option("--show", help="Make the whole show of examples/show instead.")] = False,
) -> None:
    """Master a real recording and a video, and show the numbers and the files."""
    from cli.demo import run_demo  # noqa: PLC0415 - most commands are clients and start faster without it
    from cli.dev import ends_by_signal  # noqa: PLC0415 - most commands are clients and start faster without it
    from cli.show import run_show  # noqa: PLC0415 - most commands are clients and start faster without it

    with ends_by_signal():
        raise typer.Exit((run_show if show else run_demo)(load_settings(), console_for(as_json=False)))


@commands.command()
def api(
    host: Annotated[
        str, typer.Option(help="Address to listen on; without keys or SPOOL_API_TOKENS a local one.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the API and the dashboard alone."""
    from cli.serve import run_api  # noqa: PLC0415 - most commands are clients and start faster without it

    run_api(load_settings(), host=host, port=port, fd=fd)


@commands.command()
def worker() -> None:
    """Start one worker alone; the same as `python -m worker`."""
    from worker.__main__ import main  # noqa: PLC0415 - most commands are clients and start faster without it

    raise typer.Exit(main())
