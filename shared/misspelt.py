"""Variables that look like settings and are none."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from shared.settings import KNOWN, given_names

_log = structlog.get_logger("spool.settings")


def misspelt() -> Iterator[str]:
    """One sentence for each, with the setting that it is most like. Their values are told to nobody."""
    for name in sorted(given_names()):
        if name not in KNOWN:
            from difflib import get_close_matches  # noqa: PLC0415 - only who has mistyped waits for it

            meant = get_close_matches(name, KNOWN, n=1, cutoff=0.8)
            yield f"{name} is no setting; " + (
                f"did you mean {meant[0]}?" if meant else "docs/deploy.md lists them all."
            )


def warn_of_misspelt() -> None:
    """Say so in the log, for a process that works without what somebody meant to set."""
    for sentence in misspelt():
        _log.warning("a setting is not known", reason=sentence)
