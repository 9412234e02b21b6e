"""One process of the comparison of queues: `python -m bench.drive SIDE put|drain PATH SYNCHRONOUS COUNT`.

It opens the queue, says `ready`, waits for a line, works, and prints how many jobs in how many seconds, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.sides import SIDES


def main() -> None:
    """Do one side's work."""
    name, verb, path, synchronous, count = sys.argv[1:]
    side = SIDES[name]
    assert side.open is not None
    queue = side.open(Path(path), synchronous)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    if verb == "put":
        for _ in range(int(count)):
            queue.put()
        done = int(count)
    else:
        done = queue.drain(int(count))
    print(json.dumps({"jobs": done, "began": began, "ended": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
