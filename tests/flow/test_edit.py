"""`edit` of sound, from uploaded files to finished ones: every edit point is measured in what came out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailure
from tests.flow.editor import RATE, numbered, places
from tests.media import judges, signals
from worker import delivery
from worker.editing import sound as sounds
from worker.probe import probe

pytestmark = pytest.mark.media

#: Half of the crossfade at a cut, in samples.
REACH = 120


def cut(*ranges: tuple[float, float]) -> dict[str, Any]:
    """An entry that takes these out."""
    return {"op": "cut", "ranges": [{"from_s": start, "to_s": end} for start, end in ranges]}


def steepest(sound: NDArray[np.floating]) -> float:
    """The largest jump from one sample to the next."""
    return float(np.abs(np.diff(sound[:, 0])).max())


def test_a_cut_takes_out_exactly_these_samples(edited, tmp_path):
    """Every sample outside the two crossfades is the source's, at its place."""
    path = signals.write(tmp_path / "talk.wav", numbered(10))
    made = edited(path, cut((1, 2), (5.00001, 7.12345)))
    found = places(made.sound())
    first, second = RATE, RATE + 240_000 - 2 * RATE  # where the joints are
    want = np.concatenate([np.arange(RATE), np.arange(2 * RATE, 240_000), np.arange(341_926, 10 * RATE)]) % 20_000
    assert len(found) == len(want)
    wrong = np.flatnonzero(found != want)
    assert set(wrong) <= {*range(first - REACH, first + REACH), *range(second - REACH, second + REACH)}
    assert made.result["edits"] == [{"op": "cut", "duration_s": pytest.approx(len(want) / RATE, abs=1e-6)}]


def test_entries_work_on_what_those_before_them_left(edited, tmp_path):
    """Positions move with what was cut in front of them, to the sample."""
    path = signals.write(tmp_path / "talk.wav", numbered(6))
    made = edited(
        path,
        {"op": "trim", "from_s": 1, "to_s": 5.5},
        cut((1, 2)),
        {"op": "keep", "ranges": [{"from_s": 0.5, "to_s": 1}, {"from_s": 2, "to_s": 3}]},
        {"op": "pad", "before_s": 0.25, "after_s": 0.5},
        ramp_s=0,
    )
    want = np.concatenate([np.arange(72_000, 96_000), np.arange(192_000, 240_000)]) % 20_000
    sound = made.sound()
    assert len(sound) == 12_000 + len(want) + 24_000
    assert not sound[:12_000].any()
    assert not sound[-24_000:].any()
    assert (places(sound[12_000:-24_000]) == want).all()
    assert [step["duration_s"] for step in made.result["edits"]] == [4.5, 3.5, 1.5, 2.25]


@pytest.mark.parametrize("ramp_s", [0.005, 0.0])
def test_no_click_is_heard_at_a_cut_nor_at_the_edges(edited, tmp_path, ramp_s):
    """No jump is larger than the tone's own; without the crossfade there is one, so that the measure can fail."""
    path = signals.write(tmp_path / "tone.wav", signals.tone(4, -6, hertz=100))
    own = steepest(signals.tone(1, -6, hertz=100))
    half = 0.005  # of a period: the worst place to meet
    made = edited(path, {"op": "trim", "from_s": 0.0025, "to_s": 3.9925}, cut((1, 2 + half)), ramp_s=ramp_s)
    sound = made.sound()
    jump = max(steepest(sound), abs(float(sound[0, 0])), abs(float(sound[-1, 0])))
    assert (jump < 1.5 * own) is bool(ramp_s), (jump, own)


def test_pieces_shorter_than_a_crossfade_are_whole(edited, tmp_path):
    """A hundred cuts, some a sample apart, leave exactly what they leave."""
    path = signals.write(tmp_path / "talk.wav", numbered(5))
    edges = [0.5 + 0.03 * number for number in range(120)]
    lengths = [(1 + number % 40) / RATE for number in range(120)]
    made = edited(path, {"op": "keep", "ranges": [
        {"from_s": start, "to_s": start + length} for start, length in zip(edges, lengths, strict=True)
    ]})  # fmt: skip
    assert len(made.sound()) == sum(1 + number % 40 for number in range(120))


def test_a_graph_too_long_for_a_command_line_is_read_from_a_file(edited, tmp_path, monkeypatch):
    """500 ranges are more than one argument may be; here 20 are."""
    monkeypatch.setattr("worker.ffmpeg._LONGEST_ARGUMENT", 2000)
    path = signals.write(tmp_path / "talk.wav", numbered(3))
    ranges = [(0.1 * number, 0.1 * number + 0.03) for number in range(20)]
    made = edited(path, cut(*ranges))
    assert len(made.sound()) == 3 * RATE - 20 * 1440
    assert any("-/filter_complex" in argv or "-filter_complex_script" in argv for argv in edited.started)


def test_files_of_all_kinds_are_joined_without_a_gap(edited, tmp_path, recordings, make):
    """MP3, 8 kHz mono, 24-bit FLAC: one rate, no sample lost, no silence at the joints."""
    tone = {"hertz": 440}
    low = signals.write(tmp_path / "low.wav", signals.tone(1.5, -12, rate=8_000, **tone), rate=8_000)
    wide = signals.write(tmp_path / "wide.wav", signals.tone(2, -12, -12, rate=44_100, **tone), rate=44_100)
    flac = make("wide.flac", "-i", wide, "-c:a", "flac", "-sample_fmt", "s32")
    mp3 = make("tone.mp3", "-i", wide, "-c:a", "libmp3lame", "-b:a", "128k")
    made = edited({"low": low, "flac": flac, "mp3": mp3}, {"op": "join", "order": ["mp3", "low", "flac", "low"]})
    sound = made.sound()
    assert (len(sound), sound.shape[1]) == (round((2 + 1.5 + 2 + 1.5) * 44_100), 2)
    loud = np.abs(sound).reshape(-1, 100, 2).max(axis=(1, 2))  # every 2.3 ms, one period of the tone
    assert (loud > 0.02).all(), np.flatnonzero(loud <= 0.02)
    assert steepest(sound) < 1.5 * steepest(signals.tone(1, -12, rate=44_100, **tone))
    assert [edited.opened(f"in-{number}/source") for number in range(3)] == [1, 1, 1]


def test_files_blend_into_each_other(edited, tmp_path):
    """A crossfade takes exactly its length from the whole, and both are heard in it."""
    first = signals.write(tmp_path / "first.wav", numbered(3))
    second = signals.write(tmp_path / "second.wav", np.full((2 * RATE, 1), 0.25))
    made = edited({"first": first, "second": second}, {"op": "join", "crossfade_s": 0.5})
    sound = made.sound()
    assert len(sound) == 4.5 * RATE
    assert (places(sound[: 2 * RATE + RATE // 2]) == np.arange(2 * RATE + RATE // 2) % 20_000).all()
    assert np.abs(sound[3 * RATE :] - 0.25).max() < 1e-4
    middle = 2 * RATE + 3 * RATE // 4
    assert sound[middle, 0] == pytest.approx((numbered(3)[middle, 0] + 0.25) / 2, abs=0.001)


def test_recordings_cut_by_a_recorder_are_put_together_again(edited, tmp_path):
    """Without ramps a join of the two parts is the whole, bit by bit."""
    whole = numbered(4)
    parts = {
        name: signals.write(tmp_path / f"{name}.wav", part)
        for name, part in (("one", whole[:77_777]), ("two", whole[77_777:]))
    }
    made = edited(parts, {"op": "join"}, ramp_s=0)
    assert (places(made.sound()) == np.arange(4 * RATE) % 20_000).all()


def test_silence_is_shortened_and_the_cuts_are_told(edited, tmp_path):
    """What is left of each pause is what was asked; the list is in seconds of what the entry was given."""
    tone, quiet = signals.tone(1, -12), signals.silence(2, channels=1)
    short = signals.silence(0.5, channels=1)
    path = signals.write(tmp_path / "talk.wav", np.concatenate([quiet, tone, quiet, tone, short, tone, quiet]))
    made = edited(path, {"op": "remove_silence", "at_least_s": 0.7, "leave_s": 0.2, "below_dbfs": -60})
    assert made.result["edits"][0]["cut"] == [[0.0, 1.8], [3.1, 4.9], [7.7, 9.5]]
    sound = made.sound()
    assert len(sound) == round((0.2 + 1 + 0.2 + 1 + 0.5 + 1 + 0.2) * RATE)
    heard = np.flatnonzero(np.abs(sound[:, 0]) > 0.001)
    assert heard[0] == pytest.approx(0.2 * RATE, abs=2)
    assert edited.opened("in-0/source") == 1


def test_silence_is_found_in_what_the_entries_before_made(edited, tmp_path, make):
    """After gain and join, and in an MP3, which is decoded once all the same."""
    sound = np.concatenate([signals.tone(1, -20), signals.tone(2, -50), signals.tone(1, -20)])
    path = make("talk.mp3", "-i", signals.write(tmp_path / "talk.wav", sound), "-b:a", "192k")
    made = edited(
        {"talk": path, "again": signals.write(tmp_path / "again.wav", sound)},
        {"op": "gain", "on": "talk", "db": -20},
        {"op": "join"},
        {"op": "remove_silence", "below_dbfs": -55, "leave_s": 0.5},
    )
    (begin, end) = made.result["edits"][2]["cut"][0]
    assert (begin, end) == (pytest.approx(1.25, abs=0.03), pytest.approx(2.75, abs=0.03))
    assert len(made.result["edits"][2]["cut"]) == 1
    assert [edited.opened(f"in-{number}/source") for number in range(2)] == [1, 1]


def test_only_the_longest_of_very_many_pauses_are_cut(edited, tmp_path, monkeypatch):
    """The rendering stays bounded."""
    monkeypatch.setattr("worker.editing.steps.MOST_PAUSES", 2)
    pauses = [signals.silence(seconds, channels=1) for seconds in (1, 2, 3)]
    parts = [part for pause in pauses for part in (signals.tone(0.5, -12), pause)]
    path = signals.write(tmp_path / "talk.wav", np.concatenate([*parts, signals.tone(0.5, -12)]))
    made = edited(path, {"op": "remove_silence", "leave_s": 0})
    assert made.result["edits"][0]["cut"] == [[2.0, 4.0], [4.5, 7.5]]


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_noise_is_taken_away_and_nothing_moves(edited, tmp_path, rate):
    """The filter's delay is made up for at every rate: a click stays at its sample."""
    noise = np.random.default_rng(3).normal(0, signals.db(-50), (4 * rate, 1))
    noise[3 * rate] = 0.9
    made = edited(
        signals.write(tmp_path / "noise.wav", noise, rate=rate, encoding="f32"),
        {"op": "denoise", "reduction_db": 20, "floor_dbfs": -50},
    )
    assert made.result["edits"][0]["filter"] == "afftdn"
    sound = made.sound()
    assert len(sound) == 4 * rate
    assert abs(int(np.abs(sound[:, 0]).argmax()) - 3 * rate) <= 1
    assert np.std(sound[rate : 2 * rate]) < 0.4 * np.std(noise[rate : 2 * rate])


def test_speed_keeps_the_pitch_and_the_length_is_exact(edited, tmp_path):
    """Faster and slower, beyond what one filter does at once."""
    path = signals.write(tmp_path / "tone.wav", signals.tone(4, -12, hertz=440))
    for factor in (1.5, 0.4):
        sound = edited(path, {"op": "speed", "factor": factor}).sound()[:, 0]
        assert len(sound) == round(4 * RATE / factor)
        middle = sound[len(sound) // 4 : 3 * len(sound) // 4]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert int(spectrum.argmax()) * RATE / len(middle) == pytest.approx(440, abs=3)


def test_fades_and_gains_have_exactly_their_levels(edited, tmp_path):
    """A linear fade is half way at its half; a gain holds between its positions and nowhere else."""
    path = signals.write(tmp_path / "level.wav", np.full((4 * RATE, 1), 0.25), encoding="f32")
    made = edited(
        path, {"op": "gain", "db": 6, "from_s": 1, "to_s": 2}, {"op": "fade", "in_s": 0.5, "out_s": 1},
        outputs=({"format": "wav"},),
    )  # fmt: skip
    sound = made.sound()[:, 0]
    assert sound[RATE // 4] == pytest.approx(0.125, abs=1e-4)
    assert np.allclose(sound[RATE // 2 : RATE - REACH], 0.25, atol=1e-4)
    assert np.allclose(sound[RATE + REACH : 2 * RATE - REACH], 0.25 * signals.db(6), atol=1e-4)
    assert np.allclose(sound[2 * RATE + REACH : 3 * RATE], 0.25, atol=1e-4)
    assert sound[3 * RATE + RATE // 2] == pytest.approx(0.125, abs=1e-4)


def test_channels_are_folded_doubled_chosen_and_exchanged(edited, tmp_path):
    """Left is 0.5, right 0.25."""
    path = signals.write(tmp_path / "sides.wav", np.tile([[0.5, 0.25]], (RATE, 1)))
    for to, want in {
        "mono": [0.375],
        "left": [0.5],
        "right": [0.25],
        "swap": [0.25, 0.5],
        "stereo": [0.5, 0.25],
    }.items():
        assert edited(path, {"op": "channels", "to": to}).sound()[RATE // 2] == pytest.approx(want, abs=1e-4), to
    mono = signals.write(tmp_path / "one.wav", np.full((RATE, 1), 0.5))
    assert edited(mono, {"op": "channels", "to": "stereo"}).sound()[RATE // 2] == pytest.approx([0.5, 0.5], abs=1e-4)


def level(sound: NDArray[np.floating], hertz: float) -> float:
    """How strong a tone is in a sound, in dB."""
    spectrum = np.abs(np.fft.rfft(sound[:, 0] * np.hanning(len(sound))))
    return float(20 * np.log10(spectrum[round(hertz * len(sound) / RATE)] + 1e-12))


def test_speech_presets_do_what_their_names_say(edited, tmp_path):
    """Rumble goes, voice stays; sharp s get softer, vowels less so; loud and soft come closer. Nothing moves."""
    rumble = signals.tone(2, -20, hertz=30) + signals.tone(2, -20, hertz=1000)
    path = signals.write(tmp_path / "rumble.wav", rumble)
    sound = edited(path, {"op": "highpass", "hertz": 120}).sound()
    assert level(rumble, 30) - level(sound, 30) > 18
    assert level(rumble, 1000) - level(sound, 1000) < 0.5
    hiss = signals.tone(2, -40, hertz=300) + signals.tone(2, -10, hertz=7500)
    path = signals.write(tmp_path / "hiss.wav", hiss)
    sound = edited(path, {"op": "deess", "amount": 1}).sound()
    assert level(hiss, 7500) - level(sound, 7500) > 3
    steps = np.concatenate([signals.tone(2, -3, hertz=440), signals.tone(2, -30, hertz=440)])
    path = signals.write(tmp_path / "steps.wav", steps)
    for amount, closer_db in (("light", 5), ("medium", 9), ("strong", 12)):
        sound = edited(path, {"op": "compress", "amount": amount}).sound()
        assert len(sound) == len(steps)
        loud, soft = np.abs(sound[RATE : 2 * RATE]).max(), np.abs(sound[3 * RATE :]).max()
        assert 20 * np.log10(loud / soft) < 27 - closer_db


OUTPUTS = ({"format": "mp3", "bitrate_kbps": 128}, {"format": "m4a"}, {"format": "opus"}, {"format": "flac"})


def test_an_edit_comes_out_mastered_in_one_encode(edited, run, recordings, notes):
    """Two judges hear the target in every file; one process renders the edit and measures it, one encodes."""
    entries = ({"op": "trim", "to_s": 12}, cut((2, 3), (5, 6.5)), {"op": "gain", "db": -6})
    made = edited(recordings.speech, *entries, preset="podcast", outputs=OUTPUTS)
    for name in ("mp3", "m4a", "opus", "flac"):
        for judge in (judges.libebur128, judges.ffmpeg_meter):
            verdict = judge(run.engine.ffmpeg, made.files[name])
            assert verdict.lufs == pytest.approx(-16, abs=0.1), (name, judge.__name__)
            assert verdict.true_peak_dbtp <= -1
            assert verdict.duration_s == pytest.approx(made.result["duration_s"], abs=0.05)
    encodes = [argv for argv in edited.started if "libmp3lame" in argv]
    assert len(encodes) == 1
    assert edited.opened("in-0/source") == 1


def test_the_loudness_stays_as_it_is_unless_asked(edited, run, tmp_path):
    """Also through an encoder that makes softer what it encodes."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(4))
    before = judges.libebur128(run.engine.ffmpeg, path).lufs
    made = edited(path, outputs=OUTPUTS)
    for name in ("mp3", "m4a", "opus", "flac"):
        assert judges.libebur128(run.engine.ffmpeg, made.files[name]).lufs == pytest.approx(before, abs=0.1), name
    assert made.result["target_lufs"] is None


def test_a_sound_over_full_scale_is_warned_of(edited, tmp_path):
    """A gain may be too much; the report says by how much, and what to do."""
    path = signals.write(tmp_path / "tone.wav", signals.tone(1, -6))
    made = edited(path, {"op": "gain", "db": 9})
    assert "3.0 dB over full scale" in made.result["warnings"][0]
    assert not edited(path, {"op": "gain", "db": 5}).result["warnings"]


BEYOND = {
    "trim": ([{"op": "trim", "to_s": 4.5}], "edits.0.to_s is 4.5.* 4.000 s"),
    "cut": ([cut((1, 2)), cut((2, 3.5))], "edits.1.ranges.0.to_s is 3.5.* 3.000 s"),
    "keep": ([{"op": "keep", "ranges": [{"from_s": 1, "to_s": 5}]}], "edits.0.ranges.0.to_s"),
    "gain": ([{"op": "gain", "db": 1, "from_s": 4}], "edits.0.from_s"),
    "fade": ([{"op": "fade", "in_s": 3, "out_s": 3}], "edits.0.out_s"),
    "nothing left": ([cut((0, 4))], "edits.0 leaves nothing"),
    "all silent": ([{"op": "remove_silence", "below_dbfs": -10}], "edits.0 finds nothing louder"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_the_recording_does_not_have_is_a_failure_that_names_the_entry(edited, tmp_path, name):
    """Permanent, before anything is rendered, with the length that is there."""
    edits, sentence = BEYOND[name]
    path = signals.write(tmp_path / "talk.wav", signals.tone(4, -20))
    with pytest.raises(JobFailure, match=sentence) as caught:
        edited(path, *edits)
    assert caught.value.kind == "permanent"
    assert not any("edited.wav" in argument for argv in edited.started for argument in argv)


def test_with_several_files_a_failure_names_the_file(edited, tmp_path):
    """By the name the creator gave it."""
    good = signals.write(tmp_path / "good.wav", signals.tone(2, -20))
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound at all" * 100)
    with pytest.raises(JobFailure, match="The file 'outro'"):
        edited({"talk": good, "outro": bad}, {"op": "join"})
    with pytest.raises(JobFailure, match=r"edits.0.to_s is 3, and the file 'outro' at this point has only 2.000 s"):
        edited({"talk": good, "outro": good}, {"op": "trim", "on": "outro", "to_s": 3}, {"op": "join"})


def test_a_damaged_recording_is_edited_and_said_so(edited, make, recordings, tmp_path):
    """What can be decoded is what positions mean."""
    whole = make("whole.mp3", "-i", recordings.lena("lena.mp3"), "-c:a", "libmp3lame", "-b:a", "128k")
    data = bytearray(whole.read_bytes())
    for at in range(40_000, 60_000, 4_000):
        data[at : at + 300] = b"\xff" * 300
    damaged = tmp_path / "damaged.mp3"
    damaged.write_bytes(data)
    made = edited(damaged, {"op": "trim", "from_s": 1})
    assert any("could not be decoded" in sentence for sentence in made.result["warnings"])


def test_a_file_that_lies_about_its_length_is_believed_by_its_sound(edited, tmp_path):
    """A WAV cut off in an upload has the length that is there, and a position behind it is refused."""
    whole = signals.write(tmp_path / "whole.wav", numbered(4)).read_bytes()
    path = tmp_path / "cut-off.wav"
    path.write_bytes(whole[: len(whole) // 2])
    made = edited(path, {"op": "trim", "from_s": 1})
    assert len(made.sound()) == pytest.approx(RATE, abs=64)
    with pytest.raises(JobFailure, match="has only 2"):
        edited(path, {"op": "trim", "to_s": 3})


def test_too_short_a_sound_is_edited_and_only_not_mastered(edited, tmp_path):
    """Loudness needs 400 ms; an edit does not."""
    path = signals.write(tmp_path / "word.wav", numbered(1))
    assert len(edited(path, {"op": "trim", "to_s": 0.1}).sound()) == 4800
    with pytest.raises(JobFailure, match="at least 400 ms"):
        edited(path, {"op": "trim", "to_s": 0.1}, preset="podcast")


def test_an_mp4_of_sound_alone_is_refused(edited, tmp_path):
    """There is no picture to put into it."""
    with pytest.raises(JobFailure, match="no recording has a picture"):
        edited(signals.write(tmp_path / "talk.wav", signals.tone(1, -20)), outputs=({"format": "mp4"},))


def test_an_edit_that_came_out_short_is_never_delivered(edited, tmp_path, monkeypatch):
    """The samples are counted: whatever the graph did, a wrong length is no result."""
    real = sounds._crossfade
    monkeypatch.setattr(sounds, "_crossfade", lambda samples: real(samples + 2))
    with pytest.raises(JobFailure, match="came out") as caught:
        edited(signals.write(tmp_path / "talk.wav", numbered(4)), cut((1, 2)))
    assert caught.value.kind == "transient"


def test_a_missing_filter_is_named(edited, run, tmp_path):
    """A build of ffmpeg without it can do all the other edits."""
    poor = dataclasses.replace(run.engine, filters=run.engine.filters - {"afftdn"})
    edited.run = dataclasses.replace(run, engine=poor)
    with pytest.raises(JobFailure, match=r"edits\.0 needs ffmpeg's filter afftdn"):
        edited(signals.write(tmp_path / "talk.wav", numbered(1)), {"op": "denoise"})


def test_progress_is_what_was_really_done(edited, notes, tmp_path, make):
    """Bytes, then seconds of all the decoding and rendering together, then seconds of the edit."""
    wav = signals.write(tmp_path / "talk.wav", signals.podcast(6))
    mp3 = make("outro.mp3", "-i", wav, "-t", "4", "-b:a", "128k")
    made = edited({"talk": wav, "outro": mp3}, {"op": "trim", "on": "talk", "to_s": 5}, {"op": "join"})
    assert made.result["duration_s"] == 9
    sizes = wav.stat().st_size + mp3.stat().st_size
    by_total: dict[float | None, list[float]] = {}
    for current, total in notes.steps:
        by_total.setdefault(total and round(total), []).append(current)
    assert by_total[sizes][-1] == sizes
    assert by_total[13][-1] == pytest.approx(13, abs=0.1)  # 4 s decoded, 9 s rendered
    assert by_total[9]
    assert None not in by_total
    for total, steps in by_total.items():
        assert steps == sorted(steps)
        assert steps[-1] <= total + 0.1


def test_the_same_job_makes_the_same_bytes(edited, tmp_path):
    """A retry gives the same hashes."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(3))
    entries = ({"op": "highpass"}, cut((1, 2)), {"op": "fade", "in_s": 0.5})
    first, second = (edited(path, *entries, outputs=OUTPUTS[1:3]) for _ in range(2))
    assert {name: one.sha256 for name, one in first.outputs.items()} == {
        name: one.sha256 for name, one in second.outputs.items()
    }


def test_an_encoder_that_cuts_off_is_found_out(edited, tmp_path, monkeypatch):
    """Without a target too, every file is decoded and its length compared."""
    real = delivery.transcode
    monkeypatch.setattr(
        delivery, "transcode", lambda run, args, **more: real(run, [*args[:-1], "-t", "1", args[-1]], **more)
    )
    with pytest.raises(JobFailure, match="came out 1"):
        edited(signals.write(tmp_path / "talk.wav", numbered(3)))


def test_nothing_is_left_of_the_work_between(edited, tmp_path):
    """What was decoded for the edit is gone when the edit is there."""
    made = edited(signals.write(tmp_path / "talk.wav", numbered(2)), {"op": "remove_silence"})
    assert not (made.run.work / "parts").exists()


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a", "opus"])
def test_another_container_alone_is_exact_to_the_sample(edited, run, make, tmp_path, kind):
    """Where a file asks for no change, it has every sample of the source, copied wherever that keeps them all."""
    wav = signals.write(tmp_path / "talk.wav", signals.podcast(3))
    source = make(f"talk.{kind}", "-i", wav)
    before = judges.decode(run.engine.ffmpeg, source).samples
    made = edited(source, outputs=({"format": kind, "name": "same"},))
    after = made.sound("same")
    copied = made.result["after"]["same"]["copied"]
    assert after.shape == before.shape or not copied
    if copied:
        assert np.abs(after - before).max() < 1e-4
    assert bool(copied) is (not any("libmp3lame" in argv or "-b:a" in argv for argv in edited.started))
    assert copied == (["sound"] if kind != "mp3" else copied)


@pytest.mark.parametrize("entries", [(), ({"op": "trim", "to_s": 2},)], ids=["copied", "cut"])
def test_chapters_of_the_source_stay_behind(edited, run, make, tmp_path, entries):
    """After a cut they would stand at the wrong places, and a copy of the sound had them without their titles."""
    words = tmp_path / "words.txt"
    words.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=3000\ntitle=Raw\n")
    wav = signals.write(tmp_path / "plain.wav", signals.podcast(3))
    source = make("talk.m4a", "-i", wav, "-i", words, "-map_chapters", "1")
    assert [one.title for one in probe(run, source).chapters] == ["Raw"]
    made = edited(source, *entries, outputs=[{"format": kind} for kind in ("m4a", "mp3", "opus", "flac")])
    assert {name: probe(run, path).chapters for name, path in made.files.items() if name != "peaks.json"} == {
        "m4a": (), "mp3": (), "opus": (), "flac": ()
    }  # fmt: skip
