"""How loud each part is by itself, and the gain it gets, before a sample is mixed: from what decoding measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.errors import JobFailure
from shared.types.render import Bed, Levelled, Track
from worker.examine import MOST_GAIN_DB
from worker.loudness import M_LEAD, Measured, gated
from worker.meter import Floats
from worker.mixing.takes import Take
from worker.mixing.timeline import Part

#: One channel on two loudspeakers is twice the power.
_TWICE_DB = 10 * float(np.log10(2))


def loudness(part: Part, take: Take, channels: int) -> float:
    """How loud a part is in a mix of so many channels without any gain, in LUFS; -inf for silence."""
    return gated(_windows(part, take.measured)) + _doubled(take, channels)


def is_silent(take: Take) -> bool:
    """Whether there is nothing in a source."""
    return take.measured.sample_peak < 10 ** (-80 / 20)


def gains_db(parts: Sequence[Part], takes: Mapping[str, Take], channels: int) -> dict[str, float]:
    """The gain of every part, by its path. Raises `JobFailure` for one that cannot be brought to its loudness."""
    gains = {part.at: _own(part, takes[part.clip.source], channels) for part in parts}
    voices = [part for part in parts if isinstance(part.clip, Track) and part.clip.role == "speech"]
    for part in parts:
        if isinstance(part.clip, Bed) and part.clip.below_speech_lu is not None:
            spoken = _of_all([(one, takes[one.clip.source], gains[one.at]) for one in voices], channels)
            own = loudness(part, takes[part.clip.source], channels)
            if np.isfinite(spoken) and np.isfinite(own):
                gains[part.at] += spoken - part.clip.below_speech_lu - own
    return gains


def _own(part: Part, take: Take, channels: int) -> float:
    clip = part.clip
    if not isinstance(clip, Levelled) or clip.loudness_lufs is None:
        return clip.gain_db
    gain = clip.loudness_lufs - loudness(part, take, channels)
    if is_silent(take):  # and stays so
        return clip.gain_db
    if gain > MOST_GAIN_DB:
        raise JobFailure(
            "bad_input.too_quiet",
            f"{part.at} is too quiet for its loudness_lufs: it would have to be raised by more than {MOST_GAIN_DB:g} "
            "dB, which would raise its noise above its sound; record it again with a higher level, or choose a lower "
            "loudness_lufs.",
        )
    return gain + clip.gain_db


def _windows(part: Part, measured: Measured) -> Floats:
    """Momentary loudness of the part of a source that is used: the windows that lie within, or the nearest one."""
    hop = measured.sample_rate // 10
    first, last = -(-part.begin // hop) + M_LEAD, (part.begin + part.span) // hop
    within = measured.momentary[first:last]
    return within if within.size else measured.momentary[M_LEAD:][-1:]


def _of_all(voices: Sequence[tuple[Part, Take, float]], channels: int) -> float:
    """Loudness of all voices together, each at its place and with its gain; -inf where nobody speaks."""
    if not voices:
        return float("-inf")
    hop = voices[0][1].measured.sample_rate // 10
    power = np.zeros(max(part.end for part, _, _ in voices) // hop + M_LEAD + 2)
    for part, take, gain_db in voices:
        windows = _windows(part, take.measured)
        place = round(part.place / hop)
        power[place : place + windows.size] += 10 ** ((windows + gain_db + _doubled(take, channels)) / 10)
    return gated(10 * np.log10(np.maximum(power, 1e-12)))


def _doubled(take: Take, channels: int) -> float:
    return _TWICE_DB if take.channels < channels else 0.0
