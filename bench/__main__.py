"""`python -m bench [QUESTION …]`: answers them (all when none is named), prints a table each, and keeps the numbers."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

from bench import dashboard, ingest, latency, media, queue, remote
from bench.answer import Answer

QUESTIONS = {
    "queue": queue.answer,
    "remote": remote.answer,
    "latency": latency.answer,
    "dashboard": dashboard.answer,
    "ingest": ingest.answer,
    "media": media.answer,
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Answer, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"one or more of: {', '.join(QUESTIONS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs; the best run counts")
    options = parser.parse_args()
    unknown = set(options.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"there is no question {', '.join(sorted(unknown))}; choose from {', '.join(QUESTIONS)}")
    for name in options.questions or QUESTIONS:
        load = os.getloadavg()[0]
        answer = QUESTIONS[name](options.rounds)
        print(answer.text())
        if load > 0.5:
            print(f"The machine was busy before the start (load {load:.1f}): these times mean little.")
        print(f"Kept in {_keep(name, answer, load)}\n")


def _keep(name: str, answer: Answer, load: float) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}.json"
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.platform(), "load": load}
    path.write_text(json.dumps(machine | answer.as_json(), indent=2))
    return path


if __name__ == "__main__":
    main()
