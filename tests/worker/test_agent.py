"""Agents under a worker: everything they say is kept in order, and they get no more than they were registered with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.job import Outcome, Status, new_id
from shared.session import SessionStatus
from shared.settings import environment_with
from shared.store.sql import SqlJobStore
from shared.store.values import ClaimRequest
from shared.store.values import Worker as Identity
from tests.contract.factory import due
from tests.worker.stand import PATIENCE_S, ROOT, Program, until
from tests.worker.talk import Talk, queue_on
from worker.programs import programs_here


@pytest.fixture
def store(request, tmp_path) -> Iterator[SqlJobStore]:
    """A queue on the named database; asked for before the worker, so that it outlives it."""
    with queue_on(request.param, tmp_path) as store:
        yield store


@pytest.fixture
def talk(tmp_path) -> Iterator[Callable[..., Talk]]:
    """Starts a worker with one program: `talk("turn.say('hi')\\nturn.finish()", stall_s=5)`."""
    talks: list[Talk] = []

    def made(program: str | None = None, **about: Any) -> Talk:
        talks.append(Talk(tmp_path, program=program, **about))
        return talks[-1].start()

    yield made
    for one in talks:
        one.close()


def test_a_turn_hears_what_was_said_before(talk):
    """Each turn is a new process that gets the whole conversation, the parameters, and what is new."""
    talk = talk(
        "said = [f'{m.role}:{m.text}' for m in turn.messages]\n"
        "turn.say(f'{os.getpid()} {turn.params} ' + ' | '.join(said))\nturn.finish({'turns': len(said)})"
    )
    session = talk.begin(times=2)
    first, second = talk.ask(session, "One"), talk.ask(session, "Two\nlines")
    assert [line.partition(" ")[2] for line in first] == ["{'times': 2} user:One"]
    assert [line.partition(" ")[2] for line in second] == [
        f"{{'times': 2}} user:One | assistant:{first[0]} | user:Two\nlines"
    ]
    assert first[0].split()[0] != second[0].split()[0]
    assert talk.status(session) is SessionStatus.COMPLETED
    ended = talk.store.get(talk.session(session).turn.job_id)
    assert ended.result == {"needs_input": False, "messages": 1, "jobs": 0, "result": {"turns": 3}}


def test_everything_said_is_kept_in_order(talk):
    """Messages, log, previews and progress; what is no JSON, too long or unknown is logged and harms nothing."""
    talk = talk(
        "raw = lambda text: turn._to_spool.write(text + '\\n')\n"
        "turn.say('one')\nturn.log('thinking', 'warn')\nraw('no json')\nraw('[1]')\nraw('{\"type\": 1}')\n"
        'raw(\'{"type": "dance"}\')\nraw(\'{"type": "message", "text": "\' + \'x\' * 300_000 + \'"}\')\n'
        "raw('{\"type\": \"message\"}')\nraw('')\nprint('stray')\nturn.say('prompt', role='system')\n"
        "turn.preview('half', {'at': 5})\nturn.progress(3, 4)\nturn.say('y' * 40_000)\nturn.ask('More?')\nturn.finish()"
    )
    session = talk.begin()
    job = talk.ended(talk.say(session, "go"))
    assert job.status is Status.COMPLETED
    said = [(one.role, one.text) for one in talk.messages(session)]
    assert said == [
        ("user", "go"),
        ("assistant", "one"),
        ("system", "prompt"),
        ("assistant", "y" * 31_999 + "…"),
        ("assistant", "More?"),
    ]
    log = talk.log(job)
    for words in ("thinking", "no json", "[1]", "dance", "more than 262144 bytes", "without a text"):
        assert any(words in line for line in log), words
    assert not any("stray" in line for line in log)
    previews = [event for event in talk.store.events(job.id) if event.kind == "preview"]
    assert [(one.message, one.data) for one in previews] == [("half", {"preview": {"at": 5}})]
    assert (job.progress_current, job.progress_total) == (3, 4)
    assert talk.status(session) is SessionStatus.WAITING_FOR_INPUT


def test_messages_are_there_while_the_program_works(talk, tmp_path):
    """What it said can be read before it goes on."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    talk = talk(f"turn.say('before')\nopen({str(gate)!r}).read()\nturn.say('after')\nturn.finish()")
    session = talk.begin()
    job = talk.say(session, "go")
    talk.until_said(session, lambda said: [one.text for one in said] == ["go", "before"])
    assert talk.status(session) is SessionStatus.PROCESSING
    gate.write_text("go on")
    assert talk.ended(job).status is Status.COMPLETED
    assert [one.text for one in talk.messages(session)] == ["go", "before", "after"]


def test_a_crash_is_tried_once_more_and_said_once(talk, tmp_path):
    """The first attempt dies after two messages; the second is heard, and the conversation has no repeat."""
    talk = talk(
        f"turn.say('one')\nturn.say('two')\nif not os.path.exists({str(tmp_path / 'died')!r}):\n"
        f"    open({str(tmp_path / 'died')!r}, 'w')\n    print('out of cheese', file=sys.stderr)\n    os.abort()\n"
        "turn.say('three')\nturn.finish()"
    )
    session = talk.begin()
    job = talk.say(session, "go")
    until(talk.store, job, lambda found: found.failures == 1)
    due(talk.store, job.id)
    job = talk.ended(job)
    assert (job.status, job.attempt, job.failures) == (Status.COMPLETED, 2, 1)
    assert [one.text for one in talk.messages(session)] == ["go", "one", "two", "three"]
    assert any("out of cheese" in line for line in talk.log(job))


@pytest.mark.parametrize(
    ("program", "status", "code", "words"),
    [
        (
            "turn.fail('The model is not licensed; ask its owner.', code='licence')",
            "failed",
            "program.licence",
            "model",
        ),
        ("sys.exit(3)", "dead_letter", "program.crashed", "exit code 3"),
        ("turn.fail('Try later.', retry=True)", "dead_letter", "program.failed", "Try later."),
        ("turn.finish({'x': 'y' * 70_000})", "failed", "program.faulty", "result"),
        ("turn.finish(outputs=[{'path': '/etc/passwd', 'name': 'a'}])", "failed", "program.faulty", "no file in"),
        ("turn.finish(outputs=[{'path': '../../x', 'name': 'a'}])", "failed", "program.faulty", "no file in"),
        (
            "os.symlink('/etc/passwd', turn.folder / 'a')\nturn.finish(outputs=[{'path': 'a'}])",
            "failed",
            "program.faulty",
            "no file in",
        ),
        (
            "(turn.folder / 'a').touch()\nturn.finish(outputs=[{'path': 'a', 'name': '../b'}])",
            "failed",
            "program.faulty",
            "name",
        ),
    ],
)
def test_an_end_that_is_not_good_says_why(talk, program, status, code, words):
    """Its own error in its own words, a crash, and what breaks the protocol; the session is in error."""
    talk = talk(program)
    session = talk.begin()
    job = talk.ended(talk.say(session, "go", max_failures=1))
    assert (job.status, job.error["code"]) == (status, code)
    assert words in job.error["message"]
    assert talk.status(session) is SessionStatus.ERROR
    assert job.outputs == ()


def test_a_cancel_ends_the_turn_and_all_it_started(talk, tmp_path):
    """A program that is deaf to SIGTERM and its child are gone before the job says cancelled; the person goes on."""
    child = Program(tmp_path, "signal.signal(15, signal.SIG_IGN)\ntime.sleep(600)")
    talk = talk(
        "import signal, subprocess\nsignal.signal(15, signal.SIG_IGN)\nturn.say('starting')\n"
        f"subprocess.run([sys.executable, '-c', {child.code!r}], start_new_session=True)"
    )
    session = talk.begin()
    job = talk.say(session, "go")
    child.await_start()
    talk.store.cancel(job.id)
    assert talk.ended(job).status is Status.CANCELLED
    assert child.dead()
    assert talk.status(session) is SessionStatus.WAITING_FOR_INPUT
    talk.write("turn.say('here again')\nturn.finish()")
    assert talk.ask(session, "still there?") == ["here again"]


def test_a_program_that_stands_still_is_stopped(talk):
    """Nothing said and nothing computed for its stall limit: a failure that may pass."""
    talk = talk("time.sleep(600)", stall_s=1, timeout_s=600)
    job = talk.ended(talk.say(talk.begin(), "go", max_failures=1))
    assert (job.status, job.error["code"]) == (Status.DEAD_LETTER, "stalled")


def test_a_program_sees_what_it_was_registered_with(talk, monkeypatch):
    """No variable of the worker's but those named, none of Spool's secrets, and its own folder as its home."""
    monkeypatch.setenv("MODEL_HOME", "/models")
    monkeypatch.setenv("SECRET_OF_ANOTHER", "x")
    talk = talk(
        "turn.say(json.dumps([dict(os.environ), os.getcwd(), str(turn.folder)]))\nturn.finish()",
        inherit=["MODEL_HOME", "NOT_THERE"],
        environment={"LANGUAGE": "nl"},
    )
    (answer,) = talk.ask(talk.begin(), "show me")
    seen, cwd, folder = json.loads(answer)
    assert set(seen) - {"SPOOL_MARK", "LC_CTYPE"} == {
        "PATH", "LANG", "HOME", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED", "SPOOL_FFMPEG", "MODEL_HOME", "LANGUAGE",
    }  # fmt: skip
    assert (seen["MODEL_HOME"], seen["LANGUAGE"], cwd) == ("/models", "nl", str(talk.folder))
    assert folder.startswith(seen["HOME"])


def test_files_come_and_go(talk, tmp_path):
    """An upload of the session is fetched on request, one of nobody's is refused, and a file becomes an output."""
    (tmp_path / "notes.txt").write_text("read me")
    talk = talk(
        "path = turn.fetch(turn.uploads[0]['asset'])\n"
        "(turn.folder / 'out.txt').write_text(path.read_text().upper())\n"
        "try:\n    turn.fetch(turn.params['foreign'])\nexcept Refused as refused:\n    turn.say(str(refused))\n"
        "turn.finish(outputs=[{'path': turn.folder / 'out.txt', 'name': 'out.txt', 'content_type': 'text/plain'}])"
    )
    mine, foreign = talk.upload(tmp_path / "notes.txt"), talk.upload(tmp_path / "notes.txt")
    session = talk.begin(foreign=foreign.id)
    assert talk.ask(session, "shout", mine) == ["No message of this session has such an upload."]
    job = talk.store.get(talk.session(session).turn.job_id)
    assert [(one.name, one.content_type) for one in job.outputs] == [("out.txt", "text/plain")]
    with talk.storage.open(job.outputs[0].key) as (_, file):
        assert file.read() == b"READ ME"
    assert len(talk.ask(session, "again")) == 1, "an upload of an earlier message is still there to be asked for"


def test_a_turn_adds_jobs_of_spools_own(talk, tmp_path):
    """The turn is at work until its child has ended; what the API would refuse is refused with its sentence."""
    (tmp_path / "talk.wav").write_bytes(b"RIFF")
    talk = talk(
        "asset = turn.uploads[0]['asset']\n"
        "for params in ({'source': 'somebody-elses'}, {'source': asset, 'preset': 'nothing'}, {}):\n"
        "    try:\n        turn.job('ingest', params, key='bad')\n"
        "    except Refused as refused:\n        turn.say(str(refused))\n"
        "turn.job('ingest', {'source': asset}, key='master')\nturn.job('ingest', {'source': asset}, key='master')\n"
        "turn.finish()"
    )
    session, asset = talk.begin(), talk.upload(tmp_path / "talk.wav")
    job = talk.say(session, "make it a podcast", asset)
    job = until(talk.store, job, Status.WAITING_CHILDREN)
    assert talk.status(session) is SessionStatus.PROCESSING
    refusals = [one.text for one in talk.messages(session) if one.role == "assistant"]
    assert "somebody-elses" in refusals[0]
    assert "there is no preset" in refusals[1]
    assert refusals[2] == "source: is required"
    (child,) = talk.store.children(job.id)
    assert (child.type, child.name, child.child_key) == ("ingest", "talk.wav", "master")
    elsewhere = Identity("elsewhere", "there", "0", ("ingest",), 1)
    claimed = talk.store.claim(ClaimRequest(elsewhere, new_id(), 90))
    talk.store.finish(claimed.claim, Outcome("completed", result={}))
    assert talk.ended(job).status is Status.COMPLETED
    assert talk.status(session) is SessionStatus.COMPLETED


def test_a_worker_without_the_program_leaves_its_jobs_to_others(tmp_path):
    """What is not there, or cannot be started, is not offered."""
    one = Talk(tmp_path, command=["./is-not-there"])
    assert programs_here(one.settings) == {}
    assert "agent:echo" not in one.worker.identity.types
    job = one.say(one.begin(), "anybody?")
    assert one.store.claim(ClaimRequest(one.worker.identity, new_id(), 90)) is None
    assert one.store.get(job.id).status is Status.PENDING
    one.close()


@pytest.mark.skipif("AGENT_S" not in os.environ, reason="`make talk`: the launcher's own tests hold this, too")
def test_nothing_outlives_a_worker_that_dies(tmp_path):
    """kill -9 of a real worker in the middle of a turn: the program and its child are gone."""
    child = Program(tmp_path)
    talk = Talk(
        tmp_path,
        program="import subprocess\nturn.say('starting')\n"
        f"subprocess.run([sys.executable, '-c', {child.code!r}], start_new_session=True)",
    )
    changed = {
        "database_url": f"sqlite:///{tmp_path}/spool.db",
        "storage_url": f"file:{tmp_path}/storage",
        "work_dir": tmp_path / "work",
        "programs": talk.registered,
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "worker"], cwd=ROOT, env=environment_with(**changed), stderr=subprocess.DEVNULL
    )
    try:
        talk.say(talk.begin(), "go")
        child.await_start()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert child.dead(PATIENCE_S)
    finally:
        worker.kill()
        worker.wait()
        talk.close()


@pytest.mark.parametrize("store", ["sqlite", "libsql"], indirect=True)
def test_fifteen_sessions_say_everything_once(store, talk):
    """Fifteen programs at five messages a second each, read live by cursor: none is lost, doubled or out of order.

    AGENT_S says for how long; `make talk` takes a minute.
    """
    speaks_s = int(os.environ.get("AGENT_S", "2"))
    count = 5 * speaks_s
    talk = talk(
        f"for n in range({count}):\n    turn.say(f'{{turn.session}} {{n}}')\n    time.sleep(0.2)\nturn.finish()",
        slots=15,
        timeout_s=3600,
        store=store,
    )
    sessions = [talk.begin() for _ in range(15)]
    jobs = [talk.say(session, "go") for session in sessions]
    heard: dict[str, list[Any]] = {session: [] for session in sessions}
    cursors = dict.fromkeys(sessions, 0)

    def listen() -> None:
        for session in sessions:
            while page := talk.store.messages(session, after=cursors[session], limit=20):
                heard[session] += page
                cursors[session] = page[-1].id

    for job in jobs:
        until(talk.store, job, lambda found: listen() or found.terminal, patience_s=PATIENCE_S + 5 * speaks_s)
    listen()
    for session in sessions:
        said = [one.text for one in heard[session]]
        assert said == ["go", *(f"{session} {n}" for n in range(count))]
    assert {talk.store.get(job.id).status for job in jobs} == {Status.COMPLETED}
    assert {talk.store.get(job.id).attempt for job in jobs} == {1}


def test_the_module_for_authors_needs_nothing():
    """It imports in a bare Python, from its file alone."""
    sdk = Path(ROOT / "worker/sdk")
    code = "import spool_program, sys; print(sorted({m.split('.')[0] for m in sys.modules} & {'shared', 'pydantic'}))"
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(sdk)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
