"""The log of every process: one JSON object per line for machines, coloured lines for a person at a terminal."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from shared.settings import Settings


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


def configure_log(settings: Settings) -> None:
    """Send structlog to standard error as the settings say; `auto` means human lines on a terminal, else JSON."""
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    shape: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if human
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shape,
        ],
    )
