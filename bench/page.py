"""The newest figures as a table, between two marks in the README and in docs/scaling.md: `python -m bench.page`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
#: What is told first. docs/scaling.md takes all, the README the first figure of five.
ORDER = ("queue", "remote", "latency", "ingest", "media", "function", "api", "idle", "dashboard")
FIVE = ("queue", "remote", "latency", "ingest", "dashboard")
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
PAGES = {"README.md": True, "docs/scaling.md": False}


def main() -> None:
    """Write the table into the pages."""
    for name, short in PAGES.items():
        path = ROOT / name
        path.write_text(filled(path.read_text(), table(short=short)))


def table(*, short: bool = False, folder: Path = RESULTS) -> str:
    """The newest answer to each question: every figure, or the first of each of the five."""
    names = [name for name in ORDER if name in FIVE] if short else ORDER
    newest = {name: json.loads(max(kept).read_text()) for name in names if (kept := [*folder.glob(f"{name}-*.json")])}
    if not newest:
        return "No figures yet: `make bench` measures them."
    lines = ["| what | Spool | beside |", "|---|---|---|"]
    for answer in newest.values():
        figures = answer["figures"] or [_of_goal(answer["title"], goal) for goal in answer["goals"]]
        lines += _lines(figures[:1] if short else figures)
    machines = {f"{answer['cores']} cores, {answer['machine']}" for answer in newest.values()}
    return "\n".join([*lines, "", f"Measured on {'; '.join(sorted(machines))}."])


def _lines(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"| {figure['what']} | {figure['measured']} | {figure['beside']} |" for figure in figures]


def _of_goal(title: str, goal: Mapping[str, Any]) -> dict[str, str]:
    unit = goal["unit"]
    return {
        "what": f"{title}: {goal['what']}",
        "measured": f"{goal['measured']:.2f}{unit}",
        "beside": f"{goal['most']:g}{unit} at most",
    }


def filled(text: str, table: str) -> str:
    """A page with the table between its marks."""
    begin, end = MARKS
    if not re.search(f"{begin}.*{end}", text, re.DOTALL):
        raise SystemExit(f"The page has no {begin} and {end} for the figures.")
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
