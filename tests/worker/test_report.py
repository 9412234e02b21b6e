"""What an attempt says about itself is true, ordered and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.report import HEAD_LINES, LINES_PER_BEAT, TAIL_LINES, AttemptReport


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The report's clock."""
    return Clock()


@pytest.fixture
def report(clock) -> AttemptReport:
    """Two stages; the second usually takes three times as long."""
    return AttemptReport([("first", 2.0), ("second", 6.0)], clock)


def test_progress_names_stage_and_share(report) -> None:
    """Stage, place, percentage and the stage's own unit."""
    report.begin_stage(1)
    report.progress(30.0, 120.0)
    progress, _ = report.beat()
    assert (progress.stage, progress.stage_index, progress.stage_count) == ("second", 1, 2)
    assert (progress.percent, progress.current, progress.total) == (25.0, 30.0, 120.0)


def test_an_unknown_total_has_no_percentage(report) -> None:
    """What is unknown is not guessed."""
    report.begin_stage(0)
    report.progress(12345, None)
    progress, _ = report.beat()
    assert (progress.percent, progress.current, progress.eta_s) == (None, 12345, None)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(0.1, 1e6))))
def test_percentages_never_fall_within_a_stage(said) -> None:
    """Whatever a stage says, the percentage rises from 0 to 100."""
    report = AttemptReport([("only", 1.0)], lambda: 0.0)
    report.begin_stage(0)
    shown = []
    for current, total in said:
        report.progress(current, total)
        shown.append(report.beat()[0])
    percents = [progress.percent for progress in shown if progress.percent is not None]
    assert percents == sorted(percents)
    assert all(0 <= percent <= 100 for percent in percents)
    currents = [progress.current for progress in shown]
    assert currents == sorted(currents)


def test_a_new_stage_starts_afresh(report) -> None:
    """The percentage belongs to the stage."""
    report.begin_stage(0)
    report.progress(1, 1)
    report.begin_stage(1)
    assert report.beat()[0].percent is None


def test_the_percentage_of_all_follows_the_weights(report) -> None:
    """Half of the first quarter, then all of it; of a stage that tells nothing, nothing before its end."""
    report.begin_stage(0)
    assert report.beat()[0].overall == 0
    report.progress(1, 2)
    assert report.beat()[0].overall == 12.5
    report.begin_stage(1)
    assert report.beat()[0].overall == 25
    report.progress(1, 3)
    assert report.beat()[0].overall == 50


def test_the_eta_follows_the_stage_and_the_weights(report, clock) -> None:
    """A quarter of the second stage took 10 s, so 30 s are left; early on the first stage's time tells."""
    report.begin_stage(0)
    clock.now += 4
    report.progress(1, 2)
    assert report.beat()[0].eta_s == pytest.approx(4 + 8 * 3)
    clock.now += 4
    report.begin_stage(1)
    assert report.beat()[0].eta_s == pytest.approx(24)
    report.progress(1, 100)
    assert report.beat()[0].eta_s == pytest.approx(23.8)
    clock.now += 10
    report.progress(1, 4)
    assert report.beat()[0].eta_s == pytest.approx(30)


@pytest.mark.parametrize(("weight", "took_s"), [(1.0, 0.01), (0.1, 4)])
def test_a_stage_that_tells_nothing_foretells_nothing(clock, weight, took_s) -> None:
    """After a download that took no time, or is little of the work, the time left is unknown and not nearly nothing."""
    report = AttemptReport([("downloading", weight), ("encoding", 3.0)], clock)
    report.begin_stage(0)
    clock.now += took_s
    report.begin_stage(1)
    assert report.beat()[0].eta_s is None


def test_lines_wait_until_they_are_written(report) -> None:
    """A beat repeats what was not acknowledged, and only that."""
    report.begin_stage(0)
    report.log("warn", "something", pid=7)
    _, lines = report.beat()
    assert [(line.n, line.kind, line.message) for line in lines] == [(1, "stage", "first"), (2, "log", "something")]
    assert lines[1].data == {"pid": 7}
    assert report.beat()[1] == lines
    report.written(1)
    report.log("info", "more")
    assert [line.n for line in report.beat()[1]] == [2, 3]
    report.written(3)
    assert report.beat()[1] == ()


def test_head_and_tail_of_a_long_log_are_kept(report) -> None:
    """The first lines come as they are, the last ones at the end, with a word about the gap; numbers rise."""
    total = HEAD_LINES + TAIL_LINES + 1000
    written = []
    for number in range(total):
        report.log("info", f"line {number}")
        if number % 50 == 0:
            _, lines = report.beat()
            assert len(lines) <= LINES_PER_BEAT
            written += lines
            report.written(lines[-1].n if lines else 0)
    report.begin_stage(0)
    written += report.last()[1]
    texts = [line.message for line in written if line.kind == "log"]
    assert texts[:HEAD_LINES] == [f"line {number}" for number in range(HEAD_LINES)]
    assert texts[HEAD_LINES] == "1000 lines were left out here."
    assert texts[-TAIL_LINES:] == [f"line {number}" for number in range(total - TAIL_LINES, total)]
    numbers = [line.n for line in written]
    assert numbers == sorted(set(numbers))
    assert [line.message for line in written if line.kind == "stage"] == ["first"]


def test_long_lines_and_odd_data_are_tamed(report) -> None:
    """Megabytes of text are cut, too much data is left out, and what is no JSON becomes text."""
    report.log("info", "x" * 1_000_000, path=object)
    report.log("info", "y", blob="z" * 1_000_000)
    _, (first, second) = report.beat()
    assert len(first.message) == 2000
    assert first.data == {"path": "<class 'object'>"}
    assert second.data == {"left_out": "1000012 characters"}


def test_movement_is_counted(report) -> None:
    """Progress moves, a repeat of it does not: this is how a standstill is told."""
    report.begin_stage(0)
    before = report.moves
    report.progress(1, 10)
    assert report.moves == before + 1
    report.progress(1, 10)
    assert report.moves == before + 1
