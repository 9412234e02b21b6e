"""examples/assistant over real recordings: it measures, leaves work to Spool, and asks for what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.job import Status
from shared.programs import load_programs
from shared.session import SessionStatus
from tests.media.judges import libebur128
from tests.worker.talk import Talk

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.media


@pytest.fixture
def talk(tmp_path, engine) -> Iterator[Callable[..., Talk]]:
    """A worker with the assistant; `everything` makes it do Spool's own jobs as well."""
    talks: list[Talk] = []

    def made(**about) -> Talk:
        program = load_programs(EXAMPLES / "programs.toml")["assistant"]
        command = [program.command[0], str(EXAMPLES / program.command[1])]
        talks.append(Talk(tmp_path, engine=engine, command=command, params=PRESET, **about))
        return talks[-1].start()

    yield made
    for one in talks:
        one.close()


PRESET = {"preset": {"type": "string", "default": "podcast"}}


def test_it_says_how_loud_a_recording_is(talk, recordings, engine):
    """Its number is libebur128's, with the way to go; the session waits for the person."""
    talk = talk()
    path = recordings.speech
    session = talk.begin(preset="podcast")
    said = talk.ask(session, "How loud is this?", talk.upload(path))
    level = float(re.search(r"is at (-[\d.]+) LUFS", said[-1])[1])
    assert level == pytest.approx(libebur128(engine.ffmpeg, path).lufs, abs=0.2)
    assert "too quiet for podcast" in said[-1] or "too loud for podcast" in said[-1] or "just right" in said[-1]
    assert talk.status(session) is SessionStatus.WAITING_FOR_INPUT
    job = talk.store.get(talk.session(session).turn.job_id)
    assert job.progress_current > 1


def test_it_asks_for_what_is_missing_and_goes_on_with_the_answer(talk, recordings):
    """First the recording, then the part to keep; what it hands on is the edit that was meant in three messages."""
    talk = talk()
    session = talk.begin(preset="podcast")
    assert "Which recording" in talk.ask(session, "Trim it please")[-1]
    assert "Which part" in talk.ask(session, "this one", talk.upload(recordings.speech))[-1]
    job = talk.say(session, "0:01 to 0:02.5")
    talk.until_said(session, lambda said: "I keep 0:01 to 0:02.5" in said[-1].text)
    (child,) = talk.store.children(job.id)
    assert child.type == "edit"
    assert child.params["edits"] == [{"op": "trim", "from_s": 1.0, "to_s": 2.5}]
    talk.store.cancel(job.id)
    talk.ended(job)
    assert "I can tell how loud" in talk.ask(session, "Thanks!")[-1]


def test_it_makes_a_podcast(talk, recordings, engine):
    """The whole way: a message with a recording, an ingest as the turn's child, and a file at the right loudness."""
    talk = talk(everything=True)
    session = talk.begin(preset="podcast")
    job = talk.ended(talk.say(session, "Please make it a podcast", talk.upload(recordings.speech)))
    assert job.status is Status.COMPLETED
    (child,) = talk.store.children(job.id)
    assert (child.type, child.status, child.name) == ("ingest", Status.COMPLETED, recordings.speech.name)
    (made,) = [one for one in child.outputs if one.content_type == "audio/mpeg"]
    path = talk.folder / "made.mp3"
    talk.storage.fetch(made.key, path, lambda _done, _total: None)
    assert libebur128(engine.ffmpeg, path).lufs == pytest.approx(-16.0, abs=0.1)
