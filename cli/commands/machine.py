"""Commands that work on the database and this machine, with the settings of the deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import jobs as show
from cli.console import JsonFlag, console_for, say
from cli.errors import DONE, JOB_FAILED, USAGE, CommandError
from shared.settings import load_settings

commands = typer.Typer()


@commands.command()
def migrate(as_json: JsonFlag = False) -> None:
    """Bring the database up to date."""
    from shared.store import get_job_store  # noqa: PLC0415 - clients of a remote API need no database driver

    applied = list(get_job_store(load_settings()).migrate())
    if as_json:
        show.print_json({"applied": applied})
    else:
        say(Console(), [f"applied {name}" for name in applied] or ["The database is up to date."])


@commands.command()
def prune(
    days: Annotated[
        float | None, typer.Option(min=0, help="Older than this; SPOOL_RETENTION_DAYS when left out.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete ended jobs past their retention time with their files, now."""
    from cli.prune import prune_all  # noqa: PLC0415 - clients of a remote API need no database driver

    settings = load_settings()
    jobs, uploads = prune_all(settings, older_than_days=settings.retention_days if days is None else days)
    if as_json:
        show.print_json({"jobs": jobs, "uploads": uploads})
    else:
        say(Console(), [f"Deleted {jobs} job(s) and {uploads} upload(s)."])


@commands.command()
def backup(file: Path, as_json: JsonFlag = False) -> None:
    """Copy the queue into a new file, while it is in use, and prove the copy. Media stay in the storage."""
    from cli.backup import run_backup, told  # noqa: PLC0415 - clients of a remote API need no database driver

    copied = run_backup(load_settings(), file)
    if as_json:
        show.print_json({"file": str(copied.path), "size_bytes": copied.size_bytes, "rows": copied.rows})
    else:
        say(Console(), [f"{file}: {told(copied)}; checked."])


@commands.command()
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
    copied = run_restore(load_settings(), file)
    if as_json:
        show.print_json(
            {"file": None if file is None else str(file), "size_bytes": copied.size_bytes, "rows": copied.rows}
        )
    else:
        say(Console(), [f"Restored {told(copied)}. Start a worker on it: spool worker"])


@commands.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Look at everything a job needs: what is wrong, and how to mend it."""
    from dataclasses import asdict  # noqa: PLC0415 - only here

    from cli.doctor import examine  # noqa: PLC0415 - it imports both sides

    console = console_for(as_json)
    findings = []
    for finding in examine(load_settings()):
        findings.append(finding)
        if not as_json:
            say(console, [finding.line()])
    if as_json:
        show.print_json([asdict(finding) for finding in findings])
    raise typer.Exit(DONE if all(finding.ok for finding in findings) else JOB_FAILED)
