"""What a recording's numbers mean for its maker: each finding is one sentence with what to do."""

from __future__ import annotations

from collections.abc import Iterator

from shared.presets import Preset
from shared.types.report import Finding, QualityReport
from worker.examine import cut_short

#: Platforms play what is this near to their target as it is.
TOLERANCE_LU = 1.0
_USUAL_RATES = (32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)


def findings(report: QualityReport, preset: Preset) -> list[Finding]:
    """All of them, problems first."""
    found = [
        *_level(report, preset),
        *_damage(report),
        *_stereo(report),
        *_noise(report),
        *_silence(report),
        *_file(report),
    ]
    return sorted(found, key=lambda one: one.weight != "problem")


def wanted_lufs(preset: Preset, integrated: float, channels: int) -> float:
    """The target that counts: mono may also have the one that mono is given on its own."""
    mono = preset.mono_target_lufs
    return mono if channels == 1 and mono is not None and abs(integrated - mono) <= TOLERANCE_LU else preset.target_lufs


def clock(seconds: float) -> str:
    """A place in the recording: 3:07, or 1:02:45."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _problem(code: str, message: str, at_s: float | None = None) -> Finding:
    return Finding(code=code, weight="problem", message=message, at_s=at_s)


def _advice(code: str, message: str, at_s: float | None = None) -> Finding:
    return Finding(code=code, weight="advice", message=message, at_s=at_s)


def _level(report: QualityReport, preset: Preset) -> Iterator[Finding]:
    loudness, levels = report.loudness, report.levels
    if loudness.integrated_lufs is None or levels.sample_peak_dbfs is None:
        yield _problem(
            "silent", "There is nothing to hear: check that the right track or microphone was recorded, and export it."
        )
        return
    peak, off = levels.true_peak_dbtp or 0.0, loudness.to_target_lu or 0.0
    if preset.rms_dbfs is not None:
        yield from _plain_level(preset, levels.rms_dbfs)
    elif abs(off) > TOLERANCE_LU:
        word, do = ("too_loud", "Lower") if off > 0 else ("too_quiet", "Raise")
        after = peak - off
        limit = f", with a limiter: its peaks would reach {after:+.1f} dBTP" if after > preset.ceiling_dbtp else ""
        yield _problem(
            word,
            f"It is {abs(off):.1f} LU {word.replace('_', ' ')} for {preset.title}: {loudness.integrated_lufs:.1f} LUFS "
            f"instead of {loudness.integrated_lufs - off:g}. {do} it by {abs(off):.1f} dB{limit}.",
        )
    if peak > preset.ceiling_dbtp + 0.05:
        # What is to be raised cannot be lowered as well.
        lower = "" if off < -TOLERANCE_LU else f"lower it by {peak - preset.ceiling_dbtp:.1f} dB or "
        yield _problem(
            "peak_over_ceiling",
            f"Its true peak is {peak:+.1f} dBTP and may be {preset.ceiling_dbtp:g} at most: {lower}limit it, "
            "or players and encoders will distort it.",
        )
    if loudness.range_lu is not None and loudness.range_lu > 20:
        yield _advice(
            "wide_range",
            f"Soft and loud passages lie {loudness.range_lu:.0f} LU apart, and on the road the soft ones will not be "
            "heard: compress it, or raise them by hand.",
        )


def _plain_level(preset: Preset, rms: float | None) -> Iterator[Finding]:
    assert preset.rms_dbfs is not None
    low, high = preset.rms_dbfs
    if rms is not None and not low <= rms <= high:
        do = f"raise it by {low - rms:.1f} dB or more" if rms < low else f"lower it by {rms - high:.1f} dB or more"
        yield _problem("rms", f"Its level is {rms:.1f} dB RMS and {preset.title} wants {low:g} to {high:g}: {do}.")


def _damage(report: QualityReport) -> Iterator[Finding]:
    clipping = report.clipping
    if clipping.runs:
        first = clipping.first_places[0].start_s
        places = "one place" if clipping.places == 1 else f"{clipping.places} places"
        yield _problem(
            "clipped",
            f"It is cut off at full scale in {places}, first at {clock(first)}: record with a lower level, or repair "
            "those places with a declipper; making it softer does not mend them.",
            first,
        )
    if report.source.damaged_frames:
        count = report.source.damaged_frames
        yield _problem(
            "damaged",
            f"{count} damaged piece{'s' if count > 1 else ''} of the file could not be decoded: export it again.",
        )
    if report.source.missing_s:
        there_s = report.source.duration_s
        yield _problem("cut_short", cut_short(there_s, report.source.missing_s), there_s)
    worst = max((abs(channel.dc_offset) for channel in report.levels.channels), default=0.0)
    if worst >= 0.005:
        yield (_problem if worst >= 0.02 else _advice)(
            "dc_offset",
            f"The sound lies {100 * worst:.1f} % off the middle (DC offset), which takes headroom and clicks at cuts: "
            "apply a high-pass filter at 20 Hz.",
        )


def _stereo(report: QualityReport) -> Iterator[Finding]:
    stereo = report.stereo
    if stereo is None or report.levels.rms_dbfs is None:
        return
    silent = [channel.name for channel in report.levels.channels[:2] if (channel.rms_dbfs or -200.0) < -80]
    if len(silent) == 1:
        yield _problem(
            "one_sided", f"The {silent[0]} channel is silent: export it as mono, or check that side's microphone."
        )
        return
    change = stereo.mono_change_db
    if (stereo.correlation or 0.0) < -0.3 or (change is not None and change < -6):
        # What folds to nothing has no number of decibels.
        lost = "nothing would be left of" if change is None else f"{-change:.0f} dB are taken from"
        yield _problem(
            "out_of_phase",
            f"Left and right work against each other, and on one speaker {lost} the sound: invert the polarity of one "
            "side.",
        )
    elif stereo.out_of_phase_s >= 3:
        first = stereo.out_of_phase[0][0]
        yield _advice(
            "phase_places",
            f"For {stereo.out_of_phase_s:.0f} s, first at {clock(first)}, left and right work against each other: "
            "listen to it in mono, and narrow or invert what disappears there.",
            first,
        )
    if stereo.balance_db is not None and abs(stereo.balance_db) >= 3:
        side = "right" if stereo.balance_db > 0 else "left"
        yield _advice(
            "unbalanced", f"The {side} side is {abs(stereo.balance_db):.1f} dB louder: centre it, unless that is meant."
        )
    if stereo.dual_mono:
        yield _advice(
            "dual_mono", "Both channels carry the same: exported as mono it sounds the same in half the size."
        )


def _noise(report: QualityReport) -> Iterator[Finding]:
    noise, floor_wanted = report.noise, report.preset.floor_dbfs
    if floor_wanted is not None and noise.floor_dbfs is not None and noise.floor_dbfs > floor_wanted:
        yield _problem(
            "noise_floor",
            f"Its quietest half second has {noise.floor_dbfs:.1f} dB RMS and {report.preset.title} wants "
            f"{floor_wanted:g} or less: reduce the noise, or record in a quieter room.",
        )
    if noise.hum_dbfs is not None and noise.hum_dbfs > -75:
        yield (_problem if noise.hum_dbfs > -50 else _advice)(
            "hum",
            f"Mains hum of {noise.hum_hz} Hz runs through it at {noise.hum_dbfs:.0f} dBFS: look for a ground loop or a "
            "power supply near the microphone, and filter the recording with notches there.",
        )


def _silence(report: QualityReport) -> Iterator[Finding]:
    silence = report.silence
    if report.levels.sample_peak_dbfs is None:
        return
    if silence.head_s > 2:
        yield _advice("silent_head", f"It begins with {silence.head_s:.1f} s of silence: leave half a second.", 0.0)
    if silence.tail_s > 5:
        at = report.source.duration_s - silence.tail_s
        yield _advice("silent_tail", f"It ends with {silence.tail_s:.1f} s of silence: leave one or two.", round(at, 2))
    end = report.source.duration_s - 0.05
    gaps = [(a, b) for a, b in silence.spans if b - a >= 8 and a > 0.05 and b < end]
    if gaps:
        start, stop = gaps[0]
        yield _advice(
            "gap",
            f"At {clock(start)} there are {stop - start:.0f} s without any sound: cut them, or look what is missing "
            "there.",
            start,
        )


def _file(report: QualityReport) -> Iterator[Finding]:
    track = next(one for one in report.source.tracks if one.measured)
    rate = track.sample_rate or 0
    if rate < 32_000:
        yield _advice(
            "low_sample_rate",
            f"Its sample rate of {rate / 1000:g} kHz carries no highs: record with 48 kHz where you can.",
        )
    elif rate not in _USUAL_RATES:
        yield _advice(
            "odd_sample_rate",
            f"Its sample rate of {rate} Hz is unusual: export it with 48 kHz, which plays everywhere.",
        )
    if track.bit_depth is not None and track.bit_depth < 16:
        yield _advice(
            "low_bit_depth", f"Its samples have {track.bit_depth} bits, which is heard as noise: record with 24 bits."
        )
