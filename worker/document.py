"""The document of a report: everything that was told of a recording, as `shared/types/report.py` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.presets import Preset
from shared.types.report import (
    ChannelFacts,
    ChapterFacts,
    ClippedSpan,
    ClippingFacts,
    DistributionFacts,
    LevelFacts,
    LoudnessFacts,
    NoiseFacts,
    PresetFacts,
    QualityReport,
    SeriesFacts,
    SilenceFacts,
    SourceFacts,
    StereoFacts,
    TrackFacts,
)
from worker.examine import damaged_pieces, missing_s
from worker.findings import findings, wanted_lufs
from worker.loudness import M_LEAD, S_LEAD, SILENCE_LUFS, Measured, decibels, loudness_range, silences
from worker.meter import Floats
from worker.probe import AudioStream, Media, Track
from worker.quality import MOST_PLACES, Quality, rounded, thinned

SILENT_BELOW_DBFS = -60.0
#: The document stays small, whatever the recording's length.
_MOST_VALUES, _MOST_SPANS, _MOST_OUT_OF_PHASE = 7200, 500, 200
_LOWEST_BIN, _BINS = -60, 61
#: Names of the channels as ffmpeg orders them.
_CHANNELS = {
    "mono": ("mono",),
    "stereo": ("left", "right"),
    "5.1": ("left", "right", "centre", "LFE", "back left", "back right"),
    "5.1(side)": ("left", "right", "centre", "LFE", "side left", "side right"),
}
_BITS = {"pcm_s24": 24, "pcm_s32": 32, "pcm_f32": 32, "pcm_f64": 64, "pcm_s16": 16, "pcm_u8": 8, "pcm_s8": 8}


@dataclass(frozen=True, slots=True)
class Told:
    """A recording's name and hash, what the prober found in it, and what the decode of one track measured."""

    name: str
    sha256: str | None
    media: Media
    audio: AudioStream
    measured: Measured
    quality: Quality


def document(told: Told, preset: Preset, *, title: str | None, engine: str) -> QualityReport:
    """The whole document, with what it means for this preset."""
    measured, quality = told.measured, told.quality
    report = QualityReport(
        title=title or told.name,
        source=_source(told),
        preset=PresetFacts(
            name=preset.name,
            title=preset.title,
            target_lufs=preset.target_lufs,
            ceiling_dbtp=preset.ceiling_dbtp,
            rms_dbfs=preset.rms_dbfs,
            floor_dbfs=preset.floor_dbfs,
        ),
        passed=True,
        findings=[],
        loudness=_loudness(measured, preset),
        levels=_levels(told.audio, measured, quality),
        clipping=_clipping(quality),
        silence=_silence(measured),
        noise=_noise(quality),
        stereo=_stereo(quality) if measured.channels > 1 else None,
        series=_series(measured, quality),
        distribution=_distribution(measured),
        engine=engine,
    )
    found = findings(report, preset)
    return report.model_copy(update={"findings": found, "passed": all(one.weight != "problem" for one in found)})


def _source(told: Told) -> SourceFacts:
    media, measured = told.media, told.measured
    return SourceFacts(
        name=told.name,
        format=media.format_name,
        size_bytes=media.size_bytes,
        sha256=told.sha256,
        bit_rate_bps=media.bit_rate,
        duration_s=round(measured.seconds, 3),
        damaged_frames=damaged_pieces(media, measured),
        missing_s=round(missing_s(media, measured), 3),
        tags=media.tags,
        chapters=[ChapterFacts(start_s=one.start_s, end_s=one.end_s, title=one.title) for one in media.chapters],
        tracks=[_track(media, track, measured=track.index == told.audio.index) for track in media.tracks],
    )


def _track(media: Media, track: Track, *, measured: bool) -> TrackFacts:
    more: dict[str, Any] = {}
    for sound in (one for one in media.audio if one.index == track.index):
        more = {
            "duration_s": sound.duration_s,
            "bit_rate_bps": sound.bit_rate,
            "sample_rate": sound.sample_rate,
            "bit_depth": next((bits for name, bits in _BITS.items() if sound.codec.startswith(name)), None),
            "channels": sound.channels,
            "layout": sound.layout,
        }
    for picture in (one for one in media.video if one.index == track.index):
        more = {
            "duration_s": picture.duration_s,
            "width": picture.width,
            "height": picture.height,
            "fps": picture.fps,
            "pixel_format": picture.pix_fmt,
            "rotation_deg": picture.rotation,
            "cover": picture.attached_picture,
        }
    return TrackFacts(
        index=track.index,
        kind=track.kind,
        codec=track.codec,
        readable=track.decodes,
        language=track.language,
        title=track.title,
        measured=measured,
        **more,
    )


def _loudness(measured: Measured, preset: Preset) -> LoudnessFacts:
    integrated = _known(measured.integrated_lufs)
    target = wanted_lufs(preset, measured.integrated_lufs, measured.channels)
    return LoudnessFacts(
        integrated_lufs=integrated,
        to_target_lu=None if integrated is None else round(integrated - target, 3),
        range_lu=None if integrated is None else round(loudness_range(measured.short_term[S_LEAD:]), 3),
        max_momentary_lufs=_known(float(measured.momentary[M_LEAD:].max(initial=SILENCE_LUFS))),
        max_short_term_lufs=_known(float(measured.short_term[S_LEAD:].max(initial=SILENCE_LUFS))),
    )


def _levels(audio: AudioStream, measured: Measured, quality: Quality) -> LevelFacts:
    names = _CHANNELS.get(audio.layout, tuple(f"channel {n + 1}" for n in range(audio.channels)))
    energies = quality.energies
    return LevelFacts(
        true_peak_dbtp=_known(measured.true_peak_dbtp),
        sample_peak_dbfs=_known(decibels(measured.sample_peak)),
        rms_dbfs=_power(float(energies.mean())),
        channels=[
            ChannelFacts(
                name=name, rms_dbfs=_power(energy), peak_dbfs=_known(decibels(peak)), dc_offset=round(offset, 6)
            )
            for name, energy, peak, offset in zip(
                names, energies.tolist(), quality.peaks.tolist(), quality.offsets.tolist(), strict=True
            )
        ],
    )


def _clipping(quality: Quality) -> ClippingFacts:
    found, rate = quality.clipping, quality.sample_rate
    return ClippingFacts(
        samples=found.samples,
        runs=found.runs,
        longest_run_samples=found.longest,
        places=found.places,
        first_places=[
            ClippedSpan(start_s=round(start / rate, 4), end_s=round(end / rate, 4), samples=samples)
            for start, end, samples in found.first[:MOST_PLACES]
        ],
    )


def _silence(measured: Measured) -> SilenceFacts:
    every = silences(measured.points, measured.sample_rate, below_dbfs=SILENT_BELOW_DBFS, at_least_s=0)
    # The last point is of what was left, and may claim a little more than there is.
    every = [(start, min(end, round(measured.seconds, 3))) for start, end in every]
    long = [(start, end) for start, end in every if end - start >= 1.0]
    return SilenceFacts(
        below_dbfs=SILENT_BELOW_DBFS,
        head_s=next((round(end, 3) for start, end in every[:1] if start == 0), 0.0),
        tail_s=next((round(end - start, 3) for start, end in every[-1:] if end >= measured.seconds - 0.0015), 0.0),
        total_s=round(sum(end - start for start, end in long), 3),
        spans=long[:_MOST_SPANS],
    )


def _noise(quality: Quality) -> NoiseFacts:
    hum = quality.hum()
    return NoiseFacts(
        floor_dbfs=_power(quality.floor()),
        hum_hz=None if hum is None else 50 if hum[0] == 50 else 60,
        hum_dbfs=None if hum is None else _power(hum[1]),
    )


def _stereo(quality: Quality) -> StereoFacts:
    left, right = quality.energies[:2].tolist()
    phase, correlation, places = quality.phase(), quality.correlation(), quality.out_of_phase()
    heard = phase[np.isfinite(phase)]
    change = quality.mono_change()
    return StereoFacts(
        correlation=None if correlation is None else round(correlation, 4),
        lowest_correlation=round(float(heard.min()), 4) if heard.size else None,
        mono_change_db=round(10 * float(np.log10(change)), 2) if change > 1e-9 else None,
        balance_db=round(10 * float(np.log10(right / left)), 2) if left > 1e-10 and right > 1e-10 else None,
        dual_mono=quality.dual_mono(),
        out_of_phase_s=round(sum(end - start for start, end in places), 2),
        out_of_phase=places[:_MOST_OUT_OF_PHASE],
    )


def _series(measured: Measured, quality: Quality) -> SeriesFacts:
    momentary, short_term = measured.momentary.copy(), measured.short_term.copy()
    momentary[:M_LEAD], short_term[:S_LEAD] = np.nan, np.nan
    together, momentary = thinned(momentary, _MOST_VALUES)
    _, short_term = thinned(short_term, _MOST_VALUES)
    phase: Floats | None = None
    if measured.channels > 1:
        _, phase = thinned(quality.phase()[: measured.momentary.size], _MOST_VALUES, highest=False)
    return SeriesFacts(
        step_s=round(together * 0.1, 1),
        momentary_lufs=list(rounded(np.where(momentary > SILENCE_LUFS + 1, momentary, np.nan), 2)),
        short_term_lufs=list(rounded(np.where(short_term > SILENCE_LUFS + 1, short_term, np.nan), 2)),
        correlation=None if phase is None else list(rounded(phase, 3)),
    )


def _distribution(measured: Measured) -> DistributionFacts:
    bins = np.clip(np.floor(measured.momentary[M_LEAD:]) - _LOWEST_BIN, 0, _BINS - 1).astype(np.int64)
    counts = np.bincount(bins, minlength=_BINS)
    return DistributionFacts(from_lufs=_LOWEST_BIN, bin_lu=1, seconds=[round(int(count) / 10, 1) for count in counts])


def _known(value: float) -> float | None:
    """A level, or None for silence."""
    return round(value, 3) if value > SILENCE_LUFS + 1 else None


def _power(energy: float) -> float | None:
    """A mean square in dB; None for silence."""
    return round(10 * float(np.log10(energy)), 3) if energy > 1e-12 else None
