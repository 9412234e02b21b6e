"""`python -m cli.part worker|api …`: a command that also ends, in good order, when the process that started it dies."""

from __future__ import annotations

import os
import signal
import threading

from cli.main import app


def _end_with_parent(main_thread: int) -> None:
    """Standard input is a pipe that only the parent holds: it ends when the parent does, even by kill -9."""
    while os.read(0, 4096):
        pass
    signal.pthread_kill(main_thread, signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, args=(threading.get_ident(),), daemon=True).start()
    app()
