"""The entries of an edit list: what each takes, in the order in which a creator would look for them.

Every entry works on what the entries before it left: after `trim` to 10 s, position 0 is where the trim began.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.types.base import Params

#: No recording is longer.
LONGEST_S = 12 * 3600
MOST_RANGES = 500
#: What a file is called in an edit list.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Position = Annotated[float, Field(ge=0, le=LONGEST_S)]
#: Sides and places of a video's picture are even: its colours have half of its width and height.
SHORTEST_PX, LONGEST_PX = 16, 4096
Side = Annotated[int, Field(ge=SHORTEST_PX, le=LONGEST_PX, multiple_of=2)]
Extent = Annotated[int, Field(ge=SHORTEST_PX, le=16_384, multiple_of=2)]
Place = Annotated[int, Field(ge=0, le=16_384, multiple_of=2)]


class Entry(Params):
    """One step of an edit list."""

    on: Name | None = Field(
        default=None,
        description="The file it works on, by its name; left out with one file, and for everything behind `join`.",
    )


class Range(Params):
    """A stretch of time, from its first moment up to, and without, its last."""

    from_s: Position = Field(description="Where it begins, in seconds.")
    to_s: Position = Field(description="Where it ends, in seconds.")

    @field_validator("to_s")
    @classmethod
    def _runs_forward(cls, to_s: float, info: ValidationInfo) -> float:
        return _after(info.data.get("from_s"), to_s)


class Ranges(Entry):
    """An entry about several stretches of time."""

    ranges: tuple[Range, ...] = Field(
        min_length=1, max_length=MOST_RANGES, description="Stretches of time, one after the other, without overlaps."
    )

    @field_validator("ranges")
    @classmethod
    def _follow_each_other(cls, ranges: tuple[Range, ...]) -> tuple[Range, ...]:
        for number, (before, after) in enumerate(pairwise(ranges), start=1):
            if after.from_s < before.to_s:
                raise ValueError(
                    f"number {number} begins at {after.from_s:g} s, before number {number - 1} ends "
                    f"({before.to_s:g} s); put them in order, and join those that overlap"
                )
        return ranges


class Trim(Entry):
    """Keep what lies between two positions."""

    op: Literal["trim"]
    from_s: Position = Field(default=0.0, description="Where to begin, in seconds.")
    to_s: Position | None = Field(default=None, description="Where to end, in seconds; the end when left out.")

    @field_validator("to_s")
    @classmethod
    def _runs_forward(cls, to_s: float | None, info: ValidationInfo) -> float | None:
        return None if to_s is None else _after(info.data.get("from_s"), to_s)


class Cut(Ranges):
    """Take stretches of time out; what is around them meets in a short crossfade."""

    op: Literal["cut"]


class Keep(Ranges):
    """Keep only these stretches of time, one after the other."""

    op: Literal["keep"]


class Join(Entry):
    """Put the files one after the other; entries behind it work on the whole."""

    op: Literal["join"]
    order: tuple[Name, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="The files by their names; one may come more than once. All of them in their order when left out.",
    )
    crossfade_s: float = Field(
        default=0.0, ge=0, le=30, description="How long each file blends into the next, which makes the whole shorter."
    )


class Fade(Entry):
    """Fade in from silence, out into silence, or both; a video's picture comes from black and goes to black."""

    op: Literal["fade"]
    in_s: float = Field(default=0.0, ge=0, le=60, description="Length of the fade at the beginning.")
    out_s: float = Field(default=0.0, ge=0, le=60, description="Length of the fade at the end.")
    curve: Literal["linear", "smooth"] = Field(default="linear", description="How the level moves.")

    @model_validator(mode="after")
    def _fades(self) -> Self:
        if not self.in_s and not self.out_s:
            raise ValueError("a fade needs in_s, out_s or both")
        return self


class Gain(Entry):
    """Make it louder or softer, all of it or a stretch."""

    op: Literal["gain"]
    db: float = Field(ge=-60, le=40, description="By how many dB.")
    from_s: Position = Field(default=0.0, description="Where to begin, in seconds.")
    to_s: Position | None = Field(default=None, description="Where to end, in seconds; the end when left out.")

    @field_validator("to_s")
    @classmethod
    def _runs_forward(cls, to_s: float | None, info: ValidationInfo) -> float | None:
        return None if to_s is None else _after(info.data.get("from_s"), to_s)


class RemoveSilence(Entry):
    """Shorten every pause; the result lists what was cut."""

    op: Literal["remove_silence"]
    below_dbfs: float = Field(default=-50.0, ge=-85, le=-10, description="No sample of a pause is louder than this.")
    at_least_s: float = Field(default=0.7, ge=0.1, le=60, description="Shorter pauses stay as they are.")
    leave_s: float = Field(default=0.3, ge=0, le=30, description="How much of each pause is left.")

    @field_validator("leave_s")
    @classmethod
    def _leaves_less(cls, leave_s: float, info: ValidationInfo) -> float:
        at_least_s = info.data.get("at_least_s")
        if at_least_s is not None and leave_s > at_least_s:
            raise ValueError(f"may be at most at_least_s, which is {at_least_s:g}")
        return leave_s


class Denoise(Entry):
    """Take steady noise away: hiss, hum, a fan."""

    op: Literal["denoise"]
    reduction_db: float = Field(default=12.0, ge=1, le=40, description="By how much noise is made softer.")
    floor_dbfs: float = Field(default=-50.0, ge=-80, le=-20, description="How loud the noise is about.")


class Highpass(Entry):
    """Take rumble and pops away."""

    op: Literal["highpass"]
    hertz: float = Field(default=80.0, ge=20, le=1000, description="What is lower gets softer, by 12 dB per octave.")


class Deess(Entry):
    """Make sharp s sounds softer."""

    op: Literal["deess"]
    amount: float = Field(default=0.5, ge=0.05, le=1, description="From hardly to strongly.")


class Compress(Entry):
    """Bring loud and soft speech closer together."""

    op: Literal["compress"]
    amount: Literal["light", "medium", "strong"] = Field(default="medium", description="How much.")


class Speed(Entry):
    """Play faster or slower; the pitch stays."""

    op: Literal["speed"]
    factor: float = Field(ge=0.25, le=4, description="2 is twice as fast.")


class Pad(Entry):
    """Put silence around it; a video shows black."""

    op: Literal["pad"]
    before_s: float = Field(default=0.0, ge=0, le=600, description="Silence before it.")
    after_s: float = Field(default=0.0, ge=0, le=600, description="Silence behind it.")

    @model_validator(mode="after")
    def _pads(self) -> Self:
        if not self.before_s and not self.after_s:
            raise ValueError("a pad needs before_s, after_s or both")
        return self


class Channels(Entry):
    """Choose among the channels."""

    op: Literal["channels"]
    to: Literal["mono", "stereo", "left", "right", "swap"] = Field(
        description="Fold to one, double to two, take only one side, or exchange the sides."
    )


class Crop(Entry):
    """Keep a rectangle of the picture."""

    op: Literal["crop"]
    width: Extent | None = Field(default=None, description="Of the rectangle, in pixels.")
    height: Extent | None = Field(default=None, description="Of the rectangle, in pixels.")
    aspect: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$",
        description="Instead of width and height: the largest rectangle of this shape, such as 9:16.",
    )
    x: Place | None = Field(default=None, description="Its left edge, in pixels; in the middle when left out.")
    y: Place | None = Field(default=None, description="Its upper edge, in pixels; in the middle when left out.")

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        sides = (self.width is not None) + (self.height is not None)
        if sides != (2 if self.aspect is None else 0):
            raise ValueError("a crop needs width and height, or an aspect instead of both")
        return self


class Scale(Entry):
    """Give the picture another size."""

    op: Literal["scale"]
    width: Side | None = Field(default=None, description="In pixels; follows from the height when left out.")
    height: Side | None = Field(default=None, description="In pixels; follows from the width when left out.")
    fit: Literal["contain", "pad", "cover", "exact"] = Field(
        default="contain",
        description=(
            "`contain`: the whole picture, within width and height. The others make exactly width by height: `pad` "
            "with black where the shape differs, `cover` without what is beyond, `exact` stretched."
        ),
    )

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("needs a width, a height, or both")
        if self.fit != "contain" and (self.width is None or self.height is None):
            raise ValueError(f"fit {self.fit!r} needs both width and height")
        return self


class Rotate(Entry):
    """Turn the picture, mirror it, or both: it is mirrored as it is seen then."""

    op: Literal["rotate"]
    degrees: Literal[90, 180, 270] | None = Field(default=None, description="Clockwise.")
    flip: Literal["horizontal", "vertical"] | None = Field(
        default=None, description="`horizontal` exchanges left and right, `vertical` upper and lower."
    )

    @model_validator(mode="after")
    def _turns(self) -> Self:
        if self.degrees is None and self.flip is None:
            raise ValueError("needs degrees, flip or both")
        return self


#: The entries that change nothing but the picture.
Framing = Crop | Scale | Rotate
Edit = Annotated[
    Trim
    | Cut
    | Keep
    | Join
    | Fade
    | Gain
    | RemoveSilence
    | Denoise
    | Highpass
    | Deess
    | Compress
    | Speed
    | Pad
    | Channels
    | Crop
    | Scale
    | Rotate,
    Field(discriminator="op"),
]


def _after(from_s: float | None, to_s: float) -> float:
    if from_s is not None and to_s <= from_s:
        raise ValueError(f"must be later than from_s, which is {from_s:g}")
    return to_s
