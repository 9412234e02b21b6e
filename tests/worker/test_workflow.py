"""Workflows under a worker: long-lived programs that do job after job, and are started again when they end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.job import Status, new_id
from shared.settings import environment_with
from shared.store.sql import SqlJobStore
from shared.store.values import ClaimRequest
from tests.cli.conftest import until as happens
from tests.contract.factory import due
from tests.worker.stand import PATIENCE_S, ROOT, Program, until
from tests.worker.talk import Talk, queue_on
from worker.pool import backoff_s

PARAMS = {
    "text": {"type": "string", "default": "hello"},
    "gate": {"type": "string"},
    "images": {"type": "files", "maxItems": 4, "maxBytes": 10},
}
#: Says its pid, waits at a gate where there is one, and says so in its result.
POLITE = """
def work(job):
    job.preview(str(os.getpid()))
    while job.params["gate"] and not os.path.exists(job.params["gate"]):
        job.progress(1, 2)
        time.sleep(0.02)
    job.finish({"pid": os.getpid(), "text": job.params["text"]})
serve(work)
"""


@pytest.fixture
def store(request, tmp_path) -> Iterator[SqlJobStore]:
    """A queue on the named database; asked for before the worker, so that it outlives it."""
    with queue_on(request.param, tmp_path) as store:
        yield store


@pytest.fixture
def flow(tmp_path) -> Iterator[Callable[..., Talk]]:
    """Starts a worker with one workflow program."""
    talks: list[Talk] = []

    def made(program: str = POLITE, **about: Any) -> Talk:
        talks.append(Talk(tmp_path, program=program, kind="workflow", params=PARAMS, **about))
        return talks[-1].start()

    yield made
    for one in talks:
        one.close()


def pid_of(talk: Talk, **params: Any) -> int:
    """Which process does a job."""
    job = talk.ended(talk.submit(**params))
    assert job.status is Status.COMPLETED, job.error
    return int(job.result["result"]["pid"])


def states(talk: Talk) -> dict[str, int]:
    """What the worker's next heartbeat tells of its program."""
    found: dict[str, int] = talk.worker.measures.snapshot()["programs"]["workflow:echo"]
    return found


def began(talk: Talk, job: Any) -> int:
    """The pid of the process that has begun a job."""

    def previews() -> list[str]:
        return [event.message for event in talk.store.events(job.id) if event.kind == "preview"]

    until(talk.store, job, lambda _: bool(previews()))
    return int(previews()[-1])


@contextmanager
def watched(pid: int) -> Iterator[Callable[[float], bool]]:
    """Tells whether a process has ended, within some seconds."""
    fd = os.pidfd_open(pid)
    try:
        yield lambda timeout_s: bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def test_one_process_does_job_after_job(flow):
    """It is started once; defaults are filled in; stages, progress, previews and log arrive in order."""
    flow = flow(
        "def work(job):\n    job.stage('denoising')\n    job.progress(4, 8)\n    job.preview('half', {'step': 4})\n"
        "    job.log('warm', 'debug')\n    job.stage('encoding')\n    job.progress(1, 2)\n    print('stray')\n"
        "    (job.folder / 'a.txt').write_text(job.params['text'])\n"
        "    made = {'path': job.folder / 'a.txt', 'name': 'a.txt', 'content_type': 'text/plain'}\n"
        "    job.finish({'pid': os.getpid()}, [made])\n"
        "serve(work)"
    )
    jobs = [flow.ended(flow.submit()), flow.ended(flow.submit(text="bye"))]
    assert [job.status for job in jobs] == [Status.COMPLETED] * 2
    assert len({job.result["result"]["pid"] for job in jobs}) == 1
    contents = []
    for job in jobs:
        with flow.storage.open(job.outputs[0].key) as (_, file):
            contents.append(file.read())
    assert contents == [b"hello", b"bye"]
    told = [event.message for event in flow.store.events(jobs[0].id) if event.kind in {"log", "preview", "stage"}]
    assert told == ["downloading", "running", "denoising", "half", "warm", "encoding", "uploading"]


def test_the_stage_of_a_program_is_the_stage_of_its_job(flow, tmp_path):
    """Polls see what the program calls its work, within the stage of the type; a name that is too long is cut."""
    gate = tmp_path / "gate"
    flow = flow(
        "def work(job):\n    job.stage('denoising ' + 100 * 'x')\n    job.progress(1, 4)\n"
        "    while not os.path.exists(job.params['gate']):\n        time.sleep(0.02)\n    job.finish({})\nserve(work)"
    )
    job = flow.submit(gate=str(gate))
    shown = until(flow.store, job, lambda found: found.progress == 25)
    assert (shown.stage, shown.stage_index, shown.stage_count) == ("denoising " + 54 * "x", 1, 3)
    gate.touch()
    assert flow.ended(job).status is Status.COMPLETED


def test_files_are_there_before_the_program_hears_of_them(flow, tmp_path):
    """Sources become paths, in their order; what is too large together fails although it came past the API."""
    for name, content in (("a", "one"), ("b", "two"), ("c", "x" * 9)):
        (tmp_path / name).write_text(content)
    flow = flow(
        "def work(job):\n    job.finish({'read': [open(path).read() for path in job.params['images']]})\nserve(work)"
    )
    a, b, c = (flow.upload(tmp_path / name).id for name in "abc")
    assert flow.ended(flow.submit(images=[b, a])).result == {"result": {"read": ["two", "one"]}}
    failed = flow.ended(flow.submit(images=[a, c]))
    assert (failed.status, failed.error["code"]) == (Status.FAILED, "bad_input.too_large")


@pytest.mark.parametrize("store", ["sqlite", "libsql"], indirect=True)
def test_a_crash_starts_it_again_and_tries_the_job_once_more(store, flow, tmp_path):
    """The program dies at a job: that job is done by the next process; one that kills every process is given up."""
    died = tmp_path / "died"
    flow = flow(
        f"def work(job):\n    if job.params['text'] == 'bomb' or not os.path.exists({str(died)!r}):\n"
        f"        open({str(died)!r}, 'w')\n        print('out of memory', file=sys.stderr)\n        os.abort()\n"
        "    job.finish({'pid': os.getpid()})\nserve(work)",
        store=store,
    )
    job = flow.submit()
    until(flow.store, job, lambda found: found.failures == 1)
    assert any("out of memory" in line for line in flow.log(job))
    due(flow.store, job.id)
    job = flow.ended(job)
    assert (job.status, job.attempt) == (Status.COMPLETED, 2)
    bomb = flow.submit(text="bomb")
    until(flow.store, bomb, lambda found: found.failures == 1)
    due(flow.store, bomb.id)
    bomb = flow.ended(bomb)
    assert (bomb.status, bomb.error["code"]) == (Status.DEAD_LETTER, "program.crashed")
    assert pid_of(flow) != job.result["result"]["pid"]


def test_a_program_that_cannot_stay_up_is_told_of(flow):
    """What the heartbeat carries counts the ends in a row; a program that is up is counted as that."""
    crashing = flow("sys.exit(3)", instances=2)
    happens(lambda: states(crashing)["ended"] >= 2, "the second crash in a row")
    assert (states(crashing)["of"], states(crashing)["up"]) == (2, 0)
    crashing.write(POLITE)
    happens(lambda: states(crashing) == {"of": 2, "up": 2, "ended": 0}, "the start of both")


def test_ends_are_counted_until_a_job_is_done(flow):
    """A program that gets ready and ends has got nowhere, and is waited for longer; one that did a job begins anew."""
    ending = "import threading\nthreading.Timer(0.05, os._exit, [3]).start()\n"
    flow = flow(ending + POLITE)
    happens(lambda: states(flow)["ended"] >= 2, "the second end in a row")
    flow.write(POLITE)
    happens(lambda: states(flow)["up"] == 1, "the start of one that stays")
    (instance,) = flow.worker._pools._instances
    assert instance.ends_in_a_row >= 2
    os.kill(pid_of(flow), signal.SIGKILL)
    happens(lambda: instance.ends_in_a_row == 1, "the end of the one that did a job")


def test_a_program_that_keeps_ending_is_waited_for_longer_and_never_given_up():
    """Twice as long after each end in a row, up to a minute; so too after a day and a half, the two thousandth time."""
    assert [backoff_s(ends) for ends in (1, 2, 3, 6, 7, 2000)] == [1, 2, 4, 32, 60, 60]


def test_of_many_processes_the_worst_is_told_of(tmp_path):
    """As often as one of those that are not up has ended in a row; those that are up count as that."""
    talk = Talk(tmp_path, program=POLITE, kind="workflow", params=PARAMS, instances=4)
    for instance, (ends, ready) in zip(
        talk.worker._pools._instances, [(2, False), (5, False), (1, False), (9, True)], strict=True
    ):
        instance.ends_in_a_row, instance.ready = ends, ready
    assert states(talk) == {"of": 4, "up": 1, "ended": 5}
    talk.close()


def test_its_own_error_ends_the_job_and_not_the_program(flow):
    """The sentence is the program's; the next job is done by the same process."""
    flow = flow(
        "def work(job):\n    if job.params['text'] == 'bad':\n        job.fail('The prompt is empty.', code='prompt')\n"
        "    else:\n        job.finish({'pid': os.getpid()})\nserve(work)"
    )
    before = pid_of(flow)
    failed = flow.ended(flow.submit(text="bad"))
    assert (failed.status, failed.error["code"], failed.error["message"]) == (
        Status.FAILED,
        "program.prompt",
        "The prompt is empty.",
    )
    assert pid_of(flow) == before


def test_what_breaks_the_protocol_is_ended(flow):
    """A file from elsewhere fails the job, and the process that named it is not trusted with another."""
    flow = flow(
        "def work(job):\n    outputs = [{'path': '/etc/passwd', 'name': 'x'}] if job.params['text'] == 'bad' else []\n"
        "    job.finish({'pid': os.getpid()}, outputs)\nserve(work)"
    )
    before = pid_of(flow)
    assert flow.ended(flow.submit(text="bad")).error["code"] == "program.faulty"
    assert pid_of(flow) != before


def test_jobs_are_given_to_all_idle_programs(flow, tmp_path):
    """Two processes do two jobs at once, one each."""
    flow = flow(instances=2, slots=2)
    gate = tmp_path / "gate"
    jobs = [flow.submit(gate=str(gate)) for _ in range(2)]
    both = {began(flow, job) for job in jobs}
    assert len(both) == 2
    gate.touch()
    for job in jobs:
        assert flow.ended(job).status is Status.COMPLETED


def test_who_was_idle_the_longest_is_next(flow):
    """One job after the other: as soon as both processes are there, they alternate."""
    flow = flow(instances=2)
    first = second = pid_of(flow)
    while second == first:
        first, second = second, pid_of(flow)
    assert [pid_of(flow) for _ in range(4)] == [first, second] * 2


def test_a_job_may_take_longer_than_the_pulse_of_an_idle_program(flow):
    """While it has a job a program lives by the job's lease."""
    flow = flow("def work(job):\n    time.sleep(3)\n    job.finish({'pid': 1})\nserve(work)")
    for instance in flow.worker._pools._instances:
        instance.pulse_s = 1.5
    job = flow.ended(flow.submit())
    assert (job.status, job.attempt) == (Status.COMPLETED, 1)


def test_a_job_waits_in_the_queue_until_a_program_is_idle(flow, tmp_path):
    """Slots that have no program claim none of its jobs: another worker may be free."""
    flow = flow(slots=3)
    gate = tmp_path / "gate"
    first = flow.submit(gate=str(gate))
    began(flow, first)
    second = flow.submit()
    request = flow.worker._request({})
    assert "workflow:echo" not in request.worker.types
    assert flow.worker._pools.offer() == {}
    assert flow.store.get(second.id).status is Status.PENDING
    gate.touch()
    assert flow.ended(second).status is Status.COMPLETED
    assert flow.ended(first).status is Status.COMPLETED


def test_a_polite_program_survives_a_cancel(flow, tmp_path):
    """It lets go of the job and takes the next one."""
    flow = flow()
    job = flow.submit(gate=str(tmp_path / "never"))
    pid = began(flow, job)
    flow.store.cancel(job.id)
    assert flow.ended(job).status is Status.CANCELLED
    assert pid_of(flow) == pid


def test_a_deaf_program_is_killed_for_a_cancel(flow, tmp_path):
    """It and its child are gone before the job says cancelled, and another process takes the next job."""
    child = Program(tmp_path, "signal.signal(15, signal.SIG_IGN)\ntime.sleep(600)")
    flow = flow(
        "signal.signal(15, signal.SIG_IGN)\ndef work(job):\n    job.preview(str(os.getpid()))\n"
        "    if job.params['gate']:\n"
        f"        subprocess.run([sys.executable, '-c', {child.code!r}], start_new_session=True)\n"
        "    job.finish({'pid': os.getpid()})\nserve(work)",
        cancel_s=0.2,
    )
    job = flow.submit(gate="closed")
    pid = began(flow, job)
    child.await_start()
    with watched(pid) as ended:
        flow.store.cancel(job.id)
        assert flow.ended(job).status is Status.CANCELLED
        assert ended(0)
        assert child.dead()
    assert pid_of(flow) != pid


def test_a_program_that_is_not_ready_is_not_offered(flow):
    """A job waits until it is; one that does not get ready in its time is ended and started again."""
    flow = flow(
        "tries = os.path.join(os.environ['HOME'], 'tries')\nopen(tries, 'a').write('x')\n"
        "if os.path.getsize(tries) < 2:\n    time.sleep(600)\n"
        "def work(job):\n    job.finish({'pid': os.path.getsize(tries)})\nserve(work)",
        start_s=2,
    )
    assert pid_of(flow) >= 2


def test_it_ends_with_its_worker(flow, tmp_path):
    """A drain lets the running job finish; then no process is left."""
    flow = flow()
    gate = tmp_path / "gate"
    job = flow.submit(gate=str(gate))
    pid = began(flow, job)
    with watched(pid) as ended:
        flow.worker.drain()
        gate.touch()
        flow._thread.join(PATIENCE_S)
        assert not flow._thread.is_alive()
        assert ended(0)
    assert flow.store.get(job.id).status is Status.COMPLETED


@pytest.mark.parametrize(
    ("how", "busy"),
    [(signal.SIGSTOP, False)]
    + ([(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGSTOP, True)] if "AGENT_S" in os.environ else []),
)
def test_it_does_not_outlive_a_worker_that_dies_or_freezes(tmp_path, how, busy):
    """kill -9 or a freeze of a real worker: the program is gone, idle or at work, before the lease could end."""
    flow = Talk(tmp_path, program=POLITE, kind="workflow", params=PARAMS)
    changed = {
        "database_url": f"sqlite:///{tmp_path}/spool.db",
        "storage_url": f"file:{tmp_path}/storage",
        "work_dir": tmp_path / "work",
        "programs": flow.registered,
        "heartbeat_s": 1,
        "lease_s": 6,
        "cancel_grace_s": 0.5,
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "worker"], cwd=ROOT, env=environment_with(**changed), stderr=subprocess.DEVNULL
    )
    try:
        gate = tmp_path / "gate"
        job = flow.submit(gate=str(gate))
        pid = began(flow, job)
        if not busy:
            gate.touch()
            flow.ended(job)
        with watched(pid) as ended:
            worker.send_signal(how)
            assert ended(PATIENCE_S)
    finally:
        worker.send_signal(signal.SIGCONT)
        worker.kill()
        worker.wait()
        flow.close()


def test_a_worker_offers_it_only_while_it_is_idle(tmp_path):
    """Before its program is ready a worker cannot even claim the job."""
    flow = Talk(tmp_path, program=POLITE, kind="workflow", params=PARAMS)
    job = flow.submit()
    request = flow.worker._request(flow.worker._pools.offer())
    assert flow.store.claim(ClaimRequest(request.worker, new_id(), 90)) is None
    assert "workflow:echo" in flow.worker.identity.types, "others see that this worker can do it"
    assert flow.store.get(job.id).status is Status.PENDING
    assert Path(flow.registered).exists()
    flow.close()


def test_a_program_is_offered_once_however_often_it_comes_back(tmp_path):
    """Ready again while it is idle, offered or lent: there is one of it, and one job at a time."""
    flow = Talk(tmp_path, program=POLITE, kind="workflow", params=PARAMS)
    pools = flow.worker._pools
    (instance,) = pools._instances
    instance.ready = True
    for _ in range(2):
        pools._became_ready(instance)
    offered = pools.offer()
    assert list(offered) == ["workflow:echo"]
    pools._became_ready(instance)
    assert pools.offer() == {}
    job = flow.submit()
    pools.settle(offered, job)
    pools._became_ready(instance)
    assert pools.offer() == {}
    assert pools.lent(job) is instance
    pools.give_back(job)
    assert pools.offer() == offered
    assert pools.offer() == {}
    flow.close()
