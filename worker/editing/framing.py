"""Crop, scale and rotate as filters: a picture is upright and has even sides before any of them, and after each."""

from __future__ import annotations

from shared.types import edits
from shared.types.framing import corner_of, size_after
from worker.editing.picture import Picture

_TURNS = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}
_FLIPS = {"horizontal": "hflip", "vertical": "vflip"}


def framed(entry: edits.Framing, picture: Picture) -> Picture:
    """The picture behind an entry that changes nothing else; every frame stays the one it was."""
    size = size_after(entry, picture.size)
    assert size is not None
    width, height = size
    match entry:
        case edits.Crop():
            x, y = corner_of(entry, picture.size)
            filters = f"crop={width}:{height}:{x}:{y}"
        case edits.Scale():
            filters = f"{_scaled(entry.fit, width, height)},setsar=1"
        case edits.Rotate():
            turns = (_TURNS[entry.degrees] if entry.degrees else "", _FLIPS[entry.flip] if entry.flip else "")
            filters = ",".join(filter(None, turns))
    return picture.through(filters, size=size)


def _scaled(fit: str, width: int, height: int) -> str:
    size = f"{width}:{height}"
    if fit == "pad":
        return f"scale={size}:force_original_aspect_ratio=decrease:force_divisible_by=2,pad={size}:-1:-1"
    if fit == "cover":
        return f"scale={size}:force_original_aspect_ratio=increase:force_divisible_by=2,crop={size}"
    return f"scale={size}"
