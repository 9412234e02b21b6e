"""`ingest` from an uploaded file to finished files, each of them heard by two judges."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest

from shared.errors import JobFailure
from tests.flow.conftest import Done
from tests.media import judges, signals
from tests.media.fixtures import Notes
from tests.media.recordings import Recordings
from worker import delivery, encoders, examine, excerpts, mp3
from worker.pipelines import ingest
from worker.probe import probe
from worker.run import Run
from worker.stop import Reason, Stopped

pytestmark = pytest.mark.media

EVERY_SOUND: tuple[dict[str, Any], ...] = (
    {"format": "mp3", "name": "mp3-128", "bitrate_kbps": 128},
    {"format": "mp3", "name": "mp3-192", "bitrate_kbps": 192},
    {"format": "m4a"},
    {"format": "opus"},
    {"format": "flac"},
)
MP3 = ({"format": "mp3", "bitrate_kbps": 128},)
M4A = ({"format": "m4a", "bitrate_kbps": 128},)


@pytest.fixture
def mastered(perform) -> Callable[..., Done]:
    """Masters a file: `mastered(path, **params)`."""
    return partial(perform, "ingest")


def heard(made: Done, run: Run) -> None:
    """Both judges hear every file: loudness and peak as asked, duration as the source's."""
    target, ceiling = made.result["target_lufs"], made.result["ceiling_dbtp"]
    for name, facts in made.result["after"].items():
        path = made.files[name]
        for judge in (judges.libebur128, judges.ffmpeg_meter):
            verdict = judge(run.engine.ffmpeg, path)
            allowed = 0.1 if facts["limited"] else 0.05
            assert verdict.lufs == pytest.approx(target, abs=allowed), (name, judge.__name__, facts)
            assert verdict.true_peak_dbtp <= ceiling, (name, judge.__name__, facts)
            assert verdict.duration_s == pytest.approx(made.result["media_ms"] / 1000, abs=0.05)
            # And the report says what the judges hear.
            assert facts["integrated_lufs"] == pytest.approx(verdict.lufs, abs=0.02)


SOURCES: dict[str, Callable[[Path, Recordings, Callable[..., Path]], Path]] = {
    "speech": lambda folder, recordings, make: recordings.speech,
    "another voice": lambda folder, recordings, make: recordings.lena("lena.mp3"),
    "music over full scale": lambda folder, recordings, make: signals.write(
        folder / "music.wav", signals.music(8), encoding="f32"
    ),
    "real music": lambda folder, recordings, make: make(
        "song.ogg", "-ss", "20", "-t", "10", "-i", recordings.music, "-c", "copy"
    ),
    "very quiet": lambda folder, recordings, make: signals.write(
        folder / "quiet.wav", signals.podcast(5) * signals.db(-34), encoding="s24"
    ),
    "clipped": lambda folder, recordings, make: signals.write(folder / "clipped.wav", signals.clipped(5)),
    "mono": lambda folder, recordings, make: signals.write(folder / "mono.wav", signals.podcast(5, channels=1)),
    "stereo 44.1 kHz": lambda folder, recordings, make: signals.write(
        folder / "stereo.wav", signals.podcast(6, rate=44_100), rate=44_100
    ),
    "5.1": lambda folder, recordings, make: signals.write(folder / "surround.wav", signals.surround(5)),
    "8 kHz": lambda folder, recordings, make: signals.write(
        folder / "phone.wav", signals.podcast(6, rate=8_000, channels=1), rate=8_000
    ),
    "96 kHz": lambda folder, recordings, make: signals.write(
        folder / "studio.wav", signals.podcast(5, rate=96_000), rate=96_000, encoding="s24"
    ),
    "2 s": lambda folder, recordings, make: signals.write(folder / "short.wav", signals.podcast(2)),
}


@pytest.fixture
def sources(recordings, make, tmp_path) -> Callable[[str], Path]:
    """Makes or fetches a source by its name."""
    return lambda name: SOURCES[name](tmp_path, recordings, make)


#: These come in all formats, the others as MP3 and in one of the rest in turn; `make loudness` makes all of all.
ALL_AT_ONCE = ("speech", "music over full scale", "5.1")


def outputs_of(name: str) -> tuple[dict[str, Any], ...]:
    """The formats in which a source is mastered here."""
    if name in ALL_AT_ONCE or "LOUDNESS" in os.environ:
        return EVERY_SOUND
    return (EVERY_SOUND[0], EVERY_SOUND[1 + list(SOURCES).index(name) % 4])


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_has_exactly_the_loudness(name, mastered, run, sources):
    """Speech, music, quiet, clipped, few and many channels, low and high rates, in five formats between them."""
    made = mastered(sources(name), outputs=outputs_of(name))
    assert set(made.outputs) == {"peaks.json"} | {one.get("name", one["format"]) for one in outputs_of(name)}
    heard(made, run)


@pytest.mark.parametrize(("preset", "lufs"), [("spotify", -14), ("ebu-r128", -23), ("atsc-a85", -24)])
def test_presets_decide_the_target_and_parameters_the_rest(preset, lufs, mastered, run, tmp_path):
    """A preset's number is the one that is reached; a parameter goes before it."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(4))
    made = mastered(path, preset=preset, outputs=MP3)
    assert made.result["target_lufs"] == lufs
    heard(made, run)
    made = mastered(path, preset=preset, target_lufs=-19.5, ceiling_dbtp=-3, outputs=MP3)
    assert (made.result["target_lufs"], made.result["ceiling_dbtp"]) == (-19.5, -3)
    heard(made, run)


def test_a_long_recording_is_exact_in_one_encode(mastered, run, notes, three_minutes, monkeypatch):
    """The usual case: a long stereo WAV to MP3, measured in halves, limited, made in parts, proven while it grows."""
    monkeypatch.setattr(delivery, "_cores", lambda: 3)
    made = mastered(three_minutes, outputs=MP3)
    heard(made, run)
    assert len(made.result["engine"]["argv"]) == 3
    assert made.result["media_ms"] == 180_000
    assert made.result["limited"]


def test_a_video_keeps_its_picture_and_gets_exact_sound(mastered, run, recordings):
    """H.264 is copied untouched; the poster is a JPEG; the MP4 can play before it is all there."""
    made = mastered(recordings.video)
    heard(made, run)
    assert set(made.outputs) == {"mp4", "peaks.json", "poster.jpg"}
    assert made.files["poster.jpg"].read_bytes().startswith(b"\xff\xd8\xff")
    head = made.files["mp4"].read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")
    before, after = probe(run, recordings.video).video[0], probe(run, made.files["mp4"]).video[0]
    assert (after.codec, after.width, after.height) == (before.codec, before.width, before.height)
    assert after.duration_s == pytest.approx(before.duration_s, abs=0.05)
    argv = made.result["engine"]["argv"][0]
    assert argv[argv.index("-c:v") + 1] == "copy"


def test_a_picture_that_players_do_not_know_is_encoded_again(mastered, run, make):
    """MPEG-4 part 2 with an odd size becomes H.264; sound and picture stay together."""
    source = make(
        "old.avi",
        *("-f", "lavfi", "-i", "testsrc2=s=321x241:d=3:r=25", "-f", "lavfi", "-i", "sine=f=440:d=3:r=44100"),
        *("-c:v", "mpeg4", "-c:a", "pcm_s16le"),
    )
    made = mastered(source)
    heard(made, run)
    media = probe(run, made.files["mp4"])
    assert (media.video[0].codec, media.video[0].pix_fmt) == ("h264", "yuv420p")
    assert media.video[0].duration_s == pytest.approx(3, abs=0.1)


def test_sound_that_begins_after_the_picture_still_does(mastered, run, make):
    """The offset between sound and picture survives gain and limiter."""
    tone = ("-f", "lavfi", "-i", "aevalsrc='sin(2*PI*440*t)*(0.05+0.9*lt(mod(t,1),0.05))':d=3:s=48000")
    source = make(
        "late.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=320x240:d=4:r=25", "-itsoffset", "0.5", *tone),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-map", "0:v", "-map", "1:a"),
    )
    made = mastered(source, preset="spotify")
    assert made.result["limited"]
    offsets = []
    for path in (source, made.files["mp4"]):
        log = run.processes.run([str(run.engine.ffmpeg), "-nostdin", "-hide_banner", "-i", str(path)], cwd=run.work)
        audio = next(line for line in log.stderr_tail.splitlines() if "Audio:" in line)
        offsets.append(float(audio.rpartition("start ")[2].split()[0].rstrip(",)")))
    assert offsets[1] == pytest.approx(offsets[0], abs=0.03)


def test_all_files_come_from_one_encoder_process(mastered, notes, tmp_path):
    """Three files are made by one ffmpeg, which decodes the source once."""
    outputs = ({"format": "mp3"}, {"format": "opus"}, {"format": "flac"})
    made = mastered(signals.write(tmp_path / "talk.wav", signals.podcast(4)), outputs=outputs)
    started = [data["argv"] for level, message, data in notes.lines if message == "ffmpeg starts"]
    assert len(started) == 1
    assert len(made.result["engine"]["argv"]) == 1
    assert sum(arg == "-map" for arg in started[0]) == 3


def test_progress_is_what_was_really_done(mastered, notes: Notes, tmp_path):
    """Bytes while bytes move, seconds of media while media is worked on; the last step of each is the whole."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(8))
    made = mastered(path, outputs=MP3)
    size, uploaded = path.stat().st_size, sum(output.size_bytes for output in made.outputs.values())
    by_total: dict[float | None, list[float]] = {}
    for current, total in notes.steps:
        by_total.setdefault(total, []).append(current)
    assert by_total[size][-1] == size
    assert by_total[uploaded][-1] == uploaded
    assert by_total[8.0]
    for total, steps in by_total.items():
        assert total is not None
        assert all(0 <= step <= total + 0.001 for step in steps)


def test_the_same_job_makes_the_same_bytes(mastered, tmp_path):
    """A retry gives the same hashes, so that a file is proof of its job."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(4))
    outputs = (*EVERY_SOUND, {"format": "wav"})
    first, second = mastered(path, outputs=outputs), mastered(path, outputs=outputs)
    assert {name: output.sha256 for name, output in first.outputs.items()} == {
        name: output.sha256 for name, output in second.outputs.items()
    }


def test_title_and_artist_are_tags_and_nothing_else(mastered, tmp_path):
    """Whatever a title holds, it is only ever text in the files."""
    title, artist = "Ep. 7: 'a,b;[c]' \\ $(x) =%{pts}", "-i /etc/passwd"
    path = signals.write(tmp_path / "talk.wav", signals.podcast(3))
    made = mastered(path, outputs=EVERY_SOUND, title=title, artist=artist)
    for name in ("mp3-128", "m4a", "opus", "flac"):
        tags = mutagen.File(made.files[name], easy=True).tags
        assert (tags["title"], tags["artist"]) == ([title], [artist])


CHAPTERED = (
    ";FFMETADATA1\ntitle=Raw take 3\ncomment=do not publish\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\n"
    "title=Cold open\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=4000\ntitle=Secret\n"
)


@pytest.mark.parametrize("kind", ["mp3", "m4a"])
def test_words_and_chapters_of_the_source_stay_behind(mastered, run, make, tmp_path, kind):
    """Chapters came along without their titles, which no player shows as anything but a fault."""
    (tmp_path / "words.txt").write_text(CHAPTERED)
    wav = signals.write(tmp_path / "plain.wav", signals.podcast(4))
    path = make(f"talk.{kind}", "-i", wav, "-i", tmp_path / "words.txt", "-map_metadata", "1", "-map_chapters", "1")
    assert [one.title for one in probe(run, path).chapters] == ["Cold open", "Secret"]
    made = mastered(path, outputs=({"format": "mp3"}, {"format": "m4a"}), title="Episode")
    for name in ("mp3", "m4a"):
        assert probe(run, made.files[name]).chapters == (), name
        assert "publish" not in str(mutagen.File(made.files[name]).tags), name


def test_the_waveform_is_audiowaveform_json(mastered, tmp_path):
    """One pair of values per 10 ms; silence is flat and full scale is full."""
    sound = signals.silence(2)
    sound[48_000:96_000] = signals.tone(1, -0.1, -0.1)
    made = mastered(signals.write(tmp_path / "half.wav", sound), outputs=MP3)
    waveform = json.loads(made.files["peaks.json"].read_text())
    assert {name: waveform[name] for name in ("version", "channels", "sample_rate", "bits")} == {
        "version": 2, "channels": 1, "sample_rate": 48_000, "bits": 8,
    }  # fmt: skip
    assert waveform["samples_per_pixel"] == 480
    assert (waveform["length"], len(waveform["data"])) == (200, 400)
    assert set(waveform["data"][:200]) == {0}
    assert min(waveform["data"][202:398:2]) <= -125
    assert max(waveform["data"][201:398:2]) >= 124
    assert made.result["ledger"]["silences"] == [[0.0, 1.0]]


def test_a_damaged_recording_is_mastered_and_said_so(mastered, run, make, recordings, tmp_path):
    """What can be heard is made exact; the report says that something was missing."""
    whole = make("whole.mp3", "-i", recordings.lena("lena.mp3"), "-c:a", "libmp3lame", "-b:a", "128k")
    data = bytearray(whole.read_bytes())
    for at in range(40_000, 60_000, 4_000):
        data[at : at + 300] = b"\xff" * 300
    damaged = tmp_path / "damaged.mp3"
    damaged.write_bytes(data)
    made = mastered(damaged, outputs=MP3)
    assert any("could not be decoded" in sentence for sentence in made.result["warnings"])
    heard(made, run)


def test_a_wav_that_was_broken_off_is_said_to_be_short_and_not_damaged(mastered, tmp_path):
    """The sentence has both lengths; a length that nobody filled in is not a shorter file."""
    whole = signals.write(tmp_path / "whole.wav", signals.tone(2, -20, -20)).read_bytes()
    half = tmp_path / "half.wav"
    half.write_bytes(whole[: len(whole) // 2 - 1])
    assert mastered(half, outputs=MP3).result["warnings"] == [
        "The file says it is 2.0 s long, and 1.0 s of sound are in it: its end is missing; copy or upload it again."
    ]
    streamed = tmp_path / "streamed.wav"
    streamed.write_bytes(whole[:40] + b"\xff" * 4 + whole[44:])
    assert mastered(streamed, outputs=MP3).result["warnings"] == []


def test_what_a_limiter_would_crush_is_made_softer_and_said_so(mastered, run, tmp_path):
    """An absurd target is not reached, the ceiling still holds, and the report says why."""
    path = signals.write(tmp_path / "drums.wav", signals.music(5), encoding="f32")
    made = mastered(path, target_lufs=-6, ceiling_dbtp=-6, outputs=MP3)
    verdict = judges.libebur128(run.engine.ffmpeg, made.files["mp3"])
    assert verdict.true_peak_dbtp <= -6
    assert verdict.lufs < -10
    told = re.search(r"crushed; .* about (-\d+\.\d) LUFS", made.result["warnings"][0])
    assert told is not None
    assert verdict.lufs == pytest.approx(float(told[1]), abs=0.5)


def test_an_encoder_that_does_something_else_is_corrected(monkeypatch, mastered, run, tmp_path):
    """The table may be wrong for an engine or a sound: the file is measured, and made again."""
    monkeypatch.setattr(encoders, "LAME_LOSS_DB", dict.fromkeys(encoders.LAME_LOSS_DB, 0.0))
    made = mastered(signals.write(tmp_path / "talk.wav", signals.podcast(4)), outputs=(*MP3, {"format": "flac"}))
    assert len(made.result["engine"]["argv"]) == 2
    heard(made, run)


def _aac_encodes(made: Done) -> int:
    """How often the finished file was begun."""
    return sum("aac" in argv and argv[-1].endswith(".part") for argv in made.programs)


def test_an_aac_file_of_speech_is_encoded_once(mastered, run, tmp_path, monkeypatch):
    """What its encoder takes away of this very recording is heard in excerpts, not looked up: that would miss."""
    monkeypatch.setattr(excerpts, "WORTH_FROM_S", 16.0)
    made = mastered(signals.write(tmp_path / "talk.wav", signals.podcast(16)), preset="ebu-r128", outputs=M4A)
    assert _aac_encodes(made) == 1
    heard(made, run)


def test_excerpts_that_cannot_be_heard_cost_an_encode_and_no_exactness(mastered, run, notes, tmp_path, monkeypatch):
    """The file is made with the table's number, misses as its measurement says, and is made again."""
    monkeypatch.setattr(excerpts, "WORTH_FROM_S", 8.0)
    monkeypatch.setattr(excerpts, "input_args", lambda path, **_: ["-i", f"{path}-that-is-gone"])
    made = mastered(signals.write(tmp_path / "talk.wav", signals.podcast(8)), preset="ebu-r128", outputs=M4A)
    assert any("no excerpt could be heard" in line[1] for line in notes.lines)
    assert _aac_encodes(made) == 2
    heard(made, run)


def test_a_stop_while_excerpts_are_heard_ends_the_attempt(mastered, run, notes, tmp_path, monkeypatch):
    """It is no failure of theirs that the file could be made without: the encoder is not begun."""
    real = excerpts.measure

    def stopping(run, *rest, **more):
        run.stop.request(Reason.CANCEL)
        return real(run, *rest, **more)

    monkeypatch.setattr(excerpts, "measure", stopping)
    monkeypatch.setattr(excerpts, "WORTH_FROM_S", 8.0)
    with pytest.raises(Stopped):
        mastered(signals.write(tmp_path / "talk.wav", signals.podcast(8)), preset="ebu-r128", outputs=M4A)
    assert _encoders(notes) == 1  # the one of the excerpts


@pytest.mark.parametrize("seconds", [4, 40])
def test_a_file_that_came_out_short_is_never_delivered(monkeypatch, mastered, tmp_path, seconds):
    """Exit code 0 proves nothing: what was cut off is seen, whether it is checked while it is made or afterwards."""
    real = delivery.transcode

    def cut(run, args, **more):
        place = list(args).index("-filter_complex")
        return real(run, [*args[:place], "-t", "3", *args[place:-1], "-t", "2", args[-1]], **more)

    monkeypatch.setattr(delivery, "transcode", cut)
    path = signals.write(tmp_path / "talk.wav", signals.tone(seconds, -20, -20))
    with pytest.raises(JobFailure, match="came out 2") as caught:
        mastered(path, outputs=MP3)
    assert (caught.value.failure_code, caught.value.kind) == ("internal", "transient")


@pytest.mark.parametrize("lie", [{"sample_rate": 44_100}, {"channels": 1}, {"codec": "pcm_s24le"}], ids=str)
def test_a_wrong_guess_changes_nothing(mastered, run, tmp_path, monkeypatch, lie):
    """The measurement that a WAV's header started is thrown away when the look into the file finds something else."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(8))
    right = mastered(path, outputs=MP3).result
    real = examine._guess

    def wrong(path: Path):
        media = real(path)
        return dataclasses.replace(media, audio=(dataclasses.replace(media.audio[0], **lie),))

    monkeypatch.setattr(examine, "_guess", wrong)
    made = mastered(path, outputs=MP3)
    heard(made, run)
    assert made.result["before"] == right["before"]


def _encoders(notes: Notes) -> int:
    """How many files the job began to make."""
    return sum(line[1] == "ffmpeg starts" for line in notes.lines)


def test_a_lone_opus_is_encoded_once_while_it_is_measured_and_raised_by_its_header(
    mastered, run, notes, tmp_path, monkeypatch
):
    """The encoder begins before the loudness is known, and lands on it nearer than a second encode would."""
    path, order = signals.write(tmp_path / "talk.wav", signals.podcast(8)), list[str]()
    ahead, measure = ingest.Ahead, examine._measure
    monkeypatch.setattr(ingest, "Ahead", lambda *args: order.append("encode") or ahead(*args))

    def measured(*args, alone: bool):
        order.append("measure, alone" if alone else "measure beside")
        return measure(*args, alone=alone)

    monkeypatch.setattr(examine, "_measure", measured)
    made = mastered(path, preset="ebu-r128", outputs=[{"format": "opus"}])
    assert (order, _encoders(notes), len(made.result["engine"]["argv"])) == (["encode", "measure beside"], 1, 1)
    heard(made, run)
    assert judges.libebur128(run.engine.ffmpeg, made.files["opus"]).lufs == pytest.approx(-23, abs=0.01)
    assert made.result["after"]["opus"]["gain_db"] == pytest.approx(
        -23 - made.result["before"]["integrated_lufs"], abs=0.01
    )
    begins = made.files["opus"].read_bytes()
    gain = int.from_bytes(begins[begins.index(b"OpusHead") + 16 :][:2], "little", signed=True) / 256
    assert gain == pytest.approx(made.result["after"]["opus"]["gain_db"], abs=0.2)


@pytest.fixture
def dropped(monkeypatch) -> Callable[[], list[bool]]:
    """Of each file that was begun before its gain was known, whether it was given up."""
    begun, real = [], ingest.Ahead
    monkeypatch.setattr(ingest, "Ahead", lambda *args: begun.append(real(*args)) or begun[-1])
    return lambda: [one._dropped.is_set() for one in begun]


def test_an_opus_that_needs_the_limiter_is_made_after_it_was_solved(mastered, run, notes, tmp_path, dropped):
    """A header can raise a sound and not limit it: what was begun is dropped, and the file is exact all the same."""
    talk = signals.podcast(8) * signals.db(-12)
    talk[signals.RATE : signals.RATE + 20] = 0.95
    made = mastered(signals.write(tmp_path / "talk.wav", talk), preset="ebu-r128", outputs=[{"format": "opus"}])
    assert made.result["limited"]
    assert (_encoders(notes), dropped()) == (2, [True])
    heard(made, run)


def test_an_opus_begun_on_a_wrong_guess_is_dropped(mastered, run, tmp_path, monkeypatch, dropped):
    """The file that is delivered is made of the sound that was found, not of the one that was guessed."""
    real = examine._guess

    def wrong(path: Path):
        media = real(path)
        return dataclasses.replace(media, audio=(dataclasses.replace(media.audio[0], channels=1),))

    monkeypatch.setattr(examine, "_guess", wrong)
    path = signals.write(tmp_path / "talk.wav", signals.podcast(6))
    made = mastered(path, preset="ebu-r128", outputs=[{"format": "opus"}])
    heard(made, run)
    assert made.result["after"]["opus"]["channels"] == 2
    assert dropped() == [True, False]


def test_a_recording_that_is_refused_ends_the_opus_that_was_begun(mastered, run, notes, tmp_path, dropped):
    """Nothing runs on for a job that has failed."""
    hiss = np.random.default_rng(1).normal(0, signals.db(-100), (90 * signals.RATE, 2))
    path = signals.write(tmp_path / "silence.wav", hiss, encoding="s24")
    with pytest.raises(JobFailure, match="silent"):
        mastered(path, preset="ebu-r128", outputs=[{"format": "opus"}])
    assert (_encoders(notes), dropped()) == (1, [True])
    assert [child.ended is not None for child in run.processes._children] == [True] * len(run.processes._children)


def test_all_long_files_are_proven_while_they_are_made(mastered, run, tmp_path):
    """None waits for its turn until the encoder has ended: each proof reads what has grown so far."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(31))
    heard(mastered(path, outputs=[{"format": kind} for kind in ("mp3", "opus", "flac")]), run)
    proofs = [child.argv for child in run.processes._children if "-xerror" in child.argv]
    assert ["pipe:0" in argv for argv in proofs] == [True] * 3


def test_a_fast_file_is_as_exact_and_its_parts_meet_without_a_trace(mastered, run, tmp_path, monkeypatch):
    """Made in parts or in one piece, a draft has the same samples, each of them, and the loudness it was asked for."""
    path, decoded = signals.write(tmp_path / "talk.wav", signals.podcast(61)), []
    for cores in (2, 1):
        monkeypatch.setattr(delivery, "_cores", lambda cores=cores: cores)
        made = mastered(path, speed="fast", outputs=MP3)
        assert ["-compression_level" in command for command in made.result["engine"]["argv"]] == [True] * cores
        heard(made, run)
        decoded.append(judges.decode(run.engine.ffmpeg, made.files["mp3"]).samples)
    assert len(decoded[0]) == 61 * signals.RATE
    assert np.abs(decoded[0] - decoded[1]).max() < 1e-4


def test_parts_that_never_meet_are_made_again_in_one_piece(mastered, run, notes, tmp_path, monkeypatch):
    """Joining is a shortcut: where no frame allows it, the file comes out as exact, only later."""
    monkeypatch.setattr(mp3, "_fits", lambda _own, _other: False)
    monkeypatch.setattr(delivery, "_cores", lambda: 2)
    made = mastered(signals.write(tmp_path / "talk.wav", signals.podcast(61)), outputs=MP3)
    heard(made, run)
    assert len(made.result["engine"]["argv"]) == 3
    assert any("again in one piece" in line[1] for line in notes.lines)


def test_a_part_that_fails_tells_its_own_reason(mastered, run, notes, tmp_path, monkeypatch):
    """Not that the parts could not be joined, which is only what follows."""
    monkeypatch.setattr(delivery, "_cores", lambda: 2)
    real = delivery.transcode

    def failing(run, args, **more):
        later = "-ss" in args
        return real(run, [*args[:-1], str(tmp_path / "no folder" / "out")] if later else args, **more)

    monkeypatch.setattr(delivery, "transcode", failing)
    with pytest.raises(JobFailure) as caught:
        mastered(signals.write(tmp_path / "talk.wav", signals.podcast(61)), outputs=MP3)
    assert caught.value.failure_code == "internal"
    assert not any("again in one piece" in line[1] for line in notes.lines)


@pytest.mark.parametrize(
    "outputs", [({"format": "mp3"},), ({"format": "mp3"}, {"format": "opus"})], ids=["in parts", "whole"]
)
def test_a_stop_while_encoding_leaves_no_output(mastered, run, three_minutes, outputs, monkeypatch):
    """The attempt ends, nothing was uploaded, and the fixture proves that no process is left."""
    monkeypatch.setattr(delivery, "_cores", lambda: 2)
    real = run.report.progress

    def stopping(current, total):
        real(current, total)
        if any(line[1] == "ffmpeg starts" for line in run.report.lines) and current < 100:
            run.stop.request(Reason.CANCEL)

    run.report.progress = stopping
    with pytest.raises(Stopped):
        mastered(three_minutes, outputs=outputs)
    assert run.storage.delete_prefix("outputs/") == 0


def _write(folder: Path, sound, **more: Any) -> Path:
    return signals.write(folder / "bad.wav", sound, **more)


REFUSED: dict[str, tuple[Callable[[Path, Recordings], Path], str, str]] = {
    "silence": (lambda folder, _: _write(folder, signals.silence(3)), "bad_input.silent", "silent"),
    "300 ms": (lambda folder, _: _write(folder, signals.podcast(0.3)), "bad_input.too_short", "300 ms"),
    "a whisper": (
        lambda folder, _: _write(folder, signals.podcast(3) * signals.db(-60), encoding="f32"),
        "bad_input.too_quiet",
        "too quiet",
    ),
    "no numbers": (
        lambda folder, _: _write(folder, signals.with_nan(3), encoding="f32"),
        "bad_input.corrupt",
        "no numbers",
    ),
    "a film without sound": (lambda _, recordings: recordings.silent_video, "bad_input.no_audio", "no sound"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mastered_is_refused_with_a_reason(name, mastered, recordings, tmp_path):
    """A clear answer, at once, that is not tried again."""
    make, code, word = REFUSED[name]
    with pytest.raises(JobFailure, match=word) as caught:
        mastered(make(tmp_path, recordings), outputs=MP3)
    assert (caught.value.failure_code, caught.value.kind) == (code, "permanent")


def test_too_long_a_recording_is_refused_before_it_is_decoded(monkeypatch, mastered, notes, tmp_path):
    """The header's word is enough."""
    monkeypatch.setattr(examine, "LONGEST_S", 5)
    with pytest.raises(JobFailure) as caught:
        mastered(signals.write(tmp_path / "long.wav", signals.tone(6, -20)))
    assert caught.value.failure_code == "bad_input.too_long"
    assert not [step for step in notes.steps if step[1] == 6.0]


def test_an_mp4_of_sound_alone_is_refused(mastered, tmp_path):
    """There is no picture to put into it."""
    with pytest.raises(JobFailure, match="no picture"):
        mastered(signals.write(tmp_path / "talk.wav", signals.podcast(2)), outputs=({"format": "mp4"},))


def test_an_upload_that_is_gone_says_so(run):
    """The asset was deleted between the request and its turn."""
    attempt = dataclasses.replace(run, job=dataclasses.replace(run.job, params={"source": "gone"}))
    state = ingest.begin(attempt)
    with pytest.raises(JobFailure, match="upload the recording again") as caught:
        ingest.download(attempt, state)
    assert caught.value.failure_code == "bad_input.missing"
