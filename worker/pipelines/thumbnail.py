"""`thumbnail`: pictures of a picture, a film or a sound, of exact sizes and without a word of where they come from.

Read from the bottom: the stages are a table, and each of them is a function above it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.errors import JobFailure
from shared.job import Output
from shared.types.thumbnail import (
    MOST_TILES,
    ImageSpec,
    ThumbnailParams,
    WaveformSpec,
    file_name,
)
from worker import frames, png
from worker.examine import native_mix, refuse_too_long, sound_track
from worker.ffmpeg import input_args, transcode
from worker.loudness import measure
from worker.pictures import Picture, read_picture
from worker.probe import Media, VideoStream, probe
from worker.run import Pipeline, Run, Stage
from worker.spectrogram import Spectrogram
from worker.transfer import Finished, fetch_source, source_path, store_files

#: From this length on a sheet is made of key frames only, which is ten times as fast.
_KEY_FRAMES_FROM_S = 60.0
#: More than many browsers draw.
_LARGEST_SHEET = 8192
WHAT = "The picture"
#: What a decoder says of a picture that it could only read in part.
_DAMAGE = re.compile(r"^\[\w+ @ 0x[0-9a-f]+\] \[error\]", re.MULTILINE)


@dataclass(slots=True)
class ThumbnailState:
    """What the stages hand on to each other; a source is a still (`picture`) or something that plays (`media`)."""

    params: ThumbnailParams
    path: Path
    sha256: str | None = None
    picture: Picture | None = None
    media: Media | None = None
    files: list[Finished] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    @property
    def film(self) -> VideoStream | None:
        """What can be seen of a source that plays: its film, else its cover."""
        return (self.media.picture or next(iter(self.media.video), None)) if self.media else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what can be seen, upright."""
        seen = self.picture or self.film
        assert seen is not None
        return seen.shown


def begin(run: Run) -> ThumbnailState:
    """Read the parameters, and make the folder in which the source lies alone."""
    return ThumbnailState(ThumbnailParams.model_validate(run.job.params), source_path(run))


# --- the stages --------------------------------------------------------------------------------------------------
def download(run: Run, state: ThumbnailState) -> None:
    """Bring the source into its folder."""
    state.sha256 = fetch_source(run, state.params.source, state.path)


def render(run: Run, state: ThumbnailState) -> None:
    """Look at what the source is, refuse what cannot be made of it, make all pictures, and prove each."""
    state.files, state.warnings = [], []
    state.picture = read_picture(state.path)
    if state.picture is None:
        state.media = _probed(run, state.path)
    state.params = params = _wanted(state)
    _refuse(state, params)
    _need_encoders(run, params)
    makers = [make for wanted, make in _makers(params) if wanted]
    for done, make in enumerate(makers):
        run.report.progress(done, len(makers) + 1)
        make(run, state)
    run.report.progress(len(makers), len(makers) + 1)
    _prove(run, state.files)
    run.report.progress(len(makers) + 1, len(makers) + 1)


def upload(run: Run, state: ThumbnailState) -> None:
    """Keep the proven pictures as the job's outputs."""
    state.outputs = store_files(run, state.files)


def result(state: ThumbnailState) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """What the source is, and the pictures."""
    seen = state.picture or state.film
    source: dict[str, Any] = {"sha256": state.sha256, "width": None, "height": None, "duration_s": None}
    if seen is not None:
        source |= {"width": seen.shown[0], "height": seen.shown[1]}
    if state.media is not None:
        source["duration_s"] = state.media.duration_s
    told = {
        "source": source,
        "images": {file.name: file.facts for file in state.files},
        "warnings": state.warnings,
        "media_ms": round(1000 * (source["duration_s"] or 0)),
    }
    return told, tuple(state.outputs)


def _makers(params: ThumbnailParams) -> list[tuple[bool, Callable[[Run, ThumbnailState], None]]]:
    """Whether something is asked for, and what makes it."""
    return [
        (bool(params.images), _images),
        (params.sprite is not None, _sprite),
        (params.preview is not None, _preview),
        (params.waveform is not None or params.spectrogram is not None, _sound),
    ]


# --- what the source is ------------------------------------------------------------------------------------------
def _probed(run: Run, path: Path) -> Media:
    try:
        return probe(run, path)
    except JobFailure as failure:
        if failure.failure_code != "unsupported.format":
            raise
        raise JobFailure(
            "unsupported.format",
            "The file is no picture, film or recording that Spool reads; convert it to JPEG, PNG, WebP or MP4.",
        ) from None


def _wanted(state: ThumbnailState) -> ThumbnailParams:
    """The parameters, with the usual picture where none was asked for."""
    params = state.params
    if any(wanted for wanted, _ in _makers(params)):
        return params
    if state.picture or state.film:
        return params.model_copy(update={"images": (ImageSpec(width=640),)})
    return params.model_copy(update={"waveform": WaveformSpec()})


def _refuse(state: ThumbnailState, params: ThumbnailParams) -> None:
    """Raise `JobFailure` for what cannot be made of this source, and for more pixels than one job may use."""
    seen = state.picture or state.film
    if params.images and seen is None:
        raise _lacks("images", "needs a picture or a film, and this is a sound; ask for a waveform")
    for name in ("sprite", "preview"):
        if getattr(params, name) is not None and (state.media is None or state.media.picture is None):
            raise _lacks(name, "needs a film; ask for images instead")
    for name in ("waveform", "spectrogram"):
        if getattr(params, name) is not None and not (state.media and state.media.audio):
            raise _lacks(name, "needs sound, and there is none in it; leave it out")
    if seen is not None:
        frames.refuse_too_many_pixels(seen.width, seen.height)


def _need_encoders(run: Run, params: ThumbnailParams) -> None:
    """Raise `JobFailure` where this worker's ffmpeg cannot write what is asked for: not every one has WebP."""
    kinds = [spec.format for spec in params.images] + ([params.sprite.format] if params.sprite else [])
    needed = {frames.ENCODERS[kind] for kind in kinds}
    if params.preview is not None:
        needed.add("gif" if params.preview.format == "gif" else "libwebp_anim")
    missing = sorted(needed - run.engine.encoders)
    if missing:
        raise JobFailure(
            "tool.missing",
            f"This worker's ffmpeg lacks {', '.join(missing)}; ask for other formats, or install a complete ffmpeg.",
        )


def _lacks(name: str, words: str) -> JobFailure:
    sound = name in {"waveform", "spectrogram"}
    return JobFailure("bad_input.no_audio" if sound else "bad_input.no_picture", f"params.{name} {words}.")


def _length_s(state: ThumbnailState, name: str) -> float:
    """How long the film is. Raises `JobFailure` where nobody knows."""
    assert state.media is not None
    film = state.media.picture
    seconds = (film.duration_s if film else None) or state.media.duration_s
    if not seconds:
        raise _lacks(name, "needs a film that tells how long it is; convert it to MP4")
    return seconds


# --- how each is made --------------------------------------------------------------------------------------------
def _images(run: Run, state: ThumbnailState) -> None:
    """All stills from one decode of one frame."""
    specs = state.params.images
    paths = [run.work / file_name(spec, number) for number, spec in enumerate(specs, 1)]
    for at_s in _moments(state):
        ended = transcode(run, _image_args(state, specs, paths, at_s), what=WHAT)
        if all(path.exists() and path.stat().st_size for path in paths):
            break
    else:
        raise JobFailure("bad_input.corrupt", f"{WHAT} could not be decoded; export it again and upload that.")
    if _DAMAGE.search(ended.stderr_tail):
        state.warnings.append("The picture is damaged: a part of it may be missing.")
        run.report.log("warn", state.warnings[-1])
    for spec, path in zip(specs, paths, strict=True):
        width, height = frames.size_of(spec, state.size)
        facts = {"width": width, "height": height} | ({} if at_s is None else {"at_s": round(at_s, 3)})
        state.files.append(Finished(path, path.name, frames.CONTENT_TYPES[spec.format], facts))


def _moments(state: ThumbnailState) -> list[float | None]:
    """Where the frame is taken, and where else, when nothing can be seen there; a still has no such place."""
    if state.media is None or state.media.picture is None:
        return [None]
    asked, seconds = state.params.at_s, state.media.picture.duration_s or state.media.duration_s or 0.0
    if asked is not None and seconds and asked >= seconds:
        raise JobFailure(
            "bad_input.no_moment",
            f"params.at_s is {asked:g}, and the film ends at {seconds:.2f} s; choose an earlier one.",
        )
    return [asked] if asked is not None else [seconds / 10, 0.0]


def _image_args(
    state: ThumbnailState, specs: Sequence[ImageSpec], paths: Sequence[Path], at_s: float | None
) -> list[str]:
    picture = state.picture
    if picture is not None:
        stream, source, alpha = "[0:v:0]", frames.picture_input(state.path, picture), picture.alpha
        before = frames.upright(picture)
    else:
        assert state.film is not None
        source, alpha = [*frames.pixel_limit(), *input_args(state.path, start_s=at_s)], False
        stream, before = f"[0:{state.film.index}]", _square(state.film)
    split = ",".join([*before, f"split={len(specs)}"])
    graph = [f"{stream}{split}{''.join(f'[s{n}]' for n in range(len(specs)))}"]
    outputs: list[str] = []
    for n, (spec, path) in enumerate(zip(specs, paths, strict=True)):
        graph.append(frames.image_graph(spec, state.size, f"[s{n}]", f"[i{n}]", alpha=alpha))
        outputs += ["-map", f"[i{n}]", *frames.encoder(spec.format, spec.quality), str(path)]
    return [*source, "-filter_complex", ";".join(graph), *outputs]


def _square(film: VideoStream) -> list[str]:
    """The filter that gives a film's pixels equal sides; ffmpeg turns it upright by itself."""
    return [] if film.pixel_aspect == 1 else [f"scale={film.shown[0]}:{film.shown[1]}", "setsar=1"]


def _sprite(run: Run, state: ThumbnailState) -> None:
    """A sheet of tiles and the WebVTT that names them."""
    spec = state.params.sprite
    assert spec is not None
    assert state.film is not None
    seconds = _length_s(state, "sprite")
    every_ms = round(1000 * (spec.every_s or max(1.0, seconds / spec.tiles)))
    count = max(1, math.ceil(round(1000 * seconds) / every_ms))
    if count > MOST_TILES:
        raise JobFailure(
            "bad_input.too_large",
            f"params.sprite.every_s makes {count} pictures of this film and may make {MOST_TILES}; choose "
            f"{math.ceil(seconds / MOST_TILES)} or more.",
        )
    width, height = spec.tile_width, max(1, round(spec.tile_width * state.size[1] / state.size[0]))
    columns = min(spec.columns, count)
    sheet = columns * width, -(-count // columns) * height
    if max(sheet) > _LARGEST_SHEET:
        raise JobFailure(
            "bad_input.too_large",
            f"params.sprite makes a sheet of {sheet[0]} × {sheet[1]} pixels and may make {_LARGEST_SHEET} on a side; "
            "choose fewer tiles or a smaller tile_width.",
        )
    suffix = "jpg" if spec.format == "jpeg" else spec.format
    path = run.work / f"sprite.{suffix}"
    chain = frames.sheet_chain((width, height), count, columns, every_ms, spec.format)
    skip = ("-skip_frame", "nokey") if seconds >= _KEY_FRAMES_FROM_S else ()
    args = [*frames.pixel_limit(), *skip, *input_args(state.path), "-filter_complex"]
    args += [f"[0:{state.film.index}]{chain}[sheet]", "-map", "[sheet]", *frames.encoder(spec.format, spec.quality)]
    transcode(run, [*args, str(path)], what="The film")
    vtt = run.work / "sprite.vtt"
    moments_ms = [*(n * every_ms for n in range(count)), round(1000 * seconds)]
    vtt.write_text(_vtt(path.name, (width, height), columns, moments_ms), encoding="ascii")
    facts = {"width": sheet[0], "height": sheet[1], "tiles": count, "every_s": every_ms / 1000}
    state.files += [
        Finished(path, path.name, frames.CONTENT_TYPES[spec.format], facts),
        Finished(vtt, vtt.name, "text/vtt", {"tiles": count}),
    ]


def _vtt(name: str, tile: tuple[int, int], columns: int, moments_ms: Sequence[int]) -> str:
    """One cue per tile, from its moment to the next; its place is a media fragment (w3.org/TR/media-frags)."""
    cues = []
    for n, (start, stop) in enumerate(pairwise(moments_ms)):
        place = f"{n % columns * tile[0]},{n // columns * tile[1]},{tile[0]},{tile[1]}"
        cues.append(f"{_stamp(start)} --> {_stamp(stop)}\n{name}#xywh={place}\n")
    return "\n".join(["WEBVTT\n", *cues])


def _stamp(ms: int) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def _preview(run: Run, state: ThumbnailState) -> None:
    """A few seconds that move."""
    spec = state.params.preview
    assert spec is not None
    assert state.film is not None
    seconds = _length_s(state, "preview")
    start = seconds / 10 if spec.start_s is None else spec.start_s
    if start >= seconds:
        raise JobFailure(
            "bad_input.no_moment",
            f"params.preview.start_s is {start:g}, and the film ends at {seconds:.2f} s; choose an earlier one.",
        )
    width = min(spec.width, state.size[0])
    height = max(1, round(width * state.size[1] / state.size[0]))
    path = run.work / f"preview.{spec.format}"
    source = input_args(state.path, start_s=start, duration_s=min(spec.duration_s, seconds - start))
    made = frames.preview_args(spec, f"0:{state.film.index}", width, height)
    transcode(run, [*frames.pixel_limit(), *source, *made, str(path)], what="The film")
    facts = {"width": width, "height": height, "start_s": round(start, 3)}
    state.files.append(Finished(path, path.name, frames.CONTENT_TYPES[spec.format], facts))


def _sound(run: Run, state: ThumbnailState) -> None:
    """Waveform and spectrogram from one decode of the first sound track."""
    assert state.media is not None
    waveform, spectrogram = state.params.waveform, state.params.spectrogram
    audio = sound_track(state.media)
    mix = native_mix(audio)
    seen = None
    if spectrogram is not None:
        seconds = audio.duration_s or state.media.duration_s
        if not seconds:
            raise _lacks("spectrogram", "needs a recording that tells how long it is; convert it to WAV")
        seen = Spectrogram(mix, seconds, width=spectrogram.width, height=spectrogram.height)
    found = measure(
        run,
        input_args(state.path),
        mix,
        folder=run.work,
        stream=f"0:{audio.index}",
        on_time=refuse_too_long,
        also=None if seen is None else seen.take,
    )
    drawn = []
    if waveform is not None:
        size, colours = (waveform.width, waveform.height), (waveform.colour, waveform.background)
        drawn.append(("waveform.png", png.waveform(found.points, size, colours)))
    if seen is not None:
        drawn.append(("spectrogram.png", seen.pixels()))
    for name, pixels in drawn:
        height, width, _ = pixels.shape
        facts = {"width": width, "height": height, "duration_s": round(found.seconds, 3)}
        state.files.append(Finished(png.write_png(run.work / name, pixels), name, "image/png", facts))


# --- proof -------------------------------------------------------------------------------------------------------
def _prove(run: Run, files: Sequence[Finished]) -> None:
    """Every picture has its size by its own words, and decodes. Raises `JobFailure` for one that does not."""
    args: list[str] = []
    for file in files:
        if file.content_type == "text/vtt":
            continue
        told = read_picture(file.path)
        if told is None or (told.width, told.height) != (file.facts["width"], file.facts["height"]):
            raise JobFailure(
                "internal",
                f"{file.name} came out with another size than asked for; it is tried again while it has tries left.",
                kind="transient",
            )
        if not (told.demuxer == "webp_pipe" and file.name == "preview.webp"):
            args += ["-xerror", *frames.picture_input(file.path, told)]
    count = args.count("-i")
    if count:
        maps = [arg for n in range(count) for arg in ("-map", f"{n}:v:0")]
        transcode(run, [*args, *maps, "-f", "null", "-"], what="A finished picture")


THUMBNAIL: Pipeline[ThumbnailState] = Pipeline(
    type="thumbnail",
    begin=begin,
    stages=(
        Stage("downloading", download, weight=20),
        Stage("rendering", render, weight=70),
        Stage("uploading", upload, weight=10),
    ),
    result=result,
)
