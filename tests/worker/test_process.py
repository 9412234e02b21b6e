"""Programs come down, whatever they do, and the proof is true: real processes, real signals, real ffmpeg."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from shared.errors import JobFailure
from worker import launcher
from worker.process import Child, Limits, Processes, clock
from worker.stop import Reason, Stop, Stopped

ROOT = Path(__file__).parents[2]
LINUX = sys.platform == "linux"
pytestmark = pytest.mark.skipif(not LINUX, reason="elsewhere only the process group is proven, which needs other tests")

#: Prints its own pid, and offers `say` and `forever` to what follows. Forever is two minutes, `over` tells: when a
#: guard was taken out on purpose, nobody else ends these programs.
PRELUDE = """
import os, signal, sys, time
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
begun = time.monotonic()
def over():
    return time.monotonic() > begun + 120
def forever():
    time.sleep(120)
    os._exit(0)
say(os.getpid())
"""
WICKED = {
    "sleeps": "say('ready'); forever()",
    "ignores SIGTERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('ready'); forever()",
    "leaves its group": """
if os.fork() == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(os.getpid()); say('ready'); forever()
forever()
""",
    "leaves a daemon that cleared its environment": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = "import os, time; os.write(1, f'{os.getpid()}\\\\nready\\\\n'.encode()); time.sleep(120)"
        os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', code], {})
    os._exit(0)
forever()
""",
    "freezes itself": "say('ready'); os.kill(os.getpid(), signal.SIGSTOP); forever()",
    "closes everything": """
say('ready')
os.closerange(0, 256)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
forever()
""",
    "fills a pipe nobody reads": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say('ready')
while not over():
    os.write(1, b'x' * 65536)
""",
    "shouts on stderr": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say('ready')
while not over():
    os.write(2, b'x' * 65536)
""",
    "forks on and on": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    say('ready'); forever()
while not over():
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.001)
""",
    "has many children": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(30):
    if os.fork() == 0:
        say(os.getpid()); forever()
say('ready'); forever()
""",
}


@pytest.fixture
def stop() -> Stop:
    """The attempt's stop."""
    return Stop()


@pytest.fixture
def processes(stop: Stop) -> Iterator[Processes]:
    """The attempt's programs; whatever a test does, none is left."""
    processes = Processes(stop, grace_s=0.2)
    yield processes
    assert processes.close() == 0


def python(code: str) -> list[str]:
    """A command that runs `code` after the prelude."""
    return [sys.executable, "-I", "-S", "-c", PRELUDE + code]


class Witness:
    """Watches processes by descriptor: no other process can be mistaken for one of them."""

    def __init__(self, *pids: int) -> None:
        self.fds = [os.pidfd_open(pid) for pid in pids]

    def all_dead(self, timeout_s: float = 0.0) -> bool:
        """Whether all have ended, by now or within the time."""
        give_up = time.monotonic() + timeout_s
        return all(select.select([fd], [], [], max(0.0, give_up - time.monotonic()))[0] for fd in self.fds)


def until_ready(child: Child) -> Witness:
    """Read the pids that a child prints before its word `ready`."""
    assert child.stdout is not None
    pids = []
    while (line := child.stdout.readline()) != b"ready\n":
        assert line, "the program ended before it was ready"
        pids.append(int(line))
    return Witness(*pids)


def test_an_end_tells_code_and_last_words(processes: Processes, tmp_path: Path) -> None:
    """Exit code, stderr, CPU time and memory are those of the program."""
    ended = processes.run(python("os.write(2, b'oh no'); sum(range(3_000_000)); sys.exit(3)"), cwd=tmp_path)
    assert (ended.returncode, ended.stderr_tail, ended.survivors) == (3, "oh no", 0)
    assert ended.cpu_s > 0
    assert ended.max_rss_bytes > 1_000_000


def test_a_signal_is_a_negative_code(processes: Processes, tmp_path: Path) -> None:
    """A program that dies of a signal says so, as in the standard library."""
    assert processes.run(python("os.kill(os.getpid(), signal.SIGSEGV)"), cwd=tmp_path).returncode == -signal.SIGSEGV


def test_a_missing_program_is_explained(processes: Processes, tmp_path: Path) -> None:
    """A tool that is not there is a permanent failure with a sentence."""
    with pytest.raises(JobFailure, match="ffmpag") as caught:
        processes.run([str(tmp_path / "ffmpag")], cwd=tmp_path)
    assert (caught.value.failure_code, caught.value.kind) == ("tool.missing", "permanent")


def test_stderr_never_blocks_and_keeps_its_end(processes: Processes, tmp_path: Path) -> None:
    """Megabytes on stderr flow away; the last words stay."""
    code = "[os.write(2, b'x' * 1_000_000) for _ in range(8)]; os.write(2, b'the end')"
    ended = processes.run(python(code), cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stderr_tail.endswith("xthe end")
    assert len(ended.stderr_tail) == 16 * 1024


def test_pipes_carry_bytes_both_ways(processes: Processes, tmp_path: Path) -> None:
    """stdin and stdout are pipes where asked for, and their end is seen."""
    with processes.start(["/bin/cat"], cwd=tmp_path, stdin=True, stdout=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"there and back")
        child.stdin.close()
        assert child.stdout.read() == b"there and back"
        assert child.wait().returncode == 0


def test_a_passed_descriptor_keeps_its_number(processes: Processes, tmp_path: Path) -> None:
    """A descriptor handed to the program works there, and its end is seen here when the program ends."""
    read, write = os.pipe()
    with processes.start(python(f"os.write({write}, b'hello')"), cwd=tmp_path, pass_fds=[write]) as child:
        os.close(write)
        assert child.wait().returncode == 0
    assert os.read(read, 100) == b"hello"
    assert os.read(read, 100) == b""
    os.close(read)


def test_the_environment_is_bare(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret of the worker reaches a program that reads hostile files."""
    monkeypatch.setenv("SPOOL_DATABASE_TOKEN", "secret")
    with processes.start(["/usr/bin/env"], cwd=tmp_path, stdout=True) as child:
        assert child.stdout is not None
        text = child.stdout.read().decode()
        child.wait()
    assert {line.partition("=")[0] for line in text.splitlines()} == {"PATH", "LANG", "HOME", "TMPDIR", "SPOOL_MARK"}


def test_limits_hold(processes: Processes, tmp_path: Path) -> None:
    """Files, memory, descriptors, CPU and core dumps are limited in the program and not in the worker."""
    big = ["/bin/sh", "-c", "exec head -c 2000000 /dev/zero > big"]
    ended = processes.run(big, cwd=tmp_path, limits=Limits(file_size_bytes=1_000_000))
    assert ended.returncode == -signal.SIGXFSZ
    assert (tmp_path / "big").stat().st_size == 1_000_000
    ended = processes.run(python("b'x' * 2_000_000_000"), cwd=tmp_path, limits=Limits(address_space_bytes=1 << 29))
    assert "MemoryError" in ended.stderr_tail
    ended = processes.run(python("[os.open('/', 0) for _ in range(99)]"), cwd=tmp_path, limits=Limits(open_files=32))
    assert "Too many open files" in ended.stderr_tail
    ended = processes.run(python("while True: pass"), cwd=tmp_path, limits=Limits(cpu_s=1))
    assert ended.returncode == -signal.SIGXCPU
    ended = processes.run(
        python("import resource; say(resource.getrlimit(resource.RLIMIT_CORE)); sys.exit(os.nice(0))"), cwd=tmp_path
    )
    assert ended.returncode >= 1


def test_a_program_waits_for_longer_turns_and_its_launcher_for_none(processes: Processes, tmp_path: Path) -> None:
    """What hands work from thread to thread is cheaper in long turns; who must stop it is to run at once."""
    turns = "[os.sched_getscheduler(pid) for pid in (0, os.getppid())] == [os.SCHED_BATCH, os.SCHED_OTHER]"
    assert processes.run(python(f"sys.exit(3 if {turns} else 4)"), cwd=tmp_path).returncode == 3


@pytest.mark.parametrize("code", WICKED.values(), ids=WICKED.keys())
def test_whatever_a_program_does_a_stop_ends_it(code: str, processes: Processes, stop: Stop, tmp_path: Path) -> None:
    """When `wait` says stopped, everyone the program started is dead already."""
    with processes.start(python(code), cwd=tmp_path, stdout=True) as child:
        witness = until_ready(child)
        stop.request(Reason.CANCEL)
        with pytest.raises(Stopped, match="cancel"):
            child.wait()
        assert witness.all_dead()
    assert processes.close() == 0


def test_what_a_program_leaves_behind_ends_with_it(processes: Processes, tmp_path: Path) -> None:
    """A program that ends in peace takes its daemons along."""
    code = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(os.getpid()); say('ready'); forever()
    os._exit(0)
sys.stdin.read()
"""
    with processes.start(python(code), cwd=tmp_path, stdin=True, stdout=True) as child:
        assert child.stdin is not None
        witness = until_ready(child)
        child.stdin.close()
        ended = child.wait()
        assert witness.all_dead()
    assert (ended.returncode, ended.survivors) == (0, 0)


def test_leaving_the_context_ends_the_program(processes: Processes, tmp_path: Path) -> None:
    """An error between start and wait leaves nobody running."""
    with (
        contextlib.suppress(ZeroDivisionError),
        processes.start(python(WICKED["sleeps"]), cwd=tmp_path, stdout=True) as child,
    ):
        witness = until_ready(child)
        raise ZeroDivisionError
    assert witness.all_dead()


def test_a_program_that_waits_for_its_reader_is_not_waited_for(stop: Stop, tmp_path: Path) -> None:
    """It hears no SIGTERM while it writes into a full pipe; once nobody reads, it ends long before the grace."""
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say('ready')
try:
    while True:
        os.write(1, bytes(1 << 20))
except BrokenPipeError:
    os._exit(7)
"""
    processes = Processes(stop, grace_s=1000.0)
    with processes.start(python(code), cwd=tmp_path, stdout=True) as child:
        until_ready(child)
    assert child.wait().returncode == 7, "its own answer to the broken pipe, not a signal"
    assert processes.close() == 0


def test_nothing_starts_after_a_stop(processes: Processes, stop: Stop, tmp_path: Path) -> None:
    """A stop asked for between two programs holds the second one back."""
    stop.request(Reason.TIMEOUT)
    with pytest.raises(Stopped, match="timeout"):
        processes.run(["/usr/bin/touch", str(tmp_path / "started")], cwd=tmp_path)
    assert not (tmp_path / "started").exists()


def test_nothing_starts_after_the_close(tmp_path: Path) -> None:
    """After the proof was given nothing may make it untrue."""
    processes = Processes(Stop())
    assert processes.close() == 0
    with pytest.raises(RuntimeError, match="over"):
        processes.run(["/usr/bin/touch", str(tmp_path / "started")], cwd=tmp_path)


def test_a_stop_reaches_an_attempt_that_reads_a_pipe(processes: Processes, stop: Stop, tmp_path: Path) -> None:
    """Nobody has to wait on the program for it to come down: the reader sees the end of the pipe."""
    with processes.start(python(WICKED["ignores SIGTERM"]), cwd=tmp_path, stdout=True) as child:
        until_ready(child)
        assert child.stdout is not None
        timer = threading.Timer(0, stop.request, [Reason.CANCEL])
        timer.start()
        assert child.stdout.read() == b""
        with pytest.raises(Stopped):
            child.wait()
        timer.join()


def test_a_killed_launcher_is_replaced(processes: Processes, tmp_path: Path) -> None:
    """When the launcher is killed, the worker finds its charges by mark and session, and ends them."""
    code = """
for leave in (lambda: None, os.setsid):
    if os.fork() == 0:
        leave()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(os.getpid()); forever()
time.sleep(0.1)
say('ready'); forever()
"""
    with processes.start(python(code), cwd=tmp_path, stdout=True) as child:
        witness = until_ready(child)
        os.kill(child._launcher.pid, signal.SIGKILL)
        ended = child.wait()
        assert len(witness.fds) == 3
        assert witness.all_dead()
    assert (ended.returncode, ended.survivors) == (-signal.SIGKILL, 0)


def test_a_frozen_launcher_is_overruled(processes: Processes, stop: Stop, tmp_path: Path) -> None:
    """When the launcher does not answer, the worker kills what is below it and then the launcher."""
    with processes.start(
        python(WICKED["leaves a daemon that cleared its environment"]), cwd=tmp_path, stdout=True
    ) as child:
        witness = until_ready(child)
        os.kill(child._launcher.pid, signal.SIGSTOP)
        stop.request(Reason.CANCEL)
        with pytest.raises(Stopped):
            child.wait()
        assert witness.all_dead()


def test_attempts_do_not_harm_each_other(tmp_path: Path) -> None:
    """Ending one attempt's programs leaves another's alone."""
    ours, theirs = Processes(Stop(), grace_s=0.2), Processes(Stop(), grace_s=0.2)
    with (
        theirs.start(python(WICKED["sleeps"]), cwd=tmp_path, stdout=True) as other,
        ours.start(python(WICKED["has many children"]), cwd=tmp_path, stdout=True) as child,
    ):
        bystander, witness = until_ready(other), until_ready(child)
        os.kill(child._launcher.pid, signal.SIGKILL)
        child.wait()
        assert ours.close() == 0
        assert witness.all_dead()
        assert not bystander.all_dead()
        assert theirs.close() == 0
        assert bystander.all_dead()


def test_cpu_time_tells_work_from_standstill(processes: Processes, tmp_path: Path) -> None:
    """A busy grandchild counts; a sleeping one does not."""
    code = """
if os.fork() == 0:
    os.setsid()
    while time.process_time() < 0.3:
        pass
    say('ready'); forever()
forever()
"""
    with processes.start(python(code), cwd=tmp_path, stdout=True) as child:
        until_ready(child)
        assert processes.cpu_s() >= 0.25
    used = processes.cpu_s()
    with processes.start(python("say('ready'); forever()"), cwd=tmp_path, stdout=True) as child:
        until_ready(child)
        assert processes.cpu_s() - used < 0.25


def test_a_lease_that_nobody_renews_ends_the_program(stop: Stop, tmp_path: Path) -> None:
    """Without a new pulse the launcher kills at the deadline, and the attempt hears that its lease was lost."""
    processes = Processes(stop, grace_s=60, deadline=clock() + 0.5)
    with pytest.raises(Stopped, match="lost"):
        processes.run(python(WICKED["ignores SIGTERM"]), cwd=tmp_path)
    assert processes.close() == 0


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from worker.process import Processes, clock
from worker.stop import Stop, Stopped
processes = Processes(Stop(), grace_s=0.2)
with processes.start([sys.executable, "-I", "-S", "-c", sys.argv[2]], cwd=Path.cwd(), stdout=True) as child:
    for line in child.stdout:
        if line == b"ready\\n":
            child.extend(clock() + float(sys.argv[3]))
        print(line.decode(), end="", flush=True)
        if line == b"ready\\n":
            break
    try:
        child.wait()
    except Stopped as stopped:
        print(stopped, flush=True)
print(processes.close(), flush=True)
"""


#: Where descendants of a program hide; and those that fight back when their worker is gone.
ELUSIVE = "leaves a daemon that cleared its environment"
RESISTING = (ELUSIVE, "leaves its group", "freezes itself", "closes everything", "shouts on stderr", "forks on and on")


def inhabitants(folder: Path) -> list[int]:
    """Everyone alive whose home is this folder, as that of a program is: also those who were never introduced."""
    found = []
    for pid in launcher.everyone():
        entry = launcher.look(pid)
        with contextlib.suppress(OSError):
            home = f"HOME={folder}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
            if home and entry is not None and entry.alive:
                found.append(pid)
    return found


@contextlib.contextmanager
def worker_process(tmp_path: Path, lease_s: float, wicked: str = ELUSIVE) -> Iterator[subprocess.Popen[str]]:
    """WORKER on a wicked program; dead when the test is over, frozen or not."""
    command = [sys.executable, "-c", WORKER, str(ROOT), PRELUDE + WICKED[wicked], str(lease_s)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def pids_of(process: subprocess.Popen[str]) -> Witness:
    """The pids it prints before `ready`."""
    assert process.stdout is not None
    pids = []
    while (line := process.stdout.readline()) != "ready\n":
        assert line, "the worker ended before its program was ready"
        pids.append(int(line))
    return Witness(*pids)


@pytest.mark.parametrize("wicked", RESISTING)
def test_a_killed_worker_takes_everything_along(tmp_path: Path, wicked: str) -> None:
    """kill -9 of the worker: its launchers see the end of the pulse and leave nobody, whatever the program does."""
    with worker_process(tmp_path, lease_s=1e9, wicked=wicked) as process:
        witness = pids_of(process)
        process.kill()
        assert witness.all_dead(timeout_s=30)
    give_up = time.monotonic() + 30
    while left := inhabitants(tmp_path):
        assert time.monotonic() < give_up, left


def test_a_frozen_worker_is_cut_off(tmp_path: Path) -> None:
    """A worker frozen past its lease finds its programs dead, by no failure of theirs, when it wakes."""
    with worker_process(tmp_path, lease_s=1.0) as process:
        witness = pids_of(process)
        process.send_signal(signal.SIGSTOP)
        assert witness.all_dead(timeout_s=30)
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.read() == "lost\n0\n"


@pytest.mark.media
@pytest.mark.parametrize("source", ["endless", "stalled"])
def test_ffmpeg_comes_down(source: str, processes: Processes, stop: Stop, tmp_path: Path) -> None:
    """A running encode ends, and so does one that waits for bytes and is deaf to SIGTERM."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keep_open = os.open(fifo, os.O_RDWR)
    lavfi = ["-f", "lavfi", "-i", "sine=r=48000"]
    ffmpeg = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-hide_banner",
        "-progress",
        "pipe:1",
        "-stats_period",
        "0.1",
    ]
    command = [*ffmpeg, *lavfi] if source == "endless" else [*ffmpeg, "-f", "s16le", "-i", str(fifo)]
    with processes.start([*command, "-f", "null", "-"], cwd=tmp_path, stdout=True) as child:
        assert child.stdout is not None
        if source == "endless":
            assert child.stdout.readline()
        else:
            os.write(keep_open, b"\0" * 4096)
        witness = Witness(child.pid)
        stop.request(Reason.CANCEL)
        with pytest.raises(Stopped):
            child.wait()
        assert witness.all_dead()
    os.close(keep_open)
