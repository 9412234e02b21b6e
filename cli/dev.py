"""Starts the API and the workers as child processes, keeps them going, and proves that they are gone at the end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess  # noqa: TID251 - `spool dev` and `spool demo` start the parts, which start no tools themselves
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from cli.client import Client
from cli.console import own_command
from cli.errors import USAGE, CommandError, Refused, Unreachable
from cli.steering import as_told, steering_line
from shared.health import WORKER_SILENT_S
from shared.settings import Settings, environment_with
from shared.storage import get_storage
from shared.store import get_job_store, reset_job_store

#: A part that ran this long has recovered: its next crash is the first again.
_HEALTHY_S = 60.0
_READY_WITHIN_S = 30.0
#: How soon parts that shall end at once are told again.
_AGAIN_S = 0.5
_PR_SET_CHILD_SUBREAPER = 36

Say = Callable[[str], None]


class Signals:
    """How often this process was asked to end. An exception in the middle of an orderly end would break it."""

    def __init__(self) -> None:
        self.count = 0
        self._raise = True

    def only_count(self) -> None:
        """From here on whoever watches `count` ends the process."""
        self._raise = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle one of them."""
        self.count += 1
        if self._raise:
            raise KeyboardInterrupt


#: A process has one set of signals.
SIGNALS = Signals()


class Part:
    """One child process that is started again when it ends by itself."""

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], fds: Sequence[int], output: IO[bytes] | None
    ) -> None:
        self.name = name
        self._argv = [sys.executable, "-m", "cli.part", *argv]
        self._env, self._fds, self._output = env, fds, output
        self._crashes = 0
        self._due = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own, so that Ctrl-C reaches only the parent, which then ends it in order."""
        self._started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            self._argv, env=self._env, stdin=subprocess.PIPE, stdout=self._output, stderr=self._output,
            start_new_session=True, pass_fds=self._fds,
        )  # fmt: skip

    def tend(self, say: Say) -> None:
        """Start it again if it has ended, after 1, 2, 4 … 30 s. Raises when it says that it can never start."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._due:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        if code == USAGE:
            raise CommandError(f"The {self.name} cannot start; the lines above say why. More: spool doctor")
        self._crashes = 1 if now - self._started > _HEALTHY_S else self._crashes + 1
        pause_s = min(30, 2 ** (self._crashes - 1))
        self._due = now + pause_s
        self.process = None
        say(f"The {self.name} ended by itself ({_how(code)}); starting it again in {pause_s} s.")

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None


class Parts:
    """The API and its workers. Entering waits until the API answers; leaving ends all and raises if any is left."""

    def __init__(
        self, settings: Settings, *, port: int, workers: int, say: Say, output: IO[bytes] | None = None,
        changed: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._say = settings, say
        self._listener = listener("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.token = settings.api_tokens[0].get_secret_value() if settings.api_tokens else None
        # One beat a second makes progress live; a deployment saves writes with the usual five.
        beat = {} if "heartbeat_s" in settings.model_fields_set else {"heartbeat_s": 1}
        env = environment_with(**{"api_url": self.url, **beat, **(changed or {})})
        # A terminal is for what a person should read; a line for each request of an open page is not.
        calm = {} if "log_level" in settings.model_fields_set else {"SPOOL_LOG_LEVEL": "warning"}
        fd = self._listener.fileno()
        self.api = Part("API", ["api", "--fd", str(fd)], env=env | calm, fds=[fd], output=output)
        self.workers = [
            Part(f"worker {n}" if workers > 1 else "worker", ["worker"], env=env, fds=(), output=output)
            for n in range(1, workers + 1)
        ]
        self._all = [self.api, *self.workers]

    def __enter__(self) -> Self:
        _adopt_orphans()
        try:
            self.api.start()
            self._wait_until_ready()
            for worker in self.workers:
                worker.start()
        except BaseException:  # raised again: whatever ends the start ends the parts
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def tend(self) -> None:
        """Start again what has ended."""
        for part in self._all:
            part.tend(self._say)

    def check(self) -> None:
        """Raise when a part has ended."""
        for part in self._all:
            if not part.running:
                raise CommandError(f"The {part.name} ended before its work was done.")

    def stop(self) -> None:
        """End every part: a running job gets SPOOL_DRAIN_S to finish, then is given back. Asked again, at once."""
        SIGNALS.only_count()
        patience_s = self._settings.drain_s + self._settings.cancel_grace_s + 10
        deadline = time.monotonic() + patience_s
        heard, sent_at, killed = 0, 0.0, False
        while any(part.running for part in self._all):
            now, asked = time.monotonic(), max(1, SIGNALS.count)
            # Two signals within a moment are one to the process that gets them: what is meant twice is said again.
            if asked > heard or (asked > 1 and now > sent_at + _AGAIN_S):
                if asked > 1 >= heard:
                    self._say("Ending at once; a running job is given back and starts anew next time.")
                self._signal(signal.SIGTERM if asked < 3 else signal.SIGKILL)
                heard, sent_at = asked, now
            if now > deadline and killed:
                break  # the look for what is left tells
            if now > deadline:
                self._say(f"Something did not end within {patience_s:.0f} s; killing it. Its job is taken up again.")
                self._signal(signal.SIGKILL)
                deadline, killed = deadline + 5, True
            time.sleep(0.05)
        self._listener.close()
        left = _orphans_gone(within_s=self._settings.cancel_grace_s + 5)
        if left:
            raise CommandError(f"These processes could not be ended: {', '.join(map(str, left))}. End them by hand.")

    def _signal(self, number: signal.Signals) -> None:
        for part in self._all:
            if part.process is not None:
                part.process.send_signal(number)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        client = Client(self.url, self.token)
        reason = "it is still starting"
        while time.monotonic() < deadline:
            if not self.api.running:
                raise CommandError("The API ended while it was starting; the lines above say why. Try: spool doctor")
            try:
                client.ready()
            except Unreachable as error:
                reason = error.message
            except Refused as error:
                if error.status != 401:
                    raise
                return  # it answers whoever has a key, which `spool dev` has not
            else:
                return
            time.sleep(0.05)
        raise CommandError(f"The API is not ready after {_READY_WITHIN_S:.0f} s: {reason}")


def run_dev(settings: Settings, say: Say, *, port: int, workers: int) -> None:
    """Run everything until Ctrl-C. Jobs and files of earlier runs are there again, unless SPOOL_EPHEMERAL."""
    with ends_by_signal():
        if settings.ephemeral:
            say(f"SPOOL_EPHEMERAL: {_clear(settings)}")
        store = get_job_store(settings)
        store.migrate()
        steered = [steering_line(as_told(one)) for one in store.stats(hours=1).steering]
        reset_job_store()
        with Parts(settings, port=port, workers=workers, say=say) as parts:
            SIGNALS.only_count()
            for line in [*_addresses(parts.url, workers), *steered]:
                say(line)
            while not SIGNALS.count:
                time.sleep(0.2)
                parts.tend()
            say(f"Ending; a running job has {settings.drain_s:g} s to finish (Ctrl-C again: give it back at once) …")
        say("Everything has ended; no process is left.")


def _addresses(url: str, workers: int) -> list[str]:
    count = {0: "no worker: jobs wait", 1: "1 worker"}.get(workers, f"{workers} workers")
    return [
        f"Spool is up, with {count}.",
        f"  dashboard  {url}/dashboard",
        f"  API        {url}/api/jobs  (try it: {url}/docs)",
        f"  next       {own_command()} submit ingest FILE --watch"
        + ("" if url.endswith(":8000") else f"  (with SPOOL_API_URL={url})"),
        "Ctrl-C ends all of it.",
    ]


def _clear(settings: Settings) -> str:
    """Start with an empty database and storage. Refused while a worker lives, which may own one of the jobs."""
    path = Path(settings.database_url.removeprefix("sqlite:///"))
    if not path.exists():
        return "there was nothing to clear."
    store = get_job_store(settings)
    store.migrate()
    stats = store.stats(hours=1)
    for seen in stats.workers:
        silent_s = (stats.at - seen.seen_at) / 1000
        if silent_s < WORKER_SILENT_S:
            raise CommandError(
                f"A worker was heard of {silent_s:.0f} s ago, so jobs cannot be cleared. End it, start again when "
                f"it has been silent for {WORKER_SILENT_S:.0f} s; or leave SPOOL_EPHEMERAL unset."
            )
    reset_job_store()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    storage = get_storage(settings)
    files = storage.delete_prefix("outputs/") + storage.delete_prefix("uploads/")
    return f"the jobs of earlier runs and {files} file(s) were cleared."


def listener(host: str, port: int) -> socket.socket:
    """A listening socket, which the API inherits: a taken port is known at once, and a restart loses no caller."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without it the body of every answer waits 40 ms for the client to acknowledge the head.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        reason = "is taken" if error.errno in {48, 98} else f"cannot be used ({error.strerror})"
        raise CommandError(f"Port {port} of {host} {reason}. Choose another: --port {port + 1}", USAGE) from None
    made.listen(128)
    return made


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and a closed terminal all raise `KeyboardInterrupt`, until they are only counted."""
    before = {number: signal.signal(number, SIGNALS) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _adopt_orphans() -> None:
    """On Linux, whatever a part leaves behind becomes our child, so that its end can be awaited."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _orphans_gone(*, within_s: float) -> list[int]:
    """Reap every child there still is, killing those that outstay `within_s`; returns what is left: nothing."""
    deadline = time.monotonic() + within_s
    killed = False
    while True:
        with suppress(ChildProcessError):
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if time.monotonic() > deadline:
                left = _children()
                if killed:
                    return left
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)  # noqa: TID251 - orphans of a part that was killed itself
                killed, deadline = True, time.monotonic() + 5
            time.sleep(0.02)
            continue
        return []


def _children() -> list[int]:
    """Process ids of our children (Linux)."""
    pids: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            pids += map(int, (task / "children").read_text().split())
    return pids
