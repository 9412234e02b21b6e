"""What a person sees while jobs run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli.jobs import SILENT_S, stats_lines
from cli.live import Bars, Lines, duration_text, size_text, stage_text, summary, view_for
from shared.health import WORKER_SILENT_S

RUNNING = {
    "id": "1", "type": "ingest", "status": "running", "cancelling": False, "stage": "encoding", "stage_index": 3,
    "stage_count": 5, "progress": 40.0, "position": None, "eta_s": 75, "attempt": 1, "failures": 0, "max_failures": 2,
    "children": None, "run_at": None, "started_at": "2026-11-21T20:00:00.000Z", "completed_at": None, "error": None,
    "result": None,
}  # fmt: skip
DONE = RUNNING | {"status": "completed", "completed_at": "2026-11-21T20:00:12.500Z"}


def test_outside_a_terminal_each_stage_is_one_line():
    """The same stage is said once, however often it is polled."""
    text = io.StringIO()
    with view_for(Console(file=text, width=200)) as view:
        assert isinstance(view, Lines)
        view.moving("talk.wav", "sending", 100, 2000)
        view.moving("talk.wav", "sending", 2000, 2000)
        view.job("talk.wav", RUNNING | {"status": "pending", "stage": None, "stage_index": None, "position": 2})
        view.job("talk.wav", RUNNING)
        view.stage("talk.wav", "encoding 4/5")
        view.stage("talk.wav", "encoding 4/5")
        view.job("talk.wav", DONE)
    assert text.getvalue().splitlines() == [
        "talk.wav: sending 2.0 kB",
        "talk.wav: waiting, number 2",
        "talk.wav: encoding 4/5",
        "talk.wav: completed",
    ]


def test_in_a_terminal_each_job_is_one_bar():
    """Name, stage, percent and time left; names of files are never markup."""
    text = io.StringIO()
    with view_for(Console(file=text, width=120, force_terminal=True, color_system=None)) as view:
        assert isinstance(view, Bars)
        view.job("[red]talk.wav", RUNNING)
    shown = text.getvalue()
    assert "[red]talk.wav" in shown
    assert "encoding 4/5" in shown
    assert "40%" in shown
    assert "1:15 left" in shown


def test_unknown_progress_shows_no_percentage():
    """A bar without a number is honest; a made-up number is not."""
    text = io.StringIO()
    with Bars(Console(file=text, width=120, force_terminal=True, color_system=None)) as view:
        view.job("talk.wav", RUNNING | {"progress": None, "eta_s": None})
    assert "%" not in text.getvalue()


def test_a_program_that_reads_sees_no_progress():
    """`--json` keeps standard output for the answer."""
    text = io.StringIO()
    with view_for(Console(file=text), quiet=True) as view:
        view.job("talk.wav", RUNNING)
        view.note("said")
    assert text.getvalue() == ""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"stage": None, "stage_index": None}, "starting"),
        ({"cancelling": True}, "stopping"),
        ({"status": "retrying", "attempt": 1}, "attempt 1 failed, trying again"),
        ({"status": "waiting_children", "children": {"total": 3, "done": 1, "failed": 0}}, "1 of 3 parts done"),
        ({"status": "waiting"}, "waiting"),
    ],
)
def test_every_state_has_words(change, text):
    """A person never has to know the state machine."""
    assert stage_text(RUNNING | change) == text


def test_a_summary_gives_loudness_before_and_after():
    """And what the person should know."""
    result = {
        "before": {"integrated_lufs": -27.31, "true_peak_dbtp": -9.0, "loudness_range_lu": 4.2},
        "after": {"mp3": {"integrated_lufs": -16.01, "true_peak_dbtp": -1.24}},
        "target_lufs": -16,
        "limited": True,
        "warnings": ["3 damaged frames were left out."],
    }
    assert summary("talk.wav", DONE | {"result": result}) == [
        "talk.wav: completed, took 12.5 s",
        "  mp3: -27.31 LUFS -> -16.01 LUFS, true peak -1.24 dBTP (target -16 LUFS)",
        "  Note: 3 damaged frames were left out.",
    ]


def test_a_summary_does_not_hide_parts_that_ended_badly():
    """A job that goes on without them is completed; whoever sent it wants to know all the same."""
    job = DONE | {"id": "0199", "children": {"total": 3, "done": 2, "failed": 1}}
    assert summary("list.m3u", job)[-1] == "  1 of its 3 parts ended badly: spool show 0199"
    assert "badly" not in str(summary("list.m3u", DONE | {"children": {"total": 3, "done": 3, "failed": 0}}))


def test_a_summary_of_a_failure_is_its_sentence_and_the_way_to_its_log():
    """The error's own message, not its code."""
    error = {
        "code": "bad_input.empty",
        "kind": "permanent",
        "message": "It is empty.",
        "stage": "analyzing",
        "attempt": 1,
    }
    lines = summary("talk.wav", DONE | {"status": "failed", "error": error})
    assert lines == ["talk.wav: failed: It is empty.", "  Its log: spool logs 1"]


def test_sizes_and_durations_are_written_for_people():
    """Decimal units, and minutes where seconds are too many."""
    assert [size_text(size) for size in (12, 1500, 2_340_000, 5 * 10**9)] == ["12 bytes", "1.5 kB", "2.3 MB", "5.0 GB"]
    assert [duration_text(seconds) for seconds in (41.2, 185, 3723)] == ["41 s", "3:05", "1:02:03"]


def test_the_statistics_tell_what_a_worker_is_at_and_that_it_is_silent():
    """By the database's own time of the answer, not this machine's."""
    seen = {"host": "attic", "running": 1, "slots": 2, "seen_at": "2026-11-22T03:00:00.000Z"}
    at_work = {"id": "0199", "type": "ingest", "title": "talk.wav", "stage": "encoding"}
    quiet = {"hours": 24, "states": {}, "oldest_waiting_s": None, "completed_per_hour": 0, "failure_rate": None}
    quiet |= {"wait_ms": None, "run_ms": None, "steering": [], "workers": [seen | {"jobs": [at_work]}]}
    assert stats_lines(quiet | {"at": "2026-11-22T03:01:05.000Z"})[-2:] == [
        "  attic: 1 of 2 slots busy",
        "    ingest talk.wav: encoding (0199)",
    ]
    silent = stats_lines(quiet | {"at": "2026-11-22T03:01:06.000Z"})[-2]
    assert silent == "  attic: 1 of 2 slots busy; silent for 1:06: it hangs, or it is gone"
    assert SILENT_S == WORKER_SILENT_S
