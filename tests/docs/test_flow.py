"""The pages tell what the code does."""

import re
from pathlib import Path

from shared.job import MOVES, TERMINAL

ROOT = Path(__file__).parents[2]


def test_the_diagram_shows_exactly_the_moves():
    """docs/flow.md draws MOVES: no arrow more, none less."""
    arrows = set(re.findall(r"^\s+(\S+) --> (\w+|\[\*\])", (ROOT / "docs/flow.md").read_text(), re.MULTILINE))
    moves = {("[*]" if old is None else old.value, new.value) for old, moves in MOVES.items() for new in moves}
    assert arrows == moves | {(status.value, "[*]") for status in TERMINAL}


def test_every_file_a_page_names_exists():
    """A reader who follows a path in the pages finds a file."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(r"`((?:cli|functions|worker|shared|infra|tests|bench|docs)/[\w./-]*)`", page.read_text())
    }
    assert named
    assert [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()] == []
