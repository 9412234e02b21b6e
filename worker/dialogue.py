"""Talking with an external program: JSON lines out of its stdout and into its stdin."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from shared.text import cleaned

if TYPE_CHECKING:
    from shared.job import Level
    from worker.process import Child

#: The longest line that is read as a whole; of a longer one nothing is believed.
MAX_LINE_BYTES = 256 * 1024
#: What of a line that is not understood is shown in the log.
_SHOWN = 200


class Listener(Protocol):
    """Who is told how the talk goes."""

    def alive(self) -> None:
        """The program said something."""

    def log(self, level: Level, message: str) -> None:
        """Something about what it said."""


class Dialogue:
    """Both directions of one program. Reading ends when the program closes its stdout, or is stopped.

    What it is told is written by a thread of its own: a program that does not listen holds up nobody.
    """

    def __init__(self, child: Child, report: Listener) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._stdin, self._stdout, self._report = child.stdin, child.stdout, report
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="dialogue", daemon=True)
        self._thread.start()

    def tell(self, line: dict[str, Any]) -> None:
        """Send the program a line, now or as soon as it reads."""
        self._waiting.put(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting.put(None)  # the thread ends; where the program does not listen, as soon as it is gone

    def lines(self) -> Iterator[dict[str, Any]]:
        """What the program says, line by line. What is no JSON object with a type is logged and passed over."""
        while raw := self._stdout.readline(MAX_LINE_BYTES):
            self._report.alive()
            if not raw.endswith(b"\n") and len(raw) == MAX_LINE_BYTES:
                self._skip()
                self._report.log("warn", f"A line of more than {MAX_LINE_BYTES} bytes was left out")
            elif raw.strip():
                line = _object(raw)
                if line is None:
                    shown = cleaned(raw[:_SHOWN].decode(errors="replace"))
                    self._report.log("warn", f"The program said what is no JSON object with a type: {shown}")
                else:
                    yield line

    def _skip(self) -> None:
        while (rest := self._stdout.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it ended, or was ended: nobody is left to be told
            while (line := self._waiting.get()) is not None:
                self._stdin.write(line)
                if self._waiting.empty():
                    self._stdin.flush()
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("type"), str) else None
