"""The real `spool` command against a real `spool dev`, in folders of their own."""

from __future__ import annotations

import json
import math
import os
import queue
import struct
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forge import forge

SPOOL = str(Path(sys.executable).parent / "spool")
SECRETS = {
    "SPOOL_SECRET": "signs-local-addresses-of-the-tests",
    "SPOOL_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "SPOOL_SMTP_URL": "smtp://someone:hidden-word@127.0.0.1:9",
    "SPOOL_MAIL_FROM": "spool@example.org",
}
#: Nothing here takes this long: it only keeps a broken test from hanging.
DEADLINE_S = 120


def environment(**settings: str) -> dict[str, str]:
    """This environment without its own settings of Spool, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPOOL_", "TURSO_"))}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200"} | settings


def until(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; fail the test when it has not by the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    pause = 0.01
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(pause)


@dataclass
class Dev:
    """A running `spool dev` and what it has said so far. Somebody must always listen: a full pipe stops who writes."""

    folder: Path
    process: subprocess.Popen[str]
    url: str = ""
    said: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.said.append(line.rstrip())
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def line(self, part: str) -> str:
        """Wait until it says a line with `part` in it."""
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            if part in line:
                return line
        pytest.fail(f"it ended without saying {part!r}:\n" + "\n".join(self.said))

    def family(self) -> set[int]:
        """Process ids of everything it has started, and that they have."""
        found = _descendants(self.process.pid)
        self.seen |= found
        return found

    def end(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(2)
        return self.rest()

    def rest(self) -> int:
        """Hear what it still says, to its end; returns the exit code."""
        self._listener.join(DEADLINE_S)
        return self.process.wait(DEADLINE_S)


#: A test that is killed takes its `spool dev` along, whose parts end with it; the signal comes when our process ends.
_WITH_US = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("whoever wanted this has gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_dev(folder: Path, *options: str, **settings: str) -> Dev:
    """Start `spool dev` on a free port and wait until it is up. One that does not come up is not left behind."""
    dev = Dev(
        folder,
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WITH_US, str(os.getpid()), SPOOL, "dev", "--port", "0", *options],
            cwd=folder,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ),
    )
    try:
        dev.url = dev.line("dashboard  http").split()[-1].removesuffix("/dashboard")
        dev.line("Ctrl-C ends")
    except BaseException:  # raised again: a timeout of the test, too
        dev.process.kill()
        dev.rest()
        raise
    return dev


@contextmanager
def running_dev(folder: Path, *options: str, **settings: str) -> Iterator[Dev]:
    """A `spool dev` for the length of a block. It must end well; a test that has failed within kills it."""
    dev = start_dev(folder, *options, **settings)
    try:
        yield dev
    except BaseException:  # raised again: what failed is told, not how it ended
        dev.process.kill()
        dev.rest()
        raise
    assert dev.end() == 0, "\n".join(dev.said)


@dataclass(frozen=True)
class Ran:
    """What one `spool` command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The only thing on standard output, as one JSON document."""
        assert self.out, f"it ended with {self.code} and said nothing but: {self.err}"
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """Standard output as one JSON document a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Spool:
    """Runs the command in a folder, against one API."""

    folder: Path
    settings: Mapping[str, str]

    def __call__(self, *args: str) -> Ran:
        """Run it to its end."""
        done = forge().run(args, self.folder, environment(**self.settings), timeout_s=DEADLINE_S)
        assert "Traceback" not in done.err, done.err
        return Ran(done.code, done.out, done.err)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start it and let it run."""
        return subprocess.Popen(
            [SPOOL, *args],
            cwd=self.folder,
            env=environment(**self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """API and one worker. Whatever the tests do with them, nothing that opens anything gets into a log."""
    settings = {"SPOOL_RATE_LIMIT": "100000", "SPOOL_LOG_LEVEL": "debug", **SECRETS}
    with running_dev(tmp_path_factory.mktemp("dev"), **settings) as running:
        yield running
    said = "\n".join(running.said)
    assert "worker ready" in said
    assert [one for one in (*SECRETS.values(), "hidden-word", "signature=") if one in said] == []


@pytest.fixture(scope="session")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """API without a worker: what is queued stays queued."""
    with running_dev(tmp_path_factory.mktemp("idle"), "--workers", "0", SPOOL_RATE_LIMIT="100000") as running:
        yield running


@pytest.fixture
def spool(dev: Dev, tmp_path: Path) -> Spool:
    """The command, talking to an API with a worker."""
    return Spool(tmp_path, {"SPOOL_API_URL": dev.url})


@pytest.fixture
def idle_spool(idle: Dev, tmp_path: Path) -> Spool:
    """The command, talking to an API that has no worker."""
    return Spool(tmp_path, {"SPOOL_API_URL": idle.url})


@pytest.fixture
def lone_spool(tmp_path: Path) -> Spool:
    """The command on a machine where nothing runs."""
    return Spool(tmp_path, {"SPOOL_API_URL": "http://127.0.0.1:9"})


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """Two seconds of a quiet 440 Hz tone, stereo, 44.1 kHz."""
    path = tmp_path / "tone.wav"
    samples = (round(3000 * math.sin(2 * math.pi * 440 * n / 44100)) for n in range(2 * 44100))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(b"".join(struct.pack("<hh", value, value) for value in samples))
    return path


def alive(pids: Sequence[int] | set[int]) -> set[int]:
    """Those of the processes that still run; zombies do not."""
    return {pid for pid in pids if state_of(pid) not in {"", "Z", "X"}}


def state_of(pid: int) -> str:
    """R, S, T, Z, … as /proc names it; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | _descendants(child)
    return found
