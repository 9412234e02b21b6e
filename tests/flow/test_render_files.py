"""The finished files of a `render`: loudness, words, chapters and pictures, read back by others."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import mutagen
import numpy as np
import pytest
from mutagen.flac import Picture
from mutagen.id3 import ID3
from mutagen.mp4 import MP4

from shared.errors import JobFailure
from tests.media import judges, signals
from worker import png
from worker.mixing.covers import make_cover
from worker.pictures import read_picture
from worker.probe import probe

pytestmark = pytest.mark.media

FORMATS = ("mp3", "m4a", "opus", "flac", "wav", "mp4")
#: What a stranger may call an episode; all of it means something to some program on the way.
HOSTILE = "a=b; #c \\ [CHAPTER] 'x':y,z=[0] -map %s ${HOME} <b> é 🎉 שלום"
WORDS = {
    "title": HOSTILE,
    "artist": "Ärtist; \\",
    "album": "The = Show",
    "genre": "Podcast",
    "date": "2026-11-22",
    "number": 7,
    "comment": HOSTILE * 3,
    "copyright": "#1",
}
CHAPTERS = [
    {"start_s": 0.5, "title": "Before"},
    {"start_s": 4.25, "title": HOSTILE, "url": "https://example.org/a?b=c;d#e"},
    {"start_s": 9, "title": "Behind \\"},
]


@pytest.fixture
def cover(make) -> Path:
    """A picture with what may be transparent."""
    return make("cover.png", "-f", "lavfi", "-i", "testsrc=s=1600x800,format=rgba", "-frames:v", "1")


def jpeg_size(data: bytes, folder: Path) -> tuple[int, int]:
    """Width and height of an embedded cover."""
    path = folder / "embedded.jpg"
    path.write_bytes(data)
    picture = read_picture(path)
    assert picture is not None
    assert picture.demuxer == "jpeg_pipe"
    return picture.shown


def test_a_show_of_real_recordings_comes_out_whole(rendered, run, recordings, cover, tmp_path):
    """Every file at its loudness by two judges, with words, chapters and cover by an independent reader; from one
    decode of each source, one mix and one encode."""
    made = rendered(
        {"source": recordings.speech, "end_s": 9, "loudness_lufs": -20},
        {"source": recordings.counting, "offset_s": 8, "loudness_lufs": -20, "pan": 0.3},
        music={"source": recordings.music},
        intro={"source": recordings.music, "start_s": 20, "end_s": 23, "crossfade_s": 1, "gain_db": -6},
        outputs=[{"format": kind} for kind in FORMATS],
        cover=cover,
        chapters=CHAPTERS,
        **WORDS,
    )
    assert made.result["show_begins_s"] == 2.0
    assert made.result["warnings"] == []
    for kind in FORMATS:
        for judge in (judges.libebur128, judges.ffmpeg_meter):
            verdict = judge(run.engine.ffmpeg, made.files[kind])
            assert verdict.lufs == pytest.approx(-16, abs=0.1), (kind, judge.__name__)
            assert verdict.true_peak_dbtp <= -1
            assert verdict.duration_s == pytest.approx(made.result["duration_s"], abs=0.05)
    assert [rendered.opened(f"in-{number}") for number in range(3)] == [1, 1, 1]
    assert len([argv for argv in rendered.started if "libmp3lame" in argv]) == 1
    assert not [argv for argv in rendered.started if any("🎉" in argument for argument in argv)]
    _mp3(made.files["mp3"], made.result["duration_s"], tmp_path)
    for kind in ("opus", "flac"):
        _comments(made.files[kind], tmp_path)
    for kind in ("m4a", "mp4"):
        _atoms(made.files[kind], tmp_path)
    listed = json.loads(made.files["chapters.json"].read_text())
    assert made.outputs["chapters.json"].content_type == "application/json+chapters"
    assert (listed["version"], listed["title"], listed["podcastName"]) == ("1.2.0", HOSTILE, WORDS["album"])
    assert listed["chapters"] == [
        {"startTime": one["start_s"], "title": one["title"]} | ({"url": one["url"]} if "url" in one else {})
        for one in CHAPTERS
    ]
    film = probe(run, made.files["mp4"])
    assert film.picture is not None
    assert (film.picture.codec, film.picture.width, film.picture.height) == ("h264", 1280, 720)
    assert film.duration_s == pytest.approx(made.result["duration_s"], abs=0.05)
    assert json.loads(made.files["peaks.json"].read_text())["version"] == 2


def _mp3(path: Path, duration_s: float, folder: Path) -> None:
    tags = ID3(path)
    assert tags.version == (2, 3, 0)
    told = {name: str(tags[name]) for name in ("TIT2", "TPE1", "TALB", "TCON", "TDRC", "TRCK", "TCOP")}
    assert list(told.values()) == [str(WORDS[name]) for name in (
        "title", "artist", "album", "genre", "date", "number", "copyright")]  # fmt: skip
    assert [str(one) for one in tags.getall("COMM")] == [WORDS["comment"]]
    (toc,) = tags.getall("CTOC")
    assert int(toc.flags) == 3
    found = [tags[f"CHAP:{name}"] for name in toc.child_element_ids]
    starts = [round(1000 * one["start_s"]) for one in CHAPTERS]
    assert [one.start_time for one in found] == starts
    assert [one.end_time for one in found] == [*starts[1:], round(1000 * duration_s)]
    assert [str(one.sub_frames["TIT2"]) for one in found] == [one["title"] for one in CHAPTERS]
    assert [frame.url for one in found for frame in one.sub_frames.getall("WXXX")] == [CHAPTERS[1]["url"]]
    (picture,) = tags.getall("APIC")
    assert (picture.mime, int(picture.type)) == ("image/jpeg", 3)
    assert jpeg_size(picture.data, folder) == (1400, 700)
    assert mutagen.File(path).info.length == pytest.approx(duration_s, abs=0.06)  # with padding


def _comments(path: Path, folder: Path) -> None:
    file = mutagen.File(path)
    names = {"number": "tracknumber", "comment": "description"}
    assert {name: file.tags[names.get(name, name)] for name in WORDS} == {
        name: [str(value)] for name, value in WORDS.items()
    }
    assert [file.tags[f"chapter00{number}"] for number in (1, 2, 3)] == [
        ["00:00:00.500"], ["00:00:04.250"], ["00:00:09.000"],
    ]  # fmt: skip
    assert [file.tags[f"chapter00{number}name"] for number in (1, 2, 3)] == [[one["title"]] for one in CHAPTERS]
    assert file.tags["chapter002url"] == [CHAPTERS[1]["url"]]
    pictures = getattr(file, "pictures", None)
    if pictures is None:
        pictures = [Picture(base64.b64decode(one)) for one in file.tags["metadata_block_picture"]]
    (picture,) = pictures
    assert (picture.mime, picture.type, picture.width, picture.height) == ("image/jpeg", 3, 1400, 700)
    assert jpeg_size(picture.data, folder) == (1400, 700)


def _atoms(path: Path, folder: Path) -> None:
    file = MP4(path)
    names = {"title": "©nam", "artist": "©ART", "album": "©alb", "genre": "©gen", "date": "©day", "comment": "©cmt"}
    assert {name: file.tags[atom] for name, atom in names.items()} == {name: [WORDS[name]] for name in names}
    assert (file.tags["cprt"], file.tags["trkn"]) == ([WORDS["copyright"]], [(7, 0)])
    assert [(one.start, one.title) for one in file.chapters] == [(one["start_s"], one["title"]) for one in CHAPTERS]
    (picture,) = file.tags["covr"]
    assert jpeg_size(bytes(picture), folder) == (1400, 700)


def test_without_a_cover_an_mp4_shows_the_waveform(rendered, run, tmp_path, make):
    """High where the programme is loud, a line where it is silent."""
    sound = np.concatenate([signals.tone(2, -12, hertz=440), signals.silence(2, channels=1)])
    made = rendered(signals.write(tmp_path / "talk.wav", sound), outputs=[{"format": "mp4", "name": "show.mp4"}])
    still = make("still.gray", "-i", made.files["show.mp4"], "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray")
    bright = np.frombuffer(still.read_bytes(), np.uint8).reshape(720, 1280) > 100
    assert bright[:, 100:600].sum(axis=0).min() > 500
    assert bright[:, 700:1200].sum(axis=0).max() <= 4
    assert not MP4(made.files["show.mp4"]).chapters


def test_a_long_mp3_is_made_on_all_cores_and_keeps_its_words(rendered, run, tmp_path, cover):
    """The tag is ours and stands in front; behind it are the frames that were proven."""
    path = signals.write(tmp_path / "talk.wav", np.tile(signals.podcast(9, channels=1), (7, 1)))
    chapters = [{"start_s": number, "title": f"Number {number}"} for number in range(60)]
    made = rendered(path, outputs=[{"format": "mp3"}], chapters=chapters, cover=cover, title="Long")
    assert len([argv for argv in rendered.started if "libmp3lame" in argv]) == 2
    tags = ID3(made.files["mp3"])
    assert [str(tags[f"CHAP:ch{number}"].sub_frames["TIT2"]) for number in (0, 59)] == ["Number 0", "Number 59"]
    frames = made.files["mp3"].read_bytes()[tags.size :]
    assert frames == (run.work / "out-0").read_bytes()
    assert judges.decode(run.engine.ffmpeg, made.files["mp3"]).duration_s == pytest.approx(63, abs=0.05)


def test_without_words_there_is_no_tag_and_the_same_job_makes_the_same_bytes(rendered, tmp_path):
    """Nothing in a file tells when or where it was made."""
    path = signals.write(tmp_path / "talk.wav", signals.podcast(2))
    outputs = [{"format": kind} for kind in ("mp3", "opus")]
    first, second = (rendered(path, outputs=outputs) for _ in range(2))
    assert set(first.outputs) == {"mp3", "opus", "peaks.json"}
    for name in first.outputs:
        assert first.outputs[name].sha256 == second.outputs[name].sha256
    assert first.files["mp3"].read_bytes().startswith(b"\xff\xfb")


def test_a_cover_is_small_enough_whatever_it_was(run, make, tmp_path, monkeypatch):
    """A picture that does not compress gets smaller until it does; what is transparent becomes white."""
    monkeypatch.setattr("worker.mixing.covers.MOST_BYTES", 250_000)
    pixels = np.full((800, 800, 4), 255, np.uint8)
    pixels[:, :, :3] = 255 * np.random.default_rng(5).integers(0, 2, (800, 800, 3))
    made = make_cover(run, png.write_png(tmp_path / "noise.png", pixels), pytest.fail)
    assert made.path.stat().st_size <= 250_000
    assert made.size == (600, 600)
    clear = make("clear.png", "-f", "lavfi", "-i", "color=black@0.0:s=64x64,format=rgba", "-frames:v", "1")
    made = make_cover(run, clear, pytest.fail)
    white = make("white.gray", "-i", made.path, "-f", "rawvideo", "-pix_fmt", "gray")
    assert min(white.read_bytes()) > 250


def test_a_cover_that_is_none_is_refused_and_a_torn_one_is_told(run, make, tmp_path):
    """Before anything is decoded where its header claims too much."""
    words = tmp_path / "words.png"
    words.write_text("no picture")
    with pytest.raises(JobFailure, match="cover is no picture that Spool reads"):
        make_cover(run, words, pytest.fail)
    good = make("good.png", "-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", "1").read_bytes()
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(good[:16] + (60_000).to_bytes(4, "big") * 2 + good[24:])
    with pytest.raises(JobFailure, match="60000 × 60000 pixels"):
        make_cover(run, bomb, pytest.fail)
    photo = make("photo.jpg", "-f", "lavfi", "-i", "testsrc=s=640x640", "-frames:v", "1").read_bytes()
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(photo[: len(photo) // 2])
    said: list[str] = []
    assert make_cover(run, torn, said.append).size == (640, 640)
    assert said == ["The cover is damaged: a part of it may be missing."]
