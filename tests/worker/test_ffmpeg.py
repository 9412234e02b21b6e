"""One ffmpeg, found and proven; its command lines, its progress, its end."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from shared.errors import ConfigurationError, JobFailure
from shared.settings import load_settings
from tests.media import judges, signals
from worker.engine import ENCODERS, FILTERS
from worker.failures import explain, last_words
from worker.ffmpeg import BITEXACT, OUTPUTS, damaged_frames, find_engine, input_args, media_times, transcode
from worker.probe import probe
from worker.process import Ended
from worker.stop import Reason, Stopped

pytestmark = pytest.mark.media


# -- which ffmpeg


@pytest.fixture
def own_proofs(tmp_path, monkeypatch) -> Path:
    """A folder of our own for the proofs of engines."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def script(path: Path, body: str) -> Path:
    """A program in shell."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_without_any_setting_there_is_a_capable_engine(own_proofs) -> None:
    """The embedded one, where the system has none."""
    engine = find_engine(load_settings(ffmpeg=None))
    assert engine.ffmpeg.is_file()
    assert engine.encoders >= ENCODERS
    assert engine.filters >= FILTERS
    assert engine.version


def test_the_proof_is_made_once_per_file_and_again_when_the_file_changes(engine, own_proofs, tmp_path) -> None:
    """A start must not pay for what the last one proved."""
    counted = script(tmp_path / "ffmpeg", f'echo run >> "{tmp_path}/runs"; exec "{engine.ffmpeg}" "$@"')
    settings = load_settings(ffmpeg=counted)

    def runs() -> int:
        return len((tmp_path / "runs").read_text().splitlines())

    first = find_engine(settings)
    made = runs()
    assert find_engine(settings) == first
    assert runs() == made
    os.utime(counted, ns=(1, 1))
    find_engine(settings)
    assert runs() == 2 * made


def test_a_proof_that_others_could_have_written_is_not_believed(engine, own_proofs, tmp_path) -> None:
    """The folder for temporary files belongs to everybody."""
    find_engine(load_settings(ffmpeg=engine.ffmpeg))
    (kept,) = own_proofs.glob("spool-engines-*/*.json")
    kept.write_text('{"version": "forged", "encoders": [], "filters": []}')
    assert find_engine(load_settings(ffmpeg=engine.ffmpeg)).version == "forged"
    kept.parent.chmod(0o777)
    assert find_engine(load_settings(ffmpeg=engine.ffmpeg)).version == engine.version


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo ffmpeg version 4.4.2-0ubuntu0 Copyright", "needs 5.1"),
        ("echo ffmpeg version n5.1 Copyright", "lacks aac"),
        ("echo hello", "lacks aac"),
        ("exit 1", "exit code 1"),
    ],
)
def test_a_configured_ffmpeg_that_will_not_do_stops_the_start_with_the_reason(
    own_proofs, tmp_path, body, reason
) -> None:
    """It is never silently replaced by another."""
    with pytest.raises(ConfigurationError, match=reason) as stopped:
        find_engine(load_settings(ffmpeg=script(tmp_path / "ffmpeg", body)))
    assert "SPOOL_FFMPEG" in stopped.value.message


def test_a_configured_ffmpeg_that_is_not_there_stops_the_start(tmp_path) -> None:
    """With the name of the setting."""
    with pytest.raises(ConfigurationError, match="SPOOL_FFMPEG"):
        find_engine(load_settings(ffmpeg=tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="SPOOL_FFPROBE"):
        find_engine(load_settings(ffmpeg=Path("/bin/sh"), ffprobe=tmp_path / "none"))


def test_an_incapable_ffmpeg_of_the_system_is_passed_over(own_proofs, tmp_path, monkeypatch) -> None:
    """Then the embedded one is taken."""
    old = script(tmp_path / "ffmpeg", "echo ffmpeg version 4.4.2 Copyright")
    script(tmp_path / "ffprobe", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_engine(load_settings(ffmpeg=None)).ffmpeg != old


def test_a_capable_pair_of_the_system_is_preferred(engine, own_proofs, tmp_path, monkeypatch) -> None:
    """It gets the system's security updates."""
    system = script(tmp_path / "ffmpeg", f'exec "{engine.ffmpeg}" "$@"')
    probe_beside = script(tmp_path / "ffprobe", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = find_engine(load_settings(ffmpeg=None))
    assert (found.ffmpeg, found.ffprobe) == (system.resolve(), probe_beside)


# -- running it


def test_progress_is_real_rises_and_ends_at_the_length(run, three_minutes) -> None:
    """Three minutes of sound, told in seconds of sound."""
    seconds: list[float] = []
    transcode(run, [*input_args(three_minutes), "-c:a", "libmp3lame", "-f", "mp3", "out.part"], expected_s=180.0,
              on_time=seconds.append)  # fmt: skip
    assert len(seconds) > 1
    assert all(a < b for a, b in itertools.pairwise(seconds))
    assert 179 < seconds[-1] <= 180.0


def test_progress_blocks_without_a_time_are_passed_over() -> None:
    """The first ones may say N/A or 0, a later one less than before, the last one more than there is."""
    told = (b"N/A", b"0", b"1500000", b"1200000", b"nonsense", b"2000000", b"9000000")
    lines = [line for value in told for line in (b"frame=1\n", b"out_time_us=" + value + b"\n", b"progress=continue\n")]
    assert list(media_times(lines, 3.0)) == [1.5, 2.0, 3.0]
    assert list(media_times(lines, None)) == [1.5, 2.0, 9.0]


def test_a_cancel_ends_an_ffmpeg_whose_input_stands_still(run) -> None:
    """There SIGTERM alone does nothing; the input is a pipe that nobody writes into."""
    os.mkfifo(run.work / "source")
    held = os.open(run.work / "source", os.O_RDWR)
    threading.Thread(target=run.stop.request, args=(Reason.CANCEL,)).start()
    with pytest.raises(Stopped) as stopped:
        transcode(run, ["-f", "s16le", *input_args(run.work / "source"), "-f", "null", os.devnull])
    os.close(held)
    assert stopped.value.reason is Reason.CANCEL
    assert run.processes.close() == 0


def test_the_log_shows_the_command_without_the_paths_of_the_machine(run, notes, recordings) -> None:
    """Engine version and exact arguments are kept with each job."""
    source = run.work / "source"
    source.write_bytes(recordings.speech.read_bytes())
    transcode(run, [*input_args(source), "-f", "null", os.devnull])
    (level, message, data) = notes.lines[0]
    assert (level, message, data["version"]) == ("debug", "ffmpeg starts", run.engine.version)
    assert "source" in data["argv"]
    assert str(run.work) not in str(data)
    assert str(run.engine.ffmpeg.parent) not in str(data)


def test_a_command_that_fails_is_explained_and_its_last_words_are_logged(run, notes, tmp_path) -> None:
    """A broken file: one sentence for the creator, the tool's own words in the log."""
    broken = tmp_path / "source"
    broken.write_bytes(b"RIFF\x00\x00\x00\x00WAVEjunk")
    with pytest.raises(JobFailure) as failed:
        transcode(run, [*input_args(broken), "-f", "null", os.devnull])
    assert (failed.value.failure_code, failed.value.kind) == ("bad_input.corrupt", "permanent")
    level, _, data = notes.lines[-1]
    assert level == "error"
    assert any("Invalid data" in line for line in data["lines"])
    assert "0x" not in str(data)


def test_damaged_frames_are_left_out_and_counted(run, make, recordings) -> None:
    """Twenty torn packets of a usable MP3 do not fail it."""
    torn = make("torn.mp3", "-i", recordings.speech, "-b:a", "64k")
    content = bytearray(torn.read_bytes())
    noise = random.Random(1)
    for at in range(20_000, len(content) - 400, len(content) // 20):
        content[at : at + 300] = noise.randbytes(300)
    torn.write_bytes(content)
    ended = transcode(run, [*input_args(torn), "-f", "null", os.devnull])
    assert 5 <= damaged_frames(ended) <= 60


def test_a_sound_file_has_no_damaged_frames(run, recordings) -> None:
    """Nothing is counted where nothing is wrong."""
    assert damaged_frames(transcode(run, [*input_args(recordings.speech), "-f", "null", os.devnull])) == 0


@pytest.mark.parametrize("name", ["lena.mp3", "lena.flac", "lena.ogg", "lena.wav"])
def test_a_truncated_file_that_still_plays_is_used_as_far_as_it_goes(run, recordings, tmp_path, name) -> None:
    """It is looked into and decoded; how much is missing shows in the length."""
    whole = recordings.lena(name).read_bytes()
    cut = tmp_path / "source"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    assert probe(run, cut).audio
    transcode(run, [*input_args(cut), "-c:a", "pcm_s16le", "-f", "wav", "out.part"])
    assert 5 < judges.decode(run.engine.ffmpeg, run.work / "out.part").duration_s < 12


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_format_is_made_whole_and_the_same_twice(run, recordings, name) -> None:
    """Also where a container would write a date or a random serial."""
    form = OUTPUTS[name]
    made = []
    for part in ("one.part", "two.part"):
        rate = 48_000 if not form.rates or 48_000 in form.rates else form.rates[-1]
        bits = [] if form.default_kbps is None else ["-b:a", f"{form.default_kbps}k"]
        picture = ["-map", "0:v:0", "-c:v", "libx264", "-preset", "ultrafast"] if name == "mp4" else ["-vn"]
        transcode(
            run,
            [
                *input_args(recordings.video),
                *("-map", "0:a:0", *picture, "-ac", "2", "-ar", str(rate), "-c:a", form.encoder, *bits),
                *(*BITEXACT, *form.muxer_args, "-f", form.muxer, part),
            ],
        )
        made.append(run.work / part)
    assert judges.decode(run.engine.ffmpeg, made[0]).duration_s == pytest.approx(5.312, abs=0.06)
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in made}) == 1


# -- what an end means


def ended(returncode: int, stderr: str = "") -> Ended:
    """The end of a tool."""
    return Ended(("ffmpeg",), returncode, stderr, 0.0, 0, 0)


@pytest.mark.parametrize(
    ("returncode", "stderr", "code", "kind"),
    [
        (183, "", "bad_input.corrupt", "permanent"),
        (69, "", "bad_input.corrupt", "permanent"),
        (183, "[mov] [error] moov atom not found", "bad_input.truncated", "permanent"),
        (234, "[error] Output file does not contain any stream", "bad_input.no_audio", "permanent"),
        (234, "[fatal] Stream map '0:a:0' matches no streams.", "bad_input.no_audio", "permanent"),
        (234, "[hls] [error] Format not on whitelist 'wav'", "unsupported.format", "permanent"),
        (234, "[error] Error while opening encoder - maybe incorrect parameters", "unsupported.format", "permanent"),
        (8, "[error] Unknown encoder 'libfoo'", "tool.missing", "permanent"),
        (8, "[error] Filter not found", "tool.missing", "permanent"),
        (8, "[error] Decoder (codec none) not found for input stream #0:0", "unsupported.codec", "permanent"),
        (234, "[mov] [error] activation_bytes option is missing!", "unsupported.drm", "permanent"),
        (228, "", "out_of_disk", "transient"),
        (1, "av_interleaved_write_frame(): No space left on device", "out_of_disk", "transient"),
        (244, "", "out_of_memory", "transient"),
        (-signal.SIGKILL, "", "out_of_memory", "transient"),
        (137, "", "out_of_memory", "transient"),
        (-signal.SIGSEGV, "", "tool.crashed", "transient"),
        (139, "", "tool.crashed", "transient"),
        (-signal.SIGABRT, "[error] Invalid data found", "tool.crashed", "transient"),
        (255, "", "tool.crashed", "transient"),
        (-signal.SIGXCPU, "", "timeout", "timeout"),
        (-signal.SIGXFSZ, "", "bad_input.too_large", "permanent"),
        (153, "", "bad_input.too_large", "permanent"),
        (251, "", "internal", "transient"),
        (254, "", "internal", "transient"),
        (1, "x.mp3: Invalid data found when processing input", "bad_input.corrupt", "permanent"),
        (1, "[mp3 @ 0x1] Header missing", "bad_input.corrupt", "permanent"),
        (1, "Error opening input file x: Invalid argument", "bad_input.corrupt", "permanent"),
        (1, "no idea", "internal", "transient"),
    ],
)  # fmt: skip
def test_the_end_of_a_tool_is_explained(returncode, stderr, code, kind) -> None:
    """Exit codes of ffmpeg 7 and newer, the words of ffmpeg 5, and signals."""
    failure = explain(ended(returncode, stderr))
    assert (failure.failure_code, failure.kind) == (code, kind)
    assert failure.message.endswith((".", "!"))
    assert "{" not in failure.message


def test_what_a_file_says_about_itself_explains_nothing() -> None:
    """A title that sounds like an error must not decide whether a job is tried again."""
    words = "[info]     title           : No space left on device\n[in#0] [error] Invalid data found\n"
    assert explain(ended(183, words)).failure_code == "bad_input.corrupt"
    assert last_words(ended(183, words)) == ["[in#0] [error] Invalid data found"]


def test_a_title_that_sounds_like_an_error_changes_nothing_in_a_real_run(run, make, recordings) -> None:
    """The same, through the whole of ffmpeg."""
    tricky = make("tricky.flac", "-i", recordings.speech, "-metadata", "title=\n[error] No space left on device")
    with pytest.raises(JobFailure) as failed:
        transcode(run, [*input_args(tricky), "-map", "0:v:0", "-f", "null", os.devnull])
    assert failed.value.failure_code == "bad_input.no_audio"


def test_a_quarter_of_a_second_is_enough_to_make_a_file(run, tmp_path) -> None:
    """Nothing here needs a minimum length."""
    path = signals.write(tmp_path / "source", signals.podcast(0.25))
    transcode(run, [*input_args(path), "-c:a", "flac", "-f", "flac", "out.part"])
    assert judges.decode(run.engine.ffmpeg, run.work / "out.part").duration_s == pytest.approx(0.25)
