"""What the one decode of an upload told, kept beside it: later edits of it need not decode it to know what it is.

It lies in the storage under the upload's own key with a suffix, so that whatever deletes the upload deletes it too.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import NotFound
from shared.references import is_reference
from shared.storage.protocol import LEDGER
from shared.types import is_url
from worker.loudness import Measured
from worker.meter import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from worker.probe import AudioStream
    from worker.run import Run

#: Rises when what is kept, or what it means, changes.
_VERSION = 1
#: A ledger keeps a sound as it is mastered: of more channels a decoder makes more than one sound.
_MOST_CHANNELS = 2
_NUMBERS = ("sample_rate", "channels", "samples", "true_peak", "sample_peak", "clipped_samples", "damaged_frames")


def keep(run: Run, source: str, measured: Measured) -> None:
    """Keep what was measured in the first track of a source, when it is an upload and all of it was measured."""
    key, profile = _key(source), measured.profile
    if key is None or profile is None or measured.clipped_samples is None or measured.channels > _MOST_CHANNELS:
        return
    known: dict[str, NDArray[np.generic]] = {
        "about": np.array([_VERSION, *(getattr(measured, name) for name in _NUMBERS), profile.block], np.float64),
        "engine": np.frombuffer(run.engine.version.encode(), np.uint8),
        "momentary": measured.momentary.astype(np.float32),
        "short_term": measured.short_term.astype(np.float32),
        "points": measured.points,
        # Half a float tells a peak to 0.02 dB where it matters.
        "peaks": profile.peaks.astype(np.float16),
        "energy": (10 * np.log10(np.maximum(profile.energy, 1e-20))).astype(np.float16),
    }
    path = run.work / f"new-{source}{LEDGER}"
    # What numpy writes as .npz, but packed in half the time: the job waits for it, and it is 2 % larger.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, values in known.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)
    run.storage.put(path, key, content_type="application/zip", progress=lambda *_: run.stop.check())


def recall(run: Run, source: str, audio: AudioStream) -> Measured | None:
    """What is known of the first track of a source; None where nothing is, or it is of another time."""
    key = _key(source)
    if key is None or audio.channels > _MOST_CHANNELS:
        return None
    path = run.work / f"known-{source}{LEDGER}"
    try:
        run.storage.fetch(key, path, lambda *_: run.stop.check())
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            found = _measured(run, kept)
    except (NotFound, ValueError, KeyError, OSError, zipfile.BadZipFile):
        return None
    same = found is not None and (found.sample_rate, found.channels) == (audio.sample_rate, audio.channels)
    return found if same else None


def forget(run: Run, source: str) -> None:
    """It was not true: the next attempt decodes the source."""
    key = _key(source)
    if key is not None:
        run.storage.delete_prefix(key)


def _key(source: str) -> str | None:
    return None if is_url(source) or is_reference(source) else f"uploads/{source}{LEDGER}"


def _measured(run: Run, kept: Mapping[str, NDArray[np.generic]]) -> Measured | None:
    """None for what another version, or another ffmpeg, whose decoder may count otherwise, has written."""
    version, *numbers, block = (float(value) for value in kept["about"].astype(np.float64))
    if version != _VERSION or kept["engine"].tobytes().decode() != run.engine.version:
        return None
    told = dict(zip(_NUMBERS, numbers, strict=True))
    return Measured(
        sample_rate=round(told["sample_rate"]),
        channels=round(told["channels"]),
        samples=round(told["samples"]),
        momentary=kept["momentary"].astype(np.float64),
        short_term=kept["short_term"].astype(np.float64),
        points=kept["points"].astype(np.int16),
        true_peak=told["true_peak"],
        sample_peak=told["sample_peak"],
        clipped_samples=round(told["clipped_samples"]),
        damaged_frames=round(told["damaged_frames"]),
        profile=Profile(
            round(block),
            kept["peaks"].astype(np.float32),
            (10 ** (kept["energy"].astype(np.float64) / 10)).astype(np.float32),
        ),
    )
