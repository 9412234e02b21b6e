"""The worker as a process: signals, sudden death, and what the next one finds."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.job import Status
from shared.store.local import LocalJobStore
from shared.types import JOB_TYPES
from tests.real.queue import new_queue
from tests.worker.stand import PATIENCE_S, ROOT, Program, settings_for, submit, until

#: What glibc reserves for the heap of a thread.
HEAP = 64 << 20


@pytest.fixture
def store(tmp_path) -> Iterator[LocalJobStore]:
    """A migrated, empty queue."""
    store = new_queue(tmp_path / "spool.db")
    yield store
    store.close()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers started by a test; none outlives it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(folder: Path, processes: list[subprocess.Popen[bytes]], **changed: object) -> subprocess.Popen[bytes]:
    """A worker process on the queue in `folder`, whose log is a pipe."""
    settings = settings_for(folder, **changed).model_dump(mode="json", exclude_unset=True)
    command = [sys.executable, "-m", "tests.worker.stand", json.dumps(settings)]
    processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE))
    return processes[-1]


def log_until(worker: subprocess.Popen[bytes], event: str) -> list[dict[str, object]]:
    """Read the worker's log up to this event."""
    assert worker.stderr is not None
    lines = []
    for line in worker.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == event:
            return lines
    raise AssertionError(f"the worker never said {event!r}")


def test_sigterm_drains(store, tmp_path, processes) -> None:
    """SIGTERM: the running job finishes, the exit code is 0, and the log is JSON with the names operators filter by."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = Program(tmp_path, f"open({str(gate)!r}).read()")
    job = submit(store, code=program.code)
    worker = start(tmp_path, processes)
    program.await_start()
    worker.send_signal(signal.SIGTERM)
    gate.write_text("go on")
    assert worker.wait(PATIENCE_S) == 0
    assert until(store, job, lambda found: found.terminal).status is Status.COMPLETED
    done = next(line for line in log_until(worker, "worker ended") if line.get("stage") == "executing")
    assert {"job", "attempt", "type", "stage", "duration_s", "worker", "timestamp", "level"} <= done.keys()


def test_two_sigterms_release(store, tmp_path, processes) -> None:
    """A second SIGTERM stops the program and gives the job back; the exit code is still 0."""
    program = Program(tmp_path, "signal.signal(15, signal.SIG_IGN); time.sleep(600)")
    job = submit(store, code=program.code)
    worker = start(tmp_path, processes)
    program.await_start()
    worker.send_signal(signal.SIGTERM)
    log_until(worker, "draining")  # two signals that meet would be one
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert program.dead()
    found = until(store, job, Status.PENDING)
    assert (found.attempt, found.failures) == (1, 0)


def test_a_killed_worker_leaves_nothing_running_and_loses_no_job(store, tmp_path, processes) -> None:
    """kill -9: the program dies at once, another worker takes the job, and clears the dead one's folder away."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    first = start(tmp_path, processes, lease_s=4.0)
    program.await_start()
    first.kill()
    assert program.dead(PATIENCE_S)
    left = {path.name for path in (tmp_path / "work").iterdir()}
    assert len(left) == 2
    second = start(tmp_path, processes, lease_s=4.0)
    program.await_start()
    found = until(store, job, lambda found: found.attempt == 2)
    assert (found.status, found.failures) == (Status.RUNNING, 1)
    assert not left & {path.name for path in (tmp_path / "work").iterdir()}
    second.kill()
    assert program.dead(PATIENCE_S)


def test_a_frozen_worker_loses_its_job_and_wakes_up_harmless(store, tmp_path, processes) -> None:
    """SIGSTOP past the lease: its program is dead before another worker runs the job; awake, it writes nothing."""
    program = Program(tmp_path)
    job = submit(store, code=program.code)
    frozen = start(tmp_path, processes, lease_s=4.0)
    program.await_start()
    frozen.send_signal(signal.SIGSTOP)
    start(tmp_path, processes, lease_s=4.0)
    until(store, job, lambda found: found.status is not Status.RUNNING)
    assert program.dead()
    program.await_start()
    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    assert frozen.wait(PATIENCE_S) == 0
    found = until(store, job, lambda _: True)
    assert (found.status, found.attempt, found.failures) == (Status.RUNNING, 2, 1)


def test_two_workers_on_one_host_leave_each_others_programs_alone(store, tmp_path, processes) -> None:
    """One is killed and its program with it; the other's goes on and ends well, in its first attempt."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    doomed, lucky = Program(tmp_path), Program(tmp_path, f"open({str(gate)!r}).read()")
    submit(store, code=doomed.code)
    first = start(tmp_path, processes)
    doomed.await_start()
    job = submit(store, code=lucky.code)
    start(tmp_path, processes)
    lucky.await_start()
    first.kill()
    assert doomed.dead(PATIENCE_S)
    assert not lucky.dead()
    gate.write_text("go on")
    found = until(store, job, lambda found: found.terminal)
    assert (found.status, found.attempt) == (Status.COMPLETED, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc, and only Linux tells of writes")
def test_a_worker_with_nothing_to_do_sleeps(store, tmp_path, processes) -> None:
    """Its threads are woken a few times a second: not a hundred to look for work, nor ten to hold nobody to limits."""
    worker = start(tmp_path, processes)
    log_until(worker, "worker ready")
    give_up, counts = time.monotonic() + PATIENCE_S, [wakes(worker.pid)]
    while len(counts) < 2 or counts[-1] - counts[-2] > 5:
        assert time.monotonic() < give_up, f"wakes by the half second: {counts}"
        time.sleep(0.5)  # the span that is counted
        counts.append(wakes(worker.pid))
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 0


def wakes(pid: int) -> int:
    """How often the threads of a process have slept and been woken."""
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for status in statuses)


def test_the_real_entry_point_explains_a_wrong_setting(tmp_path) -> None:
    """`python -m worker` with a wrong setting: one sentence, exit code 2, no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={"SPOOL_LEASE_S": "5", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "SPOOL_LEASE_S is 5 but must be at least" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_real_entry_point_works_and_ends_on_sigterm(store, tmp_path, processes) -> None:
    """With the product's pipelines it says that it is ready, has one heap, ends with 0, and leaves no folder."""
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/spool.db", "STORAGE_URL": f"file:{tmp_path}/storage"}
    settings |= {"SECRET": "0123456789abcdef" * 4, "WORK_DIR": f"{tmp_path}/work", "LOG_FORMAT": "json", "SLTS": "4"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"} | {f"SPOOL_{name}": value for name, value in settings.items()},
        stderr=subprocess.PIPE,
    )
    processes.append(worker)
    offered = sorted(kind.name for kind in JOB_TYPES.values() if kind.stages)
    said = log_until(worker, "worker ready")
    assert said[-1]["types"] == offered
    assert len({line["worker"] for line in said}) == 1
    assert [line["reason"] for line in said if line["level"] == "warning"] == [
        "SPOOL_SLTS is no setting; did you mean SPOOL_SLOTS?"
    ]
    give_up, watch = time.monotonic() + PATIENCE_S, store.watch()
    while not store.stats().workers:
        assert time.monotonic() < give_up, "the worker's heartbeat was never heard"
        watch.wait(1.0)
    watch.close()
    assert heaps_of_threads(worker.pid) == 0
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 0
    assert list((tmp_path / "work").iterdir()) == []


def heaps_of_threads(pid: int) -> int:
    """How many heaps glibc has made for threads: each begins at a multiple of 64 MiB, and keeps the rest for itself."""
    maps = Path(f"/proc/{pid}/maps")
    if not maps.exists():
        return 0
    lines = [line.split() for line in maps.read_text().splitlines()]
    spans = [(*(int(end, 16) for end in line[0].split("-")), line[1]) for line in lines]
    pairs = itertools.pairwise(spans)
    return sum(
        (first[2], rest[2]) == ("rw-p", "---p") and first[0] % HEAP == 0 and rest[1] == first[0] + HEAP
        for first, rest in pairs
    )
