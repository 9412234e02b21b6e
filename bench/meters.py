"""How loud a file is, by two meters that know nothing of each other: ffmpeg's, and pyloudnorm's in the peers' place.

pyloudnorm reads about 0.04 LU low (research and the EBU's signals agree on that); a verdict here is as it reads.
`python -m bench.meters FFMPEG FILE`, in the peers' environment, prints pyloudnorm's.
"""

from __future__ import annotations

import json
import subprocess  # noqa: TID251 - decodes what the peers made
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.cost import told

_RATE, _CHANNELS = 48_000, 2
#: pyloudnorm holds the sound several times over. What is benchmarked and longer repeats itself (bench/ingest.py).
_LONGEST_S = 1800


@dataclass(frozen=True)
class Loudness:
    """Integrated loudness in LUFS by both, and the true peak in dBTP by ffmpeg."""

    ffmpeg: float
    pyloudnorm: float
    true_peak_dbtp: float

    def error(self, target: float) -> tuple[float, float]:
        """How far from the target by each meter."""
        return abs(self.ffmpeg - target), abs(self.pyloudnorm - target)


def heard(ffmpeg: Path, path: Path) -> Loudness:
    """Ask both meters, at the same time."""
    from tests.media import judges  # noqa: PLC0415 - its libraries are not in the peers' environment

    python = peers.python_for(peers.PYLOUDNORM)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(told, [str(python), "-m", "bench.meters", str(ffmpeg), str(path)])
        lufs, true_peak_dbtp = judges.ffmpeg_reading(ffmpeg, path)
    return Loudness(lufs, other.result()["lufs"], true_peak_dbtp)


def main() -> None:
    """Decode, measure, tell."""
    import numpy as np  # noqa: PLC0415 - loaded where the peers are
    import pyloudnorm  # noqa: PLC0415 - only in the peers' environment

    ffmpeg, path = sys.argv[1:]
    argv = [ffmpeg, "-nostdin", "-v", "error", "-t", str(_LONGEST_S), "-i", path, "-map", "0:a:0"]
    argv += ["-ac", str(_CHANNELS), "-ar", str(_RATE)]
    sound = subprocess.run([*argv, "-f", "f32le", "-"], check=True, stdout=subprocess.PIPE).stdout
    samples = np.frombuffer(sound, "<f4").reshape(-1, _CHANNELS)
    print(json.dumps({"lufs": float(pyloudnorm.Meter(_RATE).integrated_loudness(samples.astype(np.float64)))}))


if __name__ == "__main__":
    main()
