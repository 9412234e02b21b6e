"""The log of every process: one JSON object per line for machines, coloured lines for a person at a terminal."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from shared.settings import Settings

#: What opens something to whoever reads it: the query of an address, which may be signed, and the secret part of a key.
_OPENS = re.compile(
    r"(https?://[^\s?\"'\\<>]+\?|\b(?:X-Amz-Signature|signature|token)=|\bspl_[A-Za-z0-9]+_)[^\s\"'\\<>&]+"
)


class _Lossy:
    """A stream that loses what cannot be written: a log on a full disk must end no job and no worker."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, if that can be done."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Send on what was written, if that can be done."""
        with suppress(OSError):
            self._stream.flush()


class _Forwarded(logging.Handler):
    """What libraries log (the web server, say) in the same shape as all else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on."""
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _unopened(_logger: object, _method: str, line: Any) -> Any:  # noqa: ANN401 - a processor of structlog
    """The finished line without what opens anything, wherever it came from: a sentence, a traceback, a library."""
    if not isinstance(line, str) or not ("?" in line or "=" in line or "spl_" in line):
        return line  # most lines: the search itself would cost as much as all the rest of one
    return _OPENS.sub(r"\1…", line)


def configure_log(settings: Settings, **always: str) -> None:
    """Send structlog to standard error as the settings say; `auto` means human lines on a terminal, else JSON.

    `always` is what every line of this process carries.
    """
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    # Tracebacks without the values of variables: among them are tokens, and whole settings.
    traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    shape: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if human
        else [structlog.processors.ExceptionRenderer(traceback), structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        processors=[
            structlog.contextvars.merge_contextvars,
            lambda _logger, _method, line: {**always, **line},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shape,
            _unopened,
        ],
    )
    logging.basicConfig(handlers=[_Forwarded()], level=logging.WARNING)
