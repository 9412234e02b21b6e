"""The waveform as a player draws it: audiowaveform's JSON, version 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from worker.meter import Points

#: A player never draws more points than this; longer recordings get fewer per second.
_MOST_POINTS = 200_000


def write_peaks(path: Path, points: Points, sample_rate: int) -> Path:
    """Write (min, max) pairs of 10 ms, all channels together, as 8-bit pairs; returns `path`.

    Format: https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md
    """
    merged = -(-len(points) // _MOST_POINTS) or 1
    starts = np.arange(0, len(points), merged)
    low = np.minimum.reduceat(points[:, 0], starts) if starts.size else points[:, 0]
    high = np.maximum.reduceat(points[:, 1], starts) if starts.size else points[:, 1]
    data = (np.stack((low, high), axis=1) >> 8).ravel().tolist()
    waveform = {
        "version": 2,
        "channels": 1,
        "sample_rate": sample_rate,
        "samples_per_pixel": max(1, sample_rate // 100) * merged,
        "bits": 8,
        "length": len(starts),
        "data": data,
    }
    path.write_text(json.dumps(waveform, separators=(",", ":")), encoding="ascii")
    return path
