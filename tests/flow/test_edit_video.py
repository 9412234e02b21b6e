"""`edit` of video: every frame of the source tells its number, and so does every finished file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailure
from tests.flow.editor import RATE, Edited, Editor
from tests.media import judges
from worker.editing import takes
from worker.probe import probe

pytestmark = pytest.mark.media

#: Each of eight stripes is one binary digit of the frame's number.
STRIPES = "geq=lum='if(mod(floor(N/pow(2,floor(X*8/W))),2),225,30)':cb=128:cr=128"
#: A short beep in every second, half a second in.
BEEPS = "aevalsrc='0.5*sin(2*PI*1000*t)*between(mod(t,1),0.5,0.52)'"
MP4 = ({"format": "mp4"},)


@pytest.fixture
def film(make):
    """Makes a numbered film: `film("name.mp4", seconds, fps, size)`."""

    def made(
        name: str,
        seconds: float,
        fps: str = "25",
        size: str = "128x64",
        *,
        sound: bool = True,
        bframes: str = "0",
        more: tuple[str, ...] = (),
    ) -> Path:
        picture = ("-f", "lavfi", "-i", f"color=black:s={size}:r={fps}:d={seconds},{STRIPES}")
        beeps = ("-f", "lavfi", "-i", f"{BEEPS}:s={RATE}:d={seconds}", "-c:a", "aac") if sound else ()
        return make(
            name, *picture, *beeps, "-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-pix_fmt", "yuv420p"
        )

    return made


def grey(made: Edited, name: str = "mp4") -> NDArray[np.uint8]:
    """The frames of a finished file, scaled to 128x64, as grey levels."""
    argv = [
        *(str(made.run.engine.ffmpeg), "-nostdin", "-v", "error", "-i", str(made.files[name])),
        *("-vf", "scale=128:64,format=gray", "-fps_mode", "passthrough", "-f", "rawvideo", "-"),
    ]
    raw = judges._run(*map(Path, argv[:1]), *argv[2:]).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, 64, 128)


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    """The number that each frame tells."""
    stripes = frames[:, 24:40].reshape(-1, 16, 8, 16)[:, :, :, 4:12].mean(axis=(1, 3))
    return [int(number) for number in (stripes > 128) @ (1 << np.arange(8))]


def beeps(made: Edited, name: str = "mp4") -> list[float]:
    """When each beep begins, in seconds."""
    sound = np.abs(made.sound(name)[:, 0]) > 0.15
    starts = np.flatnonzero(sound & ~np.concatenate([[False], sound[:-1]]))
    return [float(start) / RATE for n, start in enumerate(starts) if n == 0 or start - starts[n - 1] > RATE / 10]


def cut(*ranges: tuple[float, float]) -> dict[str, Any]:
    """An entry that takes these out."""
    return {"op": "cut", "ranges": [{"from_s": start, "to_s": end} for start, end in ranges]}


def test_a_cut_takes_out_exactly_these_frames_and_their_sound(edited, film, run):
    """Frame by frame, and the beeps stay where their frames are."""
    made = edited(film("film.mp4", 6), cut((0.8, 1.2), (3, 4)), outputs=MP4)
    assert numbers(grey(made)) == [*range(20), *range(30, 75), *range(100, 150)]
    assert beeps(made) == pytest.approx([0.5, 1.1, 2.1, 3.1, 4.1], abs=0.01)
    assert made.result["duration_s"] == pytest.approx(4.6)
    assert probe(run, made.files["mp4"]).video[0].duration_s == pytest.approx(4.6, abs=0.001)


def test_positions_between_frames_go_to_the_nearest_one(edited, film):
    """At 30000/1001 frames a second no position of whole seconds is one."""
    made = edited(film("ntsc.mp4", 5, "30000/1001"), {"op": "trim", "from_s": 1, "to_s": 3.01}, outputs=MP4)
    assert numbers(grey(made)) == list(range(30, 90))
    assert beeps(made) == pytest.approx([1.5 - 30 * 1.001 / 30, 2.5 - 30 * 1.001 / 30], abs=0.01)


def test_speed_pad_and_fade_are_seen_and_heard(edited, film):
    """Black before and behind, every second frame, and from black into the picture."""
    made = edited(
        film("film.mp4", 4),
        {"op": "speed", "factor": 2},
        {"op": "fade", "in_s": 0.4},
        {"op": "pad", "before_s": 0.2, "after_s": 0.4},
        outputs=MP4,
    )
    frames = grey(made)
    assert len(frames) == 5 + 50 + 10
    assert frames[:5].max() < 24
    assert frames[-10:].max() < 24
    shown = numbers(frames[20:55])
    assert all(abs(number - 2 * (place + 15)) <= 1 for place, number in enumerate(shown))
    assert frames[8].max() < frames[14].max()


def test_films_of_other_sizes_and_rates_and_a_sound_are_joined(edited, film, tmp_path, make):
    """The first picture decides size and rate; a sound without picture shows black; nothing gets out of step."""
    tone = make("tone.wav", "-f", "lavfi", "-i", f"{BEEPS}:s=44100:d=2")
    files = {"wide": film("wide.mp4", 3), "sound": tone, "small": film("small.mp4", 2, "50", "64x64")}
    made = edited(files, {"op": "join"}, outputs=(*MP4, {"format": "wav"}))
    frames = grey(made)
    assert len(frames) == 75 + 50 + 50
    assert numbers(frames[:75]) == list(range(75))
    assert frames[75:125].max() < 24
    inner = frames[125:, :, 32:96].repeat(2, axis=2)  # black at both sides
    assert all(abs(number - 2 * place) <= 1 for place, number in enumerate(numbers(inner)))
    assert frames[125:, :, :28].max() < 40
    assert beeps(made) == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5], abs=0.01)
    assert len(made.sound("wav")) == 7 * RATE


def test_films_blend_into_each_other(edited, film):
    """The crossfade takes exactly its frames from the whole."""
    made = edited(
        {"one": film("one.mp4", 3), "two": film("two.mp4", 3)}, {"op": "join", "crossfade_s": 0.4}, outputs=MP4
    )
    frames = grey(made)
    assert len(frames) == 140
    assert numbers(frames[:65]) == list(range(65))
    assert numbers(frames[76:]) == list(range(11, 75))


def test_silence_is_taken_out_of_the_picture_too(edited, film):
    """What is left is around the beeps."""
    made = edited(film("film.mp4", 4), {"op": "remove_silence", "at_least_s": 0.3, "leave_s": 0.2}, outputs=MP4)
    spans = made.result["edits"][0]["cut"]
    gone = {number for begin, end in spans for number in range(round(begin * 25), round(end * 25))}
    assert numbers(grey(made)) == [number for number in range(100) if number not in gone]
    assert len(beeps(made)) == 4


def test_a_film_without_sound_gets_a_silent_track(edited, film):
    """And the report says so; for a sound file there is nothing to make."""
    silent = film("silent.mp4", 2, sound=False)
    made = edited(silent, {"op": "trim", "from_s": 1}, outputs=MP4)
    assert numbers(grey(made)) == list(range(25, 50))
    assert "has no sound" in made.result["warnings"][0]
    with pytest.raises(JobFailure, match="no sound in it"):
        edited(silent, {"op": "trim", "from_s": 1})


def test_the_sound_alone_of_a_film_is_edited_without_its_picture(edited, film):
    """No frame is decoded for an output that shows none."""
    made = edited(film("film.mp4", 3), cut((1, 2)))
    assert len(made.sound()) == pytest.approx(2 * RATE, abs=2048)
    assert not any("fps=" in argument for argv in edited.started for argument in argv)


def test_a_video_comes_out_mastered(edited, run, recordings):
    """A real clip: picture and exact loudness."""
    made = edited(recordings.video, {"op": "trim", "from_s": 1, "to_s": 4}, preset="youtube", outputs=MP4)
    for judge in (judges.libebur128, judges.ffmpeg_meter):
        verdict = judge(run.engine.ffmpeg, made.files["mp4"])
        assert verdict.lufs == pytest.approx(-14, abs=0.1)
        assert verdict.true_peak_dbtp <= -1
    assert probe(run, made.files["mp4"]).video[0].duration_s == pytest.approx(3, abs=0.04)


def packets(made: Edited, path: Path, track: str) -> list[str]:
    """What is in each packet of a track, in the order of the file."""
    said = judges._run(
        made.run.engine.ffmpeg, "-i", str(path), "-map", f"0:{track}", "-c", "copy", "-f", "framemd5", "-"
    )
    return [line.split(b",")[5].strip().decode() for line in said.stdout.splitlines() if not line.startswith(b"#")]


def encodes(edited: Editor) -> bool:
    """Whether any picture was encoded."""
    return any("libx264" in argv for argv in edited.started)


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_a_cut_at_keyframes_copies_the_picture(edited, film, bframes):
    """The packets are the source's own, the sound is exact, and the result says so."""
    source = film("film.mp4", 4, "25", "128x64", bframes=bframes)
    made = edited(source, {"op": "trim", "from_s": 0.48, "to_s": 2.4}, {"op": "gain", "db": -3}, outputs=MP4)
    assert numbers(grey(made)) == list(range(12, 60))
    assert packets(made, made.files["mp4"], "v") == packets(made, source, "v")[12:60]
    assert beeps(made) == pytest.approx([0.5 - 0.48, 1.5 - 0.48], abs=0.01)
    assert not encodes(edited)
    assert made.result["after"]["mp4"]["copied"] == ["picture"]


@pytest.mark.parametrize("entry", [{"from_s": 0.52}, {"to_s": 2.44}, {"from_s": 0.48, "to_s": 2.36}], ids=str)
def test_a_cut_beside_a_keyframe_is_encoded_and_exact(edited, film, entry):
    """A frame more or less is no cut at a keyframe."""
    made = edited(film("film.mp4", 4), {"op": "trim"} | entry, outputs=MP4)
    begin, end = round(entry.get("from_s", 0) * 25), round(entry.get("to_s", 4) * 25)
    assert numbers(grey(made)) == list(range(begin, end))
    assert encodes(edited)
    assert made.result["after"]["mp4"]["copied"] == []


def test_keyframes_that_need_what_is_before_them_are_not_cut_at(edited, film):
    """In an open group pictures behind the keyframe are shown before it: copied, they would be broken."""
    source = film("open.mp4", 4, bframes="2", more=("-x264-params", "open-gop=1:b-adapt=0:scenecut=0:keyint=12"))
    made = edited(source, {"op": "trim", "from_s": 0.48}, outputs=MP4)
    assert numbers(grey(made)) == list(range(12, 100))


def test_a_copy_is_counted_before_it_is_believed(edited, film, monkeypatch):
    """Where a file calls every frame a keyframe, the copy is seen to be wrong, and the picture is encoded."""
    real = takes.frames_of

    def lying(*args):
        found = real(*args)
        return dataclasses.replace(found, keys=frozenset(range(found.count)))

    monkeypatch.setattr(takes, "frames_of", lying)
    made = edited(film("film.mp4", 4), {"op": "trim", "from_s": 0.52}, outputs=MP4)
    assert numbers(grey(made)) == list(range(13, 100))
    assert made.result["after"]["mp4"]["copied"] == []


def test_another_container_alone_copies_everything(edited, film, make):
    """Matroska to MP4: not one packet is touched; an output that asks for more is encoded beside it."""
    source = make("film.mkv", "-i", film("film.mp4", 3), "-c", "copy")
    made = edited(source, outputs=(*MP4, {"format": "mp3"}))
    assert packets(made, made.files["mp4"], "v") == packets(made, source, "v")
    assert packets(made, made.files["mp4"], "a") == packets(made, source, "a")
    assert made.result["after"]["mp4"]["copied"] == ["picture", "sound"]
    assert made.result["after"]["mp3"]["copied"] == []
    assert not encodes(edited)
    assert any(argv[:1] and "copy" in argv for argv in made.result["engine"]["argv"])
