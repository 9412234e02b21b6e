"""Parameters of a turn of an agent's session."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from shared.types.base import JobParams, Params

MAX_TEXT = 8000
MAX_ASSETS = 8


class Attachment(Params):
    """An upload that came with a message, and its file name."""

    asset: str = Field(min_length=1, max_length=64)
    filename: str


class AgentParams(JobParams):
    """What a person said, and the uploads that came with it."""

    model_config = ConfigDict(str_strip_whitespace=False)  # what was said is handed on as it was said

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    assets: tuple[Attachment, ...] = Field(default=(), max_length=MAX_ASSETS)

    @property
    def sources(self) -> dict[str, str]:
        """The uploads."""
        return {f"assets.{index}": one.asset for index, one in enumerate(self.assets)}
