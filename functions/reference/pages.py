"""The generated pages, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from functions.reference import api, job_types

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[Path, Callable[[], str]] = {DOCS / "job-types.md": job_types.page, DOCS / "api.md": api.page}
