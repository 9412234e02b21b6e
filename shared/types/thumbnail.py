"""Parameters of `thumbnail`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.types.base import JobParams, Params, Source

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", description="As #rrggbb.")]
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the output, without its extension.")
]
Side = Annotated[int, Field(ge=1, le=4096)]
MOST_TILES = 200


class ImageSpec(Params):
    """One still picture."""

    format: Literal["jpeg", "png", "webp"] = Field(default="jpeg", description="JPEG has no transparency.")
    name: Name | None = Field(default=None, description="Its name; `image-1` and so on when left out.")
    width: Side | None = Field(default=None, description="In pixels.")
    height: Side | None = Field(default=None, description="In pixels.")
    fit: Literal["contain", "cover", "exact"] = Field(
        default="contain",
        description=(
            "`contain`: the whole picture, within width and height, never enlarged. `cover`: exactly width by height, "
            "what is beyond is cut off. `exact`: exactly width by height, stretched."
        ),
    )
    focus_x: float = Field(default=0.5, ge=0, le=1, description="What `cover` keeps: 0 is the left edge, 1 the right.")
    focus_y: float = Field(default=0.5, ge=0, le=1, description="What `cover` keeps: 0 is the top, 1 the bottom.")
    quality: int = Field(default=82, ge=1, le=100, description="Of JPEG and WebP.")
    background: Colour = Field(default="#ffffff", description="What a JPEG has where the source is transparent.")

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("needs a width, a height, or both")
        if self.fit != "contain" and (self.width is None or self.height is None):
            raise ValueError(f"fit {self.fit!r} needs both width and height")
        return self


class SpriteSpec(Params):
    """Small pictures of a video in one sheet, with a WebVTT file that tells players which is which."""

    tile_width: int = Field(default=160, ge=16, le=640, description="Width of each picture; the height follows.")
    every_s: float | None = Field(
        default=None, ge=0.2, le=3600, description="Seconds between pictures; instead of `tiles`."
    )
    tiles: int = Field(default=100, ge=1, le=MOST_TILES, description="How many at most; a second or more apart.")
    columns: int = Field(default=10, ge=1, le=20, description="Pictures in a row.")
    format: Literal["jpeg", "png", "webp"] = Field(default="jpeg")
    quality: int = Field(default=70, ge=1, le=100, description="Of JPEG and WebP.")


class PreviewSpec(Params):
    """A few seconds of a video that play by themselves, without sound."""

    format: Literal["webp", "gif"] = Field(default="webp")
    width: int = Field(default=320, ge=16, le=960, description="The height follows; never enlarged.")
    start_s: float | None = Field(
        default=None, ge=0, le=86_400, description="Where it begins; a tenth in when left out."
    )
    duration_s: float = Field(default=3, ge=0.2, le=15)
    fps: int = Field(default=10, ge=1, le=25, description="Pictures a second.")
    quality: int = Field(default=60, ge=1, le=100, description="Of WebP.")


class WaveformSpec(Params):
    """The outline of the sound as a PNG."""

    width: int = Field(default=1200, ge=16, le=8192)
    height: int = Field(default=240, ge=16, le=2048)
    colour: Colour = Field(default="#0f766e", description="Of the outline.")
    background: Colour | None = Field(default=None, description="Transparent when left out.")


class SpectrogramSpec(Params):
    """Which frequencies sound when, as a PNG: from nothing at the bottom to half of the sample rate at the top."""

    width: int = Field(default=1200, ge=16, le=4096)
    height: int = Field(default=400, ge=16, le=1024)


class ThumbnailParams(JobParams):
    """A picture, film or recording, and the pictures to make of it.

    Without any of them: a JPEG of 640 pixels of what can be seen, or the waveform of what can only be heard.
    """

    source: Source
    at_s: float | None = Field(
        default=None, ge=0, le=86_400, description="Which moment of a film the images show; a tenth in when left out."
    )
    images: tuple[ImageSpec, ...] = Field(default=(), max_length=12, description="Still pictures, all of one decode.")
    sprite: SpriteSpec | None = None
    preview: PreviewSpec | None = None
    waveform: WaveformSpec | None = None
    spectrogram: SpectrogramSpec | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [file_name(spec, number) for number, spec in enumerate(self.images, 1)]
        if len(set(names)) != len(names):
            raise ValueError("two images share a name; give each its own name")
        ours = {"sprite", "preview", "waveform", "spectrogram"}.intersection(name.partition(".")[0] for name in names)
        if ours:
            raise ValueError(f"{ours.pop()!r} is the name of another output; give the image its own name")
        return self

    @property
    def sources(self) -> dict[str, str]:
        """The one picture, film or recording."""
        return {"source": self.source}


def file_name(spec: ImageSpec, number: int) -> str:
    """The output's name: `cover.webp`, or `image-1.jpg`."""
    return f"{spec.name or f'image-{number}'}.{'jpg' if spec.format == 'jpeg' else spec.format}"
