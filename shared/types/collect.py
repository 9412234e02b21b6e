"""Parameters of `collect`."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from shared.types.base import JobParams
from shared.types.ingest import Mastering

SourceKind = Literal["auto", "feed", "playlist", "page"]


class CollectParams(JobParams):
    """A list of recordings somewhere else, and what to make of each that is new."""

    source: str = Field(
        min_length=1,
        max_length=2048,
        description="The URL of an RSS or Atom feed, an M3U playlist or a web page; or the asset id of one.",
    )
    kind: SourceKind = Field(default="auto", description="What the source is; found out from it when left out.")
    max_items: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Recordings taken at one visit, the newest first; the others come with the next visits. Of a feed "
        "that is visited for the first time the older ones are passed over for good.",
    )
    published_after: AwareDatetime | None = Field(
        default=None, description="Pass over what a feed dates before this moment; ISO 8601 with a zone."
    )
    depth: int = Field(
        default=0, ge=0, le=2, description="How many links deep pages of the same site are searched as well."
    )
    max_pages: int = Field(default=10, ge=1, le=50, description="Linked pages that are followed from one page.")
    again: bool = Field(default=False, description="Take what was taken before, too.")
    ingest: Mastering = Field(
        default={}, validate_default=True, description="What to make of each recording: parameters of ingest."
    )

    @property
    def sources(self) -> dict[str, str]:
        """The list itself."""
        return {"source": self.source}
