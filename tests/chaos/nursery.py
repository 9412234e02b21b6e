"""Starts workers and APIs, hundreds of them, and tells how each ended.

A process that has imported what they import, and forks: what it forks runs the same `main` as `python -m worker` and
`spool api` do, in a session and an environment of its own, at a tenth of the start. `exec` starts the commands
themselves. Run as `python -m tests.chaos.nursery`: orders on stdin, news on stdout, one JSON object a line.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90.0
COMMANDS = {
    "worker": [sys.executable, "-m", "worker"],
    "api": [sys.executable, "-c", "from cli.main import app; app()", "api", "--port", "0"],
}


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Return once the condition holds; fail the test with what is the case when it has not by the deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@dataclass
class Process:
    """A worker or an API. `status` is its exit code, negative for a signal, once it has ended."""

    name: str
    log: Path
    pid: int = 0
    status: int | None = None
    started: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended already gets none."""
        if not self.ended.is_set():
            os.kill(self.pid, number)

    def wait(self, what: str = "") -> int:
        """How it ended; fails the test when it has not by the deadline."""
        assert self.ended.wait(PATIENCE_S), f"{self.name} lives on after {PATIENCE_S:.0f} s; {what}:\n{self.tail()}"
        assert self.status is not None
        return self.status

    def await_word(self, word: str) -> None:
        """Return once it has said this."""

        def said() -> bool:
            assert not self.ended.is_set(), f"{self.name} ended with {self.status} before {word!r}:\n{self.tail()}"
            return word in self.log.read_text(errors="replace")

        until(said, self.tail)

    def tail(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Nursery:
    """The test's side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[Process] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # a signal to the test's group must not keep it from ending its children
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def start(self, kind: str, env: dict[str, str], log: Path, *, execute: bool) -> Process:
        """A worker or an API with this environment; returns when it has a process id."""
        with self._lock:
            process = Process(f"{kind} {len(self._processes)}", log)
            order = {"number": len(self._processes), "kind": kind, "env": env, "log": str(log), "execute": execute}
            self._processes.append(process)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        assert process.started.wait(PATIENCE_S), "the nursery does not answer"
        return process

    def close(self) -> None:
        """End whatever still lives."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news = json.loads(line)
            process = self._processes[news["number"]]
            if "pid" in news:
                process.pid = news["pid"]
                process.started.set()
            else:
                process.status = news["status"]
                process.ended.set()


def main() -> None:
    """The nursery's side: fork what is ordered, reap what has ended, kill what is left when the orders end."""
    import cli.main  # noqa: PLC0415 - what all of its children need, once
    import cli.serve  # noqa: F401, PLC0415 - as above
    import worker.__main__  # noqa: PLC0415 - as above
    import worker.pipelines  # noqa: F401, PLC0415 - as above

    gc.freeze()  # what stays is not looked through again in every child
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    living: dict[int, int] = {}
    orders = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        _reap(living)
        if 0 not in ready:
            continue
        more = os.read(0, 1 << 16)
        if not more:
            break
        *lines, orders = (orders + more).split(b"\n")
        for line in lines:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _become(order)
            living[pid] = order["number"]
            _tell(number=order["number"], pid=pid)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _reap(living: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _tell(number=living.pop(pid), status=os.waitstatus_to_exitcode(status))


def _tell(**news: Any) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


def _become(order: dict[str, Any]) -> None:
    """In the forked child: turn into what was ordered. Does not return."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for here, there in ((null, 0), (log, 1), (log, 2)):
            os.dup2(here, there)
        command = COMMANDS[order["kind"]]
        if order["execute"]:
            os.execve(command[0], command, order["env"])
        os.environ.clear()
        os.environ.update(order["env"])
        random.seed()
        code = _run(order["kind"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(kind: str) -> int:
    if kind == "worker":
        from worker.__main__ import main as work  # noqa: PLC0415 - imported by the parent already

        return work()
    from cli.main import app  # noqa: PLC0415 - as above

    sys.argv = ["spool", "api", "--port", "0"]
    app()
    return 0


if __name__ == "__main__":
    main()
