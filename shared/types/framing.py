"""What crop, scale and rotate do to the size of a picture, and where they ask for more than there is."""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import FieldError
from shared.types.edits import LONGEST_PX, SHORTEST_PX, Crop, Framing, Scale

Size = tuple[int, int]


def size_after(entry: Framing, size: Size | None) -> Size | None:
    """The size that an entry leaves; None where that cannot be told without the size before it."""
    if isinstance(entry, Crop):
        if entry.width is not None and entry.height is not None:
            return entry.width, entry.height
        return None if size is None else _of_shape(entry.aspect or "1:1", size)
    if isinstance(entry, Scale):
        if entry.fit != "contain" and entry.width is not None and entry.height is not None:
            return entry.width, entry.height
        return None if size is None else _within(entry, size)
    if size is None or entry.degrees in (None, 180):
        return size
    return size[1], size[0]


def outside(entry: Framing, at: str, size: Size) -> Iterator[FieldError]:
    """The fields of an entry at path `at` that do not fit a picture of this size."""
    made = size_after(entry, size)
    assert made is not None
    there = f"and the picture at this point has {size[0]} x {size[1]} pixels"
    if isinstance(entry, Crop):
        corner = (entry.x or 0, entry.y or 0)
        for side, place, length, begin, whole in zip(("width", "height"), "xy", made, corner, size, strict=True):
            if length > whole:
                yield FieldError(f"{at}.{side}", f"is {length}, {there}")
            elif begin + length > whole:
                yield FieldError(f"{at}.{place}", f"is {begin}, {there}: use {_even(whole - length)} at most")
    most = LONGEST_PX if isinstance(entry, Scale) else max(size)
    for side, length in zip(("width", "height"), made, strict=True):
        if not SHORTEST_PX <= length <= most and made != size:
            yield FieldError(at, f"would make the {side} {length}, {there}: it may be {SHORTEST_PX} to {most}")


def corner_of(entry: Crop, size: Size) -> Size:
    """Where the rectangle of a crop begins."""
    width, height = size_after(entry, size) or size
    x = _even((size[0] - width) // 2) if entry.x is None else entry.x
    y = _even((size[1] - height) // 2) if entry.y is None else entry.y
    return x, y


def _of_shape(aspect: str, size: Size) -> Size:
    across, down = map(int, aspect.split(":"))
    width, height = size
    if width * down > height * across:
        return _even(height * across // down), height
    return width, _even(width * down // across)


def _within(entry: Scale, size: Size) -> Size:
    width, height = size
    factor = min(wanted / side for wanted, side in ((entry.width, width), (entry.height, height)) if wanted is not None)
    return 2 * round(width * factor / 2), 2 * round(height * factor / 2)


def _even(length: int) -> int:
    return length // 2 * 2
