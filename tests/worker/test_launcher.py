"""The launcher by itself: light, and true to its pulse whoever holds the other end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import launcher
from worker.launcher import clock, descendants, look, marked

DEAF = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.write(1, b'ready\\n'); time.sleep(600)"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and uses a subreaper")


class Launched:
    """A launcher with a Python program below it."""

    def __init__(
        self, code: str, *, deadline: float = 1e18, grace_s: float = 0.2, program: str = sys.executable
    ) -> None:
        control, self.pulse = os.pipe()
        self.status, status = os.pipe()
        orders = [str(control), str(status), str(deadline), str(grace_s), "mark", "RLIMIT_CORE=0", ""]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", launcher.__file__, *orders, program, "-I", "-S", "-c", code],
            pass_fds=(control, status),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(control)
        os.close(status)
        self.lines = os.fdopen(self.status, "rb")
        self.first = json.loads(self.lines.readline())

    def ready(self) -> int:
        """Wait for the program's word; returns a descriptor of it."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        return os.pidfd_open(self.first["pid"])

    def verdict(self) -> dict[str, object]:
        """How it ended, once the launcher has."""
        verdict = json.loads(self.lines.readline())
        assert self.process.wait() == 0
        return verdict

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.lines.close()


@pytest.fixture
def launched(request) -> Iterator[Launched]:
    """A launcher on a program that is deaf to SIGTERM."""
    one = Launched(DEAF, **getattr(request, "param", {}))
    yield one
    one.close()


def is_over(fd: int) -> bool:
    """Whether the process of this descriptor has ended."""
    return bool(select.select([fd], [], [], 0)[0])


def test_the_launcher_stays_light() -> None:
    """It is started for every program: what would make its start slow must not creep in."""
    code = f"""
import sys
before = set(sys.modules)
exec(open({launcher.__file__!r}).read(), {{"__name__": "launcher"}})
print(*sorted(set(sys.modules) - before))
"""
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    heavy = {"typing", "signal", "json", "subprocess", "pathlib", "enum", "re", "threading", "collections", "functools"}
    assert not heavy & set(ended.stdout.split())


def test_the_end_of_the_pulse_ends_everything(launched) -> None:
    """The worker is gone: SIGTERM, grace, SIGKILL, and a verdict although nobody may read it."""
    program = launched.ready()
    os.close(launched.pulse)
    assert launched.verdict()["returncode"] == -signal.SIGKILL
    assert is_over(program)


@pytest.mark.parametrize("launched", [{"grace_s": 1000.0}], indirect=True)
def test_the_deadline_ends_everything(launched) -> None:
    """No new pulse until the deadline: killed without a grace, and said so."""
    program = launched.ready()
    os.write(launched.pulse, f"deadline {clock()}\n".encode())
    verdict = launched.verdict()
    assert (verdict["returncode"], verdict["cut_off"]) == (-signal.SIGKILL, True)
    assert is_over(program)
    os.close(launched.pulse)


@pytest.mark.parametrize("launched", [{"grace_s": 1000.0}], indirect=True)
def test_a_pulse_may_shorten_a_grace_that_runs(launched) -> None:
    """A stop during a long grace with a shorter one wins; the deadline cuts every grace."""
    program = launched.ready()
    os.write(launched.pulse, b"stop 1000\nstop 0.1\n")
    verdict = launched.verdict()
    assert (verdict["returncode"], verdict["cut_off"]) == (-signal.SIGKILL, False)
    assert is_over(program)
    os.close(launched.pulse)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_launcher_is_a_stop(launched, number) -> None:
    """A person who ends the launcher ends the program with it."""
    program = launched.ready()
    launched.process.send_signal(number)
    assert launched.verdict()["returncode"] == -signal.SIGKILL
    assert is_over(program)
    os.close(launched.pulse)


def test_a_program_that_cannot_start_is_told_by_number() -> None:
    """The launcher says errno and ends."""
    one = Launched("", program="/nonexistent")
    assert one.first == {"errno": 2}
    assert one.process.wait() == 0
    os.close(one.pulse)
    one.close()


def test_processes_are_read_whatever_their_name(tmp_path: Path) -> None:
    """A name with spaces and parentheses does not confuse the reader of /proc."""
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/cat")
    with subprocess.Popen([odd], stdin=subprocess.PIPE) as process:
        entry = look(process.pid)
        assert entry is not None
        assert (entry.parent, entry.alive) == (os.getpid(), True)
        assert process.pid in {found.pid for found in descendants(os.getpid())}
        assert os.getppid() not in {found.pid for found in descendants(os.getpid())}


def test_a_mark_is_found_whole() -> None:
    """A mark finds who carries it, and not who carries a longer one when its end is asked for."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, env={"SPOOL_MARK": "attempt.12"}) as process:
        assert marked("attempt.") == [process.pid]
        assert marked("attempt.12\0") == [process.pid]
        assert marked("attempt.1\0") == []
