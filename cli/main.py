"""The `spool` command: where its subjects meet, and the mapping of errors to sentences and exit codes."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from cli.commands import jobs, keys, machine, parts, schedules, steer
from cli.errors import DONE, INTERRUPTED, JOB_FAILED, USAGE, CommandError
from shared.errors import ConfigurationError, NotFound, SpoolError, Unavailable


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
for subject in (parts, jobs, steer, machine):
    app.add_typer(subject.commands)
app.add_typer(keys.commands, name="keys")
app.add_typer(schedules.commands, name="schedules")


def _fail(sentence: str, exit_code: int) -> int:
    style = "yellow" if exit_code == INTERRUPTED else "red"
    Console(stderr=True).print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)
    return exit_code
