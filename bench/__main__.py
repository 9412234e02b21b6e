"""`python -m bench [QUESTION …]`: answers them (all when none is named), prints a table each, and keeps them.

`bench/results/` gets one file of numbers per run, and per question the newest table as text. `--long` takes the sizes
that need more than a coffee; `--smoke` the smallest, without the peers, to see that everything still works: its times
mean nothing, and what is counted must be right.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from bench import api, dashboard, function, idle, ingest, latency, media, page, queue, remote
from bench.answer import Answer

QUESTIONS: dict[str, Callable[[int], Answer]] = {
    "queue": queue.answer,
    "remote": remote.answer,
    "latency": latency.answer,
    "api": api.answer,
    "function": function.answer,
    "idle": idle.answer,
    "dashboard": dashboard.answer,
    "ingest": ingest.answer,
    "media": media.answer,
}
#: Those that have a longer form.
LONG: dict[str, Callable[[int], Answer]] = {
    "queue": queue.long_answer,
    "ingest": ingest.long_answer,
    "media": media.long_answer,
}
#: Those whose harness is tried in less than a minute, by counts alone.
SMOKE: dict[str, Callable[[int], Answer]] = {
    "queue": queue.smoke,
    "remote": remote.smoke,
    "api": api.smoke,
    "idle": idle.smoke,
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Answer, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"one or more of: {', '.join(QUESTIONS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs; the best run counts")
    parser.add_argument("--long", action="store_true", help="a million rows: hours, not minutes")
    parser.add_argument("--smoke", action="store_true", help="the smallest sizes; keeps nothing")
    options = parser.parse_args()
    chosen = SMOKE if options.smoke else QUESTIONS | LONG if options.long else QUESTIONS
    unknown = set(options.questions) - set(chosen)
    if unknown:
        parser.error(f"there is no question {', '.join(sorted(unknown))}; choose from {', '.join(chosen)}")
    asked = options.questions or (list(LONG) if options.long else list(chosen))
    began = time.monotonic()
    wrong = []
    for name in asked:
        load, started = os.getloadavg()[0], time.monotonic()
        answer = chosen[name](1 if options.smoke else options.rounds)
        print(answer.text())
        if load > 0.5:
            print(f"The machine was busy before the start (load {load:.1f}): these times mean little.")
        wrong += [goal.what for goal in answer.goals if goal.counted and not goal.met]
        took_s = time.monotonic() - started
        kept = "" if options.smoke else f"Kept in {_keep(name, answer, load)}. "
        print(f"{kept}It took {took_s:.0f} s.\n", flush=True)
    print(f"All of it took {(time.monotonic() - began) / 60:.1f} minutes.")
    if options.smoke:
        if wrong:
            raise SystemExit(f"What was counted is wrong: {'; '.join(wrong)}.")
    else:
        print("\nFor the README and docs/scaling.md (`make bench-tables` puts it there):\n")
        print(page.table())


def _keep(name: str, answer: Answer, load: float) -> Path:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.txt").write_text(answer.text() + "\n")
    path = RESULTS / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}.json"
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.platform(), "load": load}
    path.write_text(json.dumps(machine | answer.as_json(), indent=2))
    return path


if __name__ == "__main__":
    main()
