"""What all commands share: arguments that several take, the API that they ask, and how they answer."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import jobs as show
from cli.client import Client
from cli.views import JobView
from shared.settings import load_settings

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as `spool jobs` prints it.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs, as `spool jobs` prints them.")]
TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="A job type, such as ingest.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A word to find the job by; may be repeated.")]
OutDir = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Save the finished files here.")]


def own_command() -> str:
    """What a person types for `spool` here: a clone's environment is on nobody's path."""
    typed = Path(sys.argv[0])
    if typed.name != "spool" or not typed.is_file() or shutil.which("spool"):
        return "spool"
    beside = os.path.relpath(typed)
    return str(typed) if beside.startswith("..") else beside


def console_for(as_json: bool) -> Console:
    """Standard output for people; standard error when a program reads standard output."""
    console = Console(stderr=as_json)
    return console if console.is_terminal else Console(stderr=as_json, width=200)


def client_for(console: Console, url: str | None = None) -> Client:
    """The API of the settings, or of `url`; what it has to say meanwhile goes to the console."""
    settings = load_settings()
    token = settings.api_token.get_secret_value() if settings.api_token else None
    return Client(url or settings.api_url, token, say=lambda sentence: console.print(sentence, style="yellow"))


def answer(console: Console, jobs: list[JobView], lines: list[str], *, as_json: bool) -> None:
    """The jobs, one a line, for a program; the lines for a person."""
    if as_json:
        for job in jobs:
            show.print_json(job)
    else:
        say(console, lines)


def tell(console: Console, value: object, sentence: str, *, as_json: bool) -> None:
    """One value for a program, or one sentence about it for a person."""
    if as_json:
        show.print_json(value)
    else:
        say(console, [sentence])


def say(console: Console, lines: list[str]) -> None:
    """Lines for a person, as they are."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
