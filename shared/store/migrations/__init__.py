"""Numbered SQL files, applied in order and forward only."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - only for its SQL tokenizer, which knows where a trigger ends
from importlib import resources


def migrations() -> dict[str, list[str]]:
    """Every migration by name, in order, as single statements."""
    files = sorted(
        (file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return {file.name.removesuffix(".sql"): _statements(file.read_text(encoding="utf-8")) for file in files}


def _statements(script: str) -> list[str]:
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    if current.strip():
        raise ValueError(f"a migration ends in the middle of a statement: {current.strip()[:80]}")
    return statements
