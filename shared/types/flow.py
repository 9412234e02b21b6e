"""Parameters of `flow`."""

from __future__ import annotations

from shared.types.base import JobParams


class FlowParams(JobParams):
    """A parent without work of its own takes no parameters."""
