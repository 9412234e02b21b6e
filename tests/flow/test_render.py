"""`render` up to the mix: everything lies where it was put, to the sample, and is as loud as it was asked to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailure
from shared.types import RenderParams
from tests.flow.editor import numbered, places
from tests.flow.studio import RATE
from tests.media import judges, signals
from worker.mixing.mixer import Mixer
from worker.mixing.timeline import lay_out
from worker.mixing.words import chapters_of
from worker.stop import Reason, Stopped

pytestmark = pytest.mark.media

#: A ramp at an edge that was cut, in samples.
RAMP = 240
LEFT, RIGHT = {"pan": -1}, {"pan": 1}


def level(value: float, seconds: float = 1, channels: int = 1) -> NDArray[np.float64]:
    """A sound whose samples all have one value."""
    return np.full((round(seconds * RATE), channels), value)


def lufs(sound: NDArray[np.floating]) -> float:
    """What libebur128 says."""
    return judges.libebur128_of(sound, RATE).lufs


def steepest(sound: NDArray[np.floating]) -> float:
    """The largest jump from one sample to the next."""
    return float(np.abs(np.diff(sound)).max())


def test_every_track_begins_at_its_sample(rendered, tmp_path):
    """Each sample of each track is at its place and no other, between them is digital silence."""
    path = signals.write(tmp_path / "talk.wav", numbered(1))
    late = {"source": path, "offset_s": 2.00001, "name": "late"}  # half a sample rounds to the nearest
    part = {"source": path, "offset_s": 4, "start_s": 0.25, "end_s": 0.75}
    made = rendered.mixed(path, late, part)
    sound = made.samples
    assert sound.shape == (RATE * 9 // 2, 1)
    assert (places(sound[:RATE]) == np.arange(RATE) % 20_000).all()
    assert not sound[RATE : 2 * RATE].any()
    assert (places(sound[2 * RATE : 3 * RATE]) == np.arange(RATE) % 20_000).all()
    assert not sound[3 * RATE : 4 * RATE].any()
    inside = slice(4 * RATE + RAMP, 4 * RATE + RATE // 2 - RAMP)
    assert (places(sound[inside]) == np.arange(RATE // 4 + RAMP, RATE * 3 // 4 - RAMP) % 20_000).all()
    assert (np.abs(sound[[4 * RATE, -1]]) < 0.002).all()  # no click where the source goes on
    assert made.told["tracks.1"] == {
        "entry": "tracks.1", "name": "late", "begins_s": 2.0, "ends_s": 3.0, "gain_db": 0.0, "ducked": False,
    }  # fmt: skip


def test_sources_of_all_kinds_lie_where_they_were_put(rendered, tmp_path, make):
    """An impulse in 44.1 kHz FLAC, 8 kHz WAV and MP3 comes out at its moment, in the highest of their rates."""
    sounds = {}
    for rate in (44_100, 8_000, 48_000):
        sound = np.zeros((rate, 1))
        sound[rate // 2] = 0.9
        sounds[rate] = signals.write(tmp_path / f"{rate}.wav", sound, rate=rate)
    flac = make("a.flac", "-i", sounds[44_100])
    mp3 = make("b.mp3", "-i", sounds[48_000], "-b:a", "192k")
    tracks = [{"source": path, "offset_s": 2 * number} for number, path in enumerate((flac, sounds[8_000], mp3))]
    sound = rendered.mixed(*tracks).samples[:, 0]
    assert len(sound) == pytest.approx(5 * RATE, abs=1)
    for number in range(3):
        first = 2 * number * RATE
        assert abs(int(np.abs(sound[first : first + RATE]).argmax()) - RATE // 2) <= 1, number


def test_gain_and_pan_are_exact(rendered, tmp_path):
    """Of equal power wherever it is put, unchanged in the middle."""
    mono = signals.write(tmp_path / "mono.wav", level(0.25))
    both = signals.write(tmp_path / "both.wav", np.hstack([level(0.5), level(-0.125)]))
    tracks = [
        {"source": mono, "gain_db": -6, "pan": pan, "offset_s": number} for number, pan in enumerate((0, -1, 1, 0.5))
    ]
    sound = rendered.mixed(*tracks, {"source": both, "offset_s": 4, "gain_db": 3}).samples
    soft = 0.25 * signals.db(-6)
    share = np.array([np.cos(3 * np.pi / 8), np.sin(3 * np.pi / 8)]) * np.sqrt(2)
    want = [[soft, soft], [soft * np.sqrt(2), 0], [0, soft * np.sqrt(2)], soft * share]
    for number, sides in enumerate([*want, np.array([0.5, -0.125]) * signals.db(3)]):
        assert sound[number * RATE + 100] == pytest.approx(sides, abs=1e-6), number
        assert sound[number * RATE + RATE - 1] == pytest.approx(sides, abs=1e-6), number


def test_what_adds_up_beyond_full_scale_is_not_cut_off(rendered, tmp_path):
    """The mix is in floats: three times full scale is three times full scale."""
    path = signals.write(tmp_path / "loud.wav", signals.tone(1, 0))
    sound = rendered.mixed(*[path] * 3).samples
    assert float(np.abs(sound).max()) == pytest.approx(3, abs=0.001)


def test_a_muted_track_is_as_if_it_were_not_there(rendered, run, tmp_path):
    """Neither heard nor counted, and its file is not even fetched."""
    path = signals.write(tmp_path / "talk.wav", numbered(1))
    other = signals.write(tmp_path / "other.wav", signals.tone(3, -6))
    sound = rendered.mixed(path, {"source": other, "mute": True, "offset_s": 30}).samples
    assert (places(sound) == np.arange(RATE) % 20_000).all()
    assert sorted(folder.name for folder in run.work.glob("in-*")) == ["in-0"]


def test_fades_have_their_length_and_shape(rendered, tmp_path):
    """Half way at the half, complete at the end."""
    path = signals.write(tmp_path / "level.wav", level(0.5, 4), encoding="f32")
    sound = rendered.mixed({"source": path, "fade_in_s": 1, "fade_out_s": 2}).samples[:, 0]
    assert sound[RATE // 2] == pytest.approx(0.25, abs=1e-4)
    assert np.allclose(sound[RATE : 2 * RATE], 0.5)
    assert sound[3 * RATE] == pytest.approx(0.25, abs=1e-4)
    assert max(abs(sound[0]), abs(sound[-1])) < 1e-4


def test_intro_and_outro_blend_at_equal_power_and_without_a_gap(rendered, tmp_path):
    """The two sides' power together is the same at every sample; the show begins where the intro gives over."""
    sides = {
        name: signals.write(tmp_path / f"{name}.wav", np.hstack([level(left, 3), level(right, 3)]), encoding="f32")
        for name, (left, right) in {"sting": (0.5, 0.0), "show": (0.0, 0.5)}.items()
    }
    sting = {"source": sides["sting"]}
    made = rendered.mixed(sides["show"], intro=sting | {"crossfade_s": 1}, outro=sting)
    sound = made.samples
    assert len(sound) == (3 + 3 + 3 - 1) * RATE
    assert np.allclose((sound**2).sum(axis=1), 0.25, atol=1e-6)
    assert sound[2 * RATE + RATE // 2] == pytest.approx([0.5 * np.sqrt(0.5)] * 2, abs=1e-4)
    assert [made.told[at]["begins_s"] for at in ("intro", "tracks.0", "outro")] == [0.0, 2.0, 5.0]


SPEECH_S = [(2.0, 4.0), (4.3, 6.0), (11.0, 12.5)]


def talk(channels: int = 1) -> NDArray[np.float64]:
    """Words at `SPEECH_S` in 16 s of a room at -60 dBFS."""
    sound = np.random.default_rng(1).normal(0, signals.db(-60), (16 * RATE, channels))
    for begin, end in SPEECH_S:
        sound[round(begin * RATE) : round(end * RATE)] += signals.podcast(end - begin, channels=channels)
    return sound


def test_music_goes_down_under_speech_and_comes_back(rendered, tmp_path):
    """By 12 dB from the first word to the last, all of it in a pause, and nothing clicks on the way."""
    voice = signals.write(tmp_path / "voice.wav", talk())
    tone = signals.tone(16, -12, hertz=400)
    music = signals.write(tmp_path / "music.wav", tone, encoding="f32")
    settings = {"attack_s": 0.25, "hold_s": 0.5, "release_s": 1.0}
    made = rendered.mixed(
        {"source": voice} | LEFT, {"source": music, "role": "music", "gain_db": 0} | RIGHT, ducking=settings
    )
    heard, plain = made.samples[:, 1] / np.sqrt(2), signals.db(-12)
    # What its gain is, every 10 ms: the tone's period is a quarter of that.
    gain_db = 20 * np.log10(np.abs(heard).reshape(-1, 480).max(axis=1) / plain)
    down = np.zeros(1600, np.bool_)
    for begin, end in ((2.0, 6.0), (11.0, 12.5)):  # the pause of 0.3 s is shorter than the hold
        down[round(100 * begin) : round(100 * end)] = True
    assert np.abs(gain_db[down] + 12).max() < 1
    free = np.r_[0:170, 770:1070, 1430:1600]
    assert np.abs(gain_db[free]).max() < 0.1
    assert gain_db[700:760].max() < 0.1
    # A click is a jump that the tone itself has not.
    assert steepest(heard) < 1.01 * steepest(tone[:, 0])
    assert steepest(gain_db) < 1.5  # dB in 10 ms


def test_ducking_hears_real_speech(rendered, recordings, tmp_path):
    """Wherever two real people talk, the music is down, and only there."""
    tone = signals.write(tmp_path / "tone.wav", signals.tone(30, -12, hertz=400))
    made = rendered.mixed({"source": recordings.speech} | LEFT, {"source": tone, "role": "music"} | RIGHT)
    voice, music = made.samples.T
    count = len(voice) // 4800
    loud = np.array([np.sqrt((part**2).mean()) for part in voice[: count * 4800].reshape(count, -1)])
    gain_db = 20 * np.log10(np.abs(music[: count * 4800]).reshape(count, -1).max(axis=1) / signals.db(-12) / np.sqrt(2))
    speaking = loud > 0.3 * np.sqrt((voice**2).mean())
    assert speaking.mean() > 0.4
    assert np.abs(gain_db[speaking] + 12).max() < 1
    assert gain_db.min() > -12.1


@pytest.mark.parametrize(("role", "by_db"), [("effect", 12), ("music", 0)])
def test_what_is_not_to_go_down_stays_as_it_is(rendered, tmp_path, role, by_db):
    """Effects under speech, and music where nothing is asked of it."""
    voice = signals.write(tmp_path / "voice.wav", talk()[: 4 * RATE])
    tone = signals.write(tmp_path / "tone.wav", signals.tone(4, -12))
    made = rendered.mixed({"source": voice} | LEFT, {"source": tone, "role": role} | RIGHT, ducking={"by_db": by_db})
    assert np.allclose(made.samples[:, 1], signals.tone(4, -12)[:, 0] * np.sqrt(2), atol=1e-4)


def test_tracks_are_brought_to_their_loudness(rendered, tmp_path):
    """As a judge hears them in the mix, whatever they were recorded at, and only by the part that is used."""
    soft = signals.write(tmp_path / "soft.wav", signals.podcast(8, channels=1) * signals.db(-20))
    loud = signals.podcast(8, seed=3)
    loud[: 4 * RATE] *= signals.db(-18)
    loud = signals.write(tmp_path / "loud.wav", loud)
    tracks = [
        {"source": soft, "loudness_lufs": -23},
        {"source": loud, "loudness_lufs": -20, "gain_db": 2, "start_s": 4, "offset_s": 10},
    ]
    made = rendered.mixed(*tracks)
    assert lufs(made.samples[: 8 * RATE]) == pytest.approx(-23, abs=0.1)
    assert lufs(made.samples[10 * RATE :]) == pytest.approx(-18, abs=0.1)


def test_a_bed_lies_below_the_speech_loops_and_ends_with_the_show(rendered, tmp_path):
    """In pauses as far below the speech as was asked; every turn of it is as long as the piece, to the sample."""
    voice = np.concatenate([signals.podcast(8, channels=1), signals.silence(6, channels=1)])
    path = signals.write(tmp_path / "voice.wav", voice)
    # Where its end meets its beginning it jumps from nothing to its highest.
    piece = signals.tone(2.5, -12, -12, hertz=100.3, phase_deg=90)
    bed = signals.write(tmp_path / "bed.wav", piece, encoding="f32")
    made = rendered.mixed({"source": path} | LEFT, music={"source": bed, "below_speech_lu": 8, "fade_out_s": 1})
    sound = made.samples
    assert len(sound) == 14 * RATE
    assert made.told["music"]["ends_s"] == 14.0
    speech = lufs(np.hstack([voice[: 8 * RATE] * np.sqrt(2), voice[: 8 * RATE] * 0]))
    assert lufs(np.roll(sound, -10 * RATE, axis=0)[: 5 * RATE // 2]) == pytest.approx(speech - 8, abs=0.2)
    gain = 10 ** (made.told["music"]["gain_db"] / 20)
    turn = round(2.5 * RATE)
    begin = 4 * turn + RAMP
    assert np.allclose(sound[begin : begin + turn - 2 * RAMP], gain * piece[RAMP:-RAMP], atol=1e-4)
    assert np.abs(sound[-1]).max() < 1e-3
    assert steepest(sound[9 * RATE :, 1]) < 2 * gain * steepest(piece[:, 1])  # the ramps add a little of their own
    once = rendered.mixed(path, music={"source": bed, "loop": False})
    assert once.told["music"]["ends_s"] == 2.5
    assert once.warnings == ["music ends 11.5 s before the show does; let it loop, or choose a longer one."]


def test_every_source_is_decoded_once(rendered, tmp_path, recordings):
    """However many entries name it, and of one of which only the beginning is needed, only the beginning."""
    talk_path = signals.write(tmp_path / "talk.wav", signals.podcast(3))
    song = {"source": recordings.lena("lena.mp3"), "end_s": 2}
    rendered.mixed(
        talk_path,
        {"source": talk_path, "offset_s": 2, "start_s": 1},
        music=song,
        intro=song | {"crossfade_s": 1},
        outro=song | {"end_s": 1.5},
    )
    assert [rendered.opened(f"in-{number}") for number in range(2)] == [1, 1]
    (graph,) = [argument for argv in rendered.started for argument in argv if "atrim=end_sample" in argument]
    assert "atrim=end_sample=96001" in graph or "atrim=end_sample=88201" in graph


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "tracks.1.start_s": ({"tracks": [{}, {"start_s": 3}]}, "is 3, and the source has only 2.000 s"),
    "tracks.0.end_s": ({"tracks": [{"end_s": 2.5}]}, "is 2.5, and the source has only 2.000 s"),
    "tracks.0.fade_out_s": ({"tracks": [{"fade_in_s": 1, "fade_out_s": 1.5}]}, "makes fades longer"),
    "music.offset_s": ({"music": {"offset_s": 7}}, "is 7, and the show has only 2.000 s"),
    "intro.crossfade_s": ({"intro": {"crossfade_s": 3}}, "is 3, and it has only 2.000 s"),
    "outro.crossfade_s": (
        {"outro": {"crossfade_s": 1.5}, "tracks": [{"end_s": 1}]},
        "is 1.5, and the show has only 1.000 s",
    ),
    "chapters.1.start_s": ({"chapters": [0, 2.5]}, "is 2.5, and the programme has only 2.000 s"),
    "chapters.0.start_s": (
        {"chapters": [2.5], "chapters_from": "show", "intro": {}},
        "is 2.5, and the programme ends 2.000 s after the beginning of the show",
    ),
}


@pytest.mark.parametrize("field", WRONG)
def test_what_the_sources_do_not_have_is_refused_by_its_field(field):
    """A source turns out to have two seconds: the job ends with a sentence that says what to correct."""
    given, sentence = {"tracks": [{}]} | WRONG[field][0], WRONG[field][1]
    given["tracks"] = [{"source": "a"} | track for track in given["tracks"]]
    given |= {name: {"source": "a"} | given[name] for name in ("music", "intro", "outro") if name in given}
    given["chapters"] = [{"start_s": start_s, "title": "x"} for start_s in given.get("chapters", ())]
    params = RenderParams.model_validate(given)
    with pytest.raises(JobFailure) as caught:
        chapters_of(params, lay_out(params, {"a": 2 * RATE}, RATE))
    assert caught.value.failure_code == "bad_input.beyond_end"
    assert caught.value.message.startswith(f"{field} {sentence}")


def test_a_failure_says_which_entry_it_is_about(rendered, tmp_path, recordings):
    """Among 32 tracks that is what one needs to know."""
    path = signals.write(tmp_path / "talk.wav", signals.tone(1, -12))
    with pytest.raises(JobFailure, match=r"^tracks\.1: The recording has no sound in it"):
        rendered.mixed(path, recordings.silent_video)
    quiet = signals.write(tmp_path / "quiet.wav", signals.tone(1, -75), encoding="f32")
    with pytest.raises(JobFailure, match=r"^tracks\.1 is too quiet for its loudness_lufs"):
        rendered.mixed(path, {"source": quiet, "loudness_lufs": -16})
    silent = signals.write(tmp_path / "silent.wav", signals.silence(1))
    made = rendered.mixed(path, {"source": silent, "loudness_lufs": -16})
    assert made.warnings == ["tracks.1: the recording is silent; check that the right track was recorded."]


def test_the_stage_tells_what_was_really_decoded_and_mixed(rendered, tmp_path, notes):
    """In seconds of sound: it rises, never passes the whole, and ends there."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(9))
    other = signals.write(tmp_path / "other.wav", signals.podcast(3))
    rendered.mixed(path, {"source": other, "offset_s": 12})
    steps = [(done, total) for done, total in notes.steps if total == pytest.approx(9 + 3 + 15)]
    assert len(steps) >= 27 / 2  # sound is taken two seconds at a time
    assert steps[-1][0] == pytest.approx(27)
    assert [done for done, _ in steps if done > 12] == sorted(done for done, _ in steps if done > 12)


def test_a_stop_in_the_middle_of_the_mix_ends_it(rendered, run, tmp_path, monkeypatch):
    """Neither the one who mixes nor the program that listens goes on; the fixture finds what is left running."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(4))
    blocks, seen = Mixer.blocks, []

    def stopped(mixer):
        for block in blocks(mixer):
            seen.append(block)
            run.stop.request(Reason.CANCEL)
            yield block

    monkeypatch.setattr(Mixer, "blocks", stopped)
    with pytest.raises(Stopped):
        rendered.mixed(path)
    assert len(seen) == 1
