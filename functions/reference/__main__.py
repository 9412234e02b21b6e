"""Writes docs/job-types.md and docs/api.md."""

from __future__ import annotations

from functions.reference.pages import PAGES


def main() -> None:
    """Write each page to its file."""
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
