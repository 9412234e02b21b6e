"""The first reason wins, and everyone who wants to know is told once."""

from __future__ import annotations

import pytest

from worker.stop import Reason, Stop, Stopped


def test_the_first_reason_wins() -> None:
    """A cancel that comes after a timeout changes nothing."""
    stop = Stop()
    assert stop.request(Reason.TIMEOUT)
    assert not stop.request(Reason.CANCEL)
    assert stop.reason is Reason.TIMEOUT
    assert stop.wait(0)
    with pytest.raises(Stopped, match="timeout"):
        stop.check()


def test_callbacks_are_called_once_whenever_they_came() -> None:
    """Who asks before is told at the request, who asks after at once, and nobody twice."""
    stop, told = Stop(), []
    stop.on_request(lambda: told.append("before"))
    stop.check()
    stop.request(Reason.CANCEL)
    stop.on_request(lambda: told.append("after"))
    stop.request(Reason.SHUTDOWN)
    assert told == ["before", "after"]
