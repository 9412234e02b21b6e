"""ffmpeg's arguments for pictures: sizes, crops, formats, sheets, and moving previews."""

from __future__ import annotations

from pathlib import Path

from shared.errors import JobFailure
from shared.types.thumbnail import ImageSpec, PreviewSpec
from worker.ffmpeg import BITEXACT
from worker.pictures import Picture

#: A source may have as many pixels as this; ffmpeg is told too, in case a header lies.
MOST_PIXELS, LONGEST_SIDE = 100_000_000, 32_768
#: Turns what EXIF says of how a camera was held into an upright picture.
_UPRIGHT = {
    2: ("hflip",),
    3: ("hflip", "vflip"),
    4: ("vflip",),
    5: ("transpose=cclock_flip",),
    6: ("transpose=clock",),
    7: ("transpose=clock_flip",),
    8: ("transpose=cclock",),
}
_SCALING = "flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
#: How each format stores its pixels, without and with transparency. Those of video are converted to the matrix that
#: JPEG and WebP imply; a film's may be another.
_PIXELS = {
    "jpeg": (":out_color_matrix=bt601:out_range=pc", "yuvj420p", "yuvj420p"),
    "png": ("", "rgb24", "rgba"),
    "webp": (":out_color_matrix=bt601:out_range=tv", "yuv420p", "bgra"),
}
_MUXER = ("-f", "image2pipe")
ENCODERS = {"jpeg": "mjpeg", "png": "png", "webp": "libwebp"}
CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}


def picture_input(path: Path, picture: Picture) -> list[str]:
    """Open a still picture that a stranger made, as the kind that it is and no other."""
    return [
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", picture.demuxer, *pixel_limit(), "-noautorotate"),
        *("-f", picture.demuxer, "-i", str(path.absolute())),
    ]


def refuse_too_many_pixels(width: int, height: int) -> None:
    """Raise `JobFailure` for more pixels than one job may use, or for none."""
    if not width or not height or width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise JobFailure(
            "bad_input.too_large",
            f"The picture has {width} × {height} pixels; up to {MOST_PIXELS // 1_000_000} million are taken, "
            f"and {LONGEST_SIDE} on a side. Export it smaller.",
        )


def pixel_limit() -> tuple[str, ...]:
    """What makes a decoder refuse a picture before it takes memory for it."""
    return ("-max_pixels", str(MOST_PIXELS))


def upright(picture: Picture) -> list[str]:
    """The filters that turn a still as its maker saw it."""
    return list(_UPRIGHT.get(picture.orientation, ()))


def size_of(spec: ImageSpec, source: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the finished image."""
    width, height = spec.width, spec.height
    if spec.fit != "contain" and width and height:
        return width, height
    share = min(1.0, (width or source[0]) / source[0], (height or source[1]) / source[1])
    return max(1, round(source[0] * share)), max(1, round(source[1] * share))


def cut(spec: ImageSpec, source: tuple[int, int]) -> list[str]:
    """The filter that cuts out what `cover` keeps of an upright picture, so that nothing is computed for nothing."""
    if spec.fit != "cover":
        return []
    width, height = size_of(spec, source)
    share = min(source[0] / width, source[1] / height)
    kept = max(1, round(width * share)), max(1, round(height * share))
    left, top = (
        round((whole - part) * focus)
        for whole, part, focus in zip(source, kept, (spec.focus_x, spec.focus_y), strict=True)
    )
    return [f"crop={kept[0]}:{kept[1]}:{left}:{top}:exact=1"]


def scaled(size: tuple[int, int], kind: str, *, alpha: bool = False) -> list[str]:
    """The filters that make a picture of exactly this size in the colours of its format; nothing else stays."""
    colours, opaque, transparent = _PIXELS[kind]
    return [
        f"scale={size[0]}:{size[1]}:{_SCALING}{'' if alpha else colours}",
        "setsar=1",
        f"format={transparent if alpha else opaque}",
        "sidedata=mode=delete",
    ]


def image_graph(spec: ImageSpec, source: tuple[int, int], before: str, after: str, *, alpha: bool) -> str:
    """The part of a filter graph that makes one image of the upright picture `before`; labels come in brackets."""
    size, cropped = size_of(spec, source), cut(spec, source)
    if not alpha or spec.format != "jpeg":
        return f"{before}{','.join([*cropped, *scaled(size, spec.format, alpha=alpha)])}{after}"
    under, over = f"{after[:-1]}u]", f"{after[:-1]}o]"
    return ";".join(
        [
            f"color=c=0x{spec.background[1:]}:s={size[0]}x{size[1]},format=rgba{under}",
            f"{before}{','.join([*cropped, *scaled(size, 'png', alpha=True)])}{over}",
            f"{under}{over}overlay=format=rgb:shortest=1,{','.join(scaled(size, 'jpeg'))}{after}",
        ]
    )


def encoder(kind: str, quality: int) -> list[str]:
    """How a picture of this format is written, without a word of where it comes from."""
    how = {
        "jpeg": ("-q:v", f"{31 - 29 * quality / 100:.1f}", "-huffman", "optimal"),
        "png": ("-pred", "mixed"),
        "webp": ("-quality", str(quality)),
    }[kind]
    return ["-c:v", ENCODERS[kind], *how, *BITEXACT, "-frames:v", "1", *_MUXER]


def sheet_chain(tile: tuple[int, int], count: int, columns: int, every_ms: int, kind: str) -> str:
    """The filters from a film to one sheet of `count` tiles; each shows the middle of its span."""
    rows = -(-count // columns)
    resized, *rest = scaled(tile, kind)
    return ",".join(
        [
            f"fps=fps=1000/{every_ms}:start_time=0:round=near:eof_action=pass",
            resized,
            # A film may end before its last tile's middle: its last picture stands in.
            f"tpad=stop=-1:stop_mode=clone,trim=end_frame={count}",
            *rest,
            f"tile={min(columns, count)}x{rows}:nb_frames={count}",
        ]
    )


def preview_args(spec: PreviewSpec, stream: str, width: int, height: int) -> list[str]:
    """Filters and encoder of a moving preview."""
    base = f"fps={spec.fps},scale={width}:{height}:{_SCALING},setsar=1,sidedata=mode=delete"
    if spec.format == "gif":
        palette = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=sierra2_4a"
        return ["-filter_complex", f"[{stream}]{base},{palette}", "-an", *BITEXACT, "-loop", "0", "-f", "gif"]
    return [
        *("-filter_complex", f"[{stream}]{base},format=yuv420p", "-an", "-c:v", "libwebp_anim"),
        *("-quality", str(spec.quality), *BITEXACT, "-loop", "0", "-f", "webp"),
    ]
