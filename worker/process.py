"""Starting and stopping programs: the only file, with its launcher, that does.

Every child runs under worker/launcher.py, which outlives the worker by just as long as it takes to kill whatever the
child started. Here is the other side of that bargain: the pulse, the wish to stop, and the proof. When the launcher
itself dies or freezes, this side kills and proves by the mark in the children's environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import json
import math
import os
import signal
import struct
import subprocess  # noqa: TID251 - this is the file that starts processes
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self, cast

from shared.crash import around
from shared.errors import JobFailure
from shared.job import new_id
from worker import launcher
from worker.stop import Reason, Stop

clock = launcher.clock
GIB = 1 << 30
#: Where programs are looked for.
PATH = "/usr/local/bin:/usr/bin:/bin"
#: No variables but the bare ones.
NO_MORE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use; None is unlimited. `cpu_s` counts all its threads."""

    address_space_bytes: int | None = 4 * GIB
    file_size_bytes: int | None = 16 * GIB
    cpu_s: int | None = 4 * 3600
    open_files: int | None = 256

    def _spelled(self) -> str:
        values = {
            "RLIMIT_CORE": 0,
            # macOS has the number and refuses to set it.
            "RLIMIT_AS": self.address_space_bytes if launcher.LINUX else None,
            "RLIMIT_FSIZE": self.file_size_bytes,
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_NOFILE": self.open_files,
        }
        return ",".join(f"{name}={value}" for name, value in values.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `returncode` is negative for a signal; `survivors` is the proof: 0."""

    argv: tuple[str, ...]
    returncode: int
    stderr_tail: str
    cpu_s: float
    max_rss_bytes: int
    survivors: int


class Child:
    """One program, running. Leaving its context proves that nothing of it is left."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        limits: Limits,
        stdin: bool,
        stdout: bool,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        mark: str,
        stop: Stop,
        grace_s: float,
        slack_s: float,
        deadline: float,
    ) -> None:
        self.argv = tuple(argv)
        self.pid = 0
        self._mark, self._stop, self._grace_s, self._slack_s = mark, stop, grace_s, slack_s
        self._errno = 0
        self._ended: Ended | None = None
        self._started, self._settled = threading.Event(), threading.Event()
        self._control_lock = threading.Lock()
        control, self._control = os.pipe()
        status, status_write = os.pipe()
        os.set_blocking(self._control, False)
        orders = [str(control), str(status_write), repr(deadline), repr(grace_s), mark, limits._spelled()]
        try:
            with around("child.spawn"):
                self._launcher = subprocess.Popen(  # noqa: S603 - no shell, and every argument is ours
                    [sys.executable, "-I", "-S", _launcher_path(), *orders, ",".join(map(str, pass_fds)), *self.argv],
                    stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=cwd,
                    # Nothing of the worker's own environment: it holds the keys of the database and the storage.
                    env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(cwd), "TMPDIR": str(cwd), **env},
                    pass_fds=(control, status_write, *pass_fds),
                    start_new_session=True,
                )
        except BaseException:  # raised again: the pipes are ours to close
            os.close(self._control)
            os.close(status)
            raise
        finally:
            os.close(control)
            os.close(status_write)
        self.stdin = cast(BinaryIO | None, self._launcher.stdin)
        self.stdout = cast(BinaryIO | None, self._launcher.stdout)
        threading.Thread(target=self._watch, args=(status,), name=f"child-{mark}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abandon()
        self.close_pipes()

    def abandon(self) -> int:
        """Read no more of it and bring it down; for the thread that read. Returns what `bring_down` does.

        A program that waits for its reader hears no SIGTERM: without its pipe it ends at once, not after the grace.
        """
        if self.stdout is not None:
            self.stdout.close()
        return self.bring_down()

    def wait(self) -> Ended:
        """Wait for the end. Raises `Stopped` once the attempt was asked to stop and every descendant is proven gone."""
        self._settled.wait()
        self._stop.check()
        if self._ended is None:
            raise RuntimeError(f"{self.argv[0]} was brought down while it was waited for")
        return self._ended

    def await_start(self) -> None:
        """Wait until the program runs. Raises `JobFailure` or `OSError` when it cannot."""
        self._started.wait()
        if self._errno == 0:
            return
        self._settled.wait()
        error = OSError(self._errno, os.strerror(self._errno), self.argv[0])
        if isinstance(error, FileNotFoundError | PermissionError):
            raise JobFailure(
                "tool.missing",
                f"The program {Path(self.argv[0]).name} is not there or cannot be started on this worker; "
                "run `spool doctor` there to see what to install.",
            ) from error
        raise error

    def extend(self, deadline: float) -> None:
        """Let the launcher know that it may live until `deadline` (on `clock`)."""
        self._tell(f"deadline {deadline!r}\n")

    def ask_to_stop(self, grace_s: float) -> None:
        """SIGTERM now, SIGKILL after the grace; does not wait."""
        with around("child.stop"):
            self._tell(f"stop {grace_s!r}\n")

    def bring_down(self) -> int:
        """End it and everything it started; returns how many were seen alive at last: 0 is the proof."""
        if not self._settled.is_set():
            self.ask_to_stop(self._grace_s)
            if not self._settled.wait(self._grace_s + self._slack_s):
                self._overrule_launcher()
                self._settled.wait(2 * self._slack_s)
        self._settled.set()
        if self._ended is None:
            return 1
        if self._ended.survivors:
            self._ended = dataclasses.replace(self._ended, survivors=self._replace_launcher())
        return self._ended.survivors

    def close_pipes(self) -> None:
        """Close our ends of its stdin and stdout."""
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it did not read before it ended is nobody's
                    pipe.close()

    @property
    def ended(self) -> Ended | None:
        """How it ended, None while it has not."""
        return self._ended

    def cpu_s(self) -> float:
        """CPU seconds used so far by it and all its descendants."""
        if self._ended is not None:
            return self._ended.cpu_s
        entry = launcher.look(self._launcher.pid)
        reaped = entry.reaped_cpu_s if entry is not None else 0.0
        return reaped + sum(entry.cpu_s for entry in launcher.descendants(self._launcher.pid))

    def _tell(self, line: str) -> None:
        with self._control_lock:
            if self._control < 0:
                return
            # A launcher that is frozen or gone does not listen: bring_down and _watch see to that.
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._control, line.encode())

    def _watch(self, status: int) -> None:
        """In a thread of its own, so that a launcher's death is answered at once whatever the attempt is doing."""
        with open(status, "rb") as lines:
            first = _read_json(lines.readline())
            self.pid, self._errno = first.get("pid", 0), first.get("errno", 0)
            self._started.set()
            verdict = _read_json(lines.readline())
            tail = lines.read()
        self._launcher.wait()
        with self._control_lock:
            os.close(self._control)
            self._control = -1
        if verdict.get("cut_off"):
            self._stop.request(Reason.LOST)
        self._ended = Ended(
            argv=self.argv,
            returncode=verdict.get("returncode", -signal.SIGKILL),
            stderr_tail=tail.decode(errors="replace"),
            cpu_s=verdict.get("cpu_s", 0.0),
            max_rss_bytes=verdict.get("max_rss_bytes", 0),
            survivors=0 if verdict or self._errno else self._replace_launcher(),
        )
        self._settled.set()

    def _overrule_launcher(self) -> None:
        """It does not answer: kill what is below it, then itself. `_watch` does the rest."""
        give_up = clock() + self._slack_s
        strangers: set[int] = set()
        while clock() < give_up:
            alive = [entry.pid for entry in launcher.descendants(self._launcher.pid, strangers) if entry.alive]
            if not alive:
                break
            with around("survivors.kill"):
                _kill_each(alive)
        with around("launcher.kill"):
            self._launcher.kill()

    def _replace_launcher(self) -> int:
        """It died without a verdict: kill whoever has the mark or is in the child's session."""
        if not launcher.LINUX and self.pid:
            launcher.send(self.pid, signal.SIGKILL, group=True)
        return kill_until_gone(f"{self._mark}\0", self.pid, self._slack_s)


@dataclass(frozen=True, slots=True)
class Use:
    """What all programs of an attempt used, and the most that a single one did."""

    cpu_s: float
    cpu_peak_s: float
    rss_peak_bytes: int


class Processes:
    """The programs of one attempt: it knows the attempt's stop, the grace, and until when its lease lets them live.

    `deadline` (on `clock`) is when their launchers kill them if nobody extends it. May be used from any thread.
    """

    def __init__(self, stop: Stop, *, grace_s: float = 5.0, slack_s: float = 2.0, deadline: float = math.inf) -> None:
        self._stop, self._grace_s, self._slack_s = stop, grace_s, slack_s
        self._deadline = deadline
        self._mark = new_id()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._children: list[Child] = []
        self._adopted: list[Child] = []
        self._cpu_s = 0.0
        self._closed = False
        stop.on_request(self._on_stop)

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        limits: Limits = Limits(),
        stdin: bool = False,
        stdout: bool = False,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] = NO_MORE,
    ) -> Child:
        """Start a program with pipes to its stdin and stdout where asked for; what it says on stderr is kept, bounded.

        It sees a bare environment and `env`. Raises `Stopped`, `JobFailure` (`tool.missing`), or `OSError`.
        """
        self._stop.check()
        if self._closed:
            raise RuntimeError("the attempt is over: it starts no more programs")
        child = Child(
            argv,
            cwd=cwd,
            limits=limits,
            stdin=stdin,
            stdout=stdout,
            pass_fds=pass_fds,
            env=env,
            mark=f"{self._mark}.{next(self._numbers)}",
            stop=self._stop,
            grace_s=self._grace_s,
            slack_s=self._slack_s,
            deadline=self._deadline,
        )
        with self._lock:
            self._children.append(child)
            child.extend(self._deadline)
        try:
            if self._stop.reason is None and not self._closed:
                child.await_start()
            self._stop.check()
        except BaseException:  # raised again: whatever ends the start leaves no program behind
            child.__exit__(None, None, None)
            raise
        return child

    def run(self, argv: Sequence[str], *, cwd: Path, limits: Limits = Limits()) -> Ended:
        """Start a program and wait for its end."""
        with self.start(argv, cwd=cwd, limits=limits) as child:
            return child.wait()

    def extend(self, deadline: float) -> None:
        """The lease was renewed: the children may live until `deadline`. Never shortens."""
        with self._lock:
            self._deadline = max(self._deadline, deadline)
            for child in (*self._children, *self._adopted):
                child.extend(self._deadline)

    def adopt(self, child: Child) -> None:
        """A program that was there before, and may outlive the attempt, lives by this lease now, and ends with `close`.

        It is not asked to stop with the others: whoever lends it may make it let go by gentler means first.
        """
        with self._lock:
            self._adopted.append(child)
            child.extend(self._deadline)

    def disown(self, child: Child) -> None:
        """The attempt is done with a program that goes on."""
        with self._lock:
            self._adopted.remove(child)

    def cpu_s(self) -> float:
        """CPU seconds used so far by everything the attempt has started; for telling work from standstill."""
        if not launcher.LINUX:
            return clock()  # no way to ask without starting a program: never a standstill, the timeout still holds
        with self._lock:
            children = [*self._children, *self._adopted]
        return sum(child.cpu_s() for child in children)

    def use(self) -> Use:
        """What the programs that have ended used."""
        ended = [child.ended for child in self._snapshot() if child.ended is not None]
        return Use(
            sum(one.cpu_s for one in ended),
            max((one.cpu_s for one in ended), default=0.0),
            max((one.max_rss_bytes for one in ended), default=0),
        )

    def close(self) -> int:
        """Stop everything and prove it; returns the number of survivors, 0 when proven gone. May be repeated."""
        self._closed = True
        survivors = self._bring_down()
        with self._lock:
            adopted = list(self._adopted)
        survivors += sum(child.bring_down() for child in adopted)
        for child in self._snapshot():
            child.close_pipes()
        return max(survivors, kill_until_gone(f"{self._mark}.", 0, self._slack_s))

    def _on_stop(self) -> None:
        children = self._snapshot()
        for child in children:
            child.ask_to_stop(self._grace_s)
        if children:
            # The attempt may be busy reading a pipe: whether the launchers obey is watched from here.
            threading.Thread(target=self._bring_down, name="bring-down", daemon=True).start()

    def _bring_down(self) -> int:
        children = self._snapshot()
        for child in children:
            child.ask_to_stop(self._grace_s)
        return sum(child.bring_down() for child in children)

    def _snapshot(self) -> list[Child]:
        with self._lock:
            return list(self._children)


def kill_until_gone(mark: str, session: int, timeout_s: float) -> int:
    """SIGKILL everyone with this mark (a prefix), or in this session, until none is left; returns how many are."""
    give_up = clock() + timeout_s
    while True:
        alive = launcher.marked(mark)
        if session:
            entries = (launcher.look(pid) for pid in launcher.everyone())
            alive += [entry.pid for entry in entries if entry is not None and entry.alive and entry.session == session]
        with around("survivors.kill"):
            _kill_each(alive)
        if not alive or clock() > give_up:
            return len(alive)
        time.sleep(0.002)


def _kill_each(pids: Sequence[int]) -> None:
    for pid in pids:
        launcher.send(pid, signal.SIGKILL)


@functools.cache
def _launcher_path() -> str:
    """The launcher, compiled where Python keeps that and it is of this very source: it saves a quarter of its start."""
    source = Path(launcher.__file__)
    compiled = Path(importlib.util.cache_from_source(str(source)))
    about = source.stat()
    header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(about.st_mtime), about.st_size)
    try:
        with compiled.open("rb") as file:
            return str(compiled if file.read(16) == header else source)
    except OSError:
        return str(source)


def _read_json(line: bytes) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(line)) if line.endswith(b"\n") else {}
