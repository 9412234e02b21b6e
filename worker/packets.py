"""The program that counts the packets of one track of a file a stranger made, without decoding any.

`python -I packets.py FILE STREAM FPS DEMUXER FORMATS MAX_STREAMS PROBE_BYTES ANALYZE_US` runs alone and limited, and
prints one JSON object: whether every packet is one frame of a constant rate, and which of the frames can be begun with.
"""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from typing import Any

import av
import av.logging


def count(path: str, stream: str, fps: str, demuxer: str, *limits: str) -> dict[str, Any]:
    """Frames from the moment at which the file begins, and when the last one ends; `steady`: none is off its time."""
    av.logging.set_level(av.logging.PANIC)
    names = ("format_whitelist", "max_streams", "probesize", "analyzeduration")
    options = {"protocol_whitelist": "file"} | dict(zip(names, limits, strict=True))
    rate, seen, keys, steady, end = Fraction(fps), set[int](), list[int](), True, Fraction(0)
    with av.open(path, format=demuxer or None, container_options=options) as container:
        track = container.streams[int(stream)]
        begin = Fraction(container.start_time or 0, av.time_base)
        for packet in container.demux(track):
            if packet.pts is None:
                continue
            at = (packet.pts * packet.time_base - begin) * rate
            number = round(at)
            end = max(end, at / rate + (packet.duration * packet.time_base if packet.duration else 1 / rate))
            steady = steady and abs(at - number) < Fraction(1, 5) and number not in seen
            seen.add(number)
            if packet.is_keyframe:
                keys.append(number)
    steady = steady and seen == set(range(len(seen)))
    return {"frames": len(seen), "steady": steady, "keys": sorted(keys)[:50_000], "end_s": float(end)}


if __name__ == "__main__":
    json.dump(count(*sys.argv[1:]), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # nothing is left to tidy
