"""Edits of recordings that an earlier job has measured: made at their loudness in one pass, from what is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shared.errors import JobFailure
from tests.flow.editor import Editor
from tests.media import judges, signals
from worker import ledger
from worker.editing.foretold import Stretch, faded, foretell, louder, part_of
from worker.loudness import Measured, measure
from worker.meter import Mix
from worker.pipelines import PIPELINES

pytestmark = pytest.mark.media

ENTRIES = (
    {"op": "cut", "ranges": [{"from_s": 1.25, "to_s": 2.5}, {"from_s": 7.0, "to_s": 9.125}]},
    {"op": "gain", "db": -5, "from_s": 3, "to_s": 5},
    {"op": "pad", "before_s": 0.5},
    {"op": "fade", "in_s": 1, "out_s": 2},
)
OUTPUTS = ({"format": "mp3"}, {"format": "flac"}, {"format": "opus"})


def ingested(edited: Editor, path) -> str:
    """The upload, after a job that has measured it."""
    asset = edited.upload(path)
    job = dataclasses.replace(edited.run.job, type="ingest", params={"source": asset, "outputs": [{"format": "opus"}]})
    attempt, pipeline = dataclasses.replace(edited.run, job=job), PIPELINES["ingest"]
    state = pipeline.begin(attempt)
    for stage in pipeline.stages:
        stage.work(attempt, state)
    edited.started.clear()
    return asset


def programs(edited: Editor) -> list[list[str]]:
    """The ffmpegs that were started, but for those that prove finished files."""
    return [argv for argv in edited.started if "ffmpeg" in argv[0] and "-xerror" not in argv]


@pytest.fixture
def talk(make, tmp_path):
    """Twelve seconds of speech as an MP3: how long it is only decoding tells."""
    return make("talk.mp3", "-i", signals.write(tmp_path / "talk.wav", signals.podcast(12)), "-b:a", "160k")


def test_a_known_recording_is_edited_to_its_loudness_in_one_pass(edited, run, talk):
    """One ffmpeg opens it once, cuts, masters and encodes it into all files: two judges hear the target in each."""
    ingested(edited, talk)
    made = edited(talk, *ENTRIES, preset="podcast", outputs=OUTPUTS)
    (only,) = programs(edited)
    assert sum(arg == "-i" and "in-0/source" in only[place + 1] for place, arg in enumerate(only[:-1])) == 1
    assert {"libmp3lame", "flac", "libopus"} <= {*only}
    for name in ("mp3", "flac", "opus"):
        for judge in (judges.libebur128, judges.ffmpeg_meter):
            verdict = judge(run.engine.ffmpeg, made.files[name])
            assert verdict.lufs == pytest.approx(-16, abs=0.1), (name, judge.__name__)
            assert verdict.true_peak_dbtp <= -1
    # Not one sample is another than when the edit is rendered and measured before it is mastered.
    run.storage.delete_prefix("uploads/asset-talk-mp3.ledger")
    folded = {"format": "flac", "name": "folded", "channels": "mono"}
    plain = edited(talk, *ENTRIES, target_lufs=-40, outputs=({"format": "flac"}, folded))
    assert edited.opened("edited.wav")
    assert len(made.sound("flac")) == len(plain.sound("flac")) == round(made.result["duration_s"] * 48_000)
    facts = plain.result["before"]
    for name in ("integrated_lufs", "true_peak_dbtp", "loudness_range_lu", "max_momentary_lufs", "max_short_term_lufs"):
        assert made.result["before"][name] == pytest.approx(facts[name], abs=0.1), name


def test_a_recording_that_nobody_knows_is_decoded_once_and_known_from_then_on(edited, talk):
    """What decoding it for the first edit told serves that edit, and the next one need not."""
    edited(talk, *ENTRIES, preset="podcast")
    assert [edited.opened("in-0/source"), edited.opened("parts/source-0.wav"), edited.opened("edited.wav")] == [1, 1, 0]
    edited.started.clear()
    edited(talk, {"op": "remove_silence"}, {"op": "trim", "from_s": 1}, preset="podcast")
    assert len(programs(edited)) == 1


@pytest.mark.parametrize("harm", ["not a ledger", "of another engine", "of another recording"])
def test_a_ledger_that_does_not_fit_is_not_believed(edited, run, tmp_path, talk, harm):
    """The recording is decoded as if there were none."""
    asset = ingested(edited, talk)
    key = f"uploads/{asset}.ledger"
    if harm == "not a ledger":
        path = tmp_path / "harm"
        path.write_bytes(b"PK\x03\x04 and nothing more")
        run.storage.put(path, key, content_type="application/zip", progress=lambda *_: None)
    else:
        mono = signals.write(tmp_path / "other.wav", signals.podcast(2, channels=1))
        known = measure(run, ["-i", str(mono)], Mix(1, 48_000), folder=run.work, profiled=True)
        engine = dataclasses.replace(run.engine, version="0.0") if harm == "of another engine" else run.engine
        ledger.keep(dataclasses.replace(run, engine=engine), asset, known)
    edited(talk, *ENTRIES, preset="podcast", outputs=({"format": "flac"},))
    assert [edited.opened("in-0/source"), edited.opened("parts/source-0.wav")] == [1, 1]


def test_a_ledger_that_lies_is_found_out_and_forgotten(edited, run, talk, monkeypatch):
    """The samples are counted: nothing of a wrong length is delivered, and the next attempt decodes the recording."""
    asset = ingested(edited, talk)
    true = ledger.recall

    def lying(*args):
        found = true(*args)
        return dataclasses.replace(found, samples=found.samples + 480)

    monkeypatch.setattr(ledger, "recall", lying)
    with pytest.raises(JobFailure, match=r"came out 12\.\d+ s long instead") as failed:
        edited(talk, preset="podcast", outputs=({"format": "flac"},))
    assert failed.value.kind == "transient"
    monkeypatch.undo()
    assert run.storage.stat(f"uploads/{asset}.ledger") is None


@pytest.fixture(scope="module")
def heard(engine, recordings, tmp_path_factory):
    """Real music and real speech: their samples."""
    return {name: judges.decode(engine.ffmpeg, getattr(recordings, name)) for name in ("speech", "music")}


@pytest.mark.parametrize("cuts", [1, 12, 80])
@pytest.mark.parametrize("name", ["speech", "music"])
def test_what_an_edit_will_measure_is_foretold(run, heard, tmp_path, name, cuts):
    """Loudness to 0.03 LU and peaks to 0.2 dB of what libebur128 hears, after many cuts, gains and a fade."""
    sound = heard[name].samples[: 60 * heard[name].sample_rate].astype(np.float64)
    rate, channels = heard[name].sample_rate, sound.shape[1]
    path = signals.write(tmp_path / "whole.wav", sound, rate=rate, encoding="f32")
    known: Measured = measure(run, ["-i", str(path)], Mix(channels, rate), folder=run.work, profiled=True)
    random = np.random.default_rng(cuts)
    edges = np.sort(random.choice(len(sound), 2 * cuts, replace=False))
    score, left = [], []
    for first, last in edges.reshape(-1, 2).tolist():
        ratio = float(random.uniform(0.3, 1.5))
        score += louder(part_of((Stretch(path, 0, len(sound)),), first, last), ratio)
        left.append(sound[first:last] * ratio)
    whole = np.concatenate(left)
    ramp = len(whole) // 10
    whole[:ramp] *= np.linspace(0, 1, ramp)[:, None]
    told = foretell(faded(tuple(score), ramp, 0, smooth=False), {path: known}, rate=rate, channels=channels)
    assert told is not None
    judged = judges.libebur128_of(whole, rate)
    assert told.samples == len(whole)
    assert told.integrated_lufs == pytest.approx(judged.lufs, abs=0.03)
    assert told.true_peak_dbtp == pytest.approx(judged.true_peak_dbtp, abs=0.2)
