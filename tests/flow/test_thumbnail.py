"""`thumbnail` from an uploaded file to pictures, each decoded again and looked at pixel by pixel."""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import JobFailure
from tests.media import signals
from worker import frames
from worker.pictures import read_picture
from worker.pipelines import thumbnail

pytestmark = pytest.mark.media

Pixels = NDArray[np.uint8]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
#: The corners of the picture that the tests turn: top left, top right, bottom left, bottom right.
CORNERS = (RED, GREEN, BLUE, WHITE)


@pytest.fixture
def pixels(engine):
    """Decodes a picture with ffmpeg alone: (height, width, 4)."""

    def decoded(path: Path) -> Pixels:
        told = read_picture(path)
        argv = [engine.ffmpeg, "-v", "error", "-xerror", "-i", path, "-frames:v", "1", "-pix_fmt", "rgba"]
        raw = subprocess.run([*argv, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
        return np.frombuffer(raw, np.uint8).reshape(told.height, told.width, 4)

    return decoded


def png(path: Path, image: Pixels, *chunks: tuple[bytes, bytes]) -> Path:
    """Write pixels (height, width, 3 or 4) as a PNG, with more chunks before them."""
    height, width, depth = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if depth == 3 else 6, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def quarters(width: int = 120, height: int = 80) -> Pixels:
    """Four colours, one in each corner."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


def exif(orientation: int) -> bytes:
    """EXIF with an orientation, and a secret in its description."""
    secret = b"SECRET PLACE\0"
    entries = struct.pack(">HHII", 0x010E, 2, len(secret), 38) + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 2) + entries + bytes(4) + secret


def jpeg_with(path: Path, more: bytes) -> Path:
    """Put an EXIF segment into a JPEG."""
    data = path.read_bytes()
    segment = b"Exif\0\0" + more
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    return path


def corners(image: Pixels) -> list[tuple[int, ...]]:
    """The colours of the four quarters, each where it is purest."""
    height, width = image.shape[:2]
    places = [
        (height // 4, width // 4),
        (height // 4, -width // 4),
        (-height // 4, width // 4),
        (-height // 4, -width // 4),
    ]
    return [tuple(int(value) for value in image[place][:3]) for place in places]


def alike(one: Any, other: Any, within: int = 6) -> bool:
    """Whether colours are the same to the eye."""
    return bool(np.abs(np.array(one, int) - np.array(other, int)).max() <= within)


# --- sizes and crops ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_every_size_comes_out_exactly_in_every_format(perform, pixels, tmp_path, kind):
    """Contained, covered and stretched, from one decode; the colours stay, and no image is enlarged unasked."""
    source = png(tmp_path / "source.png", quarters())
    wanted = {
        "small": ({"width": 60}, (60, 40)),
        "box": ({"width": 60, "height": 20}, (30, 20)),
        "odd": ({"width": 33}, (33, 22)),
        "large": ({"width": 500, "height": 500}, (120, 80)),
        "square": ({"width": 50, "height": 50, "fit": "cover"}, (50, 50)),
        "bigger": ({"width": 301, "height": 99, "fit": "cover"}, (301, 99)),
        "stretched": ({"width": 40, "height": 100, "fit": "exact"}, (40, 100)),
    }
    images = [{"name": name, "format": kind, "quality": 95} | spec for name, (spec, _) in wanted.items()]
    done = perform("thumbnail", source, images=images)
    suffix = "jpg" if kind == "jpeg" else kind
    for name, (_, (width, height)) in wanted.items():
        output = done.outputs[f"{name}.{suffix}"]
        image = pixels(done.files[output.name])
        assert image.shape[:2] == (height, width)
        assert (output.facts["width"], output.facts["height"]) == (width, height)
        assert output.content_type == f"image/{kind}"
        assert all(map(alike, corners(image), CORNERS))
    # One decode of the source, and one process that proves all that was made.
    assert [sum("in/source" in arg for arg in argv) for argv in done.decodes] == [1, 0]


@pytest.mark.parametrize(("focus_x", "seen"), [(0, RED), (1, BLUE), (0.5, GREEN)])
def test_the_focus_decides_what_a_crop_keeps(perform, pixels, tmp_path, focus_x, seen):
    """Of three stripes the left, the right, or the middle one."""
    stripes = np.zeros((60, 180, 3), np.uint8)
    stripes[:, :60], stripes[:, 60:120], stripes[:, 120:] = RED, GREEN, BLUE
    source = png(tmp_path / "stripes.png", stripes)
    image = {"width": 30, "height": 30, "fit": "cover", "format": "png", "focus_x": focus_x}
    found = pixels(perform("thumbnail", source, images=[image]).files["image-1.png"])
    assert (np.abs(found[2:-2, 2:-2, :3].astype(int) - seen) <= 3).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_as_it_was_taken(perform, pixels, make, tmp_path, orientation):
    """All eight ways to hold a camera; what EXIF tells beside that does not get out."""
    upright = quarters()
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright[::-1], 1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    stored = png(tmp_path / "stored.png", np.ascontiguousarray(turned))
    jpeg = jpeg_with(make("photo.jpg", "-i", stored, "-q:v", "2", "-pix_fmt", "yuvj444p"), exif(orientation))
    assert b"SECRET" in jpeg.read_bytes()
    kinds = ("jpeg", "png", "webp") if orientation == 6 else ("png",)
    done = perform("thumbnail", jpeg, images=[{"width": 120, "format": kind, "quality": 95} for kind in kinds])
    for path in done.files.values():
        image = pixels(path)
        assert image.shape[:2] == (80, 120)
        assert all(alike(one, other, 12) for one, other in zip(corners(image), CORNERS, strict=True))
        assert not re.search(b"SECRET|Exif|eXIf|EXIF|Lavc|ICC", path.read_bytes())


def test_a_turned_png_and_webp_are_read_too(perform, pixels, tmp_path, make):
    """Their EXIF lies elsewhere."""
    stored = np.ascontiguousarray(np.rot90(quarters(), 1))
    source = png(tmp_path / "turned.png", stored, (b"eXIf", exif(6)))
    found = pixels(perform("thumbnail", source, images=[{"width": 120, "format": "png"}]).files["image-1.png"])
    assert all(map(alike, corners(found), CORNERS))
    plain = make("plain.webp", "-i", png(tmp_path / "plain.png", stored), "-quality", "95").read_bytes()
    body = plain[12:]
    size = (79).to_bytes(3, "little") + (119).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + size
    held = b"EXIF" + struct.pack("<I", len(exif(6))) + exif(6) + b"\0" * (len(exif(6)) % 2)
    whole = b"WEBP" + extended + body + held
    (tmp_path / "turned.webp").write_bytes(b"RIFF" + struct.pack("<I", len(whole)) + whole)
    assert read_picture(tmp_path / "turned.webp").shown == (120, 80)
    done = perform("thumbnail", tmp_path / "turned.webp", images=[{"width": 120, "format": "png"}])
    assert all(alike(*pair, 12) for pair in zip(corners(pixels(done.files["image-1.png"])), CORNERS, strict=True))


def test_transparency_stays_or_becomes_the_background(perform, pixels, tmp_path):
    """PNG and WebP keep it, a JPEG has the colour that was asked for."""
    image = np.zeros((40, 40, 4), np.uint8)
    image[:, :20] = (*RED, 255)
    source = png(tmp_path / "half.png", image)
    images = [
        {"width": 40, "format": "png"},
        {"width": 40, "format": "webp", "quality": 95},
        {"width": 40, "format": "jpeg", "quality": 95, "background": "#00ff00"},
    ]
    done = perform("thumbnail", source, images=images)
    for name in ("image-1.png", "image-2.webp"):
        found = pixels(done.files[name])
        assert (found[20, 5, 3], found[20, 35, 3]) == (255, 0)
    flat = pixels(done.files["image-3.jpg"])
    assert alike(flat[20, 35, :3], GREEN)
    assert alike(flat[20, 5, :3], RED)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif", "bmp"])
def test_pictures_of_every_kind_are_read(perform, pixels, make, tmp_path, kind):
    """Each by its content, whatever it is called; without parameters a JPEG of up to 640 pixels comes out."""
    source = make(f"source.{kind}", "-i", png(tmp_path / "drawn.png", quarters(1280, 800)))
    done = perform("thumbnail", source)
    assert pixels(done.files["image-1.jpg"]).shape[:2] == (400, 640)
    assert all(alike(*pair, 14) for pair in zip(corners(pixels(done.files["image-1.jpg"])), CORNERS, strict=True))
    assert done.result["source"]["width"] == 1280


# --- films --------------------------------------------------------------------------------------------------------
@pytest.fixture
def colours(make) -> Path:
    """Twelve seconds of film, each second of one colour, with a key frame at each second and sound."""
    shades = [(20 * n, 250 - 20 * n, 128) for n in range(12)]
    inputs = [f"color=c=0x{r:02x}{g:02x}{b:02x}:s=320x180:r=25:d=1[c{n}]" for n, (r, g, b) in enumerate(shades)]
    joined = "".join(f"[c{n}]" for n in range(12)) + "concat=n=12[v]"
    return make(
        "colours.mp4",
        *("-f", "lavfi", "-i", "sine=f=440:d=12", "-filter_complex", ";".join([*inputs, joined])),
        *(
            "-map",
            "[v]",
            "-map",
            "0:a",
            "-c:v",
            "libx264",
            "-g",
            "25",
            "-bf",
            "2",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
        ),
    )


def shade(second: int) -> tuple[int, int, int]:
    """The colour of a second of that film."""
    return (20 * second, 250 - 20 * second, 128)


@pytest.mark.parametrize("at_s", [0, 3.5, 11.9])
def test_an_image_shows_the_moment_that_was_asked_for(perform, pixels, colours, at_s):
    """To the frame, in all images at once."""
    done = perform(
        "thumbnail", colours, at_s=at_s, images=[{"width": 100}, {"width": 64, "height": 64, "fit": "cover"}]
    )
    for path in done.files.values():
        assert alike(pixels(path)[20, 30, :3], shade(int(at_s)), 8)
    assert [sum("in/source" in arg for arg in argv) for argv in done.decodes] == [1, 0]


@pytest.mark.parametrize("key_frames_from_s", [60, 10])
def test_every_tile_of_a_sheet_is_of_its_time(perform, pixels, colours, monkeypatch, key_frames_from_s):
    """Tile n shows the middle of its span; the WebVTT names its place; long films give their key frames only."""
    monkeypatch.setattr(thumbnail, "_KEY_FRAMES_FROM_S", key_frames_from_s)
    done = perform("thumbnail", colours, sprite={"every_s": 1, "columns": 5, "tile_width": 64, "format": "png"})
    sheet = pixels(done.files["sprite.png"])
    assert sheet.shape[:2] == (3 * 36, 5 * 64)
    cues = re.findall(
        r"(\S+) --> (\S+)\nsprite\.png#xywh=(\d+),(\d+),(\d+),(\d+)", done.files["sprite.vtt"].read_text()
    )
    assert [(start, stop) for start, stop, *_ in cues] == [
        (f"00:00:{n:02}.000", f"00:00:{n + 1:02}.000") for n in range(12)
    ]
    for n, (_, _, *place) in enumerate(cues):
        x, y, width, height = map(int, place)
        assert alike(sheet[y + height // 2, x + width // 2, :3], shade(n), 8)
    assert done.outputs["sprite.png"].facts == {"width": 320, "height": 108, "tiles": 12, "every_s": 1.0}
    assert any("nokey" in argv for argv in done.decodes) == (key_frames_from_s == 10)


def test_a_preview_moves_and_has_its_length(perform, engine, colours):
    """Two seconds at five pictures a second, as GIF and as WebP."""
    asked = {"start_s": 2, "duration_s": 2, "fps": 5, "width": 100}
    gif = perform("thumbnail", colours, preview=asked | {"format": "gif"}).files["preview.gif"]
    argv = [engine.ffmpeg, "-v", "error", "-i", gif, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(argv, capture_output=True, check=True).stdout
    shown = np.frombuffer(raw, np.uint8).reshape(-1, 56, 100, 3)
    assert len(shown) == 10
    assert alike(shown[1, 28, 50], shade(2), 10)
    assert alike(shown[8, 28, 50], shade(3), 10)
    webp = perform("thumbnail", colours, preview=asked).files["preview.webp"].read_bytes()
    # The encoder makes one picture of those that are the same: two colours, a second each.
    assert [int.from_bytes(webp[at + 20 : at + 23], "little") for at in places(webp, b"ANMF")] == [1000, 1000]
    assert read_picture_size(webp) == (100, 56)


def places(data: bytes, word: bytes) -> list[int]:
    """Where a word begins."""
    return [found.start() for found in re.finditer(re.escape(word), data)]


def read_picture_size(webp: bytes) -> tuple[int, int]:
    """The canvas of an animated WebP."""
    at = webp.index(b"VP8X") + 12
    return 1 + int.from_bytes(webp[at : at + 3], "little"), 1 + int.from_bytes(webp[at + 3 : at + 6], "little")


def test_a_real_film_gives_all_at_once(perform, pixels, recordings):
    """A film with sound in 5.1: images, sheet, preview and waveform, each of its size."""
    done = perform(
        "thumbnail", recordings.video, images=[{"width": 640, "format": "webp"}], sprite={}, preview={}, waveform={}
    )
    sizes = {
        name: (one.facts["width"], one.facts["height"]) for name, one in done.outputs.items() if "width" in one.facts
    }
    assert sizes == {
        "image-1.webp": (640, 360), "sprite.jpg": (960, 90), "preview.webp": (320, 180), "waveform.png": (1200, 240),
    }  # fmt: skip
    for name in ("image-1.webp", "sprite.jpg", "waveform.png"):
        assert pixels(done.files[name]).shape[:2] == sizes[name][::-1]
        assert pixels(done.files[name])[:, :, :3].std() > 10
    assert done.outputs["sprite.vtt"].content_type == "text/vtt"


def test_a_film_that_was_held_upright_and_pixels_that_are_wide_are_seen_right(perform, pixels, make, tmp_path):
    """A telephone's film is turned; an anamorphic one is widened."""
    still = png(tmp_path / "stored.png", np.ascontiguousarray(np.rot90(quarters(160, 120), 1)))
    flat = make("flat.mp4", "-loop", "1", "-i", still, "-t", "1", "-c:v", "libx264", "-pix_fmt", "yuv444p")
    held = make("held.mp4", "-display_rotation", "-90", "-i", flat, "-c", "copy")
    found = pixels(perform("thumbnail", held, images=[{"width": 160, "format": "png"}]).files["image-1.png"])
    assert found.shape[:2] == (120, 160)
    assert all(alike(*pair, 14) for pair in zip(corners(found), CORNERS, strict=True))
    wide = make("wide.mp4", "-i", flat, "-vf", "scale=180:160,setsar=2", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    done = perform("thumbnail", wide, images=[{"width": 90}, {"width": 90, "height": 90, "fit": "cover"}])
    assert [pixels(path).shape[:2] for path in done.files.values()] == [(40, 90), (90, 90)]


def test_the_cover_of_a_song_is_its_picture(perform, pixels, make, tmp_path):
    """A sound file with a cover has something to see."""
    cover = make("cover.jpg", "-i", png(tmp_path / "drawn.png", quarters(300, 300)), "-q:v", "2")
    song = make(
        "song.mp3",
        "-f",
        "lavfi",
        "-i",
        "sine=d=2",
        "-i",
        cover,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-c:a",
        "libmp3lame",
    )
    done = perform("thumbnail", song)
    assert pixels(done.files["image-1.jpg"]).shape[:2] == (300, 300)


# --- sounds -------------------------------------------------------------------------------------------------------
def test_a_waveform_is_exact_in_every_column(perform, pixels, tmp_path):
    """Silence is one row, a tone of half of full scale is half as high, and the colours are those asked for."""
    sound = np.concatenate([signals.silence(1, channels=1), signals.tone(1, -6.0206), signals.tone(1, -0.01)])
    path = signals.write(tmp_path / "steps.wav", sound)
    done = perform(
        "thumbnail", path, waveform={"width": 300, "height": 201, "colour": "#ff8000", "background": "#000000"}
    )
    image = pixels(done.files["waveform.png"])
    heights = (image[:, :, 0] == 255).sum(axis=0)
    assert set(heights[:99]) == {1}
    assert set(heights[101:199]) == {101}
    assert set(heights[201:299]) <= {200, 201}
    assert {tuple(colour) for colour in image.reshape(-1, 4).tolist()} == {(255, 128, 0, 255), (0, 0, 0, 255)}
    assert image[100, :, 0].min() == 255


def test_a_spectrogram_shows_each_frequency_when_it_sounds(perform, pixels, tmp_path):
    """1 kHz, then 6 kHz, then nothing, each in its place; with the waveform from the same decode."""
    sound = np.concatenate(
        [signals.tone(2, -12, hertz=1000), signals.tone(2, -12, hertz=6000), signals.silence(2, channels=1)]
    )
    path = signals.write(tmp_path / "steps.wav", sound)
    done = perform("thumbnail", path, spectrogram={"width": 300, "height": 240}, waveform={})
    image = pixels(done.files["spectrogram.png"])[:, :, :3].sum(axis=2, dtype=int)
    assert image.shape == (240, 300)
    # A row is 100 Hz high, and the lowest is at the bottom.
    assert {239 - int(row) for row in image[:, 3:97].argmax(axis=0)} <= {9, 10}
    assert {239 - int(row) for row in image[:, 103:197].argmax(axis=0)} <= {59, 60}
    assert image[:, 203:].max() < 10
    assert [sum("in/source" in arg for arg in argv) for argv in done.decodes] == [1, 0]


def test_a_sound_alone_gives_its_waveform(perform, pixels, recordings):
    """Without parameters, transparent behind."""
    done = perform("thumbnail", recordings.speech)
    assert set(done.files) == {"waveform.png"}
    assert {0, 255} == set(np.unique(pixels(done.files["waveform.png"])[:, :, 3]))


# --- what is refused ----------------------------------------------------------------------------------------------
def huge(kind: str, width: int, height: int) -> bytes:
    """A few bytes that claim a picture of this size."""
    match kind:
        case "png":
            header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
            return (
                b"\x89PNG\r\n\x1a\n"
                + struct.pack(">I", 13)
                + header
                + struct.pack(">I", zlib.crc32(header))
                + bytes(99)
            )
        case "jpeg":
            return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(99)
        case "gif":
            return b"GIF89a" + struct.pack("<HH", width, height) + bytes(99)
        case "webp":
            sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            return b"RIFF" + struct.pack("<I", 120) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + bytes(99)
        case "bmp":
            return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, -height) + bytes(99)
    raise ValueError(kind)


@pytest.mark.parametrize("size", [(60_000, 60_000), (40_000, 9), (11_000, 11_000)], ids=str)
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp"])
def test_a_decompression_bomb_is_refused_before_anything_is_decoded(perform, run, tmp_path, kind, size):
    """By the size that it claims, in words; no program is started."""
    (tmp_path / "bomb").write_bytes(huge(kind, *size))
    started = []
    run.processes.start = lambda *given, **more: started.append(given)
    with pytest.raises(JobFailure, match=f"{size[0]} × {size[1]} pixels") as caught:
        perform("thumbnail", tmp_path / "bomb")
    assert (caught.value.failure_code, caught.value.kind) == ("bad_input.too_large", "permanent")
    assert started == []


def test_a_header_that_lies_is_caught_by_the_decoder(perform, monkeypatch, make, tmp_path):
    """The same limit stands in ffmpeg's own arguments."""
    source = make("big.jpg", "-i", png(tmp_path / "big.png", quarters(1000, 1000)))
    monkeypatch.setattr(frames, "MOST_PIXELS", 500_000)
    monkeypatch.setattr(thumbnail, "read_picture", lambda path: type(read_picture(path))("jpeg_pipe", 10, 10))
    with pytest.raises(JobFailure):
        perform("thumbnail", source)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "images of a sound": ("speech", {"images": [{"width": 10}]}, "params.images needs a picture"),
    "a sheet of a sound": ("speech", {"sprite": {}}, "params.sprite needs a film"),
    "a preview of a sound": ("speech", {"preview": {}}, "params.preview needs a film"),
    "the waveform of a silent film": ("silent_video", {"waveform": {}}, "params.waveform needs sound"),
    "a moment after the end": ("silent_video", {"at_s": 99, "images": [{"width": 9}]}, "params.at_s is 99"),
    "a preview after the end": ("silent_video", {"preview": {"start_s": 99}}, "params.preview.start_s is 99"),
    "a sheet that is too high": (
        "silent_video",
        {"sprite": {"every_s": 0.2, "tile_width": 640, "columns": 1}},
        "params.sprite makes a sheet",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused_by_its_name(perform, recordings, name):
    """The parameter, the reason, and what to do; never tried again."""
    source, params, words = REFUSED[name]
    with pytest.raises(JobFailure, match=re.escape(words)) as caught:
        perform("thumbnail", getattr(recordings, source), **params)
    assert caught.value.kind == "permanent"


def test_an_ffmpeg_that_lacks_an_encoder_is_named(perform, run, tmp_path, monkeypatch):
    """Before anything is decoded, and what to do."""
    monkeypatch.setattr(thumbnail.frames, "ENCODERS", frames.ENCODERS | {"webp": "libnothing"})
    with pytest.raises(JobFailure, match="lacks libnothing; ask for other formats") as caught:
        perform("thumbnail", png(tmp_path / "source.png", quarters()), images=[{"width": 9, "format": "webp"}])
    assert caught.value.failure_code == "tool.missing"


def test_what_is_no_picture_is_refused(perform, tmp_path):
    """Text, and a drawing that names other files."""
    for content in (
        b"hello, this is text\n" * 50,
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    ):
        (tmp_path / "source").write_bytes(content)
        with pytest.raises(JobFailure) as caught:
            perform("thumbnail", tmp_path / "source")
        assert caught.value.failure_code in {"unsupported.format", "bad_input.not_media"}


def test_a_torn_picture_says_so(perform, make, tmp_path):
    """Half a JPEG is not delivered as a picture with a grey half."""
    whole = make(
        "whole.png", "-i", png(tmp_path / "drawn.png", quarters(1200, 900)), "-vf", "noise=alls=60"
    ).read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(JobFailure) as caught:
        perform("thumbnail", tmp_path / "torn.png")
    assert caught.value.failure_code in {"bad_input.corrupt", "bad_input.truncated"}


def test_a_picture_that_can_be_read_in_part_is_made_and_said_so(perform, pixels, make, tmp_path):
    """Half of a photograph may be all that there is."""
    whole = make(
        "whole.jpg", "-i", png(tmp_path / "drawn.png", quarters(1200, 900)), "-vf", "noise=alls=60"
    ).read_bytes()
    assert perform("thumbnail", tmp_path / "whole.jpg").result["warnings"] == []
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    done = perform("thumbnail", tmp_path / "torn.jpg")
    assert done.result["warnings"] == ["The picture is damaged: a part of it may be missing."]
    assert pixels(done.files["image-1.jpg"]).shape[:2] == (480, 640)


def test_an_image_that_comes_out_wrong_is_never_delivered(perform, monkeypatch, tmp_path):
    """Exit code 0 proves nothing: the size is read back."""
    monkeypatch.setattr(frames, "scaled", lambda size, kind, alpha=False: ["scale=10:10", "format=yuvj420p"])
    with pytest.raises(JobFailure, match="another size") as caught:
        perform("thumbnail", png(tmp_path / "source.png", quarters()), images=[{"width": 60}])
    assert caught.value.kind == "transient"


def test_the_same_job_makes_the_same_bytes(perform, recordings):
    """A retry gives the same hashes."""
    asked = {"images": [{"width": 200}, {"width": 200, "format": "webp"}], "sprite": {"tiles": 3}}
    first, second = (perform("thumbnail", recordings.silent_video, **asked) for _ in range(2))
    assert {name: one.sha256 for name, one in first.outputs.items()} == {
        name: one.sha256 for name, one in second.outputs.items()
    }
