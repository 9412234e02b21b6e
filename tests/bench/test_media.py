"""The harness of the media benchmarks counts programs and decodes; times are not judged here."""

from __future__ import annotations

import os
import sys

import pytest

from bench.attempt import covered, run_job
from bench.cost import Cost, Side, best, external, take_turns
from bench.ingest import COLUMNS, rows
from bench.media import CASES, Bench
from tests.media import judges, signals
from worker.process import Ended

pytestmark = pytest.mark.media


@pytest.mark.parametrize(
    ("params", "programs", "decodes"),
    [
        # A look into the file; then the analysis, the encoder, and the decode of what it made.
        ({"outputs": [{"format": "opus"}]}, 4, 3),
        # The same with one encoder for both, and a decode of each.
        ({"target_lufs": -30, "outputs": [{"format": "flac"}, {"format": "wav"}]}, 5, 4),
    ],
    ids=["opus", "two files"],
)
def test_a_job_needs_no_more_programs_than_it_has_work_for(engine, tmp_path, params, programs, decodes):
    """One analysis, one encoder, one proof for each file: what the bench counts is what the job started."""
    talk = signals.write(tmp_path / "talk.wav", signals.podcast(5))
    asked = {"source": "talk", "preset": "ebu-r128"} | params
    cost = run_job(engine, "ingest", asked, {"talk": talk}, tmp_path / "out")
    assert (cost.programs, cost.decodes) == (programs, decodes)
    assert 0 < cost.other_cpu_s < cost.cpu_s
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"peaks.json", *(spec["format"] for spec in params["outputs"])}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bare_side_makes_what_the_job_makes(engine, tmp_path, case):
    """A side that did less than the other would win: the bare one's file is as long as asked, and as loud."""
    talk = signals.write(tmp_path / "talk.wav", signals.podcast(3))
    gain = -23 - judges.libebur128(engine.ffmpeg, talk).lufs
    bare = case.sides(Bench(engine.ffmpeg, tmp_path, 3, talk, gain, peers=False))[0]
    bare.run()
    heard = judges.libebur128(engine.ffmpeg, bare.made)
    edited, mixed = (case.name.startswith(word) for word in ("edit", "render"))
    # Ten cuts of a 72nd each; the fades then cover all of what is left.
    assert heard.duration_s == pytest.approx(3 * 62 / 72 if edited else 3, abs=0.1)
    assert heard.lufs == pytest.approx(-23, abs=6 if edited else 1.5 if mixed else 0.3)


def test_a_program_is_told_its_own_memory_and_time(tmp_path):
    """Neither the peak nor the time of who started it: this process has had more than half of what it is asked for."""
    held = bytearray(os.urandom(1) * (300 << 20))
    script = "held = b'x' * (40 << 20); sum(range(3_000_000))"
    cost = external([sys.executable, "-c", script])
    assert 40 < cost.peak_mb < 200
    assert cost.cpu_s > 0
    assert len(held) > cost.peak_mb


def test_the_sides_take_turns_and_the_best_run_counts(tmp_path):
    """A, B, A, B, A: so that a machine that slows down slows both."""
    order = []

    def side(name: str, rounds: int) -> Side:
        def run() -> Cost:
            order.append(name)
            return Cost(float(len(order)), 2.0, 3.0, 4.0)

        return Side(name, run, tmp_path, rounds)

    costs = take_turns([side("A", 99), side("B", 2)], 3)
    assert order == ["A", "B", "A", "B", "A"]
    assert best(costs["B"]).wall_s == 2
    table = rows(costs, {}, None)
    assert [line[:3] for line in table] == [("  A", "1.00", "1.00"), ("  B", "2.00", "1.00")]
    assert {len(line) for line in table} == {len(COLUMNS)}


def test_time_without_any_program_is_the_jobs_own():
    """Programs that overlap are counted once, and a gap between them is nobody's but the job's."""
    ended = Ended(("ffmpeg",), 0, "", 1.0, 0, 0)
    assert covered([(5.0, 6.0, ended), (0.0, 2.0, ended), (1.0, 3.0, ended)]) == 4.0
