"""The auditor and the witnesses can see: every count becomes red by the smallest thing that it is there for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.job import Job, NewJob, Outcome, Output, new_id
from shared.storage.local import LocalStorage
from shared.store.local import LocalJobStore
from shared.store.values import ClaimRequest, Worker
from tests.chaos import audit
from tests.chaos.load import BAD_LINK
from tests.chaos.witness import ORPHAN_S, Book, Witness
from tests.media import signals
from tests.network.deployment import Deployment, Part, until
from tests.network.test_whole_way import overlaps

OWNER = Worker("worker-a", "here", "0", ("ingest",), 1)


def stored(folder: Path, job: Job) -> Output:
    """The file `made` as an output of a job."""
    key = f"outputs/{job.id}/{job.attempt}/mp3"
    put = LocalStorage(folder / "storage", b"").put(
        folder / "made", key, content_type="audio/mpeg", progress=lambda *_: None
    )
    assert put.sha256 is not None
    return Output("mp3", key, "audio/mpeg", put.size_bytes, put.sha256)


class Scene:
    """A deployment without processes, in which one job completed, with a file, and one waits."""

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder, None)
        self.store = LocalJobStore(self.deployment.file)
        self.done = self._complete(folder)
        self.waiting = self.create("waiting")
        self.acknowledged = {self.done.id: "done", self.waiting.id: "waiting"}

    def create(self, key: str) -> Job:
        """A job under a key."""
        new = NewJob(id=new_id(), type="ingest", params={"source": key}, idempotency_key=key, request_hash=key)
        return self.store.create([new])[0]

    def _complete(self, folder: Path) -> Job:
        self.create("done")
        job = self.store.claim(ClaimRequest(OWNER, new_id(), 90.0))
        assert job is not None
        (folder / "made").write_bytes(b"sound")
        return self.store.finish(job.claim, Outcome("completed", {}, (stored(folder, job),))).job

    def change(self, text: str) -> None:
        """What a fault in Spool might do to the database; DONE and WAITING stand for the jobs."""
        drop = "".join(f"DROP TRIGGER IF EXISTS {name};" for name in ("job_move_refused", "job_moved", "job_ended"))
        with self.store._connection() as database:
            database.executescript(drop + text.replace("DONE", self.done.id).replace("WAITING", self.waiting.id))

    def add_event(self, job: str, attempt: int, message: str, line: int | None = None) -> None:
        """An event as a fault in Spool might write it: a state, or with a number a line."""
        kind, n = ("state", "NULL") if line is None else ("log", line)
        self.change(
            "INSERT INTO event (job_id, attempt, line, at, level, kind, message) "
            f"VALUES ('{job}', {attempt}, {n}, 99999999999999, 'info', '{kind}', '{message}')"
        )

    def findings(self, judge: Callable[..., list[str]], *more: object) -> list[str]:
        """What a judge finds now."""
        return judge(audit.Evidence(self.deployment), *more)


@pytest.fixture
def scene(tmp_path) -> Iterator[Scene]:
    """The scene, before anything is wrong with it but that one job waits."""
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()
    scene.deployment.close()


def test_nothing_is_found_where_nothing_is_wrong(scene, tmp_path):
    """The scene as it is: only the job that waits is missed."""
    assert scene.findings(audit.lost, scene.acknowledged) == [f"{scene.waiting.id}: is pending"]
    scene.store.cancel(scene.waiting.id)
    for judge, more in {
        audit.lost: (scene.acknowledged,),
        audit.doubled: (scene.acknowledged,),
        audit.late_writes: (),
        audit.overtaken: (),
        audit.undone_cancels: ({},),
        audit.wrong_ends: (),
        audit.wrong_outputs: (tmp_path / "copy",),
    }.items():
        assert scene.findings(judge, *more) == [], judge.__name__
    assert audit.unsound(scene.deployment) == []


def test_a_job_that_is_gone_is_lost(scene):
    """Acknowledged, and not there."""
    scene.acknowledged["gone"] = "gone"
    assert "gone: is not there" in scene.findings(audit.lost, scene.acknowledged)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tally SET jobs = 2",
        "UPDATE job SET attempt = 2 WHERE id = 'DONE'",
        "DROP INDEX job_idempotency; UPDATE job SET idempotency_key = 'done'",
    ],
)
def test_what_is_there_twice_is_doubled(scene, change):
    """An end that counts twice, a start that nobody saw, a second job under one key."""
    scene.store.cancel(scene.waiting.id)
    scene.change(change)
    assert scene.findings(audit.doubled, scene.acknowledged)


def test_a_second_end_and_a_second_line_are_doubled(scene):
    """By the history of the job."""
    scene.store.cancel(scene.waiting.id)
    scene.add_event(scene.done.id, 1, "failed")
    assert scene.findings(audit.doubled, scene.acknowledged) == [f"{scene.done.id}: ended 2 times"]
    for _ in range(2):
        scene.add_event(scene.done.id, 1, "hello", line=1)
    assert f"{scene.done.id}: line 1 of attempt 1 twice" in scene.findings(audit.doubled, scene.acknowledged)


def test_a_job_that_nobody_asked_for_is_doubled(scene):
    """There are more jobs than promises."""
    scene.store.cancel(scene.waiting.id)
    del scene.acknowledged[scene.waiting.id]
    assert len(scene.findings(audit.doubled, scene.acknowledged)) == 1


def test_what_an_old_owner_writes_is_late(scene):
    """A line after the end, and a move by an attempt after the next one began."""
    scene.add_event(scene.done.id, 1, "hello", line=1)
    assert len(scene.findings(audit.late_writes)) == 1
    scene.add_event(scene.waiting.id, 2, "running")
    scene.add_event(scene.waiting.id, 1, "completed")
    assert len(scene.findings(audit.late_writes)) == 2


def test_who_begins_before_his_turn_overtakes(scene):
    """A job begins while one before it waits."""
    later = scene.create("later")
    scene.add_event(later.id, 1, "running")
    assert scene.findings(audit.overtaken) == [f"{later.id}: began before {scene.waiting.id}"]


def test_a_cancel_that_was_forgotten_is_undone(scene):
    """Back in the queue after the answer."""
    cancelled = {scene.done.id: scene.store.last_event_id()}
    scene.add_event(scene.done.id, 1, "cancelled")
    assert scene.findings(audit.undone_cancels, cancelled) == []
    scene.add_event(scene.done.id, 1, "retrying")
    assert scene.findings(audit.undone_cancels, cancelled) == [f"{scene.done.id}: retrying after its cancel"]


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE job SET params = '{json.dumps(BAD_LINK)}' WHERE id = 'DONE'",
        "UPDATE job SET status = 'failed' WHERE id = 'DONE'",
        "UPDATE job SET status = 'dead_letter', failures = 1 WHERE id = 'WAITING'",
        "UPDATE job SET status = 'cancelled' WHERE id = 'WAITING'",
    ],
)
def test_an_end_that_should_not_be_is_wrong(scene, change):
    """A link to nowhere that completed, a recording that failed, a try that was left, a cancel nobody asked for."""
    scene.change(change)
    assert len(scene.findings(audit.wrong_ends)) == 1


@pytest.mark.parametrize(
    "change", ["outputs = '[]'", "attempt = 2", "outputs = replace(outputs, 'sha256\": \"', 'sha256\": \"0')"]
)
def test_files_that_are_not_what_they_should_be_are_wrong(scene, tmp_path, change):
    """Missing, of an attempt that did not win, or other bytes."""
    scene.change(f"UPDATE job SET {change} WHERE id = 'DONE'")
    assert len(scene.findings(audit.wrong_outputs, tmp_path / "copy")) == 1


def test_the_same_job_makes_the_same_file(scene, tmp_path):
    """Two jobs with the same parameters whose files differ: one of them is wrong."""
    (tmp_path / "made").write_bytes(b"noise")
    job = scene.store.claim(ClaimRequest(OWNER, new_id(), 90.0))
    assert job is not None
    output = stored(tmp_path, job)
    scene.store.finish(job.claim, Outcome("completed", {}, (output,)))
    assert scene.findings(audit.wrong_outputs, tmp_path / "copy") == []
    scene.change("UPDATE job SET params = (SELECT params FROM job WHERE id = 'DONE')")
    assert len(scene.findings(audit.wrong_outputs, tmp_path / "copy")) == 1


def test_a_file_at_another_loudness_is_wrong(scene, tmp_path, engine):
    """A tone at -20 LUFS where -16 was ordered."""
    signals.write(tmp_path / "made", signals.tone(1, -20, -20))
    job = scene.store.claim(ClaimRequest(OWNER, new_id(), 90.0))
    assert job is not None
    scene.store.finish(job.claim, Outcome("completed", {}, (stored(tmp_path, job),)))
    found = scene.findings(audit.wrong_outputs, tmp_path / "copy", engine.ffmpeg)
    assert any(finding.endswith("has -19.99 LUFS instead of -16") for finding in found), found


def test_a_damaged_database_is_unsound(scene):
    """SQLite says so."""
    scene.change("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'event_job'")
    assert audit.unsound(scene.deployment)


# --- programs ------------------------------------------------------------------------------------------------------
class Programs:
    """Programs as workers start them: at home in the folder of an attempt."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.running = folder, list[subprocess.Popen[bytes]]()

    def start(self, job: str, attempt: int, *argv: str | Path, worker: str = "worker-a") -> subprocess.Popen[bytes]:
        """One more."""
        home = self._folder / "work" / worker / job / str(attempt)
        home.mkdir(parents=True, exist_ok=True)
        self.running.append(subprocess.Popen(argv, env=os.environ | {"HOME": str(home)}, start_new_session=True))
        return self.running[-1]

    def end(self) -> None:
        """All of them."""
        for program in self.running:
            program.kill()
            program.wait()


@pytest.fixture
def programs(tmp_path) -> Iterator[Programs]:
    """None yet, and none afterwards."""
    programs = Programs(tmp_path)
    yield programs
    programs.end()


def test_programs_of_two_attempts_at_once_are_two_owners(tmp_path, programs):
    """While a program of the first attempt lives one of the second begins; not so when it has ended, or of the same."""
    ffmpeg = tmp_path / "patient"
    ffmpeg.write_text(f'#!/bin/sh\necho begun >>"{tmp_path}/begun"\nexec sleep 60\n')
    ffmpeg.chmod(0o700)
    book = Book(tmp_path, ffmpeg, hangs="")

    def begin(job: str, attempt: int, worker: str = "worker-a") -> subprocess.Popen[bytes]:
        begun = len((tmp_path / "begun").read_text().splitlines()) if (tmp_path / "begun").exists() else 0
        program = programs.start(job, attempt, book.ffmpeg, worker=worker)
        until(lambda: len((tmp_path / "begun").read_text().splitlines()) > begun, "its begin")
        return program

    (tmp_path / "begun").touch()
    first = begin("one", 1)
    begin("one", 1)
    begin("two", 2)
    assert book.two_owners() == []
    begin("one", 2)
    assert book.two_owners() == ["one: programs of 1.worker-a 2.worker-a at once"]
    programs.end()
    begin("one", 3)
    begin("three", 1)
    begin("three", 1, worker="worker-b")
    assert book.two_owners()[1:] == ["three: programs of 1.worker-a 1.worker-b at once"]
    assert first.returncode == -signal.SIGKILL


def test_a_program_that_outlives_its_worker_or_its_job_is_an_orphan(scene, programs):
    """Seen while it lives; a program whose worker and job live is none, nor is one that has just lost its worker."""
    ended = {"dead": time.monotonic() - ORPHAN_S - 1, "dying": time.monotonic() + 60}
    witness = Witness(scene.deployment, LocalJobStore(scene.deployment.file), ended.get)
    programs.start(scene.waiting.id, 1, "sleep", "60")
    programs.start(scene.waiting.id, 1, "sleep", "60", worker="dying")
    until(lambda: len(scene.deployment.programs()) == 2, "two programs")
    witness.look()
    assert witness.orphans == {}
    programs.start(scene.done.id, 1, "sleep", "60")
    programs.start(scene.waiting.id, 1, "sleep", "60", worker="dead")
    until(lambda: len(scene.deployment.programs()) == 4, "four programs")
    witness.look()
    assert sorted(witness.orphans.values()) == sorted(
        [
            f"{scene.done.id}: a program outlived its job",
            f"{scene.waiting.id}: a program outlived its worker dead",
        ]
    )
    programs.end()
    assert scene.deployment.children() == set()
    witness._store.close()


# --- logs ----------------------------------------------------------------------------------------------------------
def said(folder: Path, name: str, *lines: tuple[str, str, int, str]) -> Part:
    """A worker that logged these (event, job, attempt, time)."""
    names = ("event", "job", "attempt", "timestamp")
    log = folder / f"{name}.log"
    log.write_text("".join(json.dumps(dict(zip(names, line, strict=True))) + "\n" for line in lines))
    return Part(name, subprocess.Popen(["true"]), log)


def test_an_attempt_that_begins_twice_has_two_owners(tmp_path):
    """By the logs of the workers."""
    parts = [said(tmp_path, name, ("attempt begins", "one", 1, "1")) for name in ("worker-a", "worker-b")]
    assert audit.begun_twice(parts[:1]) == []
    assert audit.begun_twice(parts) == ["one: attempt 1 began 2 times"]
    for part in parts:
        part.process.wait()


@pytest.mark.parametrize(("second", "overlap"), [(("2", "4"), 0), (("1", "4"), 1)])
def test_attempts_that_overlap_have_two_owners(tmp_path, second, overlap):
    """For a run in which nobody is killed: by the begins and ends in the logs of the workers."""
    first = (("attempt begins", "one", 1, "0"), ("released", "one", 1, "2"))
    later = (("attempt begins", "one", 2, second[0]), ("attempt ended", "one", 2, second[1]))
    parts = [said(tmp_path, "worker-a", *first), said(tmp_path, "worker-b", *later)]
    assert overlaps(parts) == overlap
    for part in parts:
        part.process.wait()
