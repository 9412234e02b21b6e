"""When a database that does not answer is news, and when it is not."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.errors import Refused, Unavailable
from shared.store.contact import SILENCE_S, Contact
from shared.store.local import LocalJobStore
from tests.network.deployment import CAME, WENT


class Line:
    """A contact whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.contact = Contact(lambda: self.now)

    def ask(self, after_s: float, error: Exception | None = None) -> None:
        """Something is asked later, and answered or not."""
        self.now += after_s
        try:
            with self.contact.watched():
                if error is not None:
                    raise error
        except (Unavailable, Refused):
            pass


@pytest.fixture
def line() -> Line:
    """A database that has always answered."""
    return Line()


LOST = Unavailable("The reply was lost.")


def events(said: list[Any]) -> list[str]:
    """The log by its events."""
    return [entry["event"] for entry in said]


def test_answers_lost_now_and_then_are_no_news(line):
    """However many are lost, as long as one comes in between; a refusal is an answer, too."""
    with capture_logs() as said:
        for answer in (None, Refused("No.")) * 5:
            line.ask(2.0, LOST)
            line.ask(2.0, LOST)
            line.ask(0.5, answer)
    assert said == []
    assert not line.contact.away


def test_silence_is_told_once_and_so_is_its_end(line):
    """One line after three seconds without an answer, none for what follows, one with the time that it lasted."""
    with capture_logs() as said:
        for _ in range(20):
            line.ask(SILENCE_S / 2, LOST)
        assert line.contact.away
        for _ in range(3):
            line.ask(0.5)
    assert events(said) == [WENT, CAME]
    assert said[0]["reason"] == "The reply was lost."
    assert said[1]["away_s"] == 19 * SILENCE_S / 2 + 0.5
    assert not line.contact.away


def test_a_first_failure_after_a_long_pause_is_no_news(line):
    """Silence counts from the first question that was not answered, not from the last one that was."""
    with capture_logs() as said:
        line.ask(0.0)
        line.ask(3600.0, LOST)
    assert said == []


def test_a_file_that_cannot_be_used_is_told_too(tmp_path, monkeypatch):
    """The local database goes through the same eye."""
    (tmp_path / "spool.db").mkdir()
    store = LocalJobStore(tmp_path / "spool.db")
    monkeypatch.setattr("shared.store.contact.SILENCE_S", 0.0)
    with capture_logs() as said:
        for _ in range(2):
            with pytest.raises(Unavailable):
                store.check()
    store.close()
    assert events(said) == [WENT]
