"""Runs `spool` commands, hundreds of them, at a tenth of the start.

A process that has imported what the commands import, and forks for each: the fork runs the same `app` as the installed
`spool` does, in a session, a folder and an environment of its own. That the installed command starts by itself is told
by every test that starts `spool dev`, or anything that goes on. `python -m tests.cli.forge FD` is that process: each
order on the socket comes with three descriptors, for the news of the command, its output and its errors.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What commands import once they know what they are. A name that is missing here costs time and nothing else.
LATER = ("cli.drafts", "cli.keys", "cli.saving", "cli.schedules", "cli.sending", "cli.submit", "shared.store.local")
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it wrote."""

    code: int
    out: str
    err: str


class Forge:
    """The test's side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forge", str(there.fileno())], cwd=ROOT, pass_fds=[there.fileno()]
            )

    def run(self, args: Sequence[str], folder: Path, env: Mapping[str, str], *, timeout_s: float) -> Ended:
        """Run `spool` with these arguments to its end. Raises `TimeoutError`, with the command killed."""
        news, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with news, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            order = {"args": [*args], "folder": str(folder), "env": dict(env)}
            with told, self._lock:
                fds = [told.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(self._orders, [json.dumps(order).encode()], fds)
            news.settimeout(timeout_s)
            pid = int(news.recv(_LONGEST))
            try:
                code = int(news.recv(_LONGEST) or -signal.SIGKILL)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            written = []
            for file in (out, err):
                file.seek(0)
                written.append(file.read().decode())
        return Ended(code, *written)

    def close(self) -> None:
        """End the process."""
        self._orders.close()
        self._process.wait()


@cache
def forge() -> Forge:
    """The one of this process."""
    made = Forge()
    atexit.register(made.close)
    return made


def main(orders: socket.socket) -> None:
    """Fork for every order, until there are no more."""
    for name in ("cli.main", *LATER):
        importlib.import_module(name)
    gc.freeze()  # what stays is not looked through again in every child
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits: the command itself tells how it ended
    while True:
        order, fds, _, _ = socket.recv_fds(orders, _LONGEST, 3)
        if not order:
            return
        if os.fork() == 0:
            orders.close()
            _become(json.loads(order), *fds)
        for fd in fds:
            os.close(fd)


def _become(order: dict, told: int, out: int, err: int) -> None:
    """In the forked child: be the command. Does not return."""
    code = 70
    try:
        os.write(told, str(os.getpid()).encode())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for here, there in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(here, there)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["env"])
        random.seed()
        sys.argv = ["spool", *order["args"]]
        code = _run()
    finally:
        with suppress(Exception):  # a command that had its output closed has put nothing in its place
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(told, str(code).encode())
        os._exit(code)


def _run() -> int:
    from cli.main import app  # noqa: PLC0415 - imported by the parent already

    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 - as Python itself says it
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
