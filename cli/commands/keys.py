"""`spool keys`: who may call, managed in the database itself."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from cli import jobs as show
from cli.console import JsonFlag, console_for, say
from shared.settings import load_settings

commands = typer.Typer(
    name="keys", help="API keys, in the database itself.", no_args_is_help=True, rich_markup_mode=None
)


@commands.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; jobs remember the name.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write or admin; may be repeated. read and write when left out.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print it, this once. A name may have two live keys: make the new one, then revoke the old."""
    from cli import keys as access  # noqa: PLC0415 - clients of a remote API need no database driver

    made = access.create(load_settings(), name, tuple(scope or ()))
    if as_json:
        show.print_json(made.as_json())
    else:
        say(Console(), made.lines())


@commands.command("list")
def list_keys(as_json: JsonFlag = False) -> None:
    """List every key there ever was, without the keys themselves."""
    from cli import keys as access  # noqa: PLC0415 - clients of a remote API need no database driver

    console = console_for(as_json)
    found = access.listed(load_settings())
    if as_json:
        show.print_json({"items": found})
    elif found:
        console.print(access.table(found))
    else:
        say(console, ["No keys. Make one: spool keys create NAME"])


@commands.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `spool keys list` prints it.")],
    as_json: JsonFlag = False,
) -> None:
    """Shut a key out, for good; running APIs notice within 30 seconds."""
    from cli import keys as access  # noqa: PLC0415 - clients of a remote API need no database driver

    revoked = access.revoke(load_settings(), key_id)
    if as_json:
        show.print_json(revoked)
    else:
        say(Console(), [f"{revoked['id']} ({revoked['name']}): revoked; every API refuses it within 30 seconds"])
