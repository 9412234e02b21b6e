"""`edit`'s crop, scale and rotate: compared with the source's own frames, pixel by pixel and frame by frame."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailure
from tests.flow.editor import Edited
from worker.probe import probe

pytestmark = pytest.mark.media

#: No two places and no two frames look the same: a shift of two pixels or of one frame is seen at once.
PATTERN = "geq=lum='128+90*sin((X+7*N)/5)*cos((Y+3*N)/7)+20*gt(X,W/2)':cb='90+X/2':cr=128"
MP4 = ({"format": "mp4"},)
Frames = NDArray[np.int16]


@pytest.fixture
def film(make):
    """Makes a patterned film without sound: `film("name.mp4", "128x64")`."""

    def made(name: str, size: str, *more: str, seconds: float = 1) -> Path:
        picture = ("-f", "lavfi", "-i", f"color=black:s={size}:r=25:d={seconds},{PATTERN}")
        return make(name, *picture, *more, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv420p")

    return made


def frames(made: Edited | Path, engine: Any, size: tuple[int, int]) -> Frames:
    """The grey levels of all frames, as they are shown; fails where they have another size."""
    path = made if isinstance(made, Path) else made.files["mp4"]
    argv = [str(engine.ffmpeg), "-nostdin", "-v", "error", "-i", str(path), "-pix_fmt", "gray"]
    raw = subprocess.run([*argv, "-fps_mode", "passthrough", "-f", "rawvideo", "-"], capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, size[1], size[0]).astype(np.int16)


def same(found: Frames, wanted: Frames) -> bool:
    """Whether all frames show the same, but for what an encoder changes."""
    return found.shape == wanted.shape and float(np.abs(found - wanted).mean(axis=(1, 2)).max()) < 4


def op(name: str, **fields: Any) -> dict[str, Any]:
    """An entry."""
    return {"op": name} | fields


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (
            (op("crop", width=64, height=32, x=20, y=6), op("rotate", degrees=90)),
            lambda seen: np.rot90(seen[:, 6:38, 20:84], -1, axes=(1, 2)),
        ),
        ((op("crop", width=64, height=32), op("rotate", flip="horizontal")), lambda seen: seen[:, 16:48, 95:31:-1]),
        (
            (op("rotate", degrees=270), op("crop", aspect="1:1", y=0)),
            lambda seen: np.rot90(seen, 1, axes=(1, 2))[:, :64],
        ),
        ((op("rotate", degrees=180), op("crop", aspect="4:1")), lambda seen: seen[:, 47:15:-1, ::-1]),
        (
            (op("rotate", degrees=90, flip="vertical"), op("crop", width=64, height=128)),
            lambda seen: np.rot90(seen, -1, axes=(1, 2))[:, ::-1],
        ),
    ],
    ids=["a place, turned", "the middle, mirrored", "turned, a square", "upside down, a strip", "turned and mirrored"],
)
def test_a_rectangle_is_kept_and_turned_to_the_pixel(edited, film, engine, entries, wanted):
    """Every frame is the source's own, cut and turned as numpy does it; the result tells the size."""
    source = film("film.mp4", "128x64")
    made = edited(source, *entries, outputs=MP4)
    expected = wanted(frames(source, engine, (128, 64)))
    size = expected.shape[2], expected.shape[1]
    assert same(frames(made, engine, size), expected)
    assert (made.result["edits"][1]["width"], made.result["edits"][1]["height"]) == size


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"height": 50}, (100, 50)),
        ({"width": 256, "height": 256}, (256, 128)),
        ({"width": 60, "height": 64, "fit": "exact"}, (60, 64)),
        ({"width": 62, "height": 62, "fit": "cover"}, (62, 62)),
        ({"width": 64, "height": 64, "fit": "pad"}, (64, 64)),
    ],
    ids=str,
)
def test_a_picture_is_scaled_to_exactly_what_was_asked(edited, film, engine, fields, size):
    """With every frame, square pixels, and black only where it was asked for."""
    made = edited(film("film.mp4", "128x64"), op("scale", **fields), outputs=MP4)
    seen = frames(made, engine, size)
    assert len(seen) == 25
    found = probe(made.run, made.files["mp4"]).video[0]
    assert (found.shown, found.pixel_aspect) == (size, 1.0)
    edges = [seen[:, :12], seen[:, -12:]]
    assert all(edge.max() < 40 for edge in edges) == (fields.get("fit") == "pad")


def test_a_turned_recording_is_framed_as_it_is_seen(edited, film, make, engine):
    """A camera held upright: positions are those of the upright picture, and nothing turns it a second time."""
    flat = film("flat.mp4", "128x64")
    held = make("held.mp4", "-display_rotation", "-90", "-i", flat, "-c", "copy")
    upright = frames(held, engine, (64, 128))
    made = edited(held, op("crop", width=40, height=60, x=4, y=50), outputs=MP4)
    assert same(frames(made, engine, (40, 60)), upright[:, 50:110, 4:44])
    assert probe(made.run, made.files["mp4"]).video[0].rotation == 0


def test_oblong_pixels_are_made_square(edited, film, engine):
    """A film of 128 by 64 that is shown 256 wide can be cropped in its whole width."""
    source = film("dv.mp4", "128x64", "-aspect", "256:64")
    made = edited(source, op("crop", width=200, height=64), outputs=MP4)
    assert frames(made, engine, (200, 64)).shape[0] == 25
    assert made.result["edits"][0] == {"op": "crop", "duration_s": 1.0, "width": 200, "height": 64}


def test_files_are_framed_before_they_are_joined_and_the_whole_behind_it(edited, film, engine):
    """The first file's framed size is the whole's, the other fits into it, and each frame is where it belongs."""
    wide, tall = film("wide.mp4", "128x64"), film("tall.mp4", "64x128")
    made = edited(
        {"wide": wide, "tall": tall},
        op("rotate", on="tall", degrees=90),
        op("crop", on="wide", aspect="1:1"),
        op("trim", on="wide", to_s=0.4),
        op("join"),
        op("crop", width=64, height=32),
        op("rotate", degrees=180),
        outputs=MP4,
    )
    seen = frames(made, engine, (64, 32))[:, ::-1, ::-1]
    first = frames(wide, engine, (128, 64))[:10, :, 32:96]
    assert same(seen[:10], first[:, 16:48])
    turned = np.rot90(frames(tall, engine, (64, 128)), -1, axes=(1, 2))
    halved = turned.reshape(-1, 32, 2, 64, 2).mean(axis=(2, 4))
    assert len(seen) == 35
    assert float(np.abs(seen[10:] - halved).mean()) < 8  # the same picture, scaled by another filter


def test_the_example_of_the_page_makes_a_film_for_telephones(edited, film):
    """As docs/edit.md has it."""
    page = (Path(__file__).parents[2] / "docs/edit.md").read_text()
    (entries,) = re.findall(r"```toml\n(edits = \[\{ op = \"crop\".*?)```", page, re.DOTALL)
    made = edited(film("wide.mp4", "128x72"), *tomllib.loads(entries)["edits"], outputs=MP4)
    assert [(one["width"], one["height"]) for one in made.result["edits"]] == [(40, 72), (712, 1280)]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            [op("crop", width=130, height=64)],
            r"edits\.0\.width is 130, and the picture at this point has 128 x 64 pixels",
        ),
        (
            [op("crop", aspect="1:1"), op("crop", width=64, height=64, x=2)],
            r"edits\.1\.x is 2, .* 64 x 64 .* use 0 at most",
        ),
        ([op("rotate", degrees=90), op("crop", width=66, height=64)], r"edits\.1\.width is 66, .* 64 x 128 pixels"),
        ([op("crop", aspect="1:40")], r"edits\.0 would make the width 0, .* 128 x 64 pixels: it may be 16 to 128"),
        ([op("scale", height=4096)], r"edits\.0 would make the width 8192, .*: it may be 16 to 4096"),
    ],
    ids=str,
)
def test_what_the_picture_has_not_is_named_by_its_entry(edited, film, entries, sentence):
    """With the size that is there, as the entries before it left it."""
    with pytest.raises(JobFailure, match=sentence) as caught:
        edited(film("film.mp4", "128x64"), *entries, outputs=MP4)
    assert caught.value.failure_code == "bad_input.beyond_end"


def test_a_recording_without_picture_cannot_be_framed(edited, film, make):
    """The sentence names the entry, and with several files the one that has none."""
    tone = make("tone.wav", "-f", "lavfi", "-i", "sine=d=1")
    with pytest.raises(JobFailure, match=r"edits\.0 changes a picture, and the recording has none; leave it out"):
        edited(tone, op("rotate", degrees=90), outputs=())
    files = {"film": film("film.mp4", "128x64"), "tone": tone}
    with pytest.raises(JobFailure, match=r"edits\.0 changes a picture, and the file 'tone' has none"):
        edited(files, op("crop", on="tone", aspect="1:1"), op("join"), outputs=MP4)
