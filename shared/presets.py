"""Loudness targets by the name a creator knows them by. The numbers are the platforms' published ones."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic.config import JsonDict


@dataclass(frozen=True, slots=True)
class Preset:
    """A delivery target: integrated loudness in LUFS, true-peak ceiling in dBTP.

    Where a platform judges by other numbers, those are here too: plain level (RMS) and noise floor in dBFS.
    """

    name: str
    title: str
    target_lufs: float
    ceiling_dbtp: float
    mono_target_lufs: float | None = None
    rms_dbfs: tuple[float, float] | None = None
    floor_dbfs: float | None = None


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("podcast", "Podcast (Apple Podcasts)", -16.0, -1.0, mono_target_lufs=-19.0),
        Preset("apple-podcasts", "Apple Podcasts", -16.0, -1.0, mono_target_lufs=-19.0),
        Preset("spotify", "Spotify", -14.0, -1.0),
        Preset("youtube", "YouTube", -14.0, -1.0),
        Preset("ebu-r128", "European broadcast (EBU R 128)", -23.0, -1.0),
        Preset("atsc-a85", "American broadcast (ATSC A/85)", -24.0, -2.0),
        Preset("aes-speech", "Streamed speech (AES TD1008)", -18.0, -1.0),
        # ACX asks for a plain level; speech at -20 LUFS lies at -20 to -21 dBFS of it.
        Preset("acx-audiobook", "Audiobook (ACX)", -20.0, -3.0, rms_dbfs=(-23.0, -18.0), floor_dbfs=-60.0),
        Preset("music", "Streamed music", -14.0, -1.0),
    )
}


def one_preset(name: str) -> str:
    """The name, when there is such a preset; for parameter models. Raises `ValueError`."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return name


#: The presets as a choice, for a parameter's JSON Schema.
PRESET_CHOICE: JsonDict = {
    "oneOf": [{"const": one.name, "title": f"{one.title}, {one.target_lufs:g} LUFS"} for one in PRESETS.values()]
}
