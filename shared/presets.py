"""Loudness targets by the name a creator knows them by. The numbers are the platforms' published ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """A delivery target: integrated loudness in LUFS, true-peak ceiling in dBTP."""

    name: str
    title: str
    target_lufs: float
    ceiling_dbtp: float
    mono_target_lufs: float | None = None


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
        Preset("music", "Streamed music", -14.0, -1.0),
    )
}
