"""What an encoder will take away of a recording's loudness, heard in excerpts of that very recording.

ffmpeg's AAC encoder makes sound softer by 0.01 to 0.5 dB, as the sound is. No table can know that, and a file that
missed its loudness for it is made a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.ffmpeg import input_args
from worker.loudness import M_LEAD, Measured, Rendering, measure
from worker.meter import Floats, Mix

if TYPE_CHECKING:
    from worker.deliverable import Source
    from worker.encoders import Encoding
    from worker.run import Run

#: Half a minute in all tells the loss of ten minutes to 0.02 dB.
COUNT, LENGTH_S = 6, 5.0
#: Of a minute the excerpts cost most of the second encode that they save (1.5 of 2 CPU seconds).
WORTH_FROM_S = 60.0
#: No encoder does more: what differs by this was not the same sound.
_MOST_DB = 1.0


def starts(of: Measured) -> list[float]:
    """Where the excerpts begin, in seconds: spread over what is loud, since only that counts in the loudness."""
    loud = np.flatnonzero(of.momentary > of.integrated_lufs - 10.0)
    middles = loud[((np.arange(COUNT) + 0.5) * loud.size / COUNT).astype(int)] / 10
    return [float(start) for start in np.clip(middles - LENGTH_S / 2, 0.0, of.seconds - LENGTH_S)]


def loss_db(run: Run, source: Source, made: Encoding, mix: Mix, before: Measured, *, gain_db: float) -> float | None:
    """By how many dB the encoder will make the source's sound softer; None when the excerpts do not tell.

    They are encoded as the file will be, at its level, in one piece. Raises `JobFailure` where ffmpeg failed.
    """
    begins = starts(before)
    inputs = [arg for start in begins for arg in input_args(source.path, start_s=start, duration_s=LENGTH_S)]
    track, filters = source.stream.partition(":")[2], mix.filters or "anull"
    parts = "".join(f"[{number}:{track}]{filters},asetpts=N/SR/TB[e{number}];" for number in range(len(begins)))
    names = "".join(f"[e{number}]" for number in range(len(begins)))
    graph = f"{parts}{names}concat=n={len(begins)}:v=0:a=1,volume={gain_db:.4f}dB:precision=float[edited]"
    coded = run.work / "excerpts"
    keep = ("-map", "[kept]", *made.codec_args(), *made.muxer_args(), str(coded))
    plain = Mix(made.channels, made.sample_rate)
    given = measure(run, inputs, plain, folder=run.work, name="excerpts", rendering=Rendering(graph, keep)).momentary
    taken = measure(run, ["-i", str(coded)], plain, folder=run.work, name="coded").momentary
    coded.unlink()
    windows = min(given.size, taken.size)
    if windows <= M_LEAD:
        return None
    loss = _energy_db(given[M_LEAD:windows]) - _energy_db(taken[M_LEAD:windows])
    return loss if abs(loss) < _MOST_DB else None


def _energy_db(momentary: Floats) -> float:
    return float(10 * np.log10(np.mean(10 ** (momentary / 10))))
