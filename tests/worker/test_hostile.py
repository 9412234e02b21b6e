"""Files made to harm: each gets its own clear refusal, within limits, and leaks nothing.

`secret` is a sound that lies beside the file, `tapped` a web server on this machine that counts who calls.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import JobFailure
from tests.hostile.corpus import POINTERS
from tests.hostile.craft import fmt, png, riff
from tests.hostile.place import tapped
from tests.media import judges, signals
from worker.ffmpeg import input_args, transcode
from worker.probe import LIMITS, probe
from worker.process import Limits

pytestmark = pytest.mark.media

MP4_KEY = "76a6c65c5ea762046bd749a2e632ccbb"


@pytest.fixture(name="tapped")
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server on this machine, and the paths it was asked for."""
    with tapped() as server:
        yield server


@pytest.fixture
def secret(run) -> Path:
    """Two seconds of a loud tone, which must not be heard in anything."""
    return signals.write(run.work / "secret.wav", signals.tone(2, -6, -6))


@pytest.mark.parametrize("extension", ["", ".mp3"])
@pytest.mark.parametrize("script", POINTERS.values(), ids=POINTERS)
def test_a_script_that_points_elsewhere_is_refused_and_followed_by_nobody(
    run, secret, tapped, script, extension
) -> None:
    """By the prober with a reason, by ffmpeg too if it ever got that far; whatever the file calls itself."""
    web, asked = tapped
    hostile = run.work / f"source{extension}"
    hostile.write_text(script.replace("{file}", str(secret)).replace("{name}", secret.name).replace("{web}", web))
    with pytest.raises(JobFailure) as failed:
        probe(run, hostile)
    assert failed.value.failure_code in {"unsupported.format", "bad_input.not_media", "bad_input.corrupt"}
    assert failed.value.kind == "permanent"
    assert str(run.work) not in failed.value.message
    with pytest.raises(JobFailure):
        transcode(run, [*input_args(hostile), "-map", "0", "-f", "matroska", "out.part"])
    out = run.work / "out.part"
    assert not out.exists() or out.stat().st_size == 0
    assert asked == []


def test_without_the_whitelists_the_attack_works(run, secret) -> None:
    """So the tests above test something: plain ffmpeg plays the file beside a concat script."""
    (run.work / "source.mp3").write_text(POINTERS["concat script to a sibling"].replace("{name}", secret.name))
    argv = [str(run.engine.ffmpeg), "-nostdin", "-v", "error", "-i", "source.mp3", "-f", "wav", "leak.wav"]
    assert run.processes.run(argv, cwd=run.work).returncode == 0
    assert judges.libebur128(run.engine.ffmpeg, run.work / "leak.wav").lufs > -10


TEXT = b"Dear diary, this is not a podcast.\n" * 400
NOISE = os.urandom(1) + bytes((n * 7919 + (n >> 3) * 104729) & 0xFF for n in range(100_000))
SUBTITLES = b"1\n00:00:01,000 --> 00:00:02,000\nA\n\n2\n00:00:03,000 --> 00:00:04,000\nB\n"
REFUSED: dict[str, tuple[bytes, set[str]]] = {
    "nothing": (b"", {"bad_input.empty"}),
    "one byte": (b"x", {"bad_input.not_media"}),
    "text": (TEXT, {"bad_input.not_media"}),
    "a web page": (b"<!doctype html><html><body>404</body></html>", {"bad_input.not_media"}),
    "zero bytes": (bytes(200_000), {"bad_input.not_media", "bad_input.corrupt"}),
    "noise": (NOISE, {"bad_input.not_media", "bad_input.corrupt"}),
    "a picture": (png(64, 64), {"unsupported.format"}),
    "subtitles": (SUBTITLES, {"bad_input.not_media"}),
    "a wave file without sound": (riff(fmt()), {"bad_input.corrupt"}),
    "a wave file of no channels": (riff(fmt(channels=0), (b"data", bytes(1000))), {"bad_input.corrupt"}),
    "a wave file of 65535 channels": (
        riff(fmt(channels=65_535), (b"data", bytes(1000))), {"bad_input.corrupt", "unsupported.codec"},
    ),
    "a wave file of an unknown codec": (riff(fmt(code=0x1234), (b"data", bytes(10_000))), {"unsupported.codec"}),
    "half an MP4 head": (struct.pack(">I", 24) + b"ftypisom" + bytes(12), {"bad_input.truncated"}),
    "an ASF file with protection": (
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c00fbb3112223bdd211b4b700a0c955fc6e"),
        {"unsupported.drm"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("extension", ["", ".mp3"])
@pytest.mark.parametrize(("content", "codes"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_recording_is_refused_by_its_right_name(run, content, codes, extension) -> None:
    """Permanently, with a sentence that names no tool."""
    source = run.work / f"source{extension}"
    source.write_bytes(content)
    with pytest.raises(JobFailure) as failed:
        probe(run, source)
    assert failed.value.failure_code in codes
    assert failed.value.kind == "permanent"
    assert "ffmpeg" not in failed.value.message


def test_a_film_cut_off_before_its_table_of_contents_is_called_incomplete(run, recordings) -> None:
    """An interrupted upload of an MP4."""
    content = recordings.video.read_bytes()
    (run.work / "source").write_bytes(content[: len(content) // 2])
    with pytest.raises(JobFailure) as failed:
        probe(run, run.work / "source")
    assert failed.value.failure_code == "bad_input.truncated"


@pytest.mark.parametrize("entry", [None, b"aavd", b"drms"])
def test_protected_films_and_audio_books_are_called_protected(run, make, recordings, entry) -> None:
    """Common encryption as made by ffmpeg itself; Audible's and FairPlay's marks."""
    key = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", MP4_KEY, "-encryption_kid", MP4_KEY[::-1]]
    locked = make("locked.mp4", "-i", recordings.video, "-c", "copy", *(key if entry is None else []))
    if entry is not None:
        locked.write_bytes(locked.read_bytes().replace(b"mp4a", entry))
    with pytest.raises(JobFailure) as failed:
        probe(run, locked)
    assert (failed.value.failure_code, failed.value.kind) == ("unsupported.drm", "permanent")


def test_a_file_of_too_many_tracks_is_refused(run, make, recordings) -> None:
    """Each track costs memory."""
    many = make("many.mp4", "-i", recordings.counting, *["-map", "0:a"] * 40, "-c:a", "aac")
    with pytest.raises(JobFailure) as failed:
        probe(run, many)
    assert failed.value.failure_code == "unsupported.format"
    assert "tracks" in failed.value.message


def test_a_cover_that_claims_to_be_huge_costs_no_more_than_the_limit(run, make, recordings, tmp_path) -> None:
    """30,000 by 30,000 pixels would be 7 GB: the recording stays usable, without its cover."""
    cover = tmp_path / "small.png"
    cover.write_bytes(png(64, 64))
    covered = make("covered.mp3", "-i", recordings.speech, "-i", cover, *("-map", "0:a", "-map", "1:v", "-c:v", "copy"))
    small, huge = png(64, 64), png(30_000, 30_000)
    assert len(small) == len(huge)
    content = covered.read_bytes()
    assert small[:33] in content
    covered.write_bytes(content.replace(small[:33], huge[:33]))
    media = probe(run, covered)
    assert len(media.audio) == 1
    assert media.video == ()


def test_a_file_that_claims_more_than_it_holds_is_believed_only_as_far_as_it_goes(run, tmp_path) -> None:
    """A header that says four gigabytes, over half a second of sound."""
    sound = bytes(48_000 * 2)
    content = riff(fmt(), (b"data", sound)).replace(b"data" + struct.pack("<I", len(sound)), b"data\xff\xff\xff\xff")
    (run.work / "source").write_bytes(content)
    assert probe(run, run.work / "source").audio[0].codec == "pcm_s16le"
    seconds: list[float] = []
    transcode(run, [*input_args(run.work / "source"), "-c:a", "flac", "-f", "flac", "out.part"], on_time=seconds.append)
    assert judges.decode(run.engine.ffmpeg, run.work / "out.part").duration_s == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("limits", "size", "encoder", "code"),
    [
        (Limits(file_size_bytes=1 << 20), "640:360", "rawvideo", "bad_input.too_large"),
        (Limits(address_space_bytes=768 << 20), "16000:16000", "rawvideo", "out_of_memory"),
        (Limits(cpu_s=1), "640:360", "libx264", "timeout"),
    ],
    ids=["disk", "memory", "time"],
)
def test_a_run_that_wants_more_than_its_limits_is_ended_and_explained(run, limits, size, encoder, code) -> None:
    """No endless output, no endless memory, no endless time."""
    endless = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=60", "-vf", f"scale={size}", "-c:v", encoder]
    with pytest.raises(JobFailure) as failed:
        transcode(run, [*endless, "-f", "matroska", "out.part"], limits=limits)
    assert failed.value.failure_code == code


def test_the_prober_is_limited_in_every_way() -> None:
    """Memory, files, time: none is left open."""
    assert None not in (LIMITS.address_space_bytes, LIMITS.cpu_s, LIMITS.open_files)
    assert LIMITS.file_size_bytes == 0


def test_every_command_that_reads_a_source_carries_the_whitelists() -> None:
    """In front of the input, where they count."""
    args = input_args(Path("/x/source"), start_s=1.5, duration_s=2)
    assert args[-2:] == ["-i", "/x/source"]
    assert args[args.index("-protocol_whitelist") + 1] == "file,pipe"
    allowed = set(args[args.index("-format_whitelist") + 1].split(","))
    assert allowed.isdisjoint(
        {"hls", "dash", "concat", "image2", "lavfi", "sdp", "rtsp", "tty", "svg_pipe", "avisynth"}
    )
    assert {"-max_streams", "-probesize", "-analyzeduration", "-ss", "-t"} <= set(args)


def test_two_runs_at_once_do_not_share_their_pipes(run, recordings) -> None:
    """Progress of one is never told to the other."""
    told: dict[str, list[float]] = {"a": [], "b": []}

    def work(name: str, length: float) -> None:
        source = [*input_args(recordings.speech, duration_s=length), "-c:a", "flac", "-f", "flac", f"{name}.part"]
        transcode(run, source, on_time=told[name].append)

    threads = [threading.Thread(target=work, args=item) for item in (("a", 3.0), ("b", 20.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told["a"][-1] == pytest.approx(3.0, abs=0.1)
    assert told["b"][-1] == pytest.approx(20.0, abs=0.1)
