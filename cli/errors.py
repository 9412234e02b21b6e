"""What ends a command: one sentence for a person, and an exit code for a script."""

from __future__ import annotations

DONE, JOB_FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


class CommandError(Exception):
    """Ends a command with one sentence (what happened, what to do) and an exit code."""

    def __init__(self, message: str, exit_code: int = JOB_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Unreachable(CommandError):
    """Nothing answers at the address, or what answers is not Spool."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


class Refused(CommandError):
    """The API answered with an error of its own; `code` is for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, _exit_code(status))
        self.status = status
        self.code = code


class Broken(Unreachable):
    """The connection failed: a safe request may be sent again."""


class WrittenTwice(CommandError):
    """The address of an upload has taken its bytes already."""


def _exit_code(status: int) -> int:
    """A request that can never work is a matter of usage; one that the moment forbids is not."""
    return USAGE if 400 <= status < 500 and status not in {409, 429} else JOB_FAILED
