"""Parameters of `check`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.types.base import JobParams, Source


class CheckParams(JobParams):
    """A file that other jobs are about to read, and what it has to be for them."""

    source: Source
    expects: Literal["sound", "picture"] = Field(default="sound", description="What is wanted of it.")
    shortest_s: float = Field(
        default=0.4, ge=0, le=43_200, description="How long the sound has to be, in seconds; a picture has no length."
    )

    @property
    def sources(self) -> dict[str, str]:
        """The one file."""
        return {"source": self.source}
